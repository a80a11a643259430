/*
 * stream.c - example: a text continued token by token, each handed to a
 * callback as soon as it is there.  Not part of the firmware; copy what you
 * need.  Greedy; the line with bitnet_sample draws instead.
 */
#include "stream.h"

bitnet_status stream_text(bitnet_ctx *ctx, const uint32_t *prompt, uint32_t n, uint32_t most, int32_t *logits,
                          stream_fn on_token, void *user)
{
    bitnet_status st = BITNET_OK;
    uint32_t next;
    uint32_t i;
    if (n == 0u) {
        return BITNET_E_TOKEN;
    }
    if (n > 1u) {
        st = bitnet_feed(ctx, prompt, n - 1u);
    }
    next = prompt[n - 1u];
    for (i = 0u; i < most && st == BITNET_OK; i++) {
        st = bitnet_step(ctx, logits, &next);
        /* or: st = bitnet_sample(ctx, logits, bitnet_vocab(ctx), &how, &seed, &next); */
        if (st != BITNET_OK || bitnet_is_eos(ctx, next) != 0u || on_token(user, next) == 0) {
            break;
        }
    }
    return st;
}
