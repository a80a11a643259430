/*
 * bitnet_attend.c - KVWRITE and ATTEND: rotary embedding, the quantized
 * key/value cache with sinks, attention in integers.
 *
 * Cache of a layer: key codes [slot][kv head][channel], value codes likewise,
 * value scales m [slot][kv head], e likewise, key scales unless keys are
 * static.  4-bit codes: two a byte, the even channel in the low half.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

typedef struct {
    uint8_t *codes;
    bn_word *m;
    bn_i16 *e;
    uint32_t bits;
} side; /* keys or values of one layer */

static side side_of(const bitnet_ctx *c, uint32_t layer, uint32_t values)
{
    uint8_t *base = (uint8_t *)bn_at(c, c->kv + layer * c->kv_layer_bytes);
    side s;
    s.codes = base + (values != 0u ? c->kv_values : 0u);
    s.m = (bn_word *)(void *)(base + (values != 0u ? c->kv_value_m : c->kv_key_m));
    s.e = (bn_i16 *)(void *)(base + (values != 0u ? c->kv_value_e : c->kv_key_e));
    s.bits = values != 0u ? c->value_bits : c->key_bits;
    return s;
}

static void put_code(const side *s, uint32_t index, int32_t code)
{
    if (s->bits == 16u) {
        ((bn_i16 *)(void *)s->codes)[index] = (int16_t)code;
    } else if (s->bits == 8u) {
        s->codes[index] = (uint8_t)code;
    } else {
        uint32_t shift = (index & 1u) * 4u;
        uint32_t old = s->codes[index >> 1];
        s->codes[index >> 1] = (uint8_t)((old & (0xF0u >> shift)) | (((uint32_t)code & 15u) << shift));
    }
}

static int32_t nibble(uint32_t byte, uint32_t index)
{
    uint32_t v = byte >> ((index & 1u) * 4u) & 15u;
    return (int32_t)(v ^ 8u) - 8;
}

static int32_t get_code(const side *s, uint32_t index)
{
    if (s->bits == 16u) {
        return ((const bn_i16 *)(const void *)s->codes)[index];
    }
    if (s->bits == 8u) {
        return ((const int8_t *)s->codes)[index];
    }
    return nibble(s->codes[index >> 1], index);
}

/* ---- rotary embedding ------------------------------------------------------- */

/* How heads are rotated: cosines and sines of r frequencies, u for what is not rotated (m = 0: it stays). */
typedef struct {
    const bn_i32 *cs;
    uint32_t r;
    bitnet_scale u;
} rotation;

static void make_angles(const bitnet_ctx *c, const bn_tensor *f, uint32_t position, uint32_t at)
{
    bn_i32 *cs = (bn_i32 *)bn_at(c, at);
    const bn_word *freq = (const bn_word *)(const void *)f->data;
    uint32_t r = f->cols;
    uint32_t j;
    for (j = 0u; j < r; j++) {
        uint32_t phase = position * freq[j];
        cs[j] = bn_sin(c->sin_table, phase + 0x40000000u);
        cs[r + j] = bn_sin(c->sin_table, phase);
    }
}

/* at the token's position, or at the last one of the window; kept for the other layers */
static rotation rotation_of(bitnet_ctx *c, uint32_t tensor, uint32_t last)
{
    rotation r;
    bn_tensor f;
    r.cs = (const bn_i32 *)bn_at(c, last != 0u ? c->angles_last : c->angles);
    r.r = 0u;
    r.u.m = 0u;
    r.u.e = 0;
#if BITNET_WITH_PARTIAL
    if (tensor == BN_NONE) {
        return r;
    }
#endif
    bn_tensor_get(c, tensor, &f);
    r.r = f.cols;
    r.u = f.scale;
    if (last != 0u) {
        if (c->angles_last_tensor != tensor) {
            make_angles(c, &f, c->window - 1u, c->angles_last);
            c->angles_last_tensor = tensor;
        }
    } else if (c->angles_tensor != tensor || c->angles_position != c->position) {
        make_angles(c, &f, c->position, c->angles);
        c->angles_tensor = tensor;
        c->angles_position = c->position;
    }
    return r;
}

