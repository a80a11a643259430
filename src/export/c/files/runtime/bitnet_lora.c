/*
 * bitnet_lora.c - side branches of a low-rank adapter (docs/semantics.md
 * section 9, docs/format/adapter.md).  QUANTIZE leaves A x of its source, the
 * LINEAR that uses its codes gets B of it.  The file is read byte by byte, so
 * it may lie anywhere; it has to stay there while it is loaded.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#if BITNET_WITH_LORA

/* the file */
#define HEADER 40u
#define PART 20u
#define SIGNATURE 64u
#define COVERED 20u /* where what the checksum covers begins */
#define MAX_RANK 256u
#define MAX_SIDE 1048576u
#define MAX_PARTS 65536u

/* words of a part in the scratch; its hidden vector follows them */
enum { S_QUANTIZE = 0, S_LINEAR, S_AT, S_RANK, S_M, S_E, S_HIDDEN };
#define INPUT_BITS 14u

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

typedef struct {
    uint32_t linear, rank, shift, rows, cols; /* 1 << shift bits a code */
    int32_t e;
    uint32_t stride_a, stride_b;
    const uint8_t *m, *h, *a, *b;
    uint32_t bytes; /* in the file; 0 if it is none */
} part;

static uint32_t row_bytes(uint32_t n, uint32_t shift) { return ((n << shift) + 7u) >> 3; }

/* the part at p, of which `left` bytes are in the file */
static void part_at(const uint8_t *p, uint32_t left, part *t)
{
    uint32_t word;
    uint32_t bits;
    uint64_t bytes;
    t->bytes = 0u;
    if (left < PART) {
        return;
    }
    t->linear = word_at(p);
    word = word_at(p + 4);
    t->rank = word & 0xFFFFu;
    bits = word >> 16;
    t->rows = word_at(p + 8);
    t->cols = word_at(p + 12);
    t->e = (int32_t)word_at(p + 16);
    t->shift = bits == 8u ? 3u : (bits == 4u ? 2u : bits - 1u);
    if (t->rank == 0u || t->rank > MAX_RANK || (bits != 1u && bits != 2u && bits != 4u && bits != 8u) || t->rows == 0u ||
        t->rows > MAX_SIDE || t->cols == 0u || t->cols > MAX_SIDE || t->e < -4096 || t->e > 4095) {
        return;
    }
    t->stride_a = row_bytes(t->cols, t->shift);
    t->stride_b = row_bytes(t->rank, t->shift);
    bytes = (uint64_t)(PART + 3u * t->rank) + bn_mulu(t->rank, t->stride_a) + bn_mulu(t->rows, t->stride_b);
    if (bytes > left) { /* lengths are multiples of 4, so the padding is there if the rest is */
        return;
    }
    t->m = p + PART;
    t->h = t->m + 2u * t->rank;
    t->a = t->h + t->rank;
    t->b = t->a + t->rank * t->stride_a;
    t->bytes = (bn_lo(bytes) + 3u) & ~3u;
}

/* The header and every part, without a model; the scratch that it needs.
 * Hidden vectors and their words are below the size of the file, 16 times. */
static bitnet_status check(const uint8_t *d, uint32_t bytes, uint32_t *need)
{
    static const uint8_t magic[8] = { 0x89u, 0x42u, 0x4Eu, 0x4Cu, 0x52u, 0x0Du, 0x0Au, 0x1Au };
    uint32_t length;
    uint32_t flags;
    uint32_t count;
    uint32_t linears;
    uint32_t at = HEADER;
    uint32_t last = 0u;
    uint64_t total = 0u;
    uint32_t i;
    uint32_t j;
    for (i = 0u; i < 8u; i++) {
        if (bytes <= i || d[i] != magic[i]) {
            return BITNET_E_MAGIC;
        }
    }
    if (bytes < HEADER) {
        return BITNET_E_FORMAT;
    }
    if (word_at(d + 8) != 1u) {
        return BITNET_E_VERSION;
    }
    length = word_at(d + 12);
    if (length < HEADER || length > bytes || (length & 3u) != 0u) {
        return BITNET_E_FORMAT;
    }
    if (bn_crc_end(bn_crc_bytes(BN_CRC_START, d + COVERED, length - COVERED)) != word_at(d + 16)) {
        return BITNET_E_CRC;
    }
    flags = word_at(d + 20);
    count = word_at(d + 32);
    linears = word_at(d + 36);
    if (flags > 1u || bytes - length != (flags != 0u ? SIGNATURE : 0u) || count == 0u || count > MAX_PARTS ||
        linears == 0u || linears > MAX_PARTS) {
        return BITNET_E_FORMAT;
    }
    for (i = 0u; i < count; i++) {
        part t;
        part_at(d + at, length - at, &t);
        if (t.bytes == 0u || t.linear >= linears || (i > 0u && t.linear <= last)) {
            return BITNET_E_FORMAT;
        }
        for (j = 0u; j < t.rank; j++) {
            if (t.m[2u * j + 1u] < 0x80u || t.h[j] > 63u) {
                return BITNET_E_FORMAT;
            }
        }
        last = t.linear;
        at += t.bytes;
        total += 4u * ((uint32_t)S_HIDDEN + t.rank);
    }
    if (at != length || bn_hi(total) != 0u) {
        return BITNET_E_FORMAT;
    }
    *need = bn_lo(total);
    return BITNET_OK;
}

