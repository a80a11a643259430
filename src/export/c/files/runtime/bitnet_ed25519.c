/*
 * bitnet_ed25519.c - signatures of Ed25519: RFC 8032, with SHA-512 of FIPS 180-4.
 *
 * Numbers modulo p = 2^255 - 19 are eight words, lowest first, of any value below 2^256; only `reduce` makes them smaller than p.
 * Points are in extended coordinates X, Y, Z, T with x = X / Z, y = Y / Z, xy = T / Z, added with the complete formulas of the
 * RFC, section 5.1.4.  One loop over the bits of S and of the hash gives S B - h A, which must be R.
 */
#include "bitnet_ed25519.h"
#include "bitnet_math.h"
#include "bitnet_poison.h"

/* ---- SHA-512 ---------------------------------------------------------------------------- */

/* first 64 bits behind the point: cube roots of the first 80 primes */
static const uint64_t rounds[80] = {
    UINT64_C(0x428a2f98d728ae22), UINT64_C(0x7137449123ef65cd), UINT64_C(0xb5c0fbcfec4d3b2f), UINT64_C(0xe9b5dba58189dbbc),
    UINT64_C(0x3956c25bf348b538), UINT64_C(0x59f111f1b605d019), UINT64_C(0x923f82a4af194f9b), UINT64_C(0xab1c5ed5da6d8118),
    UINT64_C(0xd807aa98a3030242), UINT64_C(0x12835b0145706fbe), UINT64_C(0x243185be4ee4b28c), UINT64_C(0x550c7dc3d5ffb4e2),
    UINT64_C(0x72be5d74f27b896f), UINT64_C(0x80deb1fe3b1696b1), UINT64_C(0x9bdc06a725c71235), UINT64_C(0xc19bf174cf692694),
    UINT64_C(0xe49b69c19ef14ad2), UINT64_C(0xefbe4786384f25e3), UINT64_C(0x0fc19dc68b8cd5b5), UINT64_C(0x240ca1cc77ac9c65),
    UINT64_C(0x2de92c6f592b0275), UINT64_C(0x4a7484aa6ea6e483), UINT64_C(0x5cb0a9dcbd41fbd4), UINT64_C(0x76f988da831153b5),
    UINT64_C(0x983e5152ee66dfab), UINT64_C(0xa831c66d2db43210), UINT64_C(0xb00327c898fb213f), UINT64_C(0xbf597fc7beef0ee4),
    UINT64_C(0xc6e00bf33da88fc2), UINT64_C(0xd5a79147930aa725), UINT64_C(0x06ca6351e003826f), UINT64_C(0x142929670a0e6e70),
    UINT64_C(0x27b70a8546d22ffc), UINT64_C(0x2e1b21385c26c926), UINT64_C(0x4d2c6dfc5ac42aed), UINT64_C(0x53380d139d95b3df),
    UINT64_C(0x650a73548baf63de), UINT64_C(0x766a0abb3c77b2a8), UINT64_C(0x81c2c92e47edaee6), UINT64_C(0x92722c851482353b),
    UINT64_C(0xa2bfe8a14cf10364), UINT64_C(0xa81a664bbc423001), UINT64_C(0xc24b8b70d0f89791), UINT64_C(0xc76c51a30654be30),
    UINT64_C(0xd192e819d6ef5218), UINT64_C(0xd69906245565a910), UINT64_C(0xf40e35855771202a), UINT64_C(0x106aa07032bbd1b8),
    UINT64_C(0x19a4c116b8d2d0c8), UINT64_C(0x1e376c085141ab53), UINT64_C(0x2748774cdf8eeb99), UINT64_C(0x34b0bcb5e19b48a8),
    UINT64_C(0x391c0cb3c5c95a63), UINT64_C(0x4ed8aa4ae3418acb), UINT64_C(0x5b9cca4f7763e373), UINT64_C(0x682e6ff3d6b2b8a3),
    UINT64_C(0x748f82ee5defb2fc), UINT64_C(0x78a5636f43172f60), UINT64_C(0x84c87814a1f0ab72), UINT64_C(0x8cc702081a6439ec),
    UINT64_C(0x90befffa23631e28), UINT64_C(0xa4506cebde82bde9), UINT64_C(0xbef9a3f7b2c67915), UINT64_C(0xc67178f2e372532b),
    UINT64_C(0xca273eceea26619c), UINT64_C(0xd186b8c721c0c207), UINT64_C(0xeada7dd6cde0eb1e), UINT64_C(0xf57d4f7fee6ed178),
    UINT64_C(0x06f067aa72176fba), UINT64_C(0x0a637dc5a2c898a6), UINT64_C(0x113f9804bef90dae), UINT64_C(0x1b710b35131c471b),
    UINT64_C(0x28db77f523047d84), UINT64_C(0x32caab7b40c72493), UINT64_C(0x3c9ebe0a15c9bebc), UINT64_C(0x431d67c49c100d4c),
    UINT64_C(0x4cc5d4becb3e42b6), UINT64_C(0x597f299cfc657e2a), UINT64_C(0x5fcb6fab3ad6faec), UINT64_C(0x6c44198c4a475817)
};

