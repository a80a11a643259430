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

BN_INLINE uint32_t code(int8_t x) { return (uint32_t)(int32_t)x; }

/* Stores the words before they are changed: the compiler would first make the words of several blocks. */
#if BN_THUMB2 || !defined(__GNUC__)
#define IN_ORDER(a, b, c, d) (void)0
#else
#define IN_ORDER(a, b, c, d) __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d) : : "memory")
#endif

/* words of a table in registers that the core can store together */
#if BN_THUMB2
#define REGISTER(name) register uint32_t name __asm__(#name)
#else
#define REGISTER(name) uint32_t name
#endif

/*
 * A table of bits: low words for the low columns, then the same with every
 * choice of the high ones, whose twofold is in y (8 blocks: three, else four).
 * From one block to the next, one more column is set and those below it are not.
 */
typedef struct {
    uint32_t step[4]; /* from a block to the next where high column k is the one that is set */
} steps;

BN_INLINE steps steps_of(uint32_t y0, uint32_t y1, uint32_t y2, uint32_t y3)
{
    steps s;
    s.step[0] = y0;
    s.step[1] = y1 - y0;
    s.step[2] = y2 - y1 - y0;
    s.step[3] = y3 - y2 - y1 - y0;
    return s;
}

#if !defined(__ARM_ARCH_6M__)

#if BN_THUMB2 /* r7 may be the frame pointer */
#define OUT8                                                                                                      \
    __asm__ volatile("stmia %0!, {r3, r4, r5, r6, r8, r9, r10, r11}"                                              \
                     : "+r"(t)                                                                                    \
                     : "r"(r3), "r"(r4), "r"(r5), "r"(r6), "r"(r8), "r"(r9), "r"(r10), "r"(r11)                   \
                     : "memory")
#else
#define OUT8                                      \
    t[0] = r3; t[1] = r4; t[2] = r5; t[3] = r6;   \
    t[4] = r8; t[5] = r9; t[6] = r10; t[7] = r11; \
    t += 8
#endif
#define ADD8(d)                                   \
    r3 += (d); r4 += (d); r5 += (d); r6 += (d);   \
    r8 += (d); r9 += (d); r10 += (d); r11 += (d); \
    IN_ORDER(r3, r4, r5, r6);                     \
    IN_ORDER(r8, r9, r10, r11)

/* l: the first word, then what the next three low columns add */
BN_INLINE void spread(bn_word *t, uint32_t l, uint32_t l1, uint32_t l2, uint32_t l4, steps s, uint32_t blocks)
{
    REGISTER(r3) = l;
    REGISTER(r4) = l + l1;
    REGISTER(r5) = l + l2;
    REGISTER(r6) = r4 + l2;
    REGISTER(r8) = l + l4;
    REGISTER(r9) = r4 + l4;
    REGISTER(r10) = r5 + l4;
    REGISTER(r11) = r6 + l4;
    for (;;) {
        OUT8;
        ADD8(s.step[0]);
        OUT8;
        ADD8(s.step[1]);
        OUT8;
        ADD8(s.step[0]);
        OUT8;
        blocks -= 4u;
        if (blocks == 0u) {
            return;
        }
        if (blocks == 8u) {
            ADD8(s.step[3]);
        } else {
            ADD8(s.step[2]);
        }
    }
}

#else

#define OUT4                              \
    t[0] = r0; t[1] = r1;                 \
    t[2] = r2; t[3] = r3;                 \
    t += 8
#define ADD4(d)                           \
    r0 += (d); r1 += (d);                 \
    r2 += (d); r3 += (d);                 \
    IN_ORDER(r0, r1, r2, r3)

/* half of the words of each block: this core has not the registers for all */
BN_INLINE void spread_half(bn_word *t, uint32_t l, uint32_t l1, uint32_t l2, const steps *s, uint32_t blocks)
{
    uint32_t r0 = l;
    uint32_t r1 = l + l1;
    uint32_t r2 = l + l2;
    uint32_t r3 = r1 + l2;
    uint32_t d0 = s->step[0];
    uint32_t d1 = s->step[1];
    uint32_t d2 = s->step[2];
    uint32_t d3 = s->step[3];
    for (;;) {
        uint32_t d = d2;
        OUT4;
        ADD4(d0);
        OUT4;
        ADD4(d1);
        OUT4;
        ADD4(d0);
        OUT4;
        blocks -= 4u;
        if (blocks == 0u) {
            return;
        }
        if (blocks == 8u) {
            d = d3;
        }
        ADD4(d);
    }
}

static BN_NOINLINE void spread(bn_word *t, uint32_t l, uint32_t l1, uint32_t l2, uint32_t l4, steps s, uint32_t blocks)
{
    uint32_t i;
    for (i = 0u; i < 2u; i++) {
        spread_half(t, l, l1, l2, &s, blocks);
        t += 4;
        l += l4;
    }
}

#endif

