/* restart_main.c - takes the place of ports/bitnet_main.c: a conversation is saved to a buffer, everything else is forgotten as by a
 * reset, the state comes back, and the logits are those of a conversation that was never interrupted.  Then the examples. */
#include "model.h" /* first: what the model does without */
#include "bitnet.h"
#include "port.h"
#include "examples/stream.h"
#include "examples/tasks.h"

static bitnet_ctx whole;
static uint8_t kept[BITNET_STATE_BYTES];
static uint32_t made[8], count;
static task job; /* all 0 */

int bitnet_main(void);

static uint32_t checksum(const int32_t *v, uint32_t n)
{
    uint32_t sum = 2166136261u;
    uint32_t i;
    for (i = 0u; i < n; i++) {
        sum = (sum ^ (uint32_t)v[i]) * 16777619u;
    }
    return sum;
}

static int keep_token(void *user, uint32_t id)
{
    (void)user;
    made[count] = id;
    count += 1u;
    return count < 8u;
}

static void task_token(void *user, uint32_t id) { (void)keep_token(user, id); }
static void yields(void *user) { *(uint32_t *)user += 1u; }

static int fail(const char *what)
{
    port_write(what);
    port_write(" failed\n");
    return 1;
}

int bitnet_main(void)
{
    uint32_t model_bytes = 0u, arena_bytes = 0u, n = 0u, i, want, first, capacity = 0u, turns = 0u, streamed;
    const void *model = port_model(&model_bytes);
    uint8_t *arena = (uint8_t *)port_arena(&arena_bytes);
    int32_t *logits = port_results(BITNET_RESULTS);
    uint32_t *ids = port_ids(&capacity);
    for (i = 0u; i < 70u; i++) { /* more than the window */
        ids[i] = (i * 7u + 3u) & 255u;
    }
    if (bitnet_init(&whole, model, model_bytes, 0, arena, arena_bytes) != BITNET_OK || bitnet_feed(&whole, ids, 60u) != BITNET_OK ||
        bitnet_state_save(&whole, kept, (uint32_t)sizeof kept, &n) != BITNET_OK || bitnet_run(&whole, ids + 60, 10u, logits) != BITNET_OK) {
        return fail("before the reset");
    }
    want = checksum(logits, BITNET_RESULTS);
    /* the reset */
    for (i = 0u; i < arena_bytes; i++) {
        arena[i] = 0xA5u;
    }
    for (i = 0u; i < sizeof whole; i++) {
        ((uint8_t *)&whole)[i] = 0x5Au;
    }
    if (bitnet_init(&whole, model, model_bytes, 0, arena, arena_bytes) != BITNET_OK ||
        bitnet_state_restore(&whole, kept, n) != BITNET_OK || bitnet_position(&whole) != 60u ||
        bitnet_run(&whole, ids + 60, 10u, logits) != BITNET_OK || checksum(logits, BITNET_RESULTS) != want) {
        return fail("after the reset");
    }
    kept[n - 1u] ^= 0x20u;
    if (bitnet_state_restore(&whole, kept, n) != BITNET_E_CRC || bitnet_position(&whole) != 70u) {
        return fail("a damaged state");
    }
    port_write("state: equal\n");
    /* the examples: the same tokens */
    (void)bitnet_reset(&whole);
    if (stream_text(&whole, ids, 5u, 8u, logits, keep_token, 0) != BITNET_OK) {
        return fail("stream");
    }
    streamed = count;
    first = 0u;
    for (i = 0u; i < count; i++) {
        first = first * 31u + made[i];
    }
    (void)bitnet_reset(&whole);
    count = 0u;
    job.ctx = &whole;
    job.prompt = ids;
    job.count = 5u;
    job.left = 8u;
    job.logits = logits;
    job.on_token = task_token;
    job.user = &turns;
    task_body(&job, yields);
    want = 0u;
    for (i = 0u; i < count; i++) {
        want = want * 31u + made[i];
    }
    if (job.status != BITNET_OK || count != streamed || want != first || turns < 5u * 3u) {
        return fail("tasks");
    }
    port_write("examples: equal\n");
    return 0;
}
