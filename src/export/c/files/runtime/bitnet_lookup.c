/*
 * bitnet_lookup.c - matrices whose bytes lie in quads (order 1 of
 * docs/format/packed.md): a byte of a row is an index into the table of its
 * group of columns (bitnet_tables.c), so a look-up and an addition do the work
 * of 8 (binary1, planes4) or 5 (ternary5) weights.
 *
 *   binary1   bit 1 is +1, bit 0 is -1: the sum of the entries is the result
 *   ternary5  the same with five digits -1, 0, +1
 *   planes4   four such sums P of one row; as a bit is (sign + 1) / 2, the
 *             result is (P0 + 2 P1 + 4 P2 - 8 P3 - sum of the codes) / 2
 */
#include "bitnet_kernels.h"
#include "bitnet_poison.h"

#if BITNET_KERNEL_LOOKUP

/* ---- rows side by side: as many as the core has registers for ---------------------- */

#if BN_THUMB2

#define AT_ONCE 8u

/* Two look-ups of rows whose bytes are at p or q, and so on for a group of eight rows.  Two, so that no load waits for
 * the one before it; the compiler would do the same, but not find the registers. */
#define LOAD_8 "ldrb %[u], [%[t], %[u]]\n\tldrb %[v], [%[t], %[v]]\n\t"
#define LOAD_16 "ldrh %[u], [%[t], %[u], lsl #1]\n\tldrh %[v], [%[t], %[v], lsl #1]\n\t"
#define TWO(p, i, j, load, a, b) \
    "ldrb %[u], [%[" p "], #" i "]\n\tldrb %[v], [%[" p "], #" j "]\n\t" load "add %[" a "], %[u]\n\tadd %[" b "], %[v]\n\t"
#define GROUP(i0, i1, i2, i3, load, size)                                       \
    TWO("p", i0, i1, load, "a0", "a1") TWO("p", i2, i3, load, "a2", "a3")       \
    TWO("q", i0, i1, load, "a4", "a5") TWO("q", i2, i3, load, "a6", "a7")       \
    "add %[t], %[t], #" size "\n\t"
#define LOOP(groups, bytes)                                                                                          \
    __asm__ volatile("1:\n\t" groups "add %[p], #" bytes "\n\tadd %[q], #" bytes "\n\tcmp %[p], %[stop]\n\tbne 1b"     \
                     : [t] "+r"(t), [p] "+r"(p), [q] "+r"(q), [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2),             \
                       [a3] "+r"(a3), [a4] "+r"(a4), [a5] "+r"(a5), [a6] "+r"(a6), [a7] "+r"(a7), [u] "=&r"(u),        \
                       [v] "=&r"(v)                                                                                    \
                     : [stop] "r"(stop)                                                                                \
                     : "memory", "cc")
#define DEFINE_ROWS(name, type, load, size)                                                                                    \
    static BN_NOINLINE void name(const type *table, const uint8_t *data, uint32_t apart, uint32_t blocks, uint32_t n, bn_i32 *y) \
    {                                                                                                                          \
        for (; blocks > 0u; blocks--) {                                                                                        \
            const type *t = table;                                                                                             \
            const uint8_t *p = data;                                                                                           \
            const uint8_t *q = data + apart;                                                                                   \
            const uint8_t *stop = p + 4u * (n & ~3u);                                                                          \
            int32_t a0 = y[0], a1 = y[1], a2 = y[2], a3 = y[3], a4 = y[4], a5 = y[5], a6 = y[6], a7 = y[7];                    \
            uint32_t u;                                                                                                        \
            uint32_t v;                                                                                                        \
            if (p != stop) {                                                                                                   \
                LOOP(GROUP("0", "1", "2", "3", load, size) GROUP("4", "5", "6", "7", load, size)                               \
                     GROUP("8", "9", "10", "11", load, size) GROUP("12", "13", "14", "15", load, size), "16");                 \
            }                                                                                                                  \
            if ((n & 3u) != 0u) {                                                                                              \
                stop += 4u * (n & 3u);                                                                                         \
                LOOP(GROUP("0", "1", "2", "3", load, size), "4");                                                              \
            }                                                                                                                  \
            y[0] = a0; y[1] = a1; y[2] = a2; y[3] = a3; y[4] = a4; y[5] = a5; y[6] = a6; y[7] = a7;                            \
            y += 8;                                                                                                            \
            data += 2u * apart;                                                                                                \
        }                                                                                                                      \
    }

