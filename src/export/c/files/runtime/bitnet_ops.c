/*
 * bitnet_ops.c - the operations on vectors (docs/semantics.md section 5):
 * EMBED, POSITION, STORE, ADD, RMSNORM, QUANTIZE, RELU2MUL, SILUMUL, LOGITS,
 * EMBEDDING.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

uint32_t bn_max_abs(const bn_i32 *x, uint32_t n)
{
    /* the largest value of x ^ (x >> 31) would miss by one: keep both ends */
    int32_t hi = 0;
    int32_t lo = 0;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        int32_t v = x[i];
        if (v > hi) {
            hi = v;
        }
        if (v < lo) {
            lo = v;
        }
    }
    return bn_abs(lo) > (uint32_t)hi ? bn_abs(lo) : (uint32_t)hi;
}

/* bits of the largest magnitude; -2^31 does not occur */
uint32_t bn_bits_of(const bn_i32 *x, uint32_t n)
{
    uint32_t any = 0u;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        any |= bn_abs(x[i]);
    }
    return bn_bitlen(any);
}

/* ---- the residual ------------------------------------------------------------- */

/* the factor of one row of a table, or of one group of its columns */
static bn_factor row_factor(const bitnet_ctx *c, const bn_tensor *t, uint32_t at, const uint32_t *factor)
{
    bitnet_scale s = t->scale;
#if BITNET_WITH_TABLES
    if (t->mode != 1u)
#endif
    {
        s.m = t->scale_m[at];
        s.e = t->scale.e - (int32_t)t->scale_h[at];
    }
#if BITNET_WITH_FACTORS
    if (factor[0] != 0u) {
        s = bn_mul_scale(s, bn_scale_at(factor));
    }
#else
    (void)factor;
#endif
    return bn_factor_of(s, (int32_t)c->frac_bits);
}

#if BITNET_OP_POSITION
/* kept: the residual so far, or NULL */
#define WRITE(value) x[i] = kept != (const bn_i32 *)0 ? bn_sat((int64_t)kept[i] + bn_times((value), k)) : bn_times((value), k)
#else
#define WRITE(value) x[i] = bn_times((value), k)
#endif

/* a row of a table becomes the residual, or is added to what it was */
static void put_row(const bitnet_ctx *c, const uint32_t *op, uint32_t id, bn_i32 *x, const bn_i32 *kept)
{
    bn_tensor t;
    bn_factor k;
    uint32_t i;
    const uint8_t *row;
    const uint32_t *factor = op + OP_P0;
    bn_tensor_get(c, op[OP_T0], &t);
    row = t.data + id * t.stride;
    (void)kept;
#if BITNET_WITH_TABLES
    if ((t.kind != (uint32_t)BN_INT8 && t.kind != (uint32_t)BN_INT16) || t.mode != 2u) {
        uint32_t step = t.mode == 3u ? t.group : t.cols;
        uint32_t at = id * t.groups;
        uint32_t from;
        for (from = 0u; from < t.cols; from += step) {
            uint32_t end = t.cols - from < step ? t.cols : from + step;
            k = row_factor(c, &t, at, factor);
            at += 1u;
            for (i = from; i < end; i++) {
                WRITE(bn_weight(&t, id, i));
            }
        }
        return;
    }
#endif
    k = row_factor(c, &t, id, factor);
    if (t.kind == (uint32_t)BN_INT8) {
        const int8_t *w = (const int8_t *)row;
        for (i = 0u; i < t.cols; i++) {
            WRITE(w[i]);
        }
    } else {
        const bn_i16 *w = (const bn_i16 *)(const void *)row;
        for (i = 0u; i < t.cols; i++) {
            WRITE(w[i]);
        }
    }
}

void bn_embed(bitnet_ctx *c, const uint32_t *op, uint32_t id)
{
    bitnet_register *dst = &c->reg[op[OP_DST]];
    put_row(c, op, id, bn_vec(c, dst), (const bn_i32 *)0);
    dst->length = c->d_model;
    dst->scale.m = 0x40000000u;
    dst->scale.e = -30 - (int32_t)c->frac_bits;
}

#if BITNET_OP_POSITION

