/* bitnet_delta_code.c - the two streams of a block, gaps and values. */
#include "bitnet_delta_internal.h"
#include "bitnet_poison.h"

#define P_BITS 0xFFFFu /* of a context: p, above it how often it was used */
#define FRESH 0x8000u

enum { P_MIN = 32, P_MAX = 65504, USED_MAX = 254, USED_PRIOR = 20 };

/* floor(65536 / (c + 2)) */
static const uint16_t rates[255] = {
    32768, 21845, 16384, 13107, 10922, 9362, 8192, 7281, 6553, 5957, 5461, 5041, 4681, 4369, 4096, 3855,
    3640, 3449, 3276, 3120, 2978, 2849, 2730, 2621, 2520, 2427, 2340, 2259, 2184, 2114, 2048, 1985,
    1927, 1872, 1820, 1771, 1724, 1680, 1638, 1598, 1560, 1524, 1489, 1456, 1424, 1394, 1365, 1337,
    1310, 1285, 1260, 1236, 1213, 1191, 1170, 1149, 1129, 1110, 1092, 1074, 1057, 1040, 1024, 1008,
    992, 978, 963, 949, 936, 923, 910, 897, 885, 873, 862, 851, 840, 829, 819, 809,
    799, 789, 780, 771, 762, 753, 744, 736, 728, 720, 712, 704, 697, 689, 682, 675,
    668, 661, 655, 648, 642, 636, 630, 624, 618, 612, 606, 601, 595, 590, 585, 579,
    574, 569, 564, 560, 555, 550, 546, 541, 537, 532, 528, 524, 520, 516, 512, 508,
    504, 500, 496, 492, 489, 485, 481, 478, 474, 471, 468, 464, 461, 458, 455, 451,
    448, 445, 442, 439, 436, 434, 431, 428, 425, 422, 420, 417, 414, 412, 409, 407,
    404, 402, 399, 397, 394, 392, 390, 387, 385, 383, 381, 378, 376, 374, 372, 370,
    368, 366, 364, 362, 360, 358, 356, 354, 352, 350, 348, 346, 344, 343, 341, 339,
    337, 336, 334, 332, 330, 329, 327, 326, 324, 322, 321, 319, 318, 316, 315, 313,
    312, 310, 309, 307, 306, 304, 303, 302, 300, 299, 297, 296, 295, 293, 292, 291,
    289, 288, 287, 286, 284, 283, 282, 281, 280, 278, 277, 276, 275, 274, 273, 271,
    270, 269, 268, 267, 266, 265, 264, 263, 262, 261, 260, 259, 258, 257, 256
};

static const uint16_t prior[32] = { 32768, 34187, 35600, 37003, 38390, 39757, 41099, 42411, 43691, 44934, 46138,
                                    47300, 48418, 49491, 50517, 51497, 52429, 53314, 54152, 54944, 55691, 56394,
                                    57055, 57674, 57835, 58438, 58997, 59514, 59992, 60434, 60842, 61218 };

void dl_fail(bitnet_delta_t *d, bitnet_delta_status status)
{
    if (d->failed == BITNET_DELTA_OK) {
        d->failed = (uint32_t)status;
    }
}

/* ---- streams ------------------------------------------------------------------------------- */

/* bytes behind the end of a stream are 0 */
static uint32_t next_byte(bitnet_delta_t *d, uint32_t which)
{
    bitnet_delta_reader *r = &d->stream[which];
    return r->have == 0u && r->at >= r->end ? 0u : dl_reader_byte(d, r, &d->failed);
}

static void fresh(bitnet_delta_t *d, uint32_t which, uint32_t count)
{
    uint32_t i;
    if (d->at[which] != DL_ENDLESS) {
        for (i = 0u; i < count; i++) {
            d->context[d->at[which] + i] = FRESH;
        }
    }
}

void dl_streams_open(bitnet_delta_t *d)
{
    uint32_t i;
    dl_reader_open(&d->stream[0], d->blocks.payload, d->blocks.first);
    dl_reader_open(&d->stream[1], d->blocks.payload + d->blocks.first, d->blocks.bytes - d->blocks.first);
    d->bits = 0u;
    d->bit_count = 0u;
    d->range = 0xFFFFFFFFu;
    d->code = 0u;
    for (i = 0u; i < 4u; i++) {
        d->code = d->code << 8 | next_byte(d, 0u);
    }
    for (i = 0u; i < 6u; i++) {
        d->classes[i].has = 0u;
    }
    for (i = (uint32_t)DL_AT_T; i < (uint32_t)DL_ATS; i++) {
        fresh(d, i, dl_contexts(i));
    }
}

uint32_t dl_raw(bitnet_delta_t *d, uint32_t bits)
{
    uint32_t value = 0u;
    uint32_t got = 0u;
    while (got < bits) {
        uint32_t take;
        if (d->bit_count == 0u) {
            d->bits = next_byte(d, 1u);
            d->bit_count = 8u;
        }
        take = dl_min(bits - got, d->bit_count);
        value |= (d->bits & ((1u << take) - 1u)) << got;
        d->bits >>= take;
        d->bit_count -= take;
        got += take;
    }
    return value;
}

uint32_t dl_bit(bitnet_delta_t *d, uint32_t context)
{
    uint32_t *at = &d->context[context];
    uint32_t p = *at & P_BITS;
    uint32_t used = *at >> 16;
    const uint32_t bound = (d->range >> 12) * (p >> 4);
    uint32_t bit = 0u;
    if (d->code < bound) {
        d->range = bound;
        p += ((65536u - p) * rates[used]) >> 16;
    } else {
        bit = 1u;
        d->code -= bound;
        d->range -= bound;
        p -= (p * rates[used]) >> 16;
    }
    p = p < (uint32_t)P_MIN ? (uint32_t)P_MIN : (p > (uint32_t)P_MAX ? (uint32_t)P_MAX : p);
    *at = p | (used < (uint32_t)USED_MAX ? used + 1u : used) << 16;
    while (d->range < 0x1000000u) {
        d->range <<= 8;
        d->code = d->code << 8 | next_byte(d, 0u);
    }
    return bit;
}

