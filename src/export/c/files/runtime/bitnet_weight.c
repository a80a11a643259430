/*
 * bitnet_weight.c - one element of a matrix of any kind and order, as
 * docs/format/packed.md says it.  What is not worth a kernel uses it, and the
 * plain LINEAR with which the others are compared.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#if BITNET_KIND_TERNARY5
/* Digit n of a byte, less 1.  A byte that stands for no five digits gives a weight of up to 2: it leaves no memory
 * and no number range, so it need not be looked for when a model is opened. */
static int32_t digit(uint32_t byte, uint32_t n)
{
    uint32_t high = byte * 586u >> 14; /* byte / 28 */
    uint32_t low = byte - 28u * high;
    uint32_t nine = low * 57u >> 9; /* low / 9 */
    uint32_t rest = low - 9u * nine;
    uint32_t three = n < 3u ? rest * 11u >> 5 : high * 11u >> 5;
    switch (n) {
    case 0u: return (int32_t)(rest - 3u * three) - 1;
    case 1u: return (int32_t)three - 1;
    case 2u: return (int32_t)nine - 1;
    case 3u: return (int32_t)(high - 3u * three) - 1;
    default: return (int32_t)three - 1;
    }
}
#endif

/* byte `at` of a row */
static uint32_t byte_of(const bn_tensor *t, uint32_t row, uint32_t at)
{
    if (t->order == (uint32_t)BN_QUADS) {
        return t->data[4u * t->stride * (row >> 2) + 4u * at + (row & 3u)];
    }
    return t->data[t->stride * row + at];
}

int32_t bn_weight(const bn_tensor *t, uint32_t row, uint32_t i)
{
    const uint8_t *r = t->data + t->stride * row;
    const bn_word *bits = (const bn_word *)(const void *)r;
    switch (t->kind) {
    case BN_INT8: return ((const int8_t *)r)[i];
    case BN_INT16: return ((const bn_i16 *)(const void *)r)[i];
    case BN_BINARY:
        if (t->order == (uint32_t)BN_QUADS) {
            return (byte_of(t, row, i >> 3) >> (i & 7u) & 1u) != 0u ? 1 : -1;
        }
        return (bits[i >> 5] >> (i & 31u) & 1u) != 0u ? 1 : -1;
#if BITNET_KIND_TERNARY5
    case BN_TERNARY5: {
        uint32_t g = bn_fifth(i);
        return digit(byte_of(t, row, g), i - 5u * g);
    }
#endif
#if BITNET_KIND_INT4
    case BN_INT4: return (int32_t)((uint32_t)r[i >> 1] << ((i & 1u) != 0u ? 24u : 28u)) >> 28;
#endif
#if BITNET_KIND_PLANES4
    case BN_PLANES4: {
        uint32_t at = t->stride * (row & ~3u) + 4u * (i >> 3) + (row & 3u);
        int32_t v = 0;
        uint32_t k;
        for (k = 0u; k < 4u; k++) {
            int32_t bit = (int32_t)(t->data[at + k * t->stride] >> (i & 7u) & 1u);
            v += k == 3u ? -8 * bit : bit << k;
        }
        return v;
    }
#endif
    default: /* BN_TERNARY */
        return (int32_t)(bits[i >> 5] >> (i & 31u) & 1u) -
               (int32_t)(bits[((t->cols + 31u) >> 5) + (i >> 5)] >> (i & 31u) & 1u);
    }
}
