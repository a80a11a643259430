/*
 * bitnet_linear.c - LINEAR: chooses the kernel, applies the scales.
 */
#include "bitnet_kernels.h"
#include "bitnet_poison.h"

/* ---- blocks of four rows ------------------------------------------------------ */

static int32_t range_total(const bn_job *j, uint32_t first, uint32_t end)
{
    uint32_t cols = 32u * end < j->w->cols ? 32u * end : j->w->cols;
    uint32_t i;
    int32_t sum = 0;
    if (j->kernel == (uint32_t)K_LUT) {
        return bn_lut_total(j, first, end);
    }
    if (j->kernel == (uint32_t)K_PLANES) {
        return bn_planes_total(j, first, end);
    }
    for (i = 32u * first; i < cols; i++) {
        sum += bn_code_at(j, i);
    }
    return sum;
}

/* exact sums of n (1 ..= 4) rows over the words first ..< end.
 * total: the sum of the codes in that range, for binary rows */
static void block(const bn_job *j, const uint8_t *const rows[4], uint32_t n, uint32_t first, uint32_t end, int32_t total,
                  int32_t *acc)
{
    const bn_word *r[4];
    uint32_t words = (j->w->cols + 31u) >> 5;
    uint32_t i;
    for (i = 0u; i < 4u; i++) {
        r[i] = (const bn_word *)(const void *)rows[i];
        acc[i] = 0;
    }
    if (j->kernel == (uint32_t)K_PLANES) {
        bn_planes_rows(j, rows[0], n, first, end, total, acc);
        return;
    }
    if (j->kernel == (uint32_t)K_LUT) {
        for (i = 0u; i < n; i++) {
            acc[i] = -total;
        }
        bn_lut_rows(j, rows[0], n, first, end, acc);
        return;
    }
    bn_subset_select(j, r, first, end, acc);
    if (j->w->kind == (uint32_t)BN_BINARY) {
        for (i = 0u; i < 4u; i++) {
            acc[i] = 2 * acc[i] - total;
        }
    } else {
        int32_t minus[4];
        for (i = 0u; i < 4u; i++) {
            minus[i] = 0;
            r[i] += words;
        }
        bn_subset_select(j, r, first, end, minus);
        for (i = 0u; i < 4u; i++) {
            acc[i] -= minus[i];
        }
    }
}

/* pointers to the rows r ..< r + n; the last one again for the rest */
static void row_pointers(const bn_tensor *w, uint32_t r, uint32_t n, const uint8_t **rows)
{
    uint32_t i;
    for (i = 0u; i < 4u; i++) {
        rows[i] = w->data + (r + (i < n ? i : n - 1u)) * w->stride;
    }
}

/* result of one row with one scale group */
static int32_t finish(const bn_tensor *w, uint32_t row, int32_t acc, uint32_t b)
{
    if (w->mode == 1u) {
        return (int32_t)((uint32_t)acc << (30u - b));
    }
    return bn_narrow(bn_mul(acc, (int32_t)w->scale_m[row]), b + 1u + (uint32_t)w->scale_h[row]);
}

static void grouped(const bn_job *j, const uint8_t *const rows[4], uint32_t r, uint32_t n, uint32_t b, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t words = (w->cols + 31u) >> 5;
    uint32_t step = w->group >> 5;
    int64_t sum[4];
    int32_t acc[4];
    uint32_t k;
    uint32_t i;
    for (i = 0u; i < 4u; i++) {
        sum[i] = 0;
    }
    for (k = 0u; k < w->groups; k++) {
        uint32_t first = k * step;
        uint32_t end = first + step < words ? first + step : words;
        int32_t total = w->kind == (uint32_t)BN_BINARY ? range_total(j, first, end) : 0;
        block(j, rows, n, first, end, total, acc);
        for (i = 0u; i < n; i++) {
            uint32_t at = (r + i) * w->groups + k;
            sum[i] += bn_rsr64(bn_mul(acc[i], (int32_t)w->scale_m[at]), w->scale_h[at]);
        }
    }
    for (i = 0u; i < n; i++) {
        y[r + i] = bn_i32_of(bn_rsr64(sum[i], b + 1u));
    }
}

/* ---- plain loops: for sums that need more than 30 bits, and for a context in scalar mode ------- */

