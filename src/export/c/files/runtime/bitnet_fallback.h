/*
 * bitnet_fallback.h - an answer for a text, or what takes its place when the
 * model cannot give one (docs/fallback.md).  A thin layer over tokenizer and
 * runtime; bitnet_run and the rest of bitnet.h do not change.
 *
 * Choose what happens with -DBITNET_FALLBACK_MODE=BITNET_FALLBACK_...
 */
#ifndef BITNET_FALLBACK_H
#define BITNET_FALLBACK_H

#include "bitnet.h"

#define BITNET_FALLBACK_NONE 0    /* only the status */
#define BITNET_FALLBACK_DEGRADE 1 /* the last good answer, else the canned one */
#define BITNET_FALLBACK_RULES 2   /* the first rule that matches, else the canned answer */
#define BITNET_FALLBACK_REPORT 3  /* a record for the application to send */

#ifndef BITNET_FALLBACK_MODE
#define BITNET_FALLBACK_MODE BITNET_FALLBACK_NONE
#endif
#if BITNET_FALLBACK_MODE < BITNET_FALLBACK_NONE || BITNET_FALLBACK_MODE > BITNET_FALLBACK_REPORT
#error "BITNET_FALLBACK_MODE is BITNET_FALLBACK_NONE, _DEGRADE, _RULES or _REPORT"
#endif

#define BITNET_RECORD_BYTES 112u
#define BITNET_RECENT_IDS 16u
#define BITNET_ANY_WORD 0xFFFFu

/* where an answer comes from */
typedef enum {
    BITNET_FROM_NOTHING = 0,
    BITNET_FROM_MODEL = 1,
    BITNET_FROM_LAST = 2,   /* the last good answer */
    BITNET_FROM_CANNED = 3,
    BITNET_FROM_RULE = 4,
    BITNET_FROM_RECORD = 5  /* no answer, but a record was written */
} bitnet_source;

/* what the model failed at */
typedef enum {
    BITNET_CAUSE_NONE = 0,
    BITNET_CAUSE_START = 1,    /* bitnet_init, or too little room for the logits */
    BITNET_CAUSE_SELFTEST = 2,
    BITNET_CAUSE_STACK = 3,    /* the guard below the stack */
    BITNET_CAUSE_TOKENS = 4,   /* text to tokens */
    BITNET_CAUSE_RUN = 5,
    BITNET_CAUSE_TEXT = 6,     /* tokens to text */
    BITNET_CAUSE_LENGTH = 7    /* the answer does not fit */
} bitnet_cause;

typedef enum { BITNET_TEST_NONE = 0, BITNET_TEST_QUICK = 1, BITNET_TEST_FULL = 2 } bitnet_test;

/* A pattern as an automaton over words: a bit for each of its positions. */
typedef struct {
    uint32_t first;                /* positions that the first word may take */
    uint32_t last;                 /* positions that may be the last word's */
    uint16_t at, count;            /* its positions in word[] and follow[], at most 32 */
    uint16_t answer, answer_bytes; /* in text[] */
    uint16_t empty;                /* 1: a text without words matches */
} bitnet_rule;

/* Rules as `export --rules` compiles them, first match first. */
typedef struct {
    const uint8_t *text;        /* the words, ascending, then the answers */
    const uint16_t *word_start; /* word_count + 1 places in text */
    const uint16_t *word;       /* of each position, or BITNET_ANY_WORD */
    const uint32_t *follow;     /* positions of the rule that the next word may take */
    const bitnet_rule *rules;
    uint32_t word_count, rule_count;
} bitnet_rules;

/* Fill the first part, then call bitnet_service_start. */
typedef struct {
    bitnet_ctx *ctx;
    int32_t *logits;
    uint32_t logit_capacity;
    uint32_t *ids;            /* scratch: as many as a text has bytes, and some for the template */
    uint32_t id_capacity;
    uint32_t *work;           /* scratch of the tokenizer, as bitnet_tokenizer_of wants it */
    uint32_t work_words;
    uint32_t most_tokens;     /* of an answer */
    const uint32_t *guard;    /* below the stack, see bitnet_guard_place; NULL: none */
    uint8_t *last;            /* DEGRADE keeps the last good answer here; NULL: it does not */
    uint32_t last_capacity;
    const char *canned;       /* DEGRADE, RULES: zero-terminated, may be NULL */
    const bitnet_rules *rules;
    uint8_t *record;          /* REPORT: BITNET_RECORD_BYTES */
    /* private */
    const uint8_t *model;
    uint32_t model_bytes;
    bitnet_status status;
    bitnet_cause cause;
    uint32_t last_bytes, reports, recent_count;
    uint32_t recent[BITNET_RECENT_IDS];
} bitnet_service;

/* bitnet_init, the guard, a self-test.  The status is kept: bitnet_answer may be called whatever it is. */
bitnet_status bitnet_service_start(bitnet_service *s, const void *model, uint32_t model_bytes,
                                   const bitnet_config_t *config, void *arena, uint32_t arena_bytes, bitnet_test test);

/* Answers n bytes of text with the model, greedily, in a conversation of its own.  BITNET_OK: out holds *length bytes
 * of the model's answer.  Else the status of what failed, and *source says what out holds instead. */
bitnet_status bitnet_answer(bitnet_service *s, const uint8_t *text, uint32_t n, uint8_t *out, uint32_t cap,
                            uint32_t *length, bitnet_source *source);

/* The index of the first rule that matches, or rule_count.  ids: scratch for as many words as the text may have;
 * a text with more words matches nothing.  At most words * positions steps. */
uint32_t bitnet_match(const bitnet_rules *r, const uint8_t *text, uint32_t n, uint32_t *ids, uint32_t capacity);

#endif
