/* api_test.c - the public functions of the runtime with good and bad arguments: api_test MODEL
 * A model with a window of at least 2, room for 5 tokens and a golden trace; one that gives logits or one that gives
 * embeddings.  Built with sanitizers; prints the first check that fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bitnet.h"
#include "check.h"
#include "read_file.h"

/* id i of a conversation that repeats nothing for long */
static uint32_t some_id(uint32_t i, uint32_t vocab) { return (i * 7u + i / 5u) % vocab; }

/* a token at a time, a token in slices, a token in one piece: the same logits */
static void streaming(bitnet_ctx *ctx, bitnet_ctx *other, uint32_t tokens)
{
    uint32_t vocab = bitnet_vocab(ctx), next = vocab, done = 9u, at, i, calls, id;
    int32_t *a = malloc(sizeof *a * vocab), *b = malloc(sizeof *b * vocab);
    uint8_t nothing[8];
    if (a == NULL || b == NULL) { exit(2); }
    CHECK(bitnet_reset(ctx) == BITNET_OK && bitnet_reset(other) == BITNET_OK);
    CHECK(bitnet_feed(ctx, NULL, 1u) == BITNET_E_NULL && bitnet_feed(NULL, &next, 1u) == BITNET_E_NULL);
    CHECK(bitnet_feed(ctx, &next, 1u) == BITNET_E_TOKEN && bitnet_feed(ctx, &next, 0u) == BITNET_E_TOKEN);
    CHECK(bitnet_step(ctx, NULL, &next) == BITNET_E_NULL && bitnet_step(ctx, a, NULL) == BITNET_E_NULL);
    CHECK(bitnet_step(NULL, a, &next) == BITNET_E_NULL && bitnet_step(ctx, a, &next) == BITNET_E_TOKEN && next == vocab);
    CHECK(bitnet_step_begin(NULL, 0u) == BITNET_E_NULL && bitnet_step_begin(ctx, vocab) == BITNET_E_TOKEN);
    CHECK(bitnet_step_layers(ctx, 1u, a, &done) == BITNET_E_STATE && done == 9u);
    for (i = 0u; i < tokens; i++) {
        id = some_id(i, vocab);
        next = id;
        CHECK(bitnet_step(other, b, &next) == BITNET_OK && next == argmax(b, vocab));
        CHECK(bitnet_step_begin(ctx, id) == BITNET_OK);
        CHECK(bitnet_step_layers(NULL, 1u, a, &done) == BITNET_E_NULL);
        CHECK(bitnet_step_layers(ctx, 1u, a, NULL) == BITNET_E_NULL);
        CHECK(bitnet_step_layers(ctx, 0u, a, &done) == BITNET_E_CONFIG);
        done = 0u;
        for (calls = 0u; done == 0u; calls++) {
            CHECK(bitnet_step_layers(ctx, 1u + i % 3u, a, &done) == BITNET_OK);
            if (done == 0u) { /* nothing else may happen to the context now */
                CHECK(bitnet_run(ctx, &id, 1u, a) == BITNET_E_STATE);
                CHECK(bitnet_feed(ctx, &id, 1u) == BITNET_E_STATE);
                CHECK(bitnet_step(ctx, b, &next) == BITNET_E_STATE);
                CHECK(bitnet_step_begin(ctx, id) == BITNET_E_STATE);
                CHECK(bitnet_selftest(ctx, a) == BITNET_E_STATE);
                CHECK(bitnet_set_scalar(ctx, 1u) == BITNET_E_STATE);
                CHECK(bitnet_state_bytes(ctx, &at) == BITNET_E_STATE);
                CHECK(bitnet_state_save(ctx, nothing, sizeof nothing, &at) == BITNET_E_STATE);
                CHECK(bitnet_state_restore(ctx, nothing, sizeof nothing) == BITNET_E_STATE);
                CHECK(bitnet_position(ctx) == i && bitnet_vocab(ctx) == vocab);
            }
        }
        if (i % 3u == 0u) { CHECK(calls == ctx->layers + 1u); } /* the head is one more */
        CHECK(memcmp(a, b, sizeof *a * vocab) == 0 && bitnet_position(ctx) == i + 1u);
    }
    /* a slice at a time without a result; a token that is given up */
    if (bitnet_max_tokens(ctx) == 0u || tokens + 2u <= bitnet_max_tokens(ctx)) {
        CHECK(bitnet_step_begin(ctx, 0u) == BITNET_OK);
        for (done = 0u; done == 0u;) { CHECK(bitnet_step_layers(ctx, 1u, NULL, &done) == BITNET_OK); }
        next = 0u;
        CHECK(bitnet_feed(other, &next, 1u) == BITNET_OK);
        CHECK(bitnet_run(ctx, &next, 1u, a) == BITNET_OK && bitnet_run(other, &next, 1u, b) == BITNET_OK);
        CHECK(memcmp(a, b, sizeof *a * vocab) == 0);
    }
    CHECK(bitnet_reset(ctx) == BITNET_OK && bitnet_step_begin(ctx, 0u) == BITNET_OK);
    CHECK(bitnet_step_layers(ctx, 1u, a, &done) == BITNET_OK && bitnet_reset(ctx) == BITNET_OK);
    CHECK(bitnet_position(ctx) == 0u && bitnet_step_layers(ctx, 1u, a, &done) == BITNET_E_STATE);
    free(a);
    free(b);
}

