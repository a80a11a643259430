/* Test driver of the device tokenizer: requests on stdin, answers on stdout, all numbers u32
 * little-endian. Every buffer is allocated to the byte, so the sanitizers see one too far; the
 * blob is put at an odd address. One process takes any number of requests, and each answer is
 * flushed, so a caller may ask one at a time or write all first.
 *
 *   'B' n bytes        open a blob with the scratch it asks for  -> status
 *   'O' words          open it again with that many words of scratch, none if 0xffffffff -> status
 *   'W'                words of scratch, bytes of the longest token, growth -> three numbers
 *   'T' cap n bytes    ids of a text                  -> status count ids...
 *   'G' n bytes        ids of a text, with the room that growth promises -> status count ids...
 *   'D' cap id         bytes of a token               -> status count bytes...
 *   'N' cap id         one more token of a text       -> status count bytes...
 *   'E' cap            the end of that text           -> status count bytes...
 *   'X' n ids          a whole text, token by token, special ones left out -> status count bytes...
 *   'Y' n ids          the same with the special ones -> status count bytes...
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

static void put_ids(bitnet_status status, uint32_t n, const uint32_t *ids)
{
    uint32_t k;
    put((uint32_t)status);
    put(n);
    for (k = 0; k < n; k++) {
        put(ids[k]);
    }
}

static void put_bytes(bitnet_status status, uint32_t n, const uint8_t *bytes)
{
    put((uint32_t)status);
    put(n);
    fwrite(bytes, 1, n, stdout);
}

/* Opens `blob` with `words` of scratch; a blob that lies about them gets none. */
static bitnet_status open_with(bitnet_tokenizer *t, const uint8_t *blob, uint32_t n, uint32_t words, uint32_t **work)
{
    free(*work);
    *work = words > 0x1000000u ? NULL : malloc((size_t)words * 4);
    return bitnet_tok_open(t, blob, n, *work, words);
}

static void encode(const bitnet_tokenizer *t, uint32_t cap, uint32_t n)
{
    uint32_t count = 0;
    uint8_t *text = get_bytes(n, 0);
    uint32_t *ids = malloc((size_t)cap * 4);
    const bitnet_status status = tokenize_c(t, text, n, ids, cap, &count);
    put_ids(status, count, ids);
    free(ids);
    free(text);
}

static void decode(const bitnet_tokenizer *t, uint32_t n, int special)
{
    const uint32_t room = BITNET_TOK_ROOM(t->max_token_bytes);
    uint8_t *text = malloc((size_t)room * (n + 1));
    uint32_t at = 0;
    uint32_t count;
    bitnet_tok_decoder state;
    bitnet_status status = BITNET_OK;
    bitnet_tok_decode_start(&state);
    for (; n > 0; n--) {
        const uint32_t id = get();
        if (status == BITNET_OK && (special != 0 || bitnet_tok_is_special(t, id) == 0)) {
            uint8_t *piece = malloc(room); /* to the byte */
            uint32_t k;
            status = bitnet_tok_decode(t, &state, id, piece, room, &count);
            for (k = 0; k < count; k++) {
                text[at + k] = piece[k];
            }
            at += count;
            free(piece);
        }
    }
    if (status == BITNET_OK) {
        status = bitnet_tok_decode_end(&state, text + at, 9, &count);
        at += count;
    }
    put_bytes(status, at, text);
    free(text);
}

int main(void)
{
    bitnet_tokenizer t = {0};
    bitnet_tok_decoder state = {{0}, 0, 0, 0, 0};
    uint8_t *blob = NULL;
    uint32_t *work = NULL;
    uint32_t bytes = 0;
    int c;
    while ((c = getchar()) != EOF) {
        uint32_t count = 0;
        if (c == 'B') {
            bytes = get();
            free(blob);
            blob = get_bytes(bytes, 1);
            put((uint32_t)open_with(&t, blob + 1, bytes, bitnet_tok_work(blob + 1, bytes), &work));
        } else if (c == 'O') {
            put((uint32_t)open_with(&t, blob + 1, bytes, get(), &work));
        } else if (c == 'W') {
            put(t.work_words);
            put(t.max_token_bytes);
            put(t.growth);
        } else if (c == 'T') {
            const uint32_t cap = get();
            encode(&t, cap, get());
        } else if (c == 'G') {
            const uint32_t n = get();
            encode(&t, (uint32_t)(((uint64_t)n * t.growth + 15u) / 16u) + 16u, n);
        } else if (c == 'D' || c == 'N' || c == 'E') {
            const uint32_t cap = get();
            uint8_t *bytes_out = malloc(cap);
            bitnet_status status;
            if (c == 'D') {
                status = vocab_decode(&t, get(), bytes_out, cap, &count);
            } else if (c == 'N') {
                status = bitnet_tok_decode(&t, &state, get(), bytes_out, cap, &count);
            } else {
                status = bitnet_tok_decode_end(&state, bytes_out, cap, &count);
            }
            put_bytes(status, count, bytes_out);
            free(bytes_out);
        } else if (c == 'X' || c == 'Y') {
            decode(&t, get(), c == 'Y');
        } else if (c == 'A') {
            uint32_t ids[256];
            const bitnet_status status = bitnet_tok_template(&t, get(), ids, 256, &count);
            put_ids(status, count, ids);
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
        fflush(stdout);
    }
    free(work);
    free(blob);
    return 0;
}
