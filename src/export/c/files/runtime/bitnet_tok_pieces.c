/* Device tokenizer: pieces in a trie, unigram and WordPiece. docs/format/tokenizer.md, sections
 * 10 and 11. The same steps as device/{pieces,unigram,wordpiece}.rs, which are the definition. */
#include "bitnet_tok.h"

#if BITNET_TOK_UNIGRAM || BITNET_TOK_WORDPIECE

#include "bitnet_math.h"

#define TOK_LONGEST_PIECE 2047u
#define TOK_LONGEST_WORD 4096u
#define TOK_PIECES_HEAD 8u

/* ---- the trie ---------------------------------------------------------------------------- */

/* A node: where its label and, behind that, its list of children are among the nodes. */
typedef struct {
    uint32_t label;
    uint32_t length;
    uint32_t list;  /* bytes */
    uint32_t below; /* terminals in the list */
    uint32_t terminal;
    uint32_t last;
} tok_node;

/* A place in the trie: in a label, or at the end of one and so before the list of children. */
typedef struct {
    uint32_t label;    /* offset of the next byte of the label, or of the list of children */
    uint32_t left;     /* bytes of the label still to come */
    uint32_t end;      /* of the list of children */
    uint32_t place;    /* terminals before this node */
    uint32_t terminal; /* 1: a piece ends at the end of the label */
} tok_walk;

/* Reads the node at `at`. Returns the offset behind it, 0 if it is damaged. */
static uint32_t tok_node_at(const bitnet_tokenizer *t, uint32_t at, tok_node *node)
{
    const uint32_t bytes = t->node_bytes;
    uint32_t head;
    if (at >= bytes) {
        return 0;
    }
    head = t->nodes[at];
    at++;
    node->list = 0;
    node->below = 0;
    if ((head & 64u) != 0u) {
        at = tok_varint(t->nodes, bytes, at, &node->list);
        if (at == 0u) {
            return 0;
        }
        at = tok_varint(t->nodes, bytes, at, &node->below);
        if (at == 0u || node->list == 0u || node->below == 0u) {
            return 0;
        }
    }
    node->label = at;
    node->length = head & 31u;
    node->terminal = head >> 5 & 1u;
    node->last = head >> 7;
    /* a node that is neither would be a dead end */
    if (node->length == 0u || (node->terminal == 0u && node->list == 0u) ||
        node->length > bytes - at || node->list > bytes - at - node->length) {
        return 0;
    }
    return at + node->length + node->list;
}

/* 1 if the nodes from `at` to `end` are a list with `terminals` terminals. What they say of
 * their own lists is taken for granted here, and checked when the scan comes to them. */
static uint32_t tok_is_list(const bitnet_tokenizer *t, uint32_t at, uint32_t end, uint32_t terminals)
{
    uint32_t least = 0; /* the smallest byte that may start the next label */
    while (at < end) {
        tok_node node;
        uint32_t count;
        at = tok_node_at(t, at, &node);
        if (at == 0u || at > end || t->nodes[node.label] < least || node.last != (at == end ? 1u : 0u)) {
            return 0;
        }
        count = node.below + node.terminal;
        if (count > terminals) {
            return 0;
        }
        terminals -= count;
        least = (uint32_t)t->nodes[node.label] + 1u;
    }
    return at == end && terminals == 0u ? 1u : 0u;
}

/* Terminals in depth-first order to ids. */
static void tok_order(const bitnet_tokenizer *t, tok_permutation *order)
{
    order->count = t->vocab_size;
    order->width = t->id_bits;
    order->fields = t->section[TOK_S_PIECES] + TOK_PIECES_HEAD;
    order->jumps = order->fields + tok_packed(order->count, order->width);
}

