/* bitnet_kernels.h - the kernels of LINEAR, for bitnet_linear.c only. */
#ifndef BITNET_KERNELS_H
#define BITNET_KERNELS_H

#include "bitnet_internal.h"
#include "bitnet_neon.h"

#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && !defined(BITNET_NO_DSP)
#include <arm_acle.h>
#define BN_DSP 1
#else
#define BN_DSP 0
#endif

/* Thumb-2: stores of many registers, look-ups with a scaled index.  Not without optimisation: too few registers. */
#if defined(__thumb2__) && defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(BITNET_NO_ASM)
#define BN_THUMB2 1
#else
#define BN_THUMB2 0
#endif

/* a value that is to stay in its register as it is */
#if defined(__GNUC__)
#define BN_KEEP(v) __asm__("" : "+r"(v))
#define BN_NOINLINE __attribute__((noinline))
#else
#define BN_KEEP(v) (void)(v)
#define BN_NOINLINE
#endif

typedef struct {
    const bn_tensor *w;
    const int8_t *c8;    /* codes, one of the two */
    const bn_i16 *c16;
    const bn_word *planes;
    uint32_t qmax;       /* of the codes */
    uint32_t kernel;
#if BN_NEON
    uint32_t dot; /* 1: the core has the dot product instructions */
#endif
} bn_job;

/* bn_job.kernel */
enum { K_SELECT, K_PLANES };

BN_INLINE int32_t bn_code_at(const bn_job *j, uint32_t i)
{
    return j->c8 != (const int8_t *)0 ? j->c8[i] : j->c16[i];
}

/* bitnet_select.c, bitnet_planes.c: sums over the 32-column words first ..< end */
void bn_subset_select(const bn_job *j, const bn_word *const r[4], uint32_t first, uint32_t end, int32_t *acc);
int32_t bn_planes_total(const bn_job *j, uint32_t first, uint32_t end);
void bn_planes_build(const bn_job *j, bn_word *p);
void bn_planes_rows(const bn_job *j, const uint8_t *data, uint32_t rows, uint32_t first, uint32_t end, int32_t total,
                    bn_i32 *y);

/* bitnet_tables.c: matrices whose bytes lie in quads */
uint32_t bn_table_bytes(const bn_job *j);  /* of one table: 256 or 512 */
uint32_t bn_table_groups(const bn_job *j); /* tables for all columns */
void bn_tables_build(const bn_job *j, uint8_t *t, uint32_t first, uint32_t n);
int32_t bn_tables_start(const bn_job *j, const uint8_t *t, uint32_t n);
void bn_tables_rows(const bn_job *j, const uint8_t *t, uint32_t quad, uint32_t rows, uint32_t first, uint32_t n, bn_i32 *y);
int32_t bn_tables_end(const bn_job *j, int32_t sum);

/* bitnet_rows.c: int8, int16, int4 */
void bn_by_rows(const bn_job *j, bn_i32 *y);

#endif
