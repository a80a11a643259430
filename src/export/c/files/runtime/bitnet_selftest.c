/*
 * bitnet_selftest.c - is the model what it was, do the kernels compute what
 * the plain loops compute, is the golden trace what comes out; the guard below
 * the stack (docs/semantics.md section 7, docs/fallback.md).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

/* ---- the guard below the stack ------------------------------------------------------- */

static uint32_t guard_word(uint32_t i) { return 0x5AA5C33Cu ^ (i << 24 | i); }

void bitnet_guard_place(uint32_t *lowest)
{
    volatile uint32_t *at = lowest;
    uint32_t i;
    for (i = 0u; i < BITNET_GUARD_WORDS && lowest != (uint32_t *)0; i++) {
        at[i] = guard_word(i);
    }
}

bitnet_status bitnet_set_guard(bitnet_ctx *ctx, const uint32_t *lowest)
{
    if (ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    ctx->guard = lowest;
    return BITNET_OK;
}

bitnet_status bitnet_check_guard(const bitnet_ctx *ctx)
{
    const volatile uint32_t *at;
    uint32_t i;
    if (ctx == (const bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY && ctx->state != BITNET_STEPPING) {
        return BITNET_E_STATE;
    }
    at = ctx->guard;
    for (i = 0u; i < BITNET_GUARD_WORDS && ctx->guard != (const uint32_t *)0; i++) {
        if (at[i] != guard_word(i)) {
            return BITNET_E_STACK;
        }
    }
    return BITNET_OK;
}

/* ---- kernels against plain loops ------------------------------------------------------- */

static uint32_t result_checksum(const bitnet_ctx *c, const bitnet_register *r)
{
    const bn_i32 *y = bn_vec(c, r);
    uint32_t crc = bn_crc_word(bn_crc_word(BN_CRC_START, r->scale.m), (uint32_t)r->scale.e);
    uint32_t i;
    for (i = 0u; i < r->length; i++) {
        crc = bn_crc_word(crc, (uint32_t)y[i]);
    }
    return crc;
}

/* codes from lo to hi that look random; below -Qmax there are none, whatever lo is (docs/semantics.md, QUANTIZE) */
static void fill_codes(const bitnet_ctx *c, const bitnet_register *r, uint32_t n)
{
    int32_t lo = r->lo < -r->qmax ? -r->qmax : r->lo;
    uint32_t range = (uint32_t)(r->hi - lo) + 1u;
    uint32_t x = 0x9E3779B9u;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        int32_t v;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        v = lo + (int32_t)bn_hi(bn_mulu(x, range));
        if (r->kind == (uint32_t)BN_REG_I8) {
            ((int8_t *)bn_at(c, r->offset))[i] = (int8_t)v;
        } else {
            ((bn_i16 *)bn_at(c, r->offset))[i] = (int16_t)v;
        }
    }
}

static uint32_t run_linear(bitnet_ctx *c, const uint32_t *op, uint32_t scalar)
{
    bn_tensor w;
    bn_tensor_get(c, op[OP_T0], &w);
    fill_codes(c, &c->reg[op[OP_A]], w.cols);
    (void)bitnet_set_scalar(c, scalar);
    bn_linear_op(c, op);
    return result_checksum(c, &c->reg[op[OP_DST]]);
}

/* every matrix of the program once with its kernel and once without; 1: all equal */
static uint32_t kernels_agree(bitnet_ctx *c)
{
    uint32_t equal = 1u;
    uint32_t i;
    (void)bitnet_reset(c);
    for (i = 0u; i < c->n_ops; i++) {
        const uint32_t *op = bn_op(c, i);
        uint32_t code = op[OP_CODE] & 0xFFu;
        if (code == (uint32_t)BN_QUANTIZE) {
            bitnet_register *r = &c->reg[op[OP_DST]];
            r->qmax = (int32_t)op[OP_P0];
            r->lo = (int32_t)op[OP_P0 + 1];
            r->hi = (int32_t)op[OP_P0 + 2];
            r->scale.m = 0x40000000u;
            r->scale.e = -30;
        } else if (code == (uint32_t)BN_LINEAR && run_linear(c, op, 0u) != run_linear(c, op, 1u)) {
            equal = 0u;
            break;
        }
    }
    return equal;
}

/* ---- the golden trace -------------------------------------------------------------------- */

/* the first tokens of a golden prompt, at most `most`; 0: all equal */
static uint32_t test_prompt(bitnet_ctx *c, uint32_t prompt, uint32_t most, int32_t *results)
{
    const uint32_t *ids = (const uint32_t *)0;
    uint32_t p = 0u;
    uint32_t total = 0u;
    uint32_t t;
    (void)bitnet_golden(c, prompt, &ids, &p, &total);
#if BITNET_OP_EMBEDDING
    if (c->embeds != 0u) {
        t = bn_run_text(c, ids, total, ids + total, results);
        if (c->mismatch != 0u) {
            c->failed_prompt = prompt;
            c->failed_token = t;
        }
        return c->mismatch;
    }
#endif
    (void)bitnet_reset(c);
    for (t = 0u; t < total && t < most; t++) {
        uint32_t head = (uint32_t)(t + 1u >= p);
        c->expected = ids + total + t * (c->layers + 2u);
        bn_run_token(c, ids[t], head != 0u ? results : (int32_t *)0);
        if (c->mismatch == 0u && head != 0u && t + 1u < total && argmax(results, c->vocab) != ids[t + 1u]) {
            c->mismatch = 1u;
            c->failed_layer = c->layers + 2u;
        }
        if (c->mismatch != 0u) {
            c->failed_prompt = prompt;
            c->failed_token = t;
            return 1u;
        }
    }
    return 0u;
}

static bitnet_status prompts_equal(bitnet_ctx *c, uint32_t prompts, uint32_t most, int32_t *results)
{
    uint32_t i;
    for (i = 0u; i < prompts; i++) {
        if (test_prompt(c, i, most, results) != 0u) {
            return BITNET_E_SELFTEST;
        }
    }
    return BITNET_OK;
}

/* ---- entry points -------------------------------------------------------------------------- */

static bitnet_status selftest(bitnet_ctx *ctx, int32_t *results, uint32_t quick)
{
    uint32_t prompts;
    uint32_t scalar;
    uint32_t parts;
    bitnet_status st;
    if (ctx == (bitnet_ctx *)0 || results == (int32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY || ctx->golden == (const uint32_t *)0) {
        return BITNET_E_STATE;
    }
    if (ctx->as_exported == 0u) {
        return BITNET_E_CONFIG;
    }
    parts = ctx->lora_parts; /* the trace is that of the model alone */
    ctx->lora_parts = 0u;
    scalar = ctx->scalar;
    prompts = quick != 0u && ctx->golden[1] > 1u ? 1u : ctx->golden[1];
    st = bn_check_image(ctx);
    if (st == BITNET_OK) {
        if (quick == 0u && scalar == 0u) {
            scalar = kernels_agree(ctx) ^ 1u;
        }
        (void)bitnet_set_scalar(ctx, scalar);
        st = prompts_equal(ctx, prompts, quick != 0u ? 1u : BN_NONE, results);
        if (st == BITNET_E_SELFTEST && scalar == 0u) { /* right without the kernels? */
            (void)bitnet_set_scalar(ctx, 1u);
            st = prompts_equal(ctx, prompts, quick != 0u ? 1u : BN_NONE, results);
        }
    }
    ctx->lora_parts = parts;
    (void)bitnet_reset(ctx);
    if (st == BITNET_OK) {
        st = bitnet_check_guard(ctx);
    }
    ctx->failed = (uint32_t)(st != BITNET_OK);
    return st;
}

bitnet_status bitnet_selftest(bitnet_ctx *ctx, int32_t *results) { return selftest(ctx, results, 0u); }

bitnet_status bitnet_selftest_quick(bitnet_ctx *ctx, int32_t *results) { return selftest(ctx, results, 1u); }

bitnet_run_mode bitnet_mode(const bitnet_ctx *ctx)
{
    if (ctx == (const bitnet_ctx *)0 || (ctx->state != BITNET_READY && ctx->state != BITNET_STEPPING) ||
        ctx->failed != 0u) {
        return BITNET_MODE_FAILED;
    }
    return ctx->scalar != 0u ? BITNET_MODE_SCALAR : BITNET_MODE_FULL;
}

bitnet_status bitnet_set_scalar(bitnet_ctx *ctx, uint32_t on)
{
    if (ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (on > 1u) {
        return BITNET_E_CONFIG;
    }
    ctx->scalar = on;
    ctx->planes_register = BN_NONE; /* what the kernels prepared may be older than the codes */
    ctx->lut_register = BN_NONE;
    return BITNET_OK;
}

bitnet_status bitnet_failure(const bitnet_ctx *ctx, uint32_t *prompt, uint32_t *token, uint32_t *layer)
{
    if (ctx == (const bitnet_ctx *)0 || prompt == (uint32_t *)0 || token == (uint32_t *)0 || layer == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    *prompt = ctx->failed_prompt;
    *token = ctx->failed_token;
    *layer = ctx->failed_layer;
    return BITNET_OK;
}
