/*
 * bitnet_update.c - instead of bitnet_main.c: a whole update on an emulator or a host (make delta PATCH=file [KEY=file]).
 *
 * A piece of RAM is the flash, with the rules of NOR flash: a unit is programmed once after each erase, reading before is 0xFF.
 * The model lies in slot A, the patch in its area; then the patch is checked and applied as a device does it, the runtime starts
 * on the new slot, and its self-test must pass before the update is confirmed.
 *
 *   (nothing)     two slots: the new model is made in slot B
 *   place         one slot: the new model takes the place of the old one, with a journal
 *   back          not confirmed, but taken back: the self-test of the old model must pass again
 *   check         only checked
 *   load          only the flash is filled: what to take off when instructions are counted
 *
 * Options before the command: cut=N  the power goes in the middle of the N-th write of the update; it starts again and goes on
 *   flip=N  one bit of byte N of the patch is wrong    sequence=N  of the model (default: that which the patch is for)
 *   model=NAME  that a patch must have    page=N  bytes programmed at once (default 512)
 *
 * Exit status: 0, or 3 if the patch is refused and the old model passes its self-test, or 10 + status of the runtime, or 40 + status of
 * the update.
 */
#include "bitnet.h"
#include "bitnet_delta.h"
#include "bitnet_ed25519.h"
#include "port.h"

#ifndef BITNET_FLASH_RAM /* bytes of the flash that is RAM */
#define BITNET_FLASH_RAM (4u << 20)
#endif
#ifndef BITNET_ERASE_BYTES /* of the board, where its description says so */
#define BITNET_ERASE_BYTES 4096u
#endif
#ifndef BITNET_PROGRAM_BYTES
#define BITNET_PROGRAM_BYTES 4u
#endif
#ifndef BITNET_DELTA_MEMORY /* most bytes for the buffer of an update */
#define BITNET_DELTA_MEMORY 16384u
#endif
#if defined(__linux__) || defined(__APPLE__) || defined(_WIN32)
#define FLASH_MEMORY
#else
#define FLASH_MEMORY __attribute__((section(".ram_bss")))
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "a big-endian machine does not run a model from flash: it turns a copy in RAM (bitnet_to_native)"
#endif

#define NEVER 0xFFFFFFFFu

int bitnet_main(void);

static uint8_t flash_bytes[BITNET_FLASH_RAM] FLASH_MEMORY __attribute__((aligned(64)));
static uint32_t memory[BITNET_DELTA_MEMORY / 4u];
static bitnet_delta_t delta;
static bitnet_ctx ctx;

/* ---- output -------------------------------------------------------------------- */

static void put_u32(uint32_t v)
{
    static const uint32_t powers[10] = { 1000000000u, 100000000u, 10000000u, 1000000u, 100000u,
                                         10000u, 1000u, 100u, 10u, 1u };
    char out[11];
    uint32_t n = 0u;
    uint32_t i;
    for (i = 0u; i < 10u; i++) {
        char digit = '0';
        while (v >= powers[i]) {
            v -= powers[i];
            digit = (char)(digit + 1);
        }
        if (n > 0u || digit != '0' || i == 9u) {
            out[n] = digit;
            n += 1u;
        }
    }
    out[n] = '\0';
    port_write(out);
}

static void put_item(const char *name, uint32_t v)
{
    port_write(name);
    port_write(" ");
    put_u32(v);
    port_write("\n");
}

static void put_line(const char *name, const char *text)
{
    port_write(name);
    port_write(text);
    port_write("\n");
}

static void put_digest(const char *name, const uint8_t *data, uint32_t bytes)
{
    bitnet_sha256_t sha;
    uint8_t digest[32];
    char out[65];
    uint32_t i;
    bitnet_sha256_start(&sha, (bitnet_sha256_fn)0);
    bitnet_sha256_add(&sha, data, bytes);
    bitnet_sha256_end(&sha, digest);
    for (i = 0u; i < 64u; i++) {
        const uint32_t byte = digest[i >> 1];
        out[i] = "0123456789abcdef"[byte >> (4u - 4u * (i & 1u)) & 15u];
    }
    out[64] = '\0';
    put_line(name, out);
}

