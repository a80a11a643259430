/* chat_driver.c - a conversation in C: chat_driver BLOB [ROLE TEXT]... ; a role "answered" takes no text.  Prints the ids of each prompt,
 * of each end of an answer, and the status that stopped it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bitnet_tok_chat.h"
#include "read_file.h"

enum { TEXT = 4096, IDS = 4096 };

static void list(const uint32_t *ids, uint32_t n)
{
    uint32_t k;
    for (k = 0; k < n; k++) {
        printf("%s%u", k > 0u ? "," : "", (unsigned)ids[k]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    static uint32_t ids[IDS];
    static uint8_t text[TEXT];
    bitnet_tokenizer t;
    bitnet_chat chat;
    bitnet_status st;
    uint32_t bytes = 0;
    uint32_t words;
    uint32_t *work;
    uint32_t n = 0;
    uint8_t *blob;
    uint8_t *file;
    int i = 2;
    if (argc < 2) { return 2; }
    file = read_file(argv[1], &bytes);
    /* so that a sanitizer sees the first byte that is read behind it */
    blob = malloc(bytes);
    if (blob == NULL) { return 2; }
    memcpy(blob, file, bytes);
    words = bitnet_tok_work(blob, bytes);
    work = calloc(words > 0u ? words : 1u, 4u);
    st = bitnet_tok_open(&t, blob, bytes, work, words);
    if (st == BITNET_OK) {
        printf("has %u\n", (unsigned)bitnet_chat_has(&t));
        st = bitnet_chat_open(&chat, &t, text, (uint32_t)sizeof text);
    }
    while (st == BITNET_OK && i < argc) {
        const char *role = argv[i++];
        if (strcmp(role, "answered") == 0) {
            st = bitnet_chat_answered(&chat, ids, IDS, &n);
            if (st == BITNET_OK) { list(ids, n); }
        } else if (strcmp(role, "prompt") == 0) {
            st = bitnet_chat_prompt(&chat, ids, IDS, &n);
            if (st == BITNET_OK) { list(ids, n); }
        } else if (i < argc) {
            const bitnet_role who = strcmp(role, "system") == 0 ? BITNET_SYSTEM : strcmp(role, "user") == 0 ? BITNET_USER : BITNET_ASSISTANT;
            const char *content = argv[i++];
            st = bitnet_chat_add(&chat, who, (const uint8_t *)content, (uint32_t)strlen(content));
        }
    }
    printf("status %d\n", (int)st);
    free(work);
    free(blob);
    free(file);
    return 0;
}