/* square roots of the first 8 */
static const uint64_t start[8] = {
    UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b), UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
    UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f), UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179)
};

BN_INLINE uint64_t rotated(uint64_t v, uint32_t by) { return v >> by | v << (64u - by); }

/* What is hashed: R, key, message. */
typedef struct {
    const uint8_t *signature;
    const uint8_t *key;
    const uint8_t *message;
    uint32_t bytes;
} parts;

/* the byte at a place, with the padding behind the end but without the length */
static uint32_t part(const parts *p, uint32_t at)
{
    if (at < 32u) {
        return p->signature[at];
    }
    if (at < 64u) {
        return p->key[at - 32u];
    }
    at -= 64u;
    return at < p->bytes ? p->message[at] : (at == p->bytes ? 0x80u : 0u);
}

/* one block, in the 16 words of `w`, which are used up */
static void sha512_block(uint64_t *state, uint64_t *w)
{
    uint64_t v[8]; /* a to h: they move by one each round, so a is at -i */
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        v[i] = state[i];
    }
    for (i = 0u; i < 80u; i++) {
        const uint64_t a = v[(0u - i) & 7u];
        const uint64_t b = v[(1u - i) & 7u];
        const uint64_t c = v[(2u - i) & 7u];
        const uint64_t e = v[(4u - i) & 7u];
        const uint64_t f = v[(5u - i) & 7u];
        const uint64_t g = v[(6u - i) & 7u];
        uint64_t t = v[(7u - i) & 7u];
        if (i >= 16u) {
            const uint64_t x = w[(i + 1u) & 15u];
            const uint64_t y = w[(i + 14u) & 15u];
            w[i & 15u] += (rotated(x, 1u) ^ rotated(x, 8u) ^ x >> 7) + w[(i + 9u) & 15u] + (rotated(y, 19u) ^ rotated(y, 61u) ^ y >> 6);
        }
        t += (rotated(e, 14u) ^ rotated(e, 18u) ^ rotated(e, 41u)) + ((e & f) ^ (~e & g)) + rounds[i] + w[i & 15u];
        v[(3u - i) & 7u] += t;
        v[(7u - i) & 7u] = t + (rotated(a, 28u) ^ rotated(a, 34u) ^ rotated(a, 39u)) + ((a & b) ^ (a & c) ^ (b & c));
    }
    for (i = 0u; i < 8u; i++) {
        state[i] += v[i];
    }
}

static void sha512(const parts *p, uint64_t *state)
{
    uint64_t w[16];
    const uint32_t blocks = (p->bytes >> 7) + ((p->bytes & 127u) < 48u ? 1u : 2u); /* 64 bytes before, 17 behind the message */
    uint32_t at = 0u;
    uint32_t i;
    uint32_t k;
    for (i = 0u; i < 8u; i++) {
        state[i] = start[i];
    }
    for (i = 0u; i < blocks; i++) {
        for (k = 0u; k < 16u; k++) {
            uint32_t high = part(p, at) << 24 | part(p, at + 1u) << 16 | part(p, at + 2u) << 8 | part(p, at + 3u);
            uint32_t low = part(p, at + 4u) << 24 | part(p, at + 5u) << 16 | part(p, at + 6u) << 8 | part(p, at + 7u);
            w[k] = (uint64_t)high << 32 | low;
            at += 8u;
        }
        if (i + 1u == blocks) {
            w[15] = ((uint64_t)p->bytes + 64u) << 3;
        }
        sha512_block(state, w);
    }
}

