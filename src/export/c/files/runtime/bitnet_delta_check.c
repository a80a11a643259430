/* bitnet_delta_check.c - the flash, and everything that is checked before the first write. */
#include "bitnet_delta_internal.h"
#include "bitnet_poison.h"

static const uint8_t magic[8] = { 0x89u, 0x42u, 0x4Eu, 0x44u, 0x50u, 0x0Du, 0x0Au, 0x1Au };
static const uint8_t domain[16] = "bitnet delta v1"; /* with its 0 */

enum { PAGE_MIN = 64, PAGE_MAX = 4096, PROGRAM_MAX = 32, ERASE_MIN = 9, ERASE_MAX = 18 };
enum { NAME_AT = 200, NAME_BYTES = 32, KEY_AT = 280, RESERVED_AT = 288 };

/* ---- flash ---------------------------------------------------------------------------------- */

bitnet_delta_status dl_read(const bitnet_delta_t *d, uint32_t at, void *out, uint32_t bytes)
{
    const bitnet_flash_t *f = d->config->flash;
    return f->read(f->user, at, out, bytes) == 0 ? BITNET_DELTA_OK : BITNET_DELTA_E_FLASH;
}

bitnet_delta_status dl_program(const bitnet_delta_t *d, uint32_t at, const void *data, uint32_t bytes)
{
    const bitnet_flash_t *f = d->config->flash;
    return f->program(f->user, at, data, bytes) == 0 ? BITNET_DELTA_OK : BITNET_DELTA_E_FLASH;
}

bitnet_delta_status dl_sync(const bitnet_delta_t *d)
{
    const bitnet_flash_t *f = d->config->flash;
    return f->sync == (int (*)(void *))0 || f->sync(f->user) == 0 ? BITNET_DELTA_OK : BITNET_DELTA_E_FLASH;
}

bitnet_delta_status dl_erase(const bitnet_delta_t *d, uint32_t at, uint32_t bytes)
{
    const bitnet_flash_t *f = d->config->flash;
    const uint32_t end = at + bytes;
    for (; at < end; at += 1u << f->erase_log2) {
        bitnet_delta_status st = dl_progress(d, d->walk.now.begin, d->target_bytes);
        if (st == BITNET_DELTA_OK && f->erase(f->user, at) != 0) {
            st = BITNET_DELTA_E_FLASH;
        }
        if (st != BITNET_DELTA_OK) {
            return st;
        }
    }
    return dl_sync(d);
}

bitnet_delta_status dl_progress(const bitnet_delta_t *d, uint32_t done, uint32_t total)
{
    const bitnet_delta_config *c = d->config;
    return c->progress == (bitnet_progress_fn)0 || c->progress(c->user, done, total) == 0 ? BITNET_DELTA_OK : BITNET_DELTA_E_STOPPED;
}

bitnet_delta_status dl_digest(bitnet_delta_t *d, uint32_t at, uint32_t bytes, uint8_t digest[32])
{
    const uint32_t end = at + bytes;
    bitnet_sha256_start(&d->block_sha, d->config->sha256);
    while (at < end) {
        const uint32_t now = dl_min(end - at, d->config->page_bytes);
        bitnet_delta_status st = dl_progress(d, d->walk.now.begin, d->target_bytes);
        if (st == BITNET_DELTA_OK) {
            st = dl_read(d, at, d->page, now);
        }
        if (st != BITNET_DELTA_OK) {
            return st;
        }
        bitnet_sha256_add(&d->block_sha, d->page, now);
        at += now;
    }
    bitnet_sha256_end(&d->block_sha, digest);
    return BITNET_DELTA_OK;
}

uint32_t dl_in_place(const bitnet_delta_t *d) { return (uint32_t)(d->config->flash->slot[1].bytes == 0u); }

uint32_t dl_mod(uint32_t a, uint32_t m)
{
    uint32_t by = m;
    while (by <= a >> 1) {
        by <<= 1;
    }
    for (; by >= m; by >>= 1) {
        if (a >= by) {
            a -= by;
        }
    }
    return a;
}