void bn_position(bitnet_ctx *c, const uint32_t *op)
{
    bn_i32 *x = bn_vec(c, &c->reg[op[OP_DST]]);
    put_row(c, op, c->position, x, x);
}

#endif

#if BITNET_OP_STORE

void bn_store(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    const bn_i32 *s = bn_vec(c, src);
    bn_i32 *x = bn_vec(c, &c->reg[op[OP_DST]]);
    bn_factor k = bn_factor_of(src->scale, (int32_t)c->frac_bits);
    uint32_t i;
    for (i = 0u; i < src->length; i++) {
        x[i] = bn_times(s[i], k);
    }
}

#endif

/* the scale of src, times the factor if there is one */
static bitnet_scale with_factor(const bitnet_register *src, const uint32_t *factor)
{
#if BITNET_WITH_FACTORS
    if (factor[0] != 0u) {
        return bn_mul_scale(src->scale, bn_scale_at(factor));
    }
#else
    (void)factor;
#endif
    return src->scale;
}

void bn_add(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bn_i32 *x = bn_vec(c, &c->reg[op[OP_DST]]);
    const bn_i32 *s = bn_vec(c, src);
    bn_factor k = bn_factor_of(with_factor(src, op + OP_P0), (int32_t)c->frac_bits);
    uint32_t i;
    for (i = 0u; i < src->length; i++) {
        int32_t v = bn_sat((int64_t)x[i] + bn_times(s[i], k));
        x[i] = v;
        if (v == BN_LIMIT || v == -BN_LIMIT) {
            c->saturated += 1u;
        }
    }
}

/* ---- norm, codes, gates --------------------------------------------------------- */

#if BITNET_OP_RMSNORM

void bn_rmsnorm(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t n = src->length;
    uint32_t b = bn_bits_of(x, n);
    uint32_t s = b > 24u ? b - 24u : 0u;
    uint64_t q = 0u;
    uint64_t top = 0u;
    uint32_t t;
    uint32_t i;
    bitnet_scale eps;
    bitnet_scale r;
    bn_tensor g;
    const bn_i32 *gamma;
    bn_tensor_get(c, op[OP_T0], &g);
    gamma = (const bn_i32 *)(const void *)g.data;
    eps = bn_scale_at(op + OP_P0);
    for (i = 0u; i < n; i++) {
        int32_t v = bn_rsr(x[i], s);
        int64_t w = bn_mul(x[i], gamma[i]);
        q += (uint64_t)bn_mul(v, v);
        top |= bn_abs64(w); /* the or has the bit length of the largest */
    }
    if (q == 0u) {
        r = eps;
    } else {
        r = bn_mul_scale(bn_norm(q, 2 * (int32_t)s), bn_inv(bn_norm(n, 0)));
        r = bn_add_scale(bn_mul_scale(r, bn_mul_scale(src->scale, src->scale)), eps);
    }
    r = bn_inv(bn_sqrt(r));
    t = bn_bitlen64(top) > 30u ? bn_bitlen64(top) - 30u : 0u;
    r = bn_exp_add(bn_mul_scale(bn_mul_scale(src->scale, r), g.scale), (int32_t)t);
    for (i = 0u; i < n; i++) {
        y[i] = bn_narrow(bn_mul(x[i], gamma[i]), t);
    }
    dst->length = n;
    dst->scale = r;
}

#endif

static int32_t clamp(int32_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : (v > hi ? hi : v);
}

/* Qmax 2: a code is the number of thresholds below |x|.  2 |x| / a beyond 1/2 + 2^-17 is at least 1; from 3/2 - 2^-17
 * on (the tie goes to the even code) it is 2. */
static void quantize_two(const bn_i32 *x, uint32_t n, uint32_t a, int32_t lo, int32_t hi, int8_t *y)
{
    uint64_t half = bn_mulu(a, 0x10001u);
    uint64_t three = bn_mulu(a, 0x2FFFFu) + 0x3FFFFu;
    uint32_t one = bn_hi(half) << 14 | bn_lo(half) >> 18;    /* above it: 1 */
    uint32_t two = bn_hi(three) << 14 | bn_lo(three) >> 18;  /* from it on: 2 */
    uint32_t i;
    for (i = 0u; i < n; i++) {
        uint32_t ax = bn_abs(x[i]);
        int32_t v = (ax > one ? 1 : 0) + (ax >= two ? 1 : 0);
        y[i] = (int8_t)clamp(x[i] < 0 ? -v : v, lo, hi);
    }
}

