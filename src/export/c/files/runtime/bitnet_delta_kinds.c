/* bitnet_delta_kinds.c - a block of the target out of the base and the streams. Bytes are made in the page buffer, or, rows
 * of trits, in the row buffer first. */
#include "bitnet_delta_internal.h"
#include "bitnet_poison.h"

/* ---- pages ---------------------------------------------------------------------------------- */

static void flush(bitnet_delta_t *d)
{
    uint32_t bytes = d->fill;
    bitnet_delta_status st;
    if (bytes == 0u || d->failed != BITNET_DELTA_OK) {
        return;
    }
    bitnet_sha256_add(&d->block_sha, d->page, bytes);
    bitnet_sha256_add(&d->group_sha, d->page, bytes);
    for (; (bytes & (d->config->flash->program_bytes - 1u)) != 0u; bytes++) {
        d->page[bytes] = 0xFFu;
    }
    st = dl_progress(d, d->walk.now.begin, d->target_bytes);
    if (st == BITNET_DELTA_OK) {
        st = dl_program(d, d->out, d->page, bytes);
    }
    if (st != BITNET_DELTA_OK) {
        dl_fail(d, st);
    }
    d->out += d->fill;
    d->fill = 0u;
}

/* where the next bytes go, at most `left` of them */
static uint8_t *room(const bitnet_delta_t *d, uint32_t left, uint32_t *bytes)
{
    *bytes = dl_min(left, d->config->page_bytes - d->fill);
    return d->page + d->fill;
}

static void made(bitnet_delta_t *d, uint32_t bytes)
{
    d->fill += bytes;
    if (d->fill == d->config->page_bytes) {
        flush(d);
    }
}

static void base_bytes(bitnet_delta_t *d, uint32_t at, uint8_t *out, uint32_t bytes)
{
    const bitnet_delta_status st = dl_read(d, d->base + at, out, bytes);
    if (st != BITNET_DELTA_OK) {
        dl_fail(d, st);
    }
}

static void copy(bitnet_delta_t *d, uint32_t base, uint32_t bytes)
{
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        uint32_t now;
        uint8_t *p = room(d, bytes, &now);
        base_bytes(d, base, p, now);
        made(d, now);
        base += now;
        bytes -= now;
    }
}

/* ---- kind 1, and the cut rows of kind 2 ------------------------------------------------------ */

static void bits(bitnet_delta_t *d, uint32_t base, uint32_t bytes, uint32_t rice)
{
    bitnet_delta_class *c = &d->classes[0];
    dl_model(d, 0u, rice);
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        uint32_t now;
        uint8_t *p = room(d, bytes, &now);
        uint32_t left = now << 3;
        uint32_t at = 0u;
        base_bytes(d, base, p, now);
        while (c->left < left - at) {
            at += c->left;
            p[at >> 3] = (uint8_t)(p[at >> 3] ^ 1u << (at & 7u));
            at++;
            c->left = dl_gap(d, 0u);
        }
        c->left -= left - at;
        made(d, now);
        base += now;
        bytes -= now;
    }
}

/* ---- kinds 2 and 3 --------------------------------------------------------------------------- */

/* whether the trit at hand changes, of class 1 (it is 0) or 2 */
static uint32_t changes(bitnet_delta_t *d, uint32_t class_of)
{
    if (d->classes[class_of].left != 0u) {
        d->classes[class_of].left--;
        return 0u;
    }
    return 1u;
}

/* the change of a trit: class 1: 0 to +1, 1 to -1; class 2: 0 to 0, 1 to the negative */
static uint32_t change(bitnet_delta_t *d, uint32_t class_of)
{
    const uint32_t how = class_of == 1u || d->classes[2].rice != 0u ? dl_raw(d, 1u) : dl_bit(d, d->at[DL_AT_T]);
    d->classes[class_of].left = dl_gap(d, class_of);
    return how;
}

