/*
 * bitnet_delta.h - applies a patch (docs/format/delta.md) to the model in
 * flash, so that a power cut at any instant leaves the old model or the new
 * one.  Two slots (the new model is made in the other one), or one slot, in
 * place, with a journal.  No heap, no globals; memory is one struct and one
 * buffer that the caller gives.
 *
 *     bitnet_delta_open(&delta, &config);              after every start: finds out where it was
 *     bitnet_delta_active(&delta, 1, &slot);           which slot to run; BITNET_DELTA_E_BUSY: first apply
 *     ... the application puts a whole patch into the patch area ...
 *     bitnet_delta_apply(&delta);                      checks everything, then writes; the same call resumes
 *     ... starts again, runs the self-test of the new model ...
 *     bitnet_delta_confirm(&delta);                    or bitnet_delta_rollback(&delta)
 */
#ifndef BITNET_DELTA_H
#define BITNET_DELTA_H

#include <stdint.h>

#include "bitnet_sha256.h"

typedef enum {
    BITNET_DELTA_OK = 0,
    BITNET_DELTA_ALREADY = 1,      /* nothing to do: the model is what this patch makes */
    BITNET_DELTA_E_NULL = 2,       /* a pointer that is needed is NULL */
    BITNET_DELTA_E_CONFIG = 3,     /* areas, sizes or granularity that cannot work */
    BITNET_DELTA_E_STATE = 4,      /* not opened, nothing to confirm, no way back */
    BITNET_DELTA_E_FLASH = 5,      /* the flash reported an error, or does not hold what was written */
    BITNET_DELTA_E_PATCH = 6,      /* no patch of this format, or it contradicts itself */
    BITNET_DELTA_E_VERSION = 7,    /* of another version of the format */
    BITNET_DELTA_E_DIGEST = 8,     /* the patch is damaged: its index or payload has another SHA-256 */
    BITNET_DELTA_E_UNSIGNED = 9,   /* not signed, and a key is wanted */
    BITNET_DELTA_E_SIGNATURE = 10, /* signed by an unknown key, or not by the one it names */
    BITNET_DELTA_E_MODEL = 11,     /* for another model */
    BITNET_DELTA_E_OLDER = 12,     /* its sequence is not above the highest one accepted */
    BITNET_DELTA_E_BASE = 13,      /* made for another base than the active slot holds */
    BITNET_DELTA_E_HOST = 14,      /* for hosts only */
    BITNET_DELTA_E_ROOM = 15,      /* slot, patch area or journal too small for it */
    BITNET_DELTA_E_MEMORY = 16,    /* buffer too small: bitnet_delta_need tells how many bytes it takes */
    BITNET_DELTA_E_MODE = 17,      /* one slot, and the patch is not in place (or not reversible, to go back) */
    BITNET_DELTA_E_DAMAGED = 18,   /* a block or the whole target has another digest: it is not accepted */
    BITNET_DELTA_E_BUSY = 19,      /* an update in place was cut short: call bitnet_delta_apply */
    BITNET_DELTA_E_STOPPED = 20    /* the progress callback asked to stop; apply resumes */
} bitnet_delta_status;

/* ---- flash ------------------------------------------------------------------------------ */

typedef struct {
    uint32_t at;    /* address, a multiple of the erase size */
    uint32_t bytes; /* whole erase units, below 2^30 */
} bitnet_area_t;

/* Functions answer 0 if they did it.  An erased byte is 0xFF.  Addresses mean what the functions say they mean. */
typedef struct {
    void *user;
    int (*read)(void *user, uint32_t at, void *out, uint32_t bytes);
    int (*program)(void *user, uint32_t at, const void *data, uint32_t bytes); /* whole program units, each once per erase */
    int (*erase)(void *user, uint32_t at);                                     /* the erase unit that begins there */
    int (*sync)(void *user); /* returns when all of that is in the flash, NULL: it always is */
    uint32_t erase_log2;     /* 9 ..= 18; if units differ, the largest, and `erase` erases several */
    uint32_t program_bytes;  /* 1, 2, 4 .. 32 */
    bitnet_area_t slot[2];   /* models; slot[1].bytes = 0: one slot, in place */
    bitnet_area_t patch;     /* written by the application; only read here */
    bitnet_area_t state;     /* at least two erase units, nobody else writes there */
    bitnet_area_t journal;   /* in place: at least a block of the patch and an erase unit */
} bitnet_flash_t;