void bn_quantize(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    int8_t *y8 = (int8_t *)bn_at(c, dst->offset);
    bn_i16 *y16 = (bn_i16 *)bn_at(c, dst->offset);
    uint32_t wide = (uint32_t)(dst->kind == (uint32_t)BN_REG_I16);
    uint32_t n = src->length;
    uint32_t i;
    uint32_t q = op[OP_P0];
    int32_t lo = (int32_t)op[OP_P0 + 1];
    int32_t hi = (int32_t)op[OP_P0 + 2];
    uint32_t a = bn_max_abs(x, n);
    bitnet_scale floor_scale;
    bitnet_scale iq = bn_inv(bn_norm(q, 0));
    floor_scale = bn_scale_at(op + OP_P0 + 3);
    dst->length = n;
    dst->qmax = (int32_t)q;
    dst->lo = lo;
    dst->hi = hi;
    dst->scale = bn_mul_scale(floor_scale, iq);
    if (c->planes_register == op[OP_DST]) {
        c->planes_register = BN_NONE;
    }
    if (c->lut_register >> 8 == op[OP_DST]) {
        c->lut_register = BN_NONE;
    }
    if (a == 0u) {
        for (i = 0u; i < n; i++) {
            if (wide != 0u) {
                y16[i] = 0;
            } else {
                y8[i] = 0;
            }
        }
        return;
    }
    {
        bitnet_scale top = bn_mul_scale(bn_norm(a, 0), src->scale);
        if (bn_less(top, floor_scale) == 0u) {
            bn_divisor d = bn_divisor_of(a, q);
            dst->scale = bn_mul_scale(top, iq);
            if (wide == 0u && q == 2u) {
                quantize_two(x, n, a, lo, hi, y8);
                return;
            }
            if (wide != 0u) {
                for (i = 0u; i < n; i++) {
                    y16[i] = (int16_t)clamp(bn_code(&d, x[i]), lo, hi);
                }
            } else {
                for (i = 0u; i < n; i++) {
                    y8[i] = (int8_t)clamp(bn_code(&d, x[i]), lo, hi);
                }
            }
        } else {
            bitnet_scale k = bn_mul_scale(src->scale, bn_mul_scale(bn_norm(q, 0), bn_inv(floor_scale)));
            for (i = 0u; i < n; i++) {
                int32_t v = clamp(bn_apply(x[i], k, 0), lo, hi);
                if (wide != 0u) {
                    y16[i] = (int16_t)v;
                } else {
                    y8[i] = (int8_t)v;
                }
            }
        }
    }
}

#if BITNET_OP_RELU2MUL

