/*
 * bitnet_order.c - the packed model in the byte order of a big-endian machine.
 * Files are little-endian; the runtime reads words where they lie, so such a
 * machine turns a writable copy once, before bitnet_init.
 */
#include "bitnet_internal.h"
#include "bitnet_poison.h"

#if BN_LITTLE

bitnet_status bitnet_to_native(void *model, uint32_t bytes)
{
    (void)bytes;
    return model == (void *)0 ? BITNET_E_NULL : BITNET_OK;
}

#else

static uint32_t le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* n bytes in units of 2 or 4 */
static void turn(uint8_t *p, uint32_t n, uint32_t unit)
{
    uint32_t i;
    for (i = 0u; n - i >= unit; i += unit) {
        uint8_t *u = p + i;
        uint8_t b = u[0];
        u[0] = u[unit - 1u];
        u[unit - 1u] = b;
        if (unit == 4u) {
            b = u[1];
            u[1] = u[2];
            u[2] = b;
        }
    }
}

static uint32_t crc_of(const uint8_t *p, uint32_t n) { return bn_crc_end(bn_crc_bytes(BN_CRC_START, p, n)); }

static void put_word(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16 & 255u);
    p[2] = (uint8_t)(v >> 8 & 255u);
    p[3] = (uint8_t)(v & 255u);
}

static uint32_t header_crc(const uint8_t *m, uint32_t count)
{
    uint32_t crc = bn_crc_bytes(BN_CRC_START, m, 28u);
    uint32_t i;
    for (i = 0u; i < 9u; i++) {
        crc = bn_crc_word(crc, 0u);
    }
    return bn_crc_end(bn_crc_bytes(crc, m + 64, 64u * count));
}

/* a part of the weights; what lies outside is left to bitnet_init to refuse */
static void turn_part(uint8_t *w, uint32_t w_bytes, uint32_t at, uint32_t n, uint32_t unit)
{
    if (at <= w_bytes && n <= w_bytes - at) {
        turn(w + at, n, unit);
    }
}

/* p: the tensor table, still little-endian. Bit rows read as words, numbers of 16 and 32 bits; bytes stay. */
static void turn_tensors(const uint8_t *p, uint32_t n, uint8_t *w, uint32_t w_bytes)
{
    uint32_t i;
    for (i = 0u; i < n; i++) {
        const uint8_t *t = p + 64u * i;
        uint32_t kind = le(t);
        uint32_t at = le(t + 4u * (uint32_t)T_DATA);
        uint32_t bytes = le(t + 4u * (uint32_t)T_BYTES);
        uint32_t j;
        uint32_t seen = 0u;
        for (j = 0u; j < i; j++) { /* two tensors may share their bytes */
            seen |= (uint32_t)(le(p + 64u * j + 4u * (uint32_t)T_DATA) == at);
        }
        if (seen == 0u) {
            switch (kind) {
            case BN_BINARY:
            case BN_TERNARY:
            case BN_VECTOR:
            case BN_FREQ: turn_part(w, w_bytes, at, bytes, 4u); break;
            case BN_INT16: turn_part(w, w_bytes, at, bytes, 2u); break;
            case BN_STATIC_KEYS: /* 12 bytes of words, 2 bytes of shifts for each element */
                turn_part(w, w_bytes, at, 12u * (le(t + 4u * (uint32_t)T_ROWS) * le(t + 4u * (uint32_t)T_COLS)), 4u);
                break;
            default: break;
            }
        }
        at = le(t + 4u * (uint32_t)T_SC);
        bytes = le(t + 4u * (uint32_t)T_SC_BYTES);
        seen = (uint32_t)(bytes == 0u);
        for (j = 0u; j < i; j++) {
            seen |= (uint32_t)(le(p + 64u * j + 4u * (uint32_t)T_SC) == at && le(p + 64u * j + 4u * (uint32_t)T_SC_BYTES) != 0u);
        }
        if (seen == 0u) { /* 4 bytes of mantissa, 1 of shift for each scale */
            uint32_t scales = bn_lo(bn_mulu(bytes, 0xCCCCCCCDu) >> 34); /* bytes / 5 */
            turn_part(w, w_bytes, at, 4u * scales, 4u);
        }
    }
}

bitnet_status bitnet_to_native(void *model, uint32_t bytes)
{
    uint8_t *m = (uint8_t *)model;
    uint8_t *program = (uint8_t *)0;
    uint8_t *weights = (uint8_t *)0;
    uint32_t program_bytes = 0u;
    uint32_t weights_bytes = 0u;
    uint32_t count;
    uint32_t i;
    if (m == (uint8_t *)0) {
        return BITNET_E_NULL;
    }
    if (bytes < 128u) {
        return BITNET_E_MAGIC;
    }
    if (m[24] == 1u) { /* turned already */
        return BITNET_OK;
    }
    count = le(m + 12);
    if (m[24] != 4u) {
        return BITNET_E_VERSION;
    }
    if (count < 1u || count > 16u || 64u + 64u * count > bytes) {
        return BITNET_E_FORMAT;
    }
    if (header_crc(m, count) != le(m + 28)) { /* damage must not get a new checksum */
        return BITNET_E_CRC;
    }
    for (i = 0u; i < count; i++) {
        const uint8_t *e = m + 64u + 64u * i;
        uint32_t start = le(e + 8);
        uint32_t n = le(e + 16);
        if (start > bytes || n > bytes - start || start < 64u + 64u * count) {
            return BITNET_E_FORMAT;
        }
        if (crc_of(m + start, n) != le(e + 24)) {
            return BITNET_E_CRC;
        }
        if (le(e) == 1u) {
            program = m + start;
            program_bytes = n;
        } else if (le(e) == 3u) {
            weights = m + start;
            weights_bytes = n;
        }
    }
    if (program != (uint8_t *)0 && weights != (uint8_t *)0 && program_bytes >= 4u * (uint32_t)BN_HEAD_WORDS) {
        uint32_t n = le(program + 12);
        if (n <= 65536u && 64u * n <= program_bytes) { /* the tensors end the section */
            turn_tensors(program + program_bytes - 64u * n, n, weights, weights_bytes);
        }
    }
    for (i = 0u; i < count; i++) {
        uint8_t *e = m + 64u + 64u * i;
        uint32_t kind = le(e);
        uint32_t start = le(e + 8);
        uint32_t n = le(e + 16);
        if (kind == 1u || kind == 2u || kind == 5u) {
            turn(m + start, n, 4u);
        }
        turn(e, 32u, 4u);
        put_word(e + 24, crc_of(m + start, n));
    }
    turn(m + 8, 4u, 2u); /* the two halves of the version */
    turn(m + 12, 20u, 4u);
    put_word(m + 28, header_crc(m, count));
    return BITNET_OK;
}

#endif
