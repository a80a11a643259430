/* bitnet_math.c - see bitnet_math.h and docs/semantics.md. */
#include "bitnet_math.h"
#include "bitnet_poison.h"

#if BITNET_MUL_HALVES

/* a * b - (over << 32) */
BN_INLINE uint64_t product(uint32_t a, uint32_t b, uint32_t over)
{
    uint32_t a0 = a & 0xFFFFu;
    uint32_t a1 = a >> 16;
    uint32_t b0 = b & 0xFFFFu;
    uint32_t b1 = b >> 16;
    uint32_t low = a0 * b0;
    uint32_t mid = a1 * b0 + (low >> 16); /* below 2^32 */
    uint32_t next = a0 * b1 + (mid & 0xFFFFu);
    uint32_t high = a1 * b1 + (mid >> 16) + (next >> 16);
    return (uint64_t)(high - over) << 32 | (next << 16 | (low & 0xFFFFu));
}

uint64_t bn_mulu(uint32_t a, uint32_t b) { return product(a, b, 0u); }

/* a negative factor is 2^32 too large without its sign */
int64_t bn_mul(int32_t a, int32_t b)
{
    uint32_t over = (a < 0 ? (uint32_t)b : 0u) + (b < 0 ? (uint32_t)a : 0u);
    return (int64_t)product((uint32_t)a, (uint32_t)b, over);
}

int64_t bn_mulsu(int32_t a, uint32_t b) { return (int64_t)product((uint32_t)a, b, a < 0 ? b : 0u); }

#endif

int32_t bn_shift(int64_t v, int32_t s)
{
    if (s >= 0) {
        return bn_sat(bn_rsr64(v, (uint32_t)s));
    }
    if (v == 0) {
        return 0;
    }
    if (s <= -31 || v > BN_LIMIT || v < -BN_LIMIT) {
        return v < 0 ? -BN_LIMIT : BN_LIMIT;
    }
    return bn_sat(bn_mul((int32_t)v, (int32_t)(1u << (uint32_t)-s)));
}

/* floor(2^61 / m): three Newton steps from a linear start (error below 1/17,
 * then 2^-8, 2^-16, 2^-32), then the exact remainder decides. */
uint32_t bn_recip(uint32_t m)
{
    uint32_t x = 3031741620u - bn_hi(bn_mulu(m, 4042322160u)); /* 48/17 - 32/17 d, 30 fraction bits */
    uint32_t i;
    for (i = 0u; i < 3u; i++) {
        uint32_t y = (uint32_t)(bn_mulu(m, x) >> 31);
        x = (uint32_t)(bn_mulu(x, 0x80000000u - y) >> 30);
    }
    {
        int64_t rest = (int64_t)(((uint64_t)1 << 61) - bn_mulu(x, m));
        for (i = 0u; i < 8u && rest < 0; i++) {
            x -= 1u;
            rest += (int64_t)(uint64_t)m;
        }
        for (i = 0u; i < 8u && rest >= (int64_t)(uint64_t)m; i++) {
            x += 1u;
            rest -= (int64_t)(uint64_t)m;
        }
    }
    return x;
}