/* ---- a flash in RAM ---------------------------------------------------------------- */

typedef struct {
    uint32_t left;      /* writes until the power goes */
    uint32_t dark;      /* it went */
    uint32_t erased;    /* units */
    uint32_t written;   /* program units */
} power;

static power supply;

static uint32_t outside(uint32_t at, uint32_t bytes) { return (uint32_t)(at > BITNET_FLASH_RAM || bytes > BITNET_FLASH_RAM - at); }

/* 1: this write is the one in whose middle the power goes */
static uint32_t is_last(power *p)
{
    if (p->left != NEVER) {
        p->left -= 1u;
        p->dark = (uint32_t)(p->left == 0u);
    }
    return p->dark;
}

static int flash_read(void *user, uint32_t at, void *out, uint32_t bytes)
{
    const power *p = (const power *)user;
    uint8_t *to = (uint8_t *)out;
    uint32_t i;
    if (p->dark != 0u || outside(at, bytes) != 0u) {
        return 1;
    }
    for (i = 0u; i < bytes; i++) {
        to[i] = flash_bytes[at + i];
    }
    return 0;
}

static int flash_program(void *user, uint32_t at, const void *data, uint32_t bytes)
{
    power *p = (power *)user;
    const uint8_t *from = (const uint8_t *)data;
    uint32_t done;
    uint32_t i;
    if (p->dark != 0u || outside(at, bytes) != 0u || ((at | bytes) & (BITNET_PROGRAM_BYTES - 1u)) != 0u) {
        return 1;
    }
    for (done = 0u; done < bytes; done += BITNET_PROGRAM_BYTES) {
        uint32_t part = BITNET_PROGRAM_BYTES;
        for (i = 0u; i < BITNET_PROGRAM_BYTES; i++) {
            if (flash_bytes[at + done + i] != 0xFFu) {
                return 1; /* twice without an erase */
            }
        }
        if (is_last(p) != 0u) {
            part >>= 1;
        }
        for (i = 0u; i < part; i++) {
            flash_bytes[at + done + i] = from[done + i];
        }
        if (p->dark != 0u) {
            return 1;
        }
        p->written += 1u;
    }
    return 0;
}

static int flash_erase(void *user, uint32_t at)
{
    power *p = (power *)user;
    uint32_t bytes = BITNET_ERASE_BYTES;
    uint32_t i;
    if (p->dark != 0u || outside(at, bytes) != 0u || (at & (BITNET_ERASE_BYTES - 1u)) != 0u) {
        return 1;
    }
    if (is_last(p) != 0u) {
        bytes >>= 1;
    }
    for (i = 0u; i < bytes; i++) {
        flash_bytes[at + i] = 0xFFu;
    }
    p->erased += 1u;
    return (int)p->dark;
}

static uint32_t log2_of(uint32_t v)
{
    uint32_t n = 0u;
    while (v > 1u) {
        v >>= 1;
        n += 1u;
    }
    return n;
}

/* ---- the machine --------------------------------------------------------------------- */

typedef struct {
    uint32_t one_slot;
    uint32_t back;
    uint32_t only; /* 1: load, 2: check */
    uint32_t cut;
    uint32_t flip;
    uint32_t page;
    uint32_t sequence; /* NEVER: that of the patch's base */
    char model[33];    /* empty: any */
} options;

static bitnet_flash_t flash;
static bitnet_delta_config config;
static bitnet_delta_key_t key;

static int failed(const char *where, bitnet_delta_status st)
{
    port_write(where);
    put_line(": ", bitnet_delta_text(st));
    return 40 + (int)st;
}

