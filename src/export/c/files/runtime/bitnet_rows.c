/*
 * bitnet_rows.c - int8, int16 and int4 matrices: multiply and accumulate.
 */
#include "bitnet_kernels.h"
#include "bitnet_poison.h"

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
static BN_NOINLINE void rows_dsp(const bn_job *j, const uint8_t *row, uint32_t stride, uint32_t quads, int32_t *acc)
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

#if BN_DSP && BITNET_KIND_INT4

/* Eight columns of one int4 row: a nibble with 8 added is 0 ..= 15 and is multiplied where it lies.  The codes
 * come in pairs of columns four apart. */
#define INT4_ROW(acc, v)                                      \
    v ^= 0x88888888u;                                         \
    acc = __smlad((int32_t)(v & mask), p0, acc);              \
    acc = __smlad((int32_t)(v >> 4 & mask), p1, acc);         \
    acc = __smlad((int32_t)(v >> 8 & mask), p2, acc);         \
    acc = __smlad((int32_t)(v >> 12 & mask), p3, acc)

/* two rows, `apart` bytes from one to the other, of which `words` are used */
static BN_NOINLINE void rows_int4(const bn_job *j, const uint8_t *row, uint32_t apart, uint32_t words, int32_t *acc)
{
    const bn_word *r = (const bn_word *)(const void *)row;
    const bn_word *q = (const bn_word *)(const void *)(row + apart);
    const bn_word *stop = r + words;
    uint32_t mask = 0x000F000Fu;
    int32_t a0 = acc[0];
    int32_t a1 = acc[1];
    BN_KEEP(mask);
    if (j->c8 != (const int8_t *)0) {
        const bn_word *x = (const bn_word *)(const void *)j->c8;
        while (r != stop) {
            uint32_t e0 = (uint32_t)even(x[0]);
            uint32_t o0 = (uint32_t)odd(x[0]);
            uint32_t e1 = (uint32_t)even(x[1]);
            uint32_t o1 = (uint32_t)odd(x[1]);
            int32_t p0 = bottoms(e0, e1);
            int32_t p1 = bottoms(o0, o1);
            int32_t p2 = tops(e0, e1);
            int32_t p3 = tops(o0, o1);
            uint32_t v = *r++;
            uint32_t u = *q++;
            x += 2;
            INT4_ROW(a0, v);
            INT4_ROW(a1, u);
        }
    } else {
        const bn_word *x = (const bn_word *)(const void *)j->c16;
        while (r != stop) {
            int32_t p0 = bottoms(x[0], x[2]);
            int32_t p1 = tops(x[0], x[2]);
            int32_t p2 = bottoms(x[1], x[3]);
            int32_t p3 = tops(x[1], x[3]);
            uint32_t v = *r++;
            uint32_t u = *q++;
            x += 4;
            INT4_ROW(a0, v);
            INT4_ROW(a1, u);
        }
    }
    acc[0] = a0;
    acc[1] = a1;
}

#endif

#if BITNET_KIND_INT4

/* the columns from an even one on */
static int32_t row_int4(const bn_job *j, const uint8_t *row, uint32_t from)
{
    uint32_t cols = j->w->cols;
    uint32_t i;
    int32_t sum = 0;
    for (i = from; i + 2u <= cols; i += 2u) {
        uint32_t v = row[i >> 1];
        sum += ((int32_t)(v << 28) >> 28) * bn_code_at(j, i);
        sum += ((int32_t)(v << 24) >> 28) * bn_code_at(j, i + 1u);
    }
    if (i < cols) {
        sum += ((int32_t)((uint32_t)row[i >> 1] << 28) >> 28) * bn_code_at(j, i);
    }
    return sum;
}

static void by_int4(const bn_job *j, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t from = 0u;
    uint32_t r;
#if BN_DSP
    uint32_t sum = 0u;
    uint32_t i;
    from = w->cols & ~7u;
    for (i = 0u; i < from; i++) {
        sum += (uint32_t)bn_code_at(j, i);
    }
#endif
    for (r = 0u; r < w->rows; r += 2u) {
        const uint8_t *row = w->data + r * w->stride;
        uint32_t apart = r + 1u < w->rows ? w->stride : 0u; /* the last row twice */
        int32_t acc[2];
#if BN_DSP
        acc[0] = (int32_t)(0u - 8u * sum);
        acc[1] = acc[0];
        rows_int4(j, row, apart, from >> 3, acc);
#else
        acc[0] = 0;
        acc[1] = 0;
#endif
        y[r] = acc[0] + row_int4(j, row, from);
        if (apart != 0u) {
            y[r + 1u] = acc[1] + row_int4(j, row + apart, from);
        }
    }
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
#if BITNET_KIND_INT4
    if (w->kind == (uint32_t)BN_INT4) {
        by_int4(j, y);
        return;
    }
#endif
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