/* y may be x */
static void rotate(const bn_i32 *x, const rotation *r, uint32_t d, bn_i32 *y)
{
    const bn_i32 *cs = r->cs;
    uint32_t half = r->r;
    uint32_t j;
    for (j = 0u; j < half; j++) {
        int32_t a = x[j];
        int32_t b = x[half + j];
        y[j] = bn_sat(bn_rsr64(bn_mul(a, cs[j]) - bn_mul(b, cs[half + j]), 30u));
        y[half + j] = bn_sat(bn_rsr64(bn_mul(b, cs[j]) + bn_mul(a, cs[half + j]), 30u));
    }
#if BITNET_WITH_PARTIAL
    for (j = 2u * half; j < d; j++) {
        y[j] = r->u.m != 0u ? bn_apply(x[j], r->u, 0) : x[j];
    }
#else
    (void)d;
#endif
}

#if BITNET_OP_ROPE

void bn_rope(bitnet_ctx *c, const uint32_t *op)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    const bn_i32 *x = bn_vec(c, src);
    bn_i32 *y = bn_vec(c, dst);
    rotation r = rotation_of(c, op[OP_T0], 0u);
    uint32_t n = src->length;
    uint32_t at;
    for (at = 0u; at < n; at += c->head_dim) {
        rotate(x + at, &r, c->head_dim, y + at);
    }
    dst->length = n;
    dst->scale = src->scale;
}

#endif

/* ---- KVWRITE ------------------------------------------------------------------ */

typedef struct {
    const bn_i32 *centre;
    const bn_word *inv_m, *key_m;
    const uint8_t *inv_h, *key_h;
    bitnet_scale scale;
} static_keys;

static static_keys static_keys_of(const bitnet_ctx *c, uint32_t tensor)
{
    static_keys k;
    bn_tensor t;
    uint32_t n;
    bn_tensor_get(c, tensor, &t);
    n = t.rows * t.cols;
    k.centre = (const bn_i32 *)(const void *)t.data;
    k.inv_m = (const bn_word *)(const void *)(t.data + 4u * n);
    k.key_m = (const bn_word *)(const void *)(t.data + 8u * n);
    k.inv_h = t.data + 12u * n;
    k.key_h = k.inv_h + n;
    k.scale = t.scale;
    return k;
}

/* one head by itself: index of its first code, of its scale */
static void write_head(const bn_i32 *x, uint32_t d, bitnet_scale s, const side *to, uint32_t first, uint32_t head)
{
    uint32_t q = to->bits == 16u ? 32767u : (to->bits == 8u ? 127u : 7u);
    uint32_t a = bn_max_abs(x, d);
    uint32_t i;
    if (a == 0u) {
        for (i = 0u; i < d; i++) {
            put_code(to, first + i, 0);
        }
        to->m[head] = 0x40000000u;
        to->e[head] = BN_ZERO_EXP;
    } else {
        bn_divisor v = bn_divisor_of(a, q);
        bitnet_scale r = bn_mul_scale(bn_mul_scale(bn_norm(a, 0), s), bn_inv(bn_norm(q, 0)));
        for (i = 0u; i < d; i++) {
            put_code(to, first + i, bn_divide(&v, x[i]));
        }
        to->m[head] = r.m;
        to->e[head] = (int16_t)(r.e < -4096 ? -4096 : (r.e > 4095 ? 4095 : r.e));
    }
}

static void write_static(const bitnet_ctx *c, const bn_i32 *x, bitnet_scale s, const static_keys *k, uint32_t channel,
                         const side *to, uint32_t first)
{
    bn_factor f = bn_factor_of(s, (int32_t)c->key_frac_bits);
    uint32_t i;
    for (i = 0u; i < c->head_dim; i++) {
        uint32_t at = channel + i;
        int32_t v = bn_sat((int64_t)bn_times(x[i], f) - k->centre[at]);
        v = bn_shift(bn_mul(v, (int32_t)k->inv_m[at]), (int32_t)k->inv_h[at]);
        put_code(to, first + i, v < -8 ? -8 : (v > 7 ? 7 : v));
    }
}

