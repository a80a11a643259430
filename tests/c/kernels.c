/*
 * kernels.c - every kernel of LINEAR against a plain loop over the weights: on a host with sanitizers for random shapes
 * (tests/c_runtime.rs), on emulated cores for a list of shapes whose instructions are counted (tools/kernels.py).
 *
 *   host:     kernels SEED COUNT     random cases; prints the first that differs
 *   emulator: the cases of CASES, with kernels_mark() around each call of bn_linear
 */
#include "bitnet_internal.h"

#ifndef KERNELS_HOST
#define KERNELS_HOST 0
#endif

#define MOST (512u * 512u)

void kernels_write(const char *text);
void kernels_mark(void);
int kernels_main(uint32_t seed, uint32_t count);

/* everything that varies */
typedef struct {
    uint32_t kind, order, hint, qmax, rows, cols;
    uint32_t lut_bytes; /* 0: room for all tables */
    uint32_t mode;      /* scales */
    const char *name;
} a_case;

static int16_t weights[MOST];
static uint64_t packed[MOST / 2u]; /* the largest: int16 padded, four planes */
static uint64_t arena[96u * 1024u];
static uint32_t scale_m[MOST / 32u];
static uint8_t scale_h[MOST / 32u];
static bitnet_ctx ctx;

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

/* 0 ..< n */
static uint32_t below(uint32_t *s, uint32_t n) { return (uint32_t)(((uint64_t)(next(s) >> 4) * n) >> 28); }

static uint32_t divided(uint32_t a, uint32_t b)
{
    uint32_t q = 0u;
    while (a >= b) {
        a -= b;
        q += 1u;
    }
    return q;
}

static int32_t weight_of(uint32_t kind, uint32_t *s)
{
    switch (kind) {
    case BN_BINARY: return (next(s) & 64u) != 0u ? 1 : -1;
    case BN_TERNARY:
    case BN_TERNARY5: return (int32_t)below(s, 3u) - 1;
    case BN_INT8: return (int32_t)below(s, 256u) - 128;
    case BN_INT16: return (int32_t)below(s, 65536u) - 32768;
    default: return (int32_t)below(s, 16u) - 8;
    }
}

/* as docs/format/packed.md says it; returns the bytes of a row */
static uint32_t pack(const a_case *k, uint8_t *out)
{
    uint32_t cols = k->cols;
    uint32_t groups = (cols + 7u) >> 3;
    uint32_t fifths = divided(cols + 4u, 5u);
    uint32_t words = (cols + 31u) >> 5;
    uint32_t stride;
    uint32_t r;
    uint32_t c;
    switch (k->kind) {
    case BN_BINARY: stride = k->order == 1u ? groups : 4u * words; break;
    case BN_TERNARY: stride = 8u * words; break;
    case BN_INT8: stride = (cols + 3u) & ~3u; break;
    case BN_INT16: stride = (2u * cols + 3u) & ~3u; break;
    case BN_TERNARY5: stride = fifths; break;
    case BN_INT4: stride = (((cols + 1u) >> 1) + 3u) & ~3u; break;
    default: stride = 4u * groups; break;
    }
    for (r = 0u; r < stride * ((k->rows + 3u) & ~3u); r++) {
        out[r] = 0u;
    }
    for (r = 0u; r < k->rows; r++) {
        const int16_t *w = weights + r * cols;
        uint8_t *row = out + r * stride;
        uint8_t *quad = out + 4u * stride * (r >> 2) + (r & 3u);
        uint32_t digit = 0u;
        uint32_t byte = 0u;
        uint32_t group = 0u;
        static const uint8_t power[5] = { 1u, 3u, 9u, 28u, 84u };
        for (c = 0u; c < cols; c++) {
            uint32_t v = (uint32_t)(int32_t)w[c];

            switch (k->kind) {
            case BN_BINARY:
                if (k->order == 1u) {
                    quad[4u * (c >> 3)] |= (uint8_t)((w[c] > 0) << (c & 7u));
                } else {
                    ((uint32_t *)(void *)row)[c >> 5] |= (uint32_t)(w[c] > 0) << (c & 31u);
                }
                break;
            case BN_TERNARY:
                if (w[c] != 0) {
                    ((uint32_t *)(void *)row)[(w[c] > 0 ? 0u : words) + (c >> 5)] |= 1u << (c & 31u);
                }
                break;
            case BN_INT8: row[c] = (uint8_t)v; break;
            case BN_INT16: ((int16_t *)(void *)row)[c] = w[c]; break;
            case BN_INT4: row[c >> 1] |= (uint8_t)((v & 15u) << (4u * (c & 1u))); break;
            case BN_TERNARY5:
                byte += (v + 1u) * power[digit];
                digit += 1u;
                break;
            default: {
                uint32_t plane;
                for (plane = 0u; plane < 4u; plane++) {
                    quad[plane * stride + 4u * (c >> 3)] |= (uint8_t)((v >> plane & 1u) << (c & 7u));
                }
                break;
            }
            }
            if (digit == 5u || (c + 1u == cols && k->kind == (uint32_t)BN_TERNARY5)) {
                for (; digit < 5u; digit++) {
                    byte += power[digit];
                }
                if (k->order == 1u) {
                    quad[4u * group] = (uint8_t)byte;
                } else {
                    row[group] = (uint8_t)byte;
                }
                group += 1u;
                digit = 0u;
                byte = 0u;
            }
        }
    }
    return stride;
}

