/*
 * bitnet_delta_state.c - the records of the state area.
 *
 * The area is two erase units, each a row of entries: a record with its CRC-32, then two seals.  A record counts if one
 * seal is readable, so it was whole before, and is acted upon only when both were written: bits of what was cut short may
 * read one way now and another way after the next start.  Entries are appended; the other unit is erased when one is
 * full, and so the newest record that counts is never in a unit that is being written to for the first time.
 */
#include "bitnet_delta_internal.h"
#include "bitnet_poison.h"

enum { RECORD = 96, AT_CRC = 92, GRAIN_MAX = 32, ENTRY_MAX = RECORD + 2 * GRAIN_MAX, ENTRIES_MAX = 64 };

static const uint8_t magic[4] = { 0x42u, 0x4Eu, 0x44u, 0x53u };
static const uint8_t seal[8] = { 0x5Au, 0x53u, 0x45u, 0x41u, 0x4Cu, 0x45u, 0x44u, 0xA5u };

static void put(uint8_t *p, uint32_t v)
{
    uint32_t i;
    for (i = 0u; i < 4u; i++) {
        p[i] = (uint8_t)(v >> (8u * i));
    }
}

static void put_long(uint8_t *p, uint64_t v)
{
    put(p, bn_lo(v));
    put(p + 4, bn_hi(v));
}

static uint64_t long_at(const uint8_t *p) { return (uint64_t)dl_word(p + 4) << 32 | dl_word(p); }

/* bytes of a seal */
static uint32_t grain(const bitnet_delta_t *d)
{
    return d->config->flash->program_bytes < 8u ? 8u : d->config->flash->program_bytes;
}

static uint32_t entry_bytes(const bitnet_delta_t *d) { return (uint32_t)RECORD + (grain(d) << 1); }

static uint32_t entries(const bitnet_delta_t *d)
{
    const uint32_t size = entry_bytes(d);
    uint32_t left = 1u << d->config->flash->erase_log2;
    uint32_t n = 0u;
    while (left >= size && n < (uint32_t)ENTRIES_MAX) {
        left -= size;
        n++;
    }
    return n;
}

static uint32_t entry_at(const bitnet_delta_t *d, uint32_t unit, uint32_t slot)
{
    return d->config->flash->state.at + (unit << d->config->flash->erase_log2) + slot * entry_bytes(d);
}

static uint32_t seals_of(const uint8_t *p, uint32_t bytes)
{
    uint32_t n = 0u;
    uint32_t i;
    uint32_t k;
    for (i = 0u; i < 2u; i++) {
        uint32_t good = 1u;
        for (k = 0u; k < bytes; k++) {
            good &= (uint32_t)(p[i * bytes + k] == seal[k & 7u]);
        }
        n += good;
    }
    return n;
}

static void unpack(bitnet_delta_state_t *s, const uint8_t *p)
{
    s->counter = dl_word(p + 4);
    s->state = p[8];
    s->active = p[9];
    s->back = p[10];
    s->journal = p[11];
    s->trials = dl_word(p + 12);
    s->group = dl_word(p + 16);
    s->accepted = long_at(p + 20);
    s->current = long_at(p + 28);
    s->previous = long_at(p + 36);
    dl_copy(s->patch, p + 44, 16u);
    dl_copy(s->contents, p + 60, 16u);
    s->dirty = p[76];
}

static void pack(const bitnet_delta_state_t *s, uint8_t *p)
{
    uint32_t i;
    for (i = 0u; i < (uint32_t)RECORD; i++) {
        p[i] = 0u;
    }
    dl_copy(p, magic, 4u);
    put(p + 4, s->counter);
    p[8] = s->state;
    p[9] = s->active;
    p[10] = s->back;
    p[11] = s->journal;
    put(p + 12, s->trials);
    put(p + 16, s->group);
    put_long(p + 20, s->accepted);
    put_long(p + 28, s->current);
    put_long(p + 36, s->previous);
    dl_copy(p + 44, s->patch, 16u);
    dl_copy(p + 60, s->contents, 16u);
    p[76] = s->dirty;
    put(p + AT_CRC, bn_crc_end(bn_crc_bytes(BN_CRC_START, p, (uint32_t)AT_CRC)));
}

