/*
 * bitnet_sample.c - the choice of a token (docs/semantics.md section 6).
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

uint32_t argmax(const int32_t *logits, uint32_t n)
{
    uint32_t best = 0u;
    uint32_t i;
    if (logits == (const int32_t *)0) {
        return 0u;
    }
    for (i = 1u; i < n; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}

bitnet_status bitnet_temperature(uint32_t numerator, uint32_t denominator, bitnet_scale *inverse_temperature)
{
    bitnet_scale log2e = bn_log2e();
    bitnet_scale r;
    if (inverse_temperature == (bitnet_scale *)0) {
        return BITNET_E_NULL;
    }
    if (numerator == 0u || denominator == 0u) {
        return BITNET_E_CONFIG;
    }
    r = bn_mul_scale(bn_norm(denominator, 0), bn_inv(bn_norm(numerator, 0)));
    *inverse_temperature = bn_mul_scale(bn_exp_add(log2e, -16), r);
    return BITNET_OK;
}

bitnet_status bitnet_sample(const bitnet_ctx *ctx, const int32_t *logits, uint32_t n, const bitnet_sampling *how,
                            uint32_t *state, uint32_t *id)
{
    int32_t best[BITNET_MAX_TOP_K];
    uint32_t ids[BITNET_MAX_TOP_K];
    uint32_t count = 0u;
    uint32_t i;
    uint32_t k;
    uint32_t x;
    uint64_t sum = 0u;
    uint64_t y;
    int32_t top;
    bn_factor f;
    if (ctx == (const bitnet_ctx *)0 || logits == (const int32_t *)0 || how == (const bitnet_sampling *)0 ||
        state == (uint32_t *)0 || id == (uint32_t *)0) {
        return BITNET_E_NULL;
    }
    if (ctx->state != BITNET_READY) {
        return BITNET_E_STATE;
    }
    if (n == 0u || how->top_k < 1u || how->top_k > BITNET_MAX_TOP_K || how->inverse_temperature.m < 0x40000000u ||
        how->inverse_temperature.m > 0x7FFFFFFFu || how->inverse_temperature.e < -1048576 ||
        how->inverse_temperature.e > 1048576) {
        return BITNET_E_CONFIG;
    }
    for (i = 0u; i < n; i++) { /* logit descending, id ascending */
        if (count < how->top_k || logits[i] > best[count - 1u]) {
            if (count < how->top_k) {
                count += 1u;
            }
            for (k = count - 1u; k > 0u && logits[i] > best[k - 1u]; k--) {
                best[k] = best[k - 1u];
                ids[k] = ids[k - 1u];
            }
            best[k] = logits[i];
            ids[k] = i;
        }
    }
    f = bn_factor_of(how->inverse_temperature, 20);
    top = bn_times(best[0], f);
    for (k = 0u; k < count; k++) {
        uint32_t e = bn_exp2n(ctx->exp2_table, (uint32_t)top - (uint32_t)bn_times(best[k], f));
        best[k] = (int32_t)e;
        sum += e;
    }
    x = *state == 0u ? 1u : *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    y = bn_mulu(x, bn_hi(sum)) + (bn_mulu(x, bn_lo(sum)) >> 32); /* x * sum / 2^32, up to 68 bits before */
    sum = 0u;
    for (k = 0u; k < count; k++) {
        sum += (uint32_t)best[k];
        if (sum > y) {
            break;
        }
    }
    *id = ids[k < count ? k : count - 1u];
    return BITNET_OK;
}