/* ---- configuration -------------------------------------------------------------------------- */

static uint32_t power_of_two(uint32_t v, uint32_t least, uint32_t most)
{
    return (uint32_t)(v >= least && v <= most && (v & (v - 1u)) == 0u);
}

static uint32_t good_area(const bitnet_flash_t *f, const bitnet_area_t *a, uint32_t units)
{
    const uint32_t mask = (1u << f->erase_log2) - 1u;
    return (uint32_t)(((a->at | a->bytes) & mask) == 0u && a->bytes >> f->erase_log2 >= units && a->bytes < DL_LIMIT &&
                      a->bytes <= 0u - 1u - a->at);
}

static bitnet_delta_status good_config(const bitnet_delta_config *c)
{
    const bitnet_flash_t *f = c->flash;
    const bitnet_area_t *areas[5];
    uint32_t i;
    uint32_t k;
    if (f == (const bitnet_flash_t *)0 || c->memory == (void *)0 || f->read == (int (*)(void *, uint32_t, void *, uint32_t))0 ||
        f->program == (int (*)(void *, uint32_t, const void *, uint32_t))0 || f->erase == (int (*)(void *, uint32_t))0 ||
        (c->key_count > 0u && (c->keys == (const bitnet_delta_key_t *)0 || c->verify == (bitnet_verify_fn)0))) {
        return BITNET_DELTA_E_NULL;
    }
    if (f->erase_log2 < (uint32_t)ERASE_MIN || f->erase_log2 > (uint32_t)ERASE_MAX ||
        power_of_two(f->program_bytes, 1u, (uint32_t)PROGRAM_MAX) == 0u ||
        power_of_two(c->page_bytes, (uint32_t)PAGE_MIN, (uint32_t)PAGE_MAX) == 0u || c->page_bytes >> f->erase_log2 > 1u ||
        ((uintptr_t)c->memory & 3u) != 0u) {
        return BITNET_DELTA_E_CONFIG;
    }
    if (c->bytes < (uint32_t)BITNET_DELTA_LEAST) {
        return BITNET_DELTA_E_MEMORY;
    }
    areas[0] = &f->slot[0];
    areas[1] = &f->patch;
    areas[2] = &f->state;
    areas[3] = &f->slot[1];
    areas[4] = &f->journal;
    for (i = 0u; i < 5u; i++) {
        if (good_area(f, areas[i], i == 2u ? 2u : (i < 3u ? 1u : 0u)) == 0u) {
            return BITNET_DELTA_E_CONFIG;
        }
        for (k = 0u; k < i; k++) {
            if (areas[i]->bytes > 0u && areas[k]->bytes > 0u && areas[i]->at < areas[k]->at + areas[k]->bytes &&
                areas[k]->at < areas[i]->at + areas[i]->bytes) {
                return BITNET_DELTA_E_CONFIG;
            }
        }
    }
    return f->slot[1].bytes == 0u && f->journal.bytes == 0u ? BITNET_DELTA_E_CONFIG : BITNET_DELTA_OK;
}

bitnet_delta_status bitnet_delta_open(bitnet_delta_t *delta, const bitnet_delta_config *config)
{
    uint8_t *p = (uint8_t *)delta;
    uint32_t i;
    bitnet_delta_status st;
    if (delta == (bitnet_delta_t *)0 || config == (const bitnet_delta_config *)0) {
        return BITNET_DELTA_E_NULL;
    }
    for (i = 0u; i < (uint32_t)sizeof *delta; i++) {
        p[i] = 0u;
    }
    st = good_config(config);
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    delta->config = config;
    delta->opened = 1u;
    delta->state.accepted = (uint64_t)config->sequence_hi << 32 | config->sequence_lo;
    delta->state.current = delta->state.accepted;
    st = dl_state_load(delta);
    if (st != BITNET_DELTA_OK) {
        delta->opened = 0u;
    }
    return st;
}

/* ---- header --------------------------------------------------------------------------------- */