static int64_t rounded(int64_t v, uint32_t s) { return s == 0u ? v : (v + ((int64_t)1 << (s - 1u))) >> s; }

/* 1: equal in every row, by the kernel twice, and by the plain loop of the runtime if it is asked for */
static uint32_t run(const a_case *k, uint32_t seed, uint32_t scalar)
{
    bitnet_register *src = &ctx.reg[3];
    bitnet_register *dst = &ctx.reg[7];
    int8_t *c8;
    int16_t *c16;
    bn_tensor w;
    uint32_t r;
    uint32_t c;
    uint32_t g;
    uint32_t bits;
    uint32_t round;
    uint32_t table = (k->qmax <= 15u ? 256u : 512u) * (k->kind == (uint32_t)BN_TERNARY5 ? divided(k->cols + 4u, 5u) : (k->cols + 7u) >> 3);
    for (r = 0u; r < k->rows * k->cols; r++) {
        weights[r] = (int16_t)weight_of(k->kind, &seed);
    }
    w.kind = k->kind;
    w.order = k->order;
    w.rows = k->rows;
    w.cols = k->cols;
    w.mode = k->mode;
    w.group = k->mode == 3u ? 64u : 0u;
    w.groups = k->mode == 3u ? (k->cols + 63u) >> 6 : 1u;
    w.scale.m = 0x40000000u;
    w.scale.e = -30;
    w.data = (const uint8_t *)packed;
    w.stride = pack(k, (uint8_t *)packed);
    w.scale_m = scale_m;
    w.scale_h = scale_h;
    for (r = 0u; r < k->rows * w.groups && k->mode > 1u; r++) {
        scale_m[r] = 0x40000000u + below(&seed, 0x40000000u);
        scale_h[r] = (uint8_t)below(&seed, 5u);
    }
    ctx.arena = (uint8_t *)arena;
    ctx.lut = 0u;
    ctx.lut_bytes = k->hint == 2u ? (k->lut_bytes != 0u ? k->lut_bytes : (table + 511u) & ~511u) : 0u;
    ctx.planes = ctx.lut_bytes;
    ctx.scalar = 0u;
    src->offset = ctx.lut_bytes + ((8u * ((k->cols + 31u) >> 5) + 15u) & ~15u);
    src->kind = k->qmax <= 127u ? 1u : 2u;
    src->length = k->cols;
    src->qmax = (int32_t)k->qmax;
    src->lo = k->qmax == 2u ? -2 : -(int32_t)k->qmax;
    src->hi = k->qmax == 2u ? 1 : (int32_t)k->qmax;
    src->scale = w.scale;
    dst->offset = src->offset + ((2u * k->cols + 15u) & ~15u);
    c8 = (int8_t *)(ctx.arena + src->offset);
    c16 = (int16_t *)(void *)c8;
    for (c = 0u; c < k->cols; c++) {
        int32_t v = (int32_t)below(&seed, (uint32_t)(src->hi - src->lo) + 1u) + src->lo;
        if (src->kind == 1u) {
            c8[c] = (int8_t)v;
        } else {
            c16[c] = (int16_t)v;
        }
    }
    bits = bn_sum_bits(k->qmax, k->kind, k->cols);
    ctx.lut_register = BN_NONE;
    ctx.planes_register = BN_NONE;
    for (round = 0u; round < 2u + scalar; round++) {
        uint32_t b = bits < 30u ? bits : 30u;
        uint32_t a = bits - b;
        ctx.scalar = (uint32_t)(round == 2u);
        for (r = 0u; r < k->rows; r++) {
            bn_vec(&ctx, dst)[r] = 0x5A5A5A5A;
        }
        kernels_mark();
        bn_linear(&ctx, src, 3u, dst, &w, k->hint);
        kernels_mark();
        for (r = 0u; r < k->rows; r++) {
            int64_t sum = 0;
            int64_t total = 0;
            for (c = 0u, g = 0u; c < k->cols; c++) {
                sum += (int64_t)(weights[r * k->cols + c] * (src->kind == 1u ? c8[c] : c16[c]));
                if (k->mode == 3u && ((c & 63u) == 63u || c + 1u == k->cols)) {
                    uint32_t at = r * w.groups + g;
                    total += rounded(rounded(sum, a) * (int32_t)scale_m[at], scale_h[at]);
                    sum = 0;
                    g += 1u;
                }
            }
            if (k->mode == 1u) {
                total = rounded(sum, a) * ((int64_t)1 << (30u - b));
            } else if (k->mode == 2u) {
                total = rounded(rounded(sum, a) * (int32_t)scale_m[r], b + 1u + scale_h[r]);
            } else {
                total = rounded(total, b + 1u);
            }
            if (bn_vec(&ctx, dst)[r] != (int32_t)total) {
                return 0u;
            }
        }
    }
    return 1u;
}

