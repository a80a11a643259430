/*
 * bitnet_main.c - commands around the runtime, the same on the emulator, on
 * a board with a debugger attached (semihosting) and on a host:
 *
 *   (nothing)          self-test, then the built-in prompts
 *   selftest           compare the golden trace of the model
 *   count [n]          selftest without output on success; or run n tokens, each with logits, no output: for
 *                      counting instructions
 *   trace [n]          every golden prompt, or its first n tokens, a checksum for each operation run
 *   info               sizes
 *   ids 1,2,3 [n]      run ids, continue greedily for n tokens (default 1), print their ids
 *   logits 1,2,3       all logits after the last id
 *   embed 1,2,3        all values of the embedding, for a model that gives one
 *   token 1            run one token, no output (instruction counting)
 *   sample S P Q K 1,2,3 [n]  as ids, but drawn with seed S, temperature P / Q and top K
 *   prompt TEXT [n]    tokenize, continue for at most n tokens (default 32), print the text; or the first values and the
 *                      CRC-32 of the embedding
 *   answer ...         with FALLBACK: see bitnet_service.c
 *
 * Options before the command: window=N  kvbits=N  nostream
 */
#include "bitnet.h"
#include "bitnet_prompts.h"
#include "bitnet_service.h"
#include "port.h"

#ifndef BITNET_TOKENIZER_TOKEN /* bytes of the longest token: model.h, or a host's program for any model */
#define BITNET_TOKENIZER_TOKEN 1360u
#endif

static bitnet_ctx ctx;
static uint8_t piece[BITNET_TOK_ROOM(BITNET_TOKENIZER_TOKEN) + 1u]; /* text of a token */

/* ---- output -------------------------------------------------------------------- */

static void put_u32(uint32_t v)
{
    static const uint32_t powers[10] = { 1000000000u, 100000000u, 10000000u, 1000000u, 100000u,
                                         10000u, 1000u, 100u, 10u, 1u };
    char out[11];
    uint32_t n = 0u;
    uint32_t i;
    for (i = 0u; i < 10u; i++) {
        char digit = '0';
        while (v >= powers[i]) {
            v -= powers[i];
            digit = (char)(digit + 1);
        }
        if (n > 0u || digit != '0' || i == 9u) {
            out[n] = digit;
            n += 1u;
        }
    }
    out[n] = '\0';
    port_write(out);
}

static void put_i32(int32_t v)
{
    if (v < 0) {
        port_write("-");
        put_u32(0u - (uint32_t)v);
    } else {
        put_u32((uint32_t)v);
    }
}

#if defined(BITNET_TRACE) || BITNET_OP_EMBEDDING
static void put_hex(uint32_t v)
{
    char out[9];
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        out[i] = "0123456789abcdef"[v >> (28u - 4u * i) & 15u];
    }
    out[8] = '\0';
    port_write(out);
}
#endif

static void put_item(const char *name, uint32_t v)
{
    port_write(name);
    port_write(" ");
    put_u32(v);
    port_write("\n");
}

static int fail(const char *where, bitnet_status st)
{
    port_write(where);
    port_write(": ");
    port_write(bitnet_status_text(st));
    port_write("\n");
    return 10 + (int)st;
}

/* ---- the command line ------------------------------------------------------------ */

static const char *skip(const char *s)
{
    while (*s == ' ') {
        s++;
    }
    return s;
}

/* the rest after a word, or NULL if s does not start with it */
static const char *word(const char *s, const char *w)
{
    while (*w != '\0') {
        if (*s != *w) {
            return (const char *)0;
        }
        s++;
        w++;
    }
    return s;
}

static uint32_t is_digit(char ch) { return (uint32_t)(ch >= '0' && ch <= '9'); }

/* a decimal number; larger ones than 2^32 - 1 become that */
static const char *number(const char *s, uint32_t *v)
{
    uint32_t n = 0u;
    while (is_digit(*s) != 0u) {
        uint32_t digit = (uint32_t)(*s - '0');
        n = n > 429496728u ? 0xFFFFFFFFu : n * 10u + digit;
        s++;
    }
    *v = n;
    return s;
}

