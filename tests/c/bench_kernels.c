/*
 * bench_kernels.c - one LINEAR of a chosen kernel and size on the emulator, for counting instructions
 * (tools/inscount.c).  Checks every row against a plain loop.
 * Arguments: KIND(1 binary,2 ternary,3 int8) CODES(8|16) HINT ROWS COLS LUT_BYTES QMAX REPEAT
 */
#include "bitnet_internal.h"
#include "port.h"

int bitnet_main(void);

static uint32_t weights[160 * 1024 / 4] __attribute__((section(".axi_bss"), aligned(64)));
static uint64_t memory[90 * 1024 / 8] __attribute__((section(".dtcm_bss"), aligned(64)));
static bitnet_ctx ctx;
const uint8_t bitnet_model_start[4] = { 0, 0, 0, 0 };
const uint8_t bitnet_model_end[4] = { 0, 0, 0, 0 };

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

static int32_t weight(const bn_tensor *w, uint32_t r, uint32_t c)
{
    const uint8_t *row = w->data + r * w->stride;
    const uint32_t *b = (const uint32_t *)(const void *)row;
    uint32_t words = (w->cols + 31u) >> 5;
    if (w->kind == (uint32_t)BN_BINARY) {
        return (b[c >> 5] >> (c & 31u) & 1u) != 0u ? 1 : -1;
    }
    if (w->kind == (uint32_t)BN_TERNARY) {
        return (int32_t)(b[c >> 5] >> (c & 31u) & 1u) - (int32_t)(b[words + (c >> 5)] >> (c & 31u) & 1u);
    }
    return ((const int8_t *)row)[c];
}

int bitnet_main(void)
{
    const char *s = port_args();
    uint32_t a[8] = { 1u, 8u, 2u, 512u, 512u, 32768u, 127u, 1u };
    uint32_t i = 0u;
    uint32_t r;
    uint32_t seed = 1u;
    bn_tensor w;
    bitnet_register *src = &ctx.reg[0];
    bitnet_register *dst = &ctx.reg[1];
    while (*s != '\0' && i < 8u) {
        if (*s == ' ') {
            s++;
            continue;
        }
        a[i] = 0u;
        while (*s >= '0' && *s <= '9') {
            a[i] = a[i] * 10u + (uint32_t)(*s - '0');
            s++;
        }
        i++;
    }
    w.kind = a[0];
    w.rows = a[3];
    w.cols = a[4];
    w.mode = 1u;
    w.groups = 1u;
    w.group = 0u;
    w.scale.m = 0x40000000u;
    w.scale.e = -30;
    w.stride = w.kind == 1u ? (w.cols + 31u) / 32u * 4u : w.kind == 2u ? (w.cols + 31u) / 32u * 8u : (w.cols + 3u) & ~3u;
    w.data = (const uint8_t *)weights;
    w.scale_m = weights;
    w.scale_h = w.data;
    for (i = 0u; i < sizeof weights / 4u; i++) {
        weights[i] = next(&seed);
    }
    if (w.kind == 2u) {
        uint32_t words = (w.cols + 31u) >> 5;
        for (r = 0u; r < w.rows; r++) {
            for (i = 0u; i < words; i++) {
                weights[r * 2u * words + words + i] &= ~weights[r * 2u * words + i];
            }
        }
    }
    ctx.arena = (uint8_t *)memory;
    ctx.lut = 0u;
    ctx.lut_bytes = a[5];
    ctx.planes = a[5];
    src->offset = a[5] + 4096u;
    src->kind = a[1] == 8u ? 1u : 2u;
    src->length = w.cols;
    src->qmax = (int32_t)a[6];
    src->lo = -(int32_t)a[6];
    src->hi = (int32_t)a[6] - (a[6] == 2u);
    src->scale = w.scale;
    dst->offset = src->offset + 2u * w.cols + 64u;
    for (i = 0u; i < w.cols; i++) {
        int32_t v = (int32_t)(next(&seed) >> 8 & 0x7FFFu) * (src->hi - src->lo + 1) / 32768 + src->lo;
        if (a[1] == 8u) {
            ((int8_t *)(ctx.arena + src->offset))[i] = (int8_t)v;
        } else {
            ((int16_t *)(void *)(ctx.arena + src->offset))[i] = (int16_t)v;
        }
    }
    ctx.lut_register = BN_NONE;
    ctx.planes_register = BN_NONE;
    for (i = 0u; i < a[7]; i++) {
        bn_linear(&ctx, src, 0u, dst, &w, a[2]);
    }
    {
        uint32_t n = bn_bitlen(a[6] * (w.kind == 3u ? 128u : 1u) * w.cols);
        for (r = 0u; r < w.rows; r++) {
            int32_t sum = 0;
            for (i = 0u; i < w.cols; i++) {
                sum += weight(&w, r, i) * (a[1] == 8u ? ((int8_t *)(ctx.arena + src->offset))[i]
                                                      : ((int16_t *)(void *)(ctx.arena + src->offset))[i]);
            }
            if (bn_vec(&ctx, dst)[r] != (int32_t)((uint32_t)sum << (30u - n))) {
                port_write("differs\n");
                return 1;
            }
        }
    }
    port_write("equal\n");
    return 0;
}
