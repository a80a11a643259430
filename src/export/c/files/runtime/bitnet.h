/*
 * bitnet.h - integer-only runtime for models written by bitnet-convert.
 *
 * C99, freestanding: no heap, no libc, no floating point, no writable globals.
 * The model (packed format version 1) is read in place, e.g. from flash.
 * All state is in a bitnet_ctx and in one arena, both supplied by the caller;
 * several contexts may share one model.  No function may be called for one
 * context by two threads at the same time.
 */
#ifndef BITNET_H
#define BITNET_H

#include <stdint.h>
#include "bitnet_features.h"
#include "bitnet_status.h"
#include "bitnet_tokenizer.h"

#define BITNET_RUNTIME_VERSION 0x00010001u /* major << 16 | minor */
#define BITNET_MODEL_ALIGN 8u              /* required of the model's first byte; 64 is best */
#define BITNET_ARENA_ALIGN 16u             /* required of the arena's first byte */
#define BITNET_MAX_REGISTERS 32u
#define BITNET_MAX_TOP_K 64u
#define BITNET_NO_ID 0xFFFFFFFFu

/* 0 in a field means "as exported", except use_streaming.  A NULL pointer
 * instead of a configuration means "as exported, streaming on". */
typedef struct {
    uint32_t max_cache_len; /* window slots, sinks + 1 ..= exported W */
    uint32_t kv_quant_bits; /* 16, 8 or 4, not above the exported widths */
    uint32_t use_streaming; /* 0: BITNET_E_CONTEXT when the window is full; 1: roll, keep the sinks */
} bitnet_config_t;

/* A scale: m * 2^e, m in 2^30 ..= 2^31 - 1 */
typedef struct {
    uint32_t m;
    int32_t e;
} bitnet_scale;

typedef struct {
    bitnet_scale inverse_temperature; /* log2(e) / temperature / 65,536, see bitnet_temperature() */
    uint32_t top_k;                   /* 1 ..= BITNET_MAX_TOP_K */
} bitnet_sampling;

/* What a self-test left of a context. */
typedef enum {
    BITNET_MODE_FULL = 0,   /* the kernels that the exporter chose */
    BITNET_MODE_SCALAR = 1, /* plain loops: a kernel was found to be wrong, or bitnet_set_scalar asked for it */
    BITNET_MODE_FAILED = 2  /* the last self-test failed: do not trust results */
} bitnet_run_mode;

#define BITNET_GUARD_WORDS 8u /* of the pattern below a stack */

/* Called after each operation of a token when BITNET_TRACE is defined. */
typedef void (*bitnet_trace_fn)(void *user, uint32_t position, uint32_t op_index, uint32_t layer, uint32_t crc);

typedef struct {
    uint32_t offset;   /* in the arena */
    uint32_t capacity; /* elements */
    uint32_t length;   /* elements of the value it holds */
    uint32_t kind;     /* 0 i32, 1 i8 codes, 2 i16 codes */
    bitnet_scale scale;
    int32_t qmax, lo, hi; /* of codes */
} bitnet_register;

/*
 * The context.  Treat the fields as private.  sizeof is fixed for a target:
 * BITNET_CTX_BYTES_32 where pointers have 32 bits (checked at compile time).
 */
