/*
 * bitnet_kernels.c - the sums of LINEAR.  Four kernels give the same integers:
 *
 *   select  subset sums by masks; any codes, no memory
 *   planes  codes of two bits as two bit planes, population counts
 *   tables  256 subset sums of 8 codes each, one look-up for 8 weights
 *   rows    int8 and int16 matrices, multiply and accumulate
 *
 * All work on a range of 32-column words, so that group scales need nothing
 * special.  A binary row is 2 * (sum of the codes
 * at set bits) - (sum of all codes), a ternary one plus sums minus sums.
 */
#include "bitnet_kernels.h"
#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && !defined(BITNET_NO_DSP)
#include <arm_acle.h>
#define BN_DSP 1
#else
#define BN_DSP 0
#endif
#include "bitnet_poison.h"

/* One pointer and offsets instead of a pointer for each row: the compiler
 * would make them pointers again and run out of registers.  What is read this
 * way is the model, which nothing writes. */
#if BN_DSP
BN_INLINE uint32_t word_at(const bn_word *p, uint32_t bytes)
{
    uint32_t v;
    __asm__("ldr %0, [%1, %2]" : "=r"(v) : "r"(p), "r"(bytes));
    return v;
}

BN_INLINE uint32_t word_at_twice(const bn_word *p, uint32_t bytes)
{
    uint32_t v;
    __asm__("ldr %0, [%1, %2, lsl #1]" : "=r"(v) : "r"(p), "r"(bytes));
    return v;
}
#else
BN_INLINE uint32_t word_at(const bn_word *p, uint32_t bytes) { return p[bytes >> 2]; }
BN_INLINE uint32_t word_at_twice(const bn_word *p, uint32_t bytes) { return p[bytes >> 1]; }
#endif

/* a value that is to stay in its register as it is */
#if defined(__GNUC__)
#define KEEP(v) __asm__("" : "+r"(v))
#define NOINLINE __attribute__((noinline))
#else
#define KEEP(v) (void)(v)
#define NOINLINE
#endif

/* ---- select ----------------------------------------------------------------- */

#define BIT(w, k) ((int32_t)((w) << (31u - (k))) >> 31)
#define STEP(k)                  \
    x = (int32_t)p[k];           \
    a0 += x & BIT(w0, (k));      \
    a1 += x & BIT(w1, (k));      \
    a2 += x & BIT(w2, (k));      \
    a3 += x & BIT(w3, (k))

/* the first n columns of one word, for any n */
#define DEFINE_SELECT(name, type)                                                                  \
    static void name(const type *p, uint32_t n, uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3, \
                     int32_t *acc)                                                                 \
    {                                                                                              \
        int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3], x;                             \
        for (; n >= 8u; n -= 8u) {                                                                 \
            STEP(0u); STEP(1u); STEP(2u); STEP(3u); STEP(4u); STEP(5u); STEP(6u); STEP(7u);        \
            p += 8;                                                                                \
            w0 >>= 8; w1 >>= 8; w2 >>= 8; w3 >>= 8;                                                \
        }                                                                                          \
        for (; n > 0u; n--) {                                                                      \
            STEP(0u);                                                                              \
            p += 1;                                                                                \
            w0 >>= 1; w1 >>= 1; w2 >>= 1; w3 >>= 1;                                                \
        }                                                                                          \
        acc[0] = a0; acc[1] = a1; acc[2] = a2; acc[3] = a3;                                        \
    }

DEFINE_SELECT(select_i8, int8_t)
DEFINE_SELECT(select_i16, bn_i16)

#if BN_DSP
/* x where the GE flags, bits 16 ..= 19 of w, are set, else z */
BN_INLINE uint32_t ge_select(uint32_t w, uint32_t x, uint32_t z)
{
    uint32_t r;
    __asm__("msr APSR_g, %1\n\tsel %0, %2, %3" : "=r"(r) : "r"(w), "r"(x), "r"(z) : "cc");
    return r;
}

BN_INLINE uint32_t rotate_right(uint32_t w, uint32_t n) { return (w >> n) | (w << (32u - n)); }