static uint32_t le32(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

/* the next part of the flash, of whole units */
static bitnet_area_t area(uint32_t *end, uint32_t bytes)
{
    bitnet_area_t a;
    a.at = *end;
    a.bytes = (bytes + BITNET_ERASE_BYTES - 1u) & ~(uint32_t)(BITNET_ERASE_BYTES - 1u);
    *end += a.bytes;
    return a;
}

/* What a programmer does before a device leaves the factory; the patch comes later, by the application. 1: it is there */
static uint32_t fill(const options *o, const uint8_t *model, uint32_t model_bytes, const uint8_t *patch, uint32_t patch_bytes)
{
    const uint32_t new_bytes = le32(patch + 40);
    const uint32_t slot_bytes = new_bytes > model_bytes ? new_bytes : model_bytes;
    uint32_t block = BITNET_ERASE_BYTES;
    uint32_t end = 0u;
    uint32_t i;
    if (slot_bytes > BITNET_FLASH_RAM || patch_bytes > BITNET_FLASH_RAM) {
        return 0u;
    }
    if (patch[16] < 31u && (1u << patch[16]) > block) {
        block = 1u << patch[16];
    }
    flash.user = &supply;
    flash.read = flash_read;
    flash.program = flash_program;
    flash.erase = flash_erase;
    flash.erase_log2 = log2_of(BITNET_ERASE_BYTES);
    flash.program_bytes = BITNET_PROGRAM_BYTES;
    flash.slot[0] = area(&end, slot_bytes);
    flash.slot[1] = area(&end, o->one_slot != 0u ? 0u : slot_bytes);
    flash.patch = area(&end, patch_bytes);
    flash.state = area(&end, 2u * BITNET_ERASE_BYTES);
    flash.journal = area(&end, o->one_slot != 0u ? block : 0u);
    if (end > BITNET_FLASH_RAM) {
        return 0u;
    }
    for (i = 0u; i < end; i++) {
        flash_bytes[i] = 0xFFu;
    }
    for (i = 0u; i < model_bytes; i++) {
        flash_bytes[flash.slot[0].at + i] = model[i];
    }
    for (i = 0u; i < patch_bytes; i++) {
        flash_bytes[flash.patch.at + i] = patch[i];
    }
    if (o->flip < patch_bytes) {
        flash_bytes[flash.patch.at + o->flip] ^= 1u;
    }
    return 1u;
}

static uint32_t digit_of(char ch)
{
    static const char digits[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t i = 0u;
    while (i < 64u && digits[i] != ch) {
        i += 1u;
    }
    return i;
}

/* The line of a public key file that is no comment: base64 of "Ed", number and key. 1: it is one */
static uint32_t read_key(const char *text, uint32_t bytes)
{
    static const char comment[11] = "untrusted ";
    uint8_t all[42];
    uint32_t at = 0u;
    uint32_t i;
    uint32_t k;
    for (i = 0u; i < 10u && i < bytes && text[i] == comment[i]; i++) {
    }
    if (i == 10u) {
        while (at < bytes && text[at] != '\n') {
            at += 1u;
        }
        at += 1u;
    }
    if (at > bytes || bytes - at < 56u) {
        return 0u;
    }
    for (i = 0u; i < 14u; i++) {
        uint32_t v = 0u;
        for (k = 0u; k < 4u; k++) {
            const uint32_t d = digit_of(text[at + 4u * i + k]);
            if (d == 64u) {
                return 0u;
            }
            v = v << 6 | d;
        }
        for (k = 0u; k < 3u; k++) {
            all[3u * i + k] = (uint8_t)(v >> (16u - 8u * k));
        }
    }
    for (i = 0u; i < 8u; i++) {
        key.number[i] = all[2u + i];
    }
    for (i = 0u; i < 32u; i++) {
        key.key[i] = all[10u + i];
    }
    return (uint32_t)(all[0] == (uint8_t)'E' && all[1] == (uint8_t)'d');
}

/* the runtime on the model of a slot, and its self-test */
static int selftest(uint32_t slot)
{
    uint32_t arena_bytes = 0u;
    void *arena = port_arena(&arena_bytes);
    int32_t *results;
    bitnet_status st = bitnet_init(&ctx, flash_bytes + flash.slot[slot].at, flash.slot[slot].bytes, (const bitnet_config_t *)0, arena, arena_bytes);
    if (st == BITNET_OK) {
        bitnet_set_simd(&ctx, port_simd());
        results = port_results(bitnet_result_length(&ctx));
        st = results == (int32_t *)0 ? BITNET_E_CAPACITY : bitnet_selftest(&ctx, results);
    }
    put_line("selftest: ", st == BITNET_OK ? "equal" : bitnet_status_text(st));
    return st == BITNET_OK ? 0 : 10 + (int)st;
}

/* After a start: which slot to run, `bytes` of model in it. */
static bitnet_delta_status start(uint32_t *slot)
{
    bitnet_delta_status st = bitnet_delta_open(&delta, &config);
    if (st == BITNET_DELTA_OK) {
        st = bitnet_delta_active(&delta, 3u, slot);
    }
    return st;
}

static void put_slot(uint32_t slot, uint32_t bytes)
{
    put_line("runs slot ", slot == 0u ? "A" : "B");
    put_digest("sha256 ", flash_bytes + flash.slot[slot].at, bytes);
}

/* apply or roll back, over a power cut if there is one */
static bitnet_delta_status write_flash(bitnet_delta_status (*first)(bitnet_delta_t *), uint32_t *slot)
{
    bitnet_delta_status st = first(&delta);
    while (supply.dark != 0u) {
        put_item("power cut after writes", supply.erased + supply.written);
        supply.dark = 0u;
        supply.left = NEVER;
        st = start(slot);
        if (st == BITNET_DELTA_OK || st == BITNET_DELTA_E_BUSY) {
            put_line("starts again, ", st == BITNET_DELTA_OK ? "with a model" : "in the middle of the update");
            if (first == bitnet_delta_rollback && st == BITNET_DELTA_OK && delta.state.state == BITNET_DELTA_IDLE) {
                return st; /* it was complete */
            }
            st = first == bitnet_delta_rollback && st == BITNET_DELTA_OK ? first(&delta) : bitnet_delta_apply(&delta);
        }
    }
    if (st == BITNET_DELTA_OK || st == BITNET_DELTA_ALREADY) {
        st = start(slot);
    }
    return st;
}

static int update(const options *o, uint32_t model_bytes, const uint8_t *patch)
{
    uint32_t slot = 0u;
    uint32_t need = 0u;
    int code;
    bitnet_delta_status st = start(&slot);
    if (st != BITNET_DELTA_OK) {
        return failed("start", st);
    }
    put_slot(slot, model_bytes);
    st = bitnet_delta_need(&delta, &need);
    if (st == BITNET_DELTA_OK) {
        put_item("RAM: struct", (uint32_t)sizeof delta);
        put_item("RAM: buffer", need);
        config.bytes = need; /* no more than it says */
        st = bitnet_delta_check(&delta);
    }
    if (st != BITNET_DELTA_OK) {
        put_line("refused: ", bitnet_delta_text(st));
        code = selftest(slot);
        return code == 0 ? 3 : code;
    }
    port_write("check: the patch may be applied\n");
    if (o->only != 0u) {
        return 0;
    }
    supply.left = o->cut;
    st = write_flash(bitnet_delta_apply, &slot);
    put_item("erased units", supply.erased);
    put_item("programmed units", supply.written);
    if (st != BITNET_DELTA_OK) {
        return failed("apply", st);
    }
    put_slot(slot, le32(patch + 40));
    code = selftest(slot);
    if (code == 0 && o->back == 0u) {
        st = bitnet_delta_confirm(&delta);
        if (st != BITNET_DELTA_OK) {
            return failed("confirm", st);
        }
        port_write("confirmed\n");
        return 0;
    }
    st = write_flash(bitnet_delta_rollback, &slot);
    if (st != BITNET_DELTA_OK) {
        return failed("rollback", st);
    }
    put_slot(slot, model_bytes);
    return selftest(slot) | code;
}

/* ---- the command line ------------------------------------------------------------ */

static const char *skip(const char *s)
{
    while (*s == ' ') {
        s++;
    }
    return s;
}

/* the rest after a word, or NULL if s does not start with it */
static const char *word(const char *s, const char *w)
{
    while (*w != '\0') {
        if (*s != *w) {
            return (const char *)0;
        }
        s++;
        w++;
    }
    return s;
}

static const char *number(const char *s, uint32_t *v)
{
    uint32_t n = 0u;
    while (*s >= '0' && *s <= '9') {
        n = n > 429496728u ? NEVER : n * 10u + (uint32_t)(*s - '0');
        s++;
    }
    *v = n;
    return s;
}

/* 1: understood */
static uint32_t parse(const char *s, options *o)
{
    const char *rest;
    uint32_t i;
    s = skip(s);
    while (*s != '\0') {
        if ((rest = word(s, "cut=")) != (const char *)0) {
            s = number(rest, &o->cut);
        } else if ((rest = word(s, "flip=")) != (const char *)0) {
            s = number(rest, &o->flip);
        } else if ((rest = word(s, "sequence=")) != (const char *)0) {
            s = number(rest, &o->sequence);
        } else if ((rest = word(s, "page=")) != (const char *)0) {
            s = number(rest, &o->page);
        } else if ((rest = word(s, "model=")) != (const char *)0) {
            for (i = 0u; i < 32u && rest[i] != '\0' && rest[i] != ' '; i++) {
                o->model[i] = rest[i];
            }
            o->model[i] = '\0';
            s = rest + i;
        } else if ((rest = word(s, "place")) != (const char *)0) {
            o->one_slot = 1u;
            s = rest;
        } else if ((rest = word(s, "back")) != (const char *)0) {
            o->back = 1u;
            s = rest;
        } else if ((rest = word(s, "load")) != (const char *)0) {
            o->only = 1u;
            s = rest;
        } else if ((rest = word(s, "check")) != (const char *)0) {
            o->only = 2u;
            s = rest;
        } else {
            return 0u;
        }
        s = skip(s);
    }
    return 1u;
}

int bitnet_main(void)
{
    uint32_t model_bytes = 0u;
    uint32_t patch_bytes = 0u;
    uint32_t key_bytes = 0u;
    const uint8_t *model = (const uint8_t *)port_model(&model_bytes);
    const uint8_t *patch = (const uint8_t *)port_patch(&patch_bytes);
    const char *text = (const char *)port_patch_key(&key_bytes);
    static options o;
    o.cut = NEVER;
    o.flip = NEVER;
    o.page = 512u;
    o.sequence = NEVER;
    if (parse(port_args(), &o) == 0u) {
        port_write("unknown command\n");
        return 2;
    }
    if (patch == (const uint8_t *)0 || patch_bytes < 384u) {
        port_write("no patch\n");
        return 2;
    }
    supply.left = NEVER;
    if (fill(&o, model, model_bytes, patch, patch_bytes) == 0u) {
        port_write("the flash is too small for model and patch: build with FLASH_RAM=bytes\n");
        return 2;
    }
    config.flash = &flash;
    config.model = o.model[0] != '\0' ? o.model : (const char *)0;
    if (key_bytes > 0u) {
        if (read_key(text, key_bytes) == 0u) {
            port_write("no public key\n");
            return 2;
        }
        config.keys = &key;
        config.key_count = 1u;
    } else {
        config.allow_unsigned = 1u;
    }
    config.sequence_lo = o.sequence != NEVER ? o.sequence : le32(patch + 48);
    config.sequence_hi = o.sequence != NEVER ? 0u : le32(patch + 52);
    config.verify = bitnet_ed25519_verify;
    config.memory = memory;
    config.bytes = (uint32_t)sizeof memory;
    config.page_bytes = o.page;
    return o.only == 1u ? 0 : update(&o, model_bytes, patch);
}