static uint32_t ones_of(uint32_t byte)
{
    byte -= byte >> 1 & 0x55u;
    byte = (byte & 0x33u) + (byte >> 2 & 0x33u);
    return (byte + (byte >> 4)) & 15u;
}

static void row_of_trits(bitnet_delta_t *d, uint8_t *plus, uint8_t *minus, uint32_t half)
{
    uint32_t i;
    uint32_t bit;
    for (i = 0u; i < half; i++) {
        uint32_t p = plus[i];
        uint32_t m = minus[i];
        const uint32_t trits = p | m;
        const uint32_t ones = ones_of(trits);
        if (d->classes[1].left >= 8u - ones && d->classes[2].left >= ones) {
            d->classes[1].left -= 8u - ones;
            d->classes[2].left -= ones;
            continue;
        }
        for (bit = 1u; bit < 0x100u; bit <<= 1) {
            const uint32_t class_of = (trits & bit) != 0u ? 2u : 1u;
            if (changes(d, class_of) != 0u) {
                const uint32_t how = change(d, class_of);
                const uint32_t was_p = p & bit;
                const uint32_t was_m = m & bit;
                p &= ~bit;
                m &= ~bit;
                if (class_of == 1u) {
                    p |= how == 0u ? bit : 0u;
                    m |= how != 0u ? bit : 0u;
                } else if (how != 0u) {
                    p |= was_m;
                    m |= was_p;
                }
            }
        }
        plus[i] = (uint8_t)p;
        minus[i] = (uint8_t)m;
    }
}

static void rows_of_trits(bitnet_delta_t *d, uint32_t base, uint32_t bytes, uint32_t half, uint32_t rice)
{
    dl_model(d, 1u, rice);
    dl_model(d, 2u, rice);
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        uint32_t at = 0u;
        base_bytes(d, base, d->row_bytes, half << 1);
        row_of_trits(d, d->row_bytes, d->row_bytes + half, half);
        while (at < half << 1 && d->failed == BITNET_DELTA_OK) {
            uint32_t now;
            uint8_t *p = room(d, (half << 1) - at, &now);
            dl_copy(p, d->row_bytes + at, now);
            made(d, now);
            at += now;
        }
        base += half << 1;
        bytes -= half << 1;
    }
}

static void planes(bitnet_delta_t *d, uint32_t within, uint32_t base, uint32_t bytes, uint32_t half, uint32_t rice)
{
    const uint32_t phase = dl_mod(within, half << 1);
    const uint32_t head = phase == 0u ? 0u : dl_min((half << 1) - phase, bytes);
    const uint32_t tail = dl_mod(bytes - head, half << 1);
    if (head > 0u) {
        bits(d, base, head, rice);
    }
    if (bytes > head + tail) {
        rows_of_trits(d, base + head, bytes - head - tail, half, rice);
    }
    if (tail > 0u) {
        bits(d, base + (bytes - tail), tail, rice);
    }
}

/* d0 + 3 d1 + 9 d2 + 28 (d3 + 3 d4), each digit 0 ..= 2, that is the trit plus 1 */
static uint32_t five(bitnet_delta_t *d, uint32_t byte)
{
    static const uint8_t weights[5] = { 1u, 3u, 9u, 28u, 84u };
    const uint32_t high = (byte * 147u) >> 12; /* byte / 28 */
    const uint32_t low = byte - 28u * high;
    uint32_t digits[5];
    uint32_t i;
    if (byte > 250u || low > 26u) {
        dl_fail(d, BITNET_DELTA_E_DAMAGED);
        return byte;
    }
    digits[2] = (low * 57u) >> 9; /* low / 9 */
    digits[0] = low - 9u * digits[2];
    digits[1] = (digits[0] * 11u) >> 5; /* / 3 */
    digits[0] -= 3u * digits[1];
    digits[4] = (high * 11u) >> 5;
    digits[3] = high - 3u * digits[4];
    for (i = 0u; i < 5u; i++) {
        const uint32_t class_of = digits[i] == 1u ? 1u : 2u;
        if (changes(d, class_of) != 0u) {
            const uint32_t how = change(d, class_of);
            const uint32_t to = class_of == 1u ? (how == 0u ? 2u : 0u) : (how == 0u ? 1u : 2u - digits[i]);
            byte = byte + weights[i] * to - weights[i] * digits[i];
        }
    }
    return byte;
}