static bitnet_status tok_trie_open(bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_PIECES];
    const uint32_t bytes = t->section_bytes[TOK_S_PIECES];
    tok_permutation order;
    uint32_t count;
    uint32_t skip;
    uint32_t at = 0;
    if (p == NULL || bytes < TOK_PIECES_HEAD) {
        return BITNET_E_FORMAT;
    }
    count = tok_le(p, 4);
    t->longest_piece = tok_le(p + 4, 2);
    if (count > t->vocab_size || t->longest_piece == 0u || t->longest_piece > TOK_LONGEST_PIECE ||
        tok_le(p + 6, 2) != 0u) {
        return BITNET_E_FORMAT;
    }
    skip = tok_permutation_open(&order, p + TOK_PIECES_HEAD, bytes - TOK_PIECES_HEAD, t->vocab_size);
    if (skip == 0u) {
        return BITNET_E_FORMAT;
    }
    t->nodes = p + TOK_PIECES_HEAD + skip;
    t->node_bytes = bytes - TOK_PIECES_HEAD - skip;
    if (tok_is_list(t, 0, t->node_bytes, count) == 0u) {
        return BITNET_E_FORMAT;
    }
    /* Nodes lie one behind the other, parents first: each list is checked once, without a stack. */
    while (at < t->node_bytes) {
        tok_node node;
        const uint32_t end = tok_node_at(t, at, &node);
        if (end == 0u) {
            return BITNET_E_FORMAT;
        }
        at = node.label + node.length;
        if (node.list > 0u && tok_is_list(t, at, end, node.below) == 0u) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* Above the first byte of any piece. */
static void tok_root(const bitnet_tokenizer *t, tok_walk *walk)
{
    walk->label = 0;
    walk->left = 0;
    walk->end = t->node_bytes;
    walk->place = 0;
    walk->terminal = 0;
}

/* Goes down by one byte. Returns 0 if no piece goes on like that; the walk is over then. */
static uint32_t tok_step(const bitnet_tokenizer *t, tok_walk *walk, uint32_t byte)
{
    uint32_t at = walk->label;
    uint32_t place;
    if (walk->left > 0u) {
        walk->left--;
        walk->label++;
        return t->nodes[at] == byte ? 1u : 0u;
    }
    place = walk->place + walk->terminal;
    while (at < walk->end) {
        tok_node node;
        const uint32_t end = tok_node_at(t, at, &node);
        if (end == 0u || t->nodes[node.label] > byte) {
            return 0;
        }
        if (t->nodes[node.label] == byte) {
            walk->label = node.label + 1u;
            walk->left = node.length - 1u;
            walk->end = end;
            walk->place = place;
            walk->terminal = node.terminal;
            return 1;
        }
        place += node.below + node.terminal;
        at = end;
    }
    return 0;
}

/* Id of the piece that ends here, or TOK_NONE. */
static uint32_t tok_found(const bitnet_tokenizer *t, const tok_walk *walk)
{
    if (walk->terminal == 0u || walk->left != 0u) {
        return TOK_NONE;
    }
    return tok_field(t->section[TOK_S_PIECES] + TOK_PIECES_HEAD, walk->place, t->id_bits);
}

/* A piece that is being spelled. */
typedef struct {
    uint32_t place; /* terminals of the list at `at` to pass over; TOK_NONE: the piece ends here */
    uint32_t at;
    uint32_t label; /* of the bytes that were given last */
    uint32_t given; /* bytes so far */
} tok_spelling;

static void tok_spelling_start(const bitnet_tokenizer *t, uint32_t id, tok_spelling *of)
{
    tok_permutation order;
    tok_order(t, &order);
    of->place = tok_place(&order, id);
    of->at = of->place == TOK_NONE ? t->node_bytes : 0u;
    of->label = 0;
    of->given = 0;
}

/* Finds the label that goes on, at `label`. Returns its length, 0 at the end of the piece,
 * TOK_NONE if there is no such piece. */
static uint32_t tok_spelling_label(const bitnet_tokenizer *t, tok_spelling *of)
{
    if (of->given > 0u && of->place == TOK_NONE) {
        return 0;
    }
    while (of->given < t->longest_piece) {
        tok_node node;
        const uint32_t end = tok_node_at(t, of->at, &node);
        uint32_t count;
        if (end == 0u) {
            break;
        }
        count = node.below + node.terminal;
        if (of->place < count) {
            of->label = node.label;
            of->given += node.length;
            of->at = node.label + node.length;
            of->place = of->place < node.terminal ? TOK_NONE : of->place - node.terminal;
            return node.length;
        }
        if (node.last != 0u) {
            break;
        }
        of->place -= count;
        of->at = end;
    }
    return TOK_NONE;
}

bitnet_status tok_piece_bytes(const bitnet_tokenizer *t, uint32_t id, tok_sink *sink)
{
    tok_spelling of;
    uint32_t n;
    tok_spelling_start(t, id, &of);
    for (n = tok_spelling_label(t, &of); n != 0u; n = tok_spelling_label(t, &of)) {
        uint32_t k;
        if (n == TOK_NONE) {
            return BITNET_E_TOKEN;
        }
        for (k = 0; k < n; k++) {
            const bitnet_status status = tok_emit(sink, t->nodes[of.label + k]);
            if (status != BITNET_OK) {
                return status;
            }
        }
    }
    return BITNET_OK;
}

static uint32_t tok_limit(const bitnet_tokenizer *t)
{
    return tok_le(t->section[TOK_S_MODEL] + 4, 4);
}

#endif /* BITNET_TOK_UNIGRAM || BITNET_TOK_WORDPIECE */

/* ---- WordPiece --------------------------------------------------------------------------- */

#if BITNET_TOK_WORDPIECE

/* Goes down by the bytes of a character; a stray byte is in no piece. */
static uint32_t tok_step_character(const bitnet_tokenizer *t, tok_walk *walk, uint32_t character)
{
    uint8_t bytes[4];
    const uint32_t n = tok_spell(character, bytes);
    uint32_t k;
    if (character >= TOK_CODE_POINTS) {
        return 0;
    }
    for (k = 0; k < n; k++) {
        if (tok_step(t, walk, bytes[k]) == 0u) {
            return 0;
        }
    }
    return 1;
}

/* Goes down by the prefix of pieces that continue a word. */
static uint32_t tok_step_prefix(const bitnet_tokenizer *t, tok_walk *walk)
{
    const uint8_t *prefix = t->section[TOK_S_MODEL] + 12;
    uint32_t left;
    for (left = t->section[TOK_S_MODEL][9]; left > 0u; left--) {
        if (tok_step(t, walk, *prefix) == 0u) {
            return 0;
        }
        prefix++;
    }
    return 1;
}

static bitnet_status tok_put_unknown(const bitnet_tokenizer *t, tok_out *out)
{
    const uint32_t id = tok_unknown(t);
    return id == TOK_NONE ? BITNET_OK : tok_put(out, id);
}

bitnet_status tok_wordpiece(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, tok_out *out)
{
    uint32_t *word = s->model; /* characters; from the start on replaced by ids */
    uint32_t count = 0;
    uint32_t start = 0;
    uint32_t ids = 0;
    uint32_t character;
    uint32_t k;
    for (character = tok_next(t, s, at); character != TOK_END; character = tok_next(t, s, at)) {
        if (count >= tok_limit(t)) {
            return tok_put_unknown(t, out);
        }
        word[count] = character;
        count++;
    }
    while (start < count) {
        tok_walk walk;
        uint32_t best = TOK_NONE;
        uint32_t end = start;
        uint32_t on;
        tok_root(t, &walk);
        on = start == 0u ? 1u : tok_step_prefix(t, &walk);
        for (k = start; on != 0u && k < count && tok_step_character(t, &walk, word[k]) != 0u; k++) {
            const uint32_t id = tok_found(t, &walk);
            if (id != TOK_NONE) {
                best = id;
                end = k + 1u;
            }
        }
        if (best == TOK_NONE) {
            return tok_put_unknown(t, out);
        }
        word[ids] = best;
        ids++;
        start = end;
    }
    for (k = 0; k < ids; k++) {
        const bitnet_status status = tok_put(out, word[k]);
        if (status != BITNET_OK) {
            return status;
        }
    }
    return BITNET_OK;
}

#endif /* BITNET_TOK_WORDPIECE */

/* ---- sums of scores ---------------------------------------------------------------------- */

#if BITNET_TOK_UNIGRAM

/* Scores and sums are the bits of binary64 numbers, and sums are rounded as the reference rounds
 * them: that decides between paths that differ in the order of their pieces only. */
#define TOK_SIGN 0x8000000000000000u
#define TOK_FRACTION 0x000fffffffffffffu
#define TOK_NO_SUM 0xffffffffffffffffu
#define TOK_LEAST ((uint64_t)(1023u - 126u) << 52) /* 2^-126 */
#define TOK_MOST ((uint64_t)(1023u + 900u) << 52)

/* Section 11, read once a word. */
typedef struct {
    const uint8_t *fields;
    uint32_t single; /* 1: sums are binary32, as in SentencePiece */
    uint32_t sign;   /* 1: the lowest bit of a field says above 0 */
    uint32_t width, shift;
    uint64_t base, unknown;
} tok_scores;

/* Shifts by 0 to 63 bits in halves: compilers call a library for them on 32-bit cores. */
static uint64_t tok_pair(uint32_t high, uint32_t low)
{
    return (uint64_t)high << 32 | low;
}

static uint64_t tok_left(uint64_t v, uint32_t by)
{
    uint32_t high = bn_hi(v);
    uint32_t low = bn_lo(v);
    if (by >= 32u) {
        high = low;
        low = 0;
        by -= 32u;
    }
    return by == 0u ? tok_pair(high, low) : tok_pair(high << by | low >> (32u - by), low << by);
}

static uint64_t tok_right(uint64_t v, uint32_t by)
{
    uint32_t high = bn_hi(v);
    uint32_t low = bn_lo(v);
    if (by >= 32u) {
        low = high;
        high = 0;
        by -= 32u;
    }
    return by == 0u ? tok_pair(high, low) : tok_pair(high >> by, low >> by | high << (32u - by));
}

static uint64_t tok_long(const uint8_t *p)
{
    return tok_pair(tok_le(p + 4, 4), tok_le(p, 4));
}

static void tok_scores_of(const bitnet_tokenizer *t, tok_scores *scores)
{
    const uint8_t *p = t->section[TOK_S_SCORES];
    scores->single = p[0];
    scores->width = p[1];
    scores->shift = p[2];
    scores->sign = p[3];
    scores->base = tok_long(p + 8);
    scores->unknown = tok_long(p + 16);
    scores->fields = p + 24;
}

static bitnet_status tok_scores_open(const bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_SCORES];
    const uint32_t bytes = t->section_bytes[TOK_S_SCORES];
    tok_scores scores;
    uint64_t most;
    uint64_t unknown;
    if (p == NULL || bytes < 24u) {
        return BITNET_E_FORMAT;
    }
    tok_scores_of(t, &scores);
    if (scores.single > 1u || scores.width == 0u || scores.width > 63u || scores.shift > 52u ||
        scores.sign > 1u || tok_le(p + 4, 4) != 0u) {
        return BITNET_E_FORMAT;
    }
    most = tok_right(TOK_NO_SUM, 64u - scores.width);
    most = scores.sign != 0u ? most >> 1 : most;
    unknown = scores.unknown & ~TOK_SIGN;
    if (scores.base < tok_right(TOK_LEAST, scores.shift) || scores.base > tok_right(TOK_MOST, scores.shift) ||
        most > tok_right(TOK_MOST, scores.shift) - scores.base ||
        (unknown != 0u && (unknown < TOK_LEAST || unknown >= TOK_MOST)) ||
        bytes - 24u != tok_packed(t->vocab_size, scores.width)) {
        return BITNET_E_FORMAT;
    }
    return BITNET_OK;
}

