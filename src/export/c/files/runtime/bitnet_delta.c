/*
 * bitnet_delta.c - applies a patch group by group, with two slots or in place.
 *
 * A group is what is written at once: a block of the patch, or an erase unit if that is larger.  With two slots a group is
 * made in the other slot, read back, and recorded.  In place it is made in the journal and read back; then the record says
 * that the journal holds it; then the slot's units are erased and it is copied; then the record says that it is done.  So
 * at every instant the group that is being made again has its old bytes, or the journal has its new ones.
 */
#include "bitnet_delta_internal.h"
#include "bitnet_poison.h"

static uint32_t group_begin(const bitnet_delta_t *d) { return d->group << d->group_log2; }

static uint32_t group_bytes(const bitnet_delta_t *d)
{
    return dl_min(1u << d->group_log2, d->target_bytes - group_begin(d));
}

static uint32_t going_back(const bitnet_delta_t *d)
{
    return (uint32_t)(d->state.state == (uint8_t)BITNET_DELTA_RUN && d->state.back != 0u);
}

/* the bytes of the slot that is written to */
static uint32_t target_at(const bitnet_delta_t *d)
{
    return d->config->flash->slot[dl_in_place(d) != 0u ? 0u : 1u - d->state.active].at;
}

static bitnet_delta_status save_group(bitnet_delta_t *d, uint32_t group, uint32_t journal)
{
    d->state.group = group;
    d->state.journal = (uint8_t)journal;
    return dl_state_save(d);
}

/* ---- a group --------------------------------------------------------------------------------- */

/* Makes the group at `at`, which is erased, and reads it back. contents: the first half of its digest. */
static bitnet_delta_status make(bitnet_delta_t *d, uint32_t at, uint8_t contents[16])
{
    const uint32_t end = group_begin(d) + group_bytes(d);
    const uint32_t size = 1u << d->block_log2;
    uint32_t begin;
    uint8_t made[32];
    uint8_t read[32];
    bitnet_delta_status st;
    bitnet_sha256_start(&d->group_sha, d->config->sha256);
    for (begin = group_begin(d); begin < end; begin += size) {
        if (dl_block_next(d) == 0u) {
            return (bitnet_delta_status)d->failed;
        }
        d->out = at + (begin - group_begin(d));
        st = dl_block_make(d, begin, dl_min(end, begin + size), d->blocks.bytes);
        if (st != BITNET_DELTA_OK) {
            return st;
        }
        bitnet_sha256_end(&d->block_sha, made);
        if (d->blocks.bytes > 0u && d->state.back == 0u && dl_equal(made, d->blocks.digest, 16u) == 0u) {
            return BITNET_DELTA_E_DAMAGED;
        }
    }
    bitnet_sha256_end(&d->group_sha, made);
    st = dl_sync(d);
    if (st == BITNET_DELTA_OK) {
        st = dl_digest(d, at, group_bytes(d), read);
    }
    dl_copy(contents, made, 16u);
    return st == BITNET_DELTA_OK && dl_equal(made, read, 32u) == 0u ? BITNET_DELTA_E_FLASH : st;
}

/* The group is in the journal and recorded there: copies it into the slot. */
static bitnet_delta_status move_out(bitnet_delta_t *d)
{
    const uint32_t from = d->config->flash->journal.at;
    const uint32_t to = target_at(d) + group_begin(d);
    const uint32_t bytes = group_bytes(d);
    const uint32_t mask = d->config->flash->program_bytes - 1u;
    uint32_t done = 0u;
    uint8_t digest[32];
    bitnet_delta_status st = dl_digest(d, from, bytes, digest);
    if (st == BITNET_DELTA_OK && dl_equal(digest, d->state.contents, 16u) == 0u) {
        st = BITNET_DELTA_E_FLASH;
    }
    if (st == BITNET_DELTA_OK) {
        st = dl_erase(d, to, bytes);
    }
    while (done < bytes && st == BITNET_DELTA_OK) {
        const uint32_t now = dl_min(bytes - done, d->config->page_bytes);
        st = dl_progress(d, group_begin(d), d->target_bytes);
        if (st == BITNET_DELTA_OK) {
            st = dl_read(d, from + done, d->page, (now + mask) & ~mask); /* with the padding of the last page */
        }
        if (st == BITNET_DELTA_OK) {
            st = dl_program(d, to + done, d->page, (now + mask) & ~mask);
        }
        done += now;
    }
    if (st == BITNET_DELTA_OK) {
        st = dl_sync(d);
    }
    if (st == BITNET_DELTA_OK) {
        st = dl_digest(d, to, bytes, digest);
    }
    if (st == BITNET_DELTA_OK && dl_equal(digest, d->state.contents, 16u) == 0u) {
        st = BITNET_DELTA_E_FLASH;
    }
    d->group++;
    return st == BITNET_DELTA_OK ? save_group(d, d->group, 0u) : st;
}

