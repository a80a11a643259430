/* Byte-pair encoding of words of any length in a fixed window. */
#include "bitnet_tok.h"

#if BITNET_TOK_BPE

/* A token in the window: its id, and from bit 20 on how many atoms it has. That fits, because no
 * window is longer than 4 * 1023. */
#define TOK_ID 0xfffffu
#define TOK_ONE 0x100000u
#define TOK_LATE 0x80000000u /* with an id: its merge comes after all that are not late */

enum { TOK_RANKS = 1, TOK_LATES = 2 }; /* flags of section 4 */

/* ---- merges ------------------------------------------------------------------------------ */

/* A place in the ascending order of pairs. */
typedef struct {
    uint32_t left;
    uint32_t right;
    uint32_t bit; /* of the code of the next entry */
} tok_entry;

static void tok_sample(const bitnet_tokenizer *t, uint32_t index, tok_entry *e)
{
    const uint8_t *samples = t->section[TOK_S_MERGES] + 20;
    const uint32_t w = t->id_bits;
    const uint32_t bit = index * (2u * w + t->offset_bits);
    e->left = tok_bits(samples, bit, w);
    e->right = tok_bits(samples, bit + w, w);
    e->bit = tok_bits(samples, bit + 2u * w, t->offset_bits);
}

/* A number of the stream; no bit behind its last one is used, so a damaged code is only wrong. */
static uint32_t tok_number(const bitnet_tokenizer *t, tok_entry *e)
{
    uint32_t value = 0;
    uint32_t shift;
    for (shift = 0; shift < 21u && e->bit + 4u <= t->code_bits; shift += 3u) {
        const uint32_t group = tok_bits(t->stream, e->bit, 4);
        e->bit += 4u;
        value |= (group & 7u) << shift;
        if (group < 8u) {
            return value;
        }
    }
    e->bit = TOK_NONE - 8u; /* cut short: seen when the blob is opened, never later */
    return value;
}

/* Moves to the entry behind. */
static void tok_forward(const bitnet_tokenizer *t, tok_entry *e)
{
    if (e->bit < t->code_bits) {
        const uint32_t fresh = tok_bits(t->stream, e->bit, 1);
        e->bit++;
        if (fresh == 0u) {
            e->right += 1u + tok_number(t, e);
            return;
        }
        e->left += 1u + tok_number(t, e);
        e->right = tok_number(t, e);
        return;
    }
    e->bit = TOK_NONE - 8u;
}

