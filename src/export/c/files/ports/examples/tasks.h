/* tasks.h - example, see tasks.c. */
#ifndef TASKS_H
#define TASKS_H

#include "bitnet.h"

typedef struct {
    bitnet_ctx *ctx;
    const uint32_t *prompt;
    uint32_t count; /* of the prompt, at least 1 */
    uint32_t left;  /* tokens of the answer that may still come */
    int32_t *logits;
    void (*on_token)(void *user, uint32_t id);
    void *user;
    /* start with 0 */
    uint32_t at, next, begun;
    bitnet_status status;
} task;

int task_slice(task *t);
void task_body(task *t, void (*yield)(void *user));

#endif
