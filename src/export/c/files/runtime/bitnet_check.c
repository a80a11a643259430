/*
 * bitnet_check.c - reads the program section and refuses every header, tensor
 * and golden trace that could make a later operation leave its memory or its
 * number range.  The operations are in bitnet_follow.c.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#define MAX_OPS 65536u
#define MAX_TENSORS 65536u
#define MAX_LAYERS 1024u
#define MAX_LENGTH 1048576u /* elements of a vector, columns, vocabulary */
#define MAX_WINDOW 131072u
#define MAX_HEAD_DIM 256u

/* ---- program section ------------------------------------------------------ */

static uint32_t mantissa_ok(uint32_t m) { return (uint32_t)(m >= 0x40000000u && m <= 0x7FFFFFFFu); }

uint32_t bn_scale_ok(uint32_t m, uint32_t e_word)
{
    int32_t e = (int32_t)e_word;
    return (uint32_t)(mantissa_ok(m) != 0u && e >= -4096 && e <= 4095);
}

uint32_t bn_divides(uint32_t d, uint32_t n)
{
    uint32_t i;
    for (i = 21u; i > 0u; i--) { /* subtract shifted multiples */
        uint32_t step = d << (i - 1u);
        if (bn_bitlen(d) + i <= 32u && n >= step) {
            n -= step;
        }
    }
    return (uint32_t)(n == 0u);
}

bitnet_status bn_read_head(bitnet_ctx *c, const uint32_t *w, uint32_t n_words)
{
    uint32_t i;
    uint64_t want;
    if (n_words < (uint32_t)BN_HEAD_WORDS) {
        return BITNET_E_FORMAT;
    }
    if (w[0] != 1u) {
        return BITNET_E_VERSION;
    }
    c->program = w;
    c->n_ops = w[1];
    c->head_op = w[2];
    c->n_tensors = w[3];
    c->n_registers = w[4];
    c->vocab = w[5];
    c->d_model = w[6];
    c->layers = w[7];
    c->heads = w[8];
    c->kv_heads = w[9];
    c->head_dim = w[10];
    c->frac_bits = w[11];
    c->window = w[12];
    c->sinks = w[13];
    c->key_bits = w[14];
    c->value_bits = w[15];
    c->static_keys = w[16] & 1u;
    c->encoder = w[16] >> 1 & 1u;
    c->key_frac_bits = w[17];
    c->lut_bytes = w[25];
    c->positions = w[26];
    if (w[1] < 1u || w[1] > MAX_OPS || w[2] >= w[1] || w[3] < 1u || w[3] > MAX_TENSORS || w[4] < 1u ||
        w[4] > BITNET_MAX_REGISTERS || w[5] < 1u || w[5] > MAX_LENGTH || w[6] < 1u || w[6] > MAX_LENGTH ||
        w[7] < 1u || w[7] > MAX_LAYERS) {
        return BITNET_E_FORMAT;
    }
    if (w[8] < 1u || w[8] > MAX_LENGTH || w[9] < 1u || w[9] > w[8] || w[10] < 2u || w[10] > MAX_HEAD_DIM ||
        (w[10] & 1u) != 0u || bn_mulu(w[8], w[10]) > MAX_LENGTH || w[11] > 28u || w[12] < 1u || w[12] > MAX_WINDOW ||
        w[13] >= w[12]) {
        return BITNET_E_FORMAT;
    }
    if (bn_divides(w[9], w[8]) == 0u) {
        return BITNET_E_FORMAT;
    }
    if (bn_width_ok(w[14]) == 0u || bn_width_ok(w[15]) == 0u || (w[16] & ~3u) != 0u ||
        (c->static_keys != 0u && w[14] != 4u) || w[17] > 28u || w[18] > 4u) {
        return BITNET_E_FORMAT;
    }
    for (i = 0u; i < 4u; i++) {
        if (i < w[18] ? w[19u + i] >= w[5] : w[19u + i] != 0u) {
            return BITNET_E_FORMAT;
        }
    }
    if ((w[23] != BITNET_NO_ID && w[23] >= w[5]) || (w[25] & 511u) != 0u) {
        return BITNET_E_FORMAT;
    }
    if (w[26] > MAX_LENGTH ||
        (c->encoder != 0u && (w[13] != 0u || c->static_keys != 0u || (w[26] != 0u && w[26] < w[12])))) {
        return BITNET_E_FORMAT;
    }
    if (w[29] > (c->encoder != 0u ? 0u : 1u)) { /* room for paired tokens */
        return BITNET_E_FORMAT;
    }
    for (i = 30u; i < 32u; i++) {
        if (w[i] != 0u) {
            return BITNET_E_FORMAT;
        }
    }
    c->registers = w + BN_HEAD_WORDS;
    c->ops = c->registers + 2u * c->n_registers;
    want = (uint64_t)((uint32_t)BN_HEAD_WORDS + 2u * w[4] + (uint32_t)BN_OP_WORDS * w[1] +
                      (uint32_t)BN_TENSOR_WORDS * w[3]);
    if (want != n_words) {
        return BITNET_E_FORMAT;
    }
    c->tensors = c->ops + (uint32_t)BN_OP_WORDS * c->n_ops;
    return BITNET_OK;
}

