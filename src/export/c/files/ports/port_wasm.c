/*
 * port_wasm.c - a WebAssembly module around the runtime: no imports, one
 * memory, integers in and out.  bitnet.js is written for these exports.
 *
 * The caller asks for a buffer in the module's memory (room), puts text
 * or ids there and calls.  A status is 0 or the number of bitnet_status; a
 * count is what was asked for, or the negative status.
 * command runs a command of bitnet_main.c, as every other machine does,
 * and keeps what it prints in output: this is how the module is verified.
 */
#include <stddef.h>
#include "bitnet.h"
#include "model.h"
#include "port.h"

int bitnet_main(void);

#define EXPORT(name) __attribute__((export_name(#name), used)) wasm_##name
#define PAGE 65536u

extern const uint32_t bitnet_model_words[];
extern const uint32_t bitnet_model_bytes;
extern uint8_t __heap_base; /* from the linker: the first byte behind our data */

static uint64_t arena[(BITNET_ARENA_BYTES + 7u) / 8u] __attribute__((aligned(64)));
static int32_t results[BITNET_RESULTS];
static uint32_t prompt_ids[BITNET_PROMPT_IDS];
static uint32_t work[BITNET_TOKENIZER_WORK];

static bitnet_ctx ctx;
static bitnet_tokenizer tokenizer;
static bitnet_tok_decoder decoders[2]; /* of decode, and of a text that is being generated */
static bitnet_sampling sampling;
static uint32_t generator;

/* ---- memory behind the data: the caller's buffer, or the output of a command --------- */

static uint32_t room_used;
static const char *arguments;

static uint32_t room_start(void) { return ((uint32_t)(uintptr_t)&__heap_base + 15u) & ~15u; }

/* the address of at least this many bytes, what is there stays; 0: no more memory */
static uint32_t grown(uint32_t bytes)
{
    uint32_t start = room_start();
    uint32_t have = (uint32_t)__builtin_wasm_memory_size(0) << 16; /* below 4 GiB: start lies in it */
    uint32_t pages;
    if (bytes > 0xFFFEFFFFu - start) {
        return 0u;
    }
    if (start + bytes <= have) {
        return start;
    }
    pages = (start + bytes - have + (PAGE - 1u)) >> 16;
    return __builtin_wasm_memory_grow(0, pages) == (size_t)-1 ? 0u : start;
}

uint32_t EXPORT(room)(uint32_t bytes);
uint32_t EXPORT(room)(uint32_t bytes) { return grown(bytes); }

/* ---- the model ------------------------------------------------------------------------- */

static int32_t refused(bitnet_status st) { return -(int32_t)st; }

/* after loading, and after a command */
int32_t EXPORT(open)(void);
int32_t EXPORT(open)(void)
{
    bitnet_status st = bitnet_init(&ctx, bitnet_model_words, bitnet_model_bytes, (const bitnet_config_t *)0, arena,
                                   (uint32_t)sizeof arena);
    if (st == BITNET_OK) {
        st = bitnet_result_length(&ctx) <= BITNET_RESULTS ? BITNET_OK : BITNET_E_CAPACITY;
    }
    if (st == BITNET_OK && ctx.tokenizer_bytes > 0u) {
        st = bitnet_tokenizer_of(&ctx, &tokenizer, work, BITNET_TOKENIZER_WORK);
    }
    return (int32_t)st;
}

enum { VOCABULARY, RESULT_LENGTH, EMBEDS, WINDOW, MAX_TOKENS, POSITION, TOKENIZER, MODEL_BYTES, SATURATED };

uint32_t EXPORT(info)(uint32_t what);
uint32_t EXPORT(info)(uint32_t what)
{
    switch (what) {
    case VOCABULARY: return bitnet_vocab(&ctx);
    case RESULT_LENGTH: return bitnet_result_length(&ctx);
    case EMBEDS: return bitnet_gives_embedding(&ctx);
    case WINDOW: return bitnet_window(&ctx);
    case MAX_TOKENS: return bitnet_max_tokens(&ctx);
    case POSITION: return bitnet_position(&ctx);
    case TOKENIZER: return (uint32_t)(ctx.tokenizer_bytes > 0u);
    case MODEL_BYTES: return bitnet_model_bytes;
    case SATURATED: return bitnet_saturated(&ctx);
    default: return 0u;
    }
}

