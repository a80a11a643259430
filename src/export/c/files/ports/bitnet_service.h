/* bitnet_service.h - the command `answer` of bitnet_main.c. */
#ifndef BITNET_SERVICE_H
#define BITNET_SERVICE_H

#include "bitnet_fallback.h"

/* 0, or 10 + the status of the last text */
int bitnet_service_command(bitnet_ctx *ctx, const char *args);

#endif
