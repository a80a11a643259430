/* Section 7 of a tokenizer, the normalizer: characters of a segment as the model shall see them,
 * given one at a time and kept nowhere. A cursor holds everything that has to be remembered
 * between two characters, so a copy goes on where it was made. docs/format/tokenizer.md has the
 * tables and the rules. */
#include "bitnet_tok.h"

#if BITNET_TOK_NORMAL

#define NORMAL_HEAD 20u
#define NORMAL_LONGEST 32u   /* most characters that one becomes */
#define NORMAL_BAD 0xffffffffu
#define NORMAL_SYLLABLES 11172u

enum { NORMAL_PLAIN, NORMAL_ORDERED, NORMAL_COMPOSED, NORMAL_CHAINED, NORMAL_KEYED };
enum { NORMAL_SPLIT = 1, NORMAL_JOIN = 2 };
enum { MAP_DELETE, MAP_OFFSET, MAP_OTHERS, MAP_STRINGS, MAP_SINGLES, MAP_SPACED, MAP_KEEP, MAP_CONSTANT, MAP_SPACED_SINGLES };

/* ---- tables ------------------------------------------------------------------------------ */

/* Records with their entries. `size`: bytes of a record, 6 or 9; `field`: bytes of its key. */
typedef struct {
    const uint8_t *records;
    const uint8_t *entries;
    uint32_t count;
    uint32_t bytes; /* of the entries */
    uint32_t size;
} normal_blocks;

typedef struct {
    normal_blocks blocks;
    const uint8_t *ends;  /* u16 each */
    const uint8_t *tails;
    uint32_t strings;
    uint32_t text;        /* bytes of the tails */
} normal_map;

typedef struct {
    const uint8_t *p; /* NULL: nothing found */
    uint32_t bytes;
    uint32_t index;
} normal_block;

/* What one code point becomes. */
enum { IMAGE_TEXT, IMAGE_SPACED, IMAGE_HANGUL };
typedef struct {
    const uint8_t *tail; /* UTF-8 behind the first character */
    uint32_t bytes;      /* of it */
    uint32_t code;
    uint32_t count;
    uint32_t form;
    uint32_t listed;     /* 1: the map says something about it */
} normal_image;

static uint32_t normal_field(const normal_blocks *b, uint32_t index, uint32_t field)
{
    return tok_le(b->records + index * b->size + 3u * field, 3);
}

static uint32_t normal_from(const normal_blocks *b, uint32_t index)
{
    return index < b->count ? normal_field(b, index, b->size == 9u ? 2u : 1u) : b->bytes;
}

static normal_block normal_at(const normal_blocks *b, uint32_t index)
{
    normal_block block;
    block.index = index;
    block.p = b->entries + normal_from(b, index);
    block.bytes = normal_from(b, index + 1u) - normal_from(b, index);
    return block;
}

