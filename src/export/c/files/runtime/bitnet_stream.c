/*
 * bitnet_stream.c - a token at a time, and a token in slices.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

bitnet_status bitnet_feed(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n)
{
    return bitnet_run(ctx, ids, n, (int32_t *)0);
}

bitnet_status bitnet_step(bitnet_ctx *ctx, int32_t *logits, uint32_t *next)
{
    bitnet_status st;
    if (logits == (int32_t *)0) {
        return BITNET_E_NULL;
    }
    st = bitnet_run(ctx, next, 1u, logits);
    if (st == BITNET_OK) {
        *next = argmax(logits, ctx->vocab);
    }
    return st;
}

bitnet_status bitnet_step_begin(bitnet_ctx *ctx, uint32_t id)
{
    bitnet_status st;
    if (ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (ctx->embeds != 0u) {
        return BITNET_E_RESULT;
    }
    st = bn_check_ids(ctx, &id, 1u, ctx->position);
    if (st == BITNET_OK) {
        ctx->step_id = id;
        ctx->step_op = 0u;
        ctx->state = BITNET_STEPPING;
    }
    return st;
}

bitnet_status bitnet_step_layers(bitnet_ctx *ctx, uint32_t max_layers, int32_t *logits, uint32_t *done)
{
    uint32_t first;
    uint32_t end;
    uint32_t last;
    if (ctx == (bitnet_ctx *)0 || done == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_STEPPING) {
        return BITNET_E_STATE;
    }
    if (max_layers == 0u) {
        return BITNET_E_CONFIG;
    }
    first = ctx->step_op;
    end = first;
    last = logits != (int32_t *)0 ? ctx->n_ops : ctx->head_op;
    while (end < last) { /* a slice ends before the operation that starts one layer too many, or the head */
        uint32_t starts = (uint32_t)(end == ctx->head_op); /* a layer after the first, or the head */
        if (end > 0u && end < ctx->head_op) {
            uint32_t before = bn_op(ctx, end - 1u)[OP_CODE] >> 8;
            starts = (uint32_t)(before != BN_NO_LAYER && bn_op(ctx, end)[OP_CODE] >> 8 != before);
        }
        if (starts != 0u && end > first) {
            max_layers -= 1u;
            if (max_layers == 0u) {
                break;
            }
        }
        end += 1u;
    }
    bn_run_ops(ctx, first, end, ctx->step_id, logits);
    ctx->step_op = end;
    *done = (uint32_t)(end >= last);
    if (*done != 0u) {
        bn_next_position(ctx);
        ctx->state = BITNET_READY;
    }
    return BITNET_OK;
}