typedef struct {
    uint32_t state; /* BITNET_READY after bitnet_init, BITNET_STEPPING within a token of bitnet_step_begin */
    /* the model */
    const uint8_t *model;
    uint32_t model_bytes;
    const uint32_t *program;
    const uint32_t *registers;
    const uint32_t *ops;
    const uint32_t *tensors;
    const uint32_t *exp2_table;
    const int32_t *sin_table;
    const uint8_t *weights;
    const uint32_t *golden;
    const uint8_t *tokenizer;
    uint32_t weights_bytes, golden_words, tokenizer_bytes;
    uint32_t n_ops, head_op, n_tensors, n_registers;
    uint32_t vocab, d_model, layers, heads, kv_heads, head_dim, frac_bits;
    uint32_t window, sinks, key_bits, value_bits, static_keys, key_frac_bits;
    uint32_t encoder, positions; /* positions: 0 if there is no limit */
    uint32_t embeds, pool;       /* the last operation is EMBEDDING, its pool */
    uint32_t streaming, as_exported;
    /* the arena */
    uint8_t *arena;
    uint32_t arena_bytes;
    uint32_t angles, angles_last, query, query_sink, sums, scores;
    uint32_t kv, kv_layer_bytes, kv_values, kv_key_m, kv_key_e, kv_value_m, kv_value_e;
    uint32_t planes, lut, lut_bytes;
    uint32_t texts, chains, pool_sums;
    /* the state of the conversation */
    uint32_t position, slot;
    uint32_t tokens; /* of the text, in an encoder */
    uint32_t saturated; /* elements that reached the limit in ADD */
    /* caches */
    uint32_t angles_tensor, angles_position, angles_last_tensor;
    uint32_t planes_register, lut_register;
    uint32_t step_id, step_op; /* the token of bitnet_step_begin, its next operation */
#if defined(__aarch64__)
    uint32_t simd; /* what bitnet_set_simd said */
#endif
    /* self-test */
    uint32_t scalar, failed; /* bitnet_mode */
    const uint32_t *guard;   /* bitnet_set_guard */
    const uint32_t *expected; /* golden checksums of the token being run, or NULL */
    uint32_t chain, chain_slot, mismatch;
    uint32_t failed_prompt, failed_token, failed_layer;
    /* adapter, if lora_parts > 0 */
    const uint8_t *lora;
    uint32_t *lora_state;
    uint32_t lora_parts;
    /* tracing */
    bitnet_trace_fn trace;
    void *trace_user;
    bitnet_register reg[BITNET_MAX_REGISTERS];
} bitnet_ctx;

#define BITNET_CTX_BYTES_32 1492u

/* Arena needed for this model and configuration.  Checks the whole model. */
bitnet_status bitnet_arena_bytes(const void *model, uint32_t model_bytes, const bitnet_config_t *config,
                                 uint32_t *bytes);

/* Checks header, section table, every CRC-32 and the whole program, then
 * prepares ctx.  model and arena must stay valid while ctx is used. */
bitnet_status bitnet_init(bitnet_ctx *ctx, const void *model, uint32_t model_bytes, const bitnet_config_t *config,
                          void *arena, uint32_t arena_bytes);

/* Packed models are little-endian. On a big-endian machine this turns a
 * writable copy into its own byte order, once; elsewhere it does nothing.
 * BITNET_E_CRC: damaged, and left as it was. */
bitnet_status bitnet_to_native(void *model, uint32_t model_bytes);

/* Forgets the conversation, and a token that was begun. */
bitnet_status bitnet_reset(bitnet_ctx *ctx);

/* Runs n tokens.  logits: vocabulary i32 (value * 65,536) for the last of
 * them, or NULL.  If an id or the context length is refused, nothing is run.
 * BITNET_E_RESULT: the model gives embeddings, see bitnet_embed. */
bitnet_status bitnet_run(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *logits);

/* As bitnet_run without a result: what comes before the last token of a prompt. */
bitnet_status bitnet_feed(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n);

/* Runs the token *next and replaces it by the most likely token after it, whose logits are in logits.
 * For another choice, overwrite *next (bitnet_sample). */
bitnet_status bitnet_step(bitnet_ctx *ctx, int32_t *logits, uint32_t *next);

/* One token in slices, so that a watchdog or another task gets its turn.  After bitnet_step_begin,
 * bitnet_step_layers runs at most max_layers layers at a call (what comes before the first layer belongs to it; the
 * head counts as a layer of its own) and sets *done to 1 with the last, whose logits, if not NULL, get the result; give
 * the same logits or NULL to each call of a token.  Until then every other function but bitnet_reset answers
 * BITNET_E_STATE.  The integers are those of bitnet_run.  BITNET_E_RESULT: a model that gives embeddings. */
