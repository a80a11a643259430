/*
 * bitnet_check.c - reads the program section and refuses every program that
 * could make a later operation leave its memory or its number range.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#define MAX_OPS 65536u
#define MAX_TENSORS 65536u
#define MAX_LAYERS 1024u
#define MAX_LENGTH 1048576u /* elements of a vector, columns, vocabulary */
#define MAX_NORM 32768u
#define MAX_WINDOW 131072u
#define MAX_HEAD_DIM 256u

/* ---- program section ------------------------------------------------------ */

static uint32_t mantissa_ok(uint32_t m) { return (uint32_t)(m >= 0x40000000u && m <= 0x7FFFFFFFu); }

static uint32_t scale_ok(uint32_t m, uint32_t e_word)
{
    int32_t e = (int32_t)e_word;
    return (uint32_t)(mantissa_ok(m) != 0u && e >= -4096 && e <= 4095);
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
    c->key_frac_bits = w[17];
    c->lut_bytes = w[25];
    if (w[1] < 1u || w[1] > MAX_OPS || w[2] > w[1] || w[3] < 1u || w[3] > MAX_TENSORS || w[4] < 1u ||
        w[4] > BITNET_MAX_REGISTERS || w[5] < 1u || w[5] > MAX_LENGTH || w[6] < 1u || w[6] > MAX_LENGTH ||
        w[7] > MAX_LAYERS) {
        return BITNET_E_FORMAT;
    }
    if (w[8] < 1u || w[8] > MAX_LENGTH || w[9] < 1u || w[9] > w[8] || w[10] < 2u || w[10] > MAX_HEAD_DIM ||
        (w[10] & 1u) != 0u || bn_mulu(w[8], w[10]) > MAX_LENGTH || w[11] > 28u || w[12] < 1u || w[12] > MAX_WINDOW ||
        w[13] >= w[12]) {
        return BITNET_E_FORMAT;
    }
    { /* kv heads divides heads: subtract shifted multiples */
        uint32_t rest = w[8];
        for (i = 20u; i > 0u; i--) {
            uint32_t step = w[9] << (i - 1u);
            if (bn_bitlen(w[9]) + i <= 32u && rest >= step) {
                rest -= step;
            }
        }
        if (rest != 0u) {
            return BITNET_E_FORMAT;
        }
    }
    if (bn_width_ok(w[14]) == 0u || bn_width_ok(w[15]) == 0u || (w[16] & ~1u) != 0u ||
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
    for (i = 26u; i < 32u; i++) {
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

static bitnet_status check_tensor(const bitnet_ctx *c, const uint32_t *t)
{
    uint32_t rows = t[T_ROWS];
    uint32_t cols = t[T_COLS];
    uint32_t mode = t[T_SCALES];
    uint32_t stride;
    uint32_t matrix = (uint32_t)(t[T_KIND] <= (uint32_t)BN_INT16);
    uint64_t bytes;
    if (t[T_KIND] < 1u || t[T_KIND] > (uint32_t)BN_STATIC_KEYS || rows < 1u || rows > MAX_LENGTH || cols < 1u ||
        cols > MAX_LENGTH) {
        return BITNET_E_FORMAT;
    }
    switch (t[T_KIND]) {
    case BN_BINARY: stride = ((cols + 31u) >> 5) * 4u; break;
    case BN_TERNARY: stride = ((cols + 31u) >> 5) * 8u; break;
    case BN_INT8: stride = (cols + 3u) & ~3u; break;
    case BN_INT16: stride = (2u * cols + 3u) & ~3u; break;
    case BN_GAMMA: stride = 4u * cols; break;
    case BN_FREQ: stride = 4u * cols; break;
    default: stride = 0u; break;
    }
    if (t[T_STRIDE] != stride) {
        return BITNET_E_FORMAT;
    }
    if (t[T_KIND] == (uint32_t)BN_STATIC_KEYS) {
        if (rows != c->kv_heads || cols != c->head_dim || mode != 1u) {
            return BITNET_E_FORMAT;
        }
        bytes = bn_mulu(rows * cols, 14u);
    } else {
        bytes = bn_mulu(rows, stride);
    }
    if (range_ok(c, t + T_DATA, bytes) == 0u) {
        return BITNET_E_FORMAT;
    }
    if (matrix == 0u && t[T_KIND] != (uint32_t)BN_STATIC_KEYS) {
        if (rows != 1u || mode != 0u) {
            return BITNET_E_FORMAT;
        }
        if (t[T_KIND] == (uint32_t)BN_FREQ
                ? (cols + cols != c->head_dim || t[T_M] != 0u || t[T_E] != 0u)
                : (t[T_M] != 0x40000000u || scale_ok(t[T_M], t[T_E]) == 0u)) {
            return BITNET_E_FORMAT;
        }
    } else if (scale_ok(t[T_M], t[T_E]) == 0u || mode < 1u || mode > 3u || (mode > 1u && t[T_M] != 0x40000000u) ||
               (mode == 3u && t[T_KIND] > (uint32_t)BN_TERNARY)) {
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
    return t[T_KIND] == (uint32_t)BN_STATIC_KEYS ? check_static_keys(c, t) : BITNET_OK;
}

void bn_tensor_get(const bitnet_ctx *c, uint32_t index, bn_tensor *t)
{
    const uint32_t *w = c->tensors + index * (uint32_t)BN_TENSOR_WORDS;
    t->kind = w[T_KIND];
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

/* ---- following the lengths through the operations ------------------------- */

typedef struct {
    const bitnet_ctx *c;
    uint32_t length[BITNET_MAX_REGISTERS]; /* 0: not written yet */
    int32_t qmax[BITNET_MAX_REGISTERS];    /* 0: not codes */
    uint32_t residual;                     /* register, BN_NONE before EMBED */
    uint32_t layer;                        /* the last one seen, BN_NONE before the first */
    uint32_t kv_state;                     /* of this layer: 0 nothing, 1 KVWRITE seen, 2 ATTEND seen */
    uint32_t planes_cols;                  /* largest cols of an operation with hint 1 */
} follow;

/* which fields an operation names: bit 0 dst, 1 a, 2 b, 3 t0; and its number of parameters */
static const uint8_t op_names[11] = { 0u, 9u, 11u, 3u, 11u, 3u, 14u, 11u, 7u, 7u, 2u };
static const uint8_t op_params[11] = { 0u, 0u, 2u, 5u, 1u, 0u, 0u, 2u, 0u, 0u, 0u };

static bitnet_status check_op_fields(const follow *f, const uint32_t *op, uint32_t code)
{
    const bitnet_ctx *c = f->c;
    uint32_t i;
    uint32_t wants_t1 = (uint32_t)((code == (uint32_t)BN_KVWRITE || code == (uint32_t)BN_ATTEND) && c->static_keys != 0u);
    for (i = 0u; i < 3u; i++) {
        uint32_t r = op[OP_DST + i];
        if (((uint32_t)op_names[code] >> i & 1u) != 0u ? r >= c->n_registers : r != BN_NONE) {
            return BITNET_E_FORMAT;
        }
    }
    if ((op_names[code] & 8u) != 0u ? op[OP_T0] >= c->n_tensors : op[OP_T0] != BN_NONE) {
        return BITNET_E_FORMAT;
    }
    if (wants_t1 != 0u ? op[OP_T1] >= c->n_tensors : op[OP_T1] != BN_NONE) {
        return BITNET_E_FORMAT;
    }
    if (wants_t1 != 0u && c->tensors[op[OP_T1] * (uint32_t)BN_TENSOR_WORDS + T_KIND] != (uint32_t)BN_STATIC_KEYS) {
        return BITNET_E_FORMAT;
    }
    for (i = op_params[code]; i < 6u; i++) {
        if (op[OP_P0 + i] != 0u) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* a register read as a vector of n elements (0: any) */
static uint32_t reads(const follow *f, uint32_t r, uint32_t n)
{
    return (uint32_t)(f->length[r] != 0u && f->qmax[r] == 0 && (n == 0u || f->length[r] == n));
}

/* a register written; q: 0 for a vector, else Qmax of codes */
static bitnet_status writes(follow *f, uint32_t r, uint32_t n, uint32_t q, uint32_t is_residual)
{
    uint32_t kind = f->c->registers[2u * r];
    if ((uint32_t)(r == f->residual) != is_residual) {
        return BITNET_E_FORMAT;
    }
    if (q == 0u ? kind != (uint32_t)BN_REG_I32 : (kind == (uint32_t)BN_REG_I32 || (kind == (uint32_t)BN_REG_I8 && q > 127u))) {
        return BITNET_E_FORMAT;
    }
    if (n > f->c->registers[2u * r + 1u]) {
        return BITNET_E_CAPACITY;
    }
    f->length[r] = n;
    f->qmax[r] = (int32_t)q;
    return BITNET_OK;
}

static bitnet_status check_quantize(follow *f, const uint32_t *op)
{
    int32_t lo = (int32_t)op[OP_P0 + 1];
    int32_t hi = (int32_t)op[OP_P0 + 2];
    uint32_t q = op[OP_P0];
    if (q < 1u || q > 32767u || lo > 0 || hi < 0 || lo < -(int32_t)q - 1 || hi > (int32_t)q ||
        scale_ok(op[OP_P0 + 3], op[OP_P0 + 4]) == 0u || reads(f, op[OP_A], 0u) == 0u) {
        return BITNET_E_FORMAT;
    }
    return writes(f, op[OP_DST], f->length[op[OP_A]], q, 0u);
}

static bitnet_status check_op(follow *f, const uint32_t *op, uint32_t index)
{
    const bitnet_ctx *c = f->c;
    uint32_t code = op[OP_CODE] & 0xFFu;
    uint32_t layer = op[OP_CODE] >> 8;
    uint32_t a = op[OP_A];
    uint32_t b = op[OP_B];
    uint32_t dst = op[OP_DST];
    const uint32_t *t;
    bitnet_status st;
    if (code < 1u || code > (uint32_t)BN_LOGITS) {
        return BITNET_E_FORMAT;
    }
    if (layer == BN_NO_LAYER) {
        if (f->layer != BN_NONE && index < c->head_op) { /* belongs to no checksum of the golden trace */
            return BITNET_E_FORMAT;
        }
    } else if (layer >= c->layers || index >= c->head_op) {
        return BITNET_E_FORMAT;
    } else if (f->layer == BN_NONE || layer != f->layer) {
        if (f->layer == BN_NONE ? layer != 0u : (layer != f->layer + 1u || f->kv_state != 2u)) {
            return BITNET_E_FORMAT;
        }
        f->layer = layer;
        f->kv_state = 0u;
    }
    st = check_op_fields(f, op, code);
    if (st != BITNET_OK) {
        return st;
    }
    if ((code == (uint32_t)BN_EMBED) != (index == 0u) || (code == (uint32_t)BN_LOGITS) != (index == c->n_ops - 1u)) {
        return BITNET_E_FORMAT;
    }
    if (index >= c->head_op && (code == (uint32_t)BN_EMBED || code == (uint32_t)BN_ADD || code == (uint32_t)BN_KVWRITE ||
                                code == (uint32_t)BN_ATTEND)) {
        return BITNET_E_FORMAT;
    }
    t = c->tensors + (op[OP_T0] == BN_NONE ? 0u : op[OP_T0]) * (uint32_t)BN_TENSOR_WORDS;
    switch (code) {
    case BN_EMBED:
        if ((t[T_KIND] != (uint32_t)BN_INT8 && t[T_KIND] != (uint32_t)BN_INT16) || t[T_ROWS] != c->vocab ||
            t[T_COLS] != c->d_model || t[T_SCALES] != 2u) {
            return BITNET_E_FORMAT;
        }
        f->residual = dst;
        return writes(f, dst, c->d_model, 0u, 1u);
    case BN_RMSNORM:
        if (reads(f, a, 0u) == 0u || f->length[a] > MAX_NORM || t[T_KIND] != (uint32_t)BN_GAMMA ||
            t[T_COLS] != f->length[a] || scale_ok(op[OP_P0], op[OP_P0 + 1]) == 0u) {
            return BITNET_E_FORMAT;
        }
        return writes(f, dst, f->length[a], 0u, 0u);
    case BN_QUANTIZE:
        return check_quantize(f, op);
    case BN_LINEAR:
        if (f->qmax[a] == 0 || t[T_KIND] > (uint32_t)BN_INT16 || t[T_COLS] != f->length[a] ||
            op[OP_P0] > (uint32_t)BN_HINT_LUT) {
            return BITNET_E_FORMAT;
        }
        if (op[OP_P0] != (uint32_t)BN_HINT_SELECT &&
            (t[T_KIND] > (uint32_t)BN_TERNARY || (op[OP_P0] == (uint32_t)BN_HINT_PLANES ? f->qmax[a] != 2 : f->qmax[a] > 127 || c->lut_bytes == 0u))) {
            return BITNET_E_FORMAT; /* a hint must suit codes and matrix */
        }
        if (op[OP_P0] == (uint32_t)BN_HINT_PLANES && t[T_COLS] > f->planes_cols) {
            f->planes_cols = t[T_COLS];
        }
        return writes(f, dst, t[T_ROWS], 0u, 0u);
    case BN_ADD:
        if (reads(f, a, c->d_model) == 0u || a == dst) {
            return BITNET_E_FORMAT;
        }
        return writes(f, dst, c->d_model, 0u, 1u);
    case BN_KVWRITE:
        if (layer == BN_NO_LAYER || f->kv_state != 0u || a == b || a == f->residual || b == f->residual ||
            reads(f, a, c->kv_heads * c->head_dim) == 0u || reads(f, b, c->kv_heads * c->head_dim) == 0u || t[T_KIND] != (uint32_t)BN_FREQ) {
            return BITNET_E_FORMAT;
        }
        f->kv_state = 1u;
        return BITNET_OK;
    case BN_ATTEND:
        if (layer == BN_NO_LAYER || f->kv_state != 1u || reads(f, a, c->heads * c->head_dim) == 0u || a == dst ||
            t[T_KIND] != (uint32_t)BN_FREQ || scale_ok(op[OP_P0], op[OP_P0 + 1]) == 0u) {
            return BITNET_E_FORMAT;
        }
        f->kv_state = 2u;
        return writes(f, dst, c->heads * c->head_dim, 0u, 0u);
    case BN_RELU2MUL:
    case BN_SILUMUL:
        if (reads(f, a, 0u) == 0u || reads(f, b, f->length[a]) == 0u) {
            return BITNET_E_FORMAT;
        }
        return writes(f, dst, f->length[a], 0u, 0u);
    default: /* BN_LOGITS */
        return reads(f, a, c->vocab) != 0u ? BITNET_OK : BITNET_E_FORMAT;
    }
}

bitnet_status bn_check_program(bitnet_ctx *c, uint32_t *planes_cols)
{
    follow f;
    uint32_t i;
    bitnet_status st;
    f.c = c;
    f.residual = BN_NONE;
    f.layer = BN_NONE;
    f.kv_state = 2u;
    f.planes_cols = 0u;
    for (i = 0u; i < BITNET_MAX_REGISTERS; i++) {
        f.length[i] = 0u;
        f.qmax[i] = 0;
    }
    for (i = 0u; i < c->n_registers; i++) {
        if (c->registers[2u * i] > 2u || c->registers[2u * i + 1u] < 1u || c->registers[2u * i + 1u] > MAX_LENGTH) {
            return BITNET_E_FORMAT;
        }
    }
    for (i = 0u; i < c->n_tensors; i++) {
        st = check_tensor(c, c->tensors + i * (uint32_t)BN_TENSOR_WORDS);
        if (st != BITNET_OK) {
            return st;
        }
    }
    for (i = 0u; i < c->n_ops; i++) {
        st = check_op(&f, bn_op(c, i), i);
        if (st != BITNET_OK) {
            return st;
        }
    }
    if (f.layer == BN_NONE ? c->layers != 0u : (f.layer != c->layers - 1u || f.kv_state != 2u)) {
        return BITNET_E_FORMAT;
    }
    *planes_cols = f.planes_cols;
    return BITNET_OK;
}

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
        if (left < 2u || w[0] < 1u || w[1] < w[0] || w[1] > 65536u) {
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
