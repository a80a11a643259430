/*
 * bitnet_service.c - the command `answer` of bitnet_main.c, in a build with
 * FALLBACK: texts answered by the model, or by what takes its place
 * (runtime/bitnet_fallback.h).  A pattern for the loop of an application.
 *
 *   answer [quick] [arena=N] [smash] TEXT[;TEXT...]
 *
 * quick: the short self-test.  arena=N: only N bytes of the arena.  smash: the
 * guard below the stack is overwritten before the last text.
 */
#include "model.h" /* first: what the model does without */
#include "bitnet_service.h"
#include "port.h"

#if defined(BITNET_FALLBACK)

#include "bitnet_rules.h"

#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_RULES && BITNET_RULE_COUNT == 0
#error "there are no rules: export the model again with --rules FILE"
#endif

enum { ANSWER_BYTES = 512 };

static bitnet_service service;
static uint8_t answer[ANSWER_BYTES + 1];
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_DEGRADE
static uint8_t last[ANSWER_BYTES];
#endif
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_REPORT
static uint8_t record[BITNET_RECORD_BYTES];
#endif

static const char *after(const char *s, const char *word)
{
    while (*word != '\0') {
        if (*s != *word) {
            return (const char *)0;
        }
        s++;
        word++;
    }
    while (*s == ' ') {
        s++;
    }
    return s;
}

/* a hook of the last part of a test: what a deep call does to the stack's end */
static void smash(void)
{
    volatile uint32_t *low = port_stack_low();
    if (low != (uint32_t *)0) {
        low[BITNET_GUARD_WORDS - 1u] = 0u;
    }
}

static void say(bitnet_status st, bitnet_source source, uint32_t n)
{
    static const char *const names[] = { "nothing", "model", "last", "canned", "rule", "record" };
    port_write("answer (");
    port_write(names[source]);
    port_write(", ");
    port_write(bitnet_status_text(st));
    port_write("): ");
    answer[n] = 0u;
    port_write((const char *)answer);
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_REPORT
    for (n = 0u; n < BITNET_RECORD_BYTES && source == BITNET_FROM_RECORD; n++) {
        char hex[3];
        hex[0] = "0123456789abcdef"[record[n] >> 4];
        hex[1] = "0123456789abcdef"[record[n] & 15u];
        hex[2] = '\0';
        port_write(hex);
    }
#endif
    port_write("\n");
}

int bitnet_service_command(bitnet_ctx *ctx, const char *args)
{
    static const char *const modes[] = { "full", "scalar", "failed" };
    uint32_t model_bytes = 0u;
    uint32_t arena_bytes = 0u;
    uint32_t smashing = 0u;
    uint32_t n = 0u;
    const void *model = port_model(&model_bytes);
    void *arena = port_arena(&arena_bytes);
    bitnet_test test = BITNET_TEST_FULL;
    const char *rest;
    bitnet_status st = BITNET_OK;
    for (;;) {
        if ((rest = after(args, "quick ")) != (const char *)0) {
            test = BITNET_TEST_QUICK;
        } else if ((rest = after(args, "smash ")) != (const char *)0) {
            smashing = 1u;
        } else if ((rest = after(args, "arena=")) != (const char *)0) {
            arena_bytes = 0u;
            while (*rest >= '0' && *rest <= '9') {
                arena_bytes = arena_bytes * 10u + (uint32_t)(*rest - '0');
                rest++;
            }
            rest = after(rest, "");
        } else {
            break;
        }
        args = rest;
    }
    service.ctx = ctx;
    service.logits = port_results(BITNET_RESULTS);
    service.logit_capacity = BITNET_RESULTS;
    service.ids = port_ids(&service.id_capacity);
    service.work_words = BITNET_TOKENIZER_WORK;
    service.work = port_work(service.work_words);
    service.most_tokens = 32u;
    service.guard = port_stack_low();
    service.canned = "not available";
#if BITNET_FALLBACK_MODE == BITNET_FALLBACK_DEGRADE
    service.last = last;
    service.last_capacity = (uint32_t)sizeof last;
#elif BITNET_FALLBACK_MODE == BITNET_FALLBACK_RULES
    service.rules = &bitnet_rule_table;
#elif BITNET_FALLBACK_MODE == BITNET_FALLBACK_REPORT
    service.record = record;
#endif
    st = bitnet_service_start(&service, model, model_bytes, (const bitnet_config_t *)0, arena, arena_bytes, test);
    port_write("start: ");
    port_write(bitnet_status_text(st));
    port_write(", mode ");
    port_write(modes[bitnet_mode(ctx)]);
    port_write("\n");
    for (;;) {
        bitnet_source source = BITNET_FROM_NOTHING;
        uint32_t length = 0u;
        while (args[length] != '\0' && args[length] != ';') {
            length++;
        }
        if (smashing != 0u && args[length] == '\0') {
            smash();
        }
        st = bitnet_answer(&service, (const uint8_t *)args, length, answer, (uint32_t)ANSWER_BYTES, &n, &source);
        say(st, source, n);
        if (args[length] == '\0') {
            return st == BITNET_OK ? 0 : 10 + (int)st;
        }
        args += length + 1u;
    }
}

#endif