uint32_t bn_isqrt(uint64_t v)
{
    uint64_t root = 0u;
    uint64_t bit = (uint64_t)1 << 62;
    uint32_t i;
    for (i = 0u; i < 32u; i++) {
        if (v >= root + bit) {
            v -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
        bit >>= 2;
    }
    return (uint32_t)root;
}

bitnet_scale bn_norm(uint64_t v, int32_t e)
{
    uint32_t n = bn_bitlen64(v);
    uint32_t m;
    e += (int32_t)n - 31;
    if (n <= 31u) {
        m = (uint32_t)v << (31u - n);
    } else {
        m = (uint32_t)((v >> (n - 31u)) + ((v >> (n - 32u)) & 1u));
    }
    if (m == 0x80000000u) {
        m = 0x40000000u;
        e += 1;
    }
    return bn_scale(m, e);
}

bitnet_scale bn_inv(bitnet_scale a)
{
    return bn_norm(bn_recip(a.m), -61 - a.e);
}

bitnet_scale bn_add_scale(bitnet_scale a, bitnet_scale b)
{
    uint32_t big_m = a.m;
    uint32_t small_m = b.m;
    int32_t e = a.e;
    int32_t d = a.e - b.e;
    if (d < 0) {
        big_m = b.m;
        small_m = a.m;
        e = b.e;
        d = -d;
    }
    return bn_norm((uint64_t)big_m + (uint32_t)bn_rsr((int32_t)small_m, (uint32_t)d), e);
}

bitnet_scale bn_sqrt(bitnet_scale a)
{
    uint32_t odd = (uint32_t)a.e & 1u;
    int32_t half = (a.e - 30 - (int32_t)odd) >> 1; /* exact: the difference is even */
    return bn_norm(bn_isqrt((uint64_t)a.m << (30u + odd)), half);
}

uint32_t bn_less(bitnet_scale a, bitnet_scale b)
{
    return (uint32_t)(a.e < b.e || (a.e == b.e && a.m < b.m));
}

bn_divisor bn_divisor_of(uint32_t a, uint32_t q)
{
    bn_divisor d;
    d.a = a;
    d.q = q;
    d.up = 31u - bn_bitlen(a);
    d.recip = bn_recip(a << d.up);
    return d;
}

/* q * x / a is close to q0 + 1/2: compare exactly, halves to even. */
uint32_t bn_divide_close(const bn_divisor *d, uint32_t x, uint32_t q0)
{
    uint64_t left = bn_mulu(x, 2u * d->q);
    uint64_t right = bn_mulu(d->a, 2u * q0 + 1u);
    if (left > right || (left == right && (q0 & 1u) != 0u)) {
        q0 += 1u;
    }
    return q0;
}

/* q * x / a is close to q0 + 1/2: up beyond 2^-17 above it, down beyond 2^-17 below it, else to the even one. */
uint32_t bn_code_close(const bn_divisor *d, uint32_t x, uint32_t q0)
{
    uint64_t left = bn_mulu(x, d->q << 17);
    uint32_t half = (q0 << 17) + 0x10000u;
    if (left > bn_mulu(d->a, half + 1u)) {
        return q0 + 1u;
    }
    if (left < bn_mulu(d->a, half - 1u)) {
        return q0;
    }
    return q0 + (q0 & 1u);
}

uint32_t bn_exp2n(const uint32_t *table, uint32_t d)
{
    uint32_t n = d >> 20;
    uint32_t i = (d >> 11) & 511u;
    uint32_t e = table[i] - (((table[i] - table[i + 1u]) * (d & 2047u) + 1024u) >> 11);
    if (n >= 31u) {
        return 0u;
    }
    if (e > 0x40000000u) { /* not with the right table; keeps every sum in range with any */
        e = 0x40000000u;
    }
    return (uint32_t)bn_rsr((int32_t)e, n);
}

int32_t bn_sin(const int32_t *table, uint32_t phase)
{
    uint32_t k = phase >> 30;
    uint32_t u = phase & 0x3FFFFFFFu;
    uint32_t i;
    uint32_t r;
    int32_t v;
    if ((k & 1u) != 0u) {
        u = 0x40000000u - u;
    }
    i = u >> 20;
    r = u & 0xFFFFFu;
    v = table[i];
    if (r != 0u) {
        uint32_t step = (uint32_t)table[i + 1u] - (uint32_t)v;
        v = (int32_t)((uint32_t)v + (uint32_t)bn_rsr64(bn_mulsu((int32_t)step, r), 20u));
    }
    if (v > 0x40000000 || v < -0x40000000) { /* as in bn_exp2n */
        v = 0x40000000;
    }
    return k < 2u ? v : -v;
}

static const uint32_t crc_table[256] = {
    0x00000000u, 0x77073096u, 0xEE0E612Cu, 0x990951BAu, 0x076DC419u, 0x706AF48Fu, 0xE963A535u, 0x9E6495A3u,
    0x0EDB8832u, 0x79DCB8A4u, 0xE0D5E91Eu, 0x97D2D988u, 0x09B64C2Bu, 0x7EB17CBDu, 0xE7B82D07u, 0x90BF1D91u,
    0x1DB71064u, 0x6AB020F2u, 0xF3B97148u, 0x84BE41DEu, 0x1ADAD47Du, 0x6DDDE4EBu, 0xF4D4B551u, 0x83D385C7u,
    0x136C9856u, 0x646BA8C0u, 0xFD62F97Au, 0x8A65C9ECu, 0x14015C4Fu, 0x63066CD9u, 0xFA0F3D63u, 0x8D080DF5u,
    0x3B6E20C8u, 0x4C69105Eu, 0xD56041E4u, 0xA2677172u, 0x3C03E4D1u, 0x4B04D447u, 0xD20D85FDu, 0xA50AB56Bu,
    0x35B5A8FAu, 0x42B2986Cu, 0xDBBBC9D6u, 0xACBCF940u, 0x32D86CE3u, 0x45DF5C75u, 0xDCD60DCFu, 0xABD13D59u,
    0x26D930ACu, 0x51DE003Au, 0xC8D75180u, 0xBFD06116u, 0x21B4F4B5u, 0x56B3C423u, 0xCFBA9599u, 0xB8BDA50Fu,
    0x2802B89Eu, 0x5F058808u, 0xC60CD9B2u, 0xB10BE924u, 0x2F6F7C87u, 0x58684C11u, 0xC1611DABu, 0xB6662D3Du,
    0x76DC4190u, 0x01DB7106u, 0x98D220BCu, 0xEFD5102Au, 0x71B18589u, 0x06B6B51Fu, 0x9FBFE4A5u, 0xE8B8D433u,
    0x7807C9A2u, 0x0F00F934u, 0x9609A88Eu, 0xE10E9818u, 0x7F6A0DBBu, 0x086D3D2Du, 0x91646C97u, 0xE6635C01u,
    0x6B6B51F4u, 0x1C6C6162u, 0x856530D8u, 0xF262004Eu, 0x6C0695EDu, 0x1B01A57Bu, 0x8208F4C1u, 0xF50FC457u,
    0x65B0D9C6u, 0x12B7E950u, 0x8BBEB8EAu, 0xFCB9887Cu, 0x62DD1DDFu, 0x15DA2D49u, 0x8CD37CF3u, 0xFBD44C65u,
    0x4DB26158u, 0x3AB551CEu, 0xA3BC0074u, 0xD4BB30E2u, 0x4ADFA541u, 0x3DD895D7u, 0xA4D1C46Du, 0xD3D6F4FBu,
    0x4369E96Au, 0x346ED9FCu, 0xAD678846u, 0xDA60B8D0u, 0x44042D73u, 0x33031DE5u, 0xAA0A4C5Fu, 0xDD0D7CC9u,
    0x5005713Cu, 0x270241AAu, 0xBE0B1010u, 0xC90C2086u, 0x5768B525u, 0x206F85B3u, 0xB966D409u, 0xCE61E49Fu,
    0x5EDEF90Eu, 0x29D9C998u, 0xB0D09822u, 0xC7D7A8B4u, 0x59B33D17u, 0x2EB40D81u, 0xB7BD5C3Bu, 0xC0BA6CADu,
    0xEDB88320u, 0x9ABFB3B6u, 0x03B6E20Cu, 0x74B1D29Au, 0xEAD54739u, 0x9DD277AFu, 0x04DB2615u, 0x73DC1683u,
    0xE3630B12u, 0x94643B84u, 0x0D6D6A3Eu, 0x7A6A5AA8u, 0xE40ECF0Bu, 0x9309FF9Du, 0x0A00AE27u, 0x7D079EB1u,
    0xF00F9344u, 0x8708A3D2u, 0x1E01F268u, 0x6906C2FEu, 0xF762575Du, 0x806567CBu, 0x196C3671u, 0x6E6B06E7u,
    0xFED41B76u, 0x89D32BE0u, 0x10DA7A5Au, 0x67DD4ACCu, 0xF9B9DF6Fu, 0x8EBEEFF9u, 0x17B7BE43u, 0x60B08ED5u,
    0xD6D6A3E8u, 0xA1D1937Eu, 0x38D8C2C4u, 0x4FDFF252u, 0xD1BB67F1u, 0xA6BC5767u, 0x3FB506DDu, 0x48B2364Bu,
    0xD80D2BDAu, 0xAF0A1B4Cu, 0x36034AF6u, 0x41047A60u, 0xDF60EFC3u, 0xA867DF55u, 0x316E8EEFu, 0x4669BE79u,
    0xCB61B38Cu, 0xBC66831Au, 0x256FD2A0u, 0x5268E236u, 0xCC0C7795u, 0xBB0B4703u, 0x220216B9u, 0x5505262Fu,
    0xC5BA3BBEu, 0xB2BD0B28u, 0x2BB45A92u, 0x5CB36A04u, 0xC2D7FFA7u, 0xB5D0CF31u, 0x2CD99E8Bu, 0x5BDEAE1Du,
    0x9B64C2B0u, 0xEC63F226u, 0x756AA39Cu, 0x026D930Au, 0x9C0906A9u, 0xEB0E363Fu, 0x72076785u, 0x05005713u,
    0x95BF4A82u, 0xE2B87A14u, 0x7BB12BAEu, 0x0CB61B38u, 0x92D28E9Bu, 0xE5D5BE0Du, 0x7CDCEFB7u, 0x0BDBDF21u,
    0x86D3D2D4u, 0xF1D4E242u, 0x68DDB3F8u, 0x1FDA836Eu, 0x81BE16CDu, 0xF6B9265Bu, 0x6FB077E1u, 0x18B74777u,
    0x88085AE6u, 0xFF0F6A70u, 0x66063BCAu, 0x11010B5Cu, 0x8F659EFFu, 0xF862AE69u, 0x616BFFD3u, 0x166CCF45u,
    0xA00AE278u, 0xD70DD2EEu, 0x4E048354u, 0x3903B3C2u, 0xA7672661u, 0xD06016F7u, 0x4969474Du, 0x3E6E77DBu,
    0xAED16A4Au, 0xD9D65ADCu, 0x40DF0B66u, 0x37D83BF0u, 0xA9BCAE53u, 0xDEBB9EC5u, 0x47B2CF7Fu, 0x30B5FFE9u,
    0xBDBDF21Cu, 0xCABAC28Au, 0x53B39330u, 0x24B4A3A6u, 0xBAD03605u, 0xCDD70693u, 0x54DE5729u, 0x23D967BFu,
    0xB3667A2Eu, 0xC4614AB8u, 0x5D681B02u, 0x2A6F2B94u, 0xB40BBE37u, 0xC30C8EA1u, 0x5A05DF1Bu, 0x2D02EF8Du,
};

uint32_t bn_crc_bytes(uint32_t crc, const uint8_t *p, uint32_t n)
{
    uint32_t i;
    for (i = 0u; i < n; i++) {
        crc = (crc >> 8) ^ crc_table[(crc ^ p[i]) & 0xFFu];
    }
    return crc;
}

uint32_t bn_crc_word(uint32_t crc, uint32_t value)
{
    uint32_t i;
    crc ^= value;
    for (i = 0u; i < 4u; i++) {
        crc = (crc >> 8) ^ crc_table[crc & 0xFFu];
    }
    return crc;
}