/* ---- configuration ---------------------------------------------------------------------- */

/* 1: the signature is good (bitnet_ed25519_verify) */
typedef int (*bitnet_verify_fn)(const uint8_t signature[64], const uint8_t key[32], const void *message, uint32_t bytes);

typedef struct {
    uint8_t number[8]; /* as in the key file */
    uint8_t key[32];
} bitnet_delta_key_t;

/* Called before each page; not 0: stops, and apply answers BITNET_DELTA_E_STOPPED. A place to feed a watchdog. */
typedef int (*bitnet_progress_fn)(void *user, uint32_t done, uint32_t total);

typedef struct {
    const bitnet_flash_t *flash;
    const char *model;              /* name that patches must have, NULL: any */
    const bitnet_delta_key_t *keys; /* a patch must be signed by one of them */
    uint32_t key_count;
    uint32_t allow_unsigned; /* 1: without keys, takes unsigned patches and does not look at signatures */
    uint32_t allow_older;    /* 1: takes a sequence that is not above the highest one accepted */
    uint32_t sequence_lo;    /* of the model that the device was made with */
    uint32_t sequence_hi;
    bitnet_verify_fn verify;
    bitnet_sha256_fn sha256; /* NULL: ours */
    bitnet_progress_fn progress;
    void *user;          /* for progress */
    void *memory;        /* aligned to 4 */
    uint32_t bytes;      /* of it: what bitnet_delta_need answers */
    uint32_t page_bytes; /* that are programmed at once, a power of two, 64 ..= 4096, not below program_bytes */
} bitnet_delta_config;

/* ---- where an update is ----------------------------------------------------------------- */

enum {
    BITNET_DELTA_IDLE = 0, /* slot `active` holds a model that is accepted */
    BITNET_DELTA_RUN = 1,  /* being applied */
    BITNET_DELTA_TRIAL = 2 /* the new model is whole and active, but not confirmed */
};

/* One record of the state area. */
typedef struct {
    uint32_t counter;
    uint8_t state;
    uint8_t active;       /* slot to run */
    uint8_t back;         /* going back, in place */
    uint8_t journal;      /* 1: the journal holds group `group`, the slot may not */
    uint8_t dirty;        /* 1: in place, the slot may hold parts of two models */
    uint32_t trials;      /* starts of a model that is not confirmed */
    uint32_t group;       /* groups before this one are done */
    uint64_t accepted;    /* highest sequence confirmed; never falls */
    uint64_t current;     /* sequence of the active slot */
    uint64_t previous;    /* sequence to go back to */
    uint8_t patch[16];    /* digest of the header of the last patch */
    uint8_t contents[16]; /* digest of the journal */
} bitnet_delta_state_t;

/* A window of a byte stream in flash. */
enum { BITNET_DELTA_AHEAD = 32 };
typedef struct {
    uint32_t at;    /* address of the next byte */
    uint32_t end;   /* address behind the last one */
    uint32_t have;  /* bytes in `bytes` that are left */
    uint32_t next;  /* index of the next one */
    uint8_t bytes[BITNET_DELTA_AHEAD];
} bitnet_delta_reader;

typedef struct {
    uint32_t kind;
    uint32_t option;
    uint32_t begin; /* in the target */
    uint32_t bytes;
    uint32_t base;  /* in the base, where it is read */
    uint32_t parameter;
} bitnet_delta_segment;

/* Where the list of segments is being read. */
typedef struct {
    bitnet_delta_reader in;
    bitnet_delta_segment now;
    uint32_t base_end;  /* where the last segment that reads the base ended */
    uint32_t run_at;    /* first entry behind the last repeat */
    uint32_t run;       /* entries since */
    uint32_t again_at;  /* entries that are repeated */
    uint32_t again;     /* how many */
    uint32_t again_now; /* entries of this turn that are left */
    uint32_t turns;     /* turns that are left */
    uint32_t after;     /* where the entry behind the repeat is */
    uint32_t count;
} bitnet_delta_walk;

