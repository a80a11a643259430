/*
 * bitnet_math.h - exact integer arithmetic of docs/semantics.md, sections 1,
 * 2 and 4.  Everything 64 bits wide is in the helpers of this file; none of
 * them needs a library call on a 32-bit core with a 32 x 32 -> 64 multiply.
 */
#ifndef BITNET_MATH_H
#define BITNET_MATH_H

#include "bitnet.h"

/* The two implementation-defined conversions this code relies on. */
typedef char bitnet_check_shift[((-5) >> 1) == -3 ? 1 : -1];
typedef char bitnet_check_conversion[(int32_t)0xFFFFFFFEu == -2 ? 1 : -1];

/* 1 where a word of four bytes has the first one lowest, so that bytes may be read by fours */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BN_LITTLE 1
#else
#define BN_LITTLE 0
#endif

/* Types for memory that is written as one width and read as another. */
#if defined(__GNUC__)
typedef uint32_t __attribute__((may_alias)) bn_word;
typedef int32_t __attribute__((may_alias)) bn_i32;
typedef int16_t __attribute__((may_alias)) bn_i16;
typedef uint16_t __attribute__((may_alias)) bn_u16;
#else
typedef uint32_t bn_word;
typedef int32_t bn_i32;
typedef int16_t bn_i16;
typedef uint16_t bn_u16;
#endif

#define BN_LIMIT 2147483647 /* 2^31 - 1 */

#if defined(__GNUC__)
#define BN_INLINE static inline __attribute__((always_inline, unused))
#else
#define BN_INLINE static inline
#endif

/* ---- 64-bit helpers ---------------------------------------------------- */

/* 1: no instruction gives 64 bits of a product, and the compiler would call its library */
#ifndef BITNET_MUL_HALVES
#if (defined(__thumb__) && !defined(__thumb2__)) || defined(__XTENSA__)
#define BITNET_MUL_HALVES 1
#else
#define BITNET_MUL_HALVES 0
#endif
#endif

#if BITNET_MUL_HALVES

uint64_t bn_mulu(uint32_t a, uint32_t b); /* out of line: four products of halves */
int64_t bn_mul(int32_t a, int32_t b);
int64_t bn_mulsu(int32_t a, uint32_t b);

#else

BN_INLINE int64_t bn_mul(int32_t a, int32_t b) { return (int64_t)a * b; }
BN_INLINE uint64_t bn_mulu(uint32_t a, uint32_t b) { return (uint64_t)a * b; }

/* signed times unsigned, |a| <= 2^31 - 1, exact */
BN_INLINE int64_t bn_mulsu(int32_t a, uint32_t b)
{
    return (int64_t)a * (int64_t)(uint64_t)b;
}

#endif

BN_INLINE uint32_t bn_lo(uint64_t v) { return (uint32_t)v; }
BN_INLINE uint32_t bn_hi(uint64_t v) { return (uint32_t)(v >> 32); }

BN_INLINE uint32_t bn_abs(int32_t v) { return v < 0 ? 0u - (uint32_t)v : (uint32_t)v; }

BN_INLINE uint64_t bn_abs64(int64_t v) { return v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v; }

/* number of bits of v */
BN_INLINE uint32_t bn_bitlen(uint32_t v)
{
#if defined(__GNUC__) && (defined(__ARM_FEATURE_CLZ) || defined(__x86_64__) || defined(__aarch64__))
    return v == 0u ? 0u : 32u - (uint32_t)__builtin_clz(v);
#else
    uint32_t n = 0u;
    if (v >= 0x10000u) { n += 16u; v >>= 16; }
    if (v >= 0x100u) { n += 8u; v >>= 8; }
    if (v >= 0x10u) { n += 4u; v >>= 4; }
    if (v >= 4u) { n += 2u; v >>= 2; }
    if (v >= 2u) { n += 1u; v >>= 1; }
    return n + v;
#endif
}

BN_INLINE uint32_t bn_bitlen64(uint64_t v)
{
    return bn_hi(v) != 0u ? 32u + bn_bitlen(bn_hi(v)) : bn_bitlen(bn_lo(v));
}

/* rounding shift right; (v >> s) plus the bit below the cut never overflows */
BN_INLINE int32_t bn_rsr(int32_t v, uint32_t s)
{
    if (s == 0u) {
        return v;
    }
    return s >= 32u ? 0 : (v >> (s - 1u) >> 1) + ((v >> (s - 1u)) & 1);
}

BN_INLINE int64_t bn_rsr64(int64_t v, uint32_t s)
{
    if (s == 0u) {
        return v;
    }
    return s >= 63u ? 0 : (v >> s) + ((v >> (s - 1u)) & 1);
}

BN_INLINE int32_t bn_sat(int64_t v)
{
    return v > BN_LIMIT ? BN_LIMIT : (v < -BN_LIMIT ? -BN_LIMIT : (int32_t)v);
}

/* rsr of v where the result is known to fit, |v| <= 2^62: mostly one word is enough */
BN_INLINE int32_t bn_narrow(int64_t v, uint32_t s)
{
    int32_t hi = (int32_t)(v >> 32);
    if (s >= 33u) {
        return s >= 63u ? 0 : (hi + (int32_t)(1u << (s - 33u))) >> (s - 32u);
    }
    if (s == 0u || s == 32u) {
        return (int32_t)bn_rsr64(v, s);
    }
    v += (int64_t)(1u << (s - 1u));
    return (int32_t)(bn_lo((uint64_t)v) >> s | bn_hi((uint64_t)v) << (32u - s));
}

