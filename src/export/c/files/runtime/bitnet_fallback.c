/*
 * bitnet_fallback.c - an answer for a text, or what takes its place
 * (docs/fallback.md).
 */
#include "bitnet_fallback.h"
#include "bitnet_internal.h"
#include "bitnet_poison.h"

/* ---- the model's answer -------------------------------------------------------------- */

static bitnet_status failed(bitnet_service *s, bitnet_cause cause, bitnet_status st)
{
    if (st != BITNET_OK) {
        s->cause = cause;
    }
    return st;
}

bitnet_status bitnet_service_start(bitnet_service *s, const void *model, uint32_t model_bytes,
                                   const bitnet_config_t *config, void *arena, uint32_t arena_bytes, bitnet_test test)
{
    bitnet_status st;
    uint32_t i;
    if (s == (bitnet_service *)0 || s->ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    s->model = (const uint8_t *)model;
    s->model_bytes = model_bytes;
    s->cause = BITNET_CAUSE_NONE;
    s->last_bytes = 0u;
    s->reports = 0u;
    s->recent_count = 0u;
    for (i = 0u; i < BITNET_RECENT_IDS; i++) {
        s->recent[i] = BITNET_NO_ID;
    }
    s->ctx->state = 0u;
    st = s->logits == (int32_t *)0 || s->ids == (uint32_t *)0 ? BITNET_E_NULL : BITNET_OK;
    if (st == BITNET_OK) {
        st = bitnet_init(s->ctx, model, model_bytes, config, arena, arena_bytes);
    }
    if (st == BITNET_OK && bitnet_result_length(s->ctx) > s->logit_capacity) {
        st = BITNET_E_CAPACITY;
    }
    st = failed(s, BITNET_CAUSE_START, st);
    if (st == BITNET_OK) {
        (void)bitnet_set_guard(s->ctx, s->guard);
        st = failed(s, BITNET_CAUSE_STACK, bitnet_check_guard(s->ctx));
    }
    if (st == BITNET_OK && test != BITNET_TEST_NONE) {
        st = failed(s, BITNET_CAUSE_SELFTEST,
                    test == BITNET_TEST_FULL ? bitnet_selftest(s->ctx, s->logits)
                                             : bitnet_selftest_quick(s->ctx, s->logits));
    }
    s->status = st;
    return st;
}

static void note(bitnet_service *s, const uint32_t *ids, uint32_t n)
{
    uint32_t i;
    uint32_t k;
    for (i = n > BITNET_RECENT_IDS ? n - BITNET_RECENT_IDS : 0u; i < n; i++) {
        if (s->recent_count < BITNET_RECENT_IDS) {
            s->recent[s->recent_count] = ids[i];
            s->recent_count += 1u;
            continue;
        }
        for (k = 1u; k < BITNET_RECENT_IDS; k++) {
            s->recent[k - 1u] = s->recent[k];
        }
        s->recent[BITNET_RECENT_IDS - 1u] = ids[i];
    }
}

static bitnet_status to_ids(bitnet_service *s, const bitnet_tokenizer *tok, const uint8_t *text, uint32_t n,
                            uint32_t *count)
{
    uint32_t before = 0u;
    uint32_t middle = 0u;
    uint32_t after = 0u;
    bitnet_status st = bitnet_tok_template(tok, 0u, s->ids, s->id_capacity, &before);
    if (st == BITNET_OK) {
        st = tokenize_c(tok, text, n, s->ids + before, s->id_capacity - before, &middle);
    }
    if (st == BITNET_OK) {
        st = bitnet_tok_template(tok, 1u, s->ids + before + middle, s->id_capacity - before - middle, &after);
    }
    *count = before + middle + after;
    return st;
}

static bitnet_status ask(bitnet_service *s, const uint8_t *text, uint32_t n, uint8_t *out, uint32_t cap, uint32_t *length)
{
    bitnet_ctx *c = s->ctx;
    bitnet_tokenizer tok;
    bitnet_tok_decoder decoder;
    uint32_t count = 0u;
    uint32_t bytes = 0u;
    uint32_t i;
    bitnet_status st;
    if (s->status != BITNET_OK) {
        return s->status; /* with the cause it had */
    }
    st = failed(s, BITNET_CAUSE_STACK, bitnet_check_guard(c));
    if (st == BITNET_OK && bitnet_mode(c) == BITNET_MODE_FAILED) {
        st = failed(s, BITNET_CAUSE_SELFTEST, BITNET_E_SELFTEST);
    }
    if (st == BITNET_OK) {
        st = failed(s, BITNET_CAUSE_TOKENS, bitnet_tokenizer_of(c, &tok, s->work, s->work_words));
    }
    if (st == BITNET_OK) {
        st = failed(s, BITNET_CAUSE_TOKENS, to_ids(s, &tok, text, n, &count));
    }
    if (st == BITNET_OK) {
        st = failed(s, BITNET_CAUSE_RUN, bitnet_reset(c));
    }
    if (st == BITNET_OK) {
        note(s, s->ids, count);
        st = failed(s, BITNET_CAUSE_RUN, bitnet_run(c, s->ids, count, s->logits));
    }
    bitnet_tok_decode_start(&decoder);
    for (i = 0u; i < s->most_tokens && st == BITNET_OK; i++) {
        uint32_t id = argmax(s->logits, bitnet_vocab(c));
        if (bitnet_is_eos(c, id) != 0u) {
            break;
        }
        note(s, &id, 1u);
        if (bitnet_tok_is_special(&tok, id) == 0u) {
            st = bitnet_tok_decode(&tok, &decoder, id, out + *length, cap - *length, &bytes);
            st = failed(s, st == BITNET_E_CAPACITY ? BITNET_CAUSE_LENGTH : BITNET_CAUSE_TEXT, st);
            *length += bytes;
        }
        if (st == BITNET_OK && i + 1u < s->most_tokens) {
            st = failed(s, BITNET_CAUSE_RUN, bitnet_run(c, &id, 1u, s->logits));
        }
    }
    if (st == BITNET_OK) {
        st = bitnet_tok_decode_end(&decoder, out + *length, cap - *length, &bytes);
        st = failed(s, st == BITNET_E_CAPACITY ? BITNET_CAUSE_LENGTH : BITNET_CAUSE_TEXT, st);
        *length += bytes;
    }
    /* what ran over a broken stack is not to be trusted */
    return st == BITNET_OK ? failed(s, BITNET_CAUSE_STACK, bitnet_check_guard(c)) : st;
}

/* ---- rules ------------------------------------------------------------------------------ */

static uint32_t fold(uint8_t b) { return b >= 0x41u && b <= 0x5Au ? b + 0x20u : b; }

static uint32_t in_word(uint8_t b)
{
    uint32_t f = fold(b);
    return (uint32_t)((f >= 0x61u && f <= 0x7Au) || (b >= 0x30u && b <= 0x39u) || b == 0x27u || b >= 0x80u);
}

/* the number of a word of n bytes, or BITNET_ANY_WORD if no rule has it */
static uint32_t find_word(const bitnet_rules *r, const uint8_t *p, uint32_t n)
{
    uint32_t low = 0u;
    uint32_t high = r->word_count;
    while (low < high) {
        uint32_t mid = (low + high) >> 1;
        const uint8_t *w = r->text + r->word_start[mid];
        uint32_t length = (uint32_t)r->word_start[mid + 1u] - r->word_start[mid];
        uint32_t i = 0u;
        while (i < n && i < length && fold(p[i]) == w[i]) {
            i++;
        }
        if (i == n && i == length) {
            return mid;
        }
        if (i == n || (i < length && fold(p[i]) < w[i])) {
            high = mid;
        } else {
            low = mid + 1u;
        }
    }
    return BITNET_ANY_WORD;
}

static uint32_t matches(const bitnet_rules *r, const bitnet_rule *rule, const uint32_t *words, uint32_t n)
{
    uint32_t at = rule->first; /* positions that the next word may take */
    uint32_t taken = 0u;
    uint32_t i;
    uint32_t k;
    if (n == 0u) {
        return rule->empty;
    }
    for (i = 0u; i < n && at != 0u; i++) {
        uint32_t next = 0u;
        taken = 0u;
        for (k = 0u; k < rule->count; k++) {
            uint32_t want = r->word[rule->at + k];
            if ((at >> k & 1u) != 0u && (want == BITNET_ANY_WORD || want == words[i])) {
                taken |= (uint32_t)1u << k;
                next |= r->follow[rule->at + k];
            }
        }
        at = next;
    }
    return (uint32_t)(i == n && (taken & rule->last) != 0u);
}

uint32_t bitnet_match(const bitnet_rules *r, const uint8_t *text, uint32_t n, uint32_t *ids, uint32_t capacity)
{
    uint32_t words = 0u;
    uint32_t i = 0u;
    if (r == (const bitnet_rules *)0 || text == (const uint8_t *)0 || ids == (uint32_t *)0) {
        return 0u;
    }
    while (i < n) {
        uint32_t start;
        while (i < n && in_word(text[i]) == 0u) {
            i++;
        }
        start = i;
        while (i < n && in_word(text[i]) != 0u) {
            i++;
        }
        if (i > start) {
            if (words == capacity) {
                return r->rule_count;
            }
            ids[words] = find_word(r, text + start, i - start);
            words += 1u;
        }
    }
    for (i = 0u; i < r->rule_count && matches(r, &r->rules[i], ids, words) == 0u; i++) {
    }
    return i;
}

/* ---- what takes the answer's place ---------------------------------------------------------- */

#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_DEGRADE || BITNET_FALLBACK_MODE == BITNET_FALLBACK_RULES

/* whole, or not at all */
static uint32_t give(const uint8_t *from, uint32_t n, uint8_t *out, uint32_t cap, uint32_t *length)
{
    uint32_t i;
    if (n > cap) {
        return 0u;
    }
    for (i = 0u; i < n; i++) {
        out[i] = from[i];
    }
    *length = n;
    return 1u;
}

static bitnet_source canned(const bitnet_service *s, uint8_t *out, uint32_t cap, uint32_t *length)
{
    uint32_t n = 0u;
    if (s->canned == (const char *)0) {
        return BITNET_FROM_NOTHING;
    }
    while (s->canned[n] != '\0') {
        n++;
    }
    return give((const uint8_t *)s->canned, n, out, cap, length) != 0u ? BITNET_FROM_CANNED : BITNET_FROM_NOTHING;
}

#endif

#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_REPORT

static uint8_t *put_word(uint8_t *p, uint32_t v)
{
    uint32_t i;
    for (i = 0u; i < 4u; i++) {
        p[i] = (uint8_t)(v >> (8u * i));
    }
    return p + 4;
}

static void report(bitnet_service *s, bitnet_status st)
{
    uint8_t *p = put_word(s->record, 0x524E4289u); /* 89 42 4E 52 */
    uint32_t i;
    s->reports += 1u;
    *p++ = 1u; /* version */
    *p++ = (uint8_t)s->cause;
    *p++ = (uint8_t)st;
    *p++ = (uint8_t)bitnet_mode(s->ctx);
    for (i = 0u; i < 8u; i++) { /* of the digest in the header */
        *p++ = s->model != (const uint8_t *)0 && s->model_bytes >= 64u ? s->model[32u + i] : 0u;
    }
    p = put_word(p, bitnet_position(s->ctx));
    p = put_word(p, bitnet_version());
    p = put_word(p, st == BITNET_E_SELFTEST ? s->ctx->failed_prompt : 0u);
    p = put_word(p, st == BITNET_E_SELFTEST ? s->ctx->failed_token : 0u);
    p = put_word(p, st == BITNET_E_SELFTEST ? s->ctx->failed_layer : 0u);
    p = put_word(p, s->recent_count);
    for (i = 0u; i < BITNET_RECENT_IDS; i++) {
        p = put_word(p, s->recent[i]);
    }
    p = put_word(p, s->reports);
    (void)put_word(p, bn_crc_end(bn_crc_bytes(BN_CRC_START, s->record, BITNET_RECORD_BYTES - 4u)));
}

#endif

static bitnet_source fall_back(bitnet_service *s, bitnet_status st, const uint8_t *text, uint32_t n, uint8_t *out,
                               uint32_t cap, uint32_t *length)
{
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_DEGRADE
    (void)st;
    (void)text;
    (void)n;
    if (s->last_bytes > 0u && give(s->last, s->last_bytes, out, cap, length) != 0u) {
        return BITNET_FROM_LAST;
    }
    return canned(s, out, cap, length);
#elif BITNET_FALLBACK_MODE == BITNET_FALLBACK_RULES
    (void)st;
    if (s->rules != (const bitnet_rules *)0 && s->ids != (uint32_t *)0) {
        uint32_t i = bitnet_match(s->rules, text, n, s->ids, s->id_capacity);
        if (i < s->rules->rule_count) {
            const bitnet_rule *rule = &s->rules->rules[i];
            if (give(s->rules->text + rule->answer, rule->answer_bytes, out, cap, length) != 0u) {
                return BITNET_FROM_RULE;
            }
        }
    }
    return canned(s, out, cap, length);
#else
    (void)text;
    (void)n;
    (void)out;
    (void)cap;
    (void)length;
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_REPORT
    if (s->record != (uint8_t *)0) {
        report(s, st);
        return BITNET_FROM_RECORD;
    }
#else
    (void)s;
    (void)st;
#endif
    return BITNET_FROM_NOTHING;
#endif
}

bitnet_status bitnet_answer(bitnet_service *s, const uint8_t *text, uint32_t n, uint8_t *out, uint32_t cap,
                            uint32_t *length, bitnet_source *source)
{
    bitnet_status st;
    if (s == (bitnet_service *)0 || s->ctx == (bitnet_ctx *)0 || text == (const uint8_t *)0 || out == (uint8_t *)0 ||
        length == (uint32_t *)0 || source == (bitnet_source *)0) {
        return BITNET_E_NULL;
    }
    *length = 0u;
    st = ask(s, text, n, out, cap, length);
    if (st != BITNET_OK) {
        *length = 0u;
        *source = fall_back(s, st, text, n, out, cap, length);
        return st;
    }
    *source = BITNET_FROM_MODEL;
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_DEGRADE
    if (s->last != (uint8_t *)0 && *length > 0u && *length <= s->last_capacity) {
        (void)give(out, *length, s->last, s->last_capacity, &s->last_bytes);
    }
#endif
    return BITNET_OK;
}