#define GE_STEP(k, n)                                         \
    x = p[k] ^ 0x80808080u;                                   \
    a0 = __usada8(ge_select(rotate_right(w0, (n)), x, z), 0u, a0); \
    a1 = __usada8(ge_select(rotate_right(w1, (n)), x, z), 0u, a1); \
    a2 = __usada8(ge_select(rotate_right(w2, (n)), x, z), 0u, a2); \
    a3 = __usada8(ge_select(rotate_right(w3, (n)), x, z), 0u, a3)

/* full words, int8 codes: bytes with 128 added, summed without sign */
static void select_ge(const bn_word *p, uint32_t words, const bn_word *const r[4], int32_t *acc)
{
    const bn_word *r0 = r[0];
    const bn_word *r1 = r[1];
    const bn_word *r2 = r[2];
    const bn_word *r3 = r[3];
    uint32_t a0 = (uint32_t)acc[0] - 4096u * words;
    uint32_t a1 = (uint32_t)acc[1] - 4096u * words;
    uint32_t a2 = (uint32_t)acc[2] - 4096u * words;
    uint32_t a3 = (uint32_t)acc[3] - 4096u * words;
    uint32_t z = 0x80808080u;
    uint32_t i;
    for (i = 0u; i < words; i++) {
        uint32_t w0 = *r0++;
        uint32_t w1 = *r1++;
        uint32_t w2 = *r2++;
        uint32_t w3 = *r3++;
        uint32_t x;
        GE_STEP(0, 16u); GE_STEP(1, 20u); GE_STEP(2, 24u); GE_STEP(3, 28u);
        x = p[4] ^ z;
        a0 = __usada8(ge_select(w0, x, z), 0u, a0);
        a1 = __usada8(ge_select(w1, x, z), 0u, a1);
        a2 = __usada8(ge_select(w2, x, z), 0u, a2);
        a3 = __usada8(ge_select(w3, x, z), 0u, a3);
        GE_STEP(5, 4u); GE_STEP(6, 8u); GE_STEP(7, 12u);
        p += 8;
    }
    acc[0] = (int32_t)a0;
    acc[1] = (int32_t)a1;
    acc[2] = (int32_t)a2;
    acc[3] = (int32_t)a3;
}
#endif

void bn_subset_select(const bn_job *j, const bn_word *const r[4], uint32_t first, uint32_t end, int32_t *acc)
{
    uint32_t cols = j->w->cols;
    uint32_t i = first;
#if BN_NEON
    uint32_t full = (cols >> 5) < end ? cols >> 5 : end;
    if (full > first) {
        const bn_word *q[4];
        q[0] = r[0] + first;
        q[1] = r[1] + first;
        q[2] = r[2] + first;
        q[3] = r[3] + first;
        if (j->c8 != (const int8_t *)0) {
            bn_neon_subset8(j->c8 + 32u * first, (const bn_word *const *)q, full - first, j->dot, acc);
        } else {
            bn_neon_subset16(j->c16 + 32u * first, (const bn_word *const *)q, full - first, acc);
        }
        i = full;
    }
#elif BN_DSP
    if (j->c8 != (const int8_t *)0) {
        const bn_word *q[4];
        uint32_t full = (cols >> 5) < end ? cols >> 5 : end;
        q[0] = r[0] + first;
        q[1] = r[1] + first;
        q[2] = r[2] + first;
        q[3] = r[3] + first;
        if (full > first) {
            select_ge((const bn_word *)(const void *)j->c8 + 8u * first, full - first, q, acc);
            i = full;
        }
    }
#endif
    for (; i < end; i++) {
        uint32_t n = cols - 32u * i < 32u ? cols - 32u * i : 32u;
        if (j->c8 != (const int8_t *)0) {
            select_i8(j->c8 + 32u * i, n, r[0][i], r[1][i], r[2][i], r[3][i], acc);
        } else {
            select_i16(j->c16 + 32u * i, n, r[0][i], r[1][i], r[2][i], r[3][i], acc);
        }
    }
}

/* ---- look-up tables --------------------------------------------------------- */

