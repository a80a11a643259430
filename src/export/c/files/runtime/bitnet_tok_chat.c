/* Conversations; see bitnet_tok_chat.h. */
#include "bitnet_tok_chat.h"

#include "bitnet_tok.h"

#if BITNET_TOK_CHAT

#define CHAT_HEAD 32u
#define CHAT_NONE 0xffffu
#define CHAT_FILLED 8u

/* the texts of the section */
enum { CHAT_START_SYSTEM, CHAT_START_USER, CHAT_SYSTEM_USER, CHAT_USER_ASSISTANT, CHAT_ASSISTANT_USER, CHAT_USER_PROMPT, CHAT_TEXTS };
/* where a conversation stands */
enum { AT_START, AT_SYSTEM, AT_USER, AT_ASSISTANT, AT_PROMPT, AT_ANSWERED };

typedef struct {
    const uint8_t *bytes; /* NULL: there is none */
    uint32_t n;
} chat_text;

/* a text of a checked section */
static chat_text chat_at(const uint8_t *section, uint32_t which)
{
    const uint8_t *entry = section + 8u + 4u * which;
    chat_text text;
    text.n = tok_le(entry + 2, 2);
    text.bytes = tok_le(entry, 2) == CHAT_NONE ? NULL : section + CHAT_HEAD + tok_le(entry, 2);
    return text;
}

static bitnet_status chat_check(const uint8_t *section, uint32_t bytes)
{
    uint32_t have = 0u;
    uint32_t pool;
    uint32_t end;
    uint32_t k;
    if (section == NULL) {
        return BITNET_E_FEATURE;
    }
    if (bytes < CHAT_HEAD || section[0] > 15u || section[1] != 0u) {
        return BITNET_E_FORMAT;
    }
    pool = tok_le(section + 6, 2);
    if (bytes - CHAT_HEAD != pool) {
        return BITNET_E_FORMAT;
    }
    for (k = 0u; k < CHAT_TEXTS; k++) {
        const uint32_t offset = tok_le(section + 8u + 4u * k, 2);
        const uint32_t length = tok_le(section + 10u + 4u * k, 2);
        if (offset == CHAT_NONE ? length != 0u : offset + length > pool) {
            return BITNET_E_FORMAT;
        }
        have |= offset == CHAT_NONE ? 0u : 1u << k;
    }
    /* all, or all without the two of a system message */
    if (have != 63u && have != (63u ^ (1u << CHAT_START_SYSTEM) ^ (1u << CHAT_SYSTEM_USER))) {
        return BITNET_E_FORMAT;
    }
    end = tok_le(section + 2, 2);
    k = tok_le(section + 4, 2);
    if (end == CHAT_NONE) {
        return k == 0u ? BITNET_OK : BITNET_E_FORMAT;
    }
    return k != 0u && end + k <= chat_at(section, CHAT_ASSISTANT_USER).n ? BITNET_OK : BITNET_E_FORMAT;
}

/* length of the white space at the start of `n` bytes (White_Space, U+001C to U+001F); 0: none */
static uint32_t chat_white(const uint8_t *p, uint32_t n)
{
    if (n >= 1u && ((p[0] >= 0x09u && p[0] <= 0x0du) || (p[0] >= 0x1cu && p[0] <= 0x20u))) {
        return 1u;
    }
    if (n >= 2u && p[0] == 0xc2u && (p[1] == 0x85u || p[1] == 0xa0u)) {
        return 2u;
    }
    if (n < 3u) {
        return 0u;
    }
    if ((p[0] == 0xe1u && p[1] == 0x9au && p[2] == 0x80u) || (p[0] == 0xe2u && p[1] == 0x81u && p[2] == 0x9fu) ||
        (p[0] == 0xe3u && p[1] == 0x80u && p[2] == 0x80u)) {
        return 3u;
    }
    if (p[0] == 0xe2u && p[1] == 0x80u &&
        ((p[2] >= 0x80u && p[2] <= 0x8au) || p[2] == 0xa8u || p[2] == 0xa9u || p[2] == 0xafu)) {
        return 3u;
    }
    return 0u;
}