/* ---- numbers modulo p ------------------------------------------------------------------- */

typedef uint32_t number[8];

static const number curve_d = { 0x135978a3u, 0x75eb4dcau, 0x4141d8abu, 0x00700a4du, 0x7779e898u, 0x8cc74079u, 0x2b6ffe73u, 0x52036ceeu };
static const number curve_2d = { 0x26b2f159u, 0xebd69b94u, 0x8283b156u, 0x00e0149au, 0xeef3d130u, 0x198e80f2u, 0x56dffce7u, 0x2406d9dcu };
static const number root_of_minus_1 = { 0x4a0ea0b0u, 0xc4ee1b27u, 0xad2fe478u, 0x2f431806u, 0x3dfbd7a7u, 0x2b4d0099u, 0x4fc1df0bu, 0x2b832480u };
/* order of the group */
static const number order = { 0x5cf5d3edu, 0x5812631au, 0xa2f79cd6u, 0x14def9deu, 0x00000000u, 0x00000000u, 0x00000000u, 0x10000000u };

BN_INLINE void copy(uint32_t *r, const uint32_t *a)
{
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        r[i] = a[i];
    }
}

static void set(uint32_t *r, uint32_t v)
{
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        r[i] = 0u;
    }
    r[0] = v;
}

/* r + 2^256 c, and 2^256 is 38: what overflows once more leaves so little that the third turn is the last */
static void fold(uint32_t *r, uint32_t c)
{
    uint32_t i;
    while (c != 0u) {
        c *= 38u;
        for (i = 0u; i < 8u; i++) {
            r[i] += c;
            c = (uint32_t)(r[i] < c);
        }
    }
}

static void add(uint32_t *r, const uint32_t *a, const uint32_t *b)
{
    uint64_t v = 0u;
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        v = (uint64_t)a[i] + b[i] + bn_hi(v);
        r[i] = bn_lo(v);
    }
    fold(r, bn_hi(v));
}

static void sub(uint32_t *r, const uint32_t *a, const uint32_t *b)
{
    uint64_t v = 0u;
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        v = (uint64_t)a[i] - b[i] - (bn_hi(v) & 1u);
        r[i] = bn_lo(v);
    }
    while ((bn_hi(v) & 1u) != 0u) { /* r is 2^256 too large: 38 too much, at most twice */
        v = (uint64_t)r[0] - 38u;
        r[0] = bn_lo(v);
        for (i = 1u; i < 8u; i++) {
            v = (uint64_t)r[i] - (bn_hi(v) & 1u);
            r[i] = bn_lo(v);
        }
    }
}

#if BITNET_MUL_HALVES

/* No instruction gives 64 bits of a product: by halves of words, where product, sum and carry just fit into 32 bits. */
static void mul(uint32_t *r, const uint32_t *a, const uint32_t *b)
{
    uint16_t y[16];
    uint16_t t[32];
    uint32_t c = 0u;
    uint32_t i;
    uint32_t k;
    for (i = 0u; i < 16u; i++) {
        y[i] = (uint16_t)(b[i >> 1] >> 16u * (i & 1u));
        t[i] = 0u;
    }
    for (i = 0u; i < 16u; i++) {
        const uint32_t x = a[i >> 1] >> 16u * (i & 1u) & 0xFFFFu;
        const uint16_t *from = y;
        uint16_t *to = t + i;
        c = 0u;
        for (k = 0u; k < 4u; k++) {
            c += x * from[0] + to[0];
            to[0] = (uint16_t)c;
            c = (c >> 16) + x * from[1] + to[1];
            to[1] = (uint16_t)c;
            c = (c >> 16) + x * from[2] + to[2];
            to[2] = (uint16_t)c;
            c = (c >> 16) + x * from[3] + to[3];
            to[3] = (uint16_t)c;
            c >>= 16;
            from += 4;
            to += 4;
        }
        to[0] = (uint16_t)c;
    }
    c = 0u;
    for (i = 0u; i < 8u; i++) {
        const uint32_t low = 38u * t[2u * i + 16u] + t[2u * i] + c;
        c = 38u * t[2u * i + 17u] + t[2u * i + 1u] + (low >> 16);
        r[i] = (low & 0xFFFFu) | c << 16;
        c >>= 16;
    }
    fold(r, c);
}

