/*
 * bitnet_neon.h - sums of LINEAR with Advanced SIMD on AArch64.  What has the
 * vector unit is chosen at compile time; the dot product instructions of
 * Armv8.2 only if the port says that this core has them (bitnet_set_simd).
 */
#ifndef BITNET_NEON_H
#define BITNET_NEON_H

#include "bitnet_math.h"

#if defined(__aarch64__) && defined(__ARM_NEON) && BN_LITTLE && !defined(BITNET_NO_SIMD)
#define BN_NEON 1

/* acc[i] += sum of the codes at the set bits of n full words of row i */
void bn_neon_subset8(const int8_t *x, const bn_word *const r[4], uint32_t n, uint32_t dot, int32_t *acc);
void bn_neon_subset16(const bn_i16 *x, const bn_word *const r[4], uint32_t n, int32_t *acc);

/* inner products of int8 rows with codes: n columns, sums within 30 bits */
int32_t bn_neon_rows8(const int8_t *row, const int8_t *x, uint32_t n, uint32_t dot);
int32_t bn_neon_rows16(const int8_t *row, const bn_i16 *x, uint32_t n);

/* the same of any size */
int64_t bn_neon_wide8(const int8_t *row, const bn_i16 *x, uint32_t n);
int64_t bn_neon_wide16(const bn_i16 *row, const bn_i16 *x, uint32_t n);
#else
#define BN_NEON 0
#endif

#endif