#if BITNET_TOK_LATE
/* TOK_LATE if a result is in the ascending list of those that come last. */
static uint32_t tok_late(const bitnet_tokenizer *t, uint32_t result)
{
    uint32_t low = 0;
    uint32_t high = t->late == NULL ? 0u : tok_le(t->late, 2);
    while (low < high) {
        const uint32_t middle = low + ((high - low) >> 1);
        const uint32_t other = tok_field(t->late + 4, middle, t->result_bits);
        if (other == result) {
            return TOK_LATE;
        }
        if (other < result) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return 0;
}

static uint32_t tok_late_bytes(const bitnet_tokenizer *t, const uint8_t *p, uint32_t left)
{
    uint32_t count;
    uint32_t k;
    if (left < 4u) {
        return 0;
    }
    count = tok_le(p, 2);
    if (count == 0u || tok_le(p + 2, 2) != 0u || tok_packed(count, t->result_bits) > left - 4u) {
        return 0;
    }
    for (k = 0; k < count; k++) {
        const uint32_t result = tok_field(p + 4, k, t->result_bits);
        if (result >= t->results || (k > 0u && result <= tok_field(p + 4, k - 1u, t->result_bits))) {
            return 0;
        }
    }
    return 4u + tok_packed(count, t->result_bits);
}
#endif

/* Id that the merge of a pair makes, perhaps with TOK_LATE, or TOK_NONE. */
static uint32_t tok_pair(const bitnet_tokenizer *t, uint32_t left, uint32_t right)
{
    uint32_t low = 0;
    uint32_t high = (t->merges + 31u) >> 5;
    uint32_t place;
    tok_entry e;
    while (low < high) {
        const uint32_t index = low + ((high - low) >> 1);
        tok_sample(t, index, &e);
        if (e.left < left || (e.left == left && e.right <= right)) {
            low = index + 1u;
        } else {
            high = index;
        }
    }
    if (low == 0u) {
        return TOK_NONE;
    }
    tok_sample(t, low - 1u, &e);
    place = (low - 1u) << 5;
    high = place + 32u < t->merges ? place + 32u : t->merges;
    while (e.left < left || (e.left == left && e.right < right)) {
        place++;
        if (place >= high) {
            return TOK_NONE;
        }
        tok_forward(t, &e);
    }
    if (e.left != left || e.right != right) {
        return TOK_NONE;
    }
    place = tok_field(t->permutation, place, t->result_bits);
#if BITNET_TOK_LATE
    return (t->base + place) | tok_late(t, place);
#else
    return t->base + place;
#endif
}

/* A pair and what it makes. Long words are long because they repeat themselves. */
typedef struct {
    uint32_t left;
    uint32_t right;
    uint32_t id;
} tok_memo;

static uint32_t tok_pair_again(const bitnet_tokenizer *t, tok_memo *memo, uint32_t left, uint32_t right)
{
    if (memo->left != (left & TOK_ID) || memo->right != (right & TOK_ID)) {
        memo->left = left & TOK_ID;
        memo->right = right & TOK_ID;
        memo->id = tok_pair(t, memo->left, memo->right);
    }
    return memo->id;
}

/* What decides which of two merges is made first: all that are late have the same rank. */
static uint32_t tok_rank(const bitnet_tokenizer *t, uint32_t made)
{
    if (t->ranks != NULL && made != TOK_NONE) {
        return tok_field(t->ranks, made - t->base, t->result_bits);
    }
    return made != TOK_NONE && made >= TOK_LATE ? TOK_LATE : made;
}

uint32_t tok_halves(const bitnet_tokenizer *t, uint32_t id, uint32_t *left, uint32_t *right)
{
    tok_permutation order;
    uint32_t place;
    tok_entry e;
    uint32_t k;
    if (id < t->base || id - t->base >= t->results) {
        return 0;
    }
    order.fields = t->permutation;
    order.jumps = t->jumps;
    order.count = t->results;
    order.width = t->result_bits;
    place = tok_place(&order, id - t->base);
    if (place >= t->merges) {
        return 0;
    }
    tok_sample(t, place >> 5, &e);
    for (k = place & 31u; k > 0u; k--) {
        tok_forward(t, &e);
    }
    *left = e.left;
    *right = e.right;
    return 1;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Every entry in turn: ascending, ids that exist, samples and codes that agree. */
static bitnet_status tok_check_entries(const bitnet_tokenizer *t)
{
    tok_entry e;
    uint32_t last_left = 0;
    uint32_t last_right = 0;
    uint32_t k;
    e.bit = 0;
    for (k = 0; k < t->merges; k++) {
        if ((k & 31u) == 0u) {
            const uint32_t bit = e.bit;
            tok_sample(t, k >> 5, &e);
            if (e.bit != bit) {
                return BITNET_E_FORMAT;
            }
        } else {
            tok_forward(t, &e);
        }
        if (e.bit > t->code_bits || e.left >= t->vocab_size || e.right >= t->vocab_size ||
            (k > 0u && (e.left < last_left || (e.left == last_left && e.right <= last_right)))) {
            return BITNET_E_FORMAT;
        }
        last_left = e.left;
        last_right = e.right;
    }
    return e.bit == t->code_bits ? BITNET_OK : BITNET_E_FORMAT;
}

static uint32_t tok_ranks_check(const bitnet_tokenizer *t)
{
    uint32_t k = 0;
    while (k < t->results && tok_field(t->ranks, k, t->result_bits) < t->results) {
        k++;
    }
    return k == t->results ? 1u : 0u;
}

static bitnet_status tok_merges_open(bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_MERGES];
    uint32_t left = t->section_bytes[TOK_S_MERGES];
    tok_permutation order;
    uint32_t bytes;
    if (left < 20u) {
        return BITNET_E_FORMAT;
    }
    t->merges = tok_le(p, 4);
    t->results = tok_le(p + 4, 4);
    t->base = tok_le(p + 8, 4);
    t->code_bits = tok_le(p + 12, 4);
    t->longest = tok_le(p + 16, 2);
    t->offset_bits = p[19];
    if (t->merges > t->results || t->base > t->vocab_size || t->results > t->vocab_size - t->base ||
        t->code_bits >= 0x1000000u || t->longest == 0u || t->longest > 1023u || p[18] > TOK_LATES ||
        t->offset_bits != tok_width(t->code_bits)) {
        return BITNET_E_FORMAT;
    }
    t->result_bits = (uint8_t)tok_width(t->results == 0u ? 0u : t->results - 1u);
    p += 20;
    left -= 20u;
    bytes = tok_packed((t->merges + 31u) >> 5, 2u * t->id_bits + t->offset_bits);
    if (bytes > left) {
        return BITNET_E_FORMAT;
    }
    t->stream = p + bytes;
    left -= bytes;
    bytes = (t->code_bits + 7u) >> 3;
    if (bytes > left) {
        return BITNET_E_FORMAT;
    }
    t->permutation = t->stream + bytes;
    left -= bytes;
    if (t->results > 0u) {
        bytes = tok_permutation_open(&order, t->permutation, left, t->results);
        if (bytes == 0u) {
            return BITNET_E_FORMAT;
        }
        t->jumps = order.jumps;
        left -= bytes;
        if (p[-2] == TOK_RANKS) {
            t->ranks = t->permutation + bytes;
            bytes = tok_packed(t->results, t->result_bits);
            if (bytes > left || tok_ranks_check(t) == 0u) {
                return BITNET_E_FORMAT;
            }
            left -= bytes;
        }
    }
    if (p[-2] == TOK_LATES) {
#if BITNET_TOK_LATE
        t->late = order.jumps + tok_packed((t->results + 15u) >> 4, t->result_bits);
        bytes = t->results == 0u ? 0u : tok_late_bytes(t, t->late, left);
        if (bytes == 0u) {
            return BITNET_E_FORMAT;
        }
        left -= bytes;
#else
        return BITNET_E_FEATURE;
#endif
    }
    return left == 0u ? tok_check_entries(t) : BITNET_E_FORMAT;
}

#if BITNET_TOK_CHARS
static bitnet_status tok_chars_open(const bitnet_tokenizer *t)
{
    const uint8_t *p = t->section[TOK_S_CHARS];
    const uint32_t bytes = t->section_bytes[TOK_S_CHARS];
    uint32_t n;
    uint32_t c;
    uint32_t k;
    if (bytes < 8u) {
        return BITNET_E_FORMAT;
    }
    n = tok_le(p, 4);
    c = p[4];
    if (n > TOK_CODE_POINTS || c == 0u || c > 21u || tok_le(p + 5, 3) != 0u ||
        tok_packed(n, c) + tok_packed(n, t->id_bits) != bytes - 8u) {
        return BITNET_E_FORMAT;
    }
    for (k = 0; k < n; k++) {
        const uint32_t point = tok_field(p + 8, k, c);
        if (point >= TOK_CODE_POINTS || (k > 0u && point <= tok_field(p + 8, k - 1u, c)) ||
            tok_field(p + 8 + tok_packed(n, c), k, t->id_bits) >= t->vocab_size) {
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

static uint32_t tok_char_id(const bitnet_tokenizer *t, uint32_t character)
{
    const uint8_t *p = t->section[TOK_S_CHARS];
    const uint32_t n = tok_le(p, 4);
    const uint32_t c = p[4];
    uint32_t low = 0;
    uint32_t high = n;
    while (low < high) {
        const uint32_t middle = low + ((high - low) >> 1);
        const uint32_t point = tok_field(p + 8, middle, c);
        if (point == character) {
            return tok_field(p + 8 + tok_packed(n, c), middle, t->id_bits);
        }
        if (point < character) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return TOK_NONE;
}

uint32_t tok_char_of(const bitnet_tokenizer *t, uint32_t id)
{
    const uint8_t *p = t->section[TOK_S_CHARS];
    uint32_t n;
    uint32_t k;
    if (p == NULL) {
        return TOK_NONE;
    }
    n = tok_le(p, 4);
    for (k = 0; k < n; k++) {
        if (tok_field(p + 8 + tok_packed(n, p[4]), k, t->id_bits) == id) {
            return tok_field(p + 8, k, p[4]);
        }
    }
    return TOK_NONE;
}
#endif

bitnet_status tok_bpe_open(bitnet_tokenizer *t, uint32_t *words)
{
    bitnet_status status = BITNET_OK;
    t->longest = 1;
    if (t->section[TOK_S_MERGES] != NULL) {
        status = tok_merges_open(t);
    }
#if BITNET_TOK_CHARS
    if (status == BITNET_OK && t->model == TOK_CHARS_BPE) {
        status = tok_chars_open(t);
    }
#endif
    *words = 2u * ((t->longest > 32u ? 4u * t->longest : 128u) + 3u * t->longest);
    return status;
}

/* ---- merging ----------------------------------------------------------------------------- */

/* Merges `n` tokens in place: the pair of the lowest rank first, the leftmost of equals. Returns
 * how many are left. made[i] is what the tokens i and i + 1 would become. Each turn goes over
 * all tokens once and makes all merges of the lowest rank, unless one of them gives a pair
 * that has to be merged before the next of them. */
static uint32_t tok_merge(const bitnet_tokenizer *t, uint32_t *tokens, uint32_t *made, uint32_t n)
{
    uint32_t k;
    tok_memo before;
    tok_memo behind;
    before.left = TOK_NONE;
    behind.left = TOK_NONE;
    for (k = 0; k + 1u < n; k++) {
        made[k] = tok_pair_again(t, &before, tokens[k], tokens[k + 1u]);
    }
    while (n > 1u) {
        uint32_t best = TOK_NONE;
        uint32_t to = 0;
        uint32_t more = 1;
        for (k = 0; k + 1u < n; k++) {
            const uint32_t rank = tok_rank(t, made[k]);
            best = rank < best ? rank : best;
        }
        if (best == TOK_NONE) {
            break;
        }
        for (k = 0; k < n; k++) {
            tokens[to] = tokens[k];
            if (k + 1u < n) {
                const uint32_t id = made[k] & TOK_ID;
                made[to] = made[k];
                if (more != 0u && tok_rank(t, made[k]) == best) {
                    tokens[to] = id | ((tokens[k] + tokens[k + 1u] - (tokens[k + 1u] & TOK_ID)) & ~TOK_ID);
                    k++;
                    if (k + 1u < n) {
                        made[to] = tok_pair_again(t, &behind, id, tokens[k + 1u]);
                        more = tok_rank(t, made[to]) > best ? 1u : 0u;
                    }
                    if (to > 0u) {
                        made[to - 1u] = tok_pair_again(t, &before, tokens[to - 1u], id);
                        more = tok_rank(t, made[to - 1u]) > best ? more : 0u;
                    }
                }
            }
            to++;
        }
        n = to;
    }
    return n;
}

/* The first token of what `n` atoms become; 0 if they do not fit the scratch. */
static uint32_t tok_first(const bitnet_tokenizer *t, const uint32_t *atoms, uint32_t n, uint32_t *scratch,
                          uint32_t words)
{
    uint32_t k;
    if (n > (words >> 1)) {
        return 0;
    }
    for (k = 0; k < n; k++) {
        scratch[k] = atoms[k];
    }
    (void)tok_merge(t, scratch, scratch + n, n);
    return scratch[0];
}

/* How many of the tokens of a full window no text behind it can change. A text that goes on has
 * a boundary at the window's end or at one of the last L - 1 places before it. For each such
 * place j: what is before it is merged alone, and a boundary b of the window's tokens is one
 * there too if the token before b and the first one of merging b ... j stay apart. */
static uint32_t tok_certain(const bitnet_tokenizer *t, const uint32_t *atoms, uint32_t window,
                            const uint32_t *tokens, uint32_t *scratch, uint32_t words)
{
    const uint32_t early = window - t->longest;
    uint32_t certain = 0;
    uint32_t at = 0; /* token `here` starts here */
    uint32_t here = 0;
    uint32_t j;
    uint32_t known = 0;
    while (at + (tokens[certain] >> 20) <= early) {
        at += tokens[certain] >> 20;
        certain++;
    }
    here = certain;
    for (j = early + 1u; j < window; j++) {
        uint32_t b;
        uint32_t k;
        while (at + (tokens[here] >> 20) <= j) {
            at += tokens[here] >> 20;
            here++;
            known = 0;
        }
        b = at;
        for (k = here; k > 0u && b != j; k--) {
            const uint32_t first = tok_first(t, atoms + b, j - b, scratch, words);
            const uint32_t before = tokens[k - 1u] >> 20;
            if (k == here && first == known) {
                break;
            }
            if (first != 0u &&
                tok_first(t, atoms + b - before, before + (first >> 20), scratch, words) == tokens[k - 1u]) {
                known = k == here ? first : known;
                break;
            }
            b -= before;
        }
        certain = k < certain ? k : certain;
    }
    return certain;
}

/* ---- words ------------------------------------------------------------------------------- */

/* Gives the atoms of a word. */
typedef struct {
    tok_cursor at;
    uint8_t bytes[4]; /* of a character that is given byte by byte */
    uint32_t count;
    uint32_t next;
    uint32_t unknown; /* the last atom was the unknown one */
} tok_atoms;

static uint32_t tok_atom(const bitnet_tokenizer *t, tok_stream *s, tok_atoms *a)
{
    for (;;) {
        uint32_t c;
        uint32_t id;
        if (a->next < a->count) {
            id = tok_byte_id(t, a->bytes[a->next]);
            a->next++;
            if (id == TOK_NONE) {
                continue;
            }
            return id | TOK_ONE;
        }
        c = tok_next(t, s, &a->at);
        if (c == TOK_END) {
            return 0;
        }
#if BITNET_TOK_CHARS
        if (t->model == TOK_CHARS_BPE) {
            id = tok_char_id(t, c);
            if (id == TOK_NONE && tok_falls_back(t, c) == 0u) {
                id = tok_unknown(t);
                if (id == TOK_NONE || (a->unknown != 0u && (tok_model_flags(t) & TOK_FUSE) != 0u)) {
                    continue;
                }
                a->unknown = 1;
                return id | TOK_ONE;
            }
            a->unknown = 0;
            if (id != TOK_NONE) {
                return id | TOK_ONE;
            }
        }
#endif
        a->count = tok_spell(c, a->bytes);
        a->next = 0;
    }
}

static void tok_rewind(tok_atoms *a, const tok_cursor *at)
{
    tok_copy(&a->at, at);
    a->count = 0;
    a->next = 0;
    a->unknown = 0;
}

bitnet_status tok_bpe(const bitnet_tokenizer *t, tok_stream *s, const tok_cursor *at, tok_out *out)
{
    uint32_t *atoms = s->model;
    const uint32_t words = t->work_words - t->normal_words;
    const uint32_t room = words >> 1;
    uint32_t window = room - 3u * t->longest;
    uint32_t *tokens = atoms;
    uint32_t *scratch = atoms + room;
    uint32_t n = 0;
    uint32_t k;
    tok_atoms a;

    tok_rewind(&a, at);
    k = tok_atom(t, s, &a);
    while (k != 0u && n < room) {
        atoms[n] = k;
        n++;
        k = tok_atom(t, s, &a);
    }
    if (k != 0u) {
        /* Longer than the scratch: windows of W atoms, or a third of the scratch, beside their
         * tokens and what is left for looking at the window's end. */
        const uint32_t third = (words * 21u) >> 6;
        window = window < third ? window : third;
        tokens = atoms + window;
        scratch = tokens + window;
        tok_rewind(&a, at);
        n = 0;
    }
    for (;;) {
        uint32_t count;
        uint32_t used = 0;
        uint32_t last = 1;
        if (tokens != atoms) {
            last = 0;
            while (n < window && last == 0u) {
                k = tok_atom(t, s, &a);
                if (k == 0u) {
                    last = 1;
                } else {
                    atoms[n] = k;
                    n++;
                }
            }
            for (k = 0; k < n; k++) {
                tokens[k] = atoms[k];
            }
        }
        count = tok_merge(t, tokens, scratch, n);
        if (last == 0u) {
            count = tok_certain(t, atoms, window, tokens, scratch, words - 2u * window);
            if (count == 0u) {
                return BITNET_E_CAPACITY;
            }
        }
        for (k = 0; k < count; k++) {
            if (tok_put(out, tokens[k] & TOK_ID) != BITNET_OK) {
                return BITNET_E_CAPACITY;
            }
            used += tokens[k] >> 20;
        }
        if (last != 0u) {
            return BITNET_OK;
        }
        n -= used;
        for (k = 0; k < n; k++) {
            atoms[k] = atoms[used + k];
        }
    }
}

#endif