/* 1,2,3 */
static const char *id_list(const char *s, uint32_t *ids, uint32_t capacity, uint32_t *n)
{
    *n = 0u;
    s = skip(s);
    while (is_digit(*s) != 0u && *n < capacity) {
        s = number(s, &ids[*n]);
        *n += 1u;
        if (*s != ',') {
            break;
        }
        s++;
    }
    return skip(s);
}

/* ---- commands ---------------------------------------------------------------------- */

static int selftest(int32_t *results, uint32_t silent)
{
    uint32_t prompt = 0u;
    uint32_t token = 0u;
    uint32_t layer = 0u;
    bitnet_status st = bitnet_selftest(&ctx, results);
    if (st == BITNET_OK) {
        if (silent == 0u) {
            port_write(bitnet_mode(&ctx) == BITNET_MODE_SCALAR ? "selftest: equal with plain loops, a kernel differs\n"
                                                               : "selftest: equal\n");
        }
        return 0;
    }
    if (st == BITNET_E_SELFTEST) {
        (void)bitnet_failure(&ctx, &prompt, &token, &layer);
        port_write("selftest: prompt ");
        put_u32(prompt);
        port_write(" token ");
        put_u32(token);
        port_write(" part ");
        put_u32(layer);
        port_write(" differs\n");
        return 10 + (int)st;
    }
    return fail("selftest", st);
}

#if defined(BITNET_TRACE)
typedef struct {
    const uint32_t *ids;
    uint32_t prompt;
    uint32_t next; /* position whose line is open, plus 1; 0: none */
} tracing;

static void on_op(void *user, uint32_t position, uint32_t op_index, uint32_t layer, uint32_t crc)
{
    tracing *at = (tracing *)user;
    (void)op_index;
    (void)layer;
    if (at->next != position + 1u) {
        port_write(at->next != 0u ? "\nT " : "T ");
        put_u32(at->prompt);
        port_write(" ");
        put_u32(position);
        port_write(" ");
        put_u32(at->ids[position]);
        at->next = position + 1u;
    }
    port_write(" ");
    put_hex(crc);
}
#endif

/* a text with what the tokenizer puts around one */
static bitnet_status to_ids(const bitnet_tokenizer *tok, const char *text, uint32_t length, uint32_t *ids, uint32_t capacity,
                            uint32_t *count)
{
    uint32_t before = 0u;
    uint32_t after = 0u;
    uint32_t n = 0u;
    bitnet_status st = bitnet_tok_template(tok, 0u, ids, capacity, &before);
    if (st == BITNET_OK) {
        st = tokenize_c(tok, (const uint8_t *)text, length, ids + before, capacity - before, &n);
    }
    if (st == BITNET_OK) {
        st = bitnet_tok_template(tok, 1u, ids + before + n, capacity - before - n, &after);
    }
    *count = before + n + after;
    return st;
}

#if defined(BITNET_TRACE)

static void put_ids(const char *kind, uint32_t number, const uint32_t *ids, uint32_t n)
{
    uint32_t i;
    port_write(kind);
    put_u32(number);
    for (i = 0u; i < n; i++) {
        port_write(i == 0u ? " " : ",");
        put_u32(ids[i]);
    }
    port_write("\n");
}

static void put_bytes(const uint8_t *bytes, uint32_t n)
{
    char out[3];
    uint32_t i;
    out[2] = '\0';
    for (i = 0u; i < n; i++) {
        out[0] = "0123456789abcdef"[bytes[i] >> 4];
        out[1] = "0123456789abcdef"[bytes[i] & 15u];
        port_write(out);
    }
}