static chat_text chat_strip(chat_text text)
{
    uint32_t k = 1u;
    uint32_t w;
    while ((w = chat_white(text.bytes, text.n)) != 0u) {
        text.bytes += w;
        text.n -= w;
    }
    while (k <= 3u && k <= text.n) {
        if (chat_white(text.bytes + (text.n - k), k) == k) {
            text.n -= k;
            k = 1u;
        } else {
            k++;
        }
    }
    return text;
}

/* adds two texts; after an answer they begin the buffer anew */
static bitnet_status chat_put(bitnet_chat *chat, chat_text a, chat_text b)
{
    const uint32_t again = chat->place == AT_ANSWERED ? 1u : 0u;
    uint32_t at = again != 0u ? 0u : chat->length;
    uint32_t k;
    if (a.n > chat->room - at || b.n > chat->room - at - a.n) {
        return BITNET_E_CAPACITY;
    }
    for (k = 0u; k < a.n; k++) {
        chat->text[at++] = a.bytes[k];
    }
    for (k = 0u; k < b.n; k++) {
        chat->text[at++] = b.bytes[k];
    }
    chat->length = at;
    if (again != 0u) {
        chat->skip = 1u;
    }
    return BITNET_OK;
}

/* encodes the buffer; what begins it again after an answer was run and gives no id */
static bitnet_status chat_encode(const bitnet_chat *chat, uint32_t *ids, uint32_t cap, uint32_t *out_n)
{
    uint32_t k;
    bitnet_status status = tokenize_c(chat->t, chat->text, chat->length, ids, cap, out_n);
    if (status == BITNET_OK && chat->skip != 0u && *out_n > 0u) {
        *out_n -= 1u;
        for (k = 0u; k < *out_n; k++) {
            ids[k] = ids[k + 1u];
        }
    }
    return status;
}

uint32_t bitnet_chat_has(const bitnet_tokenizer *t)
{
    if (t == NULL || t->blob == NULL ||
        chat_check(t->section[TOK_S_CHAT], t->section_bytes[TOK_S_CHAT]) != BITNET_OK) {
        return 0u;
    }
    return chat_at(t->section[TOK_S_CHAT], CHAT_START_SYSTEM).bytes != NULL ? 2u : 1u;
}

bitnet_status bitnet_chat_open(bitnet_chat *chat, const bitnet_tokenizer *t, uint8_t *text, uint32_t room)
{
    bitnet_status status;
    if (chat == NULL || t == NULL || text == NULL) {
        return BITNET_E_NULL;
    }
    chat->t = NULL;
    if (t->blob == NULL) {
        return BITNET_E_STATE;
    }
    status = chat_check(t->section[TOK_S_CHAT], t->section_bytes[TOK_S_CHAT]);
    if (status == BITNET_OK) {
        chat->t = t;
        chat->text = text;
        chat->room = room;
        chat->length = 0u;
        chat->place = AT_START;
        chat->skip = 0u;
    }
    return status;
}

/* the text before a message: `which` of the section, CHAT_TEXTS if it cannot stand here */
static uint32_t chat_before(const bitnet_chat *chat, bitnet_role role)
{
    /* Not a switch: its jump table would be a libgcc call on ARMv6-M. */
    if (chat->place == AT_START && role != BITNET_ASSISTANT) {
        return role == BITNET_SYSTEM ? CHAT_START_SYSTEM : CHAT_START_USER;
    }
    if (chat->place == AT_USER) {
        return role == BITNET_ASSISTANT ? CHAT_USER_ASSISTANT : CHAT_TEXTS;
    }
    if (role != BITNET_USER) {
        return CHAT_TEXTS;
    }
    if (chat->place == AT_ASSISTANT || chat->place == AT_ANSWERED) {
        return CHAT_ASSISTANT_USER;
    }
    return chat->place == AT_SYSTEM ? CHAT_SYSTEM_USER : CHAT_TEXTS;
}