/* 1: a block of the group changes; the table of blocks is then where it was, else behind the group */
static uint32_t something_changes(bitnet_delta_t *d)
{
    bitnet_delta_blocks *b = &d->blocks;
    const uint32_t at = b->in.at - b->in.have;
    const uint32_t number = b->number;
    const uint32_t payload = b->payload;
    const uint32_t bytes = b->bytes;
    const uint32_t last = (group_begin(d) + group_bytes(d) - 1u) >> d->block_log2;
    while (b->number <= last) {
        if (dl_block_next(d) == 0u || b->bytes > 0u) {
            dl_reader_open(&b->in, at, b->in.end - at);
            b->number = number;
            b->payload = payload;
            b->bytes = bytes;
            return 1u;
        }
    }
    return 0u;
}

static bitnet_delta_status one_group(bitnet_delta_t *d)
{
    const bitnet_flash_t *f = d->config->flash;
    bitnet_delta_status st;
    if (dl_in_place(d) == 0u) {
        const uint32_t at = target_at(d) + group_begin(d);
        st = dl_erase(d, at, group_bytes(d));
        if (st == BITNET_DELTA_OK) {
            st = make(d, at, d->state.contents);
        }
        if (st == BITNET_DELTA_OK) {
            d->group++;
            st = save_group(d, d->group, 0u);
        }
        return st;
    }
    if (something_changes(d) == 0u) {
        d->group++;
        return BITNET_DELTA_OK;
    }
    st = dl_erase(d, f->journal.at, group_bytes(d));
    if (st == BITNET_DELTA_OK) {
        st = make(d, f->journal.at, d->state.contents);
    }
    if (st == BITNET_DELTA_OK) {
        d->state.dirty = 1u;
        st = save_group(d, d->group, 1u);
    }
    return st == BITNET_DELTA_OK ? move_out(d) : st;
}

/* ---- an update -------------------------------------------------------------------------------- */

/* Records that this patch runs, or goes on where the record says. */
static bitnet_delta_status begin(bitnet_delta_t *d, uint32_t back)
{
    bitnet_delta_status st;
    uint32_t i;
    if (d->state.state != (uint8_t)BITNET_DELTA_RUN || dl_equal(d->state.patch, d->id, 16u) == 0u) {
        d->state.state = (uint8_t)BITNET_DELTA_RUN;
        d->state.back = (uint8_t)back;
        dl_copy(d->state.patch, d->id, 16u);
        st = save_group(d, 0u, 0u);
        if (st != BITNET_DELTA_OK) {
            return st;
        }
    }
    d->group = d->state.group;
    st = dl_index_open(d);
    if (st == BITNET_DELTA_OK && d->state.journal != 0u) {
        st = move_out(d);
    }
    for (i = d->group << (d->group_log2 - d->block_log2); i > 0u && st == BITNET_DELTA_OK; i--) {
        if (d->blocks.number << d->block_log2 < d->target_bytes && dl_block_next(d) == 0u) {
            st = (bitnet_delta_status)d->failed;
        }
    }
    return st;
}

static void forget_patch(bitnet_delta_t *d)
{
    uint32_t i;
    for (i = 0u; i < 16u; i++) {
        d->state.patch[i] = 0u;
    }
}

/* All groups are done: the whole target is read again before it counts. */
static bitnet_delta_status finish(bitnet_delta_t *d)
{
    uint8_t digest[32];
    const uint32_t back = d->state.back;
    bitnet_delta_status st = dl_digest(d, target_at(d), d->target_bytes, digest);
    if (st != BITNET_DELTA_OK) {
        return st;
    }
    if (dl_equal(digest, back != 0u ? d->base_sha : d->target_sha, 32u) == 0u) {
        if (dl_in_place(d) == 0u) { /* the old model is untouched */
            d->state.state = (uint8_t)BITNET_DELTA_IDLE;
            forget_patch(d);
            st = save_group(d, 0u, 0u);
        }
        return st == BITNET_DELTA_OK ? BITNET_DELTA_E_DAMAGED : st;
    }
    d->state.dirty = 0u;
    d->state.back = 0u;
    d->state.trials = 0u;
    if (back != 0u) {
        d->state.state = (uint8_t)BITNET_DELTA_IDLE;
        d->state.current = d->state.previous;
        forget_patch(d);
    } else {
        d->state.state = (uint8_t)BITNET_DELTA_TRIAL;
        d->state.previous = d->state.current;
        d->state.current = d->to;
        if (dl_in_place(d) == 0u) {
            d->state.active = (uint8_t)(1u - d->state.active);
        }
    }
    return save_group(d, 0u, 0u);
}