static uint32_t all_zero(const uint8_t *p, uint32_t bytes)
{
    uint32_t some = 0u;
    while (bytes-- > 0u) {
        some |= *p++;
    }
    return (uint32_t)(some == 0u);
}

/* bytes of a name that is padded with 0, DL_ENDLESS if something follows the padding */
static uint32_t name_bytes(const uint8_t *p, uint32_t bytes)
{
    uint32_t n = 0u;
    while (n < bytes && p[n] != 0u) {
        n++;
    }
    return all_zero(p + n, bytes - n) != 0u ? n : DL_ENDLESS;
}

/* The header stands at memory + 16, behind the place of the domain. */
static bitnet_delta_status header(bitnet_delta_t *d)
{
    uint8_t *const h = (uint8_t *)d->config->memory + 16;
    const uint32_t has_room = d->config->flash->patch.bytes;
    const bitnet_delta_status st = dl_read(d, d->config->flash->patch.at, h, (uint32_t)DL_HEADER);
    uint8_t digest[32];
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    if (dl_equal(h, magic, 8u) == 0u) {
        return BITNET_DELTA_E_PATCH;
    }
    if (dl_word(h + 8) != 1u) { /* major 1, minor 0 */
        return BITNET_DELTA_E_VERSION;
    }
    d->flags = dl_word(h + 12);
    d->block_log2 = dl_word(h + 16);
    d->index_bytes = dl_word(h + 20);
    d->patch_bytes = dl_word(h + 24);
    d->base_bytes = dl_word(h + 32);
    d->target_bytes = dl_word(h + 40);
    d->from = (uint64_t)dl_word(h + 52) << 32 | dl_word(h + 48);
    d->to = (uint64_t)dl_word(h + 60) << 32 | dl_word(h + 56);
    d->contexts = dl_word(h + 64);
    d->row = dl_word(h + 68);
    dl_copy(d->base_sha, h + 72, 32u);
    dl_copy(d->target_sha, h + 104, 32u);
    if (d->flags > 31u || d->block_log2 < 12u || d->block_log2 > 20u || d->index_bytes == 0u || d->index_bytes > 0x1000000u ||
        d->row > 0x10000u || d->contexts > 0x1000u || all_zero(h + RESERVED_AT, 32u) == 0u ||
        name_bytes(h + NAME_AT, (uint32_t)NAME_BYTES) - 1u >= (uint32_t)NAME_BYTES || name_bytes(h + 232, 24u) > 24u ||
        name_bytes(h + 256, 24u) > 24u) {
        return BITNET_DELTA_E_PATCH;
    }
    if ((d->flags & (uint32_t)DL_HOST) != 0u) {
        return BITNET_DELTA_E_HOST;
    }
    if (all_zero(h + 28, 4u) == 0u || all_zero(h + 36, 4u) == 0u || all_zero(h + 44, 4u) == 0u || d->patch_bytes > has_room ||
        d->base_bytes >= DL_LIMIT || d->target_bytes >= DL_LIMIT) {
        return BITNET_DELTA_E_ROOM;
    }
    if (d->target_bytes == 0u || d->patch_bytes < (uint32_t)DL_HEADER + d->index_bytes) {
        return BITNET_DELTA_E_PATCH;
    }
    if (((d->flags & (uint32_t)DL_REVERSIBLE) != 0u &&
         ((d->flags & (uint32_t)DL_IN_PLACE) == 0u || d->base_bytes != d->target_bytes)) ||
        ((d->flags & (uint32_t)DL_IS_SIGNED) == 0u && (all_zero(h + KEY_AT, 8u) == 0u || all_zero(h + DL_SIGNED, 64u) == 0u))) {
        return BITNET_DELTA_E_PATCH;
    }
    if ((d->flags & (uint32_t)DL_FULL) != 0u) {
        bitnet_sha256_start(&d->block_sha, d->config->sha256);
        bitnet_sha256_end(&d->block_sha, digest);
        if (d->base_bytes != 0u || d->from != 0u || dl_equal(digest, d->base_sha, 32u) == 0u) {
            return BITNET_DELTA_E_PATCH;
        }
    }
    bitnet_sha256_start(&d->block_sha, d->config->sha256);
    bitnet_sha256_add(&d->block_sha, h, (uint32_t)DL_HEADER);
    bitnet_sha256_end(&d->block_sha, digest);
    dl_copy(d->id, digest, 16u);
    d->group_log2 = d->block_log2 > d->config->flash->erase_log2 ? d->block_log2 : d->config->flash->erase_log2;
    return BITNET_DELTA_OK;
}