static void set_crc(uint8_t *p, uint32_t n)
{
    uint32_t crc = 0xFFFFFFFFu, i, k;
    memset(p + 16, 0, 4);
    for (i = 0u; i < n; i++) {
        crc ^= p[i];
        for (k = 0u; k < 8u; k++) { crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u))); }
    }
    crc = ~crc;
    for (i = 0u; i < 4u; i++) { p[16u + i] = (uint8_t)(crc >> (8u * i)); }
}

/* saved after `tokens`, continued in another context: the same logits; refused otherwise, with nothing changed */
static void states(bitnet_ctx *ctx, bitnet_ctx *other, uint32_t tokens)
{
    static const uint32_t fields[] = { 52u, 56u, 60u, 64u, 68u, 72u, 76u, 88u, 92u };
    uint32_t vocab = bitnet_vocab(ctx), n = 0u, m = 0u, i, id = 0u;
    int32_t *a = malloc(sizeof *a * vocab), *b = malloc(sizeof *b * vocab);
    uint8_t *p, *q;
    if (a == NULL || b == NULL) { exit(2); }
    CHECK(bitnet_reset(ctx) == BITNET_OK && bitnet_reset(other) == BITNET_OK);
    CHECK(bitnet_state_bytes(NULL, &n) == BITNET_E_NULL && bitnet_state_bytes(ctx, NULL) == BITNET_E_NULL);
    CHECK(bitnet_state_bytes(ctx, &n) == BITNET_OK && n == 96u);
    for (i = 0u; i < tokens; i++) {
        id = some_id(i, vocab);
        CHECK(bitnet_run(ctx, &id, 1u, NULL) == BITNET_OK);
    }
    CHECK(bitnet_state_bytes(ctx, &n) == BITNET_OK && n > 96u);
    p = malloc(n);
    q = malloc(n + 1u);
    if (p == NULL || q == NULL) { exit(2); }
    CHECK(bitnet_state_save(ctx, NULL, n, &m) == BITNET_E_NULL && bitnet_state_save(NULL, p, n, &m) == BITNET_E_NULL);
    CHECK(bitnet_state_save(ctx, p, n, NULL) == BITNET_E_NULL);
    CHECK(bitnet_state_save(ctx, p, n - 1u, &m) == BITNET_E_CAPACITY && m == 0u);
    CHECK(bitnet_state_save(ctx, p, n, &m) == BITNET_OK && m == n);
    CHECK(bitnet_state_restore(other, NULL, n) == BITNET_E_NULL && bitnet_state_restore(NULL, p, n) == BITNET_E_NULL);
    /* every length, every byte */
    for (i = 0u; i < n; i += i < 100u ? 1u : 13u) {
        memcpy(q, p, n);
        CHECK(bitnet_state_restore(other, q, i) != BITNET_OK);
        q[i] ^= (uint8_t)(1u << (i % 8u));
        CHECK(bitnet_state_restore(other, q, n) != BITNET_OK);
    }
    memcpy(q, p, n);
    q[n] = 0u;
    CHECK(bitnet_state_restore(other, q, n + 1u) == BITNET_E_FORMAT);
    q[0] ^= 1u;
    CHECK(bitnet_state_restore(other, q, n) == BITNET_E_MAGIC);
    memcpy(q, p, n);
    q[8] = 2u;
    CHECK(bitnet_state_restore(other, q, n) == BITNET_E_VERSION);
    memcpy(q, p, n);
    q[n - 1u] ^= 1u;
    CHECK(bitnet_state_restore(other, q, n) == BITNET_E_CRC);
    /* with a good checksum */
    memcpy(q, p, n);
    q[20] ^= 1u;
    set_crc(q, n);
    CHECK(bitnet_state_restore(other, q, n) == BITNET_E_OTHER);
    for (i = 0u; i < sizeof fields / sizeof *fields; i++) {
        memcpy(q, p, n);
        q[fields[i]] ^= 1u;
        set_crc(q, n);
        CHECK(bitnet_state_restore(other, q, n) == (i < 3u ? BITNET_E_CONFIG : BITNET_E_FORMAT));
    }
    memcpy(q, p, n);
    q[83] = 0xFFu; /* a position that the limit of positions or the filled slots contradict */
    set_crc(q, n);
    CHECK(bitnet_state_restore(other, q, n) == (bitnet_max_tokens(ctx) != 0u ? BITNET_E_CONTEXT : BITNET_OK) ||
          tokens < bitnet_window(ctx));
    CHECK(bitnet_reset(other) == BITNET_OK);
    memcpy(q, p, n);
    memset(q + n - 1u, 0x7F, 1u); /* the exponent of the last scale, unless codes are last */
    set_crc(q, n);
    CHECK(bitnet_state_restore(other, q, n) == BITNET_E_FORMAT);
    CHECK(bitnet_position(other) == 0u);
    /* good */
    CHECK(bitnet_state_restore(other, p, n) == BITNET_OK && bitnet_position(other) == tokens);
    CHECK(bitnet_state_save(other, q, n, &m) == BITNET_OK && m == n && memcmp(p, q, n) == 0);
    for (i = tokens; i < tokens + 5u && (bitnet_max_tokens(ctx) == 0u || i < bitnet_max_tokens(ctx)); i++) {
        id = some_id(i, vocab);
        CHECK(bitnet_run(ctx, &id, 1u, a) == BITNET_OK && bitnet_run(other, &id, 1u, b) == BITNET_OK);
        CHECK(memcmp(a, b, sizeof *a * vocab) == 0);
    }
    free(a);
    free(b);
    free(p);
    free(q);
}