bitnet_status bitnet_step_begin(bitnet_ctx *ctx, uint32_t id);
bitnet_status bitnet_step_layers(bitnet_ctx *ctx, uint32_t max_layers, int32_t *logits, uint32_t *done);

/* The state of the conversation as bytes (docs/format/session.md), to be continued after a reset or elsewhere.
 * bitnet_state_bytes: how many there are now.  save: BITNET_E_CAPACITY if cap is less.  restore checks everything first
 * and changes nothing if it refuses: BITNET_E_OTHER of another model, BITNET_E_CONFIG of another window or width,
 * BITNET_E_MAGIC, _VERSION, _CRC, _FORMAT.  BITNET_E_RESULT: a model that gives embeddings has no state. */
bitnet_status bitnet_state_bytes(const bitnet_ctx *ctx, uint32_t *bytes);
bitnet_status bitnet_state_save(const bitnet_ctx *ctx, void *out, uint32_t cap, uint32_t *bytes);
bitnet_status bitnet_state_restore(bitnet_ctx *ctx, const void *data, uint32_t bytes);

/* The embedding of a text of n tokens, which starts a conversation of its own:
 * bitnet_result_length() i32, with 30 fraction bits if the model normalizes
 * (then its length is 1), else 16.  BITNET_E_CONTEXT: more tokens than an
 * encoder's window or the model's positions; nothing is run then.
 * BITNET_E_RESULT: the model gives logits, see bitnet_run. */
bitnet_status bitnet_embed(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *out);

#if BITNET_WITH_LORA
/* An adapter, lora-bits.bin (bitnet-convert adapter): a small side branch on
 * some matrices.  It is read in place, at any alignment; data and scratch
 * (aligned to 4) must stay valid until it is unloaded or another is loaded.
 * Both calls are allowed between any two tokens, and contexts of one model
 * may have different adapters; what the context holds was computed with the
 * one before, see bitnet_reset.  The self-test leaves an adapter aside.
 * Damaged: BITNET_E_MAGIC, _VERSION, _FORMAT, _CRC; of another model:
 * BITNET_E_OTHER; scratch too small: BITNET_E_CAPACITY. */
bitnet_status bitnet_lora_scratch(const void *data, uint32_t bytes, uint32_t *need);
bitnet_status bitnet_lora_load(bitnet_ctx *ctx, const void *data, uint32_t bytes, void *scratch, uint32_t scratch_bytes);
bitnet_status bitnet_lora_unload(bitnet_ctx *ctx);
/* For a caller that trusts signed adapters only: the Ed25519 signature (64
 * bytes, NULL if there is none) of the first *signed_bytes of data. */
bitnet_status bitnet_lora_signature(const void *data, uint32_t bytes, uint32_t *signed_bytes, const uint8_t **signature);
#endif

/* Lowest index among the largest elements; 0 if n is 0 or logits NULL. */
uint32_t argmax(const int32_t *logits, uint32_t n);

/* Temperature and top-k sampling, equal on every machine.  *state is the
 * generator; it is advanced (0 counts as 1). */
bitnet_status bitnet_sample(const bitnet_ctx *ctx, const int32_t *logits, uint32_t n, const bitnet_sampling *how,
                            uint32_t *state, uint32_t *id);

/* The scale for a temperature of numerator / denominator. */
bitnet_status bitnet_temperature(uint32_t numerator, uint32_t denominator, bitnet_scale *inverse_temperature);

/* Checks the CRC-32 of every section again, the stack guard, each matrix with its kernel against the plain loop, then
 * runs the golden trace of the model and compares every checksum and every greedy choice.  If only a kernel is wrong,
 * the context goes on with plain loops and the answer is BITNET_OK: see bitnet_mode.  results: scratch,
 * bitnet_result_length() i32.  Needs the exported window and widths, else BITNET_E_CONFIG.  Resets the context.
 * On BITNET_E_SELFTEST, bitnet_failure tells where.  BITNET_E_CRC, BITNET_E_STACK.  BITNET_E_STATE: no trace. */