static uint32_t need(const bitnet_delta_t *d)
{
    const uint32_t bytes = (d->contexts << 2) + ((d->row + 3u) & ~3u) + d->config->page_bytes;
    return bytes < (uint32_t)BITNET_DELTA_LEAST ? (uint32_t)BITNET_DELTA_LEAST : bytes;
}

bitnet_delta_status bitnet_delta_need(bitnet_delta_t *delta, uint32_t *bytes)
{
    bitnet_delta_status st;
    if (delta == (bitnet_delta_t *)0 || bytes == (uint32_t *)0) {
        return BITNET_DELTA_E_NULL;
    }
    if (delta->opened == 0u) {
        return BITNET_DELTA_E_STATE;
    }
    delta->checked = 0u;
    st = header(delta);
    if (st == BITNET_DELTA_OK) {
        *bytes = need(delta);
    }
    return st;
}

/* The message is what header() read, behind the domain. */
bitnet_delta_status dl_signed(const bitnet_delta_t *d)
{
    const bitnet_delta_config *c = d->config;
    uint8_t *const message = (uint8_t *)c->memory;
    uint32_t i;
    if (c->key_count == 0u) {
        return c->allow_unsigned == 1u ? BITNET_DELTA_OK : BITNET_DELTA_E_UNSIGNED;
    }
    if ((d->flags & (uint32_t)DL_IS_SIGNED) == 0u) {
        return BITNET_DELTA_E_UNSIGNED;
    }
    dl_copy(message, domain, 16u);
    for (i = 0u; i < c->key_count; i++) {
        if (dl_equal(c->keys[i].number, message + 16 + KEY_AT, 8u) != 0u &&
            c->verify(message + 16 + DL_SIGNED, c->keys[i].key, message, 16u + (uint32_t)DL_SIGNED) == 1) {
            return BITNET_DELTA_OK;
        }
    }
    return BITNET_DELTA_E_SIGNATURE;
}

static uint32_t for_this_model(const bitnet_delta_t *d)
{
    const uint8_t *name = (const uint8_t *)d->config->memory + 16 + NAME_AT;
    const char *ours = d->config->model;
    uint32_t i;
    if (ours == (const char *)0) {
        return 1u;
    }
    for (i = 0u; i < (uint32_t)NAME_BYTES && name[i] != 0u; i++) {
        if ((uint8_t)ours[i] != name[i]) { /* its 0 differs from any byte of the name */
            return 0u;
        }
    }
    return (uint32_t)(ours[i] == '\0');
}

/* ---- before the first write ------------------------------------------------------------------- */

static bitnet_delta_status has_room(const bitnet_delta_t *d)
{
    const bitnet_flash_t *f = d->config->flash;
    const uint32_t to = dl_in_place(d) != 0u ? 0u : 1u - d->state.active;
    if (dl_in_place(d) != 0u) {
        if ((d->flags & (uint32_t)DL_IN_PLACE) == 0u) {
            return BITNET_DELTA_E_MODE;
        }
        if (f->journal.bytes >> d->group_log2 == 0u) {
            return BITNET_DELTA_E_ROOM;
        }
    }
    if (d->target_bytes > f->slot[to].bytes || d->base_bytes > f->slot[dl_in_place(d) != 0u ? 0u : d->state.active].bytes) {
        return BITNET_DELTA_E_ROOM;
    }
    return need(d) > d->config->bytes ? BITNET_DELTA_E_MEMORY : BITNET_DELTA_OK;
}

