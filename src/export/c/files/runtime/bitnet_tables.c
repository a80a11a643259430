/*
 * bitnet_tables.c - the tables of bitnet_lookup.c: for each group of columns and
 * each byte that a row can have there, the sum of the codes with the signs the
 * byte stands for, and a bias that makes it positive.
 *
 * A group has 8 columns (a bit each) or 5 (ternary5, docs/format/packed.md).
 * Entries have 16 bits, or 8 if all codes are within -15 ..= 15.  Two or four of
 * them are made with one 32-bit addition: no entry is below 0 or too large, so
 * nothing is carried from one into the next, and only the final value of a word
 * counts, whatever the parts it is added up from.
 */
#include "bitnet_kernels.h"
#include "bitnet_poison.h"

#if BITNET_KERNEL_LOOKUP

/* a word is EVEN * (entry 0) + ODD * (entry 1), or FIRST, SECOND, THIRD, FOURTH for bytes */
#if BN_LITTLE
#define EVEN 1u
#define ODD 0x10000u
#define SECOND_FOURTH 0x01000100u
#define THIRD_FOURTH 0x01010000u
#else
#define EVEN 0x10000u
#define ODD 1u
#define SECOND_FOURTH 0x00010001u
#define THIRD_FOURTH 0x00000101u
#endif
#define BOTH 0x10001u
#define ALL 0x01010101u

uint32_t bn_table_bytes(const bn_job *j) { return j->qmax <= 15u ? 256u : 512u; }

static uint32_t columns(const bn_job *j) { return j->w->kind == (uint32_t)BN_TERNARY5 ? 5u : 8u; }

static uint32_t bias(const bn_job *j) { return columns(j) * j->qmax; }

uint32_t bn_table_groups(const bn_job *j)
{
    uint32_t cols = j->w->cols;
    return columns(j) == 5u ? bn_fifth(cols + 4u) : (cols + 7u) >> 3;
}

/* the codes of a group, 0 past the last column, and less their sum */
static uint32_t codes_of(const bn_job *j, uint32_t at, uint32_t n, uint32_t *x)
{
    uint32_t cols = j->w->cols;
    uint32_t sum = 0u;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        x[i] = at + i < cols ? (uint32_t)bn_code_at(j, at + i) : 0u;
        sum -= x[i];
    }
    return sum;
}

#define OUT8               \
    t[0] = l0; t[1] = l1;  \
    t[2] = l2; t[3] = l3;  \
    t[4] = l4; t[5] = l5;  \
    t[6] = l6; t[7] = l7;  \
    t += 8
#define ADD8(d)                 \
    l0 += (d); l1 += (d);       \
    l2 += (d); l3 += (d);       \
    l4 += (d); l5 += (d);       \
    l6 += (d); l7 += (d)

/*
 * A table of bits: the words for the low columns, then the same with every
 * choice of the high ones, whose twofold is in y (8 blocks: three, else four).
 * From one block to the next, one more column is set and those below it are not.
 */
static void spread(bn_word *t, uint32_t l0, const uint32_t *low, const uint32_t *y, uint32_t blocks)
{
    uint32_t l1 = l0 + low[0];
    uint32_t l2 = l0 + low[1];
    uint32_t l3 = l1 + low[1];
    uint32_t l4 = l0 + low[2];
    uint32_t l5 = l1 + low[2];
    uint32_t l6 = l2 + low[2];
    uint32_t l7 = l3 + low[2];
    uint32_t d0 = y[0];
    uint32_t d1 = y[1] - d0;
    uint32_t d2 = y[2] - y[1] - d0;
    uint32_t d3 = blocks > 8u ? y[3] - y[2] - y[1] - d0 : 0u;
    for (;;) {
        uint32_t d = d2;
        OUT8;
        ADD8(d0);
        OUT8;
        ADD8(d1);
        OUT8;
        ADD8(d0);
        OUT8;
        blocks -= 4u;
        if (blocks == 0u) {
            return;
        }
        if (blocks == 8u) {
            d = d3;
        }
        ADD8(d);
    }
}

/* 256 entries of 16 bits */
static void bits16(bn_word *t, const uint32_t *x, uint32_t base)
{
    uint32_t y[7];
    uint32_t i;
    for (i = 1u; i < 8u; i++) {
        y[i - 1u] = x[i] * (2u * BOTH);
    }
    spread(t, base * BOTH + x[0] * (2u * ODD), y, y + 3, 16u);
}

/* 256 entries of 8 bits */
static void bits8(bn_word *t, const uint32_t *x, uint32_t base)
{
    uint32_t y[6];
    uint32_t i;
    for (i = 2u; i < 8u; i++) {
        y[i - 2u] = x[i] * (2u * ALL);
    }
    spread(t, base * ALL + x[0] * (2u * SECOND_FOURTH) + x[1] * (2u * THIRD_FOURTH), y, y + 3, 8u);
}

#if BITNET_KIND_TERNARY5

#define OUT7               \
    t[0] = l0; t[1] = l1;  \
    t[2] = l2; t[3] = l3;  \
    t[4] = l4; t[5] = l5;  \
    t[6] = l6;             \
    t += step
