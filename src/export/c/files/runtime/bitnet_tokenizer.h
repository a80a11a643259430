/* Device tokenizer: text to token ids and back, over a blob in flash.
 *
 * The blob (docs/format/tokenizer.md) may lie at any address; it is read byte by byte.
 * Integers only, no heap, no libc, no globals. One tokenizer with scratch encodes one text at
 * a time; one without (work NULL) decodes only and may be shared between threads.
 */
#ifndef BITNET_TOKENIZER_H
#define BITNET_TOKENIZER_H

#include <stdint.h>

#include "bitnet_status.h"

#define BITNET_TOK_SECTIONS 14u /* kinds 1 to 13 */

/* Views into a checked blob. Fill with bitnet_tok_open; do not touch the fields. */
typedef struct {
    const uint8_t *blob; /* NULL: not open */
    const uint8_t *section[BITNET_TOK_SECTIONS]; /* NULL where there is none */
    uint32_t section_bytes[BITNET_TOK_SECTIONS]; /* 0 where there is none */
    uint32_t *work;
    uint32_t work_words;      /* of the header; 0 without `work` */
    uint32_t normal_words;    /* the first of them are the normalizer's */
    uint32_t vocab_size;
    uint32_t max_token_bytes; /* longest token: room vocab_decode needs */
    uint32_t growth;          /* most ids of a text of n bytes: n * growth / 16, rounded up, and 16 */
    uint32_t id_bits;
    uint32_t starts[8];       /* bit b: byte b starts a literal looked for */
    uint8_t model;
    uint8_t literal_flags;    /* flags that some literal has */
    uint8_t splitter, words, front_mode;
    uint16_t front;           /* the front character */
    /* merges (models 0, 1) */
    uint32_t merges, results, base, longest; /* n, D, base, L of section 4 */
    const uint8_t *stream, *permutation, *jumps, *ranks, *late; /* NULL: ids are ranks */
    uint32_t code_bits;       /* S */
    uint8_t offset_bits, result_bits; /* o, d */
    /* pieces (models 2, 3) */
    uint32_t longest_piece;   /* bytes */
    const uint8_t *nodes;     /* the trie behind P and jumps */
    uint32_t node_bytes;
} bitnet_tokenizer;

/* Words of scratch that encoding needs, 0 if `blob` is no tokenizer this code reads. Reads the
 * header only: bitnet_tok_open checks it. */
uint32_t bitnet_tok_work(const uint8_t *blob, uint32_t bytes);

/* Checks all of `blob` (`bytes` long), so that no later call can read outside of it. The blob
 * must stay where it is, and so must `work`, scratch of `work_words` words for encoding
 * (BITNET_TOKENIZER_WORK of an exported folder); NULL if nothing will be encoded.
 * BITNET_E_MAGIC, _VERSION or _FORMAT if it is not a tokenizer, BITNET_E_FEATURE if it needs a
 * part that was not compiled, BITNET_E_ARENA if the scratch is too small. */
bitnet_status bitnet_tok_open(bitnet_tokenizer *t, const uint8_t *blob, uint32_t bytes, uint32_t *work,
                              uint32_t work_words);

/* Writes the ids of `n` bytes of text to `ids` (room for `cap`) and their number to `out_n`.
 * n * growth / 16 + 17 free ids are always enough, BITNET_E_CAPACITY if it does not fit. Bytes
 * that are not UTF-8 are allowed. Time is linear in n, whatever the text. BITNET_E_STATE
 * without scratch. */
bitnet_status tokenize_c(const bitnet_tokenizer *t, const uint8_t *utf8, uint32_t n, uint32_t *ids,
                         uint32_t cap, uint32_t *out_n);

/* Writes the ids the model wants before a text (`after` 0) or after it (`after` 1);
 * tokenize_c does not add them. */
bitnet_status bitnet_tok_template(const bitnet_tokenizer *t, uint32_t after, uint32_t *ids, uint32_t cap,
                                  uint32_t *out_n);

/* 1 if `id` is a special token, which a reader of the text should not be shown. */
uint32_t bitnet_tok_is_special(const bitnet_tokenizer *t, uint32_t id);

/* Writes the bytes of one token, without what stands around it, to `out` (room for `cap`) and
 * their number to `out_n`. A token may hold part of a UTF-8 sequence. BITNET_E_TOKEN if `id`
 * has no meaning, BITNET_E_CAPACITY if it does not fit; t->max_token_bytes always do. */
bitnet_status vocab_decode(const bitnet_tokenizer *t, uint32_t id, uint8_t *out, uint32_t cap,
                           uint32_t *out_n);

/* A text that is being decoded: what waits for the next token. */
typedef struct {
    uint8_t held[4]; /* the start of a UTF-8 sequence */
    uint8_t count;   /* of them */
    uint8_t started; /* a token was decoded */
    uint8_t text;    /* a byte of text was decoded */
    uint8_t each;    /* each bad byte is an U+FFFD, not each bad sequence */
} bitnet_tok_decoder;

/* Room for the bytes of one call: what was held, each bad byte as U+FFFD. */
#define BITNET_TOK_ROOM(token_bytes) (3u * ((token_bytes) + 4u))

/* The start of a text. */
void bitnet_tok_decode_start(bitnet_tok_decoder *state);

/* Writes what `id` adds to the text: whole UTF-8 sequences only, U+FFFD for what cannot become
 * one. All ids count, also special ones: leave those out that should not be shown. On an error
 * the state is as before. BITNET_TOK_ROOM(t->max_token_bytes) is always enough. */
bitnet_status bitnet_tok_decode(const bitnet_tokenizer *t, bitnet_tok_decoder *state, uint32_t id,
                                uint8_t *out, uint32_t cap, uint32_t *out_n);

/* The end of the text: U+FFFD if the start of a sequence is still held. 9 bytes are enough. */
bitnet_status bitnet_tok_decode_end(bitnet_tok_decoder *state, uint8_t *out, uint32_t cap, uint32_t *out_n);

#endif