static uint64_t tok_score(const tok_scores *scores, uint32_t id)
{
    const uint32_t at = id * scores->width;
    const uint32_t w = scores->width;
    const uint32_t low = tok_bits(scores->fields, at, w < 24u ? w : 24u);
    const uint32_t middle = w > 24u ? tok_bits(scores->fields, at + 24u, w < 48u ? w - 24u : 24u) : 0u;
    const uint32_t high = w > 48u ? tok_bits(scores->fields, at + 48u, w - 48u) : 0u;
    uint64_t field = tok_pair(middle >> 8 | high << 16, low | middle << 24);
    uint64_t sign = TOK_SIGN;
    if (field == 0u) {
        return 0;
    }
    field--;
    if (scores->sign != 0u) {
        sign = (field & 1u) != 0u ? 0u : TOK_SIGN;
        field >>= 1;
    }
    return tok_left(scores->base + field, scores->shift) | sign;
}

/* Sum of two binary64 numbers, rounded to the nearest and of two to the even one. */
static uint64_t tok_add(uint64_t a, uint64_t b)
{
    const uint64_t size_a = a & ~TOK_SIGN;
    const uint64_t size_b = b & ~TOK_SIGN;
    const uint64_t large = size_a >= size_b ? size_a : size_b;
    const uint64_t small = size_a >= size_b ? size_b : size_a;
    const uint64_t sign = (size_a >= size_b ? a : b) & TOK_SIGN;
    uint32_t power = bn_hi(large) >> 20;
    const uint32_t gap = power - (bn_hi(small) >> 20);
    const uint32_t apart = gap < 63u ? gap : 63u;
    uint64_t sum;
    uint64_t part;
    uint32_t rest;
    uint32_t up;
    if (small == 0u) {
        return sign | large;
    }
    /* Three more bits, the lowest of which says that something below was not 0, are enough. */
    sum = ((large & TOK_FRACTION) | (TOK_FRACTION + 1u)) << 3;
    part = ((small & TOK_FRACTION) | (TOK_FRACTION + 1u)) << 3;
    rest = tok_left(tok_right(part, apart), apart) != part ? 1u : 0u;
    part = tok_right(part, apart) | rest;
    sum = ((a ^ b) & TOK_SIGN) == 0u ? sum + part : sum - part;
    if (sum == 0u) {
        return 0;
    }
    if (bn_hi(sum) >> 24 != 0u) {
        sum = sum >> 1 | (sum & 1u);
        power++;
    } else {
        up = 56u - bn_bitlen64(sum);
        sum = tok_left(sum, up);
        power = power > up ? power - up : 0u;
    }
    rest = bn_lo(sum) & 7u;
    sum >>= 3;
    up = rest > 4u || (rest == 4u && (bn_lo(sum) & 1u) != 0u) ? 1u : 0u;
    /* A carry out of the fraction is one in the exponent, which is right. */
    return sign | (tok_pair(power << 20, 0) + (sum & TOK_FRACTION) + up);
}