/* ---- gaps ---------------------------------------------------------------------------------- */

static uint32_t start_of(uint32_t p)
{
    p = p < (uint32_t)P_MIN ? (uint32_t)P_MIN : (p > (uint32_t)P_MAX ? (uint32_t)P_MAX : p);
    return p | (uint32_t)USED_PRIOR << 16;
}

/* a geometric distribution whose mean is 2^(scale / 8) */
static void set_gaps(uint32_t *g, uint32_t scale)
{
    uint32_t r[16];
    uint32_t n;
    uint32_t v;
    r[0] = prior[scale];
    for (n = 1u; n < 16u; n++) {
        r[n] = (r[n - 1u] * r[n - 1u]) >> 16;
    }
    for (n = 0u; n < 16u; n++) {
        g[n] = start_of(65536u - r[n]);
        for (v = 1u; v < 8u; v++) {
            const uint32_t depth = v < 2u ? 0u : (v < 4u ? 1u : 2u);
            uint32_t p = FRESH;
            if (depth < n) {
                const uint32_t y = r[n - 1u - depth];
                p = 65536u - ((54613u * y) >> 16) + ((21845u * ((y * y) >> 16)) >> 16);
            }
            g[16u + 7u * n + v - 1u] = start_of(p);
        }
    }
}

static uint32_t rice_gap(bitnet_delta_t *d, uint32_t shift)
{
    uint32_t q = 0u;
    uint32_t rest;
    while (dl_raw(d, 1u) == 0u) {
        q++;
        if (q > 0x800000u) {
            return DL_ENDLESS;
        }
    }
    rest = dl_raw(d, shift);
    return q > DL_ENDLESS >> shift ? DL_ENDLESS : q << shift | rest;
}

/* a number n below `limit` in unary, by contexts from `unary` on */
static uint32_t length(bitnet_delta_t *d, uint32_t unary, uint32_t last, uint32_t limit)
{
    uint32_t n = 0u;
    while (dl_bit(d, unary + dl_min(n, last)) != 0u) {
        n++;
        if (n >= limit) {
            dl_fail(d, BITNET_DELTA_E_PATCH);
            return 0u;
        }
    }
    return n;
}

/* a value of n + 1 bits: up to three bits below the highest one by contexts, then the rest of it from stream 2 */
static uint32_t number(bitnet_delta_t *d, uint32_t contexts, uint32_t n)
{
    uint32_t v = 1u;
    uint32_t i;
    for (i = 0u; i < dl_min(n, 3u); i++) {
        v = v << 1 | dl_bit(d, contexts + v - 1u);
    }
    return n > 3u ? v << (n - 3u) | dl_raw(d, n - 3u) : v;
}

uint32_t dl_gap(bitnet_delta_t *d, uint32_t class_of)
{
    const bitnet_delta_class *c = &d->classes[class_of];
    uint32_t v;
    uint32_t rest;
    if (c->rice != 0u) {
        return rice_gap(d, c->shift);
    }
    v = length(d, d->at[class_of], 15u, 32u);
    v = number(d, d->at[class_of] + 16u + 7u * dl_min(v, 15u), v) - 1u;
    rest = dl_raw(d, c->shift);
    return v > DL_ENDLESS >> c->shift ? DL_ENDLESS : v << c->shift | rest;
}

void dl_model(bitnet_delta_t *d, uint32_t class_of, uint32_t rice)
{
    bitnet_delta_class *c = &d->classes[class_of];
    const uint32_t first = (uint32_t)(c->has == 0u);
    if (first != 0u || dl_raw(d, 1u) != 0u) {
        c->has = 1u;
        c->rice = rice;
        if (rice != 0u) {
            c->shift = dl_raw(d, 5u);
        } else {
            const uint32_t scale = dl_raw(d, 8u);
            c->shift = scale >= 32u ? (scale >> 3) - 3u : 0u;
            set_gaps(d->context + d->at[class_of], scale - (c->shift << 3));
        }
    }
    if (first != 0u) {
        c->left = dl_gap(d, class_of);
    }
}

/* ---- values -------------------------------------------------------------------------------- */

uint32_t dl_value(bitnet_delta_t *d, uint32_t width_log2, uint32_t zeros, uint32_t *negative)
{
    const uint32_t at = d->at[(uint32_t)DL_AT_V + width_log2];
    uint32_t n;
    uint32_t z = 0u;
    *negative = dl_bit(d, at);
    n = length(d, at + 1u, 31u, 8u << width_log2);
    if (zeros == 0u) {
        return number(d, at + 33u + 7u * n, n);
    }
    while (z < n && dl_bit(d, d->at[(uint32_t)DL_AT_Z + width_log2] + 16u * dl_min(n, 15u) + dl_min(z, 15u)) != 0u) {
        z++;
    }
    return z == n ? 1u << n : (number(d, at + 33u + 7u * n, n - z - 1u) << 1 | 1u) << z;
}

uint32_t dl_gamma(bitnet_delta_t *d, uint32_t at)
{
    uint32_t n = 0u;
    while (dl_bit(d, at + dl_min(n, 23u)) != 0u) {
        n++;
        if (n > 31u) { /* further than any base that fits here */
            dl_fail(d, BITNET_DELTA_E_PATCH);
            return 1u;
        }
    }
    return (1u << n) | dl_raw(d, n);
}