#if KERNELS_HOST

/* a kind, order, hint and shape that a checked model can have */
static a_case random_case(uint32_t *s)
{
    static const uint16_t qmaxes[8] = { 1u, 2u, 2u, 7u, 15u, 16u, 127u, 32767u };
    a_case k;
    k.name = "";
    k.kind = 1u + below(s, 7u);
    k.kind = k.kind > 4u ? k.kind + 3u : k.kind;
    k.order = k.kind == (uint32_t)BN_PLANES4 ? 1u : k.kind == (uint32_t)BN_BINARY || k.kind == (uint32_t)BN_TERNARY5 ? next(s) & 1u : 0u;
    k.qmax = qmaxes[below(s, 8u)];
    k.rows = 1u + below(s, 41u);
    k.cols = 1u + below(s, below(s, 4u) == 0u ? 600u : 90u);
    k.mode = 1u + below(s, k.kind <= 2u ? 3u : 2u);
    k.hint = k.order == 1u && k.qmax <= 127u ? below(s, 4u) == 0u ? 0u : 2u : k.order == 0u && k.kind <= 2u && k.qmax == 2u ? next(s) >> 9 & 1u : 0u;
    k.lut_bytes = below(s, 3u) == 0u ? 512u * (1u + below(s, 9u)) : 0u;
    return k;
}

#include <stdio.h>
#include <stdlib.h>

void kernels_write(const char *text) { fputs(text, stdout); }
void kernels_mark(void) {}

int main(int argc, char **argv)
{
    uint32_t seed = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1u;
    uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000u;
    uint32_t i;
    for (i = 0u; i < count; i++) {
        a_case k = random_case(&seed);
        if (run(&k, seed, 1u) == 0u) {
            printf("case %u differs: kind %u order %u hint %u qmax %u rows %u cols %u lut_bytes %u scales %u\n", i, k.kind, k.order,
                   k.hint, k.qmax, k.rows, k.cols, k.lut_bytes, k.mode);
            return 1;
        }
        seed = seed * 69069u + 1u;
    }
    printf("equal: %u cases\n", count);
    return 0;
}

#else

static const a_case cases[] = {
#include "kernel_cases.h"
};

int kernels_main(uint32_t seed, uint32_t count)
{
    uint32_t i;
    (void)seed;
    (void)count;
    for (i = 0u; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t equal = run(&cases[i], 12345u + i, 0u);
        kernels_write(equal != 0u ? "equal " : "DIFFERS ");
        kernels_write(cases[i].name);
        kernels_write("\n");
    }
    return 0;
}

#endif