bitnet_status bitnet_selftest(bitnet_ctx *ctx, int32_t *results);

/* For a short boot: checksums, guard and one token of the trace (of a model that gives embeddings, one text). */
bitnet_status bitnet_selftest_quick(bitnet_ctx *ctx, int32_t *results);

bitnet_run_mode bitnet_mode(const bitnet_ctx *ctx); /* BITNET_MODE_FAILED for a context that is not initialised */

/* 1: plain loops instead of the kernels, the same integers; 0: the kernels. */
bitnet_status bitnet_set_scalar(bitnet_ctx *ctx, uint32_t on);

/* A pattern at the lowest words of the stack, where the stack arrives last.  place writes it; a context that
 * watches it (after bitnet_init; NULL: none) has it checked by the self-tests and by bitnet_answer. */
void bitnet_guard_place(uint32_t *lowest);
bitnet_status bitnet_set_guard(bitnet_ctx *ctx, const uint32_t *lowest);
bitnet_status bitnet_check_guard(const bitnet_ctx *ctx); /* BITNET_OK or BITNET_E_STACK */

/* layer: 0 before the layers, 1 + l for layer l, layers + 1 the head,
 * layers + 2 the greedy choice. */
bitnet_status bitnet_failure(const bitnet_ctx *ctx, uint32_t *prompt, uint32_t *token, uint32_t *layer);

/* The golden trace's prompts, for tools. ids points into the model. */
uint32_t bitnet_golden_count(const bitnet_ctx *ctx);
bitnet_status bitnet_golden(const bitnet_ctx *ctx, uint32_t index, const uint32_t **ids, uint32_t *prompt_len,
                            uint32_t *total_len);

/* Opens the model's device tokenizer with scratch for encoding (bitnet_tok_open); BITNET_E_STATE
 * if it has none. */
bitnet_status bitnet_tokenizer_of(const bitnet_ctx *ctx, bitnet_tokenizer *out, uint32_t *work, uint32_t work_words);

/* Words of scratch that this takes: BITNET_TOKENIZER_WORK of an exported folder; 0 without a tokenizer. */
uint32_t bitnet_tokenizer_work(const bitnet_ctx *ctx);

/* What this core has beyond the baseline of its architecture; nothing, until told.  Never changes a result.  Only AArch64
 * knows a bit: BITNET_SIMD_DOT, the dot product instructions (HWCAP_ASIMDDP of getauxval). */
#define BITNET_SIMD_DOT 1u
void bitnet_set_simd(bitnet_ctx *ctx, uint32_t simd);

const char *bitnet_status_text(bitnet_status status);
uint32_t bitnet_version(void);
uint32_t bitnet_vocab(const bitnet_ctx *ctx);
uint32_t bitnet_gives_embedding(const bitnet_ctx *ctx);        /* 1: bitnet_embed, 0: bitnet_run */
uint32_t bitnet_result_length(const bitnet_ctx *ctx);          /* elements of the embedding or of the logits */
uint32_t bitnet_max_tokens(const bitnet_ctx *ctx);             /* of one text or conversation; 0 if there is no limit */
uint32_t bitnet_position(const bitnet_ctx *ctx);
uint32_t bitnet_window(const bitnet_ctx *ctx);
uint32_t bitnet_saturated(const bitnet_ctx *ctx);
uint32_t bitnet_bos(const bitnet_ctx *ctx);                    /* BITNET_NO_ID if none */
uint32_t bitnet_eos_count(const bitnet_ctx *ctx);              /* 0 ..= 4 */
uint32_t bitnet_eos(const bitnet_ctx *ctx, uint32_t index);    /* BITNET_NO_ID past the end */
uint32_t bitnet_is_eos(const bitnet_ctx *ctx, uint32_t id);    /* 1 or 0 */
bitnet_status bitnet_set_trace(bitnet_ctx *ctx, bitnet_trace_fn trace, void *user); /* BITNET_E_CONFIG without BITNET_TRACE */

#endif