/* offset and length (two words each) inside the weights section */
static uint32_t range_ok(const bitnet_ctx *c, const uint32_t *w, uint64_t want)
{
    if (w[1] != 0u || w[3] != 0u || (w[0] & 15u) != 0u || want != w[2]) {
        return 0u;
    }
    return (uint32_t)(w[0] <= c->weights_bytes && w[2] <= c->weights_bytes - w[0]);
}

static uint32_t group_count(uint32_t cols, uint32_t group)
{
    uint32_t n = 0u;
    uint32_t at = 0u;
    while (at < cols) { /* at most cols / 32 rounds */
        n += 1u;
        at += group;
    }
    return n;
}

static bitnet_status check_static_keys(const bitnet_ctx *c, const uint32_t *t)
{
    uint32_t n = t[T_ROWS] * t[T_COLS];
    const bn_word *v = (const bn_word *)(const void *)(c->weights + t[T_DATA]);
    const uint8_t *h = c->weights + t[T_DATA] + 12u * n;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        if (bn_abs((int32_t)v[i]) > 0x1000000u || mantissa_ok(v[n + i]) == 0u || mantissa_ok(v[2u * n + i]) == 0u ||
            h[i] > 62u || h[n + i] > 63u) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* the scale of frequencies: none, or at most 1 */
static uint32_t unit_scale_ok(uint32_t m, uint32_t e_word)
{
    int32_t e = (int32_t)e_word;
    return (uint32_t)(m == 0u ? e == 0 : (bn_scale_ok(m, e_word) != 0u && (e < -30 || (e == -30 && m == 0x40000000u))));
}

/* rows in groups of four, bytes side by side */
static uint32_t order_ok(uint32_t kind, uint32_t order)
{
    switch (kind) {
    case BN_BINARY:
    case BN_TERNARY5: return (uint32_t)(order <= (uint32_t)BN_QUADS);
    case BN_PLANES4: return (uint32_t)(order == (uint32_t)BN_QUADS);
    default: return (uint32_t)(order == (uint32_t)BN_ROWS);
    }
}

static uint32_t kind_compiled(uint32_t kind)
{
    switch (kind) {
    case BN_TERNARY5: return BITNET_KIND_TERNARY5;
    case BN_INT4: return BITNET_KIND_INT4;
    case BN_PLANES4: return BITNET_KIND_PLANES4;
    default: return 1u;
    }
}

static bitnet_status check_tensor(const bitnet_ctx *c, const uint32_t *t)
{
    uint32_t rows = t[T_ROWS];
    uint32_t cols = t[T_COLS];
    uint32_t mode = t[T_SCALES];
    uint32_t stride;
    uint32_t kind = bn_kind(t);
    uint32_t order = bn_order(t);
    uint32_t matrix = bn_is_matrix(kind);
    uint64_t bytes;
    if (kind < 1u || kind > (uint32_t)BN_PLANES4 || rows < 1u || rows > MAX_LENGTH || cols < 1u || cols > MAX_LENGTH ||
        order_ok(kind, order) == 0u) {
        return BITNET_E_FORMAT;
    }
    if (kind_compiled(kind) == 0u) {
        return BITNET_E_FEATURE;
    }
    switch (kind) {
    case BN_BINARY: stride = order == (uint32_t)BN_QUADS ? (cols + 7u) >> 3 : ((cols + 31u) >> 5) * 4u; break;
    case BN_TERNARY: stride = ((cols + 31u) >> 5) * 8u; break;
    case BN_INT8: stride = (cols + 3u) & ~3u; break;
    case BN_INT16: stride = (2u * cols + 3u) & ~3u; break;
    case BN_VECTOR: stride = 4u * cols; break;
    case BN_FREQ: stride = 4u * cols; break;
    case BN_TERNARY5: stride = bn_fifth(cols + 4u); break;
    case BN_INT4: stride = (((cols + 1u) >> 1) + 3u) & ~3u; break;
    case BN_PLANES4: stride = ((cols + 7u) >> 3) * 4u; break;
    default: stride = 0u; break;
    }
    if (t[T_STRIDE] != stride) {
        return BITNET_E_FORMAT;
    }
    if (kind == (uint32_t)BN_STATIC_KEYS) {
        if (rows != c->kv_heads || cols != c->head_dim || mode != 1u) {
            return BITNET_E_FORMAT;
        }
        bytes = bn_mulu(rows * cols, 14u);
    } else {
        bytes = bn_mulu(order == (uint32_t)BN_QUADS ? (rows + 3u) & ~3u : rows, stride);
    }
    if (range_ok(c, t + T_DATA, bytes) == 0u) {
        return BITNET_E_FORMAT;
    }
    if (matrix == 0u && kind != (uint32_t)BN_STATIC_KEYS) {
        if (rows != 1u || mode != 0u) {
            return BITNET_E_FORMAT;
        }
        if (kind == (uint32_t)BN_FREQ
                ? (cols + cols > c->head_dim || unit_scale_ok(t[T_M], t[T_E]) == 0u)
                : (t[T_M] != 0x40000000u || bn_scale_ok(t[T_M], t[T_E]) == 0u)) {
            return BITNET_E_FORMAT;
        }
    } else if (bn_scale_ok(t[T_M], t[T_E]) == 0u || mode < 1u || mode > 3u || (mode > 1u && t[T_M] != 0x40000000u) ||
               (mode == 3u && kind > (uint32_t)BN_TERNARY)) {
        return BITNET_E_FORMAT;
    }
    if (mode == 3u ? ((t[T_GROUP] & 31u) != 0u || t[T_GROUP] == 0u || t[T_GROUP] > MAX_LENGTH) : t[T_GROUP] != 0u) {
        return BITNET_E_FORMAT;
    }
    if (mode < 2u) {
        if (t[T_SC] != 0u || t[T_SC_HI] != 0u || t[T_SC_BYTES] != 0u || t[T_SC_BYTES_HI] != 0u) {
            return BITNET_E_FORMAT;
        }
    } else {
        uint32_t groups = mode == 2u ? 1u : group_count(cols, t[T_GROUP]);
        uint64_t n = bn_mulu(rows, groups);
        const bn_word *m;
        const uint8_t *h;
        uint32_t i;
        if (bn_hi(n) != 0u || bn_lo(n) > 0x20000000u || range_ok(c, t + T_SC, bn_mulu(bn_lo(n), 5u)) == 0u) {
            return BITNET_E_FORMAT;
        }
        m = (const bn_word *)(const void *)(c->weights + t[T_SC]);
        h = c->weights + t[T_SC] + 4u * bn_lo(n);
        for (i = 0u; i < bn_lo(n); i++) {
            if (mantissa_ok(m[i]) == 0u || h[i] > 63u) {
                return BITNET_E_FORMAT;
            }
        }
    }
    return kind == (uint32_t)BN_STATIC_KEYS ? check_static_keys(c, t) : BITNET_OK;
}

void bn_tensor_get(const bitnet_ctx *c, uint32_t index, bn_tensor *t)
{
    const uint32_t *w = c->tensors + index * (uint32_t)BN_TENSOR_WORDS;
    t->kind = bn_kind(w);
    t->order = bn_order(w);
    t->rows = w[T_ROWS];
    t->cols = w[T_COLS];
    t->mode = w[T_SCALES];
    t->group = w[T_GROUP];
    t->groups = t->mode == 3u ? group_count(t->cols, t->group) : 1u;
    t->stride = w[T_STRIDE];
    t->scale.m = w[T_M];
    t->scale.e = (int32_t)w[T_E];
    t->data = c->weights + w[T_DATA];
    t->scale_m = (const bn_word *)(const void *)(c->weights + w[T_SC]);
    t->scale_h = t->mode < 2u ? c->weights : c->weights + w[T_SC] + 4u * t->rows * t->groups;
}

bitnet_status bn_check_tensors(const bitnet_ctx *c)
{
    uint32_t i;
    for (i = 0u; i < c->n_tensors; i++) {
        bitnet_status st = check_tensor(c, c->tensors + i * (uint32_t)BN_TENSOR_WORDS);
        if (st != BITNET_OK) {
            return st;
        }
    }
    return BITNET_OK;
}

/* ---- golden trace ------------------------------------------------------------ */

bitnet_status bn_check_golden(const bitnet_ctx *c)
{
    const uint32_t *w = c->golden;
    uint32_t left = c->golden_words;
    uint32_t i;
    uint32_t j;
    if (left < 4u || w[0] != 1u || w[1] > 64u || w[2] != c->layers || w[3] != 0u) {
        return BITNET_E_FORMAT;
    }
    left -= 4u;
    w += 4;
    for (i = 0u; i < c->golden[1]; i++) {
        uint64_t need;
        if (left < 2u || w[0] < 1u || w[1] < w[0] || w[1] > 65536u || (c->positions != 0u && w[1] > c->positions) ||
            (c->embeds != 0u && w[1] != w[0]) || (c->encoder != 0u && w[1] > c->window)) {
            return BITNET_E_FORMAT;
        }
        need = (uint64_t)2u + bn_mulu(w[1], c->layers + 3u);
        if (need > left) {
            return BITNET_E_FORMAT;
        }
        for (j = 0u; j < w[1]; j++) {
            if (w[2u + j] >= c->vocab) {
                return BITNET_E_FORMAT;
            }
        }
        left -= bn_lo(need);
        w += bn_lo(need);
    }
    return left == 0u ? BITNET_OK : BITNET_E_FORMAT;
}