#define ADD7(d)                 \
    l0 += (d); l1 += (d);       \
    l2 += (d); l3 += (d);       \
    l4 += (d); l5 += (d);       \
    l6 += (d)

/* seven words for the three low digits, then the same with the other values of the high ones: columns x3 and x4 */
static void spread3(bn_word *t, const uint32_t *low, uint32_t step, uint32_t x3, uint32_t x4)
{
    uint32_t l0 = low[0];
    uint32_t l1 = low[1];
    uint32_t l2 = low[2];
    uint32_t l3 = low[3];
    uint32_t l4 = low[4];
    uint32_t l5 = low[5];
    uint32_t l6 = low[6];
    uint32_t d = x4 - 2u * x3;
    uint32_t i;
    for (i = 0u; i < 3u; i++) {
        OUT7;
        ADD7(x3);
        OUT7;
        ADD7(x3);
        OUT7;
        ADD7(d);
    }
}

/* The 28 entries for the three low digits, two in a word.  Three entries differ by the first digit; two such triples
 * make three words.  The last entry stands for no digits and is a copy. */
static void low16(uint32_t *low, const uint32_t *x, uint32_t base)
{
    uint32_t up0 = x[0] * ODD;                    /* 0, 1 */
    uint32_t two = x[0] * (2u * EVEN);            /* 2, 0 of the next triple */
    uint32_t next = x[0] * BOTH + up0;            /* 1, 2 */
    uint32_t one = x[1] * BOTH;
    uint32_t over1 = two + x[1] * ODD;            /* the next triple has one more of the second digit, */
    uint32_t over2 = two + (x[2] - 2u * x[1]) * ODD; /* or none, and one more of the third */
    uint32_t b0 = base * BOTH;
    uint32_t b3 = b0 + x[2] * BOTH;
    uint32_t b6 = b3 + x[2] * BOTH;
    low[0] = b0 + up0;
    low[1] = b0 + over1;
    low[2] = b0 + one + next;
    b0 += 2u * one;
    low[3] = b0 + up0;
    low[4] = b0 + over2;
    low[5] = b3 + next;
    b3 += one;
    low[6] = b3 + up0;
    low[7] = b3 + over1;
    low[8] = b3 + one + next;
    low[9] = b6 + up0;
    low[10] = b6 + over1;
    b6 += one;
    low[11] = b6 + next;
    b6 += one;
    low[12] = b6 + up0;
    low[13] = b6 + x[0] * (2u * BOTH);
}

static void digits16(bn_word *t, const uint32_t *x, uint32_t base)
{
    uint32_t low[14];
    low16(low, x, base);
    spread3(t, low, 14u, x[3] * BOTH, x[4] * BOTH);
    spread3(t + 7, low + 7, 14u, x[3] * BOTH, x[4] * BOTH);
}

static void digits8(bn_word *t, const uint32_t *x, uint32_t base)
{
    uint32_t low[14];
    uint32_t i;
    low16(low, x, base);
    for (i = 0u; i < 7u; i++) { /* no entry is above 255 */
        uint32_t a = low[2u * i] | low[2u * i] >> 8;
        uint32_t b = low[2u * i + 1u] | low[2u * i + 1u] >> 8;
#if BN_LITTLE
        low[i] = (a & 0xFFFFu) | b << 16;
#else
        low[i] = (b & 0xFFFFu) | a << 16;
#endif
    }
    spread3(t, low, 7u, x[3] * ALL, x[4] * ALL);
}

#endif

/* tables of the groups first ..< first + n, at t */
void bn_tables_build(const bn_job *j, uint8_t *t, uint32_t first, uint32_t n)
{
    uint32_t size = bn_table_bytes(j);
    uint32_t cols = columns(j);
    uint32_t base = bias(j);
    uint32_t at = first * cols;
    for (; n > 0u; n--) {
        uint32_t x[8];
        uint32_t b = base + codes_of(j, at, cols, x);
        bn_word *out = (bn_word *)(void *)t;
#if BITNET_KIND_TERNARY5
        if (cols == 5u) {
            if (size == 256u) {
                digits8(out, x, b);
            } else {
                digits16(out, x, b);
            }
        } else
#endif
        if (size == 256u) {
            bits8(out, x, b);
        } else {
            bits16(out, x, b);
        }
        t += size;
        at += cols;
    }
}

/* what the sums of a row start with, so that the biases of n tables cancel */
int32_t bn_tables_start(const bn_job *j, const uint8_t *t, uint32_t n)
{
    uint32_t all = n * bias(j);
#if BITNET_KIND_PLANES4
    if (j->w->kind == (uint32_t)BN_PLANES4) { /* the planes' factors 1 + 2 + 4 - 8 */
        uint32_t size = bn_table_bytes(j);
        uint32_t total = 0u; /* of the codes: the last entry of each table */
        uint32_t i;
        for (i = 0u; i < n; i++) {
            t += size;
            total += size == 256u ? t[-1] : ((const bn_u16 *)(const void *)t)[-1];
        }
        return (int32_t)(all + all - total);
    }
#endif
    (void)t;
    return (int32_t)(0u - all);
}

#endif
