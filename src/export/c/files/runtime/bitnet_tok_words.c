/* Characters of a text, their classes, and how they are cut into words. */
#include "bitnet_tok.h"

#define TOK_OTHERS 0x91u  /* sets of classes, bit k: class k; what no other set has */
#define TOK_LETTERS 0x62u /* \p{L} */
#define TOK_NUMBERS 0x04u
#define TOK_WHITES 0x08u
#define TOK_MARKS 0xa2u   /* splitter 7: what may be in the first run of a word */
#define TOK_SMALLS 0xc2u  /* ... and in the second */
#define TOK_PUNCTUATION 4u

/* ---- characters -------------------------------------------------------------------------- */

uint32_t tok_utf8(const uint8_t *text, uint32_t n, uint32_t *at)
{
    const uint8_t *p = text + *at;
    const uint32_t left = n - *at;
    const uint32_t first = p[0];
    uint32_t more = 1;
    uint32_t least = 0x80u;
    uint32_t value = first & 0x1fu;
    uint32_t k;
    *at += 1u;
    if (first < 0x80u) {
        return first;
    }
    if (first >= 0xe0u) {
        more = first >= 0xf0u ? 3u : 2u;
        least = first >= 0xf0u ? 0x10000u : 0x800u;
        value = first & (first >= 0xf0u ? 0x07u : 0x0fu);
    }
    if (first < 0xc2u || first > 0xf4u || more >= left) {
        return TOK_CODE_POINTS + first;
    }
    for (k = 1; k <= more; k++) {
        if ((p[k] & 0xc0u) != 0x80u) {
            return TOK_CODE_POINTS + first;
        }
        value = (value << 6) | (p[k] & 0x3fu);
    }
    if (value < least || value >= TOK_CODE_POINTS || (value >= 0xd800u && value < 0xe000u)) {
        return TOK_CODE_POINTS + first;
    }
    *at += more;
    return value;
}

uint32_t tok_spell(uint32_t character, uint8_t bytes[4])
{
    uint32_t n = 1;
    uint32_t k;
    uint32_t c = character;
    if (c < 0x80u || c >= TOK_CODE_POINTS) {
        bytes[0] = (uint8_t)c;
        return 1;
    }
    n = c < 0x800u ? 2u : (c < 0x10000u ? 3u : 4u);
    for (k = n - 1u; k > 0u; k--) {
        bytes[k] = (uint8_t)(0x80u | (c & 0x3fu));
        c >>= 6;
    }
    bytes[0] = (uint8_t)((0xf00u >> n) | c);
    return n;
}

uint32_t tok_next(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at)
{
    if (at->front != 0u) {
        at->front = 0;
        return t->front;
    }
#if BITNET_TOK_NORMAL
    if (at->at == s->stop.at && at->step == s->stop.step && at->state == s->stop.state) {
        return TOK_END;
    }
    if (s->raw == 0u && t->section[TOK_S_NORMAL] != NULL) {
        return tok_normal_next(t, s, at);
    }
#endif
    if (at->at >= s->n || at->at == s->stop.at) {
        return TOK_END;
    }
    return tok_utf8(s->text, s->n, &at->at);
}

#if BITNET_TOK_NORMAL
void tok_copy(tok_cursor *to, const tok_cursor *from)
{
    to->at = from->at;
    to->step = from->step;
    to->state = from->state;
    to->kept = from->kept;
    to->front = from->front;
}
#endif

static uint32_t tok_peek(const bitnet_tokenizer *t, tok_stream *s, const tok_cursor *at)
{
    tok_cursor copy;
    tok_copy(&copy, at);
    return tok_next(t, s, &copy);
}

uint32_t tok_is_white(uint32_t c)
{
    return (c == 0x20u || (c >= 0x09u && c <= 0x0du) || c == 0x85u || c == 0xa0u || c == 0x1680u ||
            (c >= 0x2000u && c <= 0x200au) || c == 0x2028u || c == 0x2029u || c == 0x202fu || c == 0x205fu ||
            c == 0x3000u) ? 1u : 0u;
}

