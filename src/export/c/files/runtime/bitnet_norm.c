/*
 * bitnet_norm.c - NORM, BIAS, GAIN (docs/semantics.md section 5).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

/* A result with X bits before the point: 29 - X fraction bits, so that a sum of two parts has room. */
#if BITNET_OP_NORM || BITNET_OP_BIAS
static bitnet_scale fixed_scale(int32_t x) { return bn_scale(0x40000000u, x - 59); }
#endif

#if BITNET_OP_NORM

/* round-half-even of v / d, d < 2^16, the result within an i32: bit by bit, once for each group */
static int32_t mean(int64_t v, uint32_t d)
{
    uint64_t rest = bn_abs64(v);
    uint32_t q = 0u;
    uint32_t i;
    for (i = 32u; i > 0u; i--) {
        uint64_t step = (uint64_t)d << (i - 1u);
        if (rest >= step) {
            rest -= step;
            q |= 1u << (i - 1u);
        }
    }
    if (2u * bn_lo(rest) > d || (2u * bn_lo(rest) == d && (q & 1u) != 0u)) {
        q += 1u;
    }
    return v < 0 ? -(int32_t)q : (int32_t)q;
}

/* What all elements of a group have in common. */
typedef struct {
    int32_t mu;
    uint32_t bits; /* N */
    bitnet_scale t;
} group;

BN_INLINE int32_t centred(int32_t x, int32_t mu) { return bn_sat((int64_t)x - mu); }

/* x, gamma: the first of the g elements of the group; gamma NULL: none */
static void group_of(const bn_i32 *x, const bn_i32 *gamma, uint32_t g, const uint32_t *op, bitnet_scale s,
                     bitnet_scale gamma_scale, group *r)
{
    bitnet_scale den = bn_scale_at(op + OP_P0);
    uint64_t q = 0u;
    uint64_t top = 0u;
    uint32_t any = 0u;
    uint32_t down;
    uint32_t i;
    r->mu = 0;
    if (op[OP_P0 + 3] != 0u) {
        int64_t sum = 0;
        for (i = 0u; i < g; i++) {
            sum += x[i];
        }
        r->mu = mean(sum, g);
    }
    for (i = 0u; i < g; i++) {
        int32_t d = centred(x[i], r->mu);
        any |= bn_abs(d);
        top |= gamma != (const bn_i32 *)0 ? bn_abs64(bn_mul(d, gamma[i])) : bn_abs(d);
    }
    down = bn_bitlen(any) > 24u ? bn_bitlen(any) - 24u : 0u;
    for (i = 0u; i < g; i++) {
        int32_t d = bn_rsr(centred(x[i], r->mu), down);
        q += (uint64_t)bn_mul(d, d);
    }
    if (q != 0u) {
        bitnet_scale ms = bn_mul_scale(bn_norm(q, 2 * (int32_t)down), bn_inv(bn_norm(g, 0)));
        den = bn_add_scale(bn_mul_scale(ms, bn_mul_scale(s, s)), den);
    }
    r->bits = bn_bitlen64(top);
    r->t = bn_mul_scale(s, bn_inv(bn_sqrt(den)));
    if (gamma != (const bn_i32 *)0) {
        r->t = bn_mul_scale(r->t, gamma_scale);
    }
}

