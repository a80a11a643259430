/*
 * tasks.c - example: a model as a task of an RTOS, or of a loop with a
 * watchdog.  Not part of the firmware; copy what you need.
 *
 * One task owns a context: nothing is locked inside of the runtime.  Two tasks
 * have two contexts and two arenas over the same model in flash.  The task
 * gives the others their turn after every slice of a token, so its longest
 * stretch is one layer or the head; the watchdog's time must be longer than
 * that, not longer than an answer.
 */
#include "tasks.h"

/* One slice; to be called from the loop or from the body of a task.  Returns 1 while there is more to do. */
int task_slice(task *t)
{
    uint32_t done = 0u;
    if (t->status != BITNET_OK || t->left == 0u) {
        return 0;
    }
    if (t->begun == 0u) {
        t->status = bitnet_step_begin(t->ctx, t->at < t->count ? t->prompt[t->at] : t->next);
        t->begun = 1u;
        return t->status == BITNET_OK;
    }
    /* logits only where they are needed: from the last token of the prompt on */
    t->status = bitnet_step_layers(t->ctx, 1u, t->at + 1u < t->count ? (int32_t *)0 : t->logits, &done);
    if (t->status != BITNET_OK || done == 0u) {
        return t->status == BITNET_OK;
    }
    t->begun = 0u;
    t->at += 1u;
    if (t->at >= t->count) {
        t->next = argmax(t->logits, bitnet_vocab(t->ctx));
        t->left -= 1u;
        if (bitnet_is_eos(t->ctx, t->next) != 0u) {
            t->left = 0u;
        } else {
            t->on_token(t->user, t->next);
        }
    }
    return t->left > 0u;
}

/* The body of a task.  yield: let others run and feed the watchdog (taskYIELD, k_yield, tx_thread_relinquish...). */
void task_body(task *t, void (*yield)(void *user))
{
    while (task_slice(t) != 0) {
        yield(t->user);
    }
}
