/* bitnet_internal.h - what the runtime's own files share. */
#ifndef BITNET_INTERNAL_H
#define BITNET_INTERNAL_H

#include "bitnet.h"
#include "bitnet_math.h"

#define BITNET_READY 0x42495452u
#define BITNET_STEPPING 0x42495453u
#define BN_NONE 0xFFFFFFFFu     /* register or tensor not named */
#define BN_NO_LAYER 0xFFFFFFu   /* operation outside of the layers */
#define BN_ZERO_EXP (-4096)     /* exponent of an all-zero head in the cache */

enum { BN_OP_WORDS = 12, BN_TENSOR_WORDS = 16, BN_HEAD_WORDS = 32 };

enum {
    BN_EMBED = 1, BN_RMSNORM, BN_QUANTIZE, BN_LINEAR, BN_ADD, BN_KVWRITE, BN_ATTEND, BN_RELU2MUL, BN_SILUMUL,
    BN_LOGITS, BN_NORM, BN_BIAS, BN_GAIN, BN_ACT, BN_GATE, BN_STORE, BN_POSITION, BN_ROPE, BN_EMBEDDING
};
enum { BN_BINARY = 1, BN_TERNARY, BN_INT8, BN_INT16, BN_VECTOR, BN_FREQ, BN_STATIC_KEYS, BN_TERNARY5, BN_INT4, BN_PLANES4 };
enum { BN_ROWS = 0, BN_QUADS = 1 }; /* order of the bytes of a matrix */
enum { BN_RELU = 1, BN_RELU2, BN_SILU, BN_GELU_TANH, BN_GELU_ERF, BN_TANH };
enum { BN_POOL_MEAN = 1, BN_POOL_FIRST, BN_POOL_LAST };
enum { BN_REG_I32 = 0, BN_REG_I8 = 1, BN_REG_I16 = 2 };
enum { BN_HINT_SELECT = 0, BN_HINT_PLANES = 1, BN_HINT_TABLES = 2 };

/* words of an operation */
enum { OP_CODE = 0, OP_DST = 1, OP_A = 2, OP_B = 3, OP_T0 = 4, OP_T1 = 5, OP_P0 = 6 };
/* words of a tensor */
enum { T_KIND = 0, T_ROWS, T_COLS, T_SCALES, T_GROUP, T_M, T_E, T_STRIDE, T_DATA, T_DATA_HI, T_BYTES, T_BYTES_HI, T_SC,
       T_SC_HI, T_SC_BYTES, T_SC_BYTES_HI };

/* A tensor ready for use. */
typedef struct {
    const uint8_t *data;
    const bn_word *scale_m;   /* rows * groups, modes 2 and 3 */
    const uint8_t *scale_h;
    uint32_t kind, order, rows, cols, mode, group, groups, stride;
    bitnet_scale scale;
} bn_tensor;

BN_INLINE const uint32_t *bn_op(const bitnet_ctx *c, uint32_t i) { return c->ops + i * (uint32_t)BN_OP_WORDS; }

void bn_tensor_get(const bitnet_ctx *c, uint32_t index, bn_tensor *t);

/* kind and order of a tensor, in its first word */
BN_INLINE uint32_t bn_kind(const uint32_t *t) { return t[0] & 255u; }
BN_INLINE uint32_t bn_order(const uint32_t *t) { return t[0] >> 8; }
BN_INLINE uint32_t bn_is_matrix(uint32_t kind)
{
    return (uint32_t)((kind >= (uint32_t)BN_BINARY && kind <= (uint32_t)BN_INT16) || kind >= (uint32_t)BN_TERNARY5);
}
BN_INLINE uint32_t bn_is_low_bit(uint32_t kind) /* weights -1, 0, 1 */
{
    return (uint32_t)(kind <= (uint32_t)BN_TERNARY || kind == (uint32_t)BN_TERNARY5);
}
BN_INLINE uint32_t bn_fifth(uint32_t v) { return bn_hi(bn_mulu(v, 0xCCCCCCCDu)) >> 2; } /* v / 5 */

/* width of cached keys and values */
BN_INLINE uint32_t bn_width_ok(uint32_t bits) { return (uint32_t)(bits == 16u || bits == 8u || bits == 4u); }

/* bitnet_check.c: the program section, its tensors, the golden trace */
bitnet_status bn_read_head(bitnet_ctx *c, const uint32_t *words, uint32_t n_words);
bitnet_status bn_check_tensors(const bitnet_ctx *c);
bitnet_status bn_check_golden(const bitnet_ctx *c);
uint32_t bn_scale_ok(uint32_t m, uint32_t e_word);
uint32_t bn_divides(uint32_t d, uint32_t n); /* n < 2^21 */

