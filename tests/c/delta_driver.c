/*
 * delta_driver.c - applies patches with the C applier in a flash of memory, for the sanitizers.
 *
 *   delta_driver one|two [erase_log2] BASE PATCH TARGET     one slot or two; the target must come out; one: and back if reversible
 *   delta_driver damage BASE PATCH SEED COUNT               COUNT patches with damage, whose digests were made good again
 *
 * Every area is an allocation of its own, so that a step outside is seen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitnet_delta.h"
#include "read_file.h"

#define MUST(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); exit(99); } } while (0)

enum { SLOT_0, SLOT_1, PATCH, STATE, JOURNAL, AREAS };
static unsigned char *area[AREAS];
static uint32_t area_bytes[AREAS];
static uint32_t unit = 4096u;

/* area k begins at (k + 1) << 28 */
static unsigned char *place(uint32_t at, uint32_t bytes)
{
    const uint32_t which = (at >> 28) - 1u;
    const uint32_t offset = at & 0xFFFFFFFu;
    MUST(which < AREAS && offset <= area_bytes[which] && bytes <= area_bytes[which] - offset);
    return area[which] + offset;
}

static int flash_read(void *user, uint32_t at, void *out, uint32_t bytes)
{
    (void)user;
    memcpy(out, place(at, bytes), bytes);
    return 0;
}

static int flash_program(void *user, uint32_t at, const void *data, uint32_t bytes)
{
    const unsigned char *from = data;
    unsigned char *to = place(at, bytes);
    uint32_t i;
    MUST((at >> 28) - 1u != PATCH && ((at | bytes) & *(const uint32_t *)user) == 0u);
    for (i = 0; i < bytes; i++) {
        MUST(to[i] == 0xFFu);
        to[i] = from[i];
    }
    return 0;
}

static int flash_erase(void *user, uint32_t at)
{
    (void)user;
    MUST((at >> 28) - 1u != PATCH && (at & (unit - 1u)) == 0u);
    memset(place(at, unit), 0xFF, unit);
    return 0;
}

static void set_area(uint32_t which, const unsigned char *data, uint32_t bytes, uint32_t room)
{
    area_bytes[which] = (room + unit - 1u) & ~(unit - 1u);
    free(area[which]);
    area[which] = malloc(area_bytes[which] + 1u);
    MUST(area[which] != NULL);
    memset(area[which], 0xFF, area_bytes[which]);
    if (bytes > 0u) {
        memcpy(area[which], data, bytes);
    }
}

static uint32_t rounded(uint32_t bytes) { return (bytes + unit - 1u) & ~(unit - 1u); }

/* a device with this base and patch; the state area stays if `again` */
static bitnet_delta_status update(uint32_t slots, const unsigned char *base, uint32_t base_bytes, const unsigned char *patch, uint32_t patch_bytes,
                                  uint32_t slot_bytes, uint32_t program_bytes, bitnet_delta_t *d, uint32_t *slot)
{
    static bitnet_flash_t flash;
    static bitnet_delta_config config;
    static uint32_t mask;
    static unsigned char *memory;
    uint32_t need = BITNET_DELTA_LEAST;
    uint32_t i;
    bitnet_delta_status st;
    memset(&flash, 0, sizeof flash);
    memset(&config, 0, sizeof config);
    set_area(SLOT_0, base, base_bytes, slot_bytes);
    set_area(SLOT_1, NULL, 0, slot_bytes);
    set_area(PATCH, patch, patch_bytes, patch_bytes < 384u ? 384u : patch_bytes);
    set_area(STATE, NULL, 0, 2u * unit);
    set_area(JOURNAL, NULL, 0, 1u << 20);
    mask = program_bytes - 1u;
    flash.user = &mask;
    flash.read = flash_read;
    flash.program = flash_program;
    flash.erase = flash_erase;
    while (1u << flash.erase_log2 < unit) { flash.erase_log2++; }
    flash.program_bytes = program_bytes;
    flash.slot[0].at = 1u << 28;
    flash.slot[0].bytes = rounded(slot_bytes);
    flash.slot[1].at = 2u << 28;
    flash.slot[1].bytes = slots == 2u ? rounded(slot_bytes) : 0u;
    flash.patch.at = 3u << 28;
    flash.patch.bytes = area_bytes[PATCH];
    flash.state.at = 4u << 28;
    flash.state.bytes = 2u * unit;
    flash.journal.at = 5u << 28;
    flash.journal.bytes = area_bytes[JOURNAL];
    config.flash = &flash;
    config.allow_unsigned = 1u;
    config.page_bytes = 256u;
    for (i = 0; i < 2u; i++) { /* first to learn what it takes */
        free(memory);
        memory = malloc(need);
        MUST(memory != NULL);
        memset(memory, 0xA5, need);
        config.memory = memory;
        config.bytes = need;
        MUST(bitnet_delta_open(d, &config) == BITNET_DELTA_OK);
        st = bitnet_delta_need(d, &need);
        if (st != BITNET_DELTA_OK) { return st; }
    }
    st = bitnet_delta_apply(d);
    MUST(bitnet_delta_active(d, 0u, slot) == BITNET_DELTA_OK || slots == 1u);
    return st;
}