void bn_relu2mul(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *g = &c->reg[op[OP_A]];
    const bitnet_register *u = &c->reg[op[OP_B]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *gv = bn_vec(c, g);
    const bn_i32 *uv = bn_vec(c, u);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t len = g->length;
    uint32_t k = bn_bits_of(uv, len);
    int32_t top = 0;
    uint32_t n;
    uint32_t s2;
    uint32_t i;
    bitnet_scale s = bn_mul_scale(bn_mul_scale(g->scale, g->scale), u->scale);
    for (i = 0u; i < len; i++) {
        if (gv[i] > top) {
            top = gv[i];
        }
    }
    n = bn_bitlen((uint32_t)top);
    s2 = n > 15u ? 2u * n - 30u : 0u;
    for (i = 0u; i < len; i++) {
        int32_t r = gv[i];
        if (r <= 0) {
            y[i] = 0;
        } else {
            y[i] = bn_narrow(bn_mul(bn_narrow(bn_mul(r, r), s2), uv[i]), k);
        }
    }
    dst->length = len;
    dst->scale = bn_exp_add(s, (int32_t)(s2 + k));
}

#endif

#if BITNET_OP_SILUMUL

void bn_silumul(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *g = &c->reg[op[OP_A]];
    const bitnet_register *u = &c->reg[op[OP_B]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *gv = bn_vec(c, g);
    const bn_i32 *uv = bn_vec(c, u);
    bn_i32 *y = bn_vec(c, dst);
    uint32_t len = g->length;
    uint32_t n = bn_bits_of(gv, len);
    uint32_t k = bn_bits_of(uv, len);
    uint32_t up = n < 30u ? 30u - n : 0u;
    uint32_t down = n > 30u ? n - 30u : 0u;
    uint32_t i;
    bn_factor f;
    bitnet_scale s = bn_mul_scale(g->scale, u->scale);
    f = bn_factor_of(bn_mul_scale(g->scale, bn_log2e()), 20);
    for (i = 0u; i < len; i++) {
        int32_t v = gv[i];
        uint32_t e = bn_exp2n(c->exp2_table, bn_abs(bn_times(v, f)));
        uint32_t sigma = bn_recip(0x40000000u + e);
        int32_t shifted = down != 0u ? bn_rsr(v, down) : (int32_t)((uint32_t)v << up);
        if (v < 0) {
            sigma = 0x80000000u - sigma;
        }
        y[i] = bn_narrow(bn_mul(bn_narrow(bn_mulsu(shifted, sigma), 31u), uv[i]), k);
    }
    dst->length = len;
    dst->scale = bn_exp_add(s, (int32_t)k + (int32_t)n - 30);
}

#endif

/* ---- results --------------------------------------------------------------------- */

#if BITNET_OP_LOGITS

void bn_logits(const bitnet_ctx *c, const uint32_t *op, int32_t *logits)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    const bn_i32 *x = bn_vec(c, src);
    bitnet_scale s = with_factor(src, op + OP_P0);
    bn_factor k = bn_factor_of(s, 16);
    uint32_t i;
#if BITNET_WITH_CAPS
    if (op[OP_P0 + 2] != 0u) {
        k = bn_factor_of(s, 20);
        for (i = 0u; i < src->length; i++) {
            logits[i] = bn_softcap(c, bn_times(x[i], k), bn_scale_at(op + OP_P0 + 2), 16);
        }
        return;
    }
#endif
    for (i = 0u; i < src->length; i++) {
        logits[i] = bn_times(x[i], k);
    }
}

#endif

#if BITNET_OP_EMBEDDING

/* v brought to 30 bits */
static int32_t thirty_bits(int64_t v, int32_t t)
{
    return t >= 0 ? (int32_t)bn_rsr64(v, (uint32_t)t) : (int32_t)((uint32_t)bn_lo((uint64_t)v) << (uint32_t)-t);
}

/* the residual register is that of the token whose vector is wanted; pool 1: the sums are in the arena */
void bn_embedding(bitnet_ctx *c, const uint32_t *op, int32_t *out)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    const bn_i32 *x = bn_vec(c, src);
    const int64_t *sums = (const int64_t *)(const void *)bn_at(c, c->pool_sums);
    uint32_t mean = (uint32_t)(BITNET_WITH_ENCODER && op[OP_P0] == (uint32_t)BN_POOL_MEAN);
    uint32_t n = src->length;
    bitnet_scale s = src->scale;
    uint64_t top = 0u;
    uint64_t q = 0u;
    int32_t t;
    uint32_t i;
    bn_factor k;
    for (i = 0u; i < n; i++) {
        top |= mean != 0u ? bn_abs64(sums[i]) : bn_abs(x[i]);
    }
    t = (int32_t)bn_bitlen64(top) - 30;
    for (i = 0u; i < n; i++) {
        int32_t u = top == 0u ? 0 : thirty_bits(mean != 0u ? sums[i] : x[i], t);
        int32_t small = bn_rsr(u, 6u);
        q += (uint64_t)bn_mul(small, small);
        out[i] = u;
    }
    if (top == 0u) {
        return;
    }
    if (op[OP_P0 + 1] != 0u) {
        k = bn_factor_of(bn_inv(bn_sqrt(bn_norm(q, 12))), 30);
    } else {
        if (mean != 0u) {
            s = bn_mul_scale(s, bn_inv(bn_norm(c->tokens, 0)));
        }
        k = bn_factor_of(bn_exp_add(s, t), 16);
    }
    for (i = 0u; i < n; i++) {
        out[i] = bn_times(out[i], k);
    }
}

#endif
