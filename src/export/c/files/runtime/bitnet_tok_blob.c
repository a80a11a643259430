/* Device tokenizer: reading and checking a blob. */
#include "bitnet_tok.h"

#define TOK_HEADER 32u
#define TOK_VERSION 2u
#define TOK_MAX_VOCAB 0x100000u
#define TOK_SPLITTERS                                                                                       \
    (0x07u | (BITNET_TOK_MODERN ? 0x18u : 0u) | (BITNET_TOK_MODERN && BITNET_TOK_CASED ? 0x80u : 0u) | \
     (BITNET_TOK_BLANKS ? 0x60u : 0u)) /* bit k: splitter k was compiled */
#define TOK_LITERALS                                                                                   \
    (0x47u | (BITNET_TOK_STRIPS ? TOK_LSTRIP | TOK_RSTRIP : 0u) | (BITNET_TOK_NORMAL ? TOK_NORMALIZED : 0u))

/* ---- reading the blob -------------------------------------------------------------------- */

uint32_t tok_le(const uint8_t *p, uint32_t bytes)
{
    uint32_t value = 0;
    uint32_t k;
    for (k = 0; k < bytes; k++) {
        value |= (uint32_t)p[k] << (8u * k);
    }
    return value;
}

uint32_t tok_width(uint32_t value)
{
    uint32_t width = 1;
    while (width < 32u && (value >> width) != 0u) {
        width++;
    }
    return width;
}

uint32_t tok_packed(uint32_t count, uint32_t width)
{
    return (count * width + 7u) >> 3;
}

uint32_t tok_bits(const uint8_t *table, uint32_t bit, uint32_t width)
{
    const uint32_t shift = bit & 7u;
    return (tok_le(table + (bit >> 3), (shift + width + 7u) >> 3) >> shift) & ((1u << width) - 1u);
}

uint32_t tok_field(const uint8_t *table, uint32_t index, uint32_t width)
{
    return tok_bits(table, index * width, width);
}

uint32_t tok_varint(const uint8_t *table, uint32_t bytes, uint32_t at, uint32_t *value)
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

uint32_t tok_permutation_open(tok_permutation *of, const uint8_t *p, uint32_t left, uint32_t count)
{
    const uint32_t jumps = (count + 15u) >> 4;
    uint32_t fields_bytes;
    uint32_t jumps_bytes;
    uint32_t k;
    of->count = count;
    of->width = tok_width(count == 0u ? 0u : count - 1u);
    fields_bytes = tok_packed(count, of->width);
    jumps_bytes = tok_packed(jumps, of->width);
    if (fields_bytes > left || jumps_bytes > left - fields_bytes) {
        return 0;
    }
    of->fields = p;
    of->jumps = p + fields_bytes;
    for (k = 0; k < count; k++) {
        if (tok_field(of->fields, k, of->width) >= count ||
            (k < jumps && tok_field(of->jumps, k, of->width) >= count)) {
            return 0;
        }
    }
    return fields_bytes + jumps_bytes;
}

uint32_t tok_place(const tok_permutation *of, uint32_t value)
{
    uint32_t x = value;
    uint32_t jumped = 0;
    uint32_t steps;
    for (steps = 0; steps < 2u * of->count + 2u; steps++) {
        const uint32_t next = tok_field(of->fields, x, of->width);
        if (next == value) {
            return x;
        }
        if (jumped == 0u && (x & 15u) == 0u) {
            x = tok_field(of->jumps, x >> 4, of->width);
            jumped = 1;
        } else {
            x = next;
        }
    }
    return TOK_NONE;
}

uint32_t tok_next_literal(const bitnet_tokenizer *t, const uint8_t **p, tok_literal *literal)
{
    const uint8_t *at = *p;
    if (t->section[TOK_S_LITERALS] == NULL) {
        return 0;
    }
    if (at == NULL) {
        at = t->section[TOK_S_LITERALS] + 4;
    }
    if (at == t->section[TOK_S_LITERALS] + t->section_bytes[TOK_S_LITERALS]) {
        return 0;
    }
    literal->id = tok_le(at, 3);
    literal->flags = at[3];
    literal->length = tok_le(at + 4, 2);
    literal->bytes = at + 6;
    literal->spelled = literal->length;
    literal->spelling = literal->bytes;
    at = literal->bytes + literal->length;
    if ((literal->flags & TOK_SPELLING) != 0u) {
        literal->spelled = tok_le(at, 2);
        literal->spelling = at + 2;
        at += 2u + literal->spelled;
    }
    *p = at;
    return 1;
}

