/*
 * bitnet_run.c - runs the program for tokens or for a text (docs/semantics.md
 * sections 5 and 7).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

/* ---- checksums ------------------------------------------------------------------ */

static uint32_t op_checksum(const bitnet_ctx *c, const uint32_t *op, const int32_t *results)
{
    uint32_t code = op[OP_CODE] & 0xFFu;
    const bitnet_register *r;
    uint32_t crc = BN_CRC_START;
    uint32_t i;
    if (code == (uint32_t)BN_KVWRITE) {
        return bn_kv_checksum(c, op[OP_CODE] >> 8);
    }
    if (code == (uint32_t)BN_LOGITS || code == (uint32_t)BN_EMBEDDING) {
        uint32_t n = c->embeds != 0u ? c->d_model : c->vocab;
        crc = bn_crc_word(bn_crc_word(crc, 0x40000000u), (uint32_t)-30);
        for (i = 0u; i < n; i++) {
            crc = bn_crc_word(crc, (uint32_t)results[i]);
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

static void check_result(bitnet_ctx *c, uint32_t index, const int32_t *results)
{
    const uint32_t *op = bn_op(c, index);
    uint32_t layer = op[OP_CODE] >> 8;
    uint32_t crc = op_checksum(c, op, results);
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

void bn_linear_op(bitnet_ctx *c, const uint32_t *op)
{
    bitnet_register *dst = &c->reg[op[OP_DST]];
    bn_tensor w;
    bn_tensor_get(c, op[OP_T0], &w);
    bn_linear(c, &c->reg[op[OP_A]], op[OP_A], dst, &w, op[OP_P0]);
#if defined(BITNET_BREAK_KERNEL) /* a wrong kernel, to test the self-test */
    if (c->scalar == 0u) {
        bn_vec(c, dst)[0] ^= 1;
    }
#endif
}

static void run_op(bitnet_ctx *c, const uint32_t *op, uint32_t id, int32_t *results)
{
    uint32_t layer = op[OP_CODE] >> 8;
    (void)results; /* used if LOGITS or EMBEDDING is compiled */
    switch (op[OP_CODE] & 0xFFu) {
    case BN_EMBED: bn_embed(c, op, id); break;
#if BITNET_OP_RMSNORM
    case BN_RMSNORM: bn_rmsnorm(c, op); break;
#endif
    case BN_QUANTIZE: bn_quantize(c, op); break;
    case BN_LINEAR: bn_linear_op(c, op); break;
    case BN_ADD: bn_add(c, op); break;
    case BN_KVWRITE: bn_kvwrite(c, op, layer); break;
    case BN_ATTEND: bn_attend(c, op, layer); break;
#if BITNET_OP_RELU2MUL
    case BN_RELU2MUL: bn_relu2mul(c, op); break;
#endif
#if BITNET_OP_SILUMUL
    case BN_SILUMUL: bn_silumul(c, op); break;
#endif
#if BITNET_OP_LOGITS
    case BN_LOGITS: bn_logits(c, op, results); break;
#endif
#if BITNET_OP_NORM
    case BN_NORM: bn_norm_groups(c, op); break;
#endif
#if BITNET_OP_BIAS
    case BN_BIAS: bn_bias(c, op); break;
#endif
#if BITNET_OP_GAIN
    case BN_GAIN: bn_gain(c, op); break;
#endif
#if BITNET_OP_ACT
    case BN_ACT: bn_act(c, op); break;
#endif
#if BITNET_OP_GATE
    case BN_GATE: bn_gate(c, op); break;
#endif
#if BITNET_OP_STORE
    case BN_STORE: bn_store(c, op); break;
#endif
#if BITNET_OP_POSITION
    case BN_POSITION: bn_position(c, op); break;
#endif
#if BITNET_OP_ROPE
    case BN_ROPE: bn_rope(c, op); break;
#endif
#if BITNET_OP_EMBEDDING
    case BN_EMBEDDING: bn_embedding(c, op, results); break;
#endif
    default: break; /* refused by the check */
    }
}

/* the operations first ..< end for the token at c->position */
void bn_run_ops(bitnet_ctx *c, uint32_t first, uint32_t end, uint32_t id, int32_t *results)
{
    uint32_t checked = (uint32_t)(c->expected != (const uint32_t *)0);
    uint32_t i;
#if defined(BITNET_TRACE)
    checked |= (uint32_t)(c->trace != (bitnet_trace_fn)0);
#endif
    for (i = first; i < end; i++) {
        run_op(c, bn_op(c, i), id, results);
#if BITNET_WITH_LORA
        if (c->lora_parts != 0u) {
            bn_lora(c, i);
        }
#endif
        if (checked != 0u) {
            check_result(c, i, results);
        }
    }
}

void bn_next_position(bitnet_ctx *c)
{
    c->position += 1u; /* wraps */
    c->slot += 1u;
    if (c->position < c->window) {
        c->slot = c->position;
    } else if (c->slot >= c->window) {
        c->slot = c->sinks;
    }
}

void bn_run_token(bitnet_ctx *c, uint32_t id, int32_t *results)
{
    c->chain = BN_CRC_START;
    c->chain_slot = 0u;
    bn_run_ops(c, 0u, results != (int32_t *)0 ? c->n_ops : c->head_op, id, results);
    if (c->expected != (const uint32_t *)0) {
        end_chain(c);
    }
    bn_next_position(c);
}

/* ids, and n more tokens */
bitnet_status bn_check_ids(const bitnet_ctx *c, const uint32_t *ids, uint32_t n, uint32_t position)
{
    uint32_t most = bitnet_max_tokens(c);
    uint32_t i;
    if (n == 0u) {
        return BITNET_E_TOKEN;
    }
    for (i = 0u; i < n; i++) {
        if (ids[i] >= c->vocab) {
            return BITNET_E_TOKEN;
        }
    }
    return most != 0u && (position >= most || n > most - position) ? BITNET_E_CONTEXT : BITNET_OK;
}

bitnet_status bitnet_run(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *logits)
{
    bitnet_status st;
    uint32_t i;
    if (ctx == (bitnet_ctx *)0 || ids == (const uint32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (ctx->embeds != 0u) {
        return BITNET_E_RESULT;
    }
    st = bn_check_ids(ctx, ids, n, ctx->position);
    for (i = 0u; i < n && st == BITNET_OK; i++) {
        bn_run_token(ctx, ids[i], i + 1u == n ? logits : (int32_t *)0);
    }
    return st;
}

/* ---- a text ------------------------------------------------------------------------- */

#if BITNET_OP_EMBEDDING

#if BITNET_WITH_ENCODER

static void add_residual(const bitnet_ctx *c, const bitnet_register *r)
{
    int64_t *sums = (int64_t *)bn_at(c, c->pool_sums);
    const bn_i32 *x = bn_vec(c, r);
    uint32_t i;
    for (i = 0u; i < c->d_model; i++) {
        sums[i] = c->position == 0u ? x[i] : sums[i] + x[i];
    }
}

/* All tokens from one KVWRITE to the next, so that ATTEND finds every one of them in the cache.  The residual register
 * lies where the token has its residual.  Returns the token at which a checksum differed, n if none did. */
static uint32_t run_encoder(bitnet_ctx *c, const uint32_t *ids, uint32_t n, const uint32_t *expected, int32_t *out)
{
    bitnet_register *residual = &c->reg[bn_op(c, 0u)[OP_DST]];
    uint32_t home = residual->offset;
    uint32_t row = 4u * c->d_model;
    bn_word *chains = (bn_word *)bn_at(c, c->chains);
    uint32_t slot = 0u; /* part of the golden trace in which the pass starts */
    uint32_t first = 0u;
    uint32_t p = 0u;
    c->tokens = n;
    while (first < c->head_op && c->mismatch == 0u) {
        uint32_t end = first;
        uint32_t next = slot;
        while (end < c->head_op && next == slot) {
            const uint32_t *op = bn_op(c, end);
            end += 1u;
            if ((op[OP_CODE] & 0xFFu) == (uint32_t)BN_KVWRITE) {
                next = (op[OP_CODE] >> 8) + 1u;
            }
        }
        for (p = 0u; p < n && c->mismatch == 0u; p++) {
            c->position = p;
            c->slot = p;
            residual->offset = c->texts + p * row;
            c->expected = expected != (const uint32_t *)0 ? expected + p * (c->layers + 2u) : expected;
            c->chain = first == 0u ? BN_CRC_START : chains[p];
            c->chain_slot = slot;
            bn_run_ops(c, first, end, ids[p], out);
            chains[p] = c->chain;
            if (end == c->head_op) {
                if (c->pool == (uint32_t)BN_POOL_MEAN) {
                    add_residual(c, residual);
                }
                if (expected != (const uint32_t *)0) {
                    end_chain(c);
                }
            }
        }
        slot = next;
        first = end;
    }
    if (c->mismatch == 0u) { /* p is n: the result belongs to the last token */
        residual->offset = c->texts + (c->pool == (uint32_t)BN_POOL_FIRST ? 0u : (n - 1u) * row);
        bn_run_ops(c, first, c->n_ops, 0u, out);
        if (expected != (const uint32_t *)0) {
            end_chain(c);
        }
    }
    residual->offset = home;
    c->position = n;
    c->slot = n;
    return c->mismatch != 0u ? p - 1u : n;
}

#endif

/* as run_encoder, for any program that gives an embedding */
uint32_t bn_run_text(bitnet_ctx *c, const uint32_t *ids, uint32_t n, const uint32_t *expected, int32_t *out)
{
    uint32_t i;
    (void)bitnet_reset(c);
#if BITNET_WITH_ENCODER
    if (c->encoder != 0u) {
        return run_encoder(c, ids, n, expected, out);
    }
#endif
    for (i = 0u; i < n && c->mismatch == 0u; i++) {
        c->expected = expected != (const uint32_t *)0 ? expected + i * (c->layers + 2u) : expected;
        bn_run_token(c, ids[i], i + 1u == n ? out : (int32_t *)0);
    }
    return c->mismatch != 0u ? i - 1u : n;
}

#endif

bitnet_status bitnet_embed(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *out)
{
    bitnet_status st;
    if (ctx == (bitnet_ctx *)0 || ids == (const uint32_t *)0 || out == (int32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (ctx->embeds == 0u) {
        return BITNET_E_RESULT;
    }
    st = bn_check_ids(ctx, ids, n, 0u);
#if BITNET_OP_EMBEDDING
    if (st == BITNET_OK) {
        (void)bn_run_text(ctx, ids, n, (const uint32_t *)0, out);
    }
#endif
    return st;
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