/* the texts of bitnet_prompts.h as ids, the golden prompts as text; nothing without a tokenizer */
static bitnet_status spell(uint32_t *ids, uint32_t capacity)
{
    const uint32_t words = bitnet_tokenizer_work(&ctx);
    bitnet_tokenizer tok;
    bitnet_tok_decoder decoder;
    bitnet_status st;
    uint32_t n = 0u;
    uint32_t k;
    if (ctx.tokenizer_bytes == 0u) {
        return BITNET_OK;
    }
    st = bitnet_tokenizer_of(&ctx, &tok, port_work(words), words);
    for (k = 0u; k < (uint32_t)(sizeof bitnet_texts / sizeof bitnet_texts[0]) && st == BITNET_OK; k++) {
        uint32_t length = 0u;
        while (bitnet_texts[k][length] != '\0') {
            length += 1u;
        }
        st = to_ids(&tok, bitnet_texts[k], length, ids, capacity, &n);
        if (st == BITNET_OK) {
            put_ids("I ", k, ids, n);
        }
    }
    for (k = 0u; k < bitnet_golden_count(&ctx) && st == BITNET_OK; k++) {
        const uint32_t *golden = (const uint32_t *)0;
        uint32_t p = 0u;
        uint32_t total = 0u;
        uint32_t i;
        st = bitnet_golden(&ctx, k, &golden, &p, &total);
        bitnet_tok_decode_start(&decoder);
        port_write("D ");
        put_u32(k);
        port_write(" ");
        for (i = 0u; i < total && st == BITNET_OK; i++) {
            if (bitnet_tok_is_special(&tok, golden[i]) == 0u) {
                st = bitnet_tok_decode(&tok, &decoder, golden[i], piece, (uint32_t)sizeof piece, &n);
                put_bytes(piece, st == BITNET_OK ? n : 0u);
                st = st == BITNET_E_TOKEN ? BITNET_OK : st; /* a vocabulary may be padded */
            }
        }
        if (st == BITNET_OK) {
            st = bitnet_tok_decode_end(&decoder, piece, (uint32_t)sizeof piece, &n);
            put_bytes(piece, st == BITNET_OK ? n : 0u);
        }
        port_write("\n");
    }
    return st;
}

#endif

/* most: of the tokens of each prompt */
static int trace(int32_t *results, uint32_t most, uint32_t *space, uint32_t capacity)
{
#if defined(BITNET_TRACE)
    bitnet_status spelled;
    uint32_t prompt;
    for (prompt = 0u; prompt < bitnet_golden_count(&ctx); prompt++) {
        const uint32_t *ids = (const uint32_t *)0;
        tracing at;
        uint32_t p = 0u;
        uint32_t total = 0u;
        uint32_t t;
        bitnet_status st = bitnet_golden(&ctx, prompt, &ids, &p, &total);
        if (ctx.encoder == 0u) { /* an encoder's first token depends on its last */
            p = p < most ? p : most;
            total = total < most ? total : most;
        }
        at.ids = ids;
        at.prompt = prompt;
        at.next = 0u;
        (void)bitnet_reset(&ctx);
        (void)bitnet_set_trace(&ctx, on_op, &at);
        if (bitnet_gives_embedding(&ctx) != 0u) { /* an encoder's tokens come once for each pass */
            st = bitnet_embed(&ctx, ids, p, results);
            port_write("\n");
            total = 0u;
        }
        for (t = p; st == BITNET_OK && t <= total; t++) {
            st = t == p ? bitnet_run(&ctx, ids, p, results) : bitnet_run(&ctx, ids + t - 1u, 1u, results);
            if (st == BITNET_OK) {
                port_write("\nG ");
                put_u32(prompt);
                port_write(" ");
                put_u32(t - 1u);
                port_write(" ");
                put_u32(argmax(results, bitnet_vocab(&ctx)));
                port_write("\n");
                at.next = 0u;
            }
        }
        if (st != BITNET_OK) {
            return fail("trace", st);
        }
    }
    (void)bitnet_set_trace(&ctx, (bitnet_trace_fn)0, (void *)0);
    (void)bitnet_reset(&ctx);
    spelled = spell(space, capacity);
    if (spelled != BITNET_OK) {
        return fail("texts", spelled);
    }
    port_write("OK\n");
    return 0;
#else
    (void)results;
    (void)most;
    (void)space;
    (void)capacity;
    return fail("trace (build with -DBITNET_TRACE)", BITNET_E_CONFIG);
#endif
}

/* n tokens, those of the first golden prompt again and again, and the result of the last */
static int count(uint32_t n, uint32_t *ids, uint32_t capacity, int32_t *results)
{
    const uint32_t *golden = (const uint32_t *)0;
    uint32_t p = 0u;
    uint32_t total = 0u;
    uint32_t i;
    uint32_t from = 0u;
    bitnet_status st = n < capacity ? bitnet_golden(&ctx, 0u, &golden, &p, &total) : BITNET_E_CAPACITY;
    for (i = 0u; i < n && st == BITNET_OK; i++) {
        ids[i] = golden[from];
        from = from + 1u < total ? from + 1u : 0u;
    }
    if (st == BITNET_OK && n > 0u) {
#if BITNET_OP_EMBEDDING
        if (bitnet_gives_embedding(&ctx) != 0u) {
            st = bitnet_embed(&ctx, ids, n, results);
            n = 0u;
        }
#endif
        for (i = 0u; i < n && st == BITNET_OK; i++) {
            st = bitnet_run(&ctx, ids + i, 1u, results);
        }
    }
    return st == BITNET_OK ? 0 : fail("count", st);
}

