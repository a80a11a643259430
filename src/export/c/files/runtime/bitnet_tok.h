/* Inside of the device tokenizer: what its parts share. docs/format/tokenizer.md describes the
 * blob and the words used here.
 *
 *   bitnet_tok_blob.c   reading and checking the blob
 *   bitnet_tokenizer.c  literals, segments, text to ids
 *   bitnet_tok_words.c  characters, classes, splitters, words
 *   bitnet_tok_bpe.c    byte-pair encoding
 *   bitnet_tok_pieces.c unigram, WordPiece and their trie
 *   bitnet_tok_normal.c normalizer
 *   bitnet_tok_decode.c ids to text
 *
 * A text is never copied. A cursor walks the characters of a segment as the normalizer gives
 * them; it can be copied to look ahead and to come back. */
#ifndef BITNET_TOK_H
#define BITNET_TOK_H

#include <stddef.h>

#include "bitnet_features.h"
#include "bitnet_tokenizer.h"

#define TOK_NONE 0xffffffffu
#define TOK_END 0xffffffffu          /* instead of a character: there is none left */
#define TOK_CODE_POINTS 0x110000u    /* a byte that is not UTF-8 is the character this + byte */
#define TOK_UNDERLINE 0x2581u        /* the character that stands for a space */
#define TOK_MAX_TEXT 0x7ffffff0u

enum { TOK_BYTES_BPE, TOK_CHARS_BPE, TOK_UNIGRAM, TOK_WORDPIECE };
enum {
    TOK_S_TEMPLATE = 1, TOK_S_BYTES, TOK_S_CHARS, TOK_S_MERGES, TOK_S_LITERALS, TOK_S_CLASSES,
    TOK_S_NORMAL, TOK_S_PRE, TOK_S_MODEL, TOK_S_PIECES, TOK_S_SCORES, TOK_S_DECODER, TOK_S_CHAT
};
enum {
    TOK_SPECIAL = 1, TOK_MATCH = 2, TOK_WHOLE = 4, TOK_LSTRIP = 8, TOK_RSTRIP = 16,
    TOK_NORMALIZED = 32, TOK_SPELLING = 64
};
enum { TOK_FALLBACK = 1, TOK_FUSE = 2 }; /* flags of section 9 */

/* ---- reading the blob (bitnet_tok_blob.c) ------------------------------------------------- */

/* A little-endian number of 1 to 4 bytes. */
uint32_t tok_le(const uint8_t *p, uint32_t bytes);
/* Bits needed for a value, at least 1. */
uint32_t tok_width(uint32_t value);
/* Bytes of `count` packed fields; count * width + 7 fits 32 bits. */
uint32_t tok_packed(uint32_t count, uint32_t width);
/* `width` (0 to 25) bits from bit `bit`, least significant first; reads no byte past the last. */
uint32_t tok_bits(const uint8_t *table, uint32_t bit, uint32_t width);
/* Field `index` of a packed array. */
uint32_t tok_field(const uint8_t *table, uint32_t index, uint32_t width);
/* One varint at `at` of a table of `bytes`. Returns the offset after it, 0 if it is cut short. */
uint32_t tok_varint(const uint8_t *table, uint32_t bytes, uint32_t at, uint32_t *value);

typedef struct {
    uint32_t id;
    uint32_t flags;
    uint32_t length;
    const uint8_t *bytes;    /* looked for */
    uint32_t spelled;
    const uint8_t *spelling; /* decoded: the same or others */
} tok_literal;
/* The first literal (`*p` NULL) or the next one; 0 behind the last. */
uint32_t tok_next_literal(const bitnet_tokenizer *t, const uint8_t **p, tok_literal *literal);

/* A permutation P with its jumps: sections 4 and 10. */
typedef struct {
    const uint8_t *fields; /* P: packed, `count` of them */
    const uint8_t *jumps;
    uint32_t count;
    uint32_t width;
} tok_permutation;

/* Reads P and jumps at `p` of `left` bytes. Returns their bytes, 0 if they are damaged. count <= 2^20. */
uint32_t tok_permutation_open(tok_permutation *of, const uint8_t *p, uint32_t left, uint32_t count);
/* The place k with P[k] = `value` (below count), TOK_NONE if there is none. */
uint32_t tok_place(const tok_permutation *of, uint32_t value);

/* ---- characters (bitnet_tok_words.c) ----------------------------------------------------- */

typedef struct {
    uint32_t at;    /* offset in the segment of the unit that is being given */
#if BITNET_TOK_NORMAL
    uint32_t step;  /* characters of that unit given already */
    uint32_t state; /* the normalizer's own, 0 at the start of a segment */
    uint32_t kept;  /* the same; follows from the three above, so it is not compared */
#endif
    uint32_t front; /* 1 as long as the front character is still to come */
} tok_cursor;

/* Cursors are copied by this and passed by address: a compiler may call memcpy for a structure. */
#if BITNET_TOK_NORMAL
void tok_copy(tok_cursor *to, const tok_cursor *from);
#else
static inline void tok_copy(tok_cursor *to, const tok_cursor *from)
{
    to->at = from->at;
    to->front = from->front;
}
#endif

