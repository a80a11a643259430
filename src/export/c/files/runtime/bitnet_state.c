/*
 * bitnet_state.c - the state of a conversation as bytes, little-endian
 * everywhere (docs/format/session.md).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

enum { HEAD_BYTES = 96, AT_CRC = 16, AT_DIGEST = 20, FLAG_STATIC = 1 };

static const uint8_t magic[8] = { 0x89u, 0x42u, 0x4Eu, 0x53u, 0x54u, 0x0Du, 0x0Au, 0x1Au };

/* ---- numbers in bytes ------------------------------------------------------------- */

static void put(uint8_t *p, uint32_t v, uint32_t bytes)
{
    uint32_t i;
    for (i = 0u; i < bytes; i++) {
        p[i] = (uint8_t)(v >> (8u * i));
    }
}

static uint32_t get(const uint8_t *p, uint32_t bytes)
{
    uint32_t v = 0u;
    uint32_t i;
    for (i = 0u; i < bytes; i++) {
        v |= (uint32_t)p[i] << (8u * i);
    }
    return v;
}

static uint32_t checksum(const uint8_t *p, uint32_t bytes)
{
    uint32_t crc = bn_crc_bytes(BN_CRC_START, p, (uint32_t)AT_CRC);
    crc = bn_crc_word(crc, 0u);
    return bn_crc_end(bn_crc_bytes(crc, p + AT_CRC + 4, bytes - (uint32_t)AT_CRC - 4u));
}

/* ---- the cache of a layer, part by part --------------------------------------------- */

/* Parts in their order: key codes, value codes, m and e of the values, m and e of the keys. */
typedef struct {
    uint32_t at;    /* in the layer */
    uint32_t bytes; /* of the slots that are filled */
    uint32_t width; /* bytes of an element, in which the machine's byte order counts */
    uint32_t bits;  /* of codes, 0: m, 1: e */
} part;

static uint32_t part_of(const bitnet_ctx *c, uint32_t which, uint32_t slots, part *p)
{
    uint32_t heads = slots * c->kv_heads;
    uint32_t codes = heads * c->head_dim; /* at most 2^31: they lie in the arena */
    p->width = (which & 1u) == 0u ? 4u : 2u;
    p->bits = (which & 1u) == 0u ? 0u : 1u;
    p->bytes = heads * p->width;
    switch (which) {
    case 0u: p->at = 0u; p->bits = c->key_bits; break;
    case 1u: p->at = c->kv_values; p->bits = c->value_bits; break;
    case 2u: p->at = c->kv_value_m; break;
    case 3u: p->at = c->kv_value_e; break;
    case 4u: p->at = c->kv_key_m; break;
    default: p->at = c->kv_key_e; break;
    }
    if (which < 2u) {
        p->bytes = p->bits == 16u ? codes << 1 : (p->bits == 8u ? codes : codes >> 1);
        p->width = p->bits == 16u ? 2u : 1u;
    }
    return (uint32_t)(which < (c->static_keys != 0u ? 4u : 6u));
}

static uint32_t filled(const bitnet_ctx *c) { return c->position < c->window ? c->position : c->window; }

static uint32_t state_bytes(const bitnet_ctx *c, uint32_t slots)
{
    uint32_t sum = 0u;
    uint32_t i;
    part p;
    for (i = 0u; part_of(c, i, slots, &p) != 0u; i++) {
        sum += p.bytes;
    }
    return (uint32_t)HEAD_BYTES + bn_lo(bn_mulu(sum, c->layers)); /* less than the arena and this head */
}

/* 0: an element that KVWRITE cannot have written */
static uint32_t possible(const bitnet_ctx *c, const part *p, uint32_t which, uint32_t v)
{
    if (p->bits == 0u) {
        return (uint32_t)(v >= 0x40000000u && v <= 0x7FFFFFFFu);
    }
    if (p->bits == 1u) {
        int32_t e = (int32_t)(v ^ 0x8000u) - 0x8000;
        return (uint32_t)(e >= -4096 && e <= 4095);
    }
    if (p->bits == 4u) {
        return (uint32_t)((which == 0u && c->static_keys != 0u) || ((v & 15u) != 8u && v >> 4 != 8u));
    }
    return (uint32_t)(v != (p->bits == 16u ? 0x8000u : 0x80u));
}

