/*
 * bitnet_texts.c - instead of bitnet_main.c: the tokenizer alone, on many texts (make emulator MAIN=bitnet_texts).
 *
 * Where the model would be lies, all numbers u32 and little-endian:
 *   0 "BNTX"   4 bytes of the tokenizer   8 words of its scratch   12 most ids of a text
 *   16 bytes of the longest token   20 number of texts   24 and 28 zero
 *   32 the tokenizer, then each text: its length and its bytes
 *
 * Printed for each text: "I status id,id,..." with the ids of the template, and "D " with the hexadecimal
 * digits of what these ids decode to, one after the other, special tokens left out.  "OK" at the end.
 */
#include "bitnet.h"
#include "port.h"

int bitnet_main(void);

static uint32_t le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* a line is written in pieces of this many characters: a call of an emulator is dear */
#define LINE 256u

static char line[LINE + 1u];
static uint32_t used;

static void flush(void)
{
    line[used] = '\0';
    port_write(line);
    used = 0u;
}

static void put(char ch)
{
    if (used == LINE) {
        flush();
    }
    line[used] = ch;
    used += 1u;
}

static void put_u32(uint32_t v)
{
    static const uint32_t powers[10] = { 1000000000u, 100000000u, 10000000u, 1000000u, 100000u,
                                         10000u, 1000u, 100u, 10u, 1u };
    uint32_t started = 0u;
    uint32_t i;
    for (i = 0u; i < 10u; i++) {
        char digit = '0';
        while (v >= powers[i]) {
            v -= powers[i];
            digit = (char)(digit + 1);
        }
        if (started != 0u || digit != '0' || i == 9u) {
            put(digit);
            started = 1u;
        }
    }
}

static void put_hex(const uint8_t *bytes, uint32_t n)
{
    uint32_t i;
    for (i = 0u; i < n; i++) {
        put("0123456789abcdef"[bytes[i] >> 4]);
        put("0123456789abcdef"[bytes[i] & 15u]);
    }
}

/* with what the template puts around it */
static bitnet_status encode(const bitnet_tokenizer *t, const uint8_t *text, uint32_t n, uint32_t *ids, uint32_t cap,
                            uint32_t *count)
{
    uint32_t more = 0u;
    bitnet_status st = bitnet_tok_template(t, 0u, ids, cap, count);
    if (st == BITNET_OK) {
        st = tokenize_c(t, text, n, ids + *count, cap - *count, &more);
        *count += more;
    }
    if (st == BITNET_OK) {
        st = bitnet_tok_template(t, 1u, ids + *count, cap - *count, &more);
        *count += more;
    }
    return st;
}

static void decode(const bitnet_tokenizer *t, const uint32_t *ids, uint32_t count, uint8_t *out, uint32_t room)
{
    bitnet_tok_decoder state;
    uint32_t n = 0u;
    uint32_t i;
    bitnet_tok_decode_start(&state);
    for (i = 0u; i < count; i++) {
        if (bitnet_tok_is_special(t, ids[i]) == 0u) {
            if (bitnet_tok_decode(t, &state, ids[i], out, room, &n) != BITNET_OK) {
                put('?');
                continue;
            }
            put_hex(out, n);
        }
    }
    if (bitnet_tok_decode_end(&state, out, room, &n) == BITNET_OK) {
        put_hex(out, n);
    }
}

int bitnet_main(void)
{
    bitnet_tokenizer t;
    bitnet_status st;
    uint32_t bytes = 0u;
    const uint8_t *file = (const uint8_t *)port_model(&bytes);
    const uint8_t *at = file + 32;
    uint32_t blob = le(file + 4);
    uint32_t work = le(file + 8);
    uint32_t cap = le(file + 12);
    uint32_t room = BITNET_TOK_ROOM(le(file + 16));
    uint32_t texts = le(file + 20);
    uint32_t i;
    uint32_t *memory = (uint32_t *)(void *)port_results(work + cap + (room + 3u) / 4u);
    if (memory == (uint32_t *)0) {
        port_write("not enough memory\n");
        return 2;
    }
    st = bitnet_tok_open(&t, at, blob, memory, work);
    at += blob;
    for (i = 0u; i < texts && st == BITNET_OK; i++) {
        uint32_t n = le(at);
        uint32_t count = 0u;
        uint32_t k;
        bitnet_status one = encode(&t, at + 4, n, memory + work, cap, &count);
        put('I');
        put(' ');
        put_u32((uint32_t)one);
        if (one != BITNET_OK) {
            count = 0u;
        }
        for (k = 0u; k < count; k++) {
            put(k == 0u ? ' ' : ',');
            put_u32(memory[work + k]);
        }
        put('\n');
        put('D');
        put(' ');
        decode(&t, memory + work, count, (uint8_t *)(void *)(memory + work + cap), room);
        put('\n');
        at += 4u + n;
    }
    if (st != BITNET_OK) {
        port_write("open: ");
        port_write(bitnet_status_text(st));
        port_write("\n");
        return 10 + (int)st;
    }
    put('O');
    put('K');
    put('\n');
    flush();
    return 0;
}
