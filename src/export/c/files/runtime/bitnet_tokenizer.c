/* Device tokenizer; see bitnet_tokenizer.h. The same algorithm as src/tokenizer in Rust, which
 * is the definition: the two are compared on every test text. */
#include "bitnet_tokenizer.h"

#include <stddef.h>

#define TOK_HEADER 48u
#define TOK_VERSION 1u
#define TOK_MAX_VOCAB 0x100000u
#define TOK_MAX_MERGES 0x100000u
#define TOK_MAX_TEXT 0x7fffffffu /* a prefix space and a sum of two lengths still fit */
#define TOK_STACK 32u
#define TOK_NONE 0xffffffffu

#define TOK_FLAG_SPACE 1u
#define TOK_FLAG_EXPLICIT 2u

#define TOK_SPECIAL 1u
#define TOK_MATCH 2u
#define TOK_WHOLE 4u

#define TOK_SPLIT_NONE 0u
#define TOK_SPLIT_DIGIT 1u
#define TOK_SPLIT_DIGITS 2u
#define TOK_SPLIT_LLAMA3 3u
#define TOK_SPLIT_QWEN2 4u
#define TOK_WORDS_WHOLE 0u
#define TOK_WORDS_GPT2 1u

#define TOK_OTHER 0u
#define TOK_LETTER 1u
#define TOK_NUMBER 2u
#define TOK_WHITE 3u
#define TOK_CODE_POINTS 0x110000u

/* ---- reading the blob -------------------------------------------------------------------- */

static uint32_t tok_le(const uint8_t *p, uint32_t bytes)
{
    uint32_t value = 0;
    uint32_t k;
    for (k = 0; k < bytes; k++) {
        value |= (uint32_t)p[k] << (8u * k);
    }
    return value;
}

static uint32_t tok_width(uint32_t value)
{
    uint32_t width = 1;
    while (width < 32u && (value >> width) != 0u) {
        width++;
    }
    return width;
}

/* Bytes of `count` fields; counts are at most 2^21 and widths 21, so bits fit 32 bits. */
static uint32_t tok_packed(uint32_t count, uint32_t width)
{
    return (count * width + 7u) >> 3;
}

/* Field `index` of `width` bits, least significant bit first; reads no byte past its last. */
static uint32_t tok_field(const uint8_t *table, uint32_t index, uint32_t width)
{
    const uint32_t bit = index * width;
    const uint32_t shift = bit & 7u;
    return (tok_le(table + (bit >> 3), (shift + width + 7u) >> 3) >> shift) & ((1u << width) - 1u);
}

/* One LEB128 number of at most four bytes. Returns the offset after it, 0 if it is cut short. */
static uint32_t tok_varint(const uint8_t *table, uint32_t bytes, uint32_t at, uint32_t *value)
{
    uint32_t k;
    *value = 0;
    for (k = 0; k < 4u && at + k < bytes; k++) {
        *value |= ((uint32_t)table[at + k] & 0x7fu) << (7u * k);
        if (table[at + k] < 0x80u) {
            return at + k + 1u;
        }
    }
    return 0;
}

typedef struct {
    uint32_t id;
    uint32_t flags;
    uint32_t length;
    const uint8_t *bytes;
} tok_literal;

/* Reads the head of the literal at `p`; the next one is at `bytes + length`. */
static void tok_literal_at(const uint8_t *p, tok_literal *literal)
{
    literal->id = tok_le(p, 3);
    literal->flags = p[3];
    literal->length = tok_le(p + 4, 2);
    literal->bytes = p + 6;
}

static uint32_t tok_byte_id(const bitnet_tokenizer *t, uint32_t byte)
{
    const uint8_t *run = t->runs;
    uint32_t k;
    for (k = 0; k < t->run_count; k++) {
        if (byte >= run[3] && byte - run[3] <= run[4]) {
            return tok_le(run, 3) + (byte - run[3]);
        }
        run += 5;
    }
    return TOK_NONE;
}

static uint32_t tok_byte_of(const bitnet_tokenizer *t, uint32_t id)
{
    const uint8_t *run = t->runs;
    uint32_t k;
    for (k = 0; k < t->run_count; k++) {
        const uint32_t first = tok_le(run, 3);
        if (id >= first && id - first <= run[4]) {
            return (uint32_t)run[3] + (id - first);
        }
        run += 5;
    }
    return TOK_NONE;
}