uint32_t tok_byte_id(const bitnet_tokenizer *t, uint32_t byte)
{
    const uint8_t *run = t->section[TOK_S_BYTES];
    uint32_t left;
    for (left = t->section_bytes[TOK_S_BYTES]; left > 0u; left -= 5u) {
        if (byte >= run[3] && byte - run[3] <= run[4]) {
            return tok_le(run, 3) + (byte - run[3]);
        }
        run += 5;
    }
    return TOK_NONE;
}

uint32_t tok_unknown(const bitnet_tokenizer *t)
{
    return t->section[TOK_S_MODEL] == NULL ? TOK_NONE : tok_le(t->section[TOK_S_MODEL], 4);
}

uint32_t tok_model_flags(const bitnet_tokenizer *t)
{
    return t->section[TOK_S_MODEL] == NULL ? 0u : t->section[TOK_S_MODEL][8];
}

uint32_t tok_falls_back(const bitnet_tokenizer *t, uint32_t character)
{
    uint8_t bytes[4];
    uint32_t n = tok_spell(character, bytes);
    if ((tok_model_flags(t) & TOK_FALLBACK) == 0u) {
        return 0;
    }
    while (n > 0u && tok_byte_id(t, bytes[n - 1u]) != TOK_NONE) {
        n--;
    }
    return n == 0u ? 1u : 0u;
}

/* ---- opening ----------------------------------------------------------------------------- */

static bitnet_status tok_check_template(const bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_TEMPLATE];
    uint32_t left = t->section_bytes[TOK_S_TEMPLATE];
    if (p == NULL) {
        return BITNET_OK;
    }
    if (left < 4u || left != 4u + 4u * ((uint32_t)p[0] + p[1]) || tok_le(p + 2, 2) != 0u) {
        return BITNET_E_FORMAT;
    }
    for (left -= 4u; left > 0u; left -= 4u) {
        if (tok_le(p + left, 4) >= t->vocab_size) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

static bitnet_status tok_check_runs(const bitnet_tokenizer *t)
{
    const uint8_t *run = t->section[TOK_S_BYTES];
    uint32_t left = t->section_bytes[TOK_S_BYTES];
    uint32_t next = 0;
    for (; left > 0u; left -= 5u) {
        uint32_t count;
        if (left < 5u) {
            return BITNET_E_FORMAT;
        }
        count = (uint32_t)run[4] + 1u;
        if (run[3] < next || run[3] + count > 256u || tok_le(run, 3) + count > t->vocab_size) {
            return BITNET_E_FORMAT;
        }
        next = run[3] + count;
        run += 5;
    }
    return BITNET_OK;
}

/* Bytes are looked for character by character, so they have to be characters. */
static uint32_t tok_is_text(const uint8_t *bytes, uint32_t n)
{
    uint32_t at = 0;
    while (at < n) {
        if (tok_utf8(bytes, n, &at) >= TOK_CODE_POINTS) {
            return 0;
        }
    }
    return 1;
}

static bitnet_status tok_check_literals(bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_LITERALS];
    uint32_t left = t->section_bytes[TOK_S_LITERALS];
    uint32_t last = 0xffffu;
    uint32_t count;
    if (p == NULL) {
        return BITNET_OK;
    }
    if (left < 4u) {
        return BITNET_E_FORMAT;
    }
    count = tok_le(p, 4);
    p += 4;
    left -= 4u;
    for (; count > 0u; count--) {
        uint32_t flags;
        uint32_t length;
        if (left < 6u) {
            return BITNET_E_FORMAT;
        }
        left -= 6u;
        flags = p[3];
        length = tok_le(p + 4, 2);
        if (tok_le(p, 3) >= t->vocab_size || flags > 127u || length == 0u || length > left || length > last ||
            ((flags & TOK_MATCH) == 0u && (flags & (TOK_LSTRIP | TOK_RSTRIP | TOK_NORMALIZED)) != 0u) ||
            ((flags & TOK_MATCH) != 0u && tok_is_text(p + 6, length) == 0u)) {
            return BITNET_E_FORMAT;
        }
        if ((flags & ~TOK_LITERALS) != 0u) {
            return BITNET_E_FEATURE;
        }
        if ((flags & TOK_MATCH) != 0u) {
            t->starts[p[6] >> 5] |= 1u << (p[6] & 31u);
            t->literal_flags |= (flags & TOK_NORMALIZED) != 0u ? 0u : TOK_MATCH;
        }
        t->literal_flags |= (uint8_t)(flags & (TOK_WHOLE | TOK_NORMALIZED));
        last = length;
        left -= length;
        p += 6u + length;
        if ((flags & TOK_SPELLING) != 0u) {
            if (left < 2u || tok_le(p, 2) > left - 2u) {
                return BITNET_E_FORMAT;
            }
            length = 2u + tok_le(p, 2);
            left -= length;
            p += length;
        }
    }
    return left == 0u ? BITNET_OK : BITNET_E_FORMAT;
}

