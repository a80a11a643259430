/* Device tokenizer; see bitnet_tokenizer.h: literals, text to ids. The same tokenizer as
 * src/tokenizer/device in Rust, which is the definition: the two are compared on every test
 * text. */
#include "bitnet_tok.h"

/* ---- text to ids ------------------------------------------------------------------------- */

bitnet_status tok_put(tok_out *out, uint32_t id)
{
    if (out->n >= out->cap) {
        return BITNET_E_CAPACITY;
    }
    out->ids[out->n] = id;
    out->n++;
    return BITNET_OK;
}

/* Goes through a text, or through the normalized form of a segment, from literal to literal. */
typedef struct {
    tok_cursor start; /* behind the last literal and the white space it took */
    tok_cursor at;    /* where the next one is looked for */
#if BITNET_TOK_STRIPS
    tok_cursor blank; /* start of the white space before `at` */
    uint32_t taken;   /* characters of white space that were taken and are still to be gone over */
#endif
} tok_scan;

static void tok_scan_from(tok_scan *scan, const tok_cursor *at)
{
    tok_copy(&scan->start, at);
    tok_copy(&scan->at, at);
#if BITNET_TOK_STRIPS
    tok_copy(&scan->blank, at);
    scan->taken = 0;
#endif
}

static void tok_start(tok_stream *s, tok_cursor *at)
{
    at->at = 0;
#if BITNET_TOK_NORMAL
    at->step = 0;
    at->state = 0;
    at->kept = 0;
#endif
    at->front = 0;
    tok_copy(&s->stop, at);
    s->stop.at = TOK_END;
    s->seen_first = 0;
    s->seen_end = 0;
    s->seen_class = 0;
}

/* 1 if the literal is at the cursor, which is then moved behind it. */
static uint32_t tok_follows(const bitnet_tokenizer *t, tok_stream *s, tok_cursor *at, const tok_literal *literal)
{
    tok_cursor next;
    uint32_t j = 0;
    tok_copy(&next, at);
    while (j < literal->length) {
        uint8_t bytes[4];
        uint32_t k;
        const uint32_t c = tok_next(t, s, &next);
        const uint32_t n = tok_spell(c, bytes);
        if (c == TOK_END) {
            return 0;
        }
        for (k = 0; k < n; k++) {
            if (j >= literal->length || literal->bytes[j] != bytes[k]) {
                return 0;
            }
            j++;
        }
    }
    tok_copy(at, &next);
    return 1;
}

/* The next literal that is looked for in the text (`level` 0) or in its normalized form
 * (TOK_NORMALIZED). Returns 1, its id, and in `from` ... `to` what is between it and the one
 * before; 0 with all that is left. */
static uint32_t tok_find(const bitnet_tokenizer *t, tok_stream *s, tok_scan *scan, uint32_t level, tok_cursor *from,
                         tok_cursor *to, uint32_t *id)
{
    tok_copy(from, &scan->start);
    for (;;) {
        uint8_t bytes[4];
        const uint8_t *p = NULL;
        tok_literal literal;
        tok_cursor next;
        uint32_t c;
        tok_copy(&next, &scan->at);
        c = tok_next(t, s, &next);
        if (c == TOK_END) {
            tok_copy(to, &s->stop);
            return 0;
        }
        (void)tok_spell(c, bytes);
        if (((t->starts[bytes[0] >> 5] >> (bytes[0] & 31u)) & 1u) != 0u) {
            while (tok_next_literal(t, &p, &literal) != 0u) {
                tok_cursor behind;
                tok_copy(&behind, &scan->at);
                if ((literal.flags & (TOK_MATCH | TOK_NORMALIZED)) != (TOK_MATCH | level) ||
                    literal.bytes[0] != bytes[0] || tok_follows(t, s, &behind, &literal) == 0u) {
                    continue;
                }
                *id = literal.id;
#if BITNET_TOK_STRIPS
                tok_copy(to, scan->taken != 0u ? &scan->start
                                               : ((literal.flags & TOK_LSTRIP) != 0u ? &scan->blank : &scan->at));
#else
                tok_copy(to, &scan->at);
#endif
                tok_scan_from(scan, &behind);
#if BITNET_TOK_STRIPS
                if ((literal.flags & TOK_RSTRIP) != 0u) {
                    tok_copy(&next, &behind);
                    while (tok_is_white(tok_next(t, s, &next)) != 0u) {
                        tok_copy(&behind, &next);
                        scan->taken++;
                    }
                }
                tok_copy(&scan->start, &behind);
#endif
                return 1;
            }
        }
        tok_copy(&scan->at, &next);
#if BITNET_TOK_STRIPS
        if (scan->taken != 0u) {
            scan->taken--;
            tok_copy(&scan->blank, &next);
        } else if (tok_is_white(c) == 0u) {
            tok_copy(&scan->blank, &next);
        }
#endif
    }
}