/* ---- classes ----------------------------------------------------------------------------- */

bitnet_status tok_classes_open(const bitnet_tokenizer *t)
{
    const uint8_t *table = t->section[TOK_S_CLASSES];
    const uint32_t bytes = t->section_bytes[TOK_S_CLASSES];
    uint32_t at = 0;
    uint32_t next = 0;
    while (at < bytes) {
        uint32_t gap;
        uint32_t code = 0;
        at = tok_varint(table, bytes, at, &gap);
        if (at != 0u) {
            at = tok_varint(table, bytes, at, &code);
        }
        next += gap + (code >> 3) + 1u;
        if (at == 0u || (code & 7u) == 0u || next > TOK_CODE_POINTS) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* Finds the range of the table, or the gap between two, that holds the character. */
static uint32_t tok_range(const bitnet_tokenizer *t, uint32_t c, uint32_t *first, uint32_t *end)
{
    const uint8_t *table = t->section[TOK_S_CLASSES];
    const uint32_t bytes = t->section_bytes[TOK_S_CLASSES];
    uint32_t at = 0;
    *end = 0;
    while (at < bytes) {
        uint32_t gap;
        uint32_t code;
        at = tok_varint(table, bytes, at, &gap);
        at = tok_varint(table, bytes, at, &code);
        *first = *end;
        *end += gap;
        if (c < *end) {
            return 0;
        }
        *first = *end;
        *end += (code >> 3) + 1u;
        if (c < *end) {
            return code & 7u;
        }
    }
    *first = *end;
    *end = TOK_CODE_POINTS;
    return 0;
}

/* Scripts come in long runs of one range, and without the range of the last character every
 * letter would scan the table up to it. */
uint32_t tok_class(const bitnet_tokenizer *t, tok_stream *s, uint32_t character)
{
    uint32_t first;
    uint32_t end;
    if (character >= TOK_CODE_POINTS) {
        return 0;
    }
    if (character < 0x80u) {
        return tok_range(t, character, &first, &end); /* a few steps, and a space keeps the range in use */
    }
    if (character < s->seen_first || character >= s->seen_end) {
        s->seen_class = tok_range(t, character, &s->seen_first, &s->seen_end);
    }
    return s->seen_class;
}

/* ---- patterns ---------------------------------------------------------------------------- */

/* 1 if the character is of one of the classes of a set. */
static uint32_t tok_in(const bitnet_tokenizer *t, tok_stream *s, uint32_t c, uint32_t set)
{
    return c == TOK_END ? 0u : (set >> tok_class(t, s, c)) & 1u;
}

/* Moves over at most `limit` characters of a set. Returns how many there were. */
static uint32_t tok_run(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t set, uint32_t limit)
{
    uint32_t n = 0;
    tok_cursor next;
    tok_copy(&next, at);
    while (n < limit && tok_in(t, s, tok_next(t, s, &next), set) != 0u) {
        tok_copy(at, &next);
        n++;
    }
    return n;
}

static uint32_t tok_is_newline(uint32_t c)
{
    return (c == 0x0du || c == 0x0au) ? 1u : 0u;
}

static uint32_t tok_fold(uint32_t c)
{
    return c >= 0x41u && c <= 0x5au ? c | 0x20u : (c == 0x17fu ? 0x73u : c);
}

/* Moves over 's 't 're 've 'm 'll 'd and returns 1, or stays and returns 0. With `fold`, case is
 * ignored the Unicode way: U+017F is a small s. */
static uint32_t tok_contraction(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t fold)
{
    tok_cursor next;
    uint32_t a;
    uint32_t b;
    tok_copy(&next, at);
    if (tok_next(t, s, &next) != 0x27u) {
        return 0;
    }
    a = tok_next(t, s, &next);
    if (fold != 0u) {
        a = tok_fold(a);
    }
    if (a != 0x73u && a != 0x74u && a != 0x6du && a != 0x64u) {
        b = tok_next(t, s, &next);
        if (fold != 0u) {
            b = tok_fold(b);
        }
        if (!((a == 0x72u || a == 0x76u) && b == 0x65u) && !(a == 0x6cu && b == 0x6cu)) {
            return 0;
        }
    }
    tok_copy(at, &next);
    return 1;
}

/* \s+(?!\S)|\s+ from a white-space character: the whole run at the end of the text, otherwise
 * all but its last character. With `lines`, \s*[\r\n]+ is tried first. */
static void tok_spaces(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t lines)
{
    tok_cursor end;
    tok_cursor last;
    tok_cursor line;
    uint32_t count = 0;
    uint32_t found = 0;
    uint32_t c;
    tok_copy(&end, at);
    tok_copy(&last, at);
    tok_copy(&line, at);
    for (;;) {
        tok_cursor next;
        tok_copy(&next, &end);
        c = tok_next(t, s, &next);
        /* The first character is taken whatever a hostile table says of it: a word that does
         * not move on would never end. */
        if (c == TOK_END || (count > 0u && tok_in(t, s, c, TOK_WHITES) == 0u)) {
            break;
        }
        tok_copy(&last, &end);
        tok_copy(&end, &next);
        count++;
        if (tok_is_newline(c) != 0u) {
            tok_copy(&line, &next);
            found = lines;
        }
    }
    tok_copy(at, found != 0u ? &line : (c == TOK_END || count == 1u ? &end : &last));
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static void tok_gpt2(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at)
{
    tok_cursor start;
    uint32_t c;
    uint32_t set = TOK_LETTERS;
    tok_copy(&start, at);
    if (tok_contraction(t, s, at, 0) != 0u) {
        return;
    }
    c = tok_next(t, s, &start);
    if (c != 0x20u || tok_peek(t, s, &start) == TOK_END) {
        tok_copy(&start, at);
    } else {
        c = tok_peek(t, s, &start);
    }
    if (tok_in(t, s, c, TOK_WHITES) != 0u) {
        tok_spaces(t, s, at, 0);
        return;
    }
    if (tok_in(t, s, c, TOK_LETTERS) == 0u) {
        set = tok_in(t, s, c, TOK_NUMBERS) != 0u ? TOK_NUMBERS : TOK_OTHERS;
    }
    tok_copy(at, &start);
    (void)tok_run(t, s, at, set, TOK_NONE);
}

#if BITNET_TOK_CASED && BITNET_TOK_MODERN
/* The words of splitter 7: [^\r\n\p{L}\p{N}]?M*S+c? and, where that fails, [^\r\n\p{L}\p{N}]?M+S*c?
 * with M = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], S = [\p{Ll}\p{Lm}\p{Lo}\p{M}] and c a contraction.
 * Where no S follows the run of M, its last character that is also an S is that S. */
static uint32_t tok_cased(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at)
{
    tok_cursor start;
    tok_cursor next;
    tok_cursor both;
    tok_cursor second;
    uint32_t found = 0;
    uint32_t c;
    uint32_t mark;
    tok_copy(&start, at);
    tok_copy(&next, at);
    c = tok_next(t, s, &next);
    tok_copy(&second, &next);
    mark = tok_in(t, s, c, TOK_MARKS & TOK_OTHERS); /* \p{M} may be either */
    if (tok_is_newline(c) == 0u && tok_in(t, s, c, TOK_LETTERS | TOK_NUMBERS) == 0u &&
        tok_in(t, s, tok_peek(t, s, &next), TOK_MARKS | TOK_SMALLS) != 0u) {
        tok_copy(&start, &next);
    } else if (tok_in(t, s, c, TOK_MARKS | TOK_SMALLS) == 0u) {
        return 0;
    }
    tok_copy(&next, &start);
    tok_copy(&both, &start);
    for (c = tok_next(t, s, &next); tok_in(t, s, c, TOK_MARKS) != 0u; c = tok_next(t, s, &next)) {
        tok_copy(&start, &next);
        if (tok_in(t, s, c, TOK_SMALLS) != 0u) {
            tok_copy(&both, &next);
            found = 1;
        }
    }
    if (tok_run(t, s, &start, TOK_SMALLS, TOK_NONE) == 0u) {
        tok_copy(&start, found != 0u ? &both : (mark != 0u ? &second : &start));
    }
    tok_copy(at, &start);
    (void)tok_contraction(t, s, at, 1);
    return 1;
}
#endif

#if BITNET_TOK_MODERN
/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,numbers}|
 *  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+, and the same with other words (`cased`) */
static void tok_modern(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t numbers, uint32_t cased)
{
    tok_cursor next;
    uint32_t first;
    uint32_t second;
    tok_copy(&next, at);
#if BITNET_TOK_CASED
    if (cased != 0u) {
        if (tok_cased(t, s, at) != 0u) {
            return;
        }
    } else
#endif
    if (tok_contraction(t, s, at, 1) != 0u || tok_run(t, s, at, TOK_LETTERS, TOK_NONE) != 0u) {
        return;
    }
    if (tok_run(t, s, at, TOK_NUMBERS, numbers) != 0u) {
        return;
    }
    first = tok_next(t, s, &next);
    second = tok_peek(t, s, &next);
    if (cased == 0u && tok_is_newline(first) == 0u && tok_in(t, s, second, TOK_LETTERS) != 0u) {
        tok_copy(at, &next);
        (void)tok_run(t, s, at, TOK_LETTERS, TOK_NONE);
        return;
    }
    if (first == 0x20u && tok_in(t, s, second, TOK_OTHERS) != 0u) {
        tok_copy(at, &next);
    } else if (tok_in(t, s, first, TOK_OTHERS) == 0u) {
        tok_spaces(t, s, at, 1);
        return;
    }
    (void)tok_run(t, s, at, TOK_OTHERS, TOK_NONE);
    for (tok_copy(&next, at);; tok_copy(at, &next)) {
        const uint32_t c = tok_next(t, s, &next);
        if (tok_is_newline(c) == 0u && (c != 0x2fu || cased == 0u)) {
            return;
        }
    }
}

#endif

/* ---- parts and words --------------------------------------------------------------------- */

#if BITNET_TOK_BLANKS
/* A run of what is not White_Space; with `single`, every punctuation alone. */
static void tok_blanks(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t single)
{
    tok_cursor next;
    uint32_t n = 0;
    tok_copy(&next, at);
    for (;;) {
        const uint32_t c = tok_next(t, s, &next);
        const uint32_t mark = (single != 0u && c != TOK_END && tok_class(t, s, c) == TOK_PUNCTUATION) ? 1u : 0u;
        if (c == TOK_END || (n > 0u && (mark != 0u || tok_is_white(c) != 0u))) {
            return;
        }
        tok_copy(at, &next);
        n++;
        if (mark != 0u) {
            return;
        }
    }
}
#endif

/* Moves over one part. Not a switch: its jump table would be a libgcc call on ARMv6-M. */
static void tok_part(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at)
{
    const uint32_t splitter = t->splitter;
    if (splitter == 0u) {
        tok_copy(at, &s->stop);
        return;
    }
    if (splitter <= 2u) {
        const uint32_t c = tok_peek(t, s, at);
        const uint32_t number = tok_in(t, s, c, TOK_NUMBERS);
        (void)tok_run(t, s, at, number != 0u ? TOK_NUMBERS : ~TOK_NUMBERS,
                      number != 0u && splitter == 1u ? 1u : TOK_NONE);
        return;
    }
#if BITNET_TOK_BLANKS
    if (splitter == 5u || splitter == 6u) {
        tok_blanks(t, s, at, splitter - 5u);
        return;
    }
#endif
#if BITNET_TOK_MODERN
    tok_modern(t, s, at, splitter == 4u ? 1u : 3u, splitter == 7u ? 1u : 0u);
#endif
}

/* Moves over one word. */
static void tok_word(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at)
{
    if (t->words == 0u) {
        tok_copy(at, &s->stop);
        return;
    }
#if BITNET_TOK_UNDERLINES
    if (t->words >= 2u) {
        tok_cursor next;
        uint32_t before;
        tok_copy(&next, at);
        before = tok_next(t, s, &next);
        for (tok_copy(at, &next); before != TOK_END; tok_copy(at, &next)) {
            const uint32_t c = tok_next(t, s, &next);
            if (c == TOK_END || (c == TOK_UNDERLINE && (t->words == 2u || before != c))) {
                return;
            }
            before = c;
        }
        return;
    }
#endif
    tok_gpt2(t, s, at);
}

/* 1 if the bytes are what the word from `at` spells. */
static uint32_t tok_equals(const bitnet_tokenizer *t, tok_stream *s, const tok_cursor *at, const tok_literal *literal)
{
    tok_cursor next;
    uint32_t j = 0;
    tok_copy(&next, at);
    for (;;) {
        uint8_t bytes[4];
        uint32_t k;
        uint32_t n;
        const uint32_t c = tok_next(t, s, &next);
        if (c == TOK_END) {
            return j == literal->length ? 1u : 0u;
        }
        n = tok_spell(c, bytes);
        for (k = 0; k < n; k++) {
            if (j >= literal->length || literal->bytes[j] != bytes[k]) {
                return 0;
            }
            j++;
        }
    }
}

/* Ids of the word from `at`, which moves, to s->stop. */
static bitnet_status tok_model(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t first, tok_out *out)
{
    (void)first;
    if ((t->literal_flags & TOK_WHOLE) != 0u) {
        const uint8_t *p = NULL;
        tok_literal literal;
        uint8_t bytes[4];
        (void)tok_spell(tok_peek(t, s, at), bytes);
        while (tok_next_literal(t, &p, &literal) != 0u) {
            if ((literal.flags & TOK_WHOLE) != 0u && literal.bytes[0] == bytes[0] && tok_equals(t, s, at, &literal) != 0u) {
                return tok_put(out, literal.id);
            }
        }
    }
#if BITNET_TOK_UNIGRAM
    if (t->model == TOK_UNIGRAM) {
        return tok_unigram(t, s, at, first, out);
    }
#endif
#if BITNET_TOK_WORDPIECE
    if (t->model == TOK_WORDPIECE) {
        return tok_wordpiece(t, s, at, out);
    }
#endif
#if BITNET_TOK_BPE
    return tok_bpe(t, s, at, out);
#else
    return BITNET_E_FEATURE;
#endif
}

static uint32_t tok_is_start(const tok_cursor *at)
{
#if BITNET_TOK_NORMAL
    if (at->step != 0u) {
        return 0;
    }
#endif
    return at->at == 0u ? 1u : 0u;
}

bitnet_status tok_piece(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, tok_out *out)
{
    tok_cursor piece;
    bitnet_status status = BITNET_OK;
    tok_copy(&piece, &s->stop);
    while (status == BITNET_OK) {
        tok_cursor start;
        tok_cursor part;
        uint32_t first = 1;
        uint32_t c;
        tok_copy(&start, at);
        c = tok_next(t, s, at);
        if (c == TOK_END) {
            break;
        }
        if (BITNET_TOK_BLANKS != 0 && (t->splitter == 5u || t->splitter == 6u) && tok_is_white(c) != 0u) {
            continue;
        }
        tok_copy(at, &start);
        tok_part(t, s, at);
        tok_copy(&part, at);
        if (t->front_mode != 0u && c != t->front &&
            (t->front_mode == 1u || (s->first != 0u && tok_is_start(&start) != 0u))) {
            start.front = 1;
        }
        tok_copy(&s->stop, &part);
        while (status == BITNET_OK && tok_peek(t, s, &start) != TOK_END) {
            tok_cursor word;
            tok_copy(&word, &start);
            tok_word(t, s, &word);
            tok_copy(&s->stop, &word);
            status = tok_model(t, s, &start, first, out);
            tok_copy(&s->stop, &part);
            tok_copy(&start, &word);
            first = 0;
        }
        tok_copy(&s->stop, &piece);
    }
    return status;
}