/* tables of the 8-column groups first ..< first + n */
void bn_lut_build(const bn_job *j, bn_i16 *t, uint32_t first, uint32_t n)
{
    uint32_t cols = j->w->cols;
    uint32_t g;
    uint32_t i;
    uint32_t k;
    for (g = first; g < first + n; g++) {
        int32_t x[8];
        int32_t high[16];
        if (j->c8 != (const int8_t *)0 && 8u * g + 8u <= cols) {
            const int8_t *p = j->c8 + 8u * g;
            for (i = 0u; i < 8u; i++) {
                x[i] = p[i];
            }
        } else {
            for (i = 0u; i < 8u; i++) {
                x[i] = 8u * g + i < cols ? bn_code_at(j, 8u * g + i) : 0;
            }
        }
        high[0] = 0;
        high[1] = x[4];
        high[2] = x[5];
        high[3] = x[4] + x[5];
        for (i = 0u; i < 4u; i++) {
            high[4u + i] = high[i] + x[6];
            high[8u + i] = high[i] + x[7];
            high[12u + i] = high[i] + x[6] + x[7];
        }
#if BN_DSP
        {
            bn_word *out = (bn_word *)(void *)t;
            uint32_t l0 = (uint32_t)x[0] << 16;
            uint32_t x1 = ((uint32_t)x[1] & 0xFFFFu) | (uint32_t)x[1] << 16;
            uint32_t x2 = ((uint32_t)x[2] & 0xFFFFu) | (uint32_t)x[2] << 16;
            uint32_t x3 = ((uint32_t)x[3] & 0xFFFFu) | (uint32_t)x[3] << 16;
            uint32_t l1 = (uint32_t)__sadd16((int32_t)l0, (int32_t)x1);
            uint32_t l2 = (uint32_t)__sadd16((int32_t)l0, (int32_t)x2);
            uint32_t l3 = (uint32_t)__sadd16((int32_t)l1, (int32_t)x2);
            uint32_t l4 = (uint32_t)__sadd16((int32_t)l0, (int32_t)x3);
            uint32_t l5 = (uint32_t)__sadd16((int32_t)l1, (int32_t)x3);
            uint32_t l6 = (uint32_t)__sadd16((int32_t)l2, (int32_t)x3);
            uint32_t l7 = (uint32_t)__sadd16((int32_t)l3, (int32_t)x3);
            for (k = 0u; k < 16u; k++) {
                int32_t h = (int32_t)(((uint32_t)high[k] & 0xFFFFu) | (uint32_t)high[k] << 16);
                out[0] = (uint32_t)__sadd16((int32_t)l0, h);
                out[1] = (uint32_t)__sadd16((int32_t)l1, h);
                out[2] = (uint32_t)__sadd16((int32_t)l2, h);
                out[3] = (uint32_t)__sadd16((int32_t)l3, h);
                out[4] = (uint32_t)__sadd16((int32_t)l4, h);
                out[5] = (uint32_t)__sadd16((int32_t)l5, h);
                out[6] = (uint32_t)__sadd16((int32_t)l6, h);
                out[7] = (uint32_t)__sadd16((int32_t)l7, h);
                out += 8;
            }
        }
#else
        {
            int32_t low[16];
            low[0] = 0;
            for (k = 0u; k < 4u; k++) {
                for (i = 0u; i < 1u << k; i++) {
                    low[i + (1u << k)] = low[i] + x[k];
                }
            }
            for (k = 0u; k < 16u; k++) {
                for (i = 0u; i < 16u; i++) {
                    t[16u * k + i] = (int16_t)(high[k] + low[i]);
                }
            }
        }
#endif
        t += 256;
    }
}

/* n (0 ..= 4) bytes of one word */
static NOINLINE int32_t lut_tail(const bn_i16 *t, uint32_t w, uint32_t n)
{
    int32_t sum = 0;
    for (; n > 0u; n--) {
        sum += t[w & 255u];
        w >>= 8;
        t += 256;
    }
    return sum;
}