static bitnet_delta_status step(bitnet_delta_t *d, uint32_t back, uint32_t *done)
{
    bitnet_delta_status st = BITNET_DELTA_OK;
    *done = 0u;
    if (d->opened == 0u) {
        return BITNET_DELTA_E_STATE;
    }
    if (d->checked != 2u) {
        st = dl_check(d, back);
        if (st == BITNET_DELTA_OK) {
            st = begin(d, back);
        }
        d->checked = st == BITNET_DELTA_OK ? 2u : 0u;
    } else if (group_begin(d) < d->target_bytes) {
        st = one_group(d);
    } else {
        st = finish(d);
        *done = (uint32_t)(st == BITNET_DELTA_OK);
        d->checked = 0u;
    }
    if (st == BITNET_DELTA_ALREADY) {
        *done = 1u;
    } else if (st != BITNET_DELTA_OK) {
        d->checked = 0u;
    }
    return st;
}

bitnet_delta_status bitnet_delta_check(bitnet_delta_t *delta)
{
    if (delta == (bitnet_delta_t *)0) {
        return BITNET_DELTA_E_NULL;
    }
    return delta->opened == 0u ? BITNET_DELTA_E_STATE : dl_check(delta, going_back(delta));
}

bitnet_delta_status bitnet_delta_step(bitnet_delta_t *delta, uint32_t *done)
{
    if (delta == (bitnet_delta_t *)0 || done == (uint32_t *)0) {
        return BITNET_DELTA_E_NULL;
    }
    return step(delta, going_back(delta), done);
}

static bitnet_delta_status run(bitnet_delta_t *d, uint32_t back)
{
    uint32_t done = 0u;
    bitnet_delta_status st = BITNET_DELTA_OK;
    while (done == 0u && st == BITNET_DELTA_OK) {
        st = step(d, back, &done);
    }
    return st;
}

bitnet_delta_status bitnet_delta_apply(bitnet_delta_t *delta)
{
    return delta == (bitnet_delta_t *)0 ? BITNET_DELTA_E_NULL : run(delta, going_back(delta));
}

/* ---- after it --------------------------------------------------------------------------------- */

static bitnet_delta_status other_slot(bitnet_delta_t *d)
{
    d->state.state = (uint8_t)BITNET_DELTA_IDLE;
    d->state.active = (uint8_t)(1u - d->state.active);
    d->state.current = d->state.previous;
    d->state.trials = 0u;
    d->checked = 0u;
    forget_patch(d);
    return dl_state_save(d);
}

bitnet_delta_status bitnet_delta_active(bitnet_delta_t *delta, uint32_t trials, uint32_t *slot)
{
    bitnet_delta_status st = BITNET_DELTA_OK;
    if (delta == (bitnet_delta_t *)0 || slot == (uint32_t *)0) {
        return BITNET_DELTA_E_NULL;
    }
    *slot = 0u;
    if (delta->opened == 0u) {
        return BITNET_DELTA_E_STATE;
    }
    if (trials > 0u && delta->state.state == (uint8_t)BITNET_DELTA_TRIAL && dl_in_place(delta) == 0u) {
        if (delta->state.trials >= trials) {
            st = other_slot(delta);
        } else {
            delta->state.trials++;
            st = dl_state_save(delta);
        }
    }
    *slot = delta->state.active;
    return st == BITNET_DELTA_OK && delta->state.dirty != 0u ? BITNET_DELTA_E_BUSY : st;
}

bitnet_delta_status bitnet_delta_confirm(bitnet_delta_t *delta)
{
    if (delta == (bitnet_delta_t *)0) {
        return BITNET_DELTA_E_NULL;
    }
    if (delta->opened == 0u || delta->state.state != (uint8_t)BITNET_DELTA_TRIAL) {
        return BITNET_DELTA_E_STATE;
    }
    delta->state.state = (uint8_t)BITNET_DELTA_IDLE;
    if (delta->state.current > delta->state.accepted) {
        delta->state.accepted = delta->state.current;
    }
    return dl_state_save(delta);
}

bitnet_delta_status bitnet_delta_rollback(bitnet_delta_t *delta)
{
    if (delta == (bitnet_delta_t *)0) {
        return BITNET_DELTA_E_NULL;
    }
    if (delta->opened == 0u || (delta->state.state != (uint8_t)BITNET_DELTA_TRIAL && going_back(delta) == 0u)) {
        return BITNET_DELTA_E_STATE;
    }
    return dl_in_place(delta) != 0u ? run(delta, 1u) : other_slot(delta);
}

const char *bitnet_delta_text(bitnet_delta_status status)
{
    static const char *const names[21] = { "ok",          "already applied", "null pointer", "configuration", "state",    "flash",
                                           "patch",       "version",         "digest",       "not signed",    "signature", "other model",
                                           "older",       "other base",      "for hosts",    "room",          "memory",   "mode",
                                           "damaged",     "cut short",       "stopped" };
    return (uint32_t)status < 21u ? names[(uint32_t)status] : "?";
}
