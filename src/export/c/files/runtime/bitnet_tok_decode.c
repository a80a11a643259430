/* Device tokenizer: ids to text. */
#include "bitnet_tok.h"

#define TOK_STACK 32u

enum { TOK_D_UNDERLINE = 1, TOK_D_STRIP = 2, TOK_D_JOIN = 4, TOK_D_CLEAN = 8, TOK_D_STRIP_ALL = 16 };

static uint32_t tok_decoder_flags(const bitnet_tokenizer *t)
{
    return t->section[TOK_S_DECODER] == NULL ? 0u : t->section[TOK_S_DECODER][0];
}

/* ---- the bytes of one token -------------------------------------------------------------- */

static bitnet_status tok_write(tok_sink *sink, uint32_t byte)
{
    if (sink->n >= sink->cap) {
        return BITNET_E_CAPACITY;
    }
    sink->out[sink->n] = (uint8_t)byte;
    sink->n++;
    return BITNET_OK;
}

/* The bytes of U+2581 are held back until it is certain that they are: the token as decoded is
 * shorter than as spelled, and so may be the room for it. */
static bitnet_status tok_flush(tok_sink *sink)
{
    bitnet_status status = BITNET_OK;
    if (BITNET_TOK_UNDERLINES == 0) {
        return status;
    }
    if (sink->waiting > 0u) {
        status = tok_write(sink, 0xe2u);
    }
    if (sink->waiting > 1u && status == BITNET_OK) {
        status = tok_write(sink, 0x96u);
    }
    sink->waiting = 0;
    return status;
}

bitnet_status tok_emit(tok_sink *sink, uint32_t byte)
{
#if BITNET_TOK_UNDERLINES
    bitnet_status status;
    if (sink->underline != 0u) {
        if (sink->waiting == 1u && byte == 0x96u) {
            sink->waiting = 2;
            return BITNET_OK;
        }
        if (sink->waiting == 2u && byte == 0x81u) {
            sink->waiting = 0;
            sink->space |= sink->n == 0u ? 1u : 0u;
            return tok_write(sink, 0x20u);
        }
        status = tok_flush(sink);
        if (status != BITNET_OK) {
            return status;
        }
        if (byte == 0xe2u) {
            sink->waiting = 1;
            return BITNET_OK;
        }
    }
#endif
    return tok_write(sink, byte);
}

static uint32_t tok_literal_of(const bitnet_tokenizer *t, uint32_t id, tok_literal *literal)
{
    const uint8_t *p = NULL;
    while (tok_next_literal(t, &p, literal) != 0u) {
        if (literal->id == id) {
            return 1;
        }
    }
    return 0;
}

static uint32_t tok_byte_of(const bitnet_tokenizer *t, uint32_t id)
{
    const uint8_t *run = t->section[TOK_S_BYTES];
    uint32_t left;
    for (left = t->section_bytes[TOK_S_BYTES]; left > 0u; left -= 5u) {
        const uint32_t first = tok_le(run, 3);
        if (id >= first && id - first <= run[4]) {
            return (uint32_t)run[3] + (id - first);
        }
        run += 5;
    }
    return TOK_NONE;
}

/* Bytes of an id that no merge makes. */
static bitnet_status tok_atom_bytes(const bitnet_tokenizer *t, uint32_t id, tok_sink *sink)
{
    const uint32_t byte = tok_byte_of(t, id);
    if (byte != TOK_NONE) {
        return tok_emit(sink, byte);
    }
#if BITNET_TOK_CHARS
    {
        const uint32_t c = tok_char_of(t, id);
        bitnet_status status = BITNET_OK;
        uint8_t bytes[4];
        uint32_t n;
        uint32_t k;
        if (c != TOK_NONE) {
            n = tok_spell(c, bytes);
            for (k = 0; k < n && status == BITNET_OK; k++) {
                status = tok_emit(sink, bytes[k]);
            }
            return status;
        }
    }
#endif
#if BITNET_TOK_UNIGRAM || BITNET_TOK_WORDPIECE
    if (t->section[TOK_S_PIECES] != NULL) {
        return tok_piece_bytes(t, id, sink);
    }
#endif
    return BITNET_E_TOKEN;
}

