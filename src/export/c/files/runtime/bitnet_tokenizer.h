/* Device tokenizer: text to token ids and back, over a blob in flash.
 *
 * The blob (docs/format/tokenizer.md) may lie at any address; it is read byte by byte.
 * Integers only, no heap, no libc, no globals; a tokenizer may be shared between threads.
 */
#ifndef BITNET_TOKENIZER_H
#define BITNET_TOKENIZER_H

#include <stdint.h>

#include "bitnet_status.h"

/* Views into a checked blob. Fill with bitnet_tok_open; do not touch the fields. */
typedef struct {
    const uint8_t *runs;
    const uint8_t *affixes;
    const uint8_t *pairs;
    const uint8_t *order;
    const uint8_t *results;
    const uint8_t *makers;
    const uint8_t *literals;
    const uint8_t *classes;
    uint32_t run_count;
    uint32_t vocab_size;
    uint32_t merge_count;
    uint32_t merge_base;
    uint32_t id_bits;
    uint32_t rank_bits;
    uint32_t literal_count;
    uint32_t class_bytes;
    uint32_t max_token_bytes; /* longest token: room vocab_decode needs */
    uint32_t starts[8];       /* bit b: byte b starts a token looked for in the text */
    uint8_t flags;
    uint8_t splitter;
    uint8_t words;
    uint8_t prefix_count;
    uint8_t suffix_count;
    uint8_t whole_words;
} bitnet_tokenizer;

/* Checks all of `blob` (`bytes` long), so that no later call can read outside of it. The blob
 * must stay where it is. BITNET_E_MAGIC, _VERSION or _FORMAT if it is not a tokenizer. */
bitnet_status bitnet_tok_open(bitnet_tokenizer *t, const uint8_t *blob, uint32_t bytes);

/* Writes the ids of `n` bytes of text to `ids` (room for `cap`) and their number to `out_n`.
 *
 * `n` free ids are always enough (2n with a prefix space): a word is merged in place in `ids`,
 * so it needs as many ids as it has bytes until it is done. With as many again free after it
 * the merging is faster, with the same result. BITNET_E_CAPACITY if it does not fit. Bytes
 * that are not UTF-8 are allowed. Work grows with the square of the length of a word. */
bitnet_status tokenize_c(const bitnet_tokenizer *t, const uint8_t *utf8, uint32_t n,
                         uint32_t *ids, uint32_t cap, uint32_t *out_n);

/* Writes the raw bytes of one token to `out` (room for `cap`) and their number to `out_n`. A
 * token may hold part of a UTF-8 sequence. BITNET_E_TOKEN if `id` has no meaning,
 * BITNET_E_CAPACITY if it does not fit; t->max_token_bytes always do. */
bitnet_status vocab_decode(const bitnet_tokenizer *t, uint32_t id, uint8_t *out, uint32_t cap,
                           uint32_t *out_n);

/* Writes the ids the model wants before a text (`after` 0) or after it (`after` 1);
 * tokenize_c does not add them. */
bitnet_status bitnet_tok_template(const bitnet_tokenizer *t, uint32_t after, uint32_t *ids,
                                  uint32_t cap, uint32_t *out_n);

/* 1 if `id` is a special token, which a reader of the text should not be shown. */
uint32_t bitnet_tok_is_special(const bitnet_tokenizer *t, uint32_t id);

#endif