static int64_t wide_sum(const bn_job *j, const uint8_t *row, uint32_t from, uint32_t to)
{
    const bn_tensor *w = j->w;
    const bn_word *bits = (const bn_word *)(const void *)row;
    uint32_t words = (w->cols + 31u) >> 5;
    int64_t sum = 0;
    uint32_t i = from;
#if BN_NEON
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT8) {
        return bn_neon_wide8((const int8_t *)row + from, j->c16 + from, to - from);
    }
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT16) {
        return bn_neon_wide16((const bn_i16 *)(const void *)row + from, j->c16 + from, to - from);
    }
#endif
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT8) {
        const int8_t *v = (const int8_t *)row;
        while (i < to) { /* 128 * 32,767 * 256 is below 2^30 */
            uint32_t end = to - i < 256u ? to : i + 256u;
            int32_t part = 0;
            for (; i < end; i++) {
                part += (int32_t)v[i] * j->c16[i];
            }
            sum += part;
        }
        return sum;
    }
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT16) {
        const bn_i16 *v = (const bn_i16 *)(const void *)row;
        for (; i < to; i++) {
            sum += bn_mul(v[i], j->c16[i]);
        }
        return sum;
    }
    for (; i < to; i++) {
        int32_t x = bn_code_at(j, i);
        uint32_t k = i & 31u;
        int32_t v;
        if (w->kind == (uint32_t)BN_BINARY) {
            v = (bits[i >> 5] >> k & 1u) != 0u ? 1 : -1;
        } else if (w->kind == (uint32_t)BN_TERNARY) {
            v = (int32_t)(bits[i >> 5] >> k & 1u) - (int32_t)(bits[words + (i >> 5)] >> k & 1u);
        } else if (w->kind == (uint32_t)BN_INT8) {
            v = ((const int8_t *)row)[i];
        } else {
            v = ((const bn_i16 *)(const void *)row)[i];
        }
        sum += bn_mul(v, x);
    }
    return sum;
}

static void wide(const bn_job *j, uint32_t a, uint32_t b, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t r;
    uint32_t k;
    for (r = 0u; r < w->rows; r++) {
        const uint8_t *row = w->data + r * w->stride;
        if (w->mode == 3u) {
            int64_t sum = 0;
            for (k = 0u; k < w->groups; k++) {
                uint32_t from = k * w->group;
                uint32_t to = from + w->group < w->cols ? from + w->group : w->cols;
                int32_t acc = bn_i32_of(bn_rsr64(wide_sum(j, row, from, to), a));
                sum += bn_rsr64(bn_mul(acc, (int32_t)w->scale_m[r * w->groups + k]), w->scale_h[r * w->groups + k]);
            }
            y[r] = bn_i32_of(bn_rsr64(sum, b + 1u));
        } else {
            y[r] = finish(w, r, bn_i32_of(bn_rsr64(wide_sum(j, row, 0u, w->cols), a)), b);
        }
    }
}

/* ---- LINEAR ---------------------------------------------------------------------- */

/* tables for a part of the columns at a time (tile words; keep: all are there already); sums in dst */
static void by_tables(bn_job *j, bn_i16 *t, uint32_t tile, uint32_t keep, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t words = (w->cols + 31u) >> 5;
    uint32_t groups = (w->cols + 7u) >> 3;
    uint32_t first;
    uint32_t r;
    for (first = 0u; first < words; first += tile) {
        uint32_t end = first + tile < words ? first + tile : words;
        int32_t total;
        j->lut_base = 4u * first;
        j->lut_groups = (4u * end < groups ? 4u * end : groups) - 4u * first;
        if (keep == 0u) {
            bn_lut_build(j, t, j->lut_base, j->lut_groups);
        }
        total = w->kind == (uint32_t)BN_BINARY ? bn_lut_total(j, first, end) : 0;
        for (r = 0u; r < w->rows; r++) {
            y[r] = first == 0u ? -total : y[r] - total;
        }
        bn_lut_rows(j, w->data, w->rows, first, end, y);
    }
}

/* rows of sums in y become the result */
static void finish_all(const bn_tensor *w, uint32_t b, bn_i32 *y)
{
    uint32_t r;
    if (w->mode == 1u) {
        for (r = 0u; r < w->rows; r++) {
            y[r] = (int32_t)((uint32_t)y[r] << (30u - b));
        }
    } else {
        for (r = 0u; r < w->rows; r++) {
            y[r] = finish(w, r, y[r], b);
        }
    }
}