/* Rank of the merge of a pair, or TOK_NONE: binary search in the pairs' ascending order. */
static uint32_t tok_rank(const bitnet_tokenizer *t, uint32_t left, uint32_t right)
{
    uint32_t low = 0;
    uint32_t high = t->merge_count;
    while (low < high) {
        const uint32_t middle = low + ((high - low) >> 1);
        const uint32_t rank = tok_field(t->order, middle, t->rank_bits);
        const uint32_t a = tok_field(t->pairs, rank * 2u, t->id_bits);
        const uint32_t b = tok_field(t->pairs, rank * 2u + 1u, t->id_bits);
        if (a == left && b == right) {
            return rank;
        }
        if (a < left || (a == left && b < right)) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return TOK_NONE;
}

static uint32_t tok_result(const bitnet_tokenizer *t, uint32_t rank)
{
    if ((t->flags & TOK_FLAG_EXPLICIT) != 0u) {
        return tok_field(t->results, rank, t->id_bits);
    }
    return t->merge_base + rank;
}

/* Rank of a merge that makes `id` (below vocab_size), or TOK_NONE. */
static uint32_t tok_maker(const bitnet_tokenizer *t, uint32_t id)
{
    uint32_t rank;
    if ((t->flags & TOK_FLAG_EXPLICIT) != 0u) {
        rank = tok_field(t->makers, id, t->rank_bits);
    } else if (id >= t->merge_base) {
        rank = id - t->merge_base;
    } else {
        return TOK_NONE;
    }
    return rank < t->merge_count ? rank : TOK_NONE;
}

/* ---- opening ----------------------------------------------------------------------------- */

static bitnet_status tok_check_runs(const bitnet_tokenizer *t)
{
    const uint8_t *run = t->runs;
    uint32_t next = 0;
    uint32_t k;
    for (k = 0; k < t->run_count; k++) {
        const uint32_t count = (uint32_t)run[4] + 1u;
        if (run[3] < next || run[3] + count > 256u || tok_le(run, 3) + count > t->vocab_size) {
            return BITNET_E_FORMAT;
        }
        next = run[3] + count;
        run += 5;
    }
    return BITNET_OK;
}

static bitnet_status tok_check_merges(const bitnet_tokenizer *t)
{
    uint32_t last_left = 0;
    uint32_t last_right = 0;
    uint32_t k;
    for (k = 0; k < t->merge_count; k++) {
        const uint32_t rank = tok_field(t->order, k, t->rank_bits);
        uint32_t left;
        uint32_t right;
        if (rank >= t->merge_count) {
            return BITNET_E_FORMAT;
        }
        left = tok_field(t->pairs, rank * 2u, t->id_bits);
        right = tok_field(t->pairs, rank * 2u + 1u, t->id_bits);
        if (left >= t->vocab_size || right >= t->vocab_size) {
            return BITNET_E_FORMAT;
        }
        if (k > 0u && (left < last_left || (left == last_left && right <= last_right))) {
            return BITNET_E_FORMAT;
        }
        last_left = left;
        last_right = right;
    }
    if ((t->flags & TOK_FLAG_EXPLICIT) != 0u) {
        for (k = 0; k < t->merge_count; k++) {
            if (tok_field(t->results, k, t->id_bits) >= t->vocab_size) {
                return BITNET_E_FORMAT;
            }
        }
        for (k = 0; k < t->vocab_size; k++) {
            if (tok_field(t->makers, k, t->rank_bits) > t->merge_count) {
                return BITNET_E_FORMAT;
            }
        }
    }
    return BITNET_OK;
}

static bitnet_status tok_check_literals(bitnet_tokenizer *t, uint32_t bytes)
{
    const uint8_t *p = t->literals;
    uint32_t left = bytes;
    uint32_t k;
    for (k = 0; k < t->literal_count; k++) {
        tok_literal literal;
        if (left < 6u) {
            return BITNET_E_FORMAT;
        }
        left -= 6u;
        tok_literal_at(p, &literal);
        if (literal.id >= t->vocab_size || literal.flags > 7u || literal.length == 0u ||
            literal.length > left) {
            return BITNET_E_FORMAT;
        }
        left -= literal.length;
        p = literal.bytes + literal.length;
        if ((literal.flags & TOK_MATCH) != 0u) {
            t->starts[literal.bytes[0] >> 5] |= 1u << (literal.bytes[0] & 31u);
        }
        if ((literal.flags & TOK_WHOLE) != 0u) {
            t->whole_words = 1;
        }
    }
    return left == 0u ? BITNET_OK : BITNET_E_FORMAT;
}

static bitnet_status tok_check_classes(const bitnet_tokenizer *t)
{
    uint32_t at = 0;
    uint32_t next = 0;
    while (at < t->class_bytes) {
        uint32_t gap;
        uint32_t code;
        at = tok_varint(t->classes, t->class_bytes, at, &gap);
        if (at == 0u) {
            return BITNET_E_FORMAT;
        }
        at = tok_varint(t->classes, t->class_bytes, at, &code);
        if (at == 0u || (code & 3u) == TOK_OTHER) {
            return BITNET_E_FORMAT;
        }
        next += gap + (code >> 2) + 1u;
        if (next > TOK_CODE_POINTS) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* Takes `bytes` from what is left after `*p`; a NULL result says there are fewer. */
static const uint8_t *tok_take(const uint8_t **p, uint32_t *left, uint32_t bytes)
{
    const uint8_t *section = *p;
    if (bytes > *left) {
        return NULL;
    }
    *p += bytes;
    *left -= bytes;
    return section;
}

bitnet_status bitnet_tok_open(bitnet_tokenizer *t, const uint8_t *blob, uint32_t bytes)
{
    const uint8_t *p;
    const uint8_t *runs;
    uint32_t left;
    uint32_t k;
    uint32_t literal_bytes;
    uint32_t explicit_ids;
    bitnet_status status;

    if (t == NULL || blob == NULL) {
        return BITNET_E_NULL;
    }
    t->runs = NULL; /* not open until all is checked */
    if (bytes < TOK_HEADER) {
        return BITNET_E_FORMAT;
    }
    if (blob[0] != 0x42u || blob[1] != 0x4eu || blob[2] != 0x54u || blob[3] != 0x4bu) {
        return BITNET_E_MAGIC;
    }
    if (tok_le(blob + 4, 2) != TOK_VERSION) {
        return BITNET_E_VERSION;
    }
    if (blob[6] > (TOK_FLAG_SPACE | TOK_FLAG_EXPLICIT) || blob[7] != 0u ||
        tok_le(blob + 8, 4) != bytes) {
        return BITNET_E_FORMAT;
    }
    t->flags = blob[6];
    explicit_ids = t->flags & TOK_FLAG_EXPLICIT;
    t->vocab_size = tok_le(blob + 12, 4);
    t->merge_count = tok_le(blob + 16, 4);
    t->merge_base = tok_le(blob + 20, 4);
    if (t->vocab_size == 0u || t->vocab_size > TOK_MAX_VOCAB || t->merge_count > TOK_MAX_MERGES) {
        return BITNET_E_FORMAT;
    }
    if (explicit_ids != 0u ? t->merge_base != 0u
                           : (t->merge_base > t->vocab_size ||
                              t->merge_count > t->vocab_size - t->merge_base)) {
        return BITNET_E_FORMAT;
    }
    literal_bytes = tok_le(blob + 24, 4);
    t->class_bytes = tok_le(blob + 28, 4);
    t->literal_count = tok_le(blob + 32, 2);
    t->run_count = tok_le(blob + 34, 2);
    t->max_token_bytes = tok_le(blob + 36, 2);
    t->splitter = blob[38];
    t->words = blob[39];
    t->prefix_count = blob[40];
    t->suffix_count = blob[41];
    if (t->run_count > 256u || t->splitter > TOK_SPLIT_QWEN2 || t->words > TOK_WORDS_GPT2) {
        return BITNET_E_FORMAT;
    }
    for (k = 42; k < TOK_HEADER; k++) {
        if (blob[k] != 0u) {
            return BITNET_E_FORMAT;
        }
    }
    t->id_bits = tok_width(t->vocab_size - 1u);
    t->rank_bits = tok_width(t->merge_count);
    t->whole_words = 0;
    for (k = 0; k < 8u; k++) {
        t->starts[k] = 0;
    }

    p = blob + TOK_HEADER;
    left = bytes - TOK_HEADER;
    t->affixes = tok_take(&p, &left, ((uint32_t)t->prefix_count + t->suffix_count) * 4u);
    runs = tok_take(&p, &left, t->run_count * 5u);
    t->pairs = tok_take(&p, &left, tok_packed(t->merge_count * 2u, t->id_bits));
    t->order = tok_take(&p, &left, tok_packed(t->merge_count, t->rank_bits));
    t->results = p;
    t->makers = p;
    if (explicit_ids != 0u) {
        t->results = tok_take(&p, &left, tok_packed(t->merge_count, t->id_bits));
        t->makers = tok_take(&p, &left, tok_packed(t->vocab_size, t->rank_bits));
    }
    t->literals = tok_take(&p, &left, literal_bytes);
    t->classes = tok_take(&p, &left, t->class_bytes);
    if (t->affixes == NULL || runs == NULL || t->pairs == NULL || t->order == NULL ||
        t->results == NULL || t->makers == NULL || t->literals == NULL || t->classes == NULL ||
        left != 0u) {
        return BITNET_E_FORMAT;
    }

    for (k = 0; k < (uint32_t)t->prefix_count + t->suffix_count; k++) {
        if (tok_le(t->affixes + 4u * k, 4) >= t->vocab_size) {
            return BITNET_E_FORMAT;
        }
    }
    t->runs = runs;
    status = tok_check_runs(t);
    if (status == BITNET_OK) {
        status = tok_check_merges(t);
    }
    if (status == BITNET_OK) {
        status = tok_check_literals(t, literal_bytes);
    }
    if (status == BITNET_OK) {
        status = tok_check_classes(t);
    }
    if (status != BITNET_OK) {
        t->runs = NULL;
    }
    return status;
}

/* ---- characters -------------------------------------------------------------------------- */

/* Where the last character beyond ASCII was found: `first <= code point < end`. Scripts come in
 * long runs of one range, and without this every letter would scan the table up to it. */
typedef struct {
    uint32_t first;
    uint32_t end;
    uint32_t class_;
} tok_range;

/* Bytes with an optional space in front that is not in memory; `n` counts the space. */
typedef struct {
    const uint8_t *text;
    uint32_t n;
    uint32_t space;
    tok_range *seen;
} tok_view;

/* Byte at `at`, or 0 past the end: no pattern gives NUL a meaning of its own. */
static uint32_t tok_byte(const tok_view *v, uint32_t at)
{
    if (at >= v->n) {
        return 0;
    }
    if (at < v->space) {
        return 0x20u;
    }
    return v->text[at - v->space];
}

/* Code point at `at`; `*length` is its length. A byte that is not UTF-8 is TOK_NONE. */
static uint32_t tok_char(const tok_view *v, uint32_t at, uint32_t *length)
{
    const uint32_t first = tok_byte(v, at);
    uint32_t more;
    uint32_t least;
    uint32_t value;
    uint32_t k;
    *length = 1;
    if (first < 0x80u) {
        return first;
    }
    if (first >= 0xc2u && first < 0xe0u) {
        more = 1;
        least = 0x80u;
        value = first & 0x1fu;
    } else if (first >= 0xe0u && first < 0xf0u) {
        more = 2;
        least = 0x800u;
        value = first & 0x0fu;
    } else if (first >= 0xf0u && first < 0xf5u) {
        more = 3;
        least = 0x10000u;
        value = first & 0x07u;
    } else {
        return TOK_NONE;
    }
    for (k = 1; k <= more; k++) {
        const uint32_t byte = tok_byte(v, at + k);
        if ((byte & 0xc0u) != 0x80u) {
            return TOK_NONE;
        }
        value = (value << 6) | (byte & 0x3fu);
    }
    if (value < least || value >= TOK_CODE_POINTS || (value >= 0xd800u && value < 0xe000u)) {
        return TOK_NONE;
    }
    *length = more + 1u;
    return value;
}

/* Finds the range of the table, or the gap between two, that holds `code_point`. */
static void tok_find(const bitnet_tokenizer *t, uint32_t code_point, tok_range *range)
{
    uint32_t at = 0;
    range->end = 0;
    while (at < t->class_bytes) {
        uint32_t gap;
        uint32_t code;
        at = tok_varint(t->classes, t->class_bytes, at, &gap);
        at = tok_varint(t->classes, t->class_bytes, at, &code);
        range->first = range->end;
        range->end += gap;
        range->class_ = TOK_OTHER;
        if (code_point < range->end) {
            return;
        }
        range->first = range->end;
        range->end += (code >> 2) + 1u;
        range->class_ = code & 3u;
        if (code_point < range->end) {
            return;
        }
    }
    range->first = range->end;
    range->end = TOK_CODE_POINTS;
    range->class_ = TOK_OTHER;
}

/* Class of the character at `at`; `*length` is its length in bytes. */
static uint32_t tok_class(const bitnet_tokenizer *t, const tok_view *v, uint32_t at,
                          uint32_t *length)
{
    const uint32_t code_point = tok_char(v, at, length);
    tok_range ascii;
    if (code_point >= TOK_CODE_POINTS) {
        return TOK_OTHER;
    }
    if (code_point < 0x80u) {
        tok_find(t, code_point, &ascii); /* a few steps, and a space keeps the range in use */
        return ascii.class_;
    }
    if (code_point < v->seen->first || code_point >= v->seen->end) {
        tok_find(t, code_point, v->seen);
    }
    return v->seen->class_;
}

/* ---- words ------------------------------------------------------------------------------- */

/* End of the run of `class` characters from `at`, at most `limit` of them. */
static uint32_t tok_run(const bitnet_tokenizer *t, const tok_view *v, uint32_t at, uint32_t class_,
                        uint32_t limit)
{
    uint32_t left = limit;
    while (at < v->n && left > 0u) {
        uint32_t length;
        if (tok_class(t, v, at, &length) != class_) {
            break;
        }
        at += length;
        left--;
    }
    return at;
}

static uint32_t tok_is_newline(uint32_t byte)
{
    return (byte == 0x0du || byte == 0x0au) ? 1u : 0u;
}

static uint32_t tok_digits_end(const bitnet_tokenizer *t, const tok_view *v, uint32_t at,
                               uint32_t single)
{
    uint32_t length;
    const uint32_t number = tok_class(t, v, at, &length) == TOK_NUMBER ? 1u : 0u;
    at += length;
    if (number != 0u && single != 0u) {
        return at;
    }
    while (at < v->n && (tok_class(t, v, at, &length) == TOK_NUMBER ? 1u : 0u) == number) {
        at += length;
    }
    return at;
}

/* Length after the apostrophe of 's 't 're 've 'm 'll 'd, or 0. With `fold`, case is ignored
 * the Unicode way: U+017F is a small s. */
static uint32_t tok_contraction(const tok_view *v, uint32_t at, uint32_t fold)
{
    uint32_t a = tok_byte(v, at);
    uint32_t b = tok_byte(v, at + 1u);
    if (fold != 0u) {
        if (a == 0xc5u && b == 0xbfu) {
            return 2;
        }
        a |= (a >= 0x41u && a <= 0x5au) ? 0x20u : 0u;
        b |= (b >= 0x41u && b <= 0x5au) ? 0x20u : 0u;
    }
    if (a == 0x73u || a == 0x74u || a == 0x6du || a == 0x64u) {
        return 1;
    }
    if (((a == 0x72u || a == 0x76u) && b == 0x65u) || (a == 0x6cu && b == 0x6cu)) {
        return 2;
    }
    return 0;
}

/* \s+(?!\S)|\s+ from a white-space character: the whole run at the end of the text, otherwise
 * all but its last character. With `lines`, \s*[\r\n]+ is tried first. */
static uint32_t tok_space_end(const bitnet_tokenizer *t, const tok_view *v, uint32_t at,
                              uint32_t lines)
{
    uint32_t end = at;
    uint32_t last = at;
    uint32_t after_line = at;
    while (end < v->n) {
        uint32_t length;
        const uint32_t class_ = tok_class(t, v, end, &length);
        /* The first character is taken whatever a hostile table says of it: a word that does
         * not move on would never end. */
        if (end > at && class_ != TOK_WHITE) {
            break;
        }
        last = end;
        end += length;
        if (tok_is_newline(tok_byte(v, last)) != 0u) {
            after_line = end;
        }
    }
    if (lines != 0u && after_line > at) {
        return after_line;
    }
    return (end == v->n || last == at) ? end : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static uint32_t tok_gpt2_end(const bitnet_tokenizer *t, const tok_view *v, uint32_t at)
{
    uint32_t start = at;
    uint32_t class_;
    uint32_t length;
    if (tok_byte(v, at) == 0x27u) {
        length = tok_contraction(v, at + 1u, 0);
        if (length > 0u) {
            return at + 1u + length;
        }
    }
    if (tok_byte(v, at) == 0x20u && at + 1u < v->n) {
        start = at + 1u;
    }
    class_ = tok_class(t, v, start, &length);
    if (class_ != TOK_WHITE) {
        return tok_run(t, v, start, class_, TOK_NONE);
    }
    return tok_space_end(t, v, at, 0);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,numbers}|
 *  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static uint32_t tok_modern_end(const bitnet_tokenizer *t, const tok_view *v, uint32_t at,
                               uint32_t numbers)
{
    const uint32_t first = tok_byte(v, at);
    uint32_t length;
    uint32_t next;
    uint32_t next_class = TOK_NONE;
    uint32_t class_;
    uint32_t after_space;
    if (first == 0x27u) {
        length = tok_contraction(v, at + 1u, 1);
        if (length > 0u) {
            return at + 1u + length;
        }
    }
    class_ = tok_class(t, v, at, &length);
    if (class_ == TOK_LETTER) {
        return tok_run(t, v, at, TOK_LETTER, TOK_NONE);
    }
    if (class_ == TOK_NUMBER) {
        return tok_run(t, v, at, TOK_NUMBER, numbers);
    }
    next = at + length;
    if (next < v->n) {
        next_class = tok_class(t, v, next, &length);
    }
    if (next_class == TOK_LETTER && tok_is_newline(first) == 0u) {
        return tok_run(t, v, next, TOK_LETTER, TOK_NONE);
    }
    after_space = (first == 0x20u && next_class == TOK_OTHER) ? 1u : 0u;
    if (after_space != 0u || class_ == TOK_OTHER) {
        uint32_t end = tok_run(t, v, after_space != 0u ? next : at, TOK_OTHER, TOK_NONE);
        while (end < v->n && tok_is_newline(tok_byte(v, end)) != 0u) {
            end++;
        }
        return end;
    }
    return tok_space_end(t, v, at, 1);
}

static uint32_t tok_piece_end(const bitnet_tokenizer *t, const tok_view *v, uint32_t at)
{
    /* Not a switch: its jump table would be a libgcc call on ARMv6-M. */
    if (t->splitter == TOK_SPLIT_NONE) {
        return v->n;
    }
    if (t->splitter == TOK_SPLIT_DIGIT || t->splitter == TOK_SPLIT_DIGITS) {
        return tok_digits_end(t, v, at, t->splitter == TOK_SPLIT_DIGIT ? 1u : 0u);
    }
    return tok_modern_end(t, v, at, t->splitter == TOK_SPLIT_LLAMA3 ? 3u : 1u);
}

/* ---- merging ----------------------------------------------------------------------------- */

typedef struct {
    uint32_t *ids;
    uint32_t cap;
    uint32_t n;
    tok_range seen;
} tok_out;

static bitnet_status tok_put(tok_out *out, uint32_t id)
{
    if (out->n >= out->cap) {
        return BITNET_E_CAPACITY;
    }
    out->ids[out->n] = id;
    out->n++;
    return BITNET_OK;
}

/* Id of the bytes start..end as a whole, or TOK_NONE. */
static uint32_t tok_whole_word(const bitnet_tokenizer *t, const tok_view *v, uint32_t start,
                               uint32_t end)
{
    const uint8_t *p = t->literals;
    uint32_t k;
    for (k = 0; k < t->literal_count; k++) {
        tok_literal literal;
        uint32_t j = 0;
        tok_literal_at(p, &literal);
        p = literal.bytes + literal.length;
        if ((literal.flags & TOK_WHOLE) == 0u || literal.length != end - start) {
            continue;
        }
        while (j < literal.length && literal.bytes[j] == tok_byte(v, start + j)) {
            j++;
        }
        if (j == literal.length) {
            return literal.id;
        }
    }
    return TOK_NONE;
}

/* Appends the ids of one word: as long as any pair of neighbours has a merge, the merge of the
 * lowest rank is made, the leftmost of equals first. The word grows together where its ids
 * will stay; if the room behind it is large enough it keeps the ranks of its pairs. */
static bitnet_status tok_merge(const bitnet_tokenizer *t, const tok_view *v, uint32_t start,
                               uint32_t end, tok_out *out)
{
    uint32_t *word = out->ids + out->n;
    uint32_t *ranks;
    uint32_t length;
    uint32_t cached;
    uint32_t at;
    const uint32_t first = out->n;

    for (at = start; at < end; at++) {
        const uint32_t id = tok_byte_id(t, tok_byte(v, at));
        if (id != TOK_NONE && tok_put(out, id) != BITNET_OK) {
            return BITNET_E_CAPACITY;
        }
    }
    length = out->n - first;
    ranks = out->ids + out->n;
    cached = out->cap - out->n >= length ? 1u : 0u;
    if (cached != 0u) {
        for (at = 1; at < length; at++) {
            ranks[at - 1u] = tok_rank(t, word[at - 1u], word[at]);
        }
    }
    while (length > 1u) {
        uint32_t best = TOK_NONE;
        uint32_t best_at = 0;
        for (at = 0; at + 1u < length; at++) {
            const uint32_t rank = cached != 0u ? ranks[at] : tok_rank(t, word[at], word[at + 1u]);
            if (rank < best) {
                best = rank;
                best_at = at;
            }
        }
        if (best == TOK_NONE) {
            break;
        }
        word[best_at] = tok_result(t, best);
        length--;
        for (at = best_at + 1u; at < length; at++) {
            word[at] = word[at + 1u];
        }
        if (cached != 0u) {
            for (at = best_at; at + 1u < length; at++) {
                ranks[at] = ranks[at + 1u];
            }
            if (best_at + 1u < length) {
                ranks[best_at] = tok_rank(t, word[best_at], word[best_at + 1u]);
            }
            if (best_at > 0u) {
                ranks[best_at - 1u] = tok_rank(t, word[best_at - 1u], word[best_at]);
            }
        }
    }
    out->n = first + length;
    return BITNET_OK;
}

/* ---- text to ids ------------------------------------------------------------------------- */

static bitnet_status tok_segment(const bitnet_tokenizer *t, const uint8_t *text, uint32_t n,
                                 tok_out *out)
{
    tok_view segment;
    uint32_t at = 0;
    segment.text = text;
    segment.n = n;
    segment.space = 0;
    segment.seen = &out->seen;
    while (at < n) {
        const uint32_t piece_end = tok_piece_end(t, &segment, at);
        tok_view piece;
        uint32_t start = 0;
        piece.text = text + at;
        piece.seen = &out->seen;
        piece.space = ((t->flags & TOK_FLAG_SPACE) != 0u && text[at] != 0x20u) ? 1u : 0u;
        piece.n = piece_end - at + piece.space;
        while (start < piece.n) {
            const uint32_t end =
                t->words == TOK_WORDS_WHOLE ? piece.n : tok_gpt2_end(t, &piece, start);
            uint32_t id = TOK_NONE;
            bitnet_status status;
            if (t->whole_words != 0u) {
                id = tok_whole_word(t, &piece, start, end);
            }
            status = id != TOK_NONE ? tok_put(out, id) : tok_merge(t, &piece, start, end, out);
            if (status != BITNET_OK) {
                return status;
            }
            start = end;
        }
        at = piece_end;
    }
    return BITNET_OK;
}

/* The literal to take at the start of `text`: the first in the table that matches. Returns its
 * length, or 0. */
static uint32_t tok_match(const bitnet_tokenizer *t, const uint8_t *text, uint32_t n, uint32_t *id)
{
    const uint8_t *p = t->literals;
    uint32_t k;
    if ((t->starts[text[0] >> 5] >> (text[0] & 31u) & 1u) == 0u) {
        return 0;
    }
    for (k = 0; k < t->literal_count; k++) {
        tok_literal literal;
        uint32_t j = 0;
        tok_literal_at(p, &literal);
        p = literal.bytes + literal.length;
        if ((literal.flags & TOK_MATCH) == 0u || literal.length > n) {
            continue;
        }
        while (j < literal.length && literal.bytes[j] == text[j]) {
            j++;
        }
        if (j == literal.length) {
            *id = literal.id;
            return literal.length;
        }
    }
    return 0;
}

bitnet_status tokenize_c(const bitnet_tokenizer *t, const uint8_t *utf8, uint32_t n,
                         uint32_t *ids, uint32_t cap, uint32_t *out_n)
{
    tok_out out;
    uint32_t start = 0;
    uint32_t at = 0;
    bitnet_status status = BITNET_OK;

    if (t == NULL || out_n == NULL || (utf8 == NULL && n > 0u) || (ids == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    if (t->runs == NULL) {
        return BITNET_E_STATE;
    }
    if (n == 0u) {
        return BITNET_OK;
    }
    if (n > TOK_MAX_TEXT || cap == 0u) {
        return BITNET_E_CAPACITY;
    }
    out.ids = ids;
    out.cap = cap;
    out.n = 0;
    out.seen.first = 0;
    out.seen.end = 0;
    out.seen.class_ = TOK_OTHER;
    while (at < n && status == BITNET_OK) {
        uint32_t id = 0;
        const uint32_t length = tok_match(t, utf8 + at, n - at, &id);
        if (length == 0u) {
            at++;
            continue;
        }
        status = tok_segment(t, utf8 + start, at - start, &out);
        if (status == BITNET_OK) {
            status = tok_put(&out, id);
        }
        at += length;
        start = at;
    }
    if (status == BITNET_OK) {
        status = tok_segment(t, utf8 + start, n - start, &out);
    }
    if (status == BITNET_OK) {
        *out_n = out.n;
    }
    return status;
}

bitnet_status bitnet_tok_template(const bitnet_tokenizer *t, uint32_t after, uint32_t *ids,
                                  uint32_t cap, uint32_t *out_n)
{
    uint32_t first;
    uint32_t count;
    uint32_t k;
    if (t == NULL || out_n == NULL || (ids == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    if (t->runs == NULL) {
        return BITNET_E_STATE;
    }
    first = after != 0u ? t->prefix_count : 0u;
    count = after != 0u ? t->suffix_count : t->prefix_count;
    if (count > cap) {
        return BITNET_E_CAPACITY;
    }
    for (k = 0; k < count; k++) {
        ids[k] = tok_le(t->affixes + 4u * (first + k), 4);
    }
    *out_n = count;
    return BITNET_OK;
}

/* ---- ids to text ------------------------------------------------------------------------- */

uint32_t bitnet_tok_is_special(const bitnet_tokenizer *t, uint32_t id)
{
    const uint8_t *p;
    uint32_t k;
    if (t == NULL || t->runs == NULL) {
        return 0;
    }
    p = t->literals;
    for (k = 0; k < t->literal_count; k++) {
        tok_literal literal;
        tok_literal_at(p, &literal);
        p = literal.bytes + literal.length;
        if (literal.id == id && (literal.flags & TOK_SPECIAL) != 0u) {
            return 1;
        }
    }
    return 0;
}

bitnet_status vocab_decode(const bitnet_tokenizer *t, uint32_t id, uint8_t *out, uint32_t cap,
                           uint32_t *out_n)
{
    uint32_t pending[TOK_STACK];
    uint32_t depth = 0;
    uint32_t n = 0;
    uint32_t k;
    const uint8_t *p;

    if (t == NULL || out_n == NULL || (out == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    if (t->runs == NULL) {
        return BITNET_E_STATE;
    }
    if (id >= t->vocab_size) {
        return BITNET_E_TOKEN;
    }
    p = t->literals;
    for (k = 0; k < t->literal_count; k++) {
        tok_literal literal;
        tok_literal_at(p, &literal);
        p = literal.bytes + literal.length;
        if (literal.id == id) {
            if (literal.length > cap) {
                return BITNET_E_CAPACITY;
            }
            for (n = 0; n < literal.length; n++) {
                out[n] = literal.bytes[n];
            }
            *out_n = n;
            return BITNET_OK;
        }
    }
    /* Each turn adds a byte or a pending half, and both are bounded. */
    for (;;) {
        const uint32_t rank = tok_maker(t, id);
        if (rank != TOK_NONE) {
            if (depth >= TOK_STACK) {
                return BITNET_E_FORMAT;
            }
            pending[depth] = tok_field(t->pairs, rank * 2u + 1u, t->id_bits);
            depth++;
            id = tok_field(t->pairs, rank * 2u, t->id_bits);
        } else {
            const uint32_t byte = tok_byte_of(t, id);
            if (byte == TOK_NONE) {
                return (n == 0u && depth == 0u) ? BITNET_E_TOKEN : BITNET_E_FORMAT;
            }
            if (n >= t->max_token_bytes) {
                return BITNET_E_FORMAT;
            }
            if (n >= cap) {
                return BITNET_E_CAPACITY;
            }
            out[n] = (uint8_t)byte;
            n++;
            if (depth == 0u) {
                *out_n = n;
                return BITNET_OK;
            }
            depth--;
            id = pending[depth];
        }
    }
}