static bitnet_status tok_token(const bitnet_tokenizer *t, uint32_t id, tok_sink *sink)
{
    bitnet_status status = BITNET_OK;
    tok_literal literal;
    uint32_t k;
    if (id >= t->vocab_size) {
        return BITNET_E_TOKEN;
    }
    if (tok_literal_of(t, id, &literal) != 0u) {
        for (k = 0; k < literal.spelled && status == BITNET_OK; k++) {
            status = tok_emit(sink, literal.spelling[k]);
        }
        return status == BITNET_OK ? tok_flush(sink) : status;
    }
#if BITNET_TOK_BPE
    if (t->merges > 0u) {
        uint32_t pending[TOK_STACK];
        uint32_t depth = 0;
        uint32_t turns = 0;
        /* Each turn adds bytes or a pending half, and both are bounded; an atom may add none
         * yet, where it is held back. */
        for (;;) {
            uint32_t left;
            uint32_t right;
            if (tok_halves(t, id, &left, &right) != 0u) {
                if (depth >= TOK_STACK) {
                    return BITNET_E_FORMAT;
                }
                pending[depth] = right;
                depth++;
                id = left;
                continue;
            }
            status = tok_atom_bytes(t, id, sink);
            if (status == BITNET_E_TOKEN) {
                return (turns == 0u && depth == 0u) ? BITNET_E_TOKEN : BITNET_E_FORMAT;
            }
            turns++;
            if (status == BITNET_OK && (sink->n > t->max_token_bytes || turns > 3u * t->max_token_bytes + 3u)) {
                status = BITNET_E_FORMAT;
            }
            if (status != BITNET_OK) {
                return status;
            }
            if (depth == 0u) {
                return tok_flush(sink);
            }
            depth--;
            id = pending[depth];
        }
    }
#endif
    status = tok_atom_bytes(t, id, sink);
    return status == BITNET_OK ? tok_flush(sink) : status;
}

uint32_t bitnet_tok_is_special(const bitnet_tokenizer *t, uint32_t id)
{
    const uint8_t *p = NULL;
    tok_literal literal;
    if (t == NULL || t->blob == NULL) {
        return 0;
    }
    while (tok_next_literal(t, &p, &literal) != 0u) {
        if (literal.id == id && (literal.flags & TOK_SPECIAL) != 0u) {
            return 1;
        }
    }
    return 0;
}

