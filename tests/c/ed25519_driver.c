/*
 * ed25519_driver.c - checks signatures for tests/delta_device/ed25519.rs: a file of records, 64 bytes of signature, 32 of key, length of
 * the message (two bytes, highest first), message; ends with a length of 0xFFFF.  Prints a digit for each, 1 if the signature is good.
 * On a core without an operating system (-DRECORDS, with kernels_port.c) the records are linked in.
 */
#include <stdint.h>
#include "bitnet_ed25519.h"

/* the answer to the record at p, and where the next one is; 2: there is none */
static int next(const uint8_t **p)
{
    const uint8_t *r = *p;
    uint32_t bytes = (uint32_t)r[96] << 8 | r[97];
    if (bytes == 0xFFFFu) {
        return 2;
    }
    *p = r + 98 + bytes;
    return bitnet_ed25519_verify(r, r + 64, r + 98, bytes);
}

#if defined(RECORDS)

extern const uint8_t records[];
int kernels_main(uint32_t seed, uint32_t count);
void kernels_write(const char *text);

int kernels_main(uint32_t seed, uint32_t count)
{
    const uint8_t *p = records;
    int good;
    (void)seed;
    (void)count;
    while ((good = next(&p)) != 2) {
        kernels_write(good == 1 ? "1" : "0");
    }
    return 0;
}

#else

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static uint8_t all[1u << 22];
    const uint8_t *p = all;
    uint8_t *copy;
    size_t size;
    int good;
    FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL || fread(all, 1, sizeof all, f) < 98) {
        return 2;
    }
    (void)fclose(f);
    for (;;) {
        /* a block of exactly this size: a sanitizer sees a read behind the message */
        size = 98u + ((size_t)p[96] << 8 | p[97]);
        if (p[96] == 0xFFu && p[97] == 0xFFu) {
            return 0;
        }
        copy = malloc(size);
        if (copy == NULL) {
            return 3;
        }
        {
            const uint8_t *at = memcpy(copy, p, size);
            good = next(&at);
        }
        free(copy);
        (void)putchar('0' + good);
        p += size;
    }
}

#endif