void bn_kvwrite(bitnet_ctx *c, const uint32_t *op, uint32_t layer)
{
    const bitnet_register *k = &c->reg[op[OP_A]];
    const bitnet_register *v = &c->reg[op[OP_B]];
    const bn_i32 *kx = bn_vec(c, k);
    const bn_i32 *vx = bn_vec(c, v);
    rotation turn = rotation_of(c, op[OP_T0], 0u);
    bn_i32 *tmp = (bn_i32 *)bn_at(c, c->query);
    side keys = side_of(c, layer, 0u);
    side values = side_of(c, layer, 1u);
    uint32_t d = c->head_dim;
    uint32_t h;
    for (h = 0u; h < c->kv_heads; h++) {
        uint32_t head = c->slot * c->kv_heads + h;
        rotate(kx + h * d, &turn, d, tmp);
        if (c->static_keys != 0u) {
            static_keys sk = static_keys_of(c, op[OP_T1]);
            write_static(c, tmp, k->scale, &sk, h * d, &keys, head * d);
        } else {
            write_head(tmp, d, k->scale, &keys, head * d, head);
        }
        write_head(vx + h * d, d, v->scale, &values, head * d, head);
    }
}

/* checksum of what KVWRITE wrote for this token */
uint32_t bn_kv_checksum(const bitnet_ctx *c, uint32_t layer)
{
    uint32_t crc = BN_CRC_START;
    uint32_t which;
    uint32_t h;
    uint32_t i;
    for (which = 0u; which < 2u; which++) {
        side s = side_of(c, layer, which);
        for (h = 0u; h < c->kv_heads; h++) {
            uint32_t head = c->slot * c->kv_heads + h;
            if (which != 0u || c->static_keys == 0u) { /* static keys have no scale of their own */
                int32_t e = s.e[head];
                crc = bn_crc_word(bn_crc_word(crc, s.m[head]), (uint32_t)e);
            }
            for (i = 0u; i < c->head_dim; i++) {
                crc = bn_crc_word(crc, (uint32_t)get_code(&s, head * c->head_dim + i));
            }
        }
    }
    return bn_crc_end(crc);
}

/* ---- ATTEND ------------------------------------------------------------------- */

/* shift that brings q to 30 bits: > 0 right, < 0 left */
static int32_t thirty(const bn_i32 *q, uint32_t d)
{
    uint32_t n = bn_bits_of(q, d);
    return n == 0u ? 0 : (int32_t)n - 30;
}

static int32_t bring(int32_t v, int32_t s)
{
    return s >= 0 ? bn_rsr(v, (uint32_t)s) : (int32_t)((uint32_t)v << (uint32_t)-s);
}

static int64_t dot_i8(const bn_i32 *q, const int8_t *k, uint32_t d)
{
    int64_t acc = 0;
    uint32_t i = 0u;
    for (; i + 4u <= d; i += 4u) {
        acc += bn_mul(q[i], k[i]);
        acc += bn_mul(q[i + 1u], k[i + 1u]);
        acc += bn_mul(q[i + 2u], k[i + 2u]);
        acc += bn_mul(q[i + 3u], k[i + 3u]);
    }
    for (; i < d; i++) {
        acc += bn_mul(q[i], k[i]);
    }
    return acc;
}

static int64_t dot_i16(const bn_i32 *q, const bn_i16 *k, uint32_t d)
{
    int64_t acc = 0;
    uint32_t i;
    for (i = 0u; i < d; i += 2u) {
        acc += bn_mul(q[i], k[i]);
        acc += bn_mul(q[i + 1u], k[i + 1u]);
    }
    return acc;
}

static int64_t dot_i4(const bn_i32 *q, const uint8_t *k, uint32_t d)
{
    int64_t acc = 0;
    uint32_t i;
    for (i = 0u; i < d; i += 2u) {
        uint32_t b = k[i >> 1];
        acc += bn_mul(q[i], (int32_t)(b << 28) >> 28);
        acc += bn_mul(q[i + 1u], (int32_t)(b << 24) >> 28);
    }
    return acc;
}

static int64_t dot_codes(const bn_i32 *q, const side *k, uint32_t first, uint32_t d)
{
    if (k->bits == 8u) {
        return dot_i8(q, (const int8_t *)k->codes + first, d);
    }
    if (k->bits == 16u) {
        return dot_i16(q, (const bn_i16 *)(const void *)k->codes + first, d);
    }
    return dot_i4(q, k->codes + (first >> 1), d);
}