static bitnet_status tok_decode(const bitnet_tokenizer *t, uint32_t id, uint8_t *out, uint32_t cap, uint32_t *out_n,
                                tok_sink *sink)
{
    if (t == NULL || out_n == NULL || (out == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    if (t->blob == NULL) {
        return BITNET_E_STATE;
    }
    sink->out = out;
    sink->cap = cap;
    sink->n = 0;
    sink->underline = tok_decoder_flags(t) & TOK_D_UNDERLINE;
    sink->waiting = 0;
    sink->space = 0;
    return tok_token(t, id, sink);
}

bitnet_status vocab_decode(const bitnet_tokenizer *t, uint32_t id, uint8_t *out, uint32_t cap, uint32_t *out_n)
{
    tok_sink sink;
    const bitnet_status status = tok_decode(t, id, out, cap, out_n, &sink);
    if (status == BITNET_OK) {
        *out_n = sink.n;
    }
    return status;
}

/* ---- a text ------------------------------------------------------------------------------ */

void bitnet_tok_decode_start(bitnet_tok_decoder *state)
{
    if (state != NULL) {
        state->count = 0;
        state->started = 0;
        state->text = 0;
        state->each = 0;
    }
}

#if BITNET_TOK_WORDPIECE
/* The bytes `find` become `with`, which is not longer, wherever they are. Returns the new length. */
static uint32_t tok_replace(uint8_t *text, uint32_t n, const char *find, const char *with)
{
    uint32_t from = 0;
    uint32_t to = 0;
    while (from < n) {
        uint32_t k = 0;
        while (find[k] != '\0' && from + k < n && text[from + k] == (uint8_t)find[k]) {
            k++;
        }
        if (find[k] == '\0') {
            from += k;
            for (k = 0; with[k] != '\0'; k++) {
                text[to] = (uint8_t)with[k];
                to++;
            }
        } else {
            text[to] = text[from];
            to++;
            from++;
        }
    }
    return to;
}

/* What WordPiece does to the token in `out`: continuing pieces lose their prefix, others get a
 * space in front, and both may be cleaned up. */
static bitnet_status tok_join(const bitnet_tokenizer *t, const bitnet_tok_decoder *state, tok_sink *sink)
{
    const uint8_t *model = t->section[TOK_S_MODEL];
    const uint32_t length = model == NULL ? 0u : model[9];
    uint32_t k = 0;
    if (state->started != 0u) {
        while (k < length && k < sink->n && sink->out[k] == model[12u + k]) {
            k++;
        }
        if (k == length) {
            sink->n -= k;
            for (k = 0; k < sink->n; k++) {
                sink->out[k] = sink->out[k + length];
            }
        } else {
            if (sink->n >= sink->cap) {
                return BITNET_E_CAPACITY;
            }
            for (k = sink->n; k > 0u; k--) {
                sink->out[k] = sink->out[k - 1u];
            }
            sink->out[0] = 0x20u;
            sink->n++;
        }
    }
    if ((tok_decoder_flags(t) & TOK_D_CLEAN) != 0u) {
        static const char pairs[11][2][9] = {
            {" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"},
            {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
        };
        for (k = 0; k < 11u; k++) {
            sink->n = tok_replace(sink->out, sink->n, pairs[k][0], pairs[k][1]);
        }
    }
    return BITNET_OK;
}
#endif

/* Byte by byte: for a structure a compiler may call memcpy. */
static void tok_keep(bitnet_tok_decoder *to, const bitnet_tok_decoder *from)
{
    uint32_t k;
    for (k = 0; k < 4u; k++) {
        to->held[k] = from->held[k];
    }
    to->count = from->count;
    to->started = from->started;
    to->text = from->text;
    to->each = from->each;
}

/* How many bytes a sequence that starts with `byte` has, 0 if none does. */
static uint32_t tok_sequence(uint32_t byte)
{
    if (byte < 0x80u) {
        return 1;
    }
    if (byte < 0xc2u || byte > 0xf4u) {
        return 0;
    }
    return byte < 0xe0u ? 2u : (byte < 0xf0u ? 3u : 4u);
}

/* 1 if `byte` may follow the bytes of a sequence that are held. */
static uint32_t tok_continues(const bitnet_tok_decoder *state, uint32_t byte)
{
    const uint32_t first = state->held[0];
    uint32_t low = 0x80u;
    uint32_t high = 0xbfu;
    if (state->count == 1u) {
        low = first == 0xe0u ? 0xa0u : (first == 0xf0u ? 0x90u : low);
        high = first == 0xedu ? 0x9fu : (first == 0xf4u ? 0x8fu : high);
    }
    return byte >= low && byte <= high ? 1u : 0u;
}

/* U+FFFD for the start of a sequence that is held: one, or one for each of its bytes. */
static bitnet_status tok_broken(bitnet_tok_decoder *state, tok_sink *sink)
{
    uint32_t left = state->each != 0u ? state->count : 1u;
    bitnet_status status = BITNET_OK;
    state->count = 0;
    for (; left > 0u && status == BITNET_OK; left--) {
        status = tok_write(sink, 0xefu);
        if (status == BITNET_OK) {
            status = tok_write(sink, 0xbfu);
        }
        if (status == BITNET_OK) {
            status = tok_write(sink, 0xbdu);
        }
    }
    return status;
}

/* One byte of the text: what is whole goes out, what cannot become a character is U+FFFD. */
static bitnet_status tok_byte(bitnet_tok_decoder *state, tok_sink *sink, uint32_t byte)
{
    bitnet_status status = BITNET_OK;
    uint32_t k;
    if (state->count > 0u && tok_continues(state, byte) == 0u) {
        status = tok_broken(state, sink);
    }
    if (status != BITNET_OK) {
        return status;
    }
    state->held[state->count] = (uint8_t)byte;
    state->count++;
    if (tok_sequence(state->held[0]) == 0u) {
        return tok_broken(state, sink);
    }
    if (state->count == tok_sequence(state->held[0])) {
        for (k = 0; k < state->count && status == BITNET_OK; k++) {
            status = tok_write(sink, state->held[k]);
        }
        state->count = 0;
    }
    return status;
}

bitnet_status bitnet_tok_decode(const bitnet_tokenizer *t, bitnet_tok_decoder *state, uint32_t id, uint8_t *out,
                                uint32_t cap, uint32_t *out_n)
{
    bitnet_tok_decoder next;
    tok_sink sink;
    bitnet_status status;
    uint32_t from;
    uint32_t to;
    uint32_t flags;
    uint32_t k;
    if (state == NULL) {
        return BITNET_E_NULL;
    }
    status = tok_decode(t, id, out, cap, out_n, &sink);
#if BITNET_TOK_WORDPIECE
    if (status == BITNET_OK && (tok_decoder_flags(t) & TOK_D_JOIN) != 0u) {
        status = tok_join(t, state, &sink);
    }
#endif
    if (status != BITNET_OK) {
        return status;
    }
    flags = tok_decoder_flags(t);
    tok_keep(&next, state);
    next.each = t->model != TOK_BYTES_BPE ? 1u : 0u;
    k = BITNET_TOK_UNDERLINES != 0 && sink.space != 0u && (flags & TOK_D_STRIP) != 0u &&
                ((flags & TOK_D_STRIP_ALL) != 0u ? next.text : next.started) == 0u
            ? 1u
            : 0u;
    next.started = 1;
    if (sink.n > k) {
        next.text = 1;
    }
    /* The token goes to the end of the room and from there through the state to its start. */
    from = cap - (sink.n - k);
    to = cap;
    for (; sink.n > k; sink.n--) {
        to--;
        out[to] = out[sink.n - 1u];
    }
    sink.n = 0;
    for (; from < cap && status == BITNET_OK; from++) {
        sink.cap = from + 1u; /* behind it is what is still to be read */
        status = tok_byte(&next, &sink, out[from]);
    }
    if (status == BITNET_OK) {
        tok_keep(state, &next);
        *out_n = sink.n;
    }
    return status;
}

bitnet_status bitnet_tok_decode_end(bitnet_tok_decoder *state, uint8_t *out, uint32_t cap, uint32_t *out_n)
{
    tok_sink sink;
    bitnet_status status = BITNET_OK;
    if (state == NULL || out_n == NULL || (out == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    sink.out = out;
    sink.cap = cap;
    sink.n = 0;
    if (state->count > 0u) {
        status = tok_broken(state, &sink);
    }
    if (status == BITNET_OK) {
        bitnet_tok_decode_start(state);
        *out_n = sink.n;
    }
    return status;
}
