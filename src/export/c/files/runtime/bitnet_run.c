/*
 * bitnet_run.c - runs the program for tokens, the self-test, the choice of a
 * token (docs/semantics.md sections 5 to 7).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

/* ---- checksums ------------------------------------------------------------------ */

static uint32_t op_checksum(const bitnet_ctx *c, const uint32_t *op, const int32_t *logits)
{
    uint32_t code = op[OP_CODE] & 0xFFu;
    const bitnet_register *r;
    uint32_t crc = BN_CRC_START;
    uint32_t i;
    if (code == (uint32_t)BN_KVWRITE) {
        return bn_kv_checksum(c, op[OP_CODE] >> 8);
    }
    if (code == (uint32_t)BN_LOGITS) {
        crc = bn_crc_word(bn_crc_word(crc, 0x40000000u), (uint32_t)-30);
        for (i = 0u; i < c->vocab; i++) {
            crc = bn_crc_word(crc, (uint32_t)logits[i]);
        }
        return bn_crc_end(crc);
    }
    r = &c->reg[op[OP_DST]];
    crc = bn_crc_word(bn_crc_word(crc, r->scale.m), (uint32_t)r->scale.e);
    for (i = 0u; i < r->length; i++) {
        int32_t v;
        if (r->kind == (uint32_t)BN_REG_I32) {
            v = bn_vec(c, r)[i];
        } else if (r->kind == (uint32_t)BN_REG_I8) {
            v = ((const int8_t *)bn_at(c, r->offset))[i];
        } else {
            v = ((const bn_i16 *)bn_at(c, r->offset))[i];
        }
        crc = bn_crc_word(crc, (uint32_t)v);
    }
    return bn_crc_end(crc);
}

/* golden trace: the chain of one part of the token is complete */
static void end_chain(bitnet_ctx *c)
{
    if (c->mismatch == 0u && bn_crc_end(c->chain) != c->expected[c->chain_slot]) {
        c->mismatch = 1u;
        c->failed_layer = c->chain_slot;
    }
}

static void check_result(bitnet_ctx *c, uint32_t index, const int32_t *logits)
{
    const uint32_t *op = bn_op(c, index);
    uint32_t layer = op[OP_CODE] >> 8;
    uint32_t crc = op_checksum(c, op, logits);
#if defined(BITNET_TRACE)
    if (c->trace != (bitnet_trace_fn)0) {
        c->trace(c->trace_user, c->position, index, layer, crc);
    }
#endif
    if (c->expected != (const uint32_t *)0) {
        uint32_t slot = index >= c->head_op ? c->layers + 1u : (layer == BN_NO_LAYER ? 0u : layer + 1u);
        if (slot != c->chain_slot) {
            end_chain(c);
            c->chain_slot = slot;
            c->chain = BN_CRC_START;
        }
        c->chain = bn_crc_word(c->chain, crc);
    }
}

/* ---- one token --------------------------------------------------------------------- */

static void run_op(bitnet_ctx *c, const uint32_t *op, uint32_t id, int32_t *logits)
{
    uint32_t layer = op[OP_CODE] >> 8;
    switch (op[OP_CODE] & 0xFFu) {
    case BN_EMBED: bn_embed(c, op, id); break;
    case BN_RMSNORM: bn_rmsnorm(c, op); break;
    case BN_QUANTIZE: bn_quantize(c, op); break;
    case BN_LINEAR: {
        bn_tensor w;
        bn_tensor_get(c, op[OP_T0], &w);
        bn_linear(c, &c->reg[op[OP_A]], op[OP_A], &c->reg[op[OP_DST]], &w, op[OP_P0]);
        break;
    }
    case BN_ADD: bn_add(c, op); break;
    case BN_KVWRITE: bn_kvwrite(c, op, layer); break;
    case BN_ATTEND: bn_attend(c, op, layer); break;
    case BN_RELU2MUL: bn_relu2mul(c, op); break;
    case BN_SILUMUL: bn_silumul(c, op); break;
    default: bn_logits(c, op, logits); break;
    }
}

static void run_token(bitnet_ctx *c, uint32_t id, int32_t *logits)
{
    uint32_t end = logits != (int32_t *)0 ? c->n_ops : c->head_op;
    uint32_t checked = (uint32_t)(c->expected != (const uint32_t *)0);
    uint32_t i;
#if defined(BITNET_TRACE)
    checked |= (uint32_t)(c->trace != (bitnet_trace_fn)0);
#endif
    c->chain = BN_CRC_START;
    c->chain_slot = 0u;
    for (i = 0u; i < end; i++) {
        run_op(c, bn_op(c, i), id, logits);
        if (checked != 0u) {
            check_result(c, i, logits);
        }
    }
    if (c->expected != (const uint32_t *)0) {
        end_chain(c);
    }
    c->position += 1u; /* wraps */
    c->slot += 1u;
    if (c->position < c->window) {
        c->slot = c->position;
    } else if (c->slot >= c->window) {
        c->slot = c->sinks;
    }
}

