/*
 * kernels_port.c - start-up and output for kernels.c on emulated cores: Arm M with semihosting, RISC-V `virt`, Xtensa `sim`.
 * No board: everything lies where the machine has room (tools/kernels.py links it).
 */
#include <stdint.h>

int kernels_main(uint32_t seed, uint32_t count);
void kernels_write(const char *text);
void kernels_mark(void);
void kernels_start(void);

static uint64_t stack[1024];

/* one instruction: what inscount counts to */
__attribute__((noinline)) void kernels_mark(void) { __asm__ volatile(""); }

#if defined(__arm__)

static uint32_t host(uint32_t what, const void *p)
{
    register uint32_t r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = p;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void kernels_write(const char *text) { (void)host(4u, text); }

void kernels_start(void)
{
    static const uint32_t done[2] = { 0x20026u, 0u };
    (void)kernels_main(0u, 0u);
    (void)host(0x20u, done);
    for (;;) {
    }
}

extern const void *const kernels_vectors[4];
__attribute__((section(".vectors"))) const void *const kernels_vectors[4] = {
    stack + 1024, (const void *)kernels_start, (const void *)kernels_start, (const void *)kernels_start
};

#elif defined(__riscv)

void kernels_write(const char *text)
{
    for (; *text != '\0'; text++) {
        *(volatile uint8_t *)0x10000000u = (uint8_t)*text;
    }
}

void kernels_start(void)
{
    (void)kernels_main(0u, 0u);
    *(volatile uint32_t *)0x100000u = 0x5555u;
    for (;;) {
    }
}

uint64_t *const kernels_stack = stack + 1024;
__asm__(".section .vectors,\"ax\"\n"
        ".global kernels_vectors\n"
        "kernels_vectors: la sp, kernels_stack\n"
        "lw sp, 0(sp)\n"
        "j kernels_start\n"
        ".text");

#else

static void host(int what, uint32_t a, const void *p, uint32_t n)
{
    register int a2 __asm__("a2") = what;
    register uint32_t a3 __asm__("a3") = a;
    register const void *a4 __asm__("a4") = p;
    register uint32_t a5 __asm__("a5") = n;
    __asm__ volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
}

void kernels_write(const char *text)
{
    uint32_t n = 0u;
    while (text[n] != '\0') {
        n++;
    }
    host(4, 1u, text, n);
}

void kernels_start(void)
{
    (void)kernels_main(0u, 0u);
    host(1, 0u, (const void *)0, 0u);
    for (;;) {
    }
}

/* the tool chain has no 64-bit product */
uint64_t __muldi3(uint64_t a, uint64_t b);
uint64_t __muldi3(uint64_t a, uint64_t b)
{
    uint64_t sum = 0u;
    for (; b != 0u; b >>= 1) {
        sum += (b & 1u) != 0u ? a : 0u;
        a += a;
    }
    return sum;
}

uint64_t *const kernels_stack = stack + 1024;
__asm__(".section .vectors,\"ax\"\n"
        ".global kernels_vectors\n"
        "kernels_vectors: j 1f\n"
        ".align 4\n"
        ".Lstack: .word kernels_stack\n"
        ".Lstart: .word kernels_start\n"
        "1: l32r a1, .Lstack\n"
        "l32i a1, a1, 0\n"
        "l32r a0, .Lstart\n"
        "jx a0\n"
        ".text");

#endif
