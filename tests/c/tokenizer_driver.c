/* Test driver of the device tokenizer: requests on stdin, answers on stdout, all numbers u32
 * little-endian. Every buffer is allocated to the byte, so the sanitizers see one too far; the
 * blob is put at an odd address.
 *
 *   'B' n bytes        open a blob                    -> status
 *   'T' cap n bytes    ids of a text                  -> status count ids...
 *   'D' cap id         bytes of a token               -> status count bytes...
 *   'A' after          ids of the template            -> status count ids...
 *   'S' id             is it special                  -> 0 or 1
 *   'U'                a call before any open         -> status
 */
#include <stdio.h>
#include <stdlib.h>

#include "bitnet_tokenizer.h"

static uint32_t get(void)
{
    uint8_t b[4];
    if (fread(b, 1, 4, stdin) != 4) {
        exit(3);
    }
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void put(uint32_t v)
{
    const uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    fwrite(b, 1, 4, stdout);
}

/* `n` bytes of input in a buffer of `n + lead`, at offset `lead`. */
static uint8_t *get_bytes(uint32_t n, uint32_t lead)
{
    uint8_t *p = malloc((size_t)n + lead);
    if (n + lead > 0 && (p == NULL || fread(p + lead, 1, n, stdin) != n)) {
        exit(3);
    }
    return p;
}

static void put_ids(uint32_t status, uint32_t n, const uint32_t *ids)
{
    uint32_t k;
    put(status);
    put(n);
    for (k = 0; k < n; k++) {
        put(ids[k]);
    }
}

int main(void)
{
    bitnet_tokenizer t = {0};
    uint8_t *blob = NULL;
    int c;
    while ((c = getchar()) != EOF) {
        uint32_t count = 0;
        if (c == 'B') {
            const uint32_t n = get();
            free(blob);
            blob = get_bytes(n, 1);
            put((uint32_t)bitnet_tok_open(&t, blob + 1, n));
        } else if (c == 'T') {
            const uint32_t cap = get();
            const uint32_t n = get();
            uint8_t *text = get_bytes(n, 0);
            uint32_t *ids = malloc((size_t)cap * 4);
            const bitnet_status status = tokenize_c(&t, text, n, ids, cap, &count);
            put_ids((uint32_t)status, count, ids);
            free(ids);
            free(text);
        } else if (c == 'D') {
            const uint32_t cap = get();
            uint8_t *out = malloc(cap);
            const bitnet_status status = vocab_decode(&t, get(), out, cap, &count);
            put((uint32_t)status);
            put(count);
            fwrite(out, 1, count, stdout);
            free(out);
        } else if (c == 'A') {
            uint32_t ids[256];
            const bitnet_status status = bitnet_tok_template(&t, get(), ids, 256, &count);
            put_ids((uint32_t)status, count, ids);
        } else if (c == 'S') {
            put(bitnet_tok_is_special(&t, get()));
        } else if (c == 'U') {
            bitnet_tokenizer closed = {0};
            const uint8_t text[1] = {0x61};
            uint32_t ids[1];
            put((uint32_t)tokenize_c(&closed, text, 1, ids, 1, &count));
        } else {
            return 2;
        }
    }
    free(blob);
    return 0;
}