static int info(uint32_t model_bytes, uint32_t arena_bytes)
{
    put_item("runtime_version", bitnet_version());
    put_item("model_bytes", model_bytes);
    put_item("arena_bytes", arena_bytes);
    put_item("arena_used", ctx.arena_bytes);
    put_item("context_bytes", (uint32_t)sizeof ctx);
    put_item("vocabulary", bitnet_vocab(&ctx));
    put_item("window", bitnet_window(&ctx));
    put_item("most_tokens", bitnet_max_tokens(&ctx));
    put_item("embedding", bitnet_gives_embedding(&ctx) != 0u ? bitnet_result_length(&ctx) : 0u);
    put_item("layers", ctx.layers);
    put_item("golden_prompts", bitnet_golden_count(&ctx));
    put_item("tokenizer_bytes", ctx.tokenizer_bytes);
    put_item("tokenizer_work", bitnet_tokenizer_work(&ctx) * 4u);
    return 0;
}

#if BITNET_OP_EMBEDDING

static int run_embed(const char *args, uint32_t *ids, uint32_t capacity, int32_t *out)
{
    uint32_t n = 0u;
    uint32_t i;
    bitnet_status st;
    (void)id_list(args, ids, capacity, &n);
    st = bitnet_embed(&ctx, ids, n, out);
    for (i = 0u; i < bitnet_result_length(&ctx) && st == BITNET_OK; i++) {
        put_i32(out[i]);
        port_write("\n");
    }
    return st == BITNET_OK ? 0 : fail("embed", st);
}

