/*
 * bitnet_follow.c - follows lengths and kinds of registers through the
 * operations and refuses every program in which one does not fit.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#define MAX_LENGTH 1048576u /* elements of a register */
#define MAX_NORM 32768u

typedef struct {
    const bitnet_ctx *c;
    uint32_t length[BITNET_MAX_REGISTERS]; /* 0: not written yet */
    int32_t qmax[BITNET_MAX_REGISTERS];    /* 0: not codes */
    uint32_t residual;                     /* register, BN_NONE before EMBED */
    uint32_t layer;                        /* the last one seen, BN_NONE before the first */
    uint32_t kv_state;                     /* of this layer: 0 nothing, 1 KVWRITE seen, 2 ATTEND seen */
    uint32_t planes_cols;                  /* largest cols of an operation with hint 1 */
    uint32_t positions;                    /* POSITION operations seen */
} follow;

/* ---- one operation by itself --------------------------------------------------- */

/* which fields an operation names */
#define DST 1u
#define A 2u
#define B 4u
#define T0 8u
#define T0_ANY 16u /* or none */
#define T1_ANY 32u

static const struct {
    uint8_t fields, params, compiled;
} shapes[20] = {
    { 0u, 0u, 0u },
    { DST | T0, 2u, 1u },                         /* EMBED */
    { DST | A | T0, 2u, BITNET_OP_RMSNORM },
    { DST | A, 5u, 1u },                          /* QUANTIZE */
    { DST | A | T0, 1u, 1u },                     /* LINEAR */
    { DST | A, 2u, 1u },                          /* ADD */
    { A | B | T0_ANY, 0u, 1u },                   /* KVWRITE */
    { DST | A | T0_ANY, 6u, 1u },                 /* ATTEND */
    { DST | A | B, 0u, BITNET_OP_RELU2MUL },
    { DST | A | B, 0u, BITNET_OP_SILUMUL },
    { A, 4u, BITNET_OP_LOGITS },
    { DST | A | T0_ANY | T1_ANY, 4u, BITNET_OP_NORM },
    { DST | A | T0, 0u, BITNET_OP_BIAS },
    { DST | A | T0, 0u, BITNET_OP_GAIN },
    { DST | A, 1u, BITNET_OP_ACT },
    { DST | A | B, 1u, BITNET_OP_GATE },
    { DST | A, 0u, BITNET_OP_STORE },
    { DST | T0, 0u, BITNET_OP_POSITION },
    { DST | A | T0, 0u, BITNET_OP_ROPE },
    { A, 2u, BITNET_OP_EMBEDDING }
};

static const uint32_t *tensor(const follow *f, uint32_t index) { return f->c->tensors + index * (uint32_t)BN_TENSOR_WORDS; }

static uint32_t is_cache_op(uint32_t code) { return (uint32_t)(code == (uint32_t)BN_KVWRITE || code == (uint32_t)BN_ATTEND); }

