/* bitnet_sha256.c - SHA-256 (FIPS 180-4). */
#include "bitnet_sha256.h"
#include "bitnet_poison.h"

static const uint32_t start_words[8] = { 0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                         0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u };

static const uint32_t round_words[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u
};

static uint32_t turn(uint32_t v, uint32_t n) { return v >> n | v << (32u - n); }

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

void bitnet_sha256_blocks(uint32_t state[8], const uint8_t *blocks, uint32_t count)
{
    uint32_t w[16]; /* the last 16 words of the schedule */
    uint32_t v[8];
    uint32_t i;
    for (; count > 0u; count--, blocks += 64) {
        for (i = 0u; i < 8u; i++) {
            v[i] = state[i];
        }
        for (i = 0u; i < 64u; i++) {
            uint32_t sum;
            uint32_t x;
            if (i < 16u) {
                w[i] = word_at(blocks + (i << 2));
            } else {
                const uint32_t a = w[(i + 1u) & 15u];
                const uint32_t b = w[(i + 14u) & 15u];
                w[i & 15u] += (turn(a, 7u) ^ turn(a, 18u) ^ a >> 3) + w[(i + 9u) & 15u] + (turn(b, 17u) ^ turn(b, 19u) ^ b >> 10);
            }
            sum = v[7] + (turn(v[4], 6u) ^ turn(v[4], 11u) ^ turn(v[4], 25u)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
                  round_words[i] + w[i & 15u];
            x = (turn(v[0], 2u) ^ turn(v[0], 13u) ^ turn(v[0], 22u)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            v[7] = v[6];
            v[6] = v[5];
            v[5] = v[4];
            v[4] = v[3] + sum;
            v[3] = v[2];
            v[2] = v[1];
            v[1] = v[0];
            v[0] = sum + x;
        }
        for (i = 0u; i < 8u; i++) {
            state[i] += v[i];
        }
    }
}

void bitnet_sha256_start(bitnet_sha256_t *sha, bitnet_sha256_fn blocks)
{
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        sha->state[i] = start_words[i];
    }
    sha->bytes_lo = 0u;
    sha->bytes_hi = 0u;
    sha->blocks = blocks != (bitnet_sha256_fn)0 ? blocks : bitnet_sha256_blocks;
}

void bitnet_sha256_add(bitnet_sha256_t *sha, const void *data, uint32_t bytes)
{
    const uint8_t *p = (const uint8_t *)data;
    uint32_t held = sha->bytes_lo & 63u;
    sha->bytes_lo += bytes;
    sha->bytes_hi += (uint32_t)(sha->bytes_lo < bytes);
    while (bytes > 0u) {
        if (held == 0u && bytes >= 64u) {
            const uint32_t count = bytes >> 6;
            sha->blocks(sha->state, p, count);
            p += (uint32_t)(count << 6);
            bytes &= 63u;
        } else {
            sha->rest[held] = *p;
            p++;
            bytes--;
            held = (held + 1u) & 63u;
            if (held == 0u) {
                sha->blocks(sha->state, sha->rest, 1u);
            }
        }
    }
}

void bitnet_sha256_end(bitnet_sha256_t *sha, uint8_t digest[32])
{
    const uint32_t lo = sha->bytes_lo << 3;
    const uint32_t hi = sha->bytes_hi << 3 | sha->bytes_lo >> 29;
    uint32_t held = sha->bytes_lo & 63u;
    uint32_t i;
    sha->rest[held] = 0x80u;
    held++;
    if (held > 56u) {
        for (; held < 64u; held++) {
            sha->rest[held] = 0u;
        }
        sha->blocks(sha->state, sha->rest, 1u);
        held = 0u;
    }
    for (; held < 56u; held++) {
        sha->rest[held] = 0u;
    }
    for (i = 0u; i < 4u; i++) {
        sha->rest[56u + i] = (uint8_t)(hi >> (24u - 8u * i));
        sha->rest[60u + i] = (uint8_t)(lo >> (24u - 8u * i));
    }
    sha->blocks(sha->state, sha->rest, 1u);
    for (i = 0u; i < 32u; i++) {
        digest[i] = (uint8_t)(sha->state[i >> 2] >> (24u - 8u * (i & 3u)));
    }
}
