/*
 * bitnet_planes.c - binary and ternary rows times codes of two bits: the codes are
 * two bit planes, the products are counted bits.
 */
#include "bitnet_kernels.h"
#include "bitnet_poison.h"

#if BITNET_KERNEL_PLANES

/* One pointer and offsets instead of a pointer for each row: the compiler
 * would make them pointers again and run out of registers.  What is read this
 * way is the model, which nothing writes. */
#if BN_DSP
BN_INLINE uint32_t word_at(const bn_word *p, uint32_t bytes)
{
    uint32_t v;
    __asm__("ldr %0, [%1, %2]" : "=r"(v) : "r"(p), "r"(bytes));
    return v;
}

#else
BN_INLINE uint32_t word_at(const bn_word *p, uint32_t bytes) { return p[bytes >> 2]; }
#endif

/* plane pairs: bit 0 of each code's two's complement, bit 1 inverted; 0 and 1 past the end */
/* the lowest bits of the four bytes of v, side by side */
BN_INLINE uint32_t lowest_of_bytes(uint32_t v)
{
    return (v & 0x01010101u) * 0x00204081u >> 21 & 15u;
}

void bn_planes_build(const bn_job *j, bn_word *p)
{
    uint32_t cols = j->w->cols;
    uint32_t i;
    for (i = 0u; i < cols; i += 32u) {
        uint32_t n = cols - i < 32u ? cols - i : 32u;
        uint32_t b0 = 0u;
        uint32_t b1 = 0u;
        uint32_t k;
        if (BN_LITTLE && n == 32u && j->c8 != (const int8_t *)0) {
            const bn_word *w = (const bn_word *)(const void *)(j->c8 + i);
            for (k = 32u; k > 0u; k -= 4u) {
                uint32_t v = w[(k >> 2) - 1u];
                b0 = b0 << 4 | lowest_of_bytes(v);
                b1 = b1 << 4 | lowest_of_bytes(v >> 1);
            }
        } else {
            for (k = n; k > 0u; k--) {
                uint32_t v = (uint32_t)bn_code_at(j, i + k - 1u);
                b0 = b0 << 1 | (v & 1u);
                b1 = b1 << 1 | (v >> 1 & 1u);
            }
        }
        p[0] = b0;
        p[1] = ~b1;
        p += 2;
    }
}

static uint32_t ones(uint32_t v)
{
    v = v - (v >> 1 & 0x55555555u);
    v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
    return ((v + (v >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
}

int32_t bn_planes_total(const bn_job *j, uint32_t first, uint32_t end)
{
    const bn_word *p = j->planes + 2u * first;
    int32_t sum = 0;
    uint32_t i;
    for (i = first; i < end; i++) {
        sum += (int32_t)ones(p[0]) - 2 * (int32_t)ones(~p[1]);
        p += 2;
    }
    return sum;
}

/* 60 less the sum of the four bytes of v, each at most 15, added */
BN_INLINE uint32_t add_bytes(uint32_t acc, uint32_t v)
{
#if BN_DSP
    return __usada8(v, 0x0F0F0F0Fu, acc);
#else
    return acc + 60u - (v * 0x01010101u >> 24);
#endif
}

/* 0x55555555 and 0x33333333 in registers: then shift and mask are one instruction */
typedef struct {
    uint32_t m5, m3;
} masks;

BN_INLINE masks masks_of(void)
{
    masks m;
    m.m5 = 0x55555555u;
    m.m3 = 0x33333333u;
    BN_KEEP(m.m5);
    BN_KEEP(m.m3);
    return m;
}

/* bits counted in each nibble */
BN_INLINE uint32_t nibbles(uint32_t v, masks m)
{
    v -= v >> 1 & m.m5;
    return (v & m.m3) + (v >> 2 & m.m3);
}

/* takes away (bits of a) + 2 * (bits of b), adds 120 */
#if defined(__wasm__) /* which counts bits in one instruction */
BN_INLINE uint32_t weigh(uint32_t acc, uint32_t a, uint32_t b, masks m)
{
    (void)m;
    return acc + 120u - ((uint32_t)__builtin_popcount(a) + 2u * (uint32_t)__builtin_popcount(b));
}
#else
BN_INLINE uint32_t weigh(uint32_t acc, uint32_t a, uint32_t b, masks m)
{
    uint32_t n = nibbles(a, m) + 2u * nibbles(b, m); /* 0 ..= 12 in each */
    acc = add_bytes(acc, n & 0x0F0F0F0Fu);
    return add_bytes(acc, n >> 4 & 0x0F0F0F0Fu);
}
#endif

/* two rows, s bytes apart: sums of the codes at set bits.  The inverted bits
 * count 64 for each word too many. */
static BN_NOINLINE void planes_pair(const bn_word *p, const bn_word *r, uint32_t s, uint32_t words, int32_t *acc)
{
    uint32_t a0 = 0u;
    uint32_t a1 = 0u;
    const bn_word *stop = r + words;
    masks m = masks_of();
    while (r != stop) {
        uint32_t b0 = p[0];
        uint32_t b1 = p[1];
        uint32_t w = word_at(r, s);
        p += 2;
        a1 = weigh(a1, w & b0, b1 | ~w, m);
        w = *r++;
        a0 = weigh(a0, w & b0, b1 | ~w, m);
    }
    acc[0] = (int32_t)(56u * words - a0);
    acc[1] = (int32_t)(56u * words - a1);
}

/* one row, plus and minus words.  Where the weight is -1 a bit plane is
 * inverted: -v = (inverted) - 1 for bit 0, -2 * (inverted) + 2 for bit 1. */
static BN_NOINLINE int32_t planes_ternary(const bn_word *p, const bn_word *plus, uint32_t to_minus, uint32_t words)
{
    uint32_t acc = 0u;
    const bn_word *stop = plus + words;
    masks k = masks_of();
    while (plus != stop) {
        uint32_t m = plus[to_minus];
        uint32_t used = *plus++ | m;
        uint32_t n = nibbles(m, k);
        acc = weigh(acc, (p[0] ^ m) & used, (p[1] ^ m) | ~used, k);
        acc = add_bytes(acc, (n + (n >> 4)) & 0x0F0F0F0Fu);
        p += 2;
    }
    return (int32_t)(116u * words - acc);
}

/* sums of the words first ..< end of rows from data on; total: of the codes, for binary rows */
void bn_planes_rows(const bn_job *j, const uint8_t *data, uint32_t rows, uint32_t first, uint32_t end, int32_t total,
                        bn_i32 *y)
{
    const bn_word *p = j->planes + 2u * first;
    const bn_word *r = (const bn_word *)(const void *)data + first;
    uint32_t words = j->w->stride >> 2;
    uint32_t i;
    if (j->w->kind == (uint32_t)BN_TERNARY) {
        for (i = 0u; i < rows; i++) {
            y[i] = planes_ternary(p, r, words >> 1, end - first);
            r += words;
        }
        return;
    }
    for (i = 0u; i < rows; i += 2u) {
        int32_t acc[2];
        uint32_t apart = i + 1u < rows ? j->w->stride : 0u; /* the last row twice */
        planes_pair(p, r, apart, end - first, acc);
        y[i] = 2 * acc[0] - total;
        if (apart != 0u) {
            y[i + 1u] = 2 * acc[1] - total;
        }
        r += 2u * words;
    }
}

#endif