static bitnet_status check_op_fields(const follow *f, const uint32_t *op, uint32_t code)
{
    const bitnet_ctx *c = f->c;
    uint32_t fields = shapes[code].fields;
    uint32_t keys = (uint32_t)(is_cache_op(code) != 0u && c->static_keys != 0u);
    uint32_t i;
    for (i = 0u; i < 3u; i++) {
        uint32_t r = op[OP_DST + i];
        if ((fields >> i & 1u) != 0u ? r >= c->n_registers : r != BN_NONE) {
            return BITNET_E_FORMAT;
        }
    }
    if (op[OP_T0] == BN_NONE ? (fields & T0) != 0u : ((fields & (T0 | T0_ANY)) == 0u || op[OP_T0] >= c->n_tensors)) {
        return BITNET_E_FORMAT;
    }
    if (op[OP_T1] == BN_NONE ? keys != 0u : (((fields & T1_ANY) == 0u && keys == 0u) || op[OP_T1] >= c->n_tensors)) {
        return BITNET_E_FORMAT;
    }
    if (keys != 0u && tensor(f, op[OP_T1])[T_KIND] != (uint32_t)BN_STATIC_KEYS) {
        return BITNET_E_FORMAT;
    }
    for (i = shapes[code].params; i < 6u; i++) {
        if (op[OP_P0 + i] != 0u) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* a scale that may be left out; with: whether that option is compiled */
static bitnet_status check_option(const uint32_t *w, uint32_t with)
{
    if (w[0] == 0u && w[1] == 0u) {
        return BITNET_OK;
    }
    if (bn_scale_ok(w[0], w[1]) == 0u) {
        return BITNET_E_FORMAT;
    }
    return with != 0u ? BITNET_OK : BITNET_E_FEATURE;
}

/* ---- registers ------------------------------------------------------------------ */

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

/* ---- tensors of operations -------------------------------------------------------- */

/* t0 of EMBED and POSITION */
static bitnet_status check_table(const follow *f, const uint32_t *t, uint32_t rows)
{
    uint32_t kind = bn_kind(t);
    if (bn_is_matrix(kind) == 0u || t[T_ROWS] != rows || t[T_COLS] != f->c->d_model) {
        return BITNET_E_FORMAT;
    }
    return BITNET_WITH_TABLES || ((kind == (uint32_t)BN_INT8 || kind == (uint32_t)BN_INT16) && t[T_SCALES] == 2u)
               ? BITNET_OK
               : BITNET_E_FEATURE;
}

/* frequencies, which KVWRITE and ATTEND may do without */
static bitnet_status check_frequencies(const follow *f, uint32_t index)
{
    const uint32_t *t = tensor(f, index == BN_NONE ? 0u : index);
    if (index != BN_NONE && t[T_KIND] != (uint32_t)BN_FREQ) {
        return BITNET_E_FORMAT;
    }
    if (BITNET_WITH_PARTIAL || (index != BN_NONE && t[T_COLS] + t[T_COLS] == f->c->head_dim && t[T_M] == 0u)) {
        return BITNET_OK;
    }
    return BITNET_E_FEATURE;
}

/* a vector of n elements; g: or of that many */
static uint32_t is_vector(const uint32_t *t, uint32_t n, uint32_t g)
{
    return (uint32_t)(t[T_KIND] == (uint32_t)BN_VECTOR && (t[T_COLS] == n || t[T_COLS] == g));
}

/* ---- operations --------------------------------------------------------------------- */

static bitnet_status check_quantize(follow *f, const uint32_t *op)
{
    int32_t lo = (int32_t)op[OP_P0 + 1];
    int32_t hi = (int32_t)op[OP_P0 + 2];
    uint32_t q = op[OP_P0];
    if (q < 1u || q > 32767u || lo > 0 || hi < 0 || lo < -(int32_t)q - 1 || hi > (int32_t)q ||
        bn_scale_ok(op[OP_P0 + 3], op[OP_P0 + 4]) == 0u || reads(f, op[OP_A], 0u) == 0u) {
        return BITNET_E_FORMAT;
    }
    return writes(f, op[OP_DST], f->length[op[OP_A]], q, 0u);
}

static bitnet_status check_linear(follow *f, const uint32_t *op, const uint32_t *t)
{
    uint32_t a = op[OP_A];
    uint32_t hint = op[OP_P0];
    uint32_t kind = bn_kind(t);
    if (f->qmax[a] == 0 || bn_is_matrix(kind) == 0u || t[T_COLS] != f->length[a]) {
        return BITNET_E_FORMAT;
    }
    switch (hint) { /* must suit codes and matrix */
    case BN_HINT_SELECT: break;
    case BN_HINT_PLANES:
        if (kind > (uint32_t)BN_TERNARY || bn_order(t) != (uint32_t)BN_ROWS || f->qmax[a] != 2) {
            return BITNET_E_FORMAT;
        }
        if (!BITNET_KERNEL_PLANES) {
            return BITNET_E_FEATURE;
        }
        if (t[T_COLS] > f->planes_cols) {
            f->planes_cols = t[T_COLS];
        }
        break;
    case BN_HINT_TABLES:
        if (bn_order(t) != (uint32_t)BN_QUADS || f->qmax[a] > 127 || f->c->lut_bytes == 0u) {
            return BITNET_E_FORMAT;
        }
        if (!BITNET_KERNEL_LOOKUP) {
            return BITNET_E_FEATURE;
        }
        break;
    default: return BITNET_E_FORMAT;
    }
    if (!BITNET_WITH_WIDE && bn_sum_bits((uint32_t)f->qmax[a], kind, t[T_COLS]) > 30u) {
        return BITNET_E_FEATURE;
    }
    return writes(f, op[OP_DST], t[T_ROWS], 0u, 0u);
}

#if BITNET_OP_NORM

static bitnet_status check_norm(follow *f, const uint32_t *op)
{
    uint32_t n = f->length[op[OP_A]];
    uint32_t g = op[OP_P0 + 2];
    if (reads(f, op[OP_A], 0u) == 0u || n > MAX_NORM || g < 1u || g > n || bn_divides(g, n) == 0u || op[OP_P0 + 3] > 1u ||
        bn_scale_ok(op[OP_P0], op[OP_P0 + 1]) == 0u || (op[OP_T0] != BN_NONE && is_vector(tensor(f, op[OP_T0]), n, g) == 0u) ||
        (op[OP_T1] != BN_NONE && is_vector(tensor(f, op[OP_T1]), n, g) == 0u)) {
        return BITNET_E_FORMAT;
    }
    return writes(f, op[OP_DST], n, 0u, 0u);
}

#endif

#if BITNET_OP_ACT || BITNET_OP_GATE

/* ACT and GATE */
static bitnet_status check_act(follow *f, const uint32_t *op, uint32_t gate)
{
    uint32_t kind = op[OP_P0];
    uint32_t n = f->length[op[OP_A]];
    if (kind < 1u || kind > (uint32_t)BN_TANH || reads(f, op[OP_A], 0u) == 0u ||
        (gate != 0u && (op[OP_DST] == op[OP_B] || reads(f, op[OP_B], n) == 0u))) {
        return BITNET_E_FORMAT;
    }
    return (BITNET_KINDS >> kind & 1u) != 0u ? writes(f, op[OP_DST], n, 0u, 0u) : BITNET_E_FEATURE;
}

#endif

static bitnet_status check_kvwrite(follow *f, const uint32_t *op)
{
    const bitnet_ctx *c = f->c;
    uint32_t row = c->kv_heads * c->head_dim;
    uint32_t a = op[OP_A];
    uint32_t b = op[OP_B];
    uint32_t i;
    if (op[OP_CODE] >> 8 == BN_NO_LAYER || f->kv_state != 0u || a == b || a == f->residual || b == f->residual ||
        reads(f, a, row) == 0u || reads(f, b, row) == 0u) {
        return BITNET_E_FORMAT;
    }
    f->kv_state = 1u;
    for (i = 0u; c->encoder != 0u && i < BITNET_MAX_REGISTERS; i++) { /* the next pass has the residual only */
        if (i != f->residual) {
            f->length[i] = 0u;
            f->qmax[i] = 0;
        }
    }
    return check_frequencies(f, op[OP_T0]);
}

static bitnet_status check_attend(follow *f, const uint32_t *op)
{
    const bitnet_ctx *c = f->c;
    uint32_t n = c->heads * c->head_dim;
    uint32_t window = op[OP_P0 + 2];
    uint32_t cap = op[OP_P0 + 3];
    uint32_t slopes = op[OP_P0 + 5];
    bitnet_status st;
    if (op[OP_CODE] >> 8 == BN_NO_LAYER || f->kv_state != 1u || reads(f, op[OP_A], n) == 0u || op[OP_A] == op[OP_DST] ||
        bn_scale_ok(op[OP_P0], op[OP_P0 + 1]) == 0u || (c->encoder != 0u && window != 0u) ||
        (c->static_keys != 0u && cap != 0u) || slopes > c->n_tensors ||
        (slopes != 0u && is_vector(tensor(f, slopes - 1u), c->heads, c->heads) == 0u)) {
        return BITNET_E_FORMAT;
    }
    if ((window != 0u && !BITNET_WITH_WINDOWS) || (slopes != 0u && !BITNET_WITH_SLOPES)) {
        return BITNET_E_FEATURE;
    }
    f->kv_state = 2u;
    st = check_option(op + OP_P0 + 3, BITNET_WITH_CAPS);
    if (st == BITNET_OK) {
        st = check_frequencies(f, op[OP_T0]);
    }
    return st == BITNET_OK ? writes(f, op[OP_DST], n, 0u, 0u) : st;
}

static bitnet_status check_logits(const follow *f, const uint32_t *op)
{
    bitnet_status st = check_option(op + OP_P0, BITNET_WITH_FACTORS);
    if (reads(f, op[OP_A], f->c->vocab) == 0u || f->c->encoder != 0u) {
        return BITNET_E_FORMAT;
    }
    return st == BITNET_OK ? check_option(op + OP_P0 + 2, BITNET_WITH_CAPS) : st;
}

#if BITNET_OP_EMBEDDING

static bitnet_status check_embedding(const follow *f, const uint32_t *op)
{
    const bitnet_ctx *c = f->c;
    uint32_t pool = op[OP_P0];
    if (reads(f, op[OP_A], c->d_model) == 0u || c->d_model > MAX_NORM || op[OP_P0 + 1] > 1u || pool < 1u ||
        pool > (uint32_t)BN_POOL_LAST ||
        (c->encoder != 0u ? (c->head_op != c->n_ops - 1u || op[OP_A] != f->residual) : pool != (uint32_t)BN_POOL_LAST)) {
        return BITNET_E_FORMAT;
    }
    return BITNET_OK;
}

#endif

/* where in the program an operation may stand */
static bitnet_status check_place(follow *f, uint32_t code, uint32_t layer, uint32_t index)
{
    const bitnet_ctx *c = f->c;
    uint32_t result = (uint32_t)(code == (uint32_t)BN_LOGITS || code == (uint32_t)BN_EMBEDDING);
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
    if ((uint32_t)(code == (uint32_t)BN_EMBED) != (uint32_t)(index == 0u) || result != (uint32_t)(index == c->n_ops - 1u)) {
        return BITNET_E_FORMAT;
    }
    if (index >= c->head_op && (code == (uint32_t)BN_EMBED || code == (uint32_t)BN_ADD || code == (uint32_t)BN_STORE ||
                                code == (uint32_t)BN_POSITION || is_cache_op(code) != 0u)) {
        return BITNET_E_FORMAT;
    }
    return BITNET_OK;
}

static bitnet_status check_op(follow *f, const uint32_t *op, uint32_t index)
{
    const bitnet_ctx *c = f->c;
    uint32_t code = op[OP_CODE] & 0xFFu;
    uint32_t a = op[OP_A];
    uint32_t dst = op[OP_DST];
    const uint32_t *t;
    bitnet_status st;
    if (code < 1u || code > (uint32_t)BN_EMBEDDING) {
        return BITNET_E_FORMAT;
    }
    if (shapes[code].compiled == 0u) {
        return BITNET_E_FEATURE;
    }
    st = check_place(f, code, op[OP_CODE] >> 8, index);
    if (st == BITNET_OK) {
        st = check_op_fields(f, op, code);
    }
    if (st != BITNET_OK) {
        return st;
    }
    t = tensor(f, op[OP_T0] == BN_NONE ? 0u : op[OP_T0]);
    switch (code) {
    case BN_EMBED:
        f->residual = dst;
        st = check_table(f, t, c->vocab);
        if (st == BITNET_OK) {
            st = check_option(op + OP_P0, BITNET_WITH_FACTORS);
        }
        return st == BITNET_OK ? writes(f, dst, c->d_model, 0u, 1u) : st;
    case BN_RMSNORM:
        if (reads(f, a, 0u) == 0u || f->length[a] > MAX_NORM || is_vector(t, f->length[a], 0u) == 0u ||
            bn_scale_ok(op[OP_P0], op[OP_P0 + 1]) == 0u) {
            return BITNET_E_FORMAT;
        }
        return writes(f, dst, f->length[a], 0u, 0u);
    case BN_QUANTIZE:
        return check_quantize(f, op);
    case BN_LINEAR:
        return check_linear(f, op, t);
    case BN_ADD:
    case BN_STORE:
        if (reads(f, a, c->d_model) == 0u || a == dst) {
            return BITNET_E_FORMAT;
        }
        st = check_option(op + OP_P0, BITNET_WITH_FACTORS); /* STORE has no parameters: zeros */
        return st == BITNET_OK ? writes(f, dst, c->d_model, 0u, 1u) : st;
    case BN_KVWRITE:
        return check_kvwrite(f, op);
    case BN_ATTEND:
        return check_attend(f, op);
    case BN_RELU2MUL:
    case BN_SILUMUL:
        if (reads(f, a, 0u) == 0u || reads(f, op[OP_B], f->length[a]) == 0u) {
            return BITNET_E_FORMAT;
        }
        return writes(f, dst, f->length[a], 0u, 0u);
#if BITNET_OP_NORM
    case BN_NORM:
        return check_norm(f, op);
#endif
    case BN_BIAS:
    case BN_GAIN:
        if (reads(f, a, 0u) == 0u || is_vector(t, f->length[a], 0u) == 0u) {
            return BITNET_E_FORMAT;
        }
        return writes(f, dst, f->length[a], 0u, 0u);
#if BITNET_OP_ACT || BITNET_OP_GATE
    case BN_ACT:
    case BN_GATE:
        return check_act(f, op, (uint32_t)(code == (uint32_t)BN_GATE));
#endif
#if BITNET_OP_POSITION
    case BN_POSITION:
        f->positions += 1u;
        if (f->layer != BN_NONE || f->positions > 1u) {
            return BITNET_E_FORMAT;
        }
        st = check_table(f, t, c->positions);
        return st == BITNET_OK ? writes(f, dst, c->d_model, 0u, 1u) : st;
#endif
#if BITNET_OP_ROPE
    case BN_ROPE:
        if (reads(f, a, 0u) == 0u || bn_divides(c->head_dim, f->length[a]) == 0u) {
            return BITNET_E_FORMAT;
        }
        st = check_frequencies(f, op[OP_T0]);
        return st == BITNET_OK ? writes(f, dst, f->length[a], 0u, 0u) : st;
#endif
#if BITNET_OP_EMBEDDING
    case BN_EMBEDDING:
        return check_embedding(f, op);
#endif
    default: /* BN_LOGITS */
        return check_logits(f, op);
    }
}

bitnet_status bn_check_operations(bitnet_ctx *c, uint32_t *planes_cols)
{
    follow f;
    uint32_t i;
    const uint32_t *last = bn_op(c, c->n_ops - 1u);
    f.c = c;
    f.residual = BN_NONE;
    f.layer = BN_NONE;
    f.kv_state = 2u;
    f.planes_cols = 0u;
    f.positions = 0u;
    if (c->encoder != 0u && !BITNET_WITH_ENCODER) {
        return BITNET_E_FEATURE;
    }
    for (i = 0u; i < BITNET_MAX_REGISTERS; i++) {
        f.length[i] = 0u;
        f.qmax[i] = 0;
    }
    for (i = 0u; i < c->n_registers; i++) {
        if (c->registers[2u * i] > 2u || c->registers[2u * i + 1u] < 1u || c->registers[2u * i + 1u] > MAX_LENGTH) {
            return BITNET_E_FORMAT;
        }
    }
    for (i = 0u; i < c->n_ops; i++) {
        bitnet_status st = check_op(&f, bn_op(c, i), i);
        if (st != BITNET_OK) {
            return st;
        }
    }
    if (f.layer != c->layers - 1u || f.kv_state != 2u || f.positions != (uint32_t)(c->positions != 0u)) {
        return BITNET_E_FORMAT;
    }
    c->embeds = (uint32_t)((last[OP_CODE] & 0xFFu) == (uint32_t)BN_EMBEDDING);
    c->pool = c->embeds != 0u ? last[OP_P0] : 0u;
    *planes_cols = f.planes_cols;
    return BITNET_OK;
}
