/* stream.h - example, see stream.c. */
#ifndef STREAM_H
#define STREAM_H

#include "bitnet.h"

/* 0 ends the text */
typedef int (*stream_fn)(void *user, uint32_t id);

bitnet_status stream_text(bitnet_ctx *ctx, const uint32_t *prompt, uint32_t n, uint32_t most, int32_t *logits,
                          stream_fn on_token, void *user);

#endif
