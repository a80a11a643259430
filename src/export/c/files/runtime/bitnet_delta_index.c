/* bitnet_delta_index.c - segments and blocks, read out of the flash as they are needed; all of it is checked each time. */
#include "bitnet_delta_internal.h"
#include "bitnet_poison.h"

enum { SEGMENTS_MAX = 0x40000 };

void dl_reader_open(bitnet_delta_reader *r, uint32_t at, uint32_t bytes)
{
    r->at = at;
    r->end = at + bytes;
    r->have = 0u;
    r->next = 0u;
}

uint32_t dl_reader_byte(const bitnet_delta_t *d, bitnet_delta_reader *r, uint32_t *failed)
{
    uint32_t byte;
    if (r->have == 0u) {
        const uint32_t bytes = dl_min(r->end - r->at, (uint32_t)BITNET_DELTA_AHEAD);
        bitnet_delta_status st = bytes == 0u ? BITNET_DELTA_E_PATCH : dl_read(d, r->at, r->bytes, bytes);
        if (st != BITNET_DELTA_OK) {
            if (*failed == (uint32_t)BITNET_DELTA_OK) {
                *failed = (uint32_t)st;
            }
            return 0u;
        }
        r->at += bytes;
        r->have = bytes;
        r->next = 0u;
    }
    byte = r->bytes[r->next];
    r->next++;
    r->have--;
    return byte;
}

static uint32_t position(const bitnet_delta_reader *r) { return r->at - r->have; }

/* strict LEB128; what does not fit 32 bits is larger than anything that fits here */
static uint32_t varint(bitnet_delta_t *d, bitnet_delta_reader *r)
{
    uint32_t value = 0u;
    uint32_t shift;
    for (shift = 0u; shift < 35u; shift += 7u) {
        const uint32_t byte = dl_reader_byte(d, r, &d->failed);
        if ((byte == 0u && shift > 0u) || (shift == 28u && byte > 15u)) {
            break;
        }
        value |= (byte & 0x7Fu) << shift;
        if (byte < 0x80u) {
            return value;
        }
    }
    dl_fail(d, BITNET_DELTA_E_PATCH);
    return 0u;
}

bitnet_delta_status dl_index_open(bitnet_delta_t *d)
{
    const uint32_t at = d->config->flash->patch.at + (uint32_t)DL_HEADER;
    bitnet_delta_walk *w = &d->walk;
    uint32_t bytes;
    uint32_t first;
    d->failed = (uint32_t)BITNET_DELTA_OK;
    dl_reader_open(&w->in, at, d->index_bytes);
    bytes = varint(d, &w->in);
    first = position(&w->in);
    if (d->failed != BITNET_DELTA_OK || bytes > at + d->index_bytes - first) {
        return d->failed != BITNET_DELTA_OK ? (bitnet_delta_status)d->failed : BITNET_DELTA_E_PATCH;
    }
    dl_reader_open(&w->in, first, bytes);
    w->now.begin = 0u;
    w->now.bytes = 0u;
    w->base_end = 0u;
    w->run_at = first;
    w->run = 0u;
    w->turns = 0u;
    w->again_now = 0u;
    w->count = 0u;
    dl_reader_open(&d->blocks.in, first + bytes, at + d->index_bytes - (first + bytes));
    d->blocks.number = 0u;
    d->blocks.payload = at + d->index_bytes;
    d->blocks.bytes = 0u;
    return BITNET_DELTA_OK;
}

/* ---- segments ------------------------------------------------------------------------------ */

static uint32_t reads_base(const bitnet_delta_segment *s)
{
    return (uint32_t)(s->kind <= (uint32_t)DL_BYTES_4 || (s->kind == (uint32_t)DL_RAW && s->option != 0u));
}

/* What is written of an entry; `base` is the zigzag value. */
static void entry(bitnet_delta_t *d, uint32_t tag, bitnet_delta_segment *s)
{
    bitnet_delta_reader *r = &d->walk.in;
    s->kind = tag & 15u;
    s->option = tag >> 4;
    s->bytes = varint(d, r);
    s->base = 0u;
    s->parameter = 0u;
    if (s->kind > (uint32_t)DL_RAW || s->option > 1u ||
        (s->option == 1u && s->kind != (uint32_t)DL_RAW && (s->kind < (uint32_t)DL_BITS || s->kind > (uint32_t)DL_BYTES_4))) {
        dl_fail(d, BITNET_DELTA_E_PATCH);
    }
    if (s->kind == (uint32_t)DL_ZSTD) {
        dl_fail(d, BITNET_DELTA_E_HOST);
    }
    if (reads_base(s) != 0u) {
        s->base = varint(d, r);
    }
    if (s->kind == (uint32_t)DL_PLANES) {
        s->parameter = varint(d, r);
    } else if (s->kind >= (uint32_t)DL_BYTES_1 && s->kind <= (uint32_t)DL_BYTES_4) {
        s->parameter = dl_reader_byte(d, r, &d->failed);
    }
}

