/* bitnet_neon.c - see bitnet_neon.h.  Integer vectors only. */
#include "bitnet_neon.h"

#if BN_NEON
#include <arm_neon.h>
#include "bitnet_poison.h"

/* ---- subset sums --------------------------------------------------------------- */

/* What the loops keep in registers: which byte of a word belongs to which of its 32 columns, and which bit. */
typedef struct {
    uint8x16_t lo, hi, places;
} spreading;

BN_INLINE spreading spreading_of(void)
{
    spreading s;
    s.lo = vcombine_u8(vdup_n_u8(0u), vdup_n_u8(1u));
    s.hi = vcombine_u8(vdup_n_u8(2u), vdup_n_u8(3u));
    s.places = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    return s;
}

/* 0xFF (-1) in the bytes whose bit of w is set */
BN_INLINE int8x16_t spread(uint8x16_t w, uint8x16_t which, spreading s)
{
    return vreinterpretq_s8_u8(vtstq_u8(vqtbl1q_u8(w, which), s.places));
}

BN_INLINE uint8x16_t copies(uint32_t w) { return vreinterpretq_u8_u32(vdupq_n_u32(w)); }

/* Each 16-bit lane takes at most 4 * 128 a word: 60 words stay below 2^15. */
enum { SUBSET_WORDS = 60 };

#define ADD_ROW(k)                                             \
    w = copies(r[k][i]);                                       \
    s##k = vpadalq_s8(s##k, vandq_s8(lo, spread(w, p.lo, p))); \
    s##k = vpadalq_s8(s##k, vandq_s8(hi, spread(w, p.hi, p)))

static void subset8_add(const int8_t *x, const bn_word *const r[4], uint32_t n, int32_t *acc)
{
    spreading p = spreading_of();
    uint32_t first = 0u;
    while (first < n) {
        uint32_t end = n - first < (uint32_t)SUBSET_WORDS ? n : first + (uint32_t)SUBSET_WORDS;
        int16x8_t s0 = vdupq_n_s16(0), s1 = s0, s2 = s0, s3 = s0;
        uint32_t i;
        for (i = first; i < end; i++) {
            int8x16_t lo = vld1q_s8(x + 32u * i);
            int8x16_t hi = vld1q_s8(x + 32u * i + 16u);
            uint8x16_t w;
            ADD_ROW(0);
            ADD_ROW(1);
            ADD_ROW(2);
            ADD_ROW(3);
        }
        acc[0] += vaddlvq_s16(s0);
        acc[1] += vaddlvq_s16(s1);
        acc[2] += vaddlvq_s16(s2);
        acc[3] += vaddlvq_s16(s3);
        first = end;
    }
}

#define DOT_ROW(k)                                   \
    w = copies(r[k][i]);                             \
    s##k = vdotq_s32(s##k, lo, spread(w, p.lo, p)); \
    s##k = vdotq_s32(s##k, hi, spread(w, p.hi, p))

/* Compiled for a core that may lack the instruction; chosen at run time. With -mcpu of a core that has it, nothing may
 * be said here: another architecture than that of the helpers could not inline them. */
#if defined(__ARM_FEATURE_DOTPROD)
#define WITH_DOT
#else
#define WITH_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

/* a set bit is -1 there, so the products are subtracted */
WITH_DOT static void subset8_dot(const int8_t *x, const bn_word *const r[4], uint32_t n, int32_t *acc)
{
    spreading p = spreading_of();
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        int8x16_t lo = vld1q_s8(x + 32u * i);
        int8x16_t hi = vld1q_s8(x + 32u * i + 16u);
        uint8x16_t w;
        DOT_ROW(0);
        DOT_ROW(1);
        DOT_ROW(2);
        DOT_ROW(3);
    }
    acc[0] -= vaddvq_s32(s0);
    acc[1] -= vaddvq_s32(s1);
    acc[2] -= vaddvq_s32(s2);
    acc[3] -= vaddvq_s32(s3);
}

void bn_neon_subset8(const int8_t *x, const bn_word *const r[4], uint32_t n, uint32_t dot, int32_t *acc)
{
    if (dot != 0u) {
        subset8_dot(x, r, n, acc);
    } else {
        subset8_add(x, r, n, acc);
    }
}