/* Sections 8, 9 and 12. */
static bitnet_status tok_check_small(bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_PRE];
    if (p != NULL) {
        if (t->section_bytes[TOK_S_PRE] != 4u || p[0] > 7u || p[1] > 3u || p[2] > 2u || p[3] > 1u) {
            return BITNET_E_FORMAT;
        }
        t->splitter = p[0];
        t->words = p[1];
        t->front_mode = p[2];
        t->front = p[3] != 0u ? TOK_UNDERLINE : 0x20u;
        if ((TOK_SPLITTERS >> t->splitter & 1u) == 0u || (BITNET_TOK_UNDERLINES == 0 && t->words >= 2u)) {
            return BITNET_E_FEATURE;
        }
    }
    p = t->section[TOK_S_DECODER];
    if (p != NULL && (t->section_bytes[TOK_S_DECODER] != 4u || p[0] > 31u || tok_le(p + 1, 3) != 0u)) {
        return BITNET_E_FORMAT;
    }
    if (BITNET_TOK_UNDERLINES == 0 && p != NULL && (p[0] & 0x13u) != 0u) {
        return BITNET_E_FEATURE;
    }
    p = t->section[TOK_S_MODEL];
    if (p != NULL) {
        const uint32_t unknown = tok_unknown(t);
        if (t->section_bytes[TOK_S_MODEL] < 12u || t->section_bytes[TOK_S_MODEL] != 12u + (uint32_t)p[9] ||
            p[8] > 3u || tok_le(p + 10, 2) != 0u || (unknown != TOK_NONE && unknown >= t->vocab_size) ||
            (t->model != TOK_WORDPIECE && (p[9] != 0u || tok_le(p + 4, 4) != 0u))) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* Which sections a model may have (bit k: kind k), and which it must have. */
static bitnet_status tok_check_kinds(const bitnet_tokenizer *t)
{
    const uint32_t any = 0x31e6u; /* 1 2 5 6 7 8 12 13 */
    uint32_t must = 0;
    uint32_t may = any | 0x10u;
    uint32_t have = 0;
    uint32_t k;
    if (t->model == TOK_CHARS_BPE) {
        must = 0x208u; /* 3 9 */
    } else if (t->model == TOK_UNIGRAM) {
        must = 0xe00u; /* 9 10 11 */
        may = any;
    } else if (t->model == TOK_WORDPIECE) {
        must = 0x600u; /* 9 10 */
        may = any;
    }
    for (k = 1; k < BITNET_TOK_SECTIONS; k++) {
        have |= t->section[k] != NULL ? 1u << k : 0u;
    }
    return (have & must) == must && (have & ~(must | may)) == 0u ? BITNET_OK : BITNET_E_FORMAT;
}

static bitnet_status tok_find_sections(bitnet_tokenizer *t, const uint8_t *blob, uint32_t bytes)
{
    const uint32_t count = blob[23];
    const uint8_t *entry = blob + TOK_HEADER;
    const uint8_t *p = entry + 8u * count;
    uint32_t left = bytes - TOK_HEADER;
    uint32_t last = 0;
    uint32_t k;
    if (count >= BITNET_TOK_SECTIONS || left < 8u * count) {
        return BITNET_E_FORMAT;
    }
    left -= 8u * count;
    for (k = 0; k < count; k++) {
        const uint32_t kind = entry[0];
        const uint32_t length = tok_le(entry + 4, 4);
        if (kind <= last || kind >= BITNET_TOK_SECTIONS || tok_le(entry + 1, 3) != 0u || length > left) {
            return BITNET_E_FORMAT;
        }
        t->section[kind] = p;
        t->section_bytes[kind] = length;
        p += length;
        left -= length;
        last = kind;
        entry += 8;
    }
    return left == 0u ? tok_check_kinds(t) : BITNET_E_FORMAT;
}

static bitnet_status tok_check_model(bitnet_tokenizer *t, uint32_t *words)
{
    (void)words; /* of a build without any model */
    if (t->model <= TOK_CHARS_BPE) {
#if !BITNET_TOK_CHARS
        if (t->model == TOK_CHARS_BPE) {
            return BITNET_E_FEATURE;
        }
#endif
#if BITNET_TOK_BPE
        return tok_bpe_open(t, words);
#else
        return BITNET_E_FEATURE;
#endif
    }
#if !BITNET_TOK_UNIGRAM
    if (t->model == TOK_UNIGRAM) {
        return BITNET_E_FEATURE;
    }
#endif
#if !BITNET_TOK_WORDPIECE
    if (t->model == TOK_WORDPIECE) {
        return BITNET_E_FEATURE;
    }
#endif
#if BITNET_TOK_UNIGRAM || BITNET_TOK_WORDPIECE
    return tok_pieces_open(t, words);
#else
    return BITNET_E_FEATURE;
#endif
}

static bitnet_status tok_check(bitnet_tokenizer *t)
{
    uint32_t words = 0;
    uint32_t normal = 0;
    bitnet_status status = tok_check_small(t);
    if (status == BITNET_OK) {
        status = tok_check_template(t);
    }
    if (status == BITNET_OK) {
        status = tok_check_runs(t);
    }
    if (status == BITNET_OK) {
        status = tok_check_literals(t);
    }
    if (status == BITNET_OK) {
        status = tok_classes_open(t);
    }
    if (status == BITNET_OK && t->section[TOK_S_NORMAL] != NULL) {
#if BITNET_TOK_NORMAL
        status = tok_normal_open(t, &normal);
#else
        status = BITNET_E_FEATURE;
#endif
    }
    if (status == BITNET_OK) {
        status = tok_check_model(t, &words);
    }
    t->normal_words = normal;
    if (status == BITNET_OK && t->work_words != normal + words) {
        status = BITNET_E_FORMAT;
    }
    return status;
}

uint32_t bitnet_tok_work(const uint8_t *blob, uint32_t bytes)
{
    if (blob == NULL || bytes < TOK_HEADER || tok_le(blob, 4) != 0x4b544e42u || tok_le(blob + 4, 2) != TOK_VERSION) {
        return 0;
    }
    return tok_le(blob + 16, 4);
}

bitnet_status bitnet_tok_open(bitnet_tokenizer *t, const uint8_t *blob, uint32_t bytes, uint32_t *work,
                              uint32_t work_words)
{
    bitnet_status status;
    uint32_t k;
    if (t == NULL || blob == NULL) {
        return BITNET_E_NULL;
    }
    t->blob = NULL; /* not open until all is checked */
    if (bytes < TOK_HEADER) {
        return BITNET_E_FORMAT;
    }
    if (tok_le(blob, 4) != 0x4b544e42u) {
        return BITNET_E_MAGIC;
    }
    if (tok_le(blob + 4, 2) != TOK_VERSION) {
        return BITNET_E_VERSION;
    }
    for (k = 0; k < BITNET_TOK_SECTIONS; k++) {
        t->section[k] = NULL;
        t->section_bytes[k] = 0;
    }
    for (k = 0; k < 8u; k++) {
        t->starts[k] = 0;
    }
    t->vocab_size = tok_le(blob + 12, 4);
    t->work_words = tok_le(blob + 16, 4);
    t->max_token_bytes = tok_le(blob + 20, 2);
    t->model = blob[22];
    t->growth = tok_le(blob + 24, 4);
    t->id_bits = tok_width(t->vocab_size - 1u);
    t->literal_flags = 0;
    t->splitter = 0;
    t->words = 0;
    t->front_mode = 0;
    t->front = 0x20u;
    t->merges = 0;
    t->results = 0;
    t->base = 0;
    t->ranks = NULL;
    t->late = NULL;
    if (tok_le(blob + 6, 2) != 0u || tok_le(blob + 8, 4) != bytes || t->vocab_size == 0u ||
        t->vocab_size > TOK_MAX_VOCAB || t->model > TOK_WORDPIECE || tok_le(blob + 28, 4) != 0u) {
        return BITNET_E_FORMAT;
    }
    status = tok_find_sections(t, blob, bytes);
    if (status == BITNET_OK) {
        status = tok_check(t);
    }
    if (status == BITNET_OK && work != NULL && work_words < t->work_words) {
        status = BITNET_E_ARENA;
    }
    if (status == BITNET_OK) {
        t->blob = blob;
        t->work = work;
    }
    return status;
}
