/*
 * bitnet_model.c - opens a packed model (docs/format/packed.md): header,
 * section table, checksums, the whole program, the arena layout.  Nothing in
 * the file is used before it is checked here; the other files rely on that.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#if UINTPTR_MAX == 0xFFFFFFFFu
typedef char bitnet_check_ctx_size[sizeof(bitnet_ctx) == BITNET_CTX_BYTES_32 ? 1 : -1];
#endif

enum { KIND_PROGRAM = 1, KIND_TABLES = 2, KIND_WEIGHTS = 3, KIND_TOKENIZER = 4, KIND_GOLDEN = 5, KIND_LAST = 31 };

#define TABLES_BYTES 6152u
#if BN_LITTLE
#define TABLES_CRC 0xBFF179FCu /* the tables are the same in every model */
#else
#define TABLES_CRC 0x25234DFDu /* after bitnet_to_native */
#endif

typedef struct {
    const uint8_t *data[8];
    uint32_t bytes[8];
} sections;

static const uint32_t *words_at(const uint8_t *p) { return (const uint32_t *)(const void *)p; }

static uint32_t low_bits(const void *p, uint32_t align) { return (uint32_t)((uintptr_t)p & (align - 1u)); }

/* ---- header and section table ------------------------------------------- */

static uint32_t all_zero(const uint8_t *p, uint32_t n)
{
    uint32_t i;
    uint32_t any = 0u;
    for (i = 0u; i < n; i++) {
        any |= p[i];
    }
    return (uint32_t)(any == 0u);
}

static bitnet_status check_header(const uint8_t *m, uint32_t bytes, uint32_t *count)
{
    static const uint8_t magic[8] = { 0x89u, 0x42u, 0x4Eu, 0x45u, 0x54u, 0x0Du, 0x0Au, 0x1Au };
    const uint32_t *w = words_at(m);
    uint32_t i;
    uint32_t crc;
    if (bytes < 128u) {
        return BITNET_E_MAGIC;
    }
    for (i = 0u; i < 8u; i++) {
        if (m[i] != magic[i]) {
            return BITNET_E_MAGIC;
        }
    }
    if (w[6] != 0x01020304u) { /* other byte order */
        return BITNET_E_VERSION;
    }
    /* major version 1, in the byte order of this machine */
    if (m[24] == 4u ? (m[8] != 1u || m[9] != 0u) : (m[8] != 0u || m[9] != 1u)) {
        return BITNET_E_VERSION;
    }
    *count = w[3];
    if (w[3] < 1u || w[3] > 16u) {
        return BITNET_E_FORMAT;
    }
    if (64u + 64u * w[3] > bytes) {
        return BITNET_E_FORMAT;
    }
    crc = bn_crc_bytes(BN_CRC_START, m, 28u);
    for (i = 0u; i < 9u; i++) {
        crc = bn_crc_word(crc, 0u);
    }
    crc = bn_crc_end(bn_crc_bytes(crc, m + 64, 64u * w[3]));
    return crc == w[7] ? BITNET_OK : BITNET_E_CRC;
}