static void modes(bitnet_ctx *ctx, unsigned char *model, uint32_t size, int32_t *a)
{
    static uint32_t stack[BITNET_GUARD_WORDS + 2u];
    uint32_t i;
    CHECK(bitnet_mode(NULL) == BITNET_MODE_FAILED && bitnet_mode(ctx) == BITNET_MODE_FULL);
    CHECK(bitnet_set_scalar(NULL, 1u) == BITNET_E_NULL && bitnet_set_scalar(ctx, 2u) == BITNET_E_CONFIG);
    CHECK(bitnet_set_scalar(ctx, 1u) == BITNET_OK && bitnet_mode(ctx) == BITNET_MODE_SCALAR);
    CHECK(bitnet_selftest(ctx, a) == BITNET_OK && bitnet_mode(ctx) == BITNET_MODE_SCALAR);
    CHECK(bitnet_set_scalar(ctx, 0u) == BITNET_OK);
    CHECK(bitnet_selftest_quick(NULL, a) == BITNET_E_NULL && bitnet_selftest_quick(ctx, NULL) == BITNET_E_NULL);
    CHECK(bitnet_selftest_quick(ctx, a) == BITNET_OK && bitnet_mode(ctx) == BITNET_MODE_FULL);
    /* the model changes after it was opened */
    model[size - 1u] ^= 0x10u;
    CHECK(bitnet_selftest_quick(ctx, a) == BITNET_E_CRC && bitnet_mode(ctx) == BITNET_MODE_FAILED);
    CHECK(bitnet_selftest(ctx, a) == BITNET_E_CRC);
    model[size - 1u] ^= 0x10u;
    CHECK(bitnet_selftest(ctx, a) == BITNET_OK && bitnet_mode(ctx) == BITNET_MODE_FULL);
    /* the guard below a stack */
    CHECK(bitnet_check_guard(NULL) == BITNET_E_NULL && bitnet_check_guard(ctx) == BITNET_OK);
    CHECK(bitnet_set_guard(NULL, stack) == BITNET_E_NULL && bitnet_set_guard(ctx, stack + 1) == BITNET_OK);
    CHECK(bitnet_check_guard(ctx) == BITNET_E_STACK);
    bitnet_guard_place(NULL);
    bitnet_guard_place(stack + 1);
    CHECK(stack[0] == 0u && stack[BITNET_GUARD_WORDS + 1u] == 0u && bitnet_check_guard(ctx) == BITNET_OK);
    for (i = 1u; i <= BITNET_GUARD_WORDS; i++) {
        stack[i] ^= 0x100u;
        CHECK(bitnet_check_guard(ctx) == BITNET_E_STACK && bitnet_selftest_quick(ctx, a) == BITNET_E_STACK);
        stack[i] ^= 0x100u;
    }
    CHECK(bitnet_selftest_quick(ctx, a) == BITNET_OK && bitnet_set_guard(ctx, NULL) == BITNET_OK);
}