/* a zero-terminated text */
const char *EXPORT(status_text)(uint32_t status);
const char *EXPORT(status_text)(uint32_t status) { return bitnet_status_text((bitnet_status)status); }

int32_t EXPORT(reset)(void);
int32_t EXPORT(reset)(void) { return (int32_t)bitnet_reset(&ctx); }

/* ids: an address in the caller's buffer; results for the last one are at results */
int32_t EXPORT(run)(const uint32_t *ids, uint32_t n);
int32_t EXPORT(run)(const uint32_t *ids, uint32_t n) { return (int32_t)bitnet_run(&ctx, ids, n, results); }

int32_t EXPORT(embed)(const uint32_t *ids, uint32_t n);
int32_t EXPORT(embed)(const uint32_t *ids, uint32_t n) { return (int32_t)bitnet_embed(&ctx, ids, n, results); }

const int32_t *EXPORT(results)(void);
const int32_t *EXPORT(results)(void) { return results; }

int32_t EXPORT(selftest)(void);
int32_t EXPORT(selftest)(void) { return (int32_t)bitnet_selftest(&ctx, results); }

/* where the self-test differed: 0 the prompt, 1 the token, 2 the part */
uint32_t EXPORT(failure)(uint32_t what);
uint32_t EXPORT(failure)(uint32_t what)
{
    uint32_t at[3] = { 0u, 0u, 0u };
    (void)bitnet_failure(&ctx, &at[0], &at[1], &at[2]);
    return what < 3u ? at[what] : 0u;
}

/* ---- choosing a token ------------------------------------------------------------------ */

/* thousandths: the temperature, 0 takes the most likely token */
int32_t EXPORT(sampling)(uint32_t thousandths, uint32_t top_k, uint32_t seed);
int32_t EXPORT(sampling)(uint32_t thousandths, uint32_t top_k, uint32_t seed)
{
    generator = seed;
    sampling.top_k = thousandths == 0u ? 0u : top_k;
    if (thousandths == 0u) {
        return (int32_t)BITNET_OK;
    }
    if (top_k == 0u || top_k > BITNET_MAX_TOP_K) {
        return (int32_t)BITNET_E_CONFIG;
    }
    return (int32_t)bitnet_temperature(thousandths, 1000u, &sampling.inverse_temperature);
}

/* an id for the logits at results, or a negative status */
int32_t EXPORT(choose)(void);
int32_t EXPORT(choose)(void)
{
    uint32_t n = bitnet_vocab(&ctx);
    uint32_t id = 0u;
    bitnet_status st;
    if (bitnet_gives_embedding(&ctx) != 0u) {
        return refused(BITNET_E_RESULT);
    }
    if (sampling.top_k == 0u) {
        return (int32_t)argmax(results, n);
    }
    st = bitnet_sample(&ctx, results, n, &sampling, &generator, &id);
    return st == BITNET_OK ? (int32_t)id : refused(st);
}

uint32_t EXPORT(ends)(uint32_t id);
uint32_t EXPORT(ends)(uint32_t id) { return bitnet_is_eos(&ctx, id); }

/* ---- text -------------------------------------------------------------------------------- */

static bitnet_status encode(const uint8_t *text, uint32_t bytes, uint32_t *ids, uint32_t capacity, uint32_t *total)
{
    uint32_t n = 0u;
    bitnet_status st = ctx.tokenizer_bytes == 0u ? BITNET_E_STATE : BITNET_OK;
    *total = 0u;
    if (st == BITNET_OK) {
        st = bitnet_tok_template(&tokenizer, 0u, ids, capacity, &n);
    }
    if (st == BITNET_OK) {
        *total = n;
        st = tokenize_c(&tokenizer, text, bytes, ids + *total, capacity - *total, &n);
    }
    if (st == BITNET_OK) {
        *total += n;
        st = bitnet_tok_template(&tokenizer, 1u, ids + *total, capacity - *total, &n);
    }
    *total += st == BITNET_OK ? n : 0u;
    return st;
}

/* ids of a text, with those of the template: their number, or a negative status */
int32_t EXPORT(encode)(const uint8_t *text, uint32_t bytes, uint32_t *ids, uint32_t capacity);
int32_t EXPORT(encode)(const uint8_t *text, uint32_t bytes, uint32_t *ids, uint32_t capacity)
{
    uint32_t n = 0u;
    bitnet_status st = encode(text, bytes, ids, capacity, &n);
    return st == BITNET_OK ? (int32_t)n : refused(st);
}