static bitnet_status check_sections(const uint8_t *m, uint32_t bytes, uint32_t count, sections *s)
{
    uint32_t i;
    uint32_t j;
    uint32_t end = 64u + 64u * count;
    const uint32_t *w = words_at(m);
    for (i = 0u; i < 8u; i++) {
        s->data[i] = (const uint8_t *)0;
        s->bytes[i] = 0u;
    }
    if (w[5] != 0u || w[4] > bytes) {
        return BITNET_E_FORMAT;
    }
    for (i = 0u; i < count; i++) {
        const uint32_t *e = words_at(m + 64u + 64u * i);
        uint32_t kind = e[0];
        uint32_t start = (end + 63u) & ~63u;
        if (e[1] != 0u || e[7] != 0u || e[3] != 0u || e[5] != 0u || e[2] != start || e[4] == 0u || start < end ||
            start > w[4] || e[4] > w[4] - start) {
            return BITNET_E_FORMAT;
        }
        if (kind == 0u || (kind > (uint32_t)KIND_GOLDEN && kind < 16u) || (kind > 17u && kind <= (uint32_t)KIND_LAST)) {
            return BITNET_E_FORMAT;
        }
        for (j = 0u; j < i; j++) {
            if (words_at(m + 64u + 64u * j)[0] == kind) {
                return BITNET_E_FORMAT;
            }
        }
        if (all_zero(m + end, start - end) == 0u) {
            return BITNET_E_FORMAT;
        }
        if (bn_crc_end(bn_crc_bytes(BN_CRC_START, m + start, e[4])) != e[6]) {
            return BITNET_E_CRC;
        }
        if (kind == (uint32_t)KIND_TABLES && e[6] != TABLES_CRC) {
            return BITNET_E_FORMAT;
        }
        if (kind <= (uint32_t)KIND_GOLDEN) {
            s->data[kind] = m + start;
            s->bytes[kind] = e[4];
        }
        end = start + e[4];
    }
    if (end != w[4]) {
        return BITNET_E_FORMAT;
    }
    if (s->data[KIND_PROGRAM] == (const uint8_t *)0 || s->data[KIND_TABLES] == (const uint8_t *)0 ||
        s->data[KIND_WEIGHTS] == (const uint8_t *)0 || s->bytes[KIND_TABLES] != TABLES_BYTES) {
        return BITNET_E_FORMAT;
    }
    return BITNET_OK;
}

/* ---- configuration and arena ---------------------------------------------- */

static bitnet_status configure(bitnet_ctx *c, const bitnet_config_t *config)
{
    c->streaming = 1u;
    c->as_exported = 1u;
    if (config == (const bitnet_config_t *)0) {
        return BITNET_OK;
    }
    if (config->use_streaming > 1u) {
        return BITNET_E_CONFIG;
    }
    c->streaming = config->use_streaming;
    if (config->max_cache_len != 0u) {
        if (config->max_cache_len <= c->sinks || config->max_cache_len > c->window) {
            return BITNET_E_CONFIG;
        }
        c->as_exported &= (uint32_t)(config->max_cache_len == c->window);
        c->window = config->max_cache_len;
    }
    if (config->kv_quant_bits != 0u) {
        uint32_t bits = config->kv_quant_bits;
        if (bn_width_ok(bits) == 0u || bits > c->key_bits || bits > c->value_bits) {
            return BITNET_E_CONFIG;
        }
        c->as_exported &= (uint32_t)(bits == c->key_bits && bits == c->value_bits);
        c->key_bits = bits;
        c->value_bits = bits;
    }
    return BITNET_OK;
}

/* one part of the arena; the sum is limited to 2 GiB, so no offset or index into a part can wrap */
static uint32_t place(uint64_t *sum, uint64_t bytes)
{
    uint32_t at = bn_lo(*sum);
    *sum += (bytes + 15u) & ~(uint64_t)15u;
    if (*sum > 0x7FFFFFFFu) {
        *sum = (uint64_t)1 << 33; /* too large whatever follows */
    }
    return at;
}