/* A sum as the reference rounds it. Of two binary32 numbers the sum in binary64, rounded again,
 * is the sum in binary32. */
static uint64_t tok_sum(const tok_scores *scores, uint64_t a, uint64_t b)
{
    uint64_t sum = tok_add(a, b);
    const uint32_t rest = bn_lo(sum) & 0x1fffffffu;
    if (scores->single == 0u) {
        return sum;
    }
    sum -= rest;
    if (rest > 0x10000000u || (rest == 0x10000000u && (bn_lo(sum) & 0x20000000u) != 0u)) {
        sum += 0x20000000u;
    }
    return sum;
}

static uint32_t tok_is_more(uint64_t a, uint64_t b)
{
    const uint64_t key_a = (a & TOK_SIGN) == 0u ? a | TOK_SIGN : ~a + 1u;
    const uint64_t key_b = (b & TOK_SIGN) == 0u ? b | TOK_SIGN : ~b + 1u;
    return key_a > key_b ? 1u : 0u;
}

/* ---- unigram: best sum ------------------------------------------------------------------- */

/* A back-pointer: bit 31 says unknown, with the character below it; else bits 20 to 30 are the
 * length of the piece, below them its id. */
#define TOK_BACK_UNKNOWN 0x80000000u

/* Places ahead of the one being looked at, three words each: the byte there, and the best sum
 * that ends before it. A byte that starts a character has its length above it (bits 8 to 11),
 * and 1 above that (bit 12) if it is a stray. Behind the ring: the sum of the words before. */