/* 256 entries of 16 bits; base: of all columns not set */
BN_INLINE void bits16(bn_word *t, const int8_t *x, uint32_t base)
{
    uint32_t x0 = code(x[0]), x1 = code(x[1]), x2 = code(x[2]), x3 = code(x[3]);
    uint32_t x4 = code(x[4]), x5 = code(x[5]), x6 = code(x[6]), x7 = code(x[7]);
    base -= x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
    spread(t, base * BOTH + x0 * (2u * ODD), x1 * (2u * BOTH), x2 * (2u * BOTH), x3 * (2u * BOTH),
           steps_of(x4 * (2u * BOTH), x5 * (2u * BOTH), x6 * (2u * BOTH), x7 * (2u * BOTH)), 16u);
}

/* 256 entries of 8 bits */
BN_INLINE void bits8(bn_word *t, const int8_t *x, uint32_t base)
{
    uint32_t x0 = code(x[0]), x1 = code(x[1]), x2 = code(x[2]), x3 = code(x[3]);
    uint32_t x4 = code(x[4]), x5 = code(x[5]), x6 = code(x[6]), x7 = code(x[7]);
    base -= x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
    spread(t, base * ALL + x0 * (2u * SECOND_FOURTH) + x1 * (2u * THIRD_FOURTH), x2 * (2u * ALL), x3 * (2u * ALL),
           x4 * (2u * ALL), steps_of(x5 * (2u * ALL), x6 * (2u * ALL), x7 * (2u * ALL), 0u), 8u);
}

#if BITNET_KIND_TERNARY5

/* seven words for the three low digits, then the same with the other values of the high ones: columns x3 and x4 */
#if BN_THUMB2
#define OUT7                                                                                    \
    __asm__ volatile("stmia %0, {r3, r4, r5, r6, r8, r9, r10}"                                  \
                     :                                                                          \
                     : "r"(t), "r"(r3), "r"(r4), "r"(r5), "r"(r6), "r"(r8), "r"(r9), "r"(r10)   \
                     : "memory");                                                               \
    t += step
#else
#define OUT7                                      \
    t[0] = r3; t[1] = r4; t[2] = r5; t[3] = r6;   \
    t[4] = r8; t[5] = r9; t[6] = r10;             \
    t += step
#endif
#define ADD7(d)                                   \
    r3 += (d); r4 += (d); r5 += (d); r6 += (d);   \
    r8 += (d); r9 += (d); r10 += (d);             \
    IN_ORDER(r3, r4, r5, r6)

BN_INLINE void spread3(bn_word *t, const uint32_t *low, uint32_t step, uint32_t x3, uint32_t x4)
{
    uint32_t d = x4 - 2u * x3;
    uint32_t i;
    REGISTER(r3) = low[0];
    REGISTER(r4) = low[1];
    REGISTER(r5) = low[2];
    REGISTER(r6) = low[3];
    REGISTER(r8) = low[4];
    REGISTER(r9) = low[5];
    REGISTER(r10) = low[6];
    for (i = 3u; i > 0u; i--) {
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
BN_INLINE void low16(uint32_t *low, const uint32_t *x, uint32_t base)
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

BN_INLINE void five_codes(uint32_t *x, const int8_t *codes)
{
    x[0] = code(codes[0]);
    x[1] = code(codes[1]);
    x[2] = code(codes[2]);
    x[3] = code(codes[3]);
    x[4] = code(codes[4]);
}

static void digits16(bn_word *t, const int8_t *codes, uint32_t base)
{
    uint32_t low[14];
    uint32_t x[5];
    five_codes(x, codes);
    low16(low, x, base - x[0] - x[1] - x[2] - x[3] - x[4]);
    spread3(t, low, 14u, x[3] * BOTH, x[4] * BOTH);
    spread3(t + 7, low + 7, 14u, x[3] * BOTH, x[4] * BOTH);
}

static void digits8(bn_word *t, const int8_t *codes, uint32_t base)
{
    uint32_t low[14];
    uint32_t x[5];
    uint32_t i;
    five_codes(x, codes);
    low16(low, x, base - x[0] - x[1] - x[2] - x[3] - x[4]);
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
        int8_t some[8]; /* the codes of the last columns, or of 16 bits: none is above 127 */
        const int8_t *x = some;
        bn_word *out = (bn_word *)(void *)t;
        if (j->c8 != (const int8_t *)0 && at + cols <= j->w->cols) {
            x = j->c8 + at;
        } else {
            uint32_t i;
            for (i = 0u; i < cols; i++) {
                some[i] = at + i < j->w->cols ? (int8_t)bn_code_at(j, at + i) : (int8_t)0;
            }
        }
        at += cols;
        t += size;
#if BITNET_KIND_TERNARY5
        if (cols == 5u) {
            if (size == 256u) {
                digits8(out, x, base);
            } else {
                digits16(out, x, base);
            }
            continue;
        }
#endif
        if (size == 256u) {
            bits8(out, x, base);
        } else {
            bits16(out, x, base);
        }
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