static bitnet_status layout(bitnet_ctx *c, uint32_t planes_cols, uint32_t *bytes)
{
    static const uint8_t width[3] = { 4u, 1u, 2u };
    uint64_t sum = 0u;
    uint64_t layer = 0u;
    uint32_t i;
    uint32_t d = c->head_dim;
    uint32_t row = c->kv_heads * d; /* at most 2^20 */
    uint64_t heads = bn_mulu(c->window, c->kv_heads);
    /* scratch first: it is what the kernels use most */
    c->lut = place(&sum, c->lut_bytes);
    c->planes = place(&sum, (uint64_t)8u * ((planes_cols + 31u) >> 5));
    c->angles = place(&sum, 4u * d);
    c->angles_last = place(&sum, 4u * d);
    c->query = place(&sum, 4u * d);
    c->query_sink = place(&sum, 4u * d);
    c->sums = place(&sum, 8u * d);
    c->scores = place(&sum, 4u * c->window);
    for (i = 0u; i < c->n_registers; i++) {
        bitnet_register *r = &c->reg[i];
        r->kind = c->registers[2u * i];
        r->capacity = c->registers[2u * i + 1u];
        r->offset = place(&sum, bn_mulu(r->capacity, width[r->kind]));
        r->length = 0u;
    }
    c->kv = bn_lo(sum);
    (void)place(&layer, bn_mulu(c->window, row * c->key_bits >> 3));
    c->kv_values = place(&layer, bn_mulu(c->window, row * c->value_bits >> 3));
    c->kv_value_m = place(&layer, heads << 2);
    c->kv_value_e = place(&layer, heads << 1);
    c->kv_key_m = bn_lo(layer);
    c->kv_key_e = bn_lo(layer);
    if (c->static_keys == 0u) {
        c->kv_key_m = place(&layer, heads << 2);
        c->kv_key_e = place(&layer, heads << 1);
    }
    if (bn_hi(layer) != 0u) {
        return BITNET_E_ARENA;
    }
    c->kv_layer_bytes = bn_lo(layer);
    (void)place(&sum, bn_mulu(c->kv_layer_bytes, c->layers));
    c->texts = 0u;
    c->chains = 0u;
    c->pool_sums = 0u;
#if BITNET_WITH_ENCODER
    if (c->encoder != 0u) {
        c->texts = place(&sum, bn_mulu(c->window, 4u * c->d_model));
        c->chains = place(&sum, 4u * c->window);
        c->pool_sums = place(&sum, c->pool == (uint32_t)BN_POOL_MEAN ? 8u * c->d_model : 0u);
    }
#endif
    if (bn_hi(sum) != 0u) {
        return BITNET_E_ARENA;
    }
    *bytes = bn_lo(sum);
    return BITNET_OK;
}

static bitnet_status open_model(bitnet_ctx *c, const void *model, uint32_t model_bytes, const bitnet_config_t *config,
                                uint32_t *arena_bytes)
{
    sections s;
    uint32_t count = 0u;
    uint32_t planes_cols = 0u;
    bitnet_status st;
    const uint8_t *m = (const uint8_t *)model;
    c->state = 0u;
    if (low_bits(model, BITNET_MODEL_ALIGN) != 0u) {
        return BITNET_E_ALIGN;
    }
    st = check_header(m, model_bytes, &count);
    if (st != BITNET_OK) {
        return st;
    }
    st = check_sections(m, model_bytes, count, &s);
    if (st != BITNET_OK) {
        return st;
    }
    if ((s.bytes[KIND_PROGRAM] & 3u) != 0u || (s.bytes[KIND_GOLDEN] & 3u) != 0u) {
        return BITNET_E_FORMAT;
    }
    st = bn_read_head(c, words_at(s.data[KIND_PROGRAM]), s.bytes[KIND_PROGRAM] >> 2);
    if (st != BITNET_OK) {
        return st;
    }
    c->exp2_table = words_at(s.data[KIND_TABLES]);
    c->sin_table = (const int32_t *)(const void *)(s.data[KIND_TABLES] + 4u * 513u);
    c->weights = s.data[KIND_WEIGHTS];
    c->weights_bytes = s.bytes[KIND_WEIGHTS];
    c->tokenizer = s.data[KIND_TOKENIZER];
    c->tokenizer_bytes = s.bytes[KIND_TOKENIZER];
    c->golden = (const uint32_t *)0;
    c->golden_words = 0u;
    st = bn_check_tensors(c);
    if (st == BITNET_OK) {
        st = bn_check_operations(c, &planes_cols);
    }
    if (st != BITNET_OK) {
        return st;
    }
    if (s.data[KIND_GOLDEN] != (const uint8_t *)0) {
        c->golden = words_at(s.data[KIND_GOLDEN]);
        c->golden_words = s.bytes[KIND_GOLDEN] >> 2;
        st = bn_check_golden(c);
        if (st != BITNET_OK) {
            return st;
        }
    }
    st = configure(c, config);
    if (st != BITNET_OK) {
        return st;
    }
    return layout(c, planes_cols, arena_bytes);
}

/* ---- entry points ----------------------------------------------------------- */