bitnet_status bitnet_chat_add(bitnet_chat *chat, bitnet_role role, const uint8_t *content, uint32_t n)
{
    const uint8_t *section;
    chat_text before;
    chat_text message;
    bitnet_status status;
    uint32_t which;
    if (chat == NULL || content == NULL) {
        return BITNET_E_NULL;
    }
    if (chat->t == NULL) {
        return BITNET_E_STATE;
    }
    which = chat_before(chat, role);
    if (which == CHAT_TEXTS) {
        return BITNET_E_STATE;
    }
    section = chat->t->section[TOK_S_CHAT];
    before = chat_at(section, which);
    message.bytes = content;
    message.n = n;
    if ((section[0] & (1u << (uint32_t)role)) != 0u) {
        message = chat_strip(message);
    }
    if (before.bytes == NULL || (role == BITNET_SYSTEM && message.n == 0u && (section[0] & CHAT_FILLED) != 0u)) {
        return BITNET_E_FEATURE;
    }
    if (chat->place == AT_ANSWERED) {
        const uint32_t end = tok_le(section + 2, 2);
        before.bytes += end;
        before.n -= end;
    }
    status = chat_put(chat, before, message);
    if (status == BITNET_OK) {
        chat->place = role == BITNET_SYSTEM ? AT_SYSTEM : role == BITNET_USER ? AT_USER : AT_ASSISTANT;
    }
    return status;
}

/* Field by field: for a whole structure a compiler may call memcpy. */
static void chat_copy(bitnet_chat *to, const bitnet_chat *from)
{
    to->t = from->t;
    to->text = from->text;
    to->room = from->room;
    to->length = from->length;
    to->place = from->place;
    to->skip = from->skip;
}

bitnet_status bitnet_chat_prompt(bitnet_chat *chat, uint32_t *ids, uint32_t cap, uint32_t *out_n)
{
    const chat_text nothing = { NULL, 0u };
    bitnet_chat next;
    bitnet_status status;
    if (chat == NULL || ids == NULL || out_n == NULL) {
        return BITNET_E_NULL;
    }
    if (chat->t == NULL || chat->place != AT_USER) {
        return BITNET_E_STATE;
    }
    chat_copy(&next, chat);
    status = chat_put(&next, chat_at(chat->t->section[TOK_S_CHAT], CHAT_USER_PROMPT), nothing);
    if (status == BITNET_OK) {
        status = chat_encode(&next, ids, cap, out_n);
    }
    if (status == BITNET_OK) {
        next.place = AT_PROMPT;
        chat_copy(chat, &next);
    }
    return status;
}

bitnet_status bitnet_chat_answered(bitnet_chat *chat, uint32_t *ids, uint32_t cap, uint32_t *out_n)
{
    const uint8_t *section;
    bitnet_status status;
    uint32_t end;
    if (chat == NULL || ids == NULL || out_n == NULL) {
        return BITNET_E_NULL;
    }
    if (chat->t == NULL || chat->place != AT_PROMPT) {
        return BITNET_E_STATE;
    }
    section = chat->t->section[TOK_S_CHAT];
    end = tok_le(section + 2, 2);
    if (end == CHAT_NONE) {
        return BITNET_E_FEATURE;
    }
    status = tokenize_c(chat->t, chat_at(section, CHAT_ASSISTANT_USER).bytes + end, tok_le(section + 4, 2), ids, cap,
                        out_n);
    if (status == BITNET_OK) {
        chat->place = AT_ANSWERED;
        chat->length = 0u;
        chat->skip = 0u;
    }
    return status;
}

#else

/* C requires that a file holds something */
typedef int bitnet_tok_chat_is_switched_off;

#endif