DEFINE_ROWS(rows8, uint8_t, LOAD_8, "256")
DEFINE_ROWS(rows16, bn_u16, LOAD_16, "512")

#else

/* RISC-V reaches several tables from one pointer, the others move it.  HOLD keeps the compiler from loading the bytes
 * of several groups first and from keeping a pointer for each table, ENTRY from adding before it scales. */
#if defined(__ARM_ARCH_6M__)
#define AT_ONCE 4u
#define HOLD(p, a, b, c, d) BN_KEEP(t)
#elif defined(__GNUC__)
#if defined(__XTENSA__)
#define AT_ONCE 4u
#else
#define AT_ONCE 8u
#endif
#define HOLD(p, a, b, c, d) __asm__("" : "+r"(p), "+r"(t), "+r"(a), "+r"(b), "+r"(c), "+r"(d))
#else
#define AT_ONCE 8u
#define HOLD(p, a, b, c, d) (void)0
#endif
#if defined(__riscv)
#define ENTRY(a, k, byte)      \
    e = t + (byte);            \
    BN_KEEP(e);                \
    a += e[256u * (k)]
#define NEXT (void)0
#define NEXT_BLOCK(n) t += 256u * (n)
#else
#define ENTRY(a, k, byte) a += t[byte]
#define NEXT t += 256
#define NEXT_BLOCK(n) (void)0
#endif

#define QUAD(p, k, a, b, c, d)                                            \
    ENTRY(a, k, p[4u * (k)]); ENTRY(b, k, p[4u * (k) + 1u]);              \
    ENTRY(c, k, p[4u * (k) + 2u]); ENTRY(d, k, p[4u * (k) + 3u])
#if AT_ONCE == 8u
#define GROUP(k)                       \
    QUAD(p, k, a0, a1, a2, a3);        \
    HOLD(q, a0, a1, a2, a3);           \
    QUAD(q, k, a4, a5, a6, a7);        \
    NEXT;                              \
    HOLD(p, a4, a5, a6, a7)
#define START_SECOND uint32_t a4 = (uint32_t)y[4], a5 = (uint32_t)y[5], a6 = (uint32_t)y[6], a7 = (uint32_t)y[7]
#define END_SECOND y[4] = (int32_t)a4; y[5] = (int32_t)a5; y[6] = (int32_t)a6; y[7] = (int32_t)a7
#else
#define GROUP(k)                       \
    QUAD(p, k, a0, a1, a2, a3);        \
    NEXT;                              \
    HOLD(p, a0, a1, a2, a3)
#define START_SECOND (void)0
#define END_SECOND (void)0
#endif

#define DEFINE_ROWS(name, type)                                                                                                \
    static BN_NOINLINE void name(const type *table, const uint8_t *data, uint32_t apart, uint32_t blocks, uint32_t n, bn_i32 *y) \
    {                                                                                                                          \
        for (; blocks > 0u; blocks--) {                                                                                        \
            const type *t = table;                                                                                             \
            const type *e = table;                                                                                             \
            const uint8_t *p = data;                                                                                           \
            const uint8_t *q = data + apart;                                                                                   \
            const uint8_t *stop = p + 4u * (n & ~3u);                                                                          \
            uint32_t i;                                                                                                        \
            uint32_t a0 = (uint32_t)y[0], a1 = (uint32_t)y[1], a2 = (uint32_t)y[2], a3 = (uint32_t)y[3];                       \
            START_SECOND;                                                                                                      \
            while (p != stop) {                                                                                                \
                GROUP(0u); GROUP(1u); GROUP(2u); GROUP(3u);                                                                    \
                NEXT_BLOCK(4u);                                                                                                \
                p += 16;                                                                                                       \
                q += 16;                                                                                                       \
            }                                                                                                                  \
            for (i = n & 3u; i > 0u; i--) {                                                                                    \
                GROUP(0u);                                                                                                     \
                NEXT_BLOCK(1u);                                                                                                \
                p += 4;                                                                                                        \
                q += 4;                                                                                                        \
            }                                                                                                                  \
            (void)e;                                                                                                           \
            y[0] = (int32_t)a0; y[1] = (int32_t)a1; y[2] = (int32_t)a2; y[3] = (int32_t)a3;                                    \
            END_SECOND;                                                                                                        \
            y += AT_ONCE;                                                                                                      \
            data += (AT_ONCE >> 2) * apart;                                                                                    \
        }                                                                                                                      \
    }