/* the rules of a segment whose place in target and base is known */
static uint32_t possible(const bitnet_delta_t *d, const bitnet_delta_segment *s)
{
    const uint32_t integer = s->kind - (uint32_t)DL_BYTES_1; /* log2 of the width */
    if (s->bytes == 0u || s->bytes > d->target_bytes - s->begin) {
        return 0u;
    }
    if (reads_base(s) != 0u) {
        if (s->base > d->base_bytes || s->bytes > d->base_bytes - s->base ||
            ((d->flags & (uint32_t)DL_IN_PLACE) != 0u && s->base != s->begin)) {
            return 0u;
        }
    } else if ((d->flags & (uint32_t)DL_REVERSIBLE) != 0u) {
        return 0u;
    }
    if (s->kind == (uint32_t)DL_PLANES) {
        if (s->parameter == 0u || s->parameter > 0x8000u || s->parameter << 1 > d->row ||
            dl_mod(s->bytes, s->parameter << 1) != 0u) {
            return 0u;
        }
    }
    if ((s->kind == (uint32_t)DL_PLANES || s->kind == (uint32_t)DL_FIVES) && (d->flags & (uint32_t)DL_REVERSIBLE) != 0u) {
        return 0u;
    }
    return (uint32_t)(integer > 2u || (s->parameter < 8u << integer && ((s->begin | s->bytes) & ((1u << integer) - 1u)) == 0u));
}

/* A repeat: goes back to the entries that it repeats. */
static void repeat(bitnet_delta_t *d)
{
    bitnet_delta_walk *w = &d->walk;
    const uint32_t end = w->in.end;
    bitnet_delta_segment skipped;
    uint32_t i;
    w->again = varint(d, &w->in);
    w->turns = varint(d, &w->in);
    w->after = position(&w->in);
    if (w->again == 0u || w->again > w->run || w->turns == 0u) {
        dl_fail(d, BITNET_DELTA_E_PATCH);
        return;
    }
    /* none of the entries behind the last repeat is one, so this reads each entry at most once more */
    dl_reader_open(&w->in, w->run_at, end - w->run_at);
    for (i = w->run - w->again; i > 0u && d->failed == BITNET_DELTA_OK; i--) {
        entry(d, dl_reader_byte(d, &w->in, &d->failed), &skipped);
    }
    w->again_at = position(&w->in);
    w->again_now = w->again;
}

uint32_t dl_walk_next(bitnet_delta_t *d)
{
    bitnet_delta_walk *w = &d->walk;
    bitnet_delta_segment *s = &w->now;
    const uint32_t end = w->in.end;
    uint32_t tag;
    if (w->turns > 0u && w->again_now == 0u) {
        w->turns--;
        if (w->turns > 0u) {
            w->again_now = w->again;
            dl_reader_open(&w->in, w->again_at, end - w->again_at);
        } else {
            dl_reader_open(&w->in, w->after, end - w->after);
            w->run_at = w->after;
            w->run = 0u;
        }
    }
    if (d->failed != BITNET_DELTA_OK || (w->turns == 0u && position(&w->in) == end)) {
        return 0u;
    }
    tag = dl_reader_byte(d, &w->in, &d->failed);
    if (tag == (uint32_t)DL_REPEAT && w->turns == 0u) {
        repeat(d);
        tag = d->failed != BITNET_DELTA_OK ? 0u : dl_reader_byte(d, &w->in, &d->failed);
    }
    s->begin += s->bytes;
    entry(d, tag, s);
    if (w->turns > 0u) {
        w->again_now--;
    } else {
        w->run++;
    }
    w->count++;
    if (reads_base(s) != 0u) {
        s->base = (s->base & 1u) != 0u ? w->base_end - (s->base >> 1) - 1u : w->base_end + (s->base >> 1);
    }
    if (d->failed == BITNET_DELTA_OK && (possible(d, s) == 0u || w->count > (uint32_t)SEGMENTS_MAX)) {
        dl_fail(d, BITNET_DELTA_E_PATCH);
    }
    if (d->failed != BITNET_DELTA_OK) {
        s->bytes = 0u;
        return 0u;
    }
    if (reads_base(s) != 0u) {
        w->base_end = s->base + s->bytes;
    }
    return 1u;
}