#if BITNET_TOK_NORMAL
/* Ids of the literals of a segment's normalized form and of the pieces between them. */
static bitnet_status tok_pieces(const bitnet_tokenizer *t, tok_stream *s, const tok_cursor *start, tok_out *out)
{
    tok_scan scan;
    tok_cursor from;
    tok_cursor to;
    bitnet_status status;
    uint32_t found = 1;
    uint32_t id = 0;
    tok_scan_from(&scan, start);
    do {
        tok_cursor end;
        tok_copy(&end, &s->stop);
        found = tok_find(t, s, &scan, TOK_NORMALIZED, &from, &to, &id);
        tok_copy(&s->stop, &to);
        status = tok_piece(t, s, &from, out);
        tok_copy(&s->stop, &end);
        if (status == BITNET_OK && found != 0u) {
            status = tok_put(out, id);
        }
    } while (status == BITNET_OK && found != 0u);
    return status;
}
#endif

/* Ids of a segment. */
static bitnet_status tok_segment(const bitnet_tokenizer *t, tok_stream *s, tok_out *out)
{
    tok_cursor start;
    tok_start(s, &start);
#if BITNET_TOK_NORMAL
    if (t->section[TOK_S_NORMAL] != NULL) {
        tok_normal_start(t, s);
    }
    if ((t->literal_flags & TOK_NORMALIZED) != 0u) {
        return tok_pieces(t, s, &start, out);
    }
#endif
    return tok_piece(t, s, &start, out);
}

static void tok_open_stream(const bitnet_tokenizer *t, tok_stream *s, const uint8_t *text, uint32_t n)
{
    s->text = text;
    s->n = n;
#if BITNET_TOK_NORMAL
    s->raw = 0;
#endif
    s->normal = t->work;
    s->model = t->work + t->normal_words;
}

bitnet_status tokenize_c(const bitnet_tokenizer *t, const uint8_t *utf8, uint32_t n, uint32_t *ids,
                         uint32_t cap, uint32_t *out_n)
{
    tok_stream text;
    tok_stream segment;
    tok_scan scan;
    tok_cursor from;
    tok_cursor to;
    tok_out out;
    uint32_t found = 0;
    uint32_t id = 0;
    bitnet_status status = BITNET_OK;

    if (t == NULL || out_n == NULL || (utf8 == NULL && n > 0u) || (ids == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    if (t->blob == NULL || t->work == NULL) {
        return BITNET_E_STATE;
    }
    if (n > TOK_MAX_TEXT) {
        return BITNET_E_CAPACITY;
    }
    out.ids = ids;
    out.cap = cap;
    out.n = 0;
    tok_open_stream(t, &text, utf8, n);
    tok_start(&text, &from);
    tok_open_stream(t, &segment, utf8, n);
#if BITNET_TOK_NORMAL
    text.raw = 1;
#endif
    tok_scan_from(&scan, &from);
    do {
        if ((t->literal_flags & TOK_MATCH) != 0u) {
            found = tok_find(t, &text, &scan, 0, &from, &to, &id);
        } else {
            tok_copy(&to, &text.stop);
        }
        segment.first = from.at == 0u ? 1u : 0u;
        segment.last = 1u - found;
        segment.text = utf8 == NULL ? utf8 : utf8 + from.at;
        segment.n = (to.at < n ? to.at : n) - from.at;
        /* A normalizer may have a front character for the start of the text even where a
         * literal is there. */
        if (segment.n > 0u || (segment.first != 0u && n > 0u)) {
            status = tok_segment(t, &segment, &out);
        }
        if (status == BITNET_OK && found != 0u) {
            status = tok_put(&out, id);
        }
    } while (status == BITNET_OK && found != 0u);
    if (status == BITNET_OK) {
        *out_n = out.n;
    }
    return status;
}

bitnet_status bitnet_tok_template(const bitnet_tokenizer *t, uint32_t after, uint32_t *ids, uint32_t cap,
                                  uint32_t *out_n)
{
    const uint8_t *p;
    uint32_t count;
    uint32_t k;
    if (t == NULL || out_n == NULL || (ids == NULL && cap > 0u)) {
        return BITNET_E_NULL;
    }
    *out_n = 0;
    if (t->blob == NULL) {
        return BITNET_E_STATE;
    }
    p = t->section[TOK_S_TEMPLATE];
    if (p == NULL) {
        return BITNET_OK;
    }
    count = after != 0u ? p[1] : p[0];
    if (count > cap) {
        return BITNET_E_CAPACITY;
    }
    p += 4u + (after != 0u ? 4u * p[0] : 0u);
    for (k = 0; k < count; k++) {
        ids[k] = tok_le(p + 4u * k, 4);
    }
    *out_n = count;
    return BITNET_OK;
}