/* a record of this code that is not damaged */
static uint32_t sound(const uint8_t *p)
{
    return (uint32_t)(dl_equal(p, magic, 4u) != 0u && p[8] <= (uint8_t)BITNET_DELTA_TRIAL && p[9] <= 1u && p[10] <= 1u && p[11] <= 1u && p[76] <= 1u &&
                      dl_word(p + AT_CRC) == bn_crc_end(bn_crc_bytes(BN_CRC_START, p, (uint32_t)AT_CRC)));
}

bitnet_delta_status dl_state_load(bitnet_delta_t *d)
{
    const uint32_t size = entry_bytes(d);
    const uint32_t slots = entries(d);
    uint32_t used[2];
    uint32_t found = 0u;
    uint32_t settled = 0u;
    uint32_t unit;
    uint32_t slot;
    uint8_t bytes[ENTRY_MAX];
    d->unit = 0u;
    for (unit = 0u; unit < 2u; unit++) {
        used[unit] = 0u;
        for (slot = 0u; slot < slots; slot++) {
            uint32_t blank = 1u;
            uint32_t seals;
            uint32_t i;
            const bitnet_delta_status st = dl_read(d, entry_at(d, unit, slot), bytes, size);
            if (st != BITNET_DELTA_OK) {
                return st;
            }
            for (i = 0u; i < size; i++) {
                blank &= (uint32_t)(bytes[i] == 0xFFu);
            }
            if (blank != 0u) {
                continue;
            }
            used[unit] = slot + 1u;
            seals = seals_of(bytes + RECORD, grain(d));
            if (seals > 0u && sound(bytes) != 0u && (found == 0u || dl_word(bytes + 4) > d->state.counter)) {
                unpack(&d->state, bytes);
                found = 1u;
                settled = (uint32_t)(seals == 2u);
                d->unit = unit;
            }
        }
    }
    d->slot = found != 0u ? used[d->unit] : slots; /* without a record the first thing is an erase */
    return found != 0u && settled == 0u ? dl_state_save(d) : BITNET_DELTA_OK;
}

static bitnet_delta_status append(bitnet_delta_t *d, uint8_t *bytes)
{
    const uint32_t size = grain(d);
    uint32_t at;
    uint32_t i;
    uint32_t k;
    bitnet_delta_status st;
    if (d->slot >= entries(d)) {
        const uint32_t other = 1u - d->unit;
        st = dl_erase(d, entry_at(d, other, 0u), 1u);
        if (st != BITNET_DELTA_OK) {
            return st;
        }
        d->unit = other;
        d->slot = 0u;
    }
    at = entry_at(d, d->unit, d->slot);
    d->slot++;
    st = dl_program(d, at, bytes, (uint32_t)RECORD);
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    st = dl_sync(d);
    at += (uint32_t)RECORD;
    for (i = 0u; i < 2u && st == BITNET_DELTA_OK; i++) {
        for (k = 0u; k < size; k++) {
            bytes[RECORD + k] = seal[k & 7u];
        }
        st = dl_program(d, at, bytes + RECORD, size);
        if (st != BITNET_DELTA_OK) {
            return st;
        }
        st = dl_sync(d);
        at += size;
    }
    return st;
}

bitnet_delta_status dl_state_save(bitnet_delta_t *d)
{
    uint8_t bytes[ENTRY_MAX];
    uint8_t written[RECORD];
    bitnet_delta_status st;
    d->state.counter++;
    pack(&d->state, bytes);
    st = append(d, bytes);
    if (st == BITNET_DELTA_OK) {
        st = dl_read(d, entry_at(d, d->unit, d->slot - 1u), written, (uint32_t)RECORD);
    }
    if (st == BITNET_DELTA_OK && dl_equal(bytes, written, (uint32_t)RECORD) == 0u) {
        st = BITNET_DELTA_E_FLASH;
    }
    if (st != BITNET_DELTA_OK) {
        d->opened = 0u; /* what the area holds now is found out by opening it again */
    }
    return st;
}