/* a model that gives embeddings */
static void embeddings(bitnet_ctx *ctx, unsigned char *model, uint32_t size, unsigned char *arena, uint32_t need)
{
    uint32_t length = bitnet_result_length(ctx), most = bitnet_max_tokens(ctx), vocab = bitnet_vocab(ctx), i;
    uint32_t *ids = calloc(most + 2u, sizeof *ids);
    int32_t *a = malloc(sizeof *a * length), *b = malloc(sizeof *b * length);
    bitnet_config_t config = { 0u, 0u, 0u };
    if (ids == NULL || a == NULL || b == NULL) { exit(2); }
    CHECK(bitnet_selftest(ctx, NULL) == BITNET_E_NULL);
    CHECK(bitnet_selftest(ctx, a) == BITNET_OK);
    modes(ctx, model, size, a);
    CHECK(bitnet_feed(ctx, ids, 1u) == BITNET_E_RESULT && bitnet_step(ctx, a, ids) == BITNET_E_RESULT);
    CHECK(bitnet_step_begin(ctx, 0u) == BITNET_E_RESULT && bitnet_state_bytes(ctx, &i) == BITNET_E_RESULT);
    CHECK(bitnet_state_restore(ctx, a, 4u) == BITNET_E_RESULT);
    CHECK(bitnet_run(ctx, ids, 1u, a) == BITNET_E_RESULT);
    CHECK(bitnet_run(ctx, ids, 1u, NULL) == BITNET_E_RESULT);
    CHECK(bitnet_embed(NULL, ids, 1u, a) == BITNET_E_NULL);
    CHECK(bitnet_embed(ctx, NULL, 1u, a) == BITNET_E_NULL);
    CHECK(bitnet_embed(ctx, ids, 1u, NULL) == BITNET_E_NULL);
    CHECK(bitnet_embed(ctx, ids, 0u, a) == BITNET_E_TOKEN);
    ids[0] = vocab;
    CHECK(bitnet_embed(ctx, ids, 1u, a) == BITNET_E_TOKEN);

    /* a text does not depend on the one before it; the longest one that is allowed */
    for (i = 0u; i < most + 1u; i++) { ids[i] = i < vocab ? i : 0u; }
    CHECK(bitnet_embed(ctx, ids, 2u, a) == BITNET_OK);
    CHECK(bitnet_embed(ctx, ids + 1, 1u, b) == BITNET_OK);
    if (most > 0u) {
        CHECK(bitnet_embed(ctx, ids, most, b) == BITNET_OK);
        b[0] = 12345;
        CHECK(bitnet_embed(ctx, ids, most + 1u, b) == BITNET_E_CONTEXT);
        CHECK(b[0] == 12345);
    }
    CHECK(bitnet_embed(ctx, ids, 2u, b) == BITNET_OK);
    CHECK(memcmp(a, b, sizeof *a * length) == 0);
    CHECK(bitnet_selftest(ctx, b) == BITNET_OK);

    /* without streaming the window is the limit of every model */
    CHECK(bitnet_init(ctx, model, size, &config, arena, need) == BITNET_OK);
    CHECK(bitnet_max_tokens(ctx) >= 1u && bitnet_max_tokens(ctx) <= bitnet_window(ctx));
    CHECK(bitnet_embed(ctx, ids, 0xFFFFFFFFu, NULL) == BITNET_E_NULL);
    free(ids);
    free(a);
    free(b);
}