/* y[r] += factor * (sum over the tables) for all rows, data and stride of the words to look up */
static NOINLINE void lut_matrix(const bn_i16 *table, const bn_word *data, uint32_t stride, uint32_t rows,
                                uint32_t words, uint32_t tail, int32_t factor, bn_i32 *y)
{
    uint32_t one = 4u * stride; /* bytes */
    uint32_t three = 12u * stride;
    uint32_t i;
    for (; rows >= 4u; rows -= 4u) {
        const bn_i16 *t = table;
        const bn_word *p = data;
        const bn_word *stop = p + words;
        int32_t a0 = 0;
        int32_t a1 = 0;
        int32_t a2 = 0;
        int32_t a3 = 0;
        while (p != stop) {
            uint32_t w1 = word_at(p, one);
            uint32_t w2 = word_at_twice(p, one);
            uint32_t w3 = word_at(p, three);
            uint32_t w0 = *p++;
            a0 += t[w0 & 255u];
            a1 += t[w1 & 255u];
            a2 += t[w2 & 255u];
            a3 += t[w3 & 255u];
            t += 256;
            KEEP(t);
            a0 += t[w0 >> 8 & 255u];
            a1 += t[w1 >> 8 & 255u];
            a2 += t[w2 >> 8 & 255u];
            a3 += t[w3 >> 8 & 255u];
            t += 256;
            KEEP(t);
            a0 += t[w0 >> 16 & 255u];
            a1 += t[w1 >> 16 & 255u];
            a2 += t[w2 >> 16 & 255u];
            a3 += t[w3 >> 16 & 255u];
            t += 256;
            KEEP(t);
            a0 += t[w0 >> 24];
            a1 += t[w1 >> 24];
            a2 += t[w2 >> 24];
            a3 += t[w3 >> 24];
            t += 256;
            KEEP(t);
        }
        y[0] += factor * a0;
        y[1] += factor * a1;
        y[2] += factor * a2;
        y[3] += factor * a3;
        if (tail != 0u) {
            for (i = 0u; i < 4u; i++) {
                y[i] += factor * lut_tail(t, data[words + i * stride], tail);
            }
        }
        y += 4;
        data += 4u * stride;
    }
    for (; rows > 0u; rows--) {
        int32_t sum = tail != 0u ? lut_tail(table + 1024u * words, data[words], tail) : 0;
        for (i = 0u; i < words; i++) {
            sum += lut_tail(table + 1024u * i, data[i], 4u);
        }
        *y += factor * sum;
        y += 1;
        data += stride;
    }
}

/* factor * (subset sums) of the words first ..< end added to y, for rows that start at data */
static void lut_range(const bn_job *j, const bn_word *data, uint32_t stride, uint32_t rows, uint32_t first, uint32_t end,
                      int32_t factor, bn_i32 *y)
{
    uint32_t have = j->lut_base + j->lut_groups; /* groups with tables end here */
    uint32_t groups = 4u * end < have ? 4u * end : have;
    uint32_t n = groups - 4u * first;
    lut_matrix(j->lut + 256u * (4u * first - j->lut_base), data + first, stride, rows, n >> 2, n & 3u, factor, y);
}

/* all of a matrix, or a block of it: words first ..< end of rows from data on */
void bn_lut_rows(const bn_job *j, const uint8_t *data, uint32_t rows, uint32_t first, uint32_t end, bn_i32 *y)
{
    const bn_word *d = (const bn_word *)(const void *)data;
    uint32_t stride = j->w->stride >> 2;
    if (j->w->kind == (uint32_t)BN_BINARY) {
        lut_range(j, d, stride, rows, first, end, 2, y);
    } else {
        lut_range(j, d, stride, rows, first, end, 1, y);
        lut_range(j, d + (stride >> 1), stride, rows, first, end, -1, y);
    }
}

/* sum of the codes of a range of words: the last entry of each table */
int32_t bn_lut_total(const bn_job *j, uint32_t first, uint32_t end)
{
    uint32_t have = j->lut_base + j->lut_groups;
    uint32_t groups = 4u * end < have ? 4u * end : have;
    uint32_t g;
    int32_t sum = 0;
    for (g = 4u * first; g < groups; g++) {
        sum += j->lut[256u * (g - j->lut_base) + 255u];
    }
    return sum;
}

