/* bitnet_sha256.h - SHA-256 (FIPS 180-4) of bytes that come in parts. */
#ifndef BITNET_SHA256_H
#define BITNET_SHA256_H

#include <stdint.h>

/* Takes `count` blocks of 64 bytes into the eight words of `state`; a chip with an accelerator brings its own. */
typedef void (*bitnet_sha256_fn)(uint32_t state[8], const uint8_t *blocks, uint32_t count);

typedef struct {
    uint32_t state[8];
    uint32_t bytes_lo;
    uint32_t bytes_hi;
    bitnet_sha256_fn blocks;
    uint8_t rest[64];
} bitnet_sha256_t;

void bitnet_sha256_blocks(uint32_t state[8], const uint8_t *blocks, uint32_t count);

/* blocks: NULL for bitnet_sha256_blocks */
void bitnet_sha256_start(bitnet_sha256_t *sha, bitnet_sha256_fn blocks);
void bitnet_sha256_add(bitnet_sha256_t *sha, const void *data, uint32_t bytes);
void bitnet_sha256_end(bitnet_sha256_t *sha, uint8_t digest[32]);

#endif