/* Where the table of blocks is being read. */
typedef struct {
    bitnet_delta_reader in;
    uint32_t number;  /* of the block that was read last, plus 1 */
    uint32_t payload; /* address */
    uint32_t bytes;   /* 0: unchanged */
    uint32_t first;   /* of stream 1 */
    uint8_t digest[16];
} bitnet_delta_blocks;

/* One class of symbols, from its first piece in a block on. */
typedef struct {
    uint32_t has;
    uint32_t rice;
    uint32_t shift; /* k of Rice, s of the range coder */
    uint32_t left;  /* symbols that do not change before the next that does */
} bitnet_delta_class;

/* All that an update needs beside the buffer. Read `state`; the rest is not for applications. */
typedef struct {
    bitnet_delta_state_t state;
    const bitnet_delta_config *config;
    uint32_t opened;
    uint32_t unit; /* of the state area, that holds the newest record */
    uint32_t slot; /* of that unit, that is free */

    uint32_t checked;
    uint32_t flags;
    uint32_t block_log2;
    uint32_t group_log2; /* a group: what is written at once, a block or an erase unit */
    uint32_t index_bytes;
    uint32_t patch_bytes;
    uint32_t base_bytes;
    uint32_t target_bytes;
    uint32_t contexts;
    uint32_t row;
    uint64_t from;
    uint64_t to;
    uint8_t id[16];
    uint8_t base_sha[32];
    uint8_t target_sha[32];

    bitnet_delta_walk walk;
    bitnet_delta_blocks blocks;
    uint32_t group; /* that comes next */

    bitnet_delta_reader stream[2];
    uint32_t range;
    uint32_t code;
    uint32_t bits;
    uint32_t bit_count;
    bitnet_delta_class classes[6];
    uint32_t at[14]; /* first context of the six classes, T, three widths twice, kind 7 */
    uint32_t *context;
    uint8_t *row_bytes;
    uint8_t *page;
    uint32_t fill;   /* bytes of the page */
    uint32_t out;    /* address where the page goes */
    uint32_t base;   /* address of the base */
    uint32_t failed; /* first error while a block is decoded */
    bitnet_sha256_t block_sha;
    bitnet_sha256_t group_sha;
} bitnet_delta_t;

/* ---- calls ------------------------------------------------------------------------------ */

/* After every start, before all else. Writes only if the last record was being written when the power went. */
bitnet_delta_status bitnet_delta_open(bitnet_delta_t *delta, const bitnet_delta_config *config);

/* Bytes of memory that the patch in the patch area takes; at least BITNET_DELTA_LEAST. Checks nothing but the header's shape. */
enum { BITNET_DELTA_LEAST = 512 };
bitnet_delta_status bitnet_delta_need(bitnet_delta_t *delta, uint32_t *bytes);

/* All that is checked before the first write: signature, model, sequence, digests, index, room, base. Writes nothing. */
bitnet_delta_status bitnet_delta_check(bitnet_delta_t *delta);

/* Checks (once), then makes one group of blocks; *done is 1 after the last one. The same calls go on after a power cut. */
bitnet_delta_status bitnet_delta_step(bitnet_delta_t *delta, uint32_t *done);

/* All steps. */
bitnet_delta_status bitnet_delta_apply(bitnet_delta_t *delta);

/* The slot to run. A model on trial is counted each time; after `trials` times without confirm the old slot is
 * active again (0: never). With one slot, BITNET_DELTA_E_BUSY says that it holds neither model now. */
bitnet_delta_status bitnet_delta_active(bitnet_delta_t *delta, uint32_t trials, uint32_t *slot);

/* The model on trial is accepted, its sequence is the highest from now on. */
bitnet_delta_status bitnet_delta_confirm(bitnet_delta_t *delta);

/* Back to the model before, as long as the new one is not confirmed: the other slot; with one slot the patch, which must
 * still be there and reversible, is applied backwards, and a cut is resumed by bitnet_delta_apply. */
bitnet_delta_status bitnet_delta_rollback(bitnet_delta_t *delta);

/* The name of a status, for a log. */
const char *bitnet_delta_text(bitnet_delta_status status);

#endif