typedef struct {
    bitnet_scale scale; /* of the query, at 30 bits, times C */
    int32_t bias;       /* of static keys */
} query;

/* rotate, bring to 30 bits; with static keys apply their scales and bring to 30 bits again */
static query prepare(const bitnet_ctx *c, const bn_i32 *q, const rotation *turn, bitnet_scale s, bitnet_scale factor,
                     const static_keys *k, uint32_t channel, bn_i32 *out)
{
    query r;
    uint32_t d = c->head_dim;
    uint32_t i;
    int32_t sh;
    r.bias = 0;
    rotate(q, turn, d, out);
    if (c->static_keys != 0u) {
        uint32_t down = 24u + bn_bitlen(d - 1u);
        int64_t sum = 0;
        sh = thirty(out, d);
        s = bn_exp_add(s, sh);
        for (i = 0u; i < d; i++) {
            int32_t v = bring(out[i], sh);
            sum += bn_mul(v, k->centre[channel + i]);
            out[i] = (int32_t)bn_rsr64(bn_mul(v, (int32_t)k->key_m[channel + i]), 31u + (uint32_t)k->key_h[channel + i]);
        }
        r.bias = bn_apply(bn_i32_of(bn_rsr64(sum, down)),
                          bn_exp_add(bn_mul_scale(s, factor), (int32_t)down - (int32_t)c->key_frac_bits), 20);
    }
    sh = thirty(out, d);
    for (i = 0u; i < d; i++) {
        out[i] = bring(out[i], sh);
    }
    r.scale = bn_mul_scale(bn_exp_add(s, sh), factor);
    return r;
}

#if BITNET_WITH_WINDOWS || BITNET_WITH_SLOPES

/* how many positions ago the token in a slot came; wraps for a later one, in an encoder */
static uint32_t age_of(const bitnet_ctx *c, uint32_t slot)
{
    if (c->position < c->window || slot < c->sinks) {
        return c->position - slot;
    }
    return slot <= c->slot ? c->slot - slot : c->slot + (c->window - c->sinks) - slot;
}

#endif

#define HIDDEN (-BN_LIMIT - 1) /* score of a slot that takes no part; no other score has this value */

/* scores of the slots first ..< end, t of step 3 */
static void score(const bitnet_ctx *c, const uint32_t *op, const query *r, const bn_i32 *q, const side *keys,
                  const static_keys *k, uint32_t kv, uint32_t first, uint32_t end)
{
    bn_i32 *t = (bn_i32 *)bn_at(c, c->scores);
    uint32_t d = c->head_dim;
    uint32_t g = c->key_bits - 1u + bn_bitlen(d - 1u);
    uint32_t i;
    bn_factor f = bn_factor_of(bn_exp_add(bn_mul_scale(r->scale, k->scale), (int32_t)g), 20);
    for (i = first; i < end; i++) {
        uint32_t head = i * c->kv_heads + kv;
        int32_t s;
#if BITNET_WITH_WINDOWS
        if (op[OP_P0 + 2] != 0u && age_of(c, i) >= op[OP_P0 + 2]) {
            t[i] = HIDDEN;
            continue;
        }
#endif
        s = bn_narrow(dot_codes(q, keys, head * d, d), g);
        if (c->static_keys == 0u) {
            bitnet_scale ks;
            ks.m = keys->m[head];
            ks.e = keys->e[head];
            f = bn_factor_of(bn_exp_add(bn_mul_scale(r->scale, ks), (int32_t)g), 20);
        }
        t[i] = bn_times(s, f);
    }
    (void)op;
}

#if BITNET_WITH_CAPS || BITNET_WITH_SLOPES

