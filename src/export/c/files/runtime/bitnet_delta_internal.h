/* Inside of the applier of patches: what its parts share. docs/format/delta.md has the words used here.
 *
 *   bitnet_delta.c        groups of blocks, journal, what the application calls
 *   bitnet_delta_state.c  records of the state area
 *   bitnet_delta_check.c  everything that is checked before the first write
 *   bitnet_delta_index.c  reading segments and blocks out of the flash
 *   bitnet_delta_kinds.c  a block: pieces of segments
 *   bitnet_delta_code.c   the two streams, gaps, values
 */
#ifndef BITNET_DELTA_INTERNAL_H
#define BITNET_DELTA_INTERNAL_H

#include "bitnet_delta.h"
#include "bitnet_math.h"

enum { DL_HEADER = 384, DL_SIGNED = 320, DL_IN_PLACE = 1, DL_REVERSIBLE = 2, DL_FULL = 4, DL_IS_SIGNED = 8, DL_HOST = 16 };

enum {
    DL_COPY = 0, DL_BITS = 1, DL_PLANES = 2, DL_FIVES = 3, DL_BYTES_1 = 4, DL_BYTES_2 = 5, DL_BYTES_4 = 6,
    DL_BYTES = 7, DL_ZSTD = 8, DL_RAW = 9, DL_REPEAT = 15
};

/* first contexts in delta->at: six classes, then these */
enum { DL_AT_T = 6, DL_AT_V = 7, DL_AT_Z = 10, DL_AT_B = 13, DL_ATS = 14 };
enum { DL_GAP_CONTEXTS = 128, DL_V_CONTEXTS = 257, DL_Z_CONTEXTS = 256, DL_B_CONTEXTS = 305 };

#define DL_LIMIT 0x40000000u /* lengths and areas are below, so sums do not overflow */
#define DL_ENDLESS 0xFFFFFFFFu

BN_INLINE uint32_t dl_word(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

BN_INLINE void dl_copy(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    while (bytes-- > 0u) {
        *to++ = *from++;
    }
}

BN_INLINE uint32_t dl_equal(const uint8_t *a, const uint8_t *b, uint32_t bytes)
{
    uint32_t differs = 0u;
    while (bytes-- > 0u) {
        differs |= (uint32_t)(*a++ ^ *b++);
    }
    return (uint32_t)(differs == 0u);
}

BN_INLINE uint32_t dl_min(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* contexts of one entry of delta->at */
BN_INLINE uint32_t dl_contexts(uint32_t which)
{
    const int32_t i = (int32_t)which;
    if (i < DL_AT_V) {
        return (uint32_t)(i < DL_AT_T ? DL_GAP_CONTEXTS : 1);
    }
    return (uint32_t)(i < DL_AT_Z ? DL_V_CONTEXTS : (i < DL_AT_B ? DL_Z_CONTEXTS : DL_B_CONTEXTS));
}

/* ---- flash and digests (bitnet_delta_check.c) ---------------------------------------------- */

bitnet_delta_status dl_read(const bitnet_delta_t *d, uint32_t at, void *out, uint32_t bytes);
bitnet_delta_status dl_program(const bitnet_delta_t *d, uint32_t at, const void *data, uint32_t bytes);
bitnet_delta_status dl_erase(const bitnet_delta_t *d, uint32_t at, uint32_t bytes); /* the units that hold these bytes */
bitnet_delta_status dl_sync(const bitnet_delta_t *d);
bitnet_delta_status dl_progress(const bitnet_delta_t *d, uint32_t done, uint32_t total);
/* SHA-256 of flash, page by page through the page buffer and block_sha */
bitnet_delta_status dl_digest(bitnet_delta_t *d, uint32_t at, uint32_t bytes, uint8_t digest[32]);
uint32_t dl_in_place(const bitnet_delta_t *d); /* 1: there is one slot */
bitnet_delta_status dl_signed(const bitnet_delta_t *d);
bitnet_delta_status dl_check(bitnet_delta_t *d, uint32_t back); /* back: the slot holds the target and goes back to the base */

/* a mod m without a division; m > 0 */
uint32_t dl_mod(uint32_t a, uint32_t m);

/* ---- records (bitnet_delta_state.c) --------------------------------------------------------- */

bitnet_delta_status dl_state_load(bitnet_delta_t *d);
bitnet_delta_status dl_state_save(bitnet_delta_t *d); /* d->state, with the next counter */

/* ---- index (bitnet_delta_index.c) ----------------------------------------------------------- */

void dl_reader_open(bitnet_delta_reader *r, uint32_t at, uint32_t bytes);
/* The next byte; behind the end and after an error of the flash 0 and *failed is set. */
uint32_t dl_reader_byte(const bitnet_delta_t *d, bitnet_delta_reader *r, uint32_t *failed);
bitnet_delta_status dl_index_open(bitnet_delta_t *d); /* walk and blocks stand before their first one */
uint32_t dl_walk_next(bitnet_delta_t *d);             /* 0: there is none left, or d->failed */
uint32_t dl_block_next(bitnet_delta_t *d);            /* 0: d->failed */
bitnet_delta_status dl_index_check(bitnet_delta_t *d);

/* ---- streams (bitnet_delta_code.c) ---------------------------------------------------------- */

void dl_streams_open(bitnet_delta_t *d);
uint32_t dl_raw(bitnet_delta_t *d, uint32_t bits);        /* 0 ..= 32 */
uint32_t dl_bit(bitnet_delta_t *d, uint32_t context);     /* of stream 1 */
uint32_t dl_gap(bitnet_delta_t *d, uint32_t class_of);    /* DL_ENDLESS: more than any block has */
void dl_model(bitnet_delta_t *d, uint32_t class_of, uint32_t rice); /* at the start of a part of a piece */
uint32_t dl_value(bitnet_delta_t *d, uint32_t width_log2, uint32_t zeros, uint32_t *negative);
uint32_t dl_gamma(bitnet_delta_t *d, uint32_t at);
void dl_fail(bitnet_delta_t *d, bitnet_delta_status status);

/* ---- blocks (bitnet_delta_kinds.c) ----------------------------------------------------------- */

/* Makes the block that dl_block_next found out of the base at d->base and programs it at d->out, page by page; the
 * segment that lies at its start is the walk's. block_sha and group_sha take what is written. */
bitnet_delta_status dl_block_make(bitnet_delta_t *d, uint32_t begin, uint32_t end, uint32_t coded);

#endif