/* ids that a text of this many bytes becomes at most, the template's with it; 0: more than there can be */
uint32_t EXPORT(id_room)(uint32_t bytes);
uint32_t EXPORT(id_room)(uint32_t bytes)
{
    uint64_t n = (((uint64_t)bytes * tokenizer.growth) >> 4) + 17u + 510u;
    return n > 0x10000000u ? 0u : (uint32_t)n;
}

/* the start of a text of ids */
void EXPORT(text)(uint32_t which);
void EXPORT(text)(uint32_t which) { bitnet_tok_decode_start(&decoders[which & 1u]); }

/* what an id adds to it, in whole characters; nothing for a special one */
int32_t EXPORT(piece)(uint32_t which, uint32_t id, uint8_t *out, uint32_t capacity);
int32_t EXPORT(piece)(uint32_t which, uint32_t id, uint8_t *out, uint32_t capacity)
{
    uint32_t n = 0u;
    bitnet_status st = ctx.tokenizer_bytes == 0u ? BITNET_E_STATE : BITNET_OK;
    if (st == BITNET_OK && bitnet_tok_is_special(&tokenizer, id) != 0u) {
        return 0;
    }
    if (st == BITNET_OK) {
        st = bitnet_tok_decode(&tokenizer, &decoders[which & 1u], id, out, capacity, &n);
    }
    return st == BITNET_OK ? (int32_t)n : refused(st);
}

/* what is still held at its end */
int32_t EXPORT(rest)(uint32_t which, uint8_t *out, uint32_t capacity);
int32_t EXPORT(rest)(uint32_t which, uint8_t *out, uint32_t capacity)
{
    uint32_t n = 0u;
    bitnet_status st = bitnet_tok_decode_end(&decoders[which & 1u], out, capacity, &n);
    return st == BITNET_OK ? (int32_t)n : refused(st);
}

/* room that piece and rest need at most */
uint32_t EXPORT(piece_room)(void);
uint32_t EXPORT(piece_room)(void) { return BITNET_TOK_ROOM(tokenizer.max_token_bytes); }

/* ---- commands of bitnet_main.c ------------------------------------------------------- */

/* line: zero-terminated, at room. The answer is the exit code of the program. open before anything else afterwards. */
int32_t EXPORT(command)(const char *line);
int32_t EXPORT(command)(const char *line)
{
    static char copy[512];
    uint32_t i;
    ctx.state = 0u; /* the arena is the command's now */
    for (i = 0u; line[i] != '\0'; i++) {
        if (i + 1u >= sizeof copy) {
            return 2;
        }
        copy[i] = line[i];
    }
    copy[i] = '\0';
    arguments = copy;
    room_used = 0u; /* the output takes the place of the line */
    return (int32_t)bitnet_main();
}

/* what the last command printed */
uint32_t EXPORT(output)(void);
uint32_t EXPORT(output)(void) { return room_start(); }

uint32_t EXPORT(output_bytes)(void);
uint32_t EXPORT(output_bytes)(void) { return room_used; }

void port_write(const char *text)
{
    uint32_t n = 0u;
    uint32_t at;
    uint32_t i;
    while (text[n] != '\0') {
        n += 1u;
    }
    at = grown(room_used + n);
    if (at == 0u) {
        __builtin_trap(); /* without memory for the output there is no way to say so */
    }
    for (i = 0u; i < n; i++) {
        ((char *)(uintptr_t)at)[room_used + i] = text[i];
    }
    room_used += n;
}

void port_exit(int code)
{
    (void)code;
    __builtin_trap(); /* commands return */
}

const char *port_args(void) { return arguments; }

const void *port_model(uint32_t *bytes)
{
    *bytes = bitnet_model_bytes;
    return bitnet_model_words;
}

void *port_arena(uint32_t *bytes)
{
    *bytes = (uint32_t)sizeof arena;
    return arena;
}

int32_t *port_results(uint32_t elements) { return elements <= BITNET_RESULTS ? results : (int32_t *)0; }

uint32_t *port_stack_low(void) { return (uint32_t *)0; } /* not ours to look at */
uint32_t port_simd(void) { return 0u; }

uint32_t *port_ids(uint32_t *elements)
{
    *elements = BITNET_PROMPT_IDS;
    return prompt_ids;
}

uint32_t *port_work(uint32_t words) { return words <= BITNET_TOKENIZER_WORK ? work : (uint32_t *)0; }