bitnet_status bitnet_run(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *logits)
{
    uint32_t i;
    if (ctx == (bitnet_ctx *)0 || ids == (const uint32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (n == 0u) {
        return BITNET_E_TOKEN;
    }
    for (i = 0u; i < n; i++) {
        if (ids[i] >= ctx->vocab) {
            return BITNET_E_TOKEN;
        }
    }
    if (ctx->streaming == 0u && (ctx->position >= ctx->window || n > ctx->window - ctx->position)) {
        return BITNET_E_CONTEXT;
    }
    for (i = 0u; i < n; i++) {
        run_token(ctx, ids[i], i + 1u == n ? logits : (int32_t *)0);
    }
    return BITNET_OK;
}

bitnet_status bitnet_set_trace(bitnet_ctx *ctx, bitnet_trace_fn trace, void *user)
{
    if (ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
#if defined(BITNET_TRACE)
    ctx->trace = trace;
    ctx->trace_user = user;
    return BITNET_OK;
#else
    (void)user;
    return trace == (bitnet_trace_fn)0 ? BITNET_OK : BITNET_E_CONFIG;
#endif
}

/* ---- self-test ------------------------------------------------------------------------ */

/* one golden prompt; 0: all equal */
static uint32_t test_prompt(bitnet_ctx *c, uint32_t prompt, int32_t *logits)
{
    const uint32_t *ids = (const uint32_t *)0;
    uint32_t p = 0u;
    uint32_t total = 0u;
    uint32_t t;
    (void)bitnet_golden(c, prompt, &ids, &p, &total);
    (void)bitnet_reset(c);
    for (t = 0u; t < total; t++) {
        uint32_t head = (uint32_t)(t + 1u >= p);
        c->expected = ids + total + t * (c->layers + 2u);
        run_token(c, ids[t], head != 0u ? logits : (int32_t *)0);
        if (c->mismatch == 0u && head != 0u && t + 1u < total && argmax(logits, c->vocab) != ids[t + 1u]) {
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

bitnet_status bitnet_selftest(bitnet_ctx *ctx, int32_t *logits)
{
    uint32_t i;
    uint32_t failed = 0u;
    if (ctx == (bitnet_ctx *)0 || logits == (int32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY || ctx->golden == (const uint32_t *)0) {
        return BITNET_E_STATE;
    }
    if (ctx->as_exported == 0u) {
        return BITNET_E_CONFIG;
    }
    for (i = 0u; i < ctx->golden[1] && failed == 0u; i++) {
        failed = test_prompt(ctx, i, logits);
    }
    (void)bitnet_reset(ctx);
    return failed != 0u ? BITNET_E_SELFTEST : BITNET_OK;
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

/* ---- choosing a token ------------------------------------------------------------------ */

uint32_t argmax(const int32_t *logits, uint32_t n)
{
    uint32_t best = 0u;
    uint32_t i;
    if (logits == (const int32_t *)0) {
        return 0u;
    }
    for (i = 1u; i < n; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}

bitnet_status bitnet_temperature(uint32_t numerator, uint32_t denominator, bitnet_scale *inverse_temperature)
{
    bitnet_scale log2e;
    bitnet_scale r;
    if (inverse_temperature == (bitnet_scale *)0) {
        return BITNET_E_NULL;
    }
    if (numerator == 0u || denominator == 0u) {
        return BITNET_E_CONFIG;
    }
    log2e.m = 1549082005u;
    log2e.e = -30 - 16;
    r = bn_mul_scale(bn_norm(denominator, 0), bn_inv(bn_norm(numerator, 0)));
    *inverse_temperature = bn_mul_scale(log2e, r);
    return BITNET_OK;
}

bitnet_status bitnet_sample(const bitnet_ctx *ctx, const int32_t *logits, uint32_t n, const bitnet_sampling *how,
                            uint32_t *state, uint32_t *id)
{
    int32_t best[BITNET_MAX_TOP_K];
    uint32_t ids[BITNET_MAX_TOP_K];
    uint32_t count = 0u;
    uint32_t i;
    uint32_t k;
    uint32_t x;
    uint64_t sum = 0u;
    uint64_t y;
    int32_t top;
    bn_factor f;
    if (ctx == (const bitnet_ctx *)0 || logits == (const int32_t *)0 || how == (const bitnet_sampling *)0 ||
        state == (uint32_t *)0 || id == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (n == 0u || how->top_k < 1u || how->top_k > BITNET_MAX_TOP_K || how->inverse_temperature.m < 0x40000000u ||
        how->inverse_temperature.m > 0x7FFFFFFFu || how->inverse_temperature.e < -1048576 ||
        how->inverse_temperature.e > 1048576) {
        return BITNET_E_CONFIG;
    }
    for (i = 0u; i < n; i++) { /* logit descending, id ascending */
        if (count < how->top_k || logits[i] > best[count - 1u]) {
            if (count < how->top_k) {
                count += 1u;
            }
            for (k = count - 1u; k > 0u && logits[i] > best[k - 1u]; k--) {
                best[k] = best[k - 1u];
                ids[k] = ids[k - 1u];
            }
            best[k] = logits[i];
            ids[k] = i;
        }
    }
    f = bn_factor_of(how->inverse_temperature, 20);
    top = bn_times(best[0], f);
    for (k = 0u; k < count; k++) {
        uint32_t e = bn_exp2n(ctx->exp2_table, (uint32_t)top - (uint32_t)bn_times(best[k], f));
        best[k] = (int32_t)e;
        sum += e;
    }
    x = *state == 0u ? 1u : *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    y = bn_mulu(x, bn_hi(sum)) + (bn_mulu(x, bn_lo(sum)) >> 32); /* x * sum / 2^32, up to 68 bits before */
    sum = 0u;
    for (k = 0u; k < count; k++) {
        sum += (uint32_t)best[k];
        if (sum > y) {
            break;
        }
    }
    *id = ids[k < count ? k : count - 1u];
    return BITNET_OK;
}
