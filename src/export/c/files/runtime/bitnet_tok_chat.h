/* Conversations: messages in the text form that a chat model was trained with. A tokenizer has
 * it if its checkpoint had a chat template of a form that a device can write
 * (docs/format/tokenizer.md, section 13).
 *
 *     bitnet_chat_open(&chat, &tokenizer, buffer, sizeof buffer);
 *     bitnet_chat_add(&chat, BITNET_SYSTEM, text, bytes);   (if there is one)
 *  A  bitnet_chat_add(&chat, BITNET_USER, text, bytes);
 *     bitnet_chat_prompt(&chat, ids, room, &n);
 *     run the n ids, write the answer
 *     bitnet_chat_answered(&chat, ids, room, &n);
 *     run the n ids (one: it ends the answer), on with A
 *
 * The buffer holds the text that is not encoded yet: a question with what stands around it, or
 * a whole conversation whose answers are given as text. The ids are those of the reference for
 * the whole text; the template ids of bitnet_tok_template are not part of a conversation. */
#ifndef BITNET_TOK_CHAT_H
#define BITNET_TOK_CHAT_H

#include "bitnet_tokenizer.h"

typedef enum { BITNET_SYSTEM, BITNET_USER, BITNET_ASSISTANT } bitnet_role;

/* Do not touch the fields. */
typedef struct {
    const bitnet_tokenizer *t;
    uint8_t *text;
    uint32_t room;
    uint32_t length;
    uint8_t place;
    uint8_t skip;
} bitnet_chat;

/* 1 if the tokenizer can write conversations, 2 if they may begin with a system message. */
uint32_t bitnet_chat_has(const bitnet_tokenizer *t);

/* A new conversation; `text` is its buffer. BITNET_E_FEATURE if the tokenizer has no form for
 * conversations, BITNET_E_FORMAT if that is damaged. */
bitnet_status bitnet_chat_open(bitnet_chat *chat, const bitnet_tokenizer *t, uint8_t *text, uint32_t room);

/* Adds a message of `n` bytes, which must not lie in the buffer: a system message first if at
 * all, then questions and answers in turn. BITNET_E_STATE if this role cannot stand here,
 * BITNET_E_FEATURE if there is no such system message, BITNET_E_CAPACITY if the buffer is full.
 * On an error the conversation is as before. */
bitnet_status bitnet_chat_add(bitnet_chat *chat, bitnet_role role, const uint8_t *content, uint32_t n);

/* After a question: the ids of all that was added since the answer before, to the place where
 * the model is to write. BITNET_E_CAPACITY if the buffer or `cap` is too small, and whatever
 * tokenize_c returns; on an error the conversation is as before. */
bitnet_status bitnet_chat_prompt(bitnet_chat *chat, uint32_t *ids, uint32_t cap, uint32_t *out_n);

/* The model has written its answer: the id that ends it. If the model chose that id itself and
 * it was run already, do not run it again. BITNET_E_FEATURE if this form has no such id: open a
 * new conversation and add everything as text. */
bitnet_status bitnet_chat_answered(bitnet_chat *chat, uint32_t *ids, uint32_t cap, uint32_t *out_n);

#endif