void bn_neon_subset16(const bn_i16 *x, const bn_word *const r[4], uint32_t n, int32_t *acc)
{
    static const uint16_t places[8] = { 1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u };
    uint16x8_t place = vld1q_u16(places);
    int32x4_t s[4];
    uint32_t i;
    uint32_t k;
    uint32_t q;
    for (k = 0u; k < 4u; k++) {
        s[k] = vdupq_n_s32(0);
    }
    for (i = 0u; i < n; i++) {
        for (q = 0u; q < 4u; q++) {
            int16x8_t v = vld1q_s16(x + 32u * i + 8u * q);
            for (k = 0u; k < 4u; k++) {
                uint16x8_t bits = vdupq_n_u16((uint16_t)(r[k][i] >> (8u * q) & 255u));
                s[k] = vpadalq_s16(s[k], vandq_s16(v, vreinterpretq_s16_u16(vtstq_u16(bits, place))));
            }
        }
    }
    for (k = 0u; k < 4u; k++) {
        acc[k] += vaddvq_s32(s[k]);
    }
}

/* ---- rows ------------------------------------------------------------------------ */

static int32_t rows8_add(const int8_t *row, const int8_t *x, uint32_t n)
{
    int32x4_t s = vdupq_n_s32(0);
    uint32_t i;
    for (i = 0u; i < n; i += 16u) {
        int8x16_t a = vld1q_s8(row + i);
        int8x16_t b = vld1q_s8(x + i);
        s = vpadalq_s16(s, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        s = vpadalq_s16(s, vmull_high_s8(a, b));
    }
    return vaddvq_s32(s);
}

WITH_DOT static int32_t rows8_dot(const int8_t *row, const int8_t *x, uint32_t n)
{
    int32x4_t s = vdupq_n_s32(0);
    uint32_t i;
    for (i = 0u; i < n; i += 16u) {
        s = vdotq_s32(s, vld1q_s8(row + i), vld1q_s8(x + i));
    }
    return vaddvq_s32(s);
}

int32_t bn_neon_rows8(const int8_t *row, const int8_t *x, uint32_t n, uint32_t dot)
{
    uint32_t full = n & ~15u;
    int32_t sum = dot != 0u ? rows8_dot(row, x, full) : rows8_add(row, x, full);
    uint32_t i;
    for (i = full; i < n; i++) {
        sum += (int32_t)row[i] * x[i];
    }
    return sum;
}

int32_t bn_neon_rows16(const int8_t *row, const bn_i16 *x, uint32_t n)
{
    uint32_t full = n & ~7u;
    int32x4_t s = vdupq_n_s32(0);
    int32_t sum;
    uint32_t i;
    for (i = 0u; i < full; i += 8u) {
        int16x8_t a = vmovl_s8(vld1_s8(row + i));
        int16x8_t b = vld1q_s16(x + i);
        s = vmlal_s16(s, vget_low_s16(a), vget_low_s16(b));
        s = vmlal_high_s16(s, a, b);
    }
    sum = vaddvq_s32(s);
    for (i = full; i < n; i++) {
        sum += (int32_t)row[i] * x[i];
    }
    return sum;
}

/* ---- sums of any size ---------------------------------------------------------- */

int64_t bn_neon_wide8(const int8_t *row, const bn_i16 *x, uint32_t n)
{
    int64_t sum = 0;
    while (n > 0u) { /* 128 * 32,767 * 256 is below 2^30 */
        uint32_t part = n < 256u ? n : 256u;
        sum += bn_neon_rows16(row, x, part);
        row += part;
        x += part;
        n -= part;
    }
    return sum;
}

int64_t bn_neon_wide16(const bn_i16 *row, const bn_i16 *x, uint32_t n)
{
    uint32_t full = n & ~7u;
    int64x2_t s = vdupq_n_s64(0);
    int64_t sum;
    uint32_t i;
    for (i = 0u; i < full; i += 8u) {
        int16x8_t a = vld1q_s16(row + i);
        int16x8_t b = vld1q_s16(x + i);
        s = vpadalq_s32(s, vmull_s16(vget_low_s16(a), vget_low_s16(b)));
        s = vpadalq_s32(s, vmull_high_s16(a, b));
    }
    sum = vaddvq_s64(s);
    for (i = full; i < n; i++) {
        sum += bn_mul(row[i], x[i]);
    }
    return sum;
}

#else
typedef int bn_neon_nothing; /* a translation unit must declare something */
#endif