/* whether flash has this digest */
static bitnet_delta_status same(bitnet_delta_t *d, uint32_t at, uint32_t bytes, const uint8_t wanted[32], bitnet_delta_status otherwise)
{
    uint8_t digest[32];
    const bitnet_delta_status st = dl_digest(d, at, bytes, digest);
    return st == BITNET_DELTA_OK && dl_equal(digest, wanted, 32u) == 0u ? otherwise : st;
}

/* may this patch be applied in the state we are in */
static bitnet_delta_status permitted(const bitnet_delta_t *d, uint32_t ours)
{
    if (d->state.state == (uint8_t)BITNET_DELTA_RUN && ours != 0u) {
        return BITNET_DELTA_OK;
    }
    if (d->state.state == (uint8_t)BITNET_DELTA_RUN && d->state.dirty != 0u && (d->flags & (uint32_t)DL_FULL) == 0u) {
        return BITNET_DELTA_E_BUSY; /* the slot holds parts of two models: only the patch that was begun, or a whole image */
    }
    if (d->state.state == (uint8_t)BITNET_DELTA_TRIAL) {
        return BITNET_DELTA_E_STATE; /* it would overwrite what rollback goes back to */
    }
    return d->to <= d->state.accepted && d->config->allow_older != 1u ? BITNET_DELTA_E_OLDER : BITNET_DELTA_OK;
}

/* back: the slot holds the target, and goes back to the base */
bitnet_delta_status dl_check(bitnet_delta_t *d, uint32_t back)
{
    const bitnet_flash_t *f = d->config->flash;
    const uint32_t at = f->patch.at + (uint32_t)DL_HEADER;
    uint8_t sums[64];
    uint32_t ours;
    bitnet_delta_status st;
    d->checked = 0u;
    st = header(d);
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    dl_copy(sums, (const uint8_t *)d->config->memory + 16 + 136, 64u);
    ours = dl_equal(d->id, d->state.patch, 16u);
    if (back == 0u && ours != 0u && d->state.state != (uint8_t)BITNET_DELTA_RUN) {
        return BITNET_DELTA_ALREADY;
    }
    st = dl_signed(d);
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    if (for_this_model(d) == 0u) {
        return BITNET_DELTA_E_MODEL;
    }
    st = back == 0u ? permitted(d, ours)
                    : (ours == 0u ? BITNET_DELTA_E_BASE
                                  : ((d->flags & (uint32_t)DL_REVERSIBLE) == 0u ? BITNET_DELTA_E_MODE : BITNET_DELTA_OK));
    if (st == BITNET_DELTA_OK) {
        st = has_room(d);
    }
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    d->context = (uint32_t *)d->config->memory;
    d->row_bytes = (uint8_t *)d->config->memory + (d->contexts << 2);
    d->page = d->row_bytes + ((d->row + 3u) & ~3u);
    st = same(d, at, d->index_bytes, sums, BITNET_DELTA_E_DIGEST);
    if (st == BITNET_DELTA_OK) {
        st = dl_index_check(d);
    }
    if (st == BITNET_DELTA_OK) {
        st = same(d, at + d->index_bytes, d->patch_bytes - (uint32_t)DL_HEADER - d->index_bytes, sums + 32, BITNET_DELTA_E_DIGEST);
    }
    d->base = f->slot[dl_in_place(d) != 0u ? 0u : d->state.active].at;
    /* what is being changed in place is neither; a patch without a base takes anything */
    if (st == BITNET_DELTA_OK && (d->flags & (uint32_t)DL_FULL) == 0u &&
        !(dl_in_place(d) != 0u && ours != 0u && d->state.state == (uint8_t)BITNET_DELTA_RUN)) {
        st = same(d, d->base, d->base_bytes, back != 0u ? d->target_sha : d->base_sha, BITNET_DELTA_E_BASE);
    }
    d->checked = (uint32_t)(st == BITNET_DELTA_OK);
    return st;
}
