/*
 * bitnet_act.c - ACT, GATE and the caps of scores and logits
 * (docs/semantics.md section 5).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#if BITNET_OP_ACT || BITNET_OP_GATE
#define KINDS BITNET_KINDS
#else
#define KINDS 0u
#endif
#define HAS(kind) ((KINDS >> (kind) & 1u) != 0u)

#if (KINDS & 0x40u) || BITNET_WITH_CAPS

/* tanh of |x|, z holds 2 log2(e) |x| with 20 fraction bits; 30 fraction bits */
static int32_t tanh30(const bitnet_ctx *c, uint32_t z)
{
    uint32_t e = bn_exp2n(c->exp2_table, z);
    return bn_narrow(bn_mulsu((int32_t)(0x40000000u - e), bn_recip(0x40000000u + e)), 31u);
}

#endif

#if BITNET_WITH_CAPS

int32_t bn_softcap(const bitnet_ctx *c, int32_t t, bitnet_scale cap, int32_t f)
{
    bitnet_scale k = bn_exp_add(bn_mul_scale(bn_inv(cap), bn_log2e()), 1);
    int32_t y = tanh30(c, (uint32_t)bn_apply((int32_t)bn_abs(t), k, 0));
    return bn_apply(t < 0 ? -y : y, bn_exp_add(cap, -30), f);
}

#endif

#if KINDS != 0u

/* An activation over one vector. */
typedef struct {
    uint32_t kind;
    uint32_t up, down; /* x shifted to 30 bits */
    uint32_t s2;       /* of relu^2 */
    bn_factor f;       /* x to the argument of the kind */
    bitnet_scale scale;
} activation;

static activation prepare(uint32_t kind, const bn_i32 *x, uint32_t len, bitnet_scale s)
{
    activation a;
    uint32_t n = bn_bits_of(x, len);
    a.kind = kind;
    a.up = n < 30u ? 30u - n : 0u;
    a.down = n > 30u ? n - 30u : 0u;
    a.s2 = 0u;
    a.f = bn_factor_of(s, 24);
    a.scale = bn_exp_add(s, (int32_t)n - 30);
    if (HAS(BN_RELU) && kind == (uint32_t)BN_RELU) {
        a.scale = s;
    }
    if (HAS(BN_RELU2) && kind == (uint32_t)BN_RELU2) {
        int32_t top = 0;
        uint32_t i;
        for (i = 0u; i < len; i++) {
            top = x[i] > top ? x[i] : top;
        }
        n = bn_bitlen((uint32_t)top);
        a.s2 = n > 15u ? 2u * n - 30u : 0u;
        a.scale = bn_exp_add(bn_mul_scale(s, s), (int32_t)a.s2);
    }
    if (HAS(BN_SILU) && kind == (uint32_t)BN_SILU) {
        a.f = bn_factor_of(bn_mul_scale(s, bn_log2e()), 20);
    }
    if (HAS(BN_TANH) && kind == (uint32_t)BN_TANH) {
        a.f = bn_factor_of(bn_exp_add(bn_mul_scale(s, bn_log2e()), 1), 20);
        a.scale = bn_scale(0x40000000u, -60);
    }
    return a;
}

#if KINDS & 0x18u

/* 31 fraction bits of the logistic function of a value that is z powers of two away from 0, on the side of x */
static uint32_t logistic(const bitnet_ctx *c, int32_t z, int32_t x)
{
    uint32_t p = bn_recip(0x40000000u + bn_exp2n(c->exp2_table, bn_abs(z)));
    return x < 0 ? 0x80000000u - p : p;
}

#endif

#if KINDS & 0x10u

/* the argument of the logistic function for x with 24 fraction bits */
static int32_t gelu_tanh(int32_t a)
{
    uint64_t square;
    uint64_t w;
    a = a > 0x10000000 ? 0x10000000 : (a < -0x10000000 ? -0x10000000 : a);
    /* a * a / 2^24 is at most 2^32 and w below 2^29 */
    square = (uint64_t)bn_rsr64(bn_mul(a, a), 24u);
    w = bn_mulu(bn_lo(square), 1727101u) + ((uint64_t)(bn_hi(square) * 1727101u) << 32);
    return (int32_t)bn_rsr64(bn_mul(a, 38624644 + (int32_t)bn_rsr64((int64_t)w, 24u)), 28u);
}