/* ---- blocks -------------------------------------------------------------------------------- */

uint32_t dl_block_next(bitnet_delta_t *d)
{
    bitnet_delta_blocks *b = &d->blocks;
    const uint32_t end = d->config->flash->patch.at + d->patch_bytes;
    uint32_t i;
    b->payload += b->bytes;
    b->bytes = varint(d, &b->in);
    b->first = 0u;
    if (b->bytes > 0u) {
        b->first = varint(d, &b->in);
        for (i = 0u; i < 16u; i++) {
            b->digest[i] = (uint8_t)dl_reader_byte(d, &b->in, &d->failed);
        }
    }
    if (b->bytes > end - b->payload || b->bytes > 2u << d->block_log2 || b->first > b->bytes) {
        dl_fail(d, BITNET_DELTA_E_PATCH);
    }
    b->number++;
    if (d->failed != BITNET_DELTA_OK) {
        b->bytes = 0u;
        b->first = 0u;
        return 0u;
    }
    return 1u;
}

/* ---- the whole index ------------------------------------------------------------------------ */

/* one bit for each group of contexts of delta->at that a segment may use */
static uint32_t uses(const bitnet_delta_segment *s)
{
    const uint32_t range = (uint32_t)(s->option == 0u);
    switch (s->kind) {
    case DL_BITS: return range;
    case DL_PLANES: return range * (7u | 1u << DL_AT_T);
    case DL_FIVES: return range * (6u | 1u << DL_AT_T);
    case DL_BYTES_1:
    case DL_BYTES_2:
    case DL_BYTES_4:
        return (1u << 3 | 1u << DL_AT_V | s->option << DL_AT_Z) << (s->kind - (uint32_t)DL_BYTES_1);
    case DL_BYTES: return 1u << DL_AT_B;
    default: return 0u;
    }
}

static uint32_t place_contexts(bitnet_delta_t *d, uint32_t used)
{
    uint32_t sum = 0u;
    uint32_t i;
    for (i = 0u; i < (uint32_t)DL_ATS; i++) {
        d->at[i] = DL_ENDLESS;
        if ((used >> i & 1u) != 0u) {
            d->at[i] = sum;
            sum += dl_contexts(i);
        }
    }
    return sum;
}

bitnet_delta_status dl_index_check(bitnet_delta_t *d)
{
    const bitnet_delta_segment *s = &d->walk.now;
    const uint32_t size = 1u << d->block_log2;
    uint32_t used = 0u;
    uint32_t row = 0u;
    uint32_t begin;
    bitnet_delta_status st = dl_index_open(d);
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    for (begin = 0u; begin < d->target_bytes && d->failed == BITNET_DELTA_OK; begin += size) {
        const uint32_t end = begin + dl_min(size, d->target_bytes - begin);
        uint32_t at = begin;
        (void)dl_block_next(d);
        while (at < end && d->failed == BITNET_DELTA_OK) {
            if (s->begin + s->bytes <= at) {
                if (dl_walk_next(d) == 0u) {
                    dl_fail(d, BITNET_DELTA_E_PATCH);
                }
                used |= uses(s);
                row = s->kind == (uint32_t)DL_PLANES && s->parameter << 1 > row ? s->parameter << 1 : row;
            }
            if (d->blocks.bytes == 0u && reads_base(s) == 0u) {
                dl_fail(d, BITNET_DELTA_E_PATCH);
            }
            at = s->begin + s->bytes;
        }
        st = dl_progress(d, begin, d->target_bytes);
        if (st != BITNET_DELTA_OK) {
            return st;
        }
    }
    if (d->failed == BITNET_DELTA_OK &&
        (dl_walk_next(d) != 0u || d->failed != BITNET_DELTA_OK || position(&d->blocks.in) != d->blocks.in.end ||
         d->blocks.payload + d->blocks.bytes != d->config->flash->patch.at + d->patch_bytes || row != d->row ||
         place_contexts(d, used) != d->contexts)) {
        dl_fail(d, BITNET_DELTA_E_PATCH);
    }
    return (bitnet_delta_status)d->failed;
}