typedef struct {
    uint32_t *words;
    uint32_t size;
    uint32_t first; /* slot of the place being looked at */
} tok_ring;

static uint32_t *tok_slot(const tok_ring *ring, uint32_t ahead)
{
    uint32_t slot = ring->first + ahead;
    if (slot >= ring->size) {
        slot -= ring->size;
    }
    return ring->words + 3u * slot;
}

static uint64_t tok_load(const uint32_t *p)
{
    return tok_pair(p[1], p[0]);
}

static void tok_store(uint32_t *p, uint64_t value)
{
    p[0] = bn_lo(value);
    p[1] = bn_hi(value);
}

/* Puts a character behind the `ahead` bytes of the ring. Returns their number then. */
static uint32_t tok_ring_put(const tok_ring *ring, uint32_t ahead, uint32_t character)
{
    uint8_t bytes[4];
    const uint32_t n = tok_spell(character, bytes);
    uint32_t k;
    for (k = 0; k < n; k++) {
        *tok_slot(ring, ahead) = bytes[k];
        ahead++;
        tok_store(tok_slot(ring, ahead) + 1, TOK_NO_SUM);
    }
    *tok_slot(ring, ahead - n) |= n << 8 | (character >= TOK_CODE_POINTS ? 1u << 12 : 0u);
    return ahead;
}