#endif

#if KINDS & 0x20u

/* 31 fraction bits of the share of a normal distribution beyond |x|; a = |x| with 24 fraction bits */
static uint32_t tail(const bitnet_ctx *c, uint32_t a)
{
    static const int32_t factors[4] = { -1955558716, 1912847369, -382857446, 342933307 };
    int32_t h = 1428371292;
    int32_t t;
    uint32_t d;
    uint32_t z;
    uint32_t i;
    a = a > 0x8000000u ? 0x8000000u : a;
    d = 0x40000000u + (uint32_t)bn_rsr64((int64_t)bn_mulu(248723596u, a), 24u); /* below 2^32 */
    t = d <= 0x80000000u ? (int32_t)bn_rsr64((int64_t)(uint64_t)bn_recip(d), 1u)
                         : (int32_t)bn_rsr64((int64_t)(uint64_t)bn_recip((d >> 1) + (d & 1u)), 2u);
    for (i = 0u; i < 4u; i++) {
        h = factors[i] + bn_narrow(bn_mul(h, t), 30u);
    }
    h = bn_narrow(bn_mul(h, t), 30u);
    z = (uint32_t)bn_rsr64((int64_t)bn_mulu((uint32_t)bn_rsr64((int64_t)bn_mulu(a, a), 24u), 774541002u), 34u);
    h = bn_narrow(bn_mul(h, (int32_t)bn_exp2n(c->exp2_table, z)), 30u);
    return (uint32_t)bn_rsr64(bn_mul(h, 428361012), 29u);
}

#endif

static int32_t activate(const bitnet_ctx *c, const activation *a, int32_t x)
{
    int32_t shifted = a->down != 0u ? bn_rsr(x, a->down) : (int32_t)((uint32_t)x << a->up);
    int32_t z = bn_times(x, a->f);
    uint32_t sigma = 0u;
    (void)c; /* not for every kind */
    (void)z;
    switch (a->kind) {
#if KINDS & 0x02u
    case BN_RELU: return x > 0 ? x : 0;
#endif
#if KINDS & 0x04u
    case BN_RELU2: return x > 0 ? bn_narrow(bn_mul(x, x), a->s2) : 0;
#endif
#if KINDS & 0x40u
    case BN_TANH: /* of |x|: rounding is not the same on both sides of 0 */
        z = tanh30(c, (uint32_t)bn_times((int32_t)bn_abs(x), a->f));
        return x < 0 ? -z : z;
#endif
#if KINDS & 0x08u
    case BN_SILU: sigma = logistic(c, z, x); break;
#endif
#if KINDS & 0x10u
    case BN_GELU_TANH: sigma = logistic(c, gelu_tanh(z), x); break;
#endif
#if KINDS & 0x20u
    case BN_GELU_ERF:
        sigma = tail(c, bn_abs(z));
        sigma = x < 0 ? sigma : 0x80000000u - sigma;
        break;
#endif
    default: break;
    }
    return bn_narrow(bn_mulsu(shifted, sigma), 31u);
}

#endif

#if BITNET_OP_ACT

void bn_act(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t n = src->length;
    activation a = prepare(op[OP_P0], x, n, src->scale);
    uint32_t i;
    for (i = 0u; i < n; i++) {
        y[i] = activate(c, &a, x[i]);
    }
    dst->length = n;
    dst->scale = a.scale;
}

#endif

#if BITNET_OP_GATE

void bn_gate(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *g = &c->reg[op[OP_A]];
    const bitnet_register *u = &c->reg[op[OP_B]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, g);
    const bn_i32 *v = bn_vec(c, u);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t n = g->length;
    uint32_t k = bn_bits_of(v, n);
    activation a = prepare(op[OP_P0], x, n, g->scale);
    bitnet_scale s = bn_exp_add(bn_mul_scale(a.scale, u->scale), (int32_t)k);
    uint32_t i;
    for (i = 0u; i < n; i++) {
        y[i] = bn_narrow(bn_mul(activate(c, &a, x[i]), v[i]), k);
    }
    dst->length = n;
    dst->scale = s;
}

#endif
