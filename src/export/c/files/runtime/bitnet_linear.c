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
#if BITNET_KERNEL_PLANES
    if (j->kernel == (uint32_t)K_PLANES) {
        return bn_planes_total(j, first, end);
    }
#endif
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
#if BITNET_KERNEL_PLANES
    if (j->kernel == (uint32_t)K_PLANES) {
        bn_planes_rows(j, rows[0], n, first, end, total, acc);
        return;
    }
#else
    (void)n;
#endif
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

/* ---- any matrix ---------------------------------------------------------------- */

/* one row over the columns from ..< to; in 64 bits, because rows of int8 and int16 can need them */
static int64_t plain_sum(const bn_job *j, uint32_t row, uint32_t from, uint32_t to)
{
    int64_t sum = 0;
    uint32_t i;
    for (i = from; i < to; i++) {
        sum += bn_weight(j->w, row, i) * bn_code_at(j, i); /* below 2^30 */
    }
    return sum;
}

#if BITNET_WITH_WIDE
/* the same for the rows that heads have */
static int64_t wide_sum(const bn_job *j, uint32_t row, uint32_t from, uint32_t to)
{
    const bn_tensor *w = j->w;
    const uint8_t *r = w->data + row * w->stride;
    int64_t sum = 0;
    uint32_t i = from;
#if BN_NEON
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT8) {
        return bn_neon_wide8((const int8_t *)r + from, j->c16 + from, to - from);
    }
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT16) {
        return bn_neon_wide16((const bn_i16 *)(const void *)r + from, j->c16 + from, to - from);
    }
#endif
    if (j->c16 != (const bn_i16 *)0 && w->kind == (uint32_t)BN_INT8) {
        const int8_t *v = (const int8_t *)r;
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
        const bn_i16 *v = (const bn_i16 *)(const void *)r;
        for (; i < to; i++) {
            sum += bn_mul(v[i], j->c16[i]);
        }
        return sum;
    }
    return plain_sum(j, row, from, to);
}
#endif

/* row after row, column after column; wide: with wide_sum */
static void plain(const bn_job *j, uint32_t a, uint32_t b, uint32_t wide, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t step = w->mode == 3u ? w->group : w->cols;
    uint32_t r;
    uint32_t k;
    for (r = 0u; r < w->rows; r++) {
        int64_t sum = 0;
        for (k = 0u; k < w->groups; k++) {
            uint32_t from = k * step;
            uint32_t to = w->cols - from < step ? w->cols : from + step;
#if BITNET_WITH_WIDE
            int64_t part = wide != 0u ? wide_sum(j, r, from, to) : plain_sum(j, r, from, to);
#else
            int64_t part = plain_sum(j, r, from, to);
#endif
            int32_t acc = bn_i32_of(bn_rsr64(part, a));
            if (w->mode != 3u) {
                y[r] = finish(w, r, acc, b);
            } else {
                uint32_t at = r * w->groups + k;
                sum += bn_rsr64(bn_mul(acc, (int32_t)w->scale_m[at]), w->scale_h[at]);
            }
        }
        if (w->mode == 3u) {
            y[r] = bn_i32_of(bn_rsr64(sum, b + 1u));
        }
    }
    (void)wide;
}

BN_INLINE void shift_left(bn_i32 *y, uint32_t s) { *y = (int32_t)((uint32_t)*y << s); }

/* rows of sums in y become the result */
static void finish_all(const bn_tensor *w, uint32_t b, bn_i32 *y)
{
    uint32_t r = 0u;
    if (w->mode == 1u) {
        uint32_t s = 30u - b;
        for (; r + 8u <= w->rows; r += 8u) {
            shift_left(&y[r], s);
            shift_left(&y[r + 1u], s);
            shift_left(&y[r + 2u], s);
            shift_left(&y[r + 3u], s);
            shift_left(&y[r + 4u], s);
            shift_left(&y[r + 5u], s);
            shift_left(&y[r + 6u], s);
            shift_left(&y[r + 7u], s);
        }
        for (; r < w->rows; r++) {
            shift_left(&y[r], s);
        }
    } else {
        for (r = 0u; r < w->rows; r++) {
            y[r] = finish(w, r, y[r], b);
        }
    }
}

#if BITNET_KERNEL_LOOKUP

/* ---- tables --------------------------------------------------------------------- */

/* scales for groups of columns; the tables of all of them are there */
static void grouped_tables(const bn_job *j, const uint8_t *t, uint32_t b, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t groups = bn_table_groups(j);
    uint32_t step = w->group >> 3;
    uint32_t r;
    for (r = 0u; r < w->rows; r += 8u) {
        uint32_t n = w->rows - r < 8u ? w->rows - r : 8u;
        int64_t sum[8];
        bn_i32 acc[8];
        uint32_t k;
        uint32_t i;
        for (i = 0u; i < 8u; i++) {
            sum[i] = 0;
        }
        for (k = 0u; k < w->groups; k++) {
            uint32_t first = k * step;
            uint32_t some = groups - first < step ? groups - first : step;
            const uint8_t *from = t + first * bn_table_bytes(j);
            int32_t start = bn_tables_start(j, from, some);
            for (i = 0u; i < 8u; i++) {
                acc[i] = start;
            }
            bn_tables_rows(j, from, r >> 2, n, first, some, acc);
            for (i = 0u; i < n; i++) {
                uint32_t at = (r + i) * w->groups + k;
                sum[i] += bn_rsr64(bn_mul(acc[i], (int32_t)w->scale_m[at]), w->scale_h[at]);
            }
        }
        for (i = 0u; i < n; i++) {
            y[r + i] = bn_i32_of(bn_rsr64(sum[i], b + 1u));
        }
    }
}