static uint32_t below(uint32_t *seed, uint32_t n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return n == 0u ? 0u : (*seed >> 8) % n;
}

static void digest(unsigned char *to, const unsigned char *data, uint32_t bytes)
{
    bitnet_sha256_t sha;
    bitnet_sha256_start(&sha, NULL);
    bitnet_sha256_add(&sha, data, bytes);
    bitnet_sha256_end(&sha, to);
}

static uint32_t word(const unsigned char *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static int damage(const char *base_name, const char *patch_name, uint32_t seed, uint32_t count)
{
    uint32_t base_bytes;
    uint32_t patch_bytes;
    const unsigned char *base = read_file(base_name, &base_bytes);
    const unsigned char *patch = read_file(patch_name, &patch_bytes);
    unsigned char *bad = malloc((size_t)patch_bytes + 64u);
    static uint32_t seen[32];
    uint32_t i;
    MUST(bad != NULL && patch_bytes >= 384u);
    for (i = 0; i < count; i++) {
        static bitnet_delta_t d;
        uint32_t bytes = patch_bytes;
        uint32_t slot;
        uint32_t index = word(patch + 20);
        uint32_t k;
        memcpy(bad, patch, patch_bytes);
        for (k = below(&seed, 4u) + 1u; k > 0u; k--) {
            const uint32_t kind = below(&seed, 8u);
            uint32_t at = kind < 4u ? 384u + below(&seed, index) : (kind < 7u ? 384u + index + below(&seed, patch_bytes - 384u - index) : below(&seed, 104u));
            if (at >= bytes) { at = bytes - 1u; }
            bad[at] = (unsigned char)(below(&seed, 3u) == 0u ? below(&seed, 256u) : bad[at] ^ 1u << below(&seed, 8u));
        }
        if (below(&seed, 8u) == 0u) { bytes -= below(&seed, bytes - 384u); }
        if (below(&seed, 4u) != 0u) { /* past the digests, to what they guard */
            index = word(bad + 20) < bytes - 384u ? word(bad + 20) : bytes - 384u;
            digest(bad + 136, bad + 384, index);
            digest(bad + 168, bad + 384 + index, bytes - 384u - index);
            digest(bad + 72, base, base_bytes);
            bad[24] = (unsigned char)bytes;
            bad[25] = (unsigned char)(bytes >> 8);
            bad[26] = (unsigned char)(bytes >> 16);
        }
        memset(&d, 0, sizeof d);
        k = (uint32_t)update(1u + below(&seed, 2u), base, base_bytes, bad, bytes, base_bytes + 65536u, 8u, &d, &slot);
        seen[k & 31u]++;
        if (d.state.state == BITNET_DELTA_TRIAL) { /* what is accepted has the digest that the header names */
            unsigned char sum[32];
            MUST(word(bad + 40) <= area_bytes[slot]);
            digest(sum, area[slot], word(bad + 40));
            MUST(memcmp(sum, bad + 104, 32u) == 0);
        }
    }
    for (i = 0; i < 21u; i++) { printf("%s=%u ", bitnet_delta_text((bitnet_delta_status)i), seen[i]); }
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    static bitnet_delta_t d;
    uint32_t base_bytes;
    uint32_t patch_bytes;
    uint32_t target_bytes;
    uint32_t slot;
    uint32_t slots;
    uint32_t done;
    const unsigned char *base;
    const unsigned char *patch;
    const unsigned char *target;
    bitnet_delta_status st;
    if (argc == 6 && strcmp(argv[1], "damage") == 0) {
        return damage(argv[2], argv[3], (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]));
    }
    MUST(argc == 6);
    slots = strcmp(argv[1], "one") == 0 ? 1u : 2u;
    unit = 1u << atoi(argv[2]);
    base = read_file(argv[3], &base_bytes);
    patch = read_file(argv[4], &patch_bytes);
    target = read_file(argv[5], &target_bytes);
    st = update(slots, base, base_bytes, patch, patch_bytes, base_bytes > target_bytes ? base_bytes : target_bytes, 1u << (patch_bytes & 3u), &d, &slot);
    printf("%s\n", bitnet_delta_text(st));
    if (st != BITNET_DELTA_OK) { return (int)st; }
    MUST(d.state.state == BITNET_DELTA_TRIAL && slot == slots - 1u);
    MUST(memcmp(area[slot], target, target_bytes) == 0);
    MUST(bitnet_delta_step(&d, &done) == BITNET_DELTA_ALREADY && done == 1u);
    if (slots == 2u) {
        MUST(memcmp(area[0], base, base_bytes) == 0);
        MUST(bitnet_delta_confirm(&d) == BITNET_DELTA_OK && d.state.accepted >= d.to);
    } else if ((patch[12] & 2u) != 0u) {
        MUST(bitnet_delta_rollback(&d) == BITNET_DELTA_OK && d.state.state == BITNET_DELTA_IDLE);
        MUST(memcmp(area[0], base, base_bytes) == 0);
    } else {
        MUST(bitnet_delta_rollback(&d) == BITNET_DELTA_E_MODE);
    }
    return 0;
}