#else

static void mul(uint32_t *r, const uint32_t *a, const uint32_t *b)
{
    uint32_t t[16];
    uint64_t v = 0u;
    uint32_t i;
    uint32_t k;
    for (i = 0u; i < 8u; i++) {
        t[i] = 0u;
    }
    for (i = 0u; i < 8u; i++) {
        uint32_t c = 0u;
        for (k = 0u; k < 8u; k++) {
            v = bn_mulu(a[i], b[k]) + t[i + k] + c;
            t[i + k] = bn_lo(v);
            c = bn_hi(v);
        }
        t[i + 8u] = c;
    }
    v = 0u;
    for (i = 0u; i < 8u; i++) {
        v = bn_mulu(t[i + 8u], 38u) + t[i] + bn_hi(v);
        r[i] = bn_lo(v);
    }
    fold(r, bn_hi(v));
}

#endif

/* the least value of a */
static void reduce(uint32_t *r, const uint32_t *a)
{
    number t;
    uint32_t i;
    uint32_t c = (a[7] >> 31) * 19u;
    copy(r, a);
    r[7] &= 0x7FFFFFFFu;
    for (i = 0u; i < 8u; i++) {
        r[i] += c;
        c = (uint32_t)(r[i] < c);
    }
    /* below 2^255 + 19: p is in it if 19 more reach 2^255 */
    c = 19u;
    for (i = 0u; i < 8u; i++) {
        t[i] = r[i] + c;
        c = (uint32_t)(t[i] < c);
    }
    if (t[7] >> 31 != 0u) {
        copy(r, t);
        r[7] &= 0x7FFFFFFFu;
    }
}

static uint32_t is_zero(const uint32_t *a)
{
    number t;
    uint32_t bits = 0u;
    uint32_t i;
    reduce(t, a);
    for (i = 0u; i < 8u; i++) {
        bits |= t[i];
    }
    return (uint32_t)(bits == 0u);
}

/* a to the power 2^250 - 1, followed by the low `bits` of `tail`: ones only, doubled and increased as the digits of 250 say */
static void power(uint32_t *r, const uint32_t *a, uint32_t tail, uint32_t bits)
{
    number t;
    uint32_t ones = 1u;
    uint32_t digit;
    uint32_t i;
    copy(r, a);
    for (digit = 1u << 6; digit != 0u; digit >>= 1) {
        copy(t, r);
        for (i = 0u; i < ones; i++) {
            mul(r, r, r);
        }
        mul(r, r, t);
        ones *= 2u;
        if ((250u & digit) != 0u) {
            mul(r, r, r);
            mul(r, r, a);
            ones += 1u;
        }
    }
    while (bits > 0u) {
        bits -= 1u;
        mul(r, r, r);
        if ((tail >> bits & 1u) != 0u) {
            mul(r, r, a);
        }
    }
}

/* ---- points ----------------------------------------------------------------------------- */

typedef struct {
    number x;
    number y;
    number z;
    number t;
} point;

/* A point to be added: y - x, y + x, 2 z, 2 d t. */
typedef struct {
    number less;
    number more;
    number z2;
    number dt2;
} addend;

static const addend base = {
    { 0xd740913eu, 0x9d103905u, 0xd140beb3u, 0xfd399f05u, 0x688f8a09u, 0xa5c18434u, 0x98f81267u, 0x44fd2f92u },
    { 0xf58c3b85u, 0x2fbc93c6u, 0xfb8c0e19u, 0xcf932dc6u, 0x643d42c2u, 0x270b4898u, 0x33d4ba65u, 0x07cf9d3au },
    { 2u },
    { 0x877aaa68u, 0xabc91205u, 0xccaac49eu, 0x26d9e823u, 0xdd43598cu, 0x5a1b7dcbu, 0x9f0c65a8u, 0x6f117b68u }
};