/* ---- planes of two-bit codes ------------------------------------------------ */

/* plane pairs: bit 0 of each code's two's complement, bit 1 inverted; 0 and 1 past the end */
/* the lowest bits of the four bytes of v, side by side */
BN_INLINE uint32_t lowest_of_bytes(uint32_t v)
{
    return (v & 0x01010101u) * 0x00204081u >> 21 & 15u;
}

void bn_planes_build(const bn_job *j, bn_word *p)
{
    uint32_t cols = j->w->cols;
    uint32_t i;
    for (i = 0u; i < cols; i += 32u) {
        uint32_t n = cols - i < 32u ? cols - i : 32u;
        uint32_t b0 = 0u;
        uint32_t b1 = 0u;
        uint32_t k;
        if (BN_LITTLE && n == 32u && j->c8 != (const int8_t *)0) {
            const bn_word *w = (const bn_word *)(const void *)(j->c8 + i);
            for (k = 32u; k > 0u; k -= 4u) {
                uint32_t v = w[(k >> 2) - 1u];
                b0 = b0 << 4 | lowest_of_bytes(v);
                b1 = b1 << 4 | lowest_of_bytes(v >> 1);
            }
        } else {
            for (k = n; k > 0u; k--) {
                uint32_t v = (uint32_t)bn_code_at(j, i + k - 1u);
                b0 = b0 << 1 | (v & 1u);
                b1 = b1 << 1 | (v >> 1 & 1u);
            }
        }
        p[0] = b0;
        p[1] = ~b1;
        p += 2;
    }
}