/* ---- entry points ---------------------------------------------------------------------- */

static bitnet_status usable(const bitnet_ctx *c)
{
    if (c->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    return c->embeds != 0u ? BITNET_E_RESULT : BITNET_OK;
}

bitnet_status bitnet_state_bytes(const bitnet_ctx *ctx, uint32_t *bytes)
{
    bitnet_status st;
    if (ctx == (const bitnet_ctx *)0 || bytes == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    *bytes = 0u;
    st = usable(ctx);
    if (st == BITNET_OK) {
        *bytes = state_bytes(ctx, filled(ctx));
    }
    return st;
}

/* what the file says about the model and the configuration, as this context has it */
static void put_head(const bitnet_ctx *c, uint8_t *p, uint32_t bytes)
{
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        p[i] = magic[i];
    }
    put(p + 8, 1u, 4u); /* version 1.0 */
    put(p + 12, bytes, 4u);
    put(p + AT_CRC, 0u, 4u);
    for (i = 0u; i < 32u; i++) {
        p[(uint32_t)AT_DIGEST + i] = c->model[32u + i];
    }
    put(p + 52, c->window, 4u);
    put(p + 56, c->key_bits, 4u);
    put(p + 60, c->value_bits, 4u);
    put(p + 64, c->layers, 4u);
    put(p + 68, c->kv_heads, 4u);
    put(p + 72, c->head_dim, 4u);
    put(p + 76, c->static_keys != 0u ? (uint32_t)FLAG_STATIC : 0u, 4u);
    put(p + 80, c->position, 4u);
    put(p + 84, c->saturated, 4u);
    put(p + 88, 0u, 4u);
    put(p + 92, 0u, 4u);
}

bitnet_status bitnet_state_save(const bitnet_ctx *ctx, void *out, uint32_t cap, uint32_t *bytes)
{
    uint8_t *p = (uint8_t *)out;
    uint32_t need = 0u;
    uint32_t layer;
    uint32_t which;
    uint32_t i;
    part a;
    bitnet_status st;
    if (out == (void *)0 || bytes == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    *bytes = 0u;
    st = bitnet_state_bytes(ctx, &need);
    if (st != BITNET_OK) {
        return st;
    }
    if (need > cap) {
        return BITNET_E_CAPACITY;
    }
    put_head(ctx, p, need);
    p += HEAD_BYTES;
    for (layer = 0u; layer < ctx->layers; layer++) {
        const uint8_t *base = (const uint8_t *)bn_at(ctx, ctx->kv + layer * ctx->kv_layer_bytes);
        for (which = 0u; part_of(ctx, which, filled(ctx), &a) != 0u; which++) {
            const uint8_t *from = base + a.at;
            for (i = 0u; i < a.bytes; i += a.width) {
                if (a.width == 4u) {
                    put(p, *(const bn_word *)(const void *)(from + i), 4u);
                } else if (a.width == 2u) {
                    put(p, (uint32_t)*(const bn_i16 *)(const void *)(from + i), 2u);
                } else {
                    *p = from[i];
                }
                p += a.width;
            }
        }
    }
    put((uint8_t *)out + AT_CRC, checksum((const uint8_t *)out, need), 4u);
    *bytes = need;
    return BITNET_OK;
}

static bitnet_status check_head(const bitnet_ctx *c, const uint8_t *p, uint32_t bytes)
{
    uint8_t own[HEAD_BYTES];
    uint32_t i;
    if (bytes < 8u) {
        return BITNET_E_MAGIC;
    }
    for (i = 0u; i < 8u; i++) {
        if (p[i] != magic[i]) {
            return BITNET_E_MAGIC;
        }
    }
    if (bytes < 12u || get(p + 8, 2u) != 1u) {
        return BITNET_E_VERSION;
    }
    if (bytes < (uint32_t)HEAD_BYTES || get(p + 12, 4u) != bytes) {
        return BITNET_E_FORMAT;
    }
    if (checksum(p, bytes) != get(p + AT_CRC, 4u)) {
        return BITNET_E_CRC;
    }
    put_head(c, own, bytes);
    for (i = (uint32_t)AT_DIGEST; i < 52u; i++) {
        if (p[i] != own[i]) {
            return BITNET_E_OTHER;
        }
    }
    for (i = 52u; i < 64u; i++) {
        if (p[i] != own[i]) {
            return BITNET_E_CONFIG;
        }
    }
    for (i = 64u; i < 96u; i++) {
        if (p[i] != own[i] && (i < 80u || i >= 88u)) { /* position and saturated are the conversation's */
            return BITNET_E_FORMAT;
        }
    }
    return BITNET_OK;
}

/* copies the cache into the arena, or with write 0 only looks at it */
static bitnet_status read_cache(const bitnet_ctx *c, const uint8_t *p, uint32_t slots, uint32_t write)
{
    uint32_t layer;
    uint32_t which;
    uint32_t i;
    part a;
    for (layer = 0u; layer < c->layers; layer++) {
        uint8_t *base = (uint8_t *)bn_at(c, c->kv + layer * c->kv_layer_bytes);
        for (which = 0u; part_of(c, which, slots, &a) != 0u; which++) {
            uint8_t *to = base + a.at;
            for (i = 0u; i < a.bytes; i += a.width) {
                uint32_t v = get(p, a.width);
                p += a.width;
                if (write == 0u) {
                    if (possible(c, &a, which, v) == 0u) {
                        return BITNET_E_FORMAT;
                    }
                } else if (a.width == 4u) {
                    *(bn_word *)(void *)(to + i) = v;
                } else if (a.width == 2u) {
                    *(bn_i16 *)(void *)(to + i) = (int16_t)v;
                } else {
                    to[i] = (uint8_t)v;
                }
            }
        }
    }
    return BITNET_OK;
}

/* the slot of position p: as it is below the window, then round and round behind the sinks */
static uint32_t slot_of(const bitnet_ctx *c, uint32_t p)
{
    uint32_t ring = c->window - c->sinks; /* at most 2^17 */
    uint32_t i;
    if (p < c->window) {
        return p;
    }
    p -= c->sinks;
    for (i = 32u - bn_bitlen(ring) + 1u; i > 0u; i--) { /* subtract shifted multiples */
        uint32_t step = ring << (i - 1u);
        if (p >= step) {
            p -= step;
        }
    }
    return c->sinks + p;
}

bitnet_status bitnet_state_restore(bitnet_ctx *ctx, const void *data, uint32_t bytes)
{
    const uint8_t *p = (const uint8_t *)data;
    uint32_t position;
    uint32_t slots;
    uint32_t most;
    bitnet_status st;
    if (ctx == (bitnet_ctx *)0 || data == (const void *)0) {
        return BITNET_E_NULL;
    }
    st = usable(ctx);
    if (st == BITNET_OK) {
        st = check_head(ctx, p, bytes);
    }
    if (st != BITNET_OK) {
        return st;
    }
    position = get(p + 80, 4u);
    slots = position < ctx->window ? position : ctx->window;
    most = bitnet_max_tokens(ctx);
    if (bytes != state_bytes(ctx, slots)) {
        return BITNET_E_FORMAT;
    }
    if (most != 0u && position > most) {
        return BITNET_E_CONTEXT;
    }
    st = read_cache(ctx, p + HEAD_BYTES, slots, 0u);
    if (st != BITNET_OK) {
        return st;
    }
    (void)bitnet_reset(ctx);
    ctx->position = position;
    ctx->slot = slot_of(ctx, position);
    ctx->saturated = get(p + 84, 4u);
    return read_cache(ctx, p + HEAD_BYTES, slots, 1u);
}