static void prepare(addend *r, const point *a)
{
    sub(r->less, a->y, a->x);
    add(r->more, a->y, a->x);
    add(r->z2, a->z, a->z);
    mul(r->dt2, a->t, curve_2d);
}

/* the end of both formulas: E is in x, H in y, F in z, G in t */
static void finish(point *r)
{
    number f;
    copy(f, r->z);
    mul(r->z, r->t, f);    /* F G */
    mul(f, f, r->x);       /* E F */
    mul(r->t, r->t, r->y); /* G H */
    mul(r->y, r->x, r->y); /* E H, to be T */
    copy(r->x, f);
    copy(f, r->y);
    copy(r->y, r->t);
    copy(r->t, f);
}

static void plus(point *r, const addend *b)
{
    number a;
    sub(a, r->y, r->x);
    mul(a, a, b->less);       /* A */
    add(r->y, r->y, r->x);
    mul(r->y, r->y, b->more); /* B */
    mul(r->t, r->t, b->dt2);  /* C */
    mul(r->z, r->z, b->z2);   /* D */
    sub(r->x, r->y, a);       /* E */
    add(r->y, r->y, a);       /* H */
    copy(a, r->t);
    add(r->t, r->z, a);       /* G */
    sub(r->z, r->z, a);       /* F */
    finish(r);
}

static void twice(point *r)
{
    number e;
    add(e, r->x, r->y);
    mul(e, e, e);
    mul(r->x, r->x, r->x); /* A */
    mul(r->y, r->y, r->y); /* B */
    mul(r->z, r->z, r->z);
    add(r->z, r->z, r->z); /* C */
    sub(r->t, r->x, r->y); /* G */
    add(r->y, r->x, r->y); /* H */
    sub(r->x, r->y, e);    /* E */
    add(r->z, r->z, r->t); /* F */
    finish(r);
}

/* 1: eight times the point is the neutral one; of those that can come out only that has x = 0 */
static uint32_t is_small(const point *a)
{
    point t;
    uint32_t i;
    copy(t.x, a->x);
    copy(t.y, a->y);
    copy(t.z, a->z);
    for (i = 0u; i < 3u; i++) {
        twice(&t);
    }
    return is_zero(t.x);
}

static void load(uint32_t *r, const uint8_t *bytes)
{
    uint32_t i;
    for (i = 0u; i < 8u; i++) {
        r[i] = (uint32_t)bytes[4u * i] | (uint32_t)bytes[4u * i + 1u] << 8 | (uint32_t)bytes[4u * i + 2u] << 16 | (uint32_t)bytes[4u * i + 3u] << 24;
    }
}

/* 1: a < b */
static uint32_t below(const uint32_t *a, const uint32_t *b)
{
    uint32_t i = 8u;
    do {
        i -= 1u;
    } while (i > 0u && a[i] == b[i]);
    return (uint32_t)(a[i] < b[i]);
}

/* The negative of the point with this encoding; 0 if it is none or not the canonical one. */
static uint32_t decode_negative(point *r, const uint8_t *bytes)
{
    number u;
    number v;
    uint32_t sign;
    load(u, bytes);
    sign = u[7] >> 31;
    u[7] &= 0x7FFFFFFFu;
    reduce(r->y, u);
    if (below(r->y, u) != 0u) {
        return 0u;
    }
    set(r->z, 1u);
    mul(u, r->y, r->y);
    mul(v, u, curve_d);
    sub(u, u, r->z); /* y^2 - 1 */
    add(v, v, r->z); /* d y^2 + 1; x^2 = u / v */
    mul(r->t, v, v);
    mul(r->t, r->t, v);
    mul(r->t, r->t, u);    /* u v^3 */
    mul(r->x, r->t, v);
    mul(r->x, r->x, v);
    mul(r->x, r->x, v);
    mul(r->x, r->x, v);    /* u v^7 */
    copy(r->z, r->x);
    power(r->x, r->z, 1u, 2u); /* to the power (p - 5) / 8 = 4 (2^250 - 1) + 1 */
    set(r->z, 1u);
    mul(r->x, r->x, r->t); /* a root of u / v, or of - u / v, or there is none */
    mul(r->t, r->x, r->x);
    mul(v, r->t, v);
    sub(r->t, v, u);
    if (is_zero(r->t) == 0u) {
        add(r->t, v, u);
        if (is_zero(r->t) == 0u) {
            return 0u;
        }
        mul(r->x, r->x, root_of_minus_1);
    }
    if (is_zero(r->x) != 0u && sign != 0u) {
        return 0u;
    }
    reduce(u, r->x);
    if ((u[0] & 1u) == sign) {
        set(v, 0u);
        sub(r->x, v, r->x);
    }
    mul(r->t, r->x, r->y);
    return 1u;
}