/* Keeps a sum that is the first at its end, or larger than the one there. */
static void tok_offer(const tok_ring *ring, uint32_t end, uint64_t sum, uint32_t back, uint32_t *room)
{
    uint32_t *best = tok_slot(ring, end) + 1;
    if (tok_load(best) == TOK_NO_SUM || tok_is_more(sum, tok_load(best)) != 0u) {
        tok_store(best, sum);
        room[end - 1u] = back;
    }
}

/* The character that starts at the ring's first place. */
static uint32_t tok_ring_character(const tok_ring *ring, uint32_t length)
{
    uint8_t bytes[4];
    uint32_t at = 0;
    uint32_t k;
    for (k = 0; k < length; k++) {
        bytes[k] = (uint8_t)*tok_slot(ring, k);
    }
    return (*tok_slot(ring, 0) & 1u << 12) != 0u ? TOK_CODE_POINTS + bytes[0] : tok_utf8(bytes, length, &at);
}

/* Tries every piece that starts at the ring's first place, with `ahead` bytes behind it. Returns
 * the length of the character there. `room`: a back-pointer for the end of each of those bytes. */
static uint32_t tok_forward(const bitnet_tokenizer *t, const tok_scores *scores, const tok_ring *ring,
                            uint32_t ahead, uint32_t *room)
{
    const uint64_t here = tok_load(tok_slot(ring, 0) + 1);
    const uint32_t length = *tok_slot(ring, 0) >> 8 & 15u;
    uint32_t alone = 0;
    uint32_t on = 1;
    uint32_t end = 0;
    tok_walk walk;
    tok_root(t, &walk);
    while (end < ahead && (*tok_slot(ring, end) & 1u << 12) == 0u) {
        uint32_t n = *tok_slot(ring, end) >> 8 & 15u;
        uint32_t id;
        while (on != 0u && n > 0u) {
            on = tok_step(t, &walk, *tok_slot(ring, end) & 255u);
            end++;
            n--;
        }
        if (on == 0u) {
            break;
        }
        id = tok_found(t, &walk);
        if (id != TOK_NONE) {
            tok_offer(ring, end, tok_sum(scores, here, tok_score(scores, id)), id | end << 20, room);
            alone |= end == length ? 1u : 0u;
        }
    }
    if (alone == 0u) {
        tok_offer(ring, length, tok_sum(scores, here, scores->unknown),
                  TOK_BACK_UNKNOWN | tok_ring_character(ring, length), room);
    }
    return length;
}

/* ---- unigram: the way back --------------------------------------------------------------- */

static uint32_t tok_back_is_unknown(const bitnet_tokenizer *t, uint32_t back)
{
    return back >= TOK_BACK_UNKNOWN || (back & 0xfffffu) == tok_unknown(t) ? 1u : 0u;
}

/* Bytes that a back-pointer spans. */
static uint32_t tok_span(uint32_t back)
{
    uint8_t bytes[4];
    return back >= TOK_BACK_UNKNOWN ? tok_spell(back - TOK_BACK_UNKNOWN, bytes) : back >> 20;
}

/* Puts the ids of the bytes of an unknown character, or of the piece that is the unknown id, at
 * `ids`; NULL: only asks. Returns their number, TOK_NONE if a byte has none. */
static uint32_t tok_fall_back(const bitnet_tokenizer *t, uint32_t back, uint32_t *ids)
{
    const uint32_t character = back >= TOK_BACK_UNKNOWN ? 1u : 0u;
    uint8_t bytes[4];
    tok_spelling of;
    uint32_t total = 0;
    uint32_t n;
    if (character == 0u) {
        tok_spelling_start(t, back & 0xfffffu, &of);
    }
    n = character != 0u ? tok_spell(back - TOK_BACK_UNKNOWN, bytes) : tok_spelling_label(t, &of);
    while (n != 0u) {
        uint32_t k;
        if (n == TOK_NONE) {
            return TOK_NONE;
        }
        for (k = 0; k < n; k++) {
            const uint32_t id = tok_byte_id(t, character != 0u ? bytes[k] : t->nodes[of.label + k]);
            if (id == TOK_NONE) {
                return TOK_NONE;
            }
            if (ids != NULL) {
                ids[total] = id;
            }
            total++;
        }
        n = character != 0u ? 0u : tok_spelling_label(t, &of);
    }
    return total;
}