/* A segment of the text. `stop`: where the characters end (at = TOK_END: with the segment); a
 * caller narrows it to a piece, a part or a word and sets it back. */
typedef struct {
    const uint8_t *text;
    uint32_t n;
    uint32_t first;  /* 1: the segment starts where the text starts */
    uint32_t last;   /* 1: it ends where the text ends */
    tok_cursor stop;
    /* where the last character beyond ASCII was found in the classes: first <= c < end */
    uint32_t seen_first, seen_end, seen_class;
#if BITNET_TOK_NORMAL
    uint32_t raw;     /* 1: the characters of the text itself, whatever the normalizer */
#endif
    uint32_t *normal; /* scratch of the normalizer: TOK_NORMAL_WORDS words, or NULL without one */
    uint32_t *model;  /* scratch of the model: t->work_words less those */
} tok_stream;

/* The character of `n` bytes of text at `at` < n; adds its length to `at`. */
uint32_t tok_utf8(const uint8_t *text, uint32_t n, uint32_t *at);
/* Bytes of a character, a stray one is a single byte. Returns their number, 1 to 4. */
uint32_t tok_spell(uint32_t character, uint8_t bytes[4]);
/* The next character before `stop`, or TOK_END; moves the cursor behind it. This is what a
 * model reads its word with. */
uint32_t tok_next(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at);
/* Class of section 6; 0 for other and stray characters. */
uint32_t tok_class(const bitnet_tokenizer *t, tok_stream *s, uint32_t character);
/* White_Space, without a table. */
uint32_t tok_is_white(uint32_t character);
bitnet_status tok_classes_open(const bitnet_tokenizer *t);

/* Cuts the characters from `at` to s->stop into words and gives each to the model. */
typedef struct {
    uint32_t *ids;
    uint32_t cap;
    uint32_t n;
} tok_out;
bitnet_status tok_piece(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, tok_out *out);

/* ---- ids (bitnet_tokenizer.c) ------------------------------------------------------------ */

bitnet_status tok_put(tok_out *out, uint32_t id);
uint32_t tok_byte_id(const bitnet_tokenizer *t, uint32_t byte); /* section 2, or TOK_NONE */
uint32_t tok_unknown(const bitnet_tokenizer *t);                /* section 9, or TOK_NONE */
uint32_t tok_model_flags(const bitnet_tokenizer *t);            /* section 9, or 0 */
/* 1 if byte fallback is on and every byte of the character has an id. */
uint32_t tok_falls_back(const bitnet_tokenizer *t, uint32_t character);

/* Where the bytes of a token go. `underline`: U+2581 becomes a space; `waiting`: bytes of it
 * seen; `space`: the token started with one that became a space. */
typedef struct {
    uint8_t *out;
    uint32_t cap;
    uint32_t n;
    uint32_t underline;
    uint32_t waiting;
    uint32_t space;
} tok_sink;
/* The next byte; BITNET_E_CAPACITY if it does not fit (bitnet_tok_decode.c). */
bitnet_status tok_emit(tok_sink *sink, uint32_t byte);

/* ---- models: the word from `at`, which they may move, to s->stop ------------------------------------------ */

/* bitnet_tok_bpe.c */
bitnet_status tok_bpe_open(bitnet_tokenizer *t, uint32_t *words); /* checks sections 3, 4; scratch */
bitnet_status tok_bpe(const bitnet_tokenizer *t, tok_stream *s, const tok_cursor *at, tok_out *out);
/* The two halves of a merged token; 0 if no merge makes it. */
uint32_t tok_halves(const bitnet_tokenizer *t, uint32_t id, uint32_t *left, uint32_t *right);
uint32_t tok_char_of(const bitnet_tokenizer *t, uint32_t id); /* section 3, or TOK_NONE */

/* bitnet_tok_pieces.c. The opening checks sections 9 (limit, prefix), 10, 11 in s->section and
 * gives the words of scratch the model needs. Section 9 itself is checked before. */
bitnet_status tok_pieces_open(bitnet_tokenizer *t, uint32_t *words);
/* `first`: the first word of a part; sums may be carried over the words of one. */
bitnet_status tok_unigram(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t first, tok_out *out);
bitnet_status tok_wordpiece(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, tok_out *out);
/* Gives tok_emit the bytes of the piece `id` (below vocab_size) as they are in the trie;
 * BITNET_E_TOKEN if it has none, or what tok_emit says. */
bitnet_status tok_piece_bytes(const bitnet_tokenizer *t, uint32_t id, tok_sink *sink);

/* ---- normalizer (bitnet_tok_normal.c) ---------------------------------------------------- */

/* Checks section 7 and gives the words of scratch it needs. */
bitnet_status tok_normal_open(bitnet_tokenizer *t, uint32_t *words);
/* A new segment: forget what s->normal holds. Once per segment, before the first character. */
void tok_normal_start(const bitnet_tokenizer *t, tok_stream *s);
/* The character at the cursor (front is 0 and stays so), or TOK_END at the end of the segment;
 * `stop` is tested by the caller. The same cursor always gives the same character and the same
 * cursor behind it, whatever was asked before. */
uint32_t tok_normal_next(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at);

#endif