static uint32_t ones(uint32_t v)
{
    v = v - (v >> 1 & 0x55555555u);
    v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
    return ((v + (v >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
}

int32_t bn_planes_total(const bn_job *j, uint32_t first, uint32_t end)
{
    const bn_word *p = j->planes + 2u * first;
    int32_t sum = 0;
    uint32_t i;
    for (i = first; i < end; i++) {
        sum += (int32_t)ones(p[0]) - 2 * (int32_t)ones(~p[1]);
        p += 2;
    }
    return sum;
}

/* 60 less the sum of the four bytes of v, each at most 15, added */
BN_INLINE uint32_t add_bytes(uint32_t acc, uint32_t v)
{
#if BN_DSP
    return __usada8(v, 0x0F0F0F0Fu, acc);
#else
    return acc + 60u - (v * 0x01010101u >> 24);
#endif
}

/* 0x55555555 and 0x33333333 in registers: then shift and mask are one instruction */
typedef struct {
    uint32_t m5, m3;
} masks;

BN_INLINE masks masks_of(void)
{
    masks m;
    m.m5 = 0x55555555u;
    m.m3 = 0x33333333u;
    KEEP(m.m5);
    KEEP(m.m3);
    return m;
}

/* bits counted in each nibble */
BN_INLINE uint32_t nibbles(uint32_t v, masks m)
{
    v -= v >> 1 & m.m5;
    return (v & m.m3) + (v >> 2 & m.m3);
}

/* takes away (bits of a) + 2 * (bits of b), adds 120 */
BN_INLINE uint32_t weigh(uint32_t acc, uint32_t a, uint32_t b, masks m)
{
    uint32_t n = nibbles(a, m) + 2u * nibbles(b, m); /* 0 ..= 12 in each */
    acc = add_bytes(acc, n & 0x0F0F0F0Fu);
    return add_bytes(acc, n >> 4 & 0x0F0F0F0Fu);
}

/* two rows, s bytes apart: sums of the codes at set bits.  The inverted bits
 * count 64 for each word too many. */
static NOINLINE void planes_pair(const bn_word *p, const bn_word *r, uint32_t s, uint32_t words, int32_t *acc)
{
    uint32_t a0 = 0u;
    uint32_t a1 = 0u;
    const bn_word *stop = r + words;
    masks m = masks_of();
    while (r != stop) {
        uint32_t b0 = p[0];
        uint32_t b1 = p[1];
        uint32_t w = word_at(r, s);
        p += 2;
        a1 = weigh(a1, w & b0, b1 | ~w, m);
        w = *r++;
        a0 = weigh(a0, w & b0, b1 | ~w, m);
    }
    acc[0] = (int32_t)(56u * words - a0);
    acc[1] = (int32_t)(56u * words - a1);
}

/* one row, plus and minus words.  Where the weight is -1 a bit plane is
 * inverted: -v = (inverted) - 1 for bit 0, -2 * (inverted) + 2 for bit 1. */
static NOINLINE int32_t planes_ternary(const bn_word *p, const bn_word *plus, uint32_t to_minus, uint32_t words)
{
    uint32_t acc = 0u;
    const bn_word *stop = plus + words;
    masks k = masks_of();
    while (plus != stop) {
        uint32_t m = plus[to_minus];
        uint32_t used = *plus++ | m;
        uint32_t n = nibbles(m, k);
        acc = weigh(acc, (p[0] ^ m) & used, (p[1] ^ m) | ~used, k);
        acc = add_bytes(acc, (n + (n >> 4)) & 0x0F0F0F0Fu);
        p += 2;
    }
    return (int32_t)(116u * words - acc);
}

/* sums of the words first ..< end of rows from data on; total: of the codes, for binary rows */
void bn_planes_rows(const bn_job *j, const uint8_t *data, uint32_t rows, uint32_t first, uint32_t end, int32_t total,
                        bn_i32 *y)
{
    const bn_word *p = j->planes + 2u * first;
    const bn_word *r = (const bn_word *)(const void *)data + first;
    uint32_t words = j->w->stride >> 2;
    uint32_t i;
    if (j->w->kind == (uint32_t)BN_TERNARY) {
        for (i = 0u; i < rows; i++) {
            y[i] = planes_ternary(p, r, words >> 1, end - first);
            r += words;
        }
        return;
    }
    for (i = 0u; i < rows; i += 2u) {
        int32_t acc[2];
        uint32_t apart = i + 1u < rows ? j->w->stride : 0u; /* the last row twice */
        planes_pair(p, r, apart, end - first, acc);
        y[i] = 2 * acc[0] - total;
        if (apart != 0u) {
            y[i + 1u] = 2 * acc[1] - total;
        }
        r += 2u * words;
    }
}

/* ---- int8 and int16 rows ----------------------------------------------------- */

#if BN_DSP
BN_INLINE int32_t even(uint32_t v)
{
    int32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(v));
    return r;
}

BN_INLINE int32_t odd(uint32_t v)
{
    int32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
    return r;
}

BN_INLINE int32_t bottoms(uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

BN_INLINE int32_t tops(uint32_t a, uint32_t b)
{
    int32_t r;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

/* Four columns of four rows; one block, because otherwise the compiler loads
 * all rows first and runs out of registers. */
#define ROWS_STEP                                                                                  \
    __asm__("ldr %[v], [%[r], %[s]]\n\t"                                                           \
            "ldr %[u], [%[r], %[s], lsl #1]\n\t"                                                   \
            "sxtb16 %[t], %[v]\n\t"                                                                \
            "smlad %[a1], %[t], %[xe], %[a1]\n\t"                                                  \
            "sxtb16 %[v], %[v], ror #8\n\t"                                                        \
            "smlad %[a1], %[v], %[xo], %[a1]\n\t"                                                  \
            "ldr %[v], [%[r], %[s3]]\n\t"                                                          \
            "sxtb16 %[t], %[u]\n\t"                                                                \
            "smlad %[a2], %[t], %[xe], %[a2]\n\t"                                                  \
            "sxtb16 %[u], %[u], ror #8\n\t"                                                        \
            "smlad %[a2], %[u], %[xo], %[a2]\n\t"                                                  \
            "ldr %[u], [%[r]], #4\n\t"                                                             \
            "sxtb16 %[t], %[v]\n\t"                                                                \
            "smlad %[a3], %[t], %[xe], %[a3]\n\t"                                                  \
            "sxtb16 %[v], %[v], ror #8\n\t"                                                        \
            "smlad %[a3], %[v], %[xo], %[a3]\n\t"                                                  \
            "sxtb16 %[t], %[u]\n\t"                                                                \
            "smlad %[a0], %[t], %[xe], %[a0]\n\t"                                                  \
            "sxtb16 %[u], %[u], ror #8\n\t"                                                        \
            "smlad %[a0], %[u], %[xo], %[a0]"                                                      \
            : [r] "+r"(r), [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [v] "=&r"(v), \
              [u] "=&r"(u), [t] "=&r"(t)                                                           \
            : [s] "r"(stride), [s3] "r"(three), [xe] "r"(xe), [xo] "r"(xo))

#define ROWS_STEP_I8          \
    {                         \
        uint32_t c = *x++;    \
        xe = even(c);         \
        xo = odd(c);          \
        ROWS_STEP;            \
    }

#define ROWS_STEP_I16         \
    {                         \
        uint32_t c0 = x[0];   \
        uint32_t c1 = x[1];   \
        x += 2;               \
        xe = bottoms(c0, c1); \
        xo = tops(c0, c1);    \
        ROWS_STEP;            \
    }

/* quads times four columns of four int8 rows, stride bytes apart */
static NOINLINE void rows_dsp(const bn_job *j, const uint8_t *row, uint32_t stride, uint32_t quads, int32_t *acc)
{
    const bn_word *r = (const bn_word *)(const void *)row;
    const bn_word *stop = r + quads;
    uint32_t three = 3u * stride;
    int32_t a0 = 0;
    int32_t a1 = 0;
    int32_t a2 = 0;
    int32_t a3 = 0;
    uint32_t v;
    uint32_t u;
    uint32_t t;
    int32_t xe;
    int32_t xo;
    if (j->c8 != (const int8_t *)0) {
        const bn_word *x = (const bn_word *)(const void *)j->c8;
        while (r != stop) {
            ROWS_STEP_I8;
        }
    } else {
        const bn_word *x = (const bn_word *)(const void *)j->c16;
        while (r != stop) {
            ROWS_STEP_I16;
        }
    }
    acc[0] = a0;
    acc[1] = a1;
    acc[2] = a2;
    acc[3] = a3;
}
#endif

static int32_t row_int(const bn_job *j, const uint8_t *row, uint32_t from)
{
    uint32_t cols = j->w->cols;
    uint32_t i;
    int32_t sum = 0;
    if (j->w->kind == (uint32_t)BN_INT8) {
        const int8_t *w = (const int8_t *)row;
#if BN_NEON
        if (from == 0u) {
            return j->c8 != (const int8_t *)0 ? bn_neon_rows8(w, j->c8, cols, j->dot) : bn_neon_rows16(w, j->c16, cols);
        }
#endif
        if (j->c8 != (const int8_t *)0) {
            for (i = from; i < cols; i++) {
                sum += (int32_t)w[i] * j->c8[i];
            }
        } else {
            for (i = from; i < cols; i++) {
                sum += (int32_t)w[i] * j->c16[i];
            }
        }
    } else {
        const bn_i16 *w = (const bn_i16 *)(const void *)row;
        for (i = from; i < cols; i++) {
            sum += (int32_t)w[i] * bn_code_at(j, i);
        }
    }
    return sum;
}

void bn_by_rows(const bn_job *j, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t r = 0u;
    uint32_t i;
#if BN_DSP
    if (w->kind == (uint32_t)BN_INT8) {
        uint32_t from = w->cols & ~3u;
        for (; r + 4u <= w->rows; r += 4u) {
            const uint8_t *row = w->data + r * w->stride;
            int32_t acc[4];
            rows_dsp(j, row, w->stride, w->cols >> 2, acc);
            for (i = 0u; i < 4u; i++) {
                y[r + i] = from == w->cols ? acc[i] : acc[i] + row_int(j, row + i * w->stride, from);
            }
        }
    }
#endif
    for (i = r; i < w->rows; i++) {
        y[i] = row_int(j, w->data + i * w->stride, 0u);
    }
}