/* Turns the back-pointers of a word of `n` bytes into ids, in place. Returns their number. */
static uint32_t tok_back(const bitnet_tokenizer *t, uint32_t *room, uint32_t n)
{
    const uint32_t flags = tok_model_flags(t);
    const uint32_t unknown = tok_unknown(t);
    uint32_t end = n;
    uint32_t at = n;
    uint32_t ids = 0;
    /* Found from the last to the first, they are gathered at the end of the room: one that
     * spans k bytes leaves k places. */
    while (end > 0u && at > 0u) {
        const uint32_t back = room[end - 1u];
        const uint32_t span = tok_span(back);
        at--;
        room[at] = back;
        end = end > span ? end - span : 0u;
    }
    while (at < n) {
        uint32_t run = 1;
        uint32_t spelled;
        uint32_t k;
        if (tok_back_is_unknown(t, room[at]) == 0u) {
            room[ids] = room[at] & 0xfffffu;
            ids++;
            at++;
            continue;
        }
        while ((flags & TOK_FUSE) != 0u && at + run < n && tok_back_is_unknown(t, room[at + run]) != 0u) {
            run++;
        }
        /* A piece that is the unknown id is that id if nothing unknown is beside it. */
        spelled = (flags & TOK_FALLBACK) != 0u && (run > 1u || room[at] >= TOK_BACK_UNKNOWN) ? 1u : 0u;
        for (k = 0; spelled != 0u && k < run; k++) {
            spelled = tok_fall_back(t, room[at + k], NULL) != TOK_NONE ? 1u : 0u;
        }
        if (spelled == 0u) {
            at += run;
            if (unknown != TOK_NONE) {
                room[ids] = unknown;
                ids++;
            }
            continue;
        }
        /* Ids never pass the place that is read: what is left spans at least as many bytes as
         * it has places. */
        for (k = 0; k < run; k++) {
            ids += tok_fall_back(t, room[at], room + ids);
            at++;
        }
    }
    return ids;
}

bitnet_status tok_unigram(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, uint32_t first, tok_out *out)
{
    tok_ring ring;
    tok_scores scores;
    uint32_t *room = out->ids + out->n;
    const uint32_t cap = out->cap - out->n;
    uint32_t *before;
    uint32_t n = 0;
    uint32_t ahead = 0;
    uint32_t whole = 0;
    tok_scores_of(t, &scores);
    ring.words = s->model;
    ring.size = t->longest_piece + 4u;
    ring.first = 0;
    before = ring.words + 3u * ring.size;
    /* Words 3 only cuts where the reference does not, so its sum goes on. */
    tok_store(ring.words + 1, first != 0u || t->words != 3u ? 0u : tok_load(before));
    for (;;) {
        uint32_t length;
        while (whole == 0u && ahead < t->longest_piece) {
            const uint32_t character = tok_next(t, s, at);
            if (character == TOK_END) {
                whole = 1;
            } else {
                ahead = tok_ring_put(&ring, ahead, character);
            }
            if (ahead > cap - n) {
                return BITNET_E_CAPACITY;
            }
        }
        if (ahead == 0u) {
            break;
        }
        length = tok_forward(t, &scores, &ring, ahead, room + n);
        ring.first += length;
        if (ring.first >= ring.size) {
            ring.first -= ring.size;
        }
        ahead -= length;
        n += length;
    }
    tok_store(before, tok_load(tok_slot(&ring, 0) + 1));
    out->n += tok_back(t, room, n);
    return BITNET_OK;
}

#endif /* BITNET_TOK_UNIGRAM */

/* ---- opening ----------------------------------------------------------------------------- */

#if BITNET_TOK_UNIGRAM || BITNET_TOK_WORDPIECE

bitnet_status tok_pieces_open(bitnet_tokenizer *t, uint32_t *words)
{
    const bitnet_status status = tok_trie_open(t);
    if (status != BITNET_OK) {
        return status;
    }
#if BITNET_TOK_UNIGRAM
    if (t->model == TOK_UNIGRAM) {
        *words = 3u * (t->longest_piece + 4u) + 2u;
        return tok_scores_open(t);
    }
#endif
    if (tok_limit(t) > TOK_LONGEST_WORD) {
        return BITNET_E_FORMAT;
    }
    *words = tok_limit(t);
    return BITNET_OK;
}

#endif /* BITNET_TOK_UNIGRAM || BITNET_TOK_WORDPIECE */