/* The last block whose key is not above (first, second). */
static normal_block normal_find(const normal_blocks *b, uint32_t first, uint32_t second)
{
    normal_block none = { NULL, 0, 0 };
    uint32_t low = 0, high = b->count;
    while (low < high) {
        const uint32_t middle = (low + high) >> 1;
        const uint32_t a = normal_field(b, middle, 0);
        if (a < first || (a == first && (b->size != 9u || normal_field(b, middle, 1) <= second))) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low == 0u ? none : normal_at(b, low - 1u);
}

/* A number of one, two or four bytes; NORMAL_BAD if it is cut short. */
static uint32_t normal_number(const normal_block *b, uint32_t *at)
{
    uint32_t more, value;
    if (*at >= b->bytes) {
        return NORMAL_BAD;
    }
    value = b->p[*at];
    more = value < 0x80u ? 0u : value < 0xf0u ? 1u : 3u;
    value &= more == 0u ? 0x7fu : more == 1u ? 0x7fu : 0x0fu;
    *at += 1u;
    if (b->bytes - *at < more) {
        return NORMAL_BAD;
    }
    for (; more > 0u; more--) {
        value = (value << 8) | b->p[*at];
        *at += 1u;
    }
    return value;
}

/* A signed number added to `base`; NORMAL_BAD if the sum is no code point. */
static uint32_t normal_moved(const normal_block *b, uint32_t *at, uint32_t base)
{
    const uint32_t value = normal_number(b, at);
    const uint32_t by = value >> 1;
    if (value == NORMAL_BAD || ((value & 1u) != 0u && base < by + 1u)) {
        return NORMAL_BAD;
    }
    base = (value & 1u) != 0u ? base - by - 1u : base + by;
    return base < TOK_CODE_POINTS ? base : NORMAL_BAD;
}

typedef struct {
    uint32_t start;
    uint32_t length;
    uint32_t kind;
} normal_entry;

/* The head of an entry behind code point `next`; returns 0 if it is cut short. */
static uint32_t normal_read(const normal_block *b, uint32_t *at, uint32_t next, normal_entry *entry)
{
    uint32_t gap, range;
    *at = tok_varint(b->p, b->bytes, *at, &gap);
    if (*at == 0u) {
        return 0;
    }
    *at = tok_varint(b->p, b->bytes, *at, &range);
    entry->start = next + gap;
    entry->length = (range >> 4) + 1u;
    entry->kind = range & 15u;
    return *at == 0u ? 0u : 1u;
}

static void normal_itself(normal_image *image, uint32_t code)
{
    image->tail = NULL;
    image->bytes = 0;
    image->code = code;
    image->count = 1;
    image->form = IMAGE_TEXT;
    image->listed = 0;
}

/* String `index` behind image->code. */
static void normal_tail(const normal_map *map, uint32_t index, normal_image *image)
{
    uint32_t k, from;
    if (index == 0u) {
        return;
    }
    from = index == 1u ? 0u : tok_le(map->ends + 2u * index - 4u, 2);
    image->tail = map->tails + from;
    image->bytes = tok_le(map->ends + 2u * index - 2u, 2) - from;
    for (k = 0; k < image->bytes; k++) {
        image->count += (image->tail[k] & 0xc0u) != 0x80u ? 1u : 0u;
    }
}

/* Looks the code point up among the strings of an entry that holds it. */
static void normal_string(const normal_map *map, const normal_block *b, uint32_t at, uint32_t last,
                          const normal_entry *entry, normal_image *image)
{
    uint32_t k, tail = 0;
    for (k = entry->start; k <= image->code; k++) {
        last = normal_moved(b, &at, last);
        if (entry->kind == MAP_STRINGS) {
            at = tok_varint(b->p, b->bytes, at, &tail);
        }
    }
    image->code = last;
    if (entry->kind == MAP_SPACED_SINGLES) {
        image->form = IMAGE_SPACED;
        image->count = 3;
    }
    normal_tail(map, tail, image);
}

/* What the map makes of a code point. The map was checked, so nothing in it is cut short. */
static void normal_image_of(const normal_map *map, uint32_t code, normal_image *image)
{
    const normal_block b = normal_find(&map->blocks, code, 0);
    uint32_t at = 0, next, last, skip;
    normal_entry entry;
    normal_itself(image, code);
    if (b.p == NULL) {
        return;
    }
    next = normal_field(&map->blocks, b.index, 0);
    last = next;
    while (at < b.bytes && normal_read(&b, &at, next, &entry) != 0u) {
        next = entry.start + entry.length;
        if (code < entry.start) {
            return;
        }
        if (code < next) {
            image->listed = 1;
            /* Not a switch: its jump table would be a libgcc call on ARMv6-M. */
            if (entry.kind == MAP_DELETE) {
                image->count = 0;
            } else if (entry.kind == MAP_OTHERS && ((code - entry.start) & 1u) != 0u) {
                image->listed = 0;
            } else if (entry.kind == MAP_OTHERS || entry.kind == MAP_OFFSET) {
                image->code = normal_moved(&b, &at, code);
            } else if (entry.kind == MAP_CONSTANT) {
                image->code = normal_number(&b, &at);
            } else if (entry.kind == MAP_SPACED) {
                image->form = IMAGE_SPACED;
                image->count = 3;
            } else if (entry.kind != MAP_KEEP) {
                normal_string(map, &b, at, last, &entry, image);
            }
            return;
        }
        if (entry.kind == MAP_OFFSET || entry.kind == MAP_OTHERS || entry.kind == MAP_CONSTANT) {
            (void)normal_number(&b, &at);
        } else if (entry.kind != MAP_DELETE && entry.kind != MAP_SPACED && entry.kind != MAP_KEEP) {
            for (skip = entry.length; skip > 0u; skip--) {
                last = normal_moved(&b, &at, last);
                if (entry.kind == MAP_STRINGS) {
                    uint32_t tail;
                    at = tok_varint(b.p, b.bytes, at, &tail);
                }
            }
        }
    }
}

/* s / 28 and s / 588 for a syllable: both exact below 11172. */
static uint32_t normal_by_28(uint32_t s)
{
    return (s * 37450u) >> 20;
}

static uint32_t normal_by_588(uint32_t s)
{
    return (s * 28533u) >> 24;
}

static void normal_hangul(normal_image *image)
{
    const uint32_t s = image->code - 0xac00u;
    if (s < NORMAL_SYLLABLES) {
        image->form = IMAGE_HANGUL;
        image->count = s == normal_by_28(s) * 28u ? 2u : 3u;
        image->listed = 1;
    }
}

/* Character `index` of an image, below its count. */
static uint32_t normal_get(const normal_image *image, uint32_t index)
{
    uint32_t at = 0, code = image->code;
    if (image->form == IMAGE_SPACED) {
        return index == 1u ? code : 0x20u;
    }
    if (image->form == IMAGE_HANGUL) {
        const uint32_t s = code - 0xac00u, lead = normal_by_588(s), pair = normal_by_28(s);
        return index == 0u ? 0x1100u + lead : index == 1u ? 0x1161u + pair - lead * 21u : 0x11a7u + s - pair * 28u;
    }
    for (; index > 0u && at < image->bytes; index--) {
        code = tok_utf8(image->tail, image->bytes, &at);
    }
    return code;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Places `count` records and `entries` bytes at p: all of `left` bytes, or returns 0. */
static uint32_t normal_place(normal_blocks *b, const uint8_t *p, uint32_t left, uint32_t count, uint32_t size,
                             uint32_t entries)
{
    b->count = count;
    b->size = size;
    b->records = p;
    b->bytes = entries;
    if (count * size > left || left - count * size != entries || (count == 0u && entries != 0u)) {
        return 0;
    }
    b->entries = p + count * size;
    return 1;
}

static uint32_t normal_records_good(const normal_blocks *b)
{
    uint32_t k;
    for (k = 0; k < b->count; k++) {
        const uint32_t from = normal_from(b, k), to = normal_from(b, k + 1u);
        if (from >= to || to > b->bytes || (k == 0u && from != 0u)) {
            return 0;
        }
        if (k > 0u) {
            const uint32_t was = normal_field(b, k - 1u, 0), is = normal_field(b, k, 0);
            if (was > is ||
                (was == is && (b->size != 9u || normal_field(b, k - 1u, 1) >= normal_field(b, k, 1)))) {
                return 0;
            }
        }
    }
    return 1;
}

/* A table of classes or pairs; no bytes are an empty one. */
static uint32_t normal_short(normal_blocks *b, const uint8_t *p, uint32_t bytes, uint32_t size)
{
    b->count = 0;
    b->size = size;
    b->bytes = 0;
    b->records = p;
    b->entries = p;
    if (bytes == 0u) {
        return 1;
    }
    return bytes >= 8u && tok_le(p + 2, 2) == 0u &&
           normal_place(b, p + 8, bytes - 8u, tok_le(p, 2), size, tok_le(p + 4, 4)) != 0u;
}

/* Finds the parts of a map without looking into its entries. */
static uint32_t normal_map_place(normal_map *map, const uint8_t *p, uint32_t bytes)
{
    uint32_t head;
    if (bytes == 0u) {
        map->strings = 0;
        map->text = 0;
        map->ends = p;
        map->tails = p;
        return normal_short(&map->blocks, p, 0, 6);
    }
    if (bytes < 12u) {
        return 0;
    }
    map->strings = tok_le(p + 2, 2);
    map->text = tok_le(p + 4, 4);
    head = 12u + 2u * map->strings;
    if (head > bytes || map->text > bytes - head) {
        return 0;
    }
    map->ends = p + 12;
    map->tails = p + head;
    head += map->text;
    return normal_place(&map->blocks, p + head, bytes - head, tok_le(p, 2), 6, tok_le(p + 8, 4));
}

static uint32_t normal_strings_good(const normal_map *map)
{
    uint32_t k, from = 0;
    for (k = 0; k < map->strings; k++) {
        const uint32_t to = tok_le(map->ends + 2u * k, 2);
        uint32_t at = from, characters = 0;
        if (to <= from || to > map->text) {
            return 0;
        }
        while (at < to) {
            characters++;
            if (tok_utf8(map->tails, to, &at) >= TOK_CODE_POINTS || characters >= NORMAL_LONGEST) {
                return 0;
            }
        }
        from = to;
    }
    return from == map->text ? 1u : 0u;
}

/* One past the last code point of a block of a map, or NORMAL_BAD. */
static uint32_t normal_map_block(const normal_map *map, const normal_block *b, uint32_t next)
{
    uint32_t at = 0, last = next, k, peek, tail;
    normal_entry entry;
    while (at < b->bytes) {
        if (normal_read(b, &at, next, &entry) == 0u || entry.start >= TOK_CODE_POINTS ||
            entry.length > TOK_CODE_POINTS - entry.start) {
            return NORMAL_BAD;
        }
        next = entry.start + entry.length;
        if (entry.kind == MAP_OFFSET || entry.kind == MAP_OTHERS) {
            peek = at;
            if (normal_moved(b, &peek, next - 1u) == NORMAL_BAD || normal_moved(b, &at, entry.start) == NORMAL_BAD) {
                return NORMAL_BAD;
            }
        } else if (entry.kind == MAP_CONSTANT) {
            if (normal_number(b, &at) >= TOK_CODE_POINTS) {
                return NORMAL_BAD;
            }
        } else if (entry.kind == MAP_STRINGS || entry.kind == MAP_SINGLES || entry.kind == MAP_SPACED_SINGLES) {
            for (k = entry.length; k > 0u; k--) {
                last = normal_moved(b, &at, last);
                if (last == NORMAL_BAD) {
                    return NORMAL_BAD;
                }
                if (entry.kind == MAP_STRINGS) {
                    at = tok_varint(b->p, b->bytes, at, &tail);
                    if (at == 0u || tail > map->strings) {
                        return NORMAL_BAD;
                    }
                }
            }
        } else if (entry.kind != MAP_DELETE && entry.kind != MAP_SPACED && entry.kind != MAP_KEEP) {
            return NORMAL_BAD;
        }
    }
    return next;
}

static uint32_t normal_map_good(const normal_map *map)
{
    uint32_t k, next = 0;
    if (normal_strings_good(map) == 0u || normal_records_good(&map->blocks) == 0u) {
        return 0;
    }
    for (k = 0; k < map->blocks.count; k++) {
        const normal_block b = normal_at(&map->blocks, k);
        const uint32_t first = normal_field(&map->blocks, k, 0);
        if (first < next) {
            return 0;
        }
        next = normal_map_block(map, &b, first);
        if (next == NORMAL_BAD) {
            return 0;
        }
    }
    return 1;
}

static uint32_t normal_classes_good(const normal_blocks *classes)
{
    uint32_t k, next = 0;
    if (normal_records_good(classes) == 0u) {
        return 0;
    }
    for (k = 0; k < classes->count; k++) {
        const normal_block b = normal_at(classes, k);
        uint32_t at = 0, gap = 0, more = 0;
        if (normal_field(classes, k, 0) < next) {
            return 0;
        }
        next = normal_field(classes, k, 0);
        while (at < b.bytes) {
            at = tok_varint(b.p, b.bytes, at, &gap);
            if (at != 0u) {
                at = tok_varint(b.p, b.bytes, at, &more);
            }
            if (at == 0u || at >= b.bytes || b.p[at] == 0u) {
                return 0;
            }
            next += gap + more + 1u;
            if (next > TOK_CODE_POINTS) {
                return 0;
            }
            at++;
        }
    }
    return 1;
}

static uint32_t normal_pairs_good(const normal_blocks *pairs)
{
    uint32_t k;
    if (normal_records_good(pairs) == 0u) {
        return 0;
    }
    for (k = 0; k < pairs->count; k++) {
        const normal_block b = normal_at(pairs, k);
        uint32_t at = 0, first = normal_field(pairs, k, 1), made = first, by;
        while (at < b.bytes) {
            by = normal_number(&b, &at);
            if (by >= TOK_CODE_POINTS || first >= TOK_CODE_POINTS - by) {
                return 0;
            }
            first += by;
            made = normal_moved(&b, &at, made);
            if (made == NORMAL_BAD) {
                return 0;
            }
        }
    }
    return 1;
}

/* Section 7 as it is read: found again for each character, which costs a few loads. */
typedef struct {
    const tok_stream *s;
    const uint8_t *head;
    normal_map map, after;
    normal_blocks classes, pairs;
} normal;

static uint32_t normal_parts(normal *n, const uint8_t *p, uint32_t bytes)
{
    uint32_t left = bytes, k, size[4];
    const uint8_t *at[4];
    if (bytes < NORMAL_HEAD) {
        return 0;
    }
    left -= NORMAL_HEAD;
    for (k = 0; k < 4u; k++) {
        size[k] = tok_le(p + 4u + 4u * k, 4);
        at[k] = p + bytes - left;
        if (size[k] > left) {
            return 0;
        }
        left -= size[k];
    }
    n->head = p;
    return left == 0u && normal_map_place(&n->map, at[0], size[0]) != 0u &&
           normal_short(&n->classes, at[1], size[1], 6) != 0u && normal_short(&n->pairs, at[2], size[2], 9) != 0u &&
           normal_map_place(&n->after, at[3], size[3]) != 0u;
}

bitnet_status tok_normal_open(bitnet_tokenizer *t, uint32_t *words)
{
    const uint8_t *p = t->section[TOK_S_NORMAL];
    normal n;
    *words = 0;
    n.s = NULL;
    if (normal_parts(&n, p, t->section_bytes[TOK_S_NORMAL]) == 0u || p[0] > NORMAL_KEYED ||
        p[1] > (NORMAL_SPLIT | NORMAL_JOIN) || (p[2] & 3u) == 3u || ((p[2] >> 4) & 3u) == 3u || p[3] > 7u ||
        (p[3] & 3u) == 3u || normal_map_good(&n.map) == 0u || normal_map_good(&n.after) == 0u ||
        normal_classes_good(&n.classes) == 0u || normal_pairs_good(&n.pairs) == 0u) {
        return BITNET_E_FORMAT;
    }
    return BITNET_OK;
}

void tok_normal_start(const bitnet_tokenizer *t, tok_stream *s)
{
    (void)t;
    (void)s;
}

/* ---- the middle -------------------------------------------------------------------------- */

/* A character of the mapped text: offset in the segment, and index in what the character there
 * becomes. */
typedef struct {
    uint32_t at;
    uint32_t index;
} normal_item;

/* Where ordered text stands. */
typedef struct {
    normal_item item; /* the next character; while marks are given, the first of them */
    normal_item mark; /* the next mark that is given */
    uint32_t class_;  /* class of the marks that are given, 0: none */
    uint32_t kept;    /* what is composed with them and with those before; 0: nothing */
} normal_position;

static void normal_mapped(const normal *n, uint32_t code, normal_image *image)
{
    if (code >= TOK_CODE_POINTS) {
        normal_itself(image, code);
        return;
    }
    normal_image_of(&n->map, code, image);
    if ((n->head[1] & NORMAL_SPLIT) != 0u && image->listed == 0u) {
        normal_hangul(image);
    }
}

/* What two characters compose to, TOK_END if they do not. */
static uint32_t normal_compose(const normal *n, uint32_t first, uint32_t second)
{
    normal_block b;
    uint32_t at = 0, code, made;
    if ((n->head[1] & NORMAL_JOIN) != 0u) {
        const uint32_t lead = first - 0x1100u, vowel = second - 0x1161u;
        const uint32_t s = first - 0xac00u, tail = second - 0x11a7u;
        if (lead < 19u && vowel < 21u) {
            return 0xac00u + (lead * 21u + vowel) * 28u;
        }
        if (s < NORMAL_SYLLABLES && s == normal_by_28(s) * 28u && tail - 1u < 27u) {
            return first + tail;
        }
    }
    b = normal_find(&n->pairs, second, first);
    if (b.p == NULL || normal_field(&n->pairs, b.index, 0) != second) {
        return TOK_END;
    }
    code = normal_field(&n->pairs, b.index, 1);
    made = code;
    while (at < b.bytes) {
        code += normal_number(&b, &at);
        made = normal_moved(&b, &at, made);
        if (code >= first) {
            return code == first ? made : TOK_END;
        }
    }
    return TOK_END;
}

/* Structures are copied field by field: for a whole one a compiler may call memcpy. */
static void normal_go(normal_item *to, const normal_item *from)
{
    to->at = from->at;
    to->index = from->index;
}

/* The character of the text at `at`, which moves behind it; with keys, what the longest one that
 * starts there stands for. */
static uint32_t normal_source(const normal *n, uint32_t *at)
{
    uint32_t code = tok_utf8(n->s->text, n->s->n, at);
    while (n->head[0] == NORMAL_KEYED && *at < n->s->n) {
        uint32_t behind = *at;
        const uint32_t made = normal_compose(n, code, tok_utf8(n->s->text, n->s->n, &behind));
        if (made == TOK_END) {
            break;
        }
        code = made;
        *at = behind;
    }
    return code;
}

/* The mapped character at `at`, which moves behind it; TOK_END at the end. */
static uint32_t normal_item_at(const normal *n, normal_item *at)
{
    normal_image image;
    while (at->at < n->s->n) {
        uint32_t behind = at->at;
        normal_mapped(n, normal_source(n, &behind), &image);
        if (at->index < image.count) {
            const uint32_t code = normal_get(&image, at->index);
            at->index++;
            if (at->index == image.count) {
                at->at = behind;
                at->index = 0;
            }
            return code;
        }
        at->at = behind;
        at->index = 0;
    }
    return TOK_END;
}

static uint32_t normal_class(const normal *n, uint32_t code)
{
    const normal_block b = normal_find(&n->classes, code, 0);
    uint32_t at = 0, next, gap, more;
    if (b.p == NULL) {
        return 0;
    }
    next = normal_field(&n->classes, b.index, 0);
    while (at < b.bytes) {
        at = tok_varint(b.p, b.bytes, at, &gap);
        at = tok_varint(b.p, b.bytes, at, &more);
        if (code < next + gap) {
            return 0;
        }
        next += gap + more + 1u;
        if (code < next) {
            return b.p[at];
        }
        at++;
    }
    return 0;
}

static void normal_stand(normal_position *place, const normal_item *item)
{
    normal_go(&place->item, item);
    place->mark.at = 0;
    place->mark.index = 0;
    place->class_ = 0;
    place->kept = 0;
}

/* Moves to the next mark of a class; 0 if there is none among these marks. */
static uint32_t normal_of_class(const normal *n, normal_item *at, uint32_t class_)
{
    for (;;) {
        normal_item behind = { at->at, at->index };
        const uint32_t code = normal_item_at(n, &behind);
        const uint32_t found = code == TOK_END ? 0u : normal_class(n, code);
        if (found == 0u) {
            return 0;
        }
        if (found == class_) {
            return 1;
        }
        normal_go(at, &behind);
    }
}

/* The lowest class above `above` among the marks at `at`, which moves behind them; 256: none. */
static uint32_t normal_lowest(const normal *n, normal_item *at, uint32_t above)
{
    uint32_t class_ = 256;
    for (;;) {
        normal_item behind = { at->at, at->index };
        const uint32_t code = normal_item_at(n, &behind);
        const uint32_t found = code == TOK_END ? 0u : normal_class(n, code);
        if (found == 0u) {
            return class_;
        }
        if (found > above && found < class_) {
            class_ = found;
        }
        normal_go(at, &behind);
    }
}

/* The first mark of the lowest class above `above` that `kept` does not take; place->kept is then
 * `kept` with all marks before it taken. Class 0 and the place behind the marks if there is none. */
static void normal_enter(const normal *n, const normal_item *marks, uint32_t kept, uint32_t above, normal_position *place)
{
    for (;;) {
        normal_item at = { marks->at, marks->index };
        const uint32_t class_ = normal_lowest(n, &at, above);
        if (class_ == 256u) {
            normal_stand(place, &at);
            place->kept = kept;
            return;
        }
        normal_go(&at, marks);
        while (normal_of_class(n, &at, class_) != 0u) {
            normal_item behind = { at.at, at.index };
            const uint32_t code = normal_item_at(n, &behind);
            const uint32_t made = kept != 0u ? normal_compose(n, kept, code) : TOK_END;
            if (made == TOK_END) {
                normal_go(&place->item, marks);
                normal_go(&place->mark, &at);
                place->class_ = class_;
                place->kept = kept;
                return;
            }
            kept = made;
            normal_go(&at, &behind);
        }
        above = class_;
    }
}

/* The mark at a place among marks; the place moves to the next of its class, or to the next class,
 * or behind the marks. */
static uint32_t normal_mark(const normal *n, normal_position *place)
{
    normal_item at = { place->mark.at, place->mark.index };
    const uint32_t code = normal_item_at(n, &at);
    if (normal_of_class(n, &at, place->class_) != 0u) {
        normal_go(&place->mark, &at);
        return code;
    }
    normal_enter(n, &place->item, place->kept, place->class_, place);
    if (place->class_ == 0u) {
        place->kept = 0;
    }
    return code;
}

/* Joins a starter with the marks that it takes and, if none is left between, with starters behind. */
static uint32_t normal_composed(const normal *n, uint32_t code, const normal_item *start, normal_position *place)
{
    normal_item at = { start->at, start->index };
    for (;;) {
        normal_item behind = { at.at, at.index };
        normal_position last;
        const uint32_t next = normal_item_at(n, &behind);
        if (next == TOK_END) {
            break;
        }
        if (normal_class(n, next) == 0u) {
            const uint32_t made = normal_compose(n, code, next);
            if (made == TOK_END) {
                break;
            }
            code = made;
            normal_go(&at, &behind);
            continue;
        }
        normal_enter(n, &at, code, 0, place);
        normal_go(&last.item, &place->item);
        normal_go(&last.mark, &place->mark);
        last.class_ = place->class_;
        last.kept = place->kept;
        while (last.class_ != 0u) {
            normal_enter(n, &at, last.kept, last.class_, &last);
        }
        if (place->class_ != 0u) {
            return last.kept;
        }
        code = last.kept;
        normal_go(&at, &last.item);
    }
    normal_stand(place, &at);
    return code;
}

/* Joins a character that is all that its source becomes with those behind it. */
static uint32_t normal_chained(const normal *n, uint32_t code, const normal_item *at, normal_position *place)
{
    const uint32_t alone = place->item.index == 0u && at->index == 0u ? 1u : 0u;
    normal_image image;
    normal_stand(place, at);
    if (alone == 0u || ((n->head[1] & NORMAL_JOIN) != 0u && code - 0xac00u < NORMAL_SYLLABLES)) {
        return code;
    }
    if (code < TOK_CODE_POINTS) {
        normal_image_of(&n->map, code, &image);
        if (image.listed != 0u && image.count == 1u && image.form == IMAGE_TEXT && image.code == code) {
            return code;
        }
    }
    while (place->item.at < n->s->n) {
        uint32_t behind = place->item.at, made;
        normal_mapped(n, tok_utf8(n->s->text, n->s->n, &behind), &image);
        if (image.count != 1u) {
            break;
        }
        made = normal_compose(n, code, normal_get(&image, 0));
        if (made == TOK_END) {
            break;
        }
        code = made;
        place->item.at = behind;
    }
    return code;
}

/* The next character behind the middle. */
static uint32_t normal_ordered(const normal *n, normal_position *place)
{
    normal_item at = { place->item.at, place->item.index };
    uint32_t code;
    if (place->class_ != 0u) {
        return normal_mark(n, place);
    }
    code = normal_item_at(n, &at);
    if (code == TOK_END) {
        return code;
    }
    if (n->head[0] == NORMAL_CHAINED) {
        return normal_chained(n, code, &at, place);
    }
    if (n->head[0] != NORMAL_PLAIN && n->head[0] != NORMAL_KEYED && normal_class(n, code) != 0u) {
        normal_enter(n, &place->item, 0, 0, place);
        return normal_mark(n, place);
    }
    if (n->head[0] == NORMAL_COMPOSED) {
        return normal_composed(n, code, &at, place);
    }
    normal_go(&place->item, &at);
    return code;
}

/* ---- behind it --------------------------------------------------------------------------- */

/* Bits of a cursor's state: index of the next character in what a character of the text becomes
 * (0-4), the same for the marks that are given (5-9), index in what the second map makes (10-14),
 * these two, and the class of the marks (24-31). */
#define NORMAL_BEGUN (1u << 15)
#define NORMAL_INNER (1u << 16) /* the spaces that are given are not the last of the segment */

/* The next character behind the second map. */
static uint32_t normal_second(const normal *n, tok_cursor *c)
{
    for (;;) {
        const uint32_t state = c->state, index = (state >> 10) & 31u;
        normal_position place;
        normal_image image;
        uint32_t code;
        place.item.at = c->at;
        place.item.index = state & 31u;
        place.mark.at = c->step;
        place.mark.index = (state >> 5) & 31u;
        place.class_ = state >> 24;
        place.kept = c->kept;
        code = normal_ordered(n, &place);
        if (code == TOK_END) {
            return code;
        }
        normal_itself(&image, code);
        if (code < TOK_CODE_POINTS) {
            normal_image_of(&n->after, code, &image);
        }
        if (index + 1u < image.count) {
            c->state = state + (1u << 10);
        } else {
            c->at = place.item.at;
            c->step = place.mark.at;
            c->kept = place.kept;
            c->state = (state & (NORMAL_BEGUN | NORMAL_INNER)) | place.item.index | (place.mark.index << 5) |
                       (place.class_ << 24);
        }
        if (index < image.count) {
            return normal_get(&image, index);
        }
    }
}

/* 1 if a character is left out at an end by a rule: 1 White_Space, 2 spaces, 3 U+2581 too. */
static uint32_t normal_strips(uint32_t rule, uint32_t code)
{
    if (rule == 1u) {
        return tok_is_white(code);
    }
    return code == 0x20u || (rule == 3u && code == TOK_UNDERLINE) ? 1u : 0u;
}

/* The next character behind the rules for the ends; runs are as they were. */
static uint32_t normal_trimmed(const normal *n, tok_cursor *c)
{
    const uint32_t rule = n->head[2];
    const uint32_t right = (rule & 0x80u) == 0u || n->s->last != 0u ? (rule >> 2) & 3u : 0u;
    const uint32_t code = normal_second(n, c);
    if (right == 0u || code == TOK_END) {
        return code;
    }
    if (normal_strips(right, code) == 0u) {
        c->state &= ~NORMAL_INNER;
    } else if ((c->state & NORMAL_INNER) == 0u) {
        tok_cursor peek;
        uint32_t next = code;
        tok_copy(&peek, c);
        while (next != TOK_END && normal_strips(right, next) != 0u) {
            next = normal_second(n, &peek);
        }
        if (next == TOK_END) {
            return next;
        }
        c->state |= NORMAL_INNER;
    }
    return code;
}

/* Leaves out what a rule leaves out at the start; 1 if the front character comes now. */
static uint32_t normal_begin(const normal *n, tok_cursor *c)
{
    const uint32_t rule = n->head[2], mode = n->head[3] & 3u;
    const uint32_t left = (rule & 0x80u) == 0u || n->s->first != 0u ? rule & 3u : 0u;
    tok_cursor peek;
    tok_copy(&peek, c);
    while (left != 0u) {
        const uint32_t code = normal_second(n, &peek);
        if (code == TOK_END || normal_strips(left, code) == 0u) {
            break;
        }
        tok_copy(c, &peek);
    }
    c->state |= NORMAL_BEGUN;
    if (mode == 0u || (mode == 2u && n->s->first == 0u)) {
        return 0;
    }
    if (mode == 2u && n->s->last == 0u) {
        return 1;
    }
    if (mode == 2u && ((rule >> 2) & 3u) == 0u) {
        return n->s->n > 0u ? 1u : 0u;
    }
    tok_copy(&peek, c);
    return normal_trimmed(n, &peek) != TOK_END ? 1u : 0u;
}

static uint32_t normal_spaced(const normal *n, tok_cursor *c)
{
    const uint32_t runs = (n->head[2] >> 4) & 3u;
    uint32_t code, more = 0;
    if ((c->state & NORMAL_BEGUN) == 0u && normal_begin(n, c) != 0u) {
        return (n->head[3] & 4u) != 0u ? TOK_UNDERLINE : 0x20u;
    }
    code = normal_trimmed(n, c);
    if (code == 0x20u && runs != 0u) {
        tok_cursor peek;
        tok_copy(&peek, c);
        while (normal_second(n, &peek) == 0x20u) {
            tok_copy(c, &peek);
            more = runs;
        }
        code = more == 2u ? TOK_UNDERLINE : code;
    }
    return code;
}

uint32_t tok_normal_next(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at)
{
    normal n;
    uint32_t code;
    n.s = s;
    (void)normal_parts(&n, t->section[TOK_S_NORMAL], t->section_bytes[TOK_S_NORMAL]);
    code = normal_spaced(&n, at);
    return code == 0x20u && (n.head[2] & 0x40u) != 0u ? TOK_UNDERLINE : code;
}

#endif
