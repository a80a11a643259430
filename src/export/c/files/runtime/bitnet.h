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
    uint32_t state; /* BITNET_READY after bitnet_init */
    /* the model */
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
    uint32_t scalar; /* 1: LINEAR without its kernels */
    /* caches */
    uint32_t angles_tensor, angles_position, angles_last_tensor;
    uint32_t planes_register, lut_register;
    /* self-test */
    const uint32_t *expected; /* golden checksums of the token being run, or NULL */
    uint32_t chain, chain_slot, mismatch;
    uint32_t failed_prompt, failed_token, failed_layer;
    /* tracing */
    bitnet_trace_fn trace;
    void *trace_user;
    bitnet_register reg[BITNET_MAX_REGISTERS];
} bitnet_ctx;

#define BITNET_CTX_BYTES_32 1456u

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

/* Forgets the conversation. */
bitnet_status bitnet_reset(bitnet_ctx *ctx);

/* Runs n tokens.  logits: vocabulary i32 (value * 65,536) for the last of
 * them, or NULL.  If an id or the context length is refused, nothing is run.
 * BITNET_E_RESULT: the model gives embeddings, see bitnet_embed. */
bitnet_status bitnet_run(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *logits);

/* The embedding of a text of n tokens, which starts a conversation of its own:
 * bitnet_result_length() i32, with 30 fraction bits if the model normalizes
 * (then its length is 1), else 16.  BITNET_E_CONTEXT: more tokens than an
 * encoder's window or the model's positions; nothing is run then.
 * BITNET_E_RESULT: the model gives logits, see bitnet_run. */
bitnet_status bitnet_embed(bitnet_ctx *ctx, const uint32_t *ids, uint32_t n, int32_t *out);

/* Lowest index among the largest elements; 0 if n is 0 or logits NULL. */
uint32_t argmax(const int32_t *logits, uint32_t n);

/* Temperature and top-k sampling, equal on every machine.  *state is the
 * generator; it is advanced (0 counts as 1). */
bitnet_status bitnet_sample(const bitnet_ctx *ctx, const int32_t *logits, uint32_t n, const bitnet_sampling *how,
                            uint32_t *state, uint32_t *id);

/* The scale for a temperature of numerator / denominator. */
bitnet_status bitnet_temperature(uint32_t numerator, uint32_t denominator, bitnet_scale *inverse_temperature);

/* Runs the golden trace of the model and compares every checksum and every
 * greedy choice.  results: scratch, bitnet_result_length() i32.  Needs the exported window
 * and widths, else BITNET_E_CONFIG.  Resets the context.  On
 * BITNET_E_SELFTEST, bitnet_failure tells where. BITNET_E_STATE: no trace. */
bitnet_status bitnet_selftest(bitnet_ctx *ctx, int32_t *results);

/* layer: 0 before the layers, 1 + l for layer l, layers + 1 the head,
 * layers + 2 the greedy choice. */
bitnet_status bitnet_failure(const bitnet_ctx *ctx, uint32_t *prompt, uint32_t *token, uint32_t *layer);

/* on = 1: LINEAR by one plain loop instead of its kernels, slow, with the same
 * results: what a self-test compares the kernels with.  0: the kernels. */
bitnet_status bitnet_set_scalar(bitnet_ctx *ctx, uint32_t on);

/* The golden trace's prompts, for tools. ids points into the model. */
uint32_t bitnet_golden_count(const bitnet_ctx *ctx);
bitnet_status bitnet_golden(const bitnet_ctx *ctx, uint32_t index, const uint32_t **ids, uint32_t *prompt_len,
                            uint32_t *total_len);

/* Opens the model's device tokenizer; BITNET_E_STATE if it has none. */
bitnet_status bitnet_tokenizer_of(const bitnet_ctx *ctx, bitnet_tokenizer *out);

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