static void fives(bitnet_delta_t *d, uint32_t base, uint32_t bytes, uint32_t rice)
{
    dl_model(d, 1u, rice);
    dl_model(d, 2u, rice);
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        uint32_t now;
        uint32_t i;
        uint8_t *p = room(d, bytes, &now);
        base_bytes(d, base, p, now);
        for (i = 0u; i < now && d->failed == BITNET_DELTA_OK; i++) {
            p[i] = (uint8_t)five(d, p[i]);
        }
        made(d, now);
        base += now;
        bytes -= now;
    }
}

/* ---- kinds 4, 5, 6 --------------------------------------------------------------------------- */

/* pieces, pages and so all that room() gives are whole elements */
static void integers(bitnet_delta_t *d, uint32_t base, uint32_t bytes, uint32_t width_log2, uint32_t shift, uint32_t zeros)
{
    bitnet_delta_class *c = &d->classes[3u + width_log2];
    dl_model(d, 3u + width_log2, 0u);
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        uint32_t now;
        uint8_t *p = room(d, bytes, &now);
        const uint32_t elements = now >> width_log2;
        uint32_t at = 0u;
        base_bytes(d, base, p, now);
        while (c->left < elements - at) {
            uint32_t negative;
            uint32_t by;
            uint32_t i;
            at += c->left;
            by = dl_value(d, width_log2, zeros, &negative) << shift;
            by = negative != (uint32_t)d->state.back ? 0u - by : by;
            for (i = at << width_log2; i < (at + 1u) << width_log2; i++) { /* `by` takes the carry along */
                const uint32_t sum = p[i] + (by & 0xFFu);
                p[i] = (uint8_t)sum;
                by = (by >> 8) + (sum >> 8);
            }
            at++;
            c->left = dl_gap(d, 3u + width_log2);
        }
        c->left -= elements - at;
        made(d, now);
        base += now;
        bytes -= now;
    }
}

/* ---- kinds 7 and 9 --------------------------------------------------------------------------- */

static void copies(bitnet_delta_t *d, uint32_t at, uint32_t bytes, uint32_t lowest, uint32_t highest)
{
    const uint32_t b = d->at[DL_AT_B];
    uint32_t e = at;
    uint32_t last = 0u;
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        if (dl_bit(d, b + last) == 0u) {
            uint32_t now;
            uint8_t *p = room(d, bytes, &now);
            uint32_t v = 1u;
            while (v < 0x100u) {
                v = v << 1 | dl_bit(d, b + 1u + v);
            }
            *p = (uint8_t)v;
            made(d, 1u);
            e++;
            bytes--;
            last = 0u;
        } else {
            const uint32_t length = dl_gamma(d, b + 257u);
            const uint32_t u = dl_gamma(d, b + 281u) - 1u;
            const uint32_t from = (u & 1u) != 0u ? e - (u >> 1) - 1u : e + (u >> 1);
            if (d->failed != BITNET_DELTA_OK || length > bytes || length + 3u > bytes || from < lowest || from > highest ||
                length + 3u > highest - from) {
                dl_fail(d, BITNET_DELTA_E_PATCH);
                return;
            }
            copy(d, from, length + 3u);
            bytes -= length + 3u;
            e = from + length + 3u;
            last = 1u;
        }
    }
}

static void raw(bitnet_delta_t *d, uint32_t base, uint32_t bytes, uint32_t with_base)
{
    while (bytes > 0u && d->failed == BITNET_DELTA_OK) {
        uint32_t now;
        uint32_t i;
        uint8_t *p = room(d, bytes, &now);
        if (with_base != 0u) {
            base_bytes(d, base, p, now);
        }
        for (i = 0u; i < now; i++) {
            p[i] = (uint8_t)((with_base != 0u ? p[i] : 0u) ^ dl_raw(d, 8u));
        }
        made(d, now);
        base += now;
        bytes -= now;
    }
}