/* bitnet_follow.c: the operations */
bitnet_status bn_check_operations(bitnet_ctx *c, uint32_t *planes_cols);

/* arena access */
BN_INLINE void *bn_at(const bitnet_ctx *c, uint32_t offset) { return c->arena + offset; }
BN_INLINE bitnet_scale bn_scale_at(const uint32_t *w) /* two words of an operation */
{
    bitnet_scale s;
    s.m = w[0];
    s.e = (int32_t)w[1];
    return s;
}
BN_INLINE bn_i32 *bn_vec(const bitnet_ctx *c, const bitnet_register *r) { return (bn_i32 *)bn_at(c, r->offset); }

/* largest magnitude */
uint32_t bn_max_abs(const bn_i32 *x, uint32_t n);
uint32_t bn_bits_of(const bn_i32 *x, uint32_t n); /* its bit length */

/* bitnet_weight.c: one element of a matrix */
int32_t bn_weight(const bn_tensor *t, uint32_t row, uint32_t i);

/* bitnet_linear.c; bits of the largest sum of n products of codes and weights */
BN_INLINE uint32_t bn_sum_bits(uint32_t qmax, uint32_t kind, uint32_t n)
{
    uint32_t wmax = kind == (uint32_t)BN_INT8 ? 128u : (kind == (uint32_t)BN_INT16 ? 32768u : 1u);
#if BITNET_KIND_INT4 || BITNET_KIND_PLANES4
    if (kind == (uint32_t)BN_INT4 || kind == (uint32_t)BN_PLANES4) {
        wmax = 8u;
    }
#endif
    return bn_bitlen64(bn_mulu(qmax * wmax, n));
}
void bn_linear(bitnet_ctx *c, const bitnet_register *src, uint32_t src_index, bitnet_register *dst, const bn_tensor *w,
               uint32_t hint);

/* bitnet_model.c: checksums and structure of the model's bytes, again */
bitnet_status bn_check_image(const bitnet_ctx *c);

/* bitnet_run.c */
bitnet_status bn_check_ids(const bitnet_ctx *c, const uint32_t *ids, uint32_t n, uint32_t position);
void bn_linear_op(bitnet_ctx *c, const uint32_t *op);
void bn_run_ops(bitnet_ctx *c, uint32_t first, uint32_t end, uint32_t id, int32_t *results);
void bn_run_token(bitnet_ctx *c, uint32_t id, int32_t *results);
void bn_next_position(bitnet_ctx *c);
uint32_t bn_run_text(bitnet_ctx *c, const uint32_t *ids, uint32_t n, const uint32_t *expected, int32_t *out);

/* bitnet_attend.c */
void bn_kvwrite(bitnet_ctx *c, const uint32_t *op, uint32_t layer);
void bn_attend(bitnet_ctx *c, const uint32_t *op, uint32_t layer);
uint32_t bn_kv_checksum(const bitnet_ctx *c, uint32_t layer);
void bn_rope(bitnet_ctx *c, const uint32_t *op);

/* bitnet_lora.c: the side branches of operation `index`, after it ran */
void bn_lora(const bitnet_ctx *c, uint32_t index);

/* bitnet_ops.c */
void bn_embed(bitnet_ctx *c, const uint32_t *op, uint32_t id);
void bn_position(bitnet_ctx *c, const uint32_t *op);
void bn_store(bitnet_ctx *c, const uint32_t *op);
void bn_rmsnorm(bitnet_ctx *c, const uint32_t *op);
void bn_quantize(bitnet_ctx *c, const uint32_t *op);
void bn_add(bitnet_ctx *c, const uint32_t *op);
void bn_relu2mul(bitnet_ctx *c, const uint32_t *op);
void bn_silumul(bitnet_ctx *c, const uint32_t *op);
void bn_logits(const bitnet_ctx *c, const uint32_t *op, int32_t *logits);
void bn_embedding(bitnet_ctx *c, const uint32_t *op, int32_t *out);

/* bitnet_norm.c */
void bn_norm_groups(bitnet_ctx *c, const uint32_t *op);
void bn_bias(bitnet_ctx *c, const uint32_t *op);
void bn_gain(bitnet_ctx *c, const uint32_t *op);

/* bitnet_act.c */
void bn_act(bitnet_ctx *c, const uint32_t *op);
void bn_gate(bitnet_ctx *c, const uint32_t *op);
int32_t bn_softcap(const bitnet_ctx *c, int32_t t, bitnet_scale cap, int32_t f);

/* log2(e) */
BN_INLINE bitnet_scale bn_log2e(void)
{
    bitnet_scale s;
    s.m = 1549082005u;
    s.e = -30;
    return s;
}

#endif
