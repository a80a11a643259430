/* A normalizer of a tokenizer on texts: section file as an argument; texts on stdin, each a 32-bit
 * little-endian length, a byte of flags (1 the text starts here, 2 it ends here) and the bytes;
 * the normalized bytes come out in the same form, without flags. Each character is also asked for
 * from a copy of the cursor, and cursors that were met before are tried again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitnet_tok.h"

static void put(uint32_t value, uint8_t *to)
{
    to[0] = (uint8_t)value, to[1] = (uint8_t)(value >> 8), to[2] = (uint8_t)(value >> 16), to[3] = (uint8_t)(value >> 24);
}

static uint8_t *load(const char *path, uint32_t *bytes)
{
    FILE *f = fopen(path, "rb");
    long n;
    uint8_t *p;
    if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (n = ftell(f)) < 0) {
        exit(3);
    }
    rewind(f);
    p = malloc((size_t)n + 1u);
    if (p == NULL || fread(p, 1, (size_t)n, f) != (size_t)n) {
        exit(3);
    }
    fclose(f);
    *bytes = (uint32_t)n;
    return p;
}

int main(int argc, char **argv)
{
    bitnet_tokenizer t;
    uint32_t words;
    uint8_t head[5];
    uint8_t *out = NULL;
    if (argc != 2) {
        return 3;
    }
    memset(&t, 0, sizeof t);
    t.section[TOK_S_NORMAL] = load(argv[1], &t.section_bytes[TOK_S_NORMAL]);
    if (tok_normal_open(&t, &words) != BITNET_OK) {
        return 1;
    }
    while (fread(head, 1, 5, stdin) == 5u) {
        const uint32_t n = tok_le(head, 4);
        uint8_t *text = malloc((size_t)n + 1u);
        tok_stream s;
        tok_cursor c, kept;
        uint32_t bytes = 0, count = 0, code, again = TOK_END;
        if (text == NULL || fread(text, 1, n, stdin) != n) {
            return 3;
        }
        out = realloc(out, (size_t)n * 40u + 64u);
        memset(&s, 0, sizeof s);
        memset(&c, 0, sizeof c);
        s.text = text;
        s.n = n;
        s.first = head[4] & 1u;
        s.last = (uint32_t)head[4] >> 1;
        s.stop.at = TOK_END;
        tok_normal_start(&t, &s);
        kept = c;
        for (;;) {
            tok_cursor copy = c;
            code = tok_normal_next(&t, &s, &c);
            if (tok_normal_next(&t, &s, &copy) != code || memcmp(&copy, &c, sizeof c) != 0) {
                return 2;
            }
            if (code == TOK_END) {
                break;
            }
            if ((count & 7u) == 0u) {
                kept = copy;
                again = TOK_END;
            } else if ((count & 7u) == 1u) {
                again = code;
            } else if ((count & 7u) == 5u) {
                copy = kept;
                if (tok_normal_next(&t, &s, &copy) != again) {
                    return 2;
                }
            }
            count++;
            bytes += tok_spell(code, out + bytes);
        }
        put(bytes, head);
        fwrite(head, 1, 4, stdout);
        fwrite(out, 1, bytes, stdout);
        free(text);
    }
    free(out);
    free((void *)(uintptr_t)t.section[TOK_S_NORMAL]);
    return 0;
}