bitnet_status bitnet_arena_bytes(const void *model, uint32_t model_bytes, const bitnet_config_t *config,
                                 uint32_t *bytes)
{
    bitnet_ctx c;
    if (model == (const void *)0 || bytes == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    *bytes = 0u;
    return open_model(&c, model, model_bytes, config, bytes);
}

bitnet_status bitnet_init(bitnet_ctx *ctx, const void *model, uint32_t model_bytes, const bitnet_config_t *config,
                          void *arena, uint32_t arena_bytes)
{
    uint32_t need = 0u;
    bitnet_status st;
    if (ctx == (bitnet_ctx *)0 || model == (const void *)0 || arena == (void *)0) {
        return BITNET_E_NULL;
    }
    ctx->state = 0u;
    st = open_model(ctx, model, model_bytes, config, &need);
    if (st != BITNET_OK) {
        return st;
    }
    if (low_bits(arena, BITNET_ARENA_ALIGN) != 0u) {
        return BITNET_E_ALIGN;
    }
    if (arena_bytes < need) {
        return BITNET_E_ARENA;
    }
    ctx->model = (const uint8_t *)model;
    ctx->model_bytes = model_bytes;
    ctx->scalar = 0u;
    ctx->failed = 0u;
    ctx->guard = (const uint32_t *)0;
    ctx->arena = (uint8_t *)arena;
    ctx->arena_bytes = need;
    ctx->lora = (const uint8_t *)0;
    ctx->lora_state = (uint32_t *)0;
    ctx->lora_parts = 0u;
    ctx->trace = (bitnet_trace_fn)0;
    ctx->trace_user = (void *)0;
    ctx->failed_prompt = 0u;
    ctx->failed_token = 0u;
    ctx->failed_layer = 0u;
    ctx->state = BITNET_READY;
    return bitnet_reset(ctx);
}

bitnet_status bn_check_image(const bitnet_ctx *c)
{
    sections s;
    uint32_t count = 0u;
    bitnet_status st = check_header(c->model, c->model_bytes, &count);
    return st == BITNET_OK ? check_sections(c->model, c->model_bytes, count, &s) : st;
}

bitnet_status bitnet_reset(bitnet_ctx *ctx)
{
    if (ctx == (bitnet_ctx *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY && ctx->state != BITNET_STEPPING) {
        return BITNET_E_STATE;
    }
    ctx->state = BITNET_READY;
    ctx->position = 0u;
    ctx->slot = 0u;
    ctx->tokens = 0u;
    ctx->saturated = 0u;
    ctx->angles_tensor = BN_NONE;
    ctx->angles_position = 0u;
    ctx->angles_last_tensor = BN_NONE;
    ctx->planes_register = BN_NONE;
#if defined(__aarch64__)
    ctx->simd = 0u;
#endif
    ctx->lut_register = BN_NONE;
    ctx->expected = (const uint32_t *)0;
    ctx->chain = 0u;
    ctx->chain_slot = 0u;
    ctx->mismatch = 0u;
    return BITNET_OK;
}

static uint32_t ready(const bitnet_ctx *c)
{
    return (uint32_t)(c != (const bitnet_ctx *)0 && (c->state == BITNET_READY || c->state == BITNET_STEPPING));
}

bitnet_status bitnet_tokenizer_of(const bitnet_ctx *ctx, bitnet_tokenizer *out, uint32_t *work, uint32_t work_words)
{
    if (ctx == (const bitnet_ctx *)0 || out == (bitnet_tokenizer *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY || ctx->tokenizer == (const uint8_t *)0) {
        return BITNET_E_STATE;
    }
    return bitnet_tok_open(out, ctx->tokenizer, ctx->tokenizer_bytes, work, work_words);
}

uint32_t bitnet_tokenizer_work(const bitnet_ctx *ctx)
{
    return ready(ctx) == 0u ? 0u : bitnet_tok_work(ctx->tokenizer, ctx->tokenizer_bytes);
}

bitnet_status bitnet_golden(const bitnet_ctx *ctx, uint32_t index, const uint32_t **ids, uint32_t *prompt_len,
                            uint32_t *total_len)
{
    const uint32_t *w;
    uint32_t i;
    if (ctx == (const bitnet_ctx *)0 || ids == (const uint32_t **)0 || prompt_len == (uint32_t *)0 ||
        total_len == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    if (index >= bitnet_golden_count(ctx)) {
        return BITNET_E_STATE;
    }
    w = ctx->golden + 4;
    for (i = 0u; i < index; i++) {
        w += 2u + w[1] * (ctx->layers + 3u);
    }
    *prompt_len = w[0];
    *total_len = w[1];
    *ids = w + 2;
    return BITNET_OK;
}

uint32_t bitnet_golden_count(const bitnet_ctx *ctx)
{
    return ready(ctx) != 0u && ctx->golden != (const uint32_t *)0 ? ctx->golden[1] : 0u;
}

uint32_t bitnet_version(void) { return BITNET_RUNTIME_VERSION; }
uint32_t bitnet_vocab(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->vocab : 0u; }
uint32_t bitnet_gives_embedding(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->embeds : 0u; }

uint32_t bitnet_result_length(const bitnet_ctx *ctx)
{
    return bitnet_gives_embedding(ctx) != 0u ? ctx->d_model : bitnet_vocab(ctx);
}

uint32_t bitnet_max_tokens(const bitnet_ctx *ctx)
{
    uint32_t most = 0u;
    if (ready(ctx) != 0u) {
        most = ctx->positions;
        if ((ctx->encoder != 0u || ctx->streaming == 0u) && (most == 0u || ctx->window < most)) {
            most = ctx->window;
        }
    }
    return most;
}

uint32_t bitnet_position(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->position : 0u; }
uint32_t bitnet_window(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->window : 0u; }
uint32_t bitnet_saturated(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->saturated : 0u; }
uint32_t bitnet_bos(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->program[23] : BITNET_NO_ID; }
uint32_t bitnet_eos_count(const bitnet_ctx *ctx) { return ready(ctx) != 0u ? ctx->program[18] : 0u; }

uint32_t bitnet_eos(const bitnet_ctx *ctx, uint32_t index)
{
    return index < bitnet_eos_count(ctx) ? ctx->program[19u + index] : BITNET_NO_ID;
}

uint32_t bitnet_is_eos(const bitnet_ctx *ctx, uint32_t id)
{
    uint32_t i;
    uint32_t n = bitnet_eos_count(ctx);
    for (i = 0u; i < n; i++) {
        if (ctx->program[19u + i] == id) {
            return 1u;
        }
    }
    return 0u;
}

void bitnet_set_simd(bitnet_ctx *ctx, uint32_t simd)
{
#if defined(__aarch64__)
    if (ctx != (bitnet_ctx *)0) {
        ctx->simd = simd;
    }
#else
    (void)ctx;
    (void)simd;
#endif
}

const char *bitnet_status_text(bitnet_status status)
{
    switch (status) {
    case BITNET_OK: return "ok";
    case BITNET_E_NULL: return "null pointer";
    case BITNET_E_MAGIC: return "not a packed model";
    case BITNET_E_VERSION: return "unknown version or byte order";
    case BITNET_E_CRC: return "checksum does not match";
    case BITNET_E_ARENA: return "arena too small";
    case BITNET_E_ALIGN: return "model or arena not aligned";
    case BITNET_E_TOKEN: return "token id outside of the vocabulary";
    case BITNET_E_CONTEXT: return "context is full";
    case BITNET_E_FORMAT: return "model is malformed";
    case BITNET_E_CAPACITY: return "buffer too small";
    case BITNET_E_SELFTEST: return "self-test found a difference";
    case BITNET_E_CONFIG: return "configuration not possible";
    case BITNET_E_STATE: return "not initialised, within a token, or part not in the model";
    case BITNET_E_FEATURE: return "model needs an operation that was not compiled in";
    case BITNET_E_RESULT: return "model gives embeddings, not logits, or the reverse";
    case BITNET_E_OTHER: return "belongs to another model";
    case BITNET_E_STACK: return "stack overflow";
    default: return "unknown status";
    }
}