void bn_linear(bitnet_ctx *c, const bitnet_register *src, uint32_t src_index, bitnet_register *dst, const bn_tensor *w,
               uint32_t hint)
{
    uint32_t big = bn_sum_bits((uint32_t)src->qmax, w->kind, w->cols);
    uint32_t a = big > 30u ? big - 30u : 0u;
    uint32_t b = big < 30u ? big : 30u;
    uint32_t words = (w->cols + 31u) >> 5;
    uint32_t groups = (w->cols + 7u) >> 3;
    bn_i32 *y = bn_vec(c, dst);
    bn_i16 *t = (bn_i16 *)bn_at(c, c->lut);
    const uint8_t *rows[4];
    int32_t acc[4];
    uint32_t r;
    uint32_t i;
    bn_job j;
    dst->length = w->rows;
    if (w->mode == 1u) {
        dst->scale = bn_exp_add(bn_mul_scale(src->scale, w->scale), (int32_t)(b + a) - 30);
    } else {
        dst->scale = bn_exp_add(src->scale, w->scale.e + (int32_t)(b + 1u + a));
    }
    j.w = w;
    j.c8 = (const int8_t *)0;
    j.c16 = (const bn_i16 *)0;
    if (src->kind == (uint32_t)BN_REG_I8) {
        j.c8 = (const int8_t *)bn_at(c, src->offset);
    } else {
        j.c16 = (const bn_i16 *)bn_at(c, src->offset);
    }
    j.planes = (const bn_word *)bn_at(c, c->planes);
    j.lut = t;
    j.lut_base = 0u;
    j.lut_groups = groups;
    j.total = 0;
    j.kernel = (uint32_t)K_SELECT;
#if BN_NEON
    j.dot = c->simd & BITNET_SIMD_DOT;
#endif
    if (a > 0u || c->scalar != 0u) {
        wide(&j, a, b, y);
        return;
    }
    if (w->kind >= (uint32_t)BN_INT8) {
        bn_by_rows(&j, y);
        finish_all(w, b, y);
        return;
    }
    if (hint == (uint32_t)BN_HINT_PLANES && src->lo >= -2 && src->hi <= 1) {
        j.kernel = (uint32_t)K_PLANES;
        if (c->planes_register != src_index) {
            bn_planes_build(&j, (bn_word *)bn_at(c, c->planes));
            c->planes_register = src_index;
        }
    } else if (hint == (uint32_t)BN_HINT_LUT && src->lo >= -4095 && src->hi <= 4095) { /* 8 * 4,095 < 2^15 */
        if (512u * groups <= c->lut_bytes) {
            j.kernel = (uint32_t)K_LUT;
            if (c->lut_register != src_index) {
                bn_lut_build(&j, t, 0u, groups);
                c->lut_register = src_index;
            }
            if (w->mode != 3u) {
                by_tables(&j, t, words, 1u, y);
                finish_all(w, b, y);
                return;
            }
        } else if (c->lut_bytes >= 2048u && w->mode != 3u) {
            j.kernel = (uint32_t)K_LUT;
            c->lut_register = BN_NONE;
            by_tables(&j, t, c->lut_bytes >> 11, 0u, y);
            finish_all(w, b, y);
            return;
        }
    }
    if (w->kind == (uint32_t)BN_BINARY && w->mode != 3u) {
        j.total = range_total(&j, 0u, words);
    }
    if (j.kernel == (uint32_t)K_PLANES && w->mode != 3u) {
        bn_planes_rows(&j, w->data, w->rows, 0u, words, j.total, y);
        finish_all(w, b, y);
        return;
    }
    for (r = 0u; r < w->rows; r += 4u) {
        uint32_t n = w->rows - r < 4u ? w->rows - r : 4u;
        row_pointers(w, r, n, rows);
        if (w->mode == 3u) {
            grouped(&j, rows, r, n, b, y);
            continue;
        }
        block(&j, rows, n, 0u, words, j.total, acc);
        for (i = 0u; i < n; i++) {
            y[r + i] = acc[i];
        }
    }
    if (w->mode != 3u) {
        finish_all(w, b, y);
    }
}