DEFINE_ROWS(rows8, uint8_t)
DEFINE_ROWS(rows16, bn_u16)

#endif

/* adds to y, for blocks of AT_ONCE rows, the entries of n groups; data: the first byte, apart: from quad to quad */
static void lookup(const bn_job *j, const uint8_t *t, const uint8_t *data, uint32_t apart, uint32_t blocks, uint32_t n, bn_i32 *y)
{
    if (bn_table_bytes(j) == 256u) {
        rows8(t, data, apart, blocks, n, y);
    } else {
        rows16((const bn_u16 *)(const void *)t, data, apart, blocks, n, y);
    }
}

static void any_rows(const bn_job *j, const uint8_t *t, const uint8_t *data, uint32_t apart, uint32_t blocks, uint32_t n,
                     bn_i32 *y)
{
#if BITNET_KIND_PLANES4
    if (j->w->kind == (uint32_t)BN_PLANES4) {
        for (; blocks > 0u; blocks--) {
            const uint8_t *plane = data;
            uint32_t k;
            uint32_t i;
            for (k = 0u; k < 4u; k++) {
                bn_i32 part[AT_ONCE];
                for (i = 0u; i < AT_ONCE; i++) {
                    part[i] = 0;
                }
                lookup(j, t, plane, apart, 1u, n, part);
                for (i = 0u; i < AT_ONCE; i++) {
                    uint32_t v = (uint32_t)part[i] << k;
                    y[i] = (int32_t)(k == 3u ? (uint32_t)y[i] - v : (uint32_t)y[i] + v);
                }
                plane += j->w->stride;
            }
            y += AT_ONCE;
            data += (AT_ONCE >> 2) * apart;
        }
        return;
    }
#endif
    lookup(j, t, data, apart, blocks, n, y);
}

/* adds to y the entries of the groups first ..< first + n, whose tables are at t, for rows from a quad on */
void bn_tables_rows(const bn_job *j, const uint8_t *t, uint32_t quad, uint32_t rows, uint32_t first, uint32_t n, bn_i32 *y)
{
    uint32_t apart = 4u * j->w->stride;
    uint32_t rest = rows & (AT_ONCE - 1u);
    const uint8_t *data = j->w->data + quad * apart + 4u * first;
    any_rows(j, t, data, apart, (rows - rest) >> (AT_ONCE == 8u ? 3u : 2u), n, y);
    if (rest > 0u) {
        bn_i32 last[AT_ONCE];
        uint32_t i;
        y += rows - rest;
        data += ((rows - rest) >> 2) * apart;
        for (i = 0u; i < AT_ONCE; i++) {
            last[i] = i < rest ? y[i] : 0;
        }
        any_rows(j, t, data, rest > 4u ? apart : 0u, 1u, n, last); /* the last quad twice, if it is alone */
        for (i = 0u; i < rest; i++) {
            y[i] = last[i];
        }
    }
}

/* the result of a row whose sum is complete */
int32_t bn_tables_end(const bn_job *j, int32_t sum)
{
    return BITNET_KIND_PLANES4 && j->w->kind == (uint32_t)BN_PLANES4 ? sum >> 1 : sum;
}

#endif