/* first values and CRC-32 of all */
static int embed_text(const uint32_t *ids, uint32_t n, int32_t *out)
{
    uint32_t length = bitnet_result_length(&ctx);
    uint32_t crc = 0xFFFFFFFFu;
    uint32_t i;
    uint32_t k;
    bitnet_status st = bitnet_embed(&ctx, ids, n, out);
    if (st != BITNET_OK) {
        return fail("embed", st);
    }
    for (i = 0u; i < length; i++) {
        crc ^= (uint32_t)out[i];
        for (k = 0u; k < 32u; k++) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    put_u32(n);
    port_write(" tokens, ");
    put_u32(length);
    port_write(" values:");
    for (i = 0u; i < 8u && i < length; i++) {
        port_write(" ");
        put_i32(out[i]);
    }
    port_write(", crc ");
    put_hex(~crc);
    port_write("\n");
    return 0;
}

#endif

static int run_ids(const char *args, uint32_t *ids, uint32_t capacity, int32_t *logits, uint32_t what)
{
    uint32_t n = 0u;
    uint32_t more = 1u;
    uint32_t i;
    bitnet_status st;
    args = id_list(args, ids, capacity, &n);
    if (is_digit(*args) != 0u) {
        (void)number(args, &more);
    }
    st = bitnet_run(&ctx, ids, n, logits);
    if (what == 1u && st == BITNET_OK) {
        for (i = 0u; i < bitnet_vocab(&ctx); i++) {
            put_i32(logits[i]);
            port_write("\n");
        }
        return 0;
    }
    for (i = 0u; what == 0u && i < more && st == BITNET_OK; i++) {
        uint32_t id = argmax(logits, bitnet_vocab(&ctx));
        put_u32(id);
        port_write(i + 1u < more ? "," : "\n");
        if (i + 1u < more) {
            st = bitnet_run(&ctx, &id, 1u, logits);
        }
    }
    return st == BITNET_OK ? 0 : fail("run", st);
}

static int run_sampled(const char *args, uint32_t *ids, uint32_t capacity, int32_t *logits)
{
    uint32_t v[4]; /* seed, numerator, denominator, top k */
    uint32_t n = 0u;
    uint32_t more = 1u;
    uint32_t i;
    uint32_t id = 0u;
    bitnet_sampling how;
    bitnet_status st;
    for (i = 0u; i < 4u; i++) {
        args = number(skip(args), &v[i]);
    }
    args = id_list(args, ids, capacity, &n);
    if (is_digit(*args) != 0u) {
        (void)number(args, &more);
    }
    how.top_k = v[3];
    st = bitnet_temperature(v[1], v[2], &how.inverse_temperature);
    if (st == BITNET_OK) {
        st = bitnet_run(&ctx, ids, n, logits);
    }
    for (i = 0u; i < more && st == BITNET_OK; i++) {
        st = bitnet_sample(&ctx, logits, bitnet_vocab(&ctx), &how, &v[0], &id);
        if (st == BITNET_OK) {
            put_u32(id);
            port_write(i + 1u < more ? "," : "\n");
        }
        if (st == BITNET_OK && i + 1u < more) {
            st = bitnet_run(&ctx, &id, 1u, logits);
        }
    }
    return st == BITNET_OK ? 0 : fail("sample", st);
}

static int answer(const char *text, uint32_t length, uint32_t more, uint32_t *ids, uint32_t capacity, int32_t *logits)
{
    bitnet_tokenizer tok;
    bitnet_tok_decoder decoder;
    uint32_t n = 0u;
    uint32_t i;
    const uint32_t words = bitnet_tokenizer_work(&ctx);
    bitnet_status st = bitnet_tokenizer_of(&ctx, &tok, port_work(words), words);
    if (st != BITNET_OK) {
        return fail("tokenizer", st);
    }
    (void)bitnet_reset(&ctx);
    st = to_ids(&tok, text, length, ids, capacity, &n);
    if (st != BITNET_OK) {
        return fail("tokenize", st);
    }
#if BITNET_OP_EMBEDDING
    if (bitnet_gives_embedding(&ctx) != 0u) {
        return embed_text(ids, n, logits);
    }
#endif
    bitnet_tok_decode_start(&decoder);
    st = bitnet_run(&ctx, ids, n, logits);
    for (i = 0u; i < more && st == BITNET_OK; i++) {
        uint32_t id = argmax(logits, bitnet_vocab(&ctx));
        if (bitnet_is_eos(&ctx, id) != 0u) {
            break;
        }
        if (bitnet_tok_is_special(&tok, id) == 0u) {
            st = bitnet_tok_decode(&tok, &decoder, id, piece, (uint32_t)sizeof piece - 1u, &n);
            piece[n] = 0u;
            port_write((const char *)piece);
        }
        if (st == BITNET_OK && i + 1u < more) {
            st = bitnet_run(&ctx, &id, 1u, logits);
        }
    }
    if (bitnet_tok_decode_end(&decoder, piece, (uint32_t)sizeof piece - 1u, &n) == BITNET_OK) {
        piece[n] = 0u;
        port_write((const char *)piece);
    }
    port_write("\n");
    return st == BITNET_OK ? 0 : fail("run", st);
}

/* text, then an optional number after the last blank */
static int prompt(const char *args, uint32_t *ids, uint32_t capacity, int32_t *logits)
{
    uint32_t length = 0u;
    uint32_t cut;
    uint32_t more = 32u;
    while (args[length] != '\0') {
        length += 1u;
    }
    cut = length;
    while (cut > 0u && is_digit(args[cut - 1u]) != 0u) {
        cut -= 1u;
    }
    if (cut < length && cut > 0u && args[cut - 1u] == ' ') {
        (void)number(args + cut, &more);
        length = cut - 1u;
    }
    return answer(args, length, more, ids, capacity, logits);
}

static int builtin(uint32_t *ids, uint32_t capacity, int32_t *logits)
{
    uint32_t i;
    int code = selftest(logits, 0u);
    for (i = 0u; i < bitnet_prompt_count && code == 0; i++) {
        const char *text = bitnet_prompts[i];
        uint32_t length = 0u;
        while (text[length] != '\0') {
            length += 1u;
        }
        port_write("> ");
        port_write(text);
        port_write("\n");
        code = answer(text, length, bitnet_prompt_tokens, ids, capacity, logits);
    }
    return code;
}

/* what the port has, if it has one */
static bitnet_status load_adapter(void)
{
#if BITNET_WITH_LORA && defined(BITNET_PORT_ADAPTER)
    uint32_t bytes = 0u;
    uint32_t need = 0u;
    const void *data = port_adapter(&bytes);
    bitnet_status st = BITNET_OK;
    if (data != (const void *)0) {
        st = bitnet_lora_scratch(data, bytes, &need);
        if (st == BITNET_OK) {
            st = bitnet_lora_load(&ctx, data, bytes, port_adapter_scratch(need), need);
        }
    }
    return st;
#else
    return BITNET_OK;
#endif
}

static int run(void)
{
    uint32_t model_bytes = 0u;
    uint32_t arena_bytes = 0u;
    uint32_t capacity = 0u;
    uint32_t configured = 0u;
    uint32_t n = 0xFFFFFFFFu;
    const char *args = skip(port_args());
    const char *rest;
    bitnet_config_t config;
    const void *model = port_model(&model_bytes);
    void *arena = port_arena(&arena_bytes);
    int32_t *results; /* logits or an embedding */
    uint32_t *ids = port_ids(&capacity);
    bitnet_status st;
    config.max_cache_len = 0u;
    config.kv_quant_bits = 0u;
    config.use_streaming = 1u;
    for (;;) {
        if ((rest = word(args, "window=")) != (const char *)0) {
            args = number(rest, &config.max_cache_len);
        } else if ((rest = word(args, "kvbits=")) != (const char *)0) {
            args = number(rest, &config.kv_quant_bits);
        } else if ((rest = word(args, "nostream")) != (const char *)0) {
            args = rest;
            config.use_streaming = 0u;
        } else {
            break;
        }
        configured = 1u;
        args = skip(args);
    }
#if defined(BITNET_FALLBACK)
    if ((rest = word(args, "answer ")) != (const char *)0) {
        return bitnet_service_command(&ctx, skip(rest));
    }
#endif
    st = bitnet_init(&ctx, model, model_bytes, configured != 0u ? &config : (const bitnet_config_t *)0, arena, arena_bytes);
    if (st != BITNET_OK) {
        return fail("init", st);
    }
    (void)bitnet_set_guard(&ctx, port_stack_low());
    bitnet_set_simd(&ctx, port_simd());
    st = load_adapter();
    if (st != BITNET_OK) {
        return fail("adapter", st);
    }
    results = port_results(bitnet_result_length(&ctx));
    if (results == (int32_t *)0) {
        return fail("results", BITNET_E_CAPACITY);
    }
    if (*args == '\0') {
        return builtin(ids, capacity, results);
    }
    if (word(args, "selftest") != (const char *)0) {
        return selftest(results, 0u);
    }
    if ((rest = word(args, "count")) != (const char *)0) {
        rest = skip(rest);
        if (is_digit(*rest) == 0u) {
            return selftest(results, 1u);
        }
        (void)number(rest, &n);
        return count(n, ids, capacity, results);
    }
    if ((rest = word(args, "trace")) != (const char *)0) {
        rest = skip(rest);
        if (is_digit(*rest) != 0u) {
            (void)number(rest, &n);
        }
        return trace(results, n, ids, capacity);
    }
    if (word(args, "info") != (const char *)0) {
        return info(model_bytes, arena_bytes);
    }
    if ((rest = word(args, "ids ")) != (const char *)0) {
        return run_ids(rest, ids, capacity, results, 0u);
    }
    if ((rest = word(args, "logits ")) != (const char *)0) {
        return run_ids(rest, ids, capacity, results, 1u);
    }
#if BITNET_OP_EMBEDDING
    if ((rest = word(args, "embed ")) != (const char *)0) {
        return run_embed(rest, ids, capacity, results);
    }
#endif
    if ((rest = word(args, "token ")) != (const char *)0) {
        return run_ids(rest, ids, capacity, results, 2u);
    }
    if ((rest = word(args, "sample ")) != (const char *)0) {
        return run_sampled(rest, ids, capacity, results);
    }
    if ((rest = word(args, "prompt ")) != (const char *)0) {
        return prompt(rest, ids, capacity, results);
    }
    port_write("unknown command\n");
    return 2;
}

int bitnet_main(void);

int bitnet_main(void)
{
    bitnet_guard_place(port_stack_low()); /* before anything goes deep */
    return run();
}