/* ---- a block --------------------------------------------------------------------------------- */

/* 0: the segment takes contexts that it had not when the index was checked */
static uint32_t same_as_checked(const bitnet_delta_t *d, const bitnet_delta_segment *s)
{
    uint32_t first = DL_ATS;
    uint32_t last = DL_ATS;
    uint32_t t = DL_ATS;
    switch (s->kind) {
    case DL_BITS: first = 0u; last = 0u; break;
    case DL_PLANES: first = 0u; last = 2u; t = DL_AT_T; break;
    case DL_FIVES: first = 1u; last = 2u; t = DL_AT_T; break;
    case DL_BYTES_1: first = last = 3u; t = DL_AT_V; break;
    case DL_BYTES_2: first = last = 4u; t = DL_AT_V + 1; break;
    case DL_BYTES_4: first = last = 5u; t = DL_AT_V + 2; break;
    case DL_BYTES: first = last = DL_AT_B; break;
    default: break;
    }
    if (s->option != 0u && s->kind <= (uint32_t)DL_FIVES) {
        return 1u;
    }
    if (s->option != 0u && first >= 3u && last <= 5u && d->at[(uint32_t)DL_AT_Z + first - 3u] == DL_ENDLESS) {
        return 0u;
    }
    if (t != (uint32_t)DL_ATS && d->at[t] == DL_ENDLESS) {
        return 0u;
    }
    for (; first <= last && first < (uint32_t)DL_ATS; first++) {
        if (d->at[first] == DL_ENDLESS) {
            return 0u;
        }
    }
    return 1u;
}

bitnet_delta_status dl_block_make(bitnet_delta_t *d, uint32_t begin, uint32_t end, uint32_t coded)
{
    const bitnet_delta_segment *s = &d->walk.now;
    const uint32_t in_place = d->flags & (uint32_t)DL_IN_PLACE;
    const uint32_t lowest = in_place != 0u ? begin : 0u;
    const uint32_t highest = in_place != 0u ? dl_min(end, d->base_bytes) : d->base_bytes;
    uint32_t at = begin;
    bitnet_sha256_start(&d->block_sha, d->config->sha256);
    d->fill = 0u;
    if (coded != 0u) {
        dl_streams_open(d);
    }
    while (at < end && d->failed == BITNET_DELTA_OK) {
        uint32_t bytes;
        uint32_t base;
        while (s->begin + s->bytes <= at) {
            if (dl_walk_next(d) == 0u) {
                dl_fail(d, BITNET_DELTA_E_PATCH);
                return (bitnet_delta_status)d->failed;
            }
        }
        bytes = dl_min(end, s->begin + s->bytes) - at;
        base = s->base + (at - s->begin);
        if (coded == 0u || s->kind == (uint32_t)DL_COPY) {
            copy(d, base, bytes);
        } else if (same_as_checked(d, s) == 0u) {
            dl_fail(d, BITNET_DELTA_E_PATCH);
        } else {
            switch (s->kind) {
            case DL_BITS: bits(d, base, bytes, s->option); break;
            case DL_PLANES: planes(d, at - s->begin, base, bytes, s->parameter, s->option); break;
            case DL_FIVES: fives(d, base, bytes, s->option); break;
            case DL_BYTES_1:
            case DL_BYTES_2:
            case DL_BYTES_4: integers(d, base, bytes, s->kind - (uint32_t)DL_BYTES_1, s->parameter, s->option); break;
            case DL_BYTES: copies(d, at, bytes, lowest, highest); break;
            default: raw(d, base, bytes, s->option); break;
            }
        }
        at += bytes;
    }
    flush(d);
    return (bitnet_delta_status)d->failed;
}