/* the rest of step 3: cap and slope of query head h */
static void bend(const bitnet_ctx *c, const uint32_t *op, uint32_t h, uint32_t slots)
{
    bn_i32 *t = (bn_i32 *)bn_at(c, c->scores);
    uint32_t i;
    (void)h;
#if BITNET_WITH_CAPS
    if (op[OP_P0 + 3] != 0u) {
        bitnet_scale cap = bn_scale_at(op + OP_P0 + 3);
        for (i = 0u; i < slots; i++) {
            if (t[i] != HIDDEN) {
                t[i] = bn_softcap(c, t[i], cap, 20);
            }
        }
    }
#endif
#if BITNET_WITH_SLOPES
    if (op[OP_P0 + 5] != 0u) {
        bn_tensor slopes;
        int32_t slope;
        bn_tensor_get(c, op[OP_P0 + 5] - 1u, &slopes);
        slope = ((const bn_i32 *)(const void *)slopes.data)[h];
        for (i = 0u; i < slots; i++) {
            uint32_t age = age_of(c, i);
            if (c->encoder != 0u && i > c->position) {
                age = 0u - age;
            }
            if (t[i] != HIDDEN) {
                int32_t far = age > (uint32_t)BN_LIMIT ? BN_LIMIT : (int32_t)age;
                t[i] = bn_sat((int64_t)t[i] - bn_shift(bn_mul(far, slope), -(slopes.scale.e + 50)));
            }
        }
    }
#endif
}

#endif

/* sums of the weighted values of channels j ..< j + n (n <= 4) over all slots */
static void weigh(const bitnet_ctx *c, const side *v, uint32_t kv, uint32_t j, uint32_t n, uint32_t slots, int64_t *a)
{
    const bn_i32 *w = (const bn_i32 *)bn_at(c, c->scores);
    uint32_t step = c->kv_heads * c->head_dim;
    uint32_t at = kv * c->head_dim + j;
    uint32_t i;
    int64_t a0 = 0;
    int64_t a1 = 0;
    int64_t a2 = 0;
    int64_t a3 = 0;
    if (n == 4u && v->bits == 8u) {
        const int8_t *p = (const int8_t *)v->codes + at;
        for (i = 0u; i < slots; i++) {
            int32_t x = w[i];
            a0 += bn_mul(x, p[0]);
            a1 += bn_mul(x, p[1]);
            a2 += bn_mul(x, p[2]);
            a3 += bn_mul(x, p[3]);
            p += step;
        }
    } else if (n == 4u && v->bits == 16u) {
        const bn_i16 *p = (const bn_i16 *)(const void *)v->codes + at;
        for (i = 0u; i < slots; i++) {
            int32_t x = w[i];
            a0 += bn_mul(x, p[0]);
            a1 += bn_mul(x, p[1]);
            a2 += bn_mul(x, p[2]);
            a3 += bn_mul(x, p[3]);
            p += step;
        }
    } else if (n == 4u && v->bits == 4u) {
        const uint8_t *p = v->codes + (at >> 1);
        for (i = 0u; i < slots; i++) {
            int32_t x = w[i];
            uint32_t b = p[0] | (uint32_t)p[1] << 8;
            a0 += bn_mul(x, (int32_t)(b << 28) >> 28);
            a1 += bn_mul(x, (int32_t)(b << 24) >> 28);
            a2 += bn_mul(x, (int32_t)(b << 20) >> 28);
            a3 += bn_mul(x, (int32_t)(b << 16) >> 28);
            p += step >> 1;
        }
    } else {
        for (i = 0u; i < slots; i++) {
            int32_t x = w[i];
            a0 += bn_mul(x, get_code(v, at));
            a1 += bn_mul(x, get_code(v, at + 1u));
            if (n == 4u) {
                a2 += bn_mul(x, get_code(v, at + 2u));
                a3 += bn_mul(x, get_code(v, at + 3u));
            }
            at += step;
        }
    }
    a[0] = a0;
    a[1] = a1;
    a[2] = a2;
    a[3] = a3;
}

/* steps 4 and 5: weights in place of the scores; returns their sum SE */
static uint64_t soften(const bitnet_ctx *c, const side *v, uint32_t kv, uint32_t slots, int32_t x)
{
    bn_i32 *t = (bn_i32 *)bn_at(c, c->scores);
    uint64_t sum = 0u;
    int32_t top = t[0];
    uint32_t i;
    for (i = 1u; i < slots; i++) {
        if (t[i] > top) {
            top = t[i];
        }
    }
    for (i = 0u; i < slots; i++) {
        uint32_t e = bn_exp2n(c->exp2_table, (uint32_t)top - (uint32_t)t[i]);
        uint32_t head = i * c->kv_heads + kv;
#if BITNET_WITH_WINDOWS
        if (t[i] == HIDDEN) {
            t[i] = 0;
            continue;
        }
#endif
        sum += e;
        t[i] = bn_narrow(bn_mul((int32_t)e, (int32_t)v->m[head]), 31u + (uint32_t)(x - v->e[head]));
    }
    return sum;
}