/* 1: the point has this encoding */
static uint32_t is_encoding(const point *a, const uint8_t *bytes)
{
    number inverse;
    number v;
    number want;
    uint32_t sign;
    uint32_t bits = 0u;
    uint32_t i;
    power(inverse, a->z, 11u, 5u); /* p - 2 = 32 (2^250 - 1) + 11 */
    mul(v, a->x, inverse);
    reduce(want, v);
    sign = want[0] & 1u;
    mul(inverse, a->y, inverse);
    reduce(v, inverse);
    v[7] |= sign << 31;
    load(want, bytes);
    for (i = 0u; i < 8u; i++) {
        bits |= v[i] ^ want[i];
    }
    return (uint32_t)(bits == 0u);
}

/* ---- signatures ------------------------------------------------------------------------- */

/* the 512 bits of the hash, whose bytes are a little-endian number, modulo the order */
static void hash_scalar(const parts *p, uint32_t *r)
{
    uint64_t state[8];
    uint32_t i;
    uint32_t k;
    uint32_t n;
    sha512(p, state);
    set(r, 0u);
    for (i = 64u; i > 0u; i--) {
        const uint64_t word = state[(i - 1u) >> 3]; /* its first byte is the highest */
        const uint32_t half = ((i - 1u) & 4u) != 0u ? bn_lo(word) : bn_hi(word);
        const uint32_t byte = half >> (24u - 8u * ((i - 1u) & 3u)) & 255u;
        for (k = 8u; k > 0u; k--) {
            uint32_t c = byte >> (k - 1u) & 1u;
            for (n = 0u; n < 8u; n++) { /* r = 2 r + bit, below 2^254 */
                const uint32_t top = r[n] >> 31;
                r[n] = r[n] << 1 | c;
                c = top;
            }
            if (below(r, order) == 0u) {
                uint64_t v = 0u;
                for (n = 0u; n < 8u; n++) {
                    v = (uint64_t)r[n] - order[n] - (bn_hi(v) & 1u);
                    r[n] = bn_lo(v);
                }
            }
        }
    }
}

int bitnet_ed25519_verify(const uint8_t signature[64], const uint8_t key[32], const void *message, uint32_t bytes)
{
    parts p;
    number s;
    number h;
    point sum;
    addend a;
    addend both;
    uint32_t i;
    p.signature = signature;
    p.key = key;
    p.message = (const uint8_t *)message;
    p.bytes = bytes;
    load(s, signature + 32);
    if (below(s, order) == 0u || decode_negative(&sum, key) == 0u || is_small(&sum) != 0u) {
        return 0;
    }
    hash_scalar(&p, h);
    prepare(&a, &sum);
    plus(&sum, &base);
    prepare(&both, &sum);
    set(sum.x, 0u);
    set(sum.y, 1u);
    set(sum.z, 1u);
    set(sum.t, 0u);
    for (i = 253u; i > 0u; i--) { /* both are below 2^253 */
        const uint32_t at = (i - 1u) >> 5;
        const uint32_t in_s = s[at] >> ((i - 1u) & 31u) & 1u;
        const uint32_t in_h = h[at] >> ((i - 1u) & 31u) & 1u;
        twice(&sum);
        if ((in_s | in_h) != 0u) {
            plus(&sum, in_h == 0u ? &base : (in_s == 0u ? &a : &both));
        }
    }
    return (int)(is_encoding(&sum, signature) & (is_small(&sum) ^ 1u));
}