void bn_norm_groups(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    bn_i32 *y = bn_vec(c, dst);
    const bn_i32 *gamma = (const bn_i32 *)0;
    const bn_i32 *beta = (const bn_i32 *)0;
    bitnet_scale s = src->scale;
    uint32_t n = src->length;
    uint32_t g = op[OP_P0 + 2];
    uint32_t gamma_step = 0u; /* from group to group */
    uint32_t beta_step = 0u;
    int32_t top = 0;
    uint32_t found = 0u;
    uint32_t at;
    uint32_t i;
    bn_tensor tg;
    bn_tensor tb;
    bn_factor kb;
    group r;
    tg.scale.m = s.m; /* not the structure: on a Cortex-M0 that is a call of memcpy */
    tg.scale.e = s.e;
    if (op[OP_T0] != BN_NONE) {
        bn_tensor_get(c, op[OP_T0], &tg);
        gamma = (const bn_i32 *)(const void *)tg.data;
        gamma_step = tg.cols == n ? g : 0u;
    }
    if (op[OP_T1] != BN_NONE) {
        bn_tensor_get(c, op[OP_T1], &tb);
        beta = (const bn_i32 *)(const void *)tb.data;
        beta_step = tb.cols == n ? g : 0u;
        top = tb.scale.e + 60;
        found = 1u;
    }
    group_of(x, gamma, g, op, s, tg.scale, &r);
    for (at = 0u; at < n; at += g) {
        if (at != 0u) {
            group_of(x + at, gamma != (const bn_i32 *)0 ? gamma + (gamma_step != 0u ? at : 0u) : gamma, g, op, s, tg.scale, &r);
        }
        if (r.bits > 0u) {
            int32_t e = (int32_t)r.bits + r.t.e + 31;
            top = found == 0u || e > top ? e : top;
            found = 1u;
        }
    }
    kb.m = 0u;
    kb.s = 0;
    if (beta != (const bn_i32 *)0) {
        kb = bn_factor_of(tb.scale, 29 - top);
    }
    for (at = 0u; at < n; at += g) {
        uint32_t down;
        bn_factor k;
        if (g != n) { /* what was found of the last group stays good if it is the only one */
            group_of(x + at, gamma, g, op, s, tg.scale, &r);
        }
        down = r.bits > 30u ? r.bits - 30u : 0u;
        k = bn_factor_of(bn_exp_add(r.t, (int32_t)down), 29 - top);
        for (i = 0u; i < g; i++) {
            int32_t d = centred(x[at + i], r.mu);
            int64_t v = gamma != (const bn_i32 *)0 ? bn_mul(d, gamma[i]) : d;
            int32_t w = bn_times(bn_narrow(v, down), k);
            if (beta != (const bn_i32 *)0) {
                w = bn_sat((int64_t)w + bn_times(beta[i], kb));
            }
            y[at + i] = w;
        }
        if (gamma != (const bn_i32 *)0) {
            gamma += gamma_step;
        }
        if (beta != (const bn_i32 *)0) {
            beta += beta_step;
        }
    }
    dst->length = n;
    dst->scale = fixed_scale(top);
}

#endif

#if BITNET_OP_BIAS

void bn_bias(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t n = src->length;
    uint32_t bits = bn_bits_of(x, n);
    const bn_i32 *b;
    bn_factor kx;
    bn_factor kb;
    bn_tensor t;
    int32_t top;
    uint32_t i;
    bn_tensor_get(c, op[OP_T0], &t);
    b = (const bn_i32 *)(const void *)t.data;
    top = t.scale.e + 60;
    if (bits > 0u && (int32_t)bits + src->scale.e + 31 > top) {
        top = (int32_t)bits + src->scale.e + 31;
    }
    kx = bn_factor_of(src->scale, 29 - top);
    kb = bn_factor_of(t.scale, 29 - top);
    for (i = 0u; i < n; i++) {
        y[i] = bn_sat((int64_t)bn_times(x[i], kx) + bn_times(b[i], kb));
    }
    dst->length = n;
    dst->scale = fixed_scale(top);
}

#endif

#if BITNET_OP_GAIN

void bn_gain(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t n = src->length;
    const bn_i32 *g;
    uint64_t top = 0u;
    uint32_t down;
    uint32_t i;
    bn_tensor t;
    bn_tensor_get(c, op[OP_T0], &t);
    g = (const bn_i32 *)(const void *)t.data;
    for (i = 0u; i < n; i++) {
        top |= bn_abs64(bn_mul(x[i], g[i]));
    }
    down = bn_bitlen64(top) > 30u ? bn_bitlen64(top) - 30u : 0u;
    for (i = 0u; i < n; i++) {
        y[i] = bn_narrow(bn_mul(x[i], g[i]), down);
    }
    dst->length = n;
    dst->scale = bn_exp_add(bn_mul_scale(src->scale, t.scale), (int32_t)down);
}

#endif