static void fill(bn_i32 *y, uint32_t n, int32_t v)
{
    for (; n >= 8u; n -= 8u) {
        y[0] = v;
        y[1] = v;
        y[2] = v;
        y[3] = v;
        y[4] = v;
        y[5] = v;
        y[6] = v;
        y[7] = v;
        y += 8;
    }
    for (; n > 0u; n--) {
        *y++ = v;
    }
}

/* 1: done.  Tables for as many columns at a time as there is room for; the sums of the rows wait in y. */
static uint32_t by_tables(bitnet_ctx *c, const bn_job *j, uint32_t src_index, uint32_t b, bn_i32 *y)
{
    const bn_tensor *w = j->w;
    uint32_t key = src_index << 8 | (w->kind == (uint32_t)BN_TERNARY5 ? 5u : 8u);
    uint32_t groups = bn_table_groups(j);
    uint32_t most = c->lut_bytes >> (bn_table_bytes(j) == 256u ? 8u : 9u);
    uint8_t *t = (uint8_t *)bn_at(c, c->lut);
    uint32_t first;
    uint32_t r;
    if (most == 0u || (w->mode == 3u && most < groups)) {
        return 0u;
    }
    for (first = 0u; first < groups; first += most) {
        uint32_t n = groups - first < most ? groups - first : most;
        uint32_t start;
        if (c->lut_register != key || most < groups) {
            bn_tables_build(j, t, first, n);
            c->lut_register = most < groups ? BN_NONE : key;
        }
        if (w->mode == 3u) {
            grouped_tables(j, t, b, y);
            return 1u;
        }
        start = (uint32_t)bn_tables_start(j, t, n);
        if (first == 0u) {
            fill(y, w->rows, (int32_t)start);
        } else {
            for (r = 0u; r < w->rows; r++) {
                y[r] = (int32_t)((uint32_t)y[r] + start);
            }
        }
        bn_tables_rows(j, t, 0u, w->rows, first, n, y);
    }
    if (BITNET_KIND_PLANES4 && w->kind == (uint32_t)BN_PLANES4) {
        for (r = 0u; r < w->rows; r++) {
            y[r] = bn_tables_end(j, y[r]);
        }
    }
    finish_all(w, b, y);
    return 1u;
}

#endif

/* ---- LINEAR ---------------------------------------------------------------------- */

/* matrices that a kernel without tables reads */
static uint32_t has_rows(const bn_tensor *w)
{
    return (uint32_t)(w->order == (uint32_t)BN_ROWS && w->kind != (uint32_t)BN_TERNARY5);
}

void bn_linear(bitnet_ctx *c, const bitnet_register *src, uint32_t src_index, bitnet_register *dst, const bn_tensor *w,
               uint32_t hint)
{
    uint32_t big = bn_sum_bits((uint32_t)src->qmax, w->kind, w->cols);
    uint32_t a = big > 30u ? big - 30u : 0u;
    uint32_t b = big < 30u ? big : 30u;
    uint32_t words = (w->cols + 31u) >> 5;
    bn_i32 *y = bn_vec(c, dst);
    const uint8_t *rows[4];
    int32_t acc[4];
    int32_t total;
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
    j.qmax = (uint32_t)src->qmax;
    j.kernel = (uint32_t)K_SELECT;
#if BN_NEON
    j.dot = c->simd & BITNET_SIMD_DOT;
#endif
    if (a > 0u || c->scalar != 0u) {
        plain(&j, a, b, (uint32_t)(c->scalar == 0u), y);
        return;
    }
#if BITNET_KERNEL_LOOKUP
    if (hint == (uint32_t)BN_HINT_TABLES && by_tables(c, &j, src_index, b, y) != 0u) {
        return;
    }
#endif
    if (has_rows(w) == 0u) {
        plain(&j, 0u, b, 0u, y);
        return;
    }
    if (w->kind > (uint32_t)BN_TERNARY) {
        bn_by_rows(&j, y);
        finish_all(w, b, y);
        return;
    }
#if BITNET_KERNEL_PLANES
    if (hint == (uint32_t)BN_HINT_PLANES && src->lo >= -2 && src->hi <= 1) { /* what two planes hold */
        j.kernel = (uint32_t)K_PLANES;
        if (c->planes_register != src_index) {
            bn_planes_build(&j, (bn_word *)bn_at(c, c->planes));
            c->planes_register = src_index;
        }
    }
#endif
    (void)hint;
    (void)src_index;
    total = w->kind == (uint32_t)BN_BINARY && w->mode != 3u ? range_total(&j, 0u, words) : 0;
#if BITNET_KERNEL_PLANES
    if (j.kernel == (uint32_t)K_PLANES && w->mode != 3u) {
        bn_planes_rows(&j, w->data, w->rows, 0u, words, total, y);
        finish_all(w, b, y);
        return;
    }
#endif
    for (r = 0u; r < w->rows; r += 4u) {
        uint32_t n = w->rows - r < 4u ? w->rows - r : 4u;
        row_pointers(w, r, n, rows);
        if (w->mode == 3u) {
            grouped(&j, rows, r, n, b, y);
            continue;
        }
        block(&j, rows, n, 0u, words, total, acc);
        for (i = 0u; i < n; i++) {
            y[r + i] = acc[i];
        }
    }
    if (w->mode != 3u) {
        finish_all(w, b, y);
    }
}
