/*
 * bitnet_select.c - subset sums of binary and ternary rows by masks: any codes, no
 * memory.  A binary row is 2 * (sum of the codes at set bits) - (sum of all), a
 * ternary one plus sums minus sums.
 */
#include "bitnet_kernels.h"
#include "bitnet_poison.h"

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
#if BN_NEON || BN_DSP
    uint32_t full = (cols >> 5) < end ? cols >> 5 : end;
    if (full > first && (BN_NEON || j->c8 != (const int8_t *)0)) {
        const bn_word *q[4];
        q[0] = r[0] + first;
        q[1] = r[1] + first;
        q[2] = r[2] + first;
        q[3] = r[3] + first;
#if BN_DSP
        select_ge((const bn_word *)(const void *)j->c8 + 8u * first, full - first, q, acc);
#else
        if (j->c8 != (const int8_t *)0) {
            bn_neon_subset8(j->c8 + 32u * first, (const bn_word *const *)q, full - first, j->dot, acc);
        } else {
            bn_neon_subset16(j->c16 + 32u * first, (const bn_word *const *)q, full - first, acc);
        }
#endif
        i = full;
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