void bn_attend(bitnet_ctx *c, const uint32_t *op, uint32_t layer)
{
    const bitnet_register *src = &c->reg[op[OP_A]];
    bitnet_register *dst = &c->reg[op[OP_DST]];
    uint32_t d = c->head_dim;
    uint32_t rolled = (uint32_t)(c->position >= c->window);
    uint32_t slots = c->encoder != 0u ? c->tokens : (rolled != 0u ? c->window : c->position + 1u);
    rotation now = rotation_of(c, op[OP_T0], 0u);
    rotation last = rotation_of(c, op[OP_T0], (uint32_t)(rolled != 0u && c->sinks != 0u));
    bn_i32 *qa = (bn_i32 *)bn_at(c, c->query);
    bn_i32 *qs = (bn_i32 *)bn_at(c, c->query_sink);
    bn_i32 *t = (bn_i32 *)bn_at(c, c->scores);
    side keys = side_of(c, layer, 0u);
    side values = side_of(c, layer, 1u);
    bitnet_scale factor = bn_scale_at(op + OP_P0);
    static_keys sk;
    int32_t x = BN_ZERO_EXP;
    uint32_t h;
    uint32_t i;
    uint32_t j;
    uint32_t kv = 0u;
    uint32_t part = 0u; /* h * KV - kv * H */
    sk.centre = (const bn_i32 *)0;
    sk.inv_m = (const bn_word *)0;
    sk.key_m = (const bn_word *)0;
    sk.inv_h = (const uint8_t *)0;
    sk.key_h = (const uint8_t *)0;
    sk.scale = factor;
    if (c->static_keys != 0u) {
        sk = static_keys_of(c, op[OP_T1]);
    }
    for (i = 0u; i < slots * c->kv_heads; i++) {
        if (values.e[i] > x) {
            x = values.e[i];
        }
    }
    for (h = 0u; h < c->heads; h++) {
        const bn_i32 *q = bn_vec(c, src) + h * d;
        bn_i32 *y = bn_vec(c, dst) + h * d;
        query a = prepare(c, q, &now, src->scale, factor, &sk, kv * d, qa);
        uint32_t from = 0u;
        uint64_t sum;
        uint32_t z;
        bn_factor f;
        if (rolled != 0u && c->sinks != 0u) {
            query s = prepare(c, q, &last, src->scale, factor, &sk, kv * d, qs);
            from = c->sinks;
            score(c, op, &s, qs, &keys, &sk, kv, 0u, from);
            if (c->static_keys != 0u) {
                for (i = 0u; i < from; i++) {
                    if (t[i] != HIDDEN) {
                        t[i] = bn_sat((int64_t)t[i] + s.bias - a.bias);
                    }
                }
            }
        }
        score(c, op, &a, qa, &keys, &sk, kv, from, slots);
#if BITNET_WITH_CAPS || BITNET_WITH_SLOPES
        bend(c, op, h, slots);
#endif
        sum = soften(c, &values, kv, slots, x);
        z = bn_bitlen64(sum) + c->value_bits - 1u;
        z = z > 31u ? z - 31u : 0u;
        f = bn_factor_of(bn_exp_add(bn_inv(bn_norm(sum, 0)), (int32_t)z), 31 - (int32_t)c->value_bits);
        for (j = 0u; j < d; j += 4u) {
            int64_t acc[4];
            uint32_t n = d - j >= 4u ? 4u : 2u; /* head_dim is even */
            weigh(c, &values, kv, j, n, slots, acc);
            for (i = 0u; i < n; i++) {
                y[j + i] = bn_times(bn_sat(bn_rsr64(acc[i], z)), f);
            }
        }
        part += c->kv_heads;
        if (part >= c->heads) {
            part -= c->heads;
            kv += 1u;
        }
    }
    dst->length = c->heads * d;
    dst->scale = bn_scale(0x40000000u, x + (int32_t)c->value_bits - 30);
}
