/* bitnet_kernels.h - the kernels of LINEAR, for bitnet_linear.c only. */
#ifndef BITNET_KERNELS_H
#define BITNET_KERNELS_H

#include "bitnet_internal.h"
#include "bitnet_neon.h"

typedef struct {
    const bn_tensor *w;
    const int8_t *c8;    /* codes, one of the two */
    const bn_i16 *c16;
    const bn_word *planes;
    const bn_i16 *lut;
    uint32_t lut_base;   /* first 8-column group in the tables */
    uint32_t lut_groups; /* groups in the tables */
    int32_t total;       /* sum of all codes */
    uint32_t kernel;
#if BN_NEON
    uint32_t dot; /* 1: the core has the dot product instructions */
#endif
} bn_job;

/* bn_job.kernel */
enum { K_SELECT, K_PLANES, K_LUT };

BN_INLINE int32_t bn_code_at(const bn_job *j, uint32_t i)
{
    return j->c8 != (const int8_t *)0 ? j->c8[i] : j->c16[i];
}

/* Sums over the 32-column words first ..< end; see bitnet_kernels.c. */
void bn_subset_select(const bn_job *j, const bn_word *const r[4], uint32_t first, uint32_t end, int32_t *acc);
void bn_lut_build(const bn_job *j, bn_i16 *t, uint32_t first, uint32_t n);
void bn_lut_rows(const bn_job *j, const uint8_t *data, uint32_t rows, uint32_t first, uint32_t end, bn_i32 *y);
int32_t bn_lut_total(const bn_job *j, uint32_t first, uint32_t end);
int32_t bn_planes_total(const bn_job *j, uint32_t first, uint32_t end);
void bn_planes_build(const bn_job *j, bn_word *p);
void bn_planes_rows(const bn_job *j, const uint8_t *data, uint32_t rows, uint32_t first, uint32_t end, int32_t total,
                    bn_i32 *y);
void bn_by_rows(const bn_job *j, bn_i32 *y);

#endif