bitnet_status bitnet_lora_scratch(const void *data, uint32_t bytes, uint32_t *need)
{
    if (data == (const void *)0 || need == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    return check((const uint8_t *)data, bytes, need);
}

bitnet_status bitnet_lora_signature(const void *data, uint32_t bytes, uint32_t *signed_bytes, const uint8_t **signature)
{
    const uint8_t *d = (const uint8_t *)data;
    uint32_t need = 0u;
    bitnet_status st;
    if (data == (const void *)0 || signed_bytes == (uint32_t *)0 || signature == (const uint8_t **)0) {
        return BITNET_E_NULL;
    }
    st = check(d, bytes, &need);
    if (st != BITNET_OK) {
        return st;
    }
    *signed_bytes = word_at(d + 12);
    *signature = word_at(d + 20) != 0u ? d + *signed_bytes : (const uint8_t *)0;
    return BITNET_OK;
}

/* The operations of LINEAR number `linear` before the head; what they are is in s[S_QUANTIZE] and s[S_LINEAR].
 * *from and *count: where the search for the one before ended.  0 if there is none. */
static uint32_t find(const bitnet_ctx *c, uint32_t linear, uint32_t *from, uint32_t *count, uint32_t *s)
{
    uint32_t i;
    uint32_t j;
    for (i = *from; i < c->head_op; i++) {
        const uint32_t *op = bn_op(c, i);
        if ((op[OP_CODE] & 0xFFu) != (uint32_t)BN_LINEAR) {
            continue;
        }
        if (*count == linear) {
            *from = i;
            s[S_LINEAR] = i;
            for (j = i; j > 0u; j--) {
                const uint32_t *q = bn_op(c, j - 1u);
                if ((q[OP_CODE] & 0xFFu) == (uint32_t)BN_QUANTIZE && q[OP_DST] == op[OP_A]) {
                    s[S_QUANTIZE] = j - 1u;
                    return 1u;
                }
            }
            return 0u;
        }
        *count += 1u;
    }
    return 0u;
}

bitnet_status bitnet_lora_load(bitnet_ctx *ctx, const void *data, uint32_t bytes, void *scratch, uint32_t scratch_bytes)
{
    const uint8_t *d = (const uint8_t *)data;
    uint32_t *s = (uint32_t *)scratch;
    uint32_t need = 0u;
    uint32_t at = HEADER;
    uint32_t from = 0u;
    uint32_t linears = 0u;
    uint32_t count;
    uint32_t i;
    bitnet_status st;
    if (ctx == (bitnet_ctx *)0 || data == (const void *)0 || scratch == (void *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (((uintptr_t)scratch & 3u) != 0u) {
        return BITNET_E_ALIGN;
    }
    st = check(d, bytes, &need);
    if (st != BITNET_OK) {
        return st;
    }
    if (scratch_bytes < need) {
        return BITNET_E_CAPACITY;
    }
    for (i = 0u; i < ctx->head_op; i++) {
        linears += (uint32_t)((bn_op(ctx, i)[OP_CODE] & 0xFFu) == (uint32_t)BN_LINEAR);
    }
    if (word_at(d + 24) != ctx->program[27] || word_at(d + 28) != ctx->program[28] || word_at(d + 36) != linears) {
        return BITNET_E_OTHER;
    }
    ctx->lora_parts = 0u; /* what was loaded before is gone, also where the new one is refused */
    linears = 0u;
    count = word_at(d + 32);
    for (i = 0u; i < count; i++) {
        part t;
        bn_tensor w;
        part_at(d + at, bytes - at, &t);
        if (find(ctx, t.linear, &from, &linears, s) == 0u) {
            return BITNET_E_OTHER;
        }
        bn_tensor_get(ctx, bn_op(ctx, s[S_LINEAR])[OP_T0], &w);
        if (w.rows != t.rows || w.cols != t.cols) {
            return BITNET_E_OTHER;
        }
        s[S_AT] = at;
        s[S_RANK] = t.rank;
        s[S_M] = 0u;
        at += t.bytes;
        s += (uint32_t)S_HIDDEN + t.rank;
    }
    ctx->lora = d;
    ctx->lora_state = (uint32_t *)scratch;
    ctx->lora_parts = count;
    return BITNET_OK;
}

bitnet_status bitnet_lora_unload(bitnet_ctx *ctx)
{
    if (ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    ctx->lora_parts = 0u;
    return BITNET_OK;
}

/* ---- the two hooks ------------------------------------------------------------------ */

/* Codes c stand for 2 c - top, so the sums of c x need one correction at the end; wrapping on the way there does no
 * harm.  A code is a sum over its bits, so a nibble of codes picks one of the 16 sums of four weights. */

static uint32_t input_at(const bn_i32 *x, uint32_t i, int32_t k)
{
    return k >= 0 ? (uint32_t)bn_rsr(x[i], (uint32_t)k) : (uint32_t)x[i] << (uint32_t)-k;
}

/* the sums for the two nibbles of a byte: codes of one bit (shift 0) with 8 values, of two bits with 4 */
static void sums_of(const uint32_t *v, uint32_t shift, uint32_t *sums)
{
    uint32_t bit;
    uint32_t i;
    for (bit = 0u; bit < 8u; bit++) {
        uint32_t w = shift == 0u ? v[bit] : v[bit >> 1] << (bit & 1u);
        uint32_t *t = sums + (bit & 4u) * 4u;
        uint32_t n = 1u << (bit & 3u);
        if (n == 1u) {
            t[0] = 0u;
        }
        for (i = 0u; i < n; i++) {
            t[n + i] = t[i] + w;
        }
    }
}

/* A x of the source of a QUANTIZE, into the part's words */
static void down(const bitnet_register *src, const bn_i32 *x, const part *t, uint32_t *s)
{
    uint32_t top = (2u << ((1u << t->shift) - 1u)) - 1u;
    uint32_t n = bn_bits_of(x, t->cols);
    uint32_t bits = bn_bitlen(top * t->cols);
    uint32_t w = 31u - bits < INPUT_BITS ? 31u - bits : INPUT_BITS;
    int32_t k = (int32_t)n - (int32_t)w;
    uint32_t *sum = s + S_HIDDEN;
    uint32_t per = 8u >> t->shift;
    uint32_t total = 0u;
    uint32_t any = 0u;
    uint32_t at = 0u;
    uint32_t shift;
    uint32_t i;
    uint32_t j;
    s[S_M] = 0u;
    if (n == 0u) {
        return;
    }
    for (j = 0u; j < t->rank; j++) {
        sum[j] = 0u;
    }
    for (i = 0u; i < t->stride_a; i++) { /* a byte of every rank */
        const uint8_t *a = t->a + i;
        uint32_t v[8];
        for (j = 0u; j < per; j++) {
            v[j] = at < t->cols ? input_at(x, at, k) : 0u;
            total += v[j];
            at += 1u;
        }
        if (t->shift >= 2u) {
            uint32_t high = t->shift == 2u ? v[1] : v[0] << 4;
            for (j = 0u; j < t->rank; j++) {
                sum[j] += (*a & 15u) * v[0] + (uint32_t)(*a >> 4) * high;
                a += t->stride_a;
            }
        } else {
            uint32_t sums[32];
            sums_of(v, t->shift, sums);
            for (j = 0u; j < t->rank; j++) {
                sum[j] += sums[*a & 15u] + sums[16u + (*a >> 4)];
                a += t->stride_a;
            }
        }
    }
    for (j = 0u; j < t->rank; j++) {
        int32_t v = (int32_t)(2u * sum[j] - top * total);
        v = bn_narrow(bn_mul(v, (int32_t)((uint32_t)t->m[2u * j] | (uint32_t)t->m[2u * j + 1u] << 8)), 16u + t->h[j]);
        sum[j] = (uint32_t)v;
        any |= bn_abs(v);
    }
    if (any == 0u) {
        return;
    }
    bits = bn_bitlen(any);
    n = 31u - bn_bitlen(top * t->rank);
    shift = bits > n ? bits - n : 0u;
    for (j = 0u; j < t->rank; j++) {
        sum[j] = (uint32_t)bn_rsr((int32_t)sum[j], shift);
    }
    s[S_M] = src->scale.m;
    s[S_E] = (uint32_t)bn_exp_add(bn_exp_add(bn_exp_add(src->scale, k), 16 + t->e), (int32_t)shift).e;
}

/* the sum of codes times hidden values of a row of B, code by code; bits behind the last code mean nothing */
static uint32_t row_sum(const uint8_t *b, const part *t, uint32_t mask, const uint32_t *hidden)
{
    uint32_t sum = 0u;
    uint32_t byte = 0u;
    uint32_t left = 0u;
    uint32_t j;
    for (j = 0u; j < t->rank; j++) {
        if (left == 0u) {
            byte = *b;
            b += 1;
            left = 8u >> t->shift;
        }
        sum += (byte & mask) * hidden[j];
        byte >>= 1u << t->shift;
        left -= 1u;
    }
    return sum;
}

/* adds B of it to the result of a LINEAR */
static void up(const bitnet_register *dst, bn_i32 *y, const part *t, const uint32_t *s)
{
    uint32_t top = (2u << ((1u << t->shift) - 1u)) - 1u;
    const uint32_t *hidden = s + S_HIDDEN;
    uint32_t sums[64]; /* of two bytes */
    uint32_t quick = (uint32_t)(t->shift < 2u && t->stride_b <= 2u);
    const uint8_t *b = t->b;
    bitnet_scale scale;
    bn_factor k;
    uint32_t total = 0u;
    uint32_t i;
    uint32_t j;
    if (s[S_M] == 0u) {
        return;
    }
    scale.m = s[S_M];
    scale.e = (int32_t)s[S_E];
    k = bn_factor_of(bn_mul_scale(scale, bn_inv(dst->scale)), 0);
    for (j = 0u; j < t->rank; j++) {
        total += hidden[j];
    }
    total *= top;
    for (i = 0u; quick != 0u && i < t->stride_b; i++) {
        uint32_t v[8];
        for (j = 0u; j < 8u; j++) {
            uint32_t at = i * (8u >> t->shift) + j;
            v[j] = at < t->rank ? hidden[at] : 0u;
        }
        sums_of(v, t->shift, sums + 32u * i);
    }
    for (i = 0u; i < t->rows; i++) {
        uint32_t sum;
        if (quick != 0u) {
            sum = sums[b[0] & 15u] + sums[16u + (b[0] >> 4)];
            if (t->stride_b == 2u) {
                sum += sums[32u + (b[1] & 15u)] + sums[48u + (b[1] >> 4)];
            }
        } else {
            sum = row_sum(b, t, top, hidden);
        }
        b += t->stride_b;
        y[i] = bn_sat((int64_t)y[i] + bn_times((int32_t)(2u * sum - total), k));
    }
}

void bn_lora(const bitnet_ctx *c, uint32_t index)
{
    const uint32_t *op = bn_op(c, index);
    uint32_t code = op[OP_CODE] & 0xFFu;
    uint32_t *s = c->lora_state;
    uint32_t n;
    if (code != (uint32_t)BN_QUANTIZE && code != (uint32_t)BN_LINEAR) {
        return;
    }
    for (n = 0u; n < c->lora_parts; n++) {
        if (s[S_QUANTIZE] == index || s[S_LINEAR] == index) {
            const bitnet_register *r = &c->reg[op[code == (uint32_t)BN_LINEAR ? OP_DST : OP_A]];
            part t;
            part_at(c->lora + s[S_AT], 0xFFFFFFFFu - s[S_AT], &t); /* checked when it was loaded */
            if (code == (uint32_t)BN_LINEAR) {
                up(r, bn_vec(c, r), &t, s);
            } else {
                down(r, bn_vec(c, r), &t, s);
            }
        }
        s += (uint32_t)S_HIDDEN + s[S_RANK];
    }
}

#else

typedef char bitnet_no_lora; /* a translation unit is not empty */

#endif