/* wrapping conversion, for values that fit unless the scales of a matrix lie */
BN_INLINE int32_t bn_i32_of(int64_t v) { return (int32_t)(uint32_t)(uint64_t)v; }

/* ---- out of line (bitnet_math.c) --------------------------------------- */

int32_t bn_shift(int64_t v, int32_t s);
uint32_t bn_recip(uint32_t m);
uint32_t bn_isqrt(uint64_t v);


/* a scale with its exponent limited */
BN_INLINE bitnet_scale bn_scale(uint32_t m, int32_t e)
{
    bitnet_scale r;
    r.m = m;
    r.e = e < -1048576 ? -1048576 : (e > 1048576 ? 1048576 : e);
    return r;
}

bitnet_scale bn_norm(uint64_t v, int32_t e);
bitnet_scale bn_inv(bitnet_scale a);
bitnet_scale bn_add_scale(bitnet_scale a, bitnet_scale b);
bitnet_scale bn_sqrt(bitnet_scale a);
uint32_t bn_less(bitnet_scale a, bitnet_scale b);
BN_INLINE bitnet_scale bn_exp_add(bitnet_scale a, int32_t k) { return bn_scale(a.m, a.e + k); }

/* the product of two mantissas has 61 or 62 bits */
BN_INLINE bitnet_scale bn_mul_scale(bitnet_scale a, bitnet_scale b)
{
    uint64_t p = bn_mulu(a.m, b.m);
    uint32_t s = bn_hi(p) >= 0x20000000u ? 31u : 30u;
    uint32_t m = (uint32_t)bn_narrow((int64_t)p, s);
    if (m == 0x80000000u) {
        m = 0x40000000u;
        s += 1u;
    }
    return bn_scale(m, a.e + b.e + (int32_t)s);
}

/* x times a, f fraction bits */
BN_INLINE int32_t bn_apply(int32_t x, bitnet_scale a, int32_t f)
{
    return bn_shift(bn_mul(x, (int32_t)a.m), -(a.e + f));
}

/* A scale prepared for many elements: the same result as bn_apply. */
typedef struct {
    uint32_t m;
    int32_t s; /* shift right */
} bn_factor;

BN_INLINE bn_factor bn_factor_of(bitnet_scale a, int32_t f)
{
    bn_factor r;
    r.m = a.m;
    r.s = -(a.e + f);
    return r;
}

BN_INLINE int32_t bn_times(int32_t x, bn_factor a)
{
    if (a.s >= 31 && a.s <= 62) { /* x * m is below 2^62, so the result fits */
        return bn_narrow(bn_mul(x, (int32_t)a.m), (uint32_t)a.s);
    }
    return bn_shift(bn_mul(x, (int32_t)a.m), a.s);
}

/* Division of many values by one: round-half-even of q * x / a, |x| <= a. */
typedef struct {
    uint32_t a;     /* divisor, > 0 */
    uint32_t q;     /* factor, 1 ..= 32,767 */
    uint32_t recip; /* 2^61 / (a << up) */
    uint32_t up;
} bn_divisor;

bn_divisor bn_divisor_of(uint32_t a, uint32_t q);
uint32_t bn_divide_close(const bn_divisor *d, uint32_t x, uint32_t q0);

BN_INLINE int32_t bn_divide(const bn_divisor *d, int32_t x)
{
    uint32_t ax = bn_abs(x);
    /* t / 2^29 is x / a, less than 2 units too small */
    uint32_t t = bn_hi(bn_mulu(ax << d->up, d->recip));
    uint64_t v = bn_mulu(t, d->q);
    uint32_t q0 = (uint32_t)(v >> 29);
    uint32_t part = bn_lo(v) & 0x1FFFFFFFu;
    if (part > 0x10000000u) {
        q0 += 1u;
    } else if (part + 2u * d->q >= 0x10000000u) {
        q0 = bn_divide_close(d, ax, q0);
    }
    return x < 0 ? -(int32_t)q0 : (int32_t)q0;
}

uint32_t bn_code_close(const bn_divisor *d, uint32_t x, uint32_t q0);

/* The code of QUANTIZE: as bn_divide, but a quotient within 2^-17 of a tie counts as the tie.
 * The band has 2^12 units of t * q on either side of the half. */
BN_INLINE int32_t bn_code(const bn_divisor *d, int32_t x)
{
    uint32_t ax = bn_abs(x);
    uint32_t t = bn_hi(bn_mulu(ax << d->up, d->recip));
    uint64_t v = bn_mulu(t, d->q);
    uint32_t q0 = (uint32_t)(v >> 29);
    uint32_t part = bn_lo(v) & 0x1FFFFFFFu;
    if (part > 0x10001000u) {
        q0 += 1u;
    } else if (part + 2u * d->q > 0x0FFFF000u) {
        q0 = bn_code_close(d, ax, q0);
    }
    return x < 0 ? -(int32_t)q0 : (int32_t)q0;
}

uint32_t bn_exp2n(const uint32_t *table, uint32_t d);
int32_t bn_sin(const int32_t *table, uint32_t phase);

/* ---- CRC-32 (IEEE 802.3) ------------------------------------------------ */

#define BN_CRC_START 0xFFFFFFFFu
uint32_t bn_crc_bytes(uint32_t crc, const uint8_t *p, uint32_t n);
uint32_t bn_crc_word(uint32_t crc, uint32_t value); /* the 4 bytes of value, lowest first */
BN_INLINE uint32_t bn_crc_end(uint32_t crc) { return ~crc; }

#endif