int main(int argc, char **argv)
{
    static bitnet_ctx ctx, other;
    uint32_t size = 0u, need = 0u, less = 0u, i, vocab, window, most, id = 0u, state = 5u, same = 5u, n = 0u;
    unsigned char *model = read_file(argc > 1 ? argv[1] : "", &size);
    unsigned char *arena, *second;
    int32_t *a, *b;
    bitnet_config_t config = { 0u, 0u, 1u };
    bitnet_sampling how;
    bitnet_tokenizer tok;

    /* nothing is done without pointers */
    CHECK(bitnet_arena_bytes(NULL, size, NULL, &need) == BITNET_E_NULL);
    CHECK(bitnet_arena_bytes(model, size, NULL, NULL) == BITNET_E_NULL);
    CHECK(bitnet_arena_bytes(model, size, NULL, &need) == BITNET_OK && need > 0u);
    arena = aligned_alloc(64, (need + 127u) & ~63u);
    second = aligned_alloc(64, (need + 127u) & ~63u);
    if (arena == NULL || second == NULL) { return 2; }
    CHECK(bitnet_init(NULL, model, size, NULL, arena, need) == BITNET_E_NULL);
    CHECK(bitnet_init(&ctx, NULL, size, NULL, arena, need) == BITNET_E_NULL);
    CHECK(bitnet_init(&ctx, model, size, NULL, NULL, need) == BITNET_E_NULL);

    /* not initialised */
    memset(&ctx, 0, sizeof ctx);
    CHECK(bitnet_run(&ctx, &id, 1u, NULL) == BITNET_E_STATE);
    CHECK(bitnet_reset(&ctx) == BITNET_E_STATE && bitnet_feed(&ctx, &id, 1u) == BITNET_E_STATE);
    CHECK(bitnet_step(&ctx, &failures, &id) == BITNET_E_STATE && bitnet_step_begin(&ctx, 0u) == BITNET_E_STATE);
    CHECK(bitnet_step_layers(&ctx, 1u, NULL, &n) == BITNET_E_STATE && bitnet_set_scalar(&ctx, 1u) == BITNET_E_STATE);
    CHECK(bitnet_state_bytes(&ctx, &n) == BITNET_E_STATE && bitnet_state_restore(&ctx, &id, 4u) == BITNET_E_STATE);
    CHECK(bitnet_check_guard(&ctx) == BITNET_E_STATE && bitnet_set_guard(&ctx, &id) == BITNET_E_STATE);
    CHECK(bitnet_mode(&ctx) == BITNET_MODE_FAILED && bitnet_selftest_quick(&ctx, &failures) == BITNET_E_STATE);
    CHECK(bitnet_run(NULL, &id, 1u, NULL) == BITNET_E_NULL);
    CHECK(bitnet_embed(&ctx, &id, 1u, &failures) == BITNET_E_STATE);
    CHECK(bitnet_result_length(&ctx) == 0u && bitnet_max_tokens(NULL) == 0u);

    /* arena, alignment, magic, version, length */
    CHECK(bitnet_init(&ctx, model, size, NULL, arena, need - 1u) == BITNET_E_ARENA);
    CHECK(bitnet_init(&ctx, model, size, NULL, arena + 4, need) == BITNET_E_ALIGN);
    memmove(model + 4, model, size);
    CHECK(bitnet_init(&ctx, model + 4, size, NULL, arena, need) == BITNET_E_ALIGN);
    memmove(model, model + 4, size);
    model[0] ^= 1u;
    CHECK(bitnet_init(&ctx, model, size, NULL, arena, need) == BITNET_E_MAGIC);
    model[0] ^= 1u;
    model[8] = 9u;
    CHECK(bitnet_init(&ctx, model, size, NULL, arena, need) == BITNET_E_VERSION);
    model[8] = 1u;
    CHECK(bitnet_init(&ctx, model, size - 1u, NULL, arena, need) != BITNET_OK);
    CHECK(bitnet_init(&ctx, model, 0u, NULL, arena, need) != BITNET_OK);
    model[size - 1u] ^= 0x10u;
    CHECK(bitnet_init(&ctx, model, size, NULL, arena, need) == BITNET_E_CRC);
    model[size - 1u] ^= 0x10u;

    /* good */
    CHECK(bitnet_init(&ctx, model, size, NULL, arena, need) == BITNET_OK);
    if (bitnet_gives_embedding(&ctx) != 0u) {
        embeddings(&ctx, model, size, arena, need);
        free(arena);
        free(second);
        free(model);
        printf("%d failures\n", failures);
        return failures != 0;
    }
    vocab = bitnet_vocab(&ctx);
    window = bitnet_window(&ctx);
    most = bitnet_max_tokens(&ctx);
    CHECK(bitnet_result_length(&ctx) == vocab);
    CHECK(most == 0u || most >= 5u);
    a = malloc(sizeof *a * vocab);
    b = malloc(sizeof *b * vocab);
    if (a == NULL || b == NULL) { return 2; }
    CHECK(bitnet_selftest(&ctx, NULL) == BITNET_E_NULL);
    CHECK(bitnet_selftest(&ctx, a) == BITNET_OK);

    /* ids */
    id = vocab;
    CHECK(bitnet_run(&ctx, &id, 1u, a) == BITNET_E_TOKEN);
    CHECK(bitnet_run(&ctx, NULL, 1u, a) == BITNET_E_NULL);
    CHECK(bitnet_run(&ctx, &id, 0u, a) == BITNET_E_TOKEN);
    CHECK(bitnet_position(&ctx) == 0u);
    id = 0u;
    CHECK(bitnet_embed(&ctx, &id, 1u, a) == BITNET_E_RESULT);

    /* one context does not disturb another; a prompt in one piece or token by token */
    CHECK(bitnet_init(&other, model, size, NULL, second, need) == BITNET_OK);
    {
        uint32_t ids[5] = { 1u, 0u, 2u, 1u, 3u };
        CHECK(bitnet_run(&ctx, ids, 5u, a) == BITNET_OK);
        for (i = 0u; i < 5u; i++) {
            CHECK(bitnet_run(&other, &ids[i], 1u, b) == BITNET_OK);
        }
        CHECK(memcmp(a, b, sizeof *a * vocab) == 0);
        CHECK(bitnet_reset(&ctx) == BITNET_OK);
        CHECK(bitnet_run(&ctx, ids, 5u, b) == BITNET_OK);
        CHECK(memcmp(a, b, sizeof *a * vocab) == 0);
    }

    modes(&ctx, model, size, a);
    for (i = 1u; i < 4u; i++) { /* before the window is full, when it rolls, when it has rolled more than once */
        n = i == 1u ? window : (i == 2u ? window + 1u : 3u * window);
        n = most != 0u && most < n ? most : n;
        streaming(&ctx, &other, n < 40u ? n : 40u);
        states(&ctx, &other, n < 300u ? n : 300u);
    }

    /* a table of positions is the limit of a conversation */
    CHECK(bitnet_reset(&ctx) == BITNET_OK);
    id = 1u;
    if (most != 0u) {
        for (i = 0u; i < most; i++) {
            CHECK(bitnet_run(&ctx, &id, 1u, NULL) == BITNET_OK);
        }
        CHECK(bitnet_run(&ctx, &id, 1u, a) == BITNET_E_CONTEXT);
        CHECK(bitnet_position(&ctx) == most);
    }

    /* the context outgrows the window: an error without streaming, none with it */
    config.use_streaming = 0u;
    CHECK(bitnet_init(&ctx, model, size, &config, arena, need) == BITNET_OK);
    n = bitnet_max_tokens(&ctx);
    CHECK(n == (most != 0u && most < window ? most : window));
    for (i = 0u; i < n; i++) {
        CHECK(bitnet_run(&ctx, &id, 1u, NULL) == BITNET_OK);
    }
    CHECK(bitnet_run(&ctx, &id, 1u, a) == BITNET_E_CONTEXT);
    CHECK(bitnet_position(&ctx) == n);
    config.use_streaming = 1u;
    CHECK(bitnet_init(&ctx, model, size, &config, arena, need) == BITNET_OK);
    n = most != 0u && most < 3u * window ? most : 3u * window;
    for (i = 0u; i < n; i++) {
        CHECK(bitnet_run(&ctx, &id, 1u, a) == BITNET_OK);
    }

    /* another configuration: less memory, no self-test; an impossible one */
    config.max_cache_len = window + 1u;
    CHECK(bitnet_init(&ctx, model, size, &config, arena, need) == BITNET_E_CONFIG);
    config.max_cache_len = 0u;
    config.kv_quant_bits = 5u;
    CHECK(bitnet_init(&ctx, model, size, &config, arena, need) == BITNET_E_CONFIG);
    config.kv_quant_bits = 0u;
    config.max_cache_len = window - 1u;
    if (bitnet_arena_bytes(model, size, &config, &less) == BITNET_OK) {
        CHECK(less <= need); /* parts are rounded up to 16 bytes */
        CHECK(bitnet_init(&ctx, model, size, &config, arena, less) == BITNET_OK);
        CHECK(bitnet_selftest(&ctx, a) == BITNET_E_CONFIG);
        for (i = 0u; i < 2u * window && (most == 0u || i < most); i++) {
            CHECK(bitnet_run(&ctx, &id, 1u, a) == BITNET_OK);
        }
    }

    /* sampling: the same state gives the same id, top 1 is the greedy choice */
    CHECK(bitnet_temperature(4u, 5u, &how.inverse_temperature) == BITNET_OK);
    CHECK(bitnet_temperature(1u, 0u, &how.inverse_temperature) != BITNET_OK);
    CHECK(bitnet_temperature(4u, 5u, &how.inverse_temperature) == BITNET_OK);
    how.top_k = 10u < vocab ? 10u : vocab;
    CHECK(bitnet_sample(&ctx, a, vocab, &how, &state, &id) == BITNET_OK && id < vocab);
    CHECK(bitnet_sample(&ctx, a, vocab, &how, &same, &n) == BITNET_OK && n == id && state == same);
    printf("sample %u\n", (unsigned)id);
    how.top_k = 1u;
    CHECK(bitnet_sample(&ctx, a, vocab, &how, &state, &id) == BITNET_OK && id == argmax(a, vocab));
    how.top_k = BITNET_MAX_TOP_K + 1u;
    CHECK(bitnet_sample(&ctx, a, vocab, &how, &state, &id) != BITNET_OK);
    CHECK(bitnet_sample(&ctx, NULL, vocab, &how, &state, &id) == BITNET_E_NULL);
    CHECK(argmax(NULL, 3u) == 0u);
    CHECK(bitnet_tokenizer_of(NULL, &tok, NULL, 0u) == BITNET_E_NULL);
    CHECK(bitnet_tokenizer_work(NULL) == 0u);
    CHECK(bitnet_is_eos(&ctx, 0xFFFFFFFFu) == 0u);
    CHECK(bitnet_eos(&ctx, 99u) == BITNET_NO_ID);

    free(a);
    free(b);
    free(arena);
    free(second);
    free(model);
    printf("%d failures\n", failures);
    return failures != 0;
}
