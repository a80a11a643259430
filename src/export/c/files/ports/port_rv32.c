/*
 * port_rv32.c - RV32IMC in machine mode: start-up, a trap handler that ends
 * the run with status 99 (also for an instruction that the core does not
 * have), physical memory protection where the core has it.
 */
#include "port.h"

int bitnet_main(void);
void port_start(void);
void port_begin(void);
void port_trap(void);
extern uint32_t port_bss_start[];
extern uint32_t port_bss_end[];

__attribute__((section(".start"), used, naked)) void port_start(void)
{
    __asm__ volatile("la sp, port_stack_top\n\tla t0, port_trap\n\tcsrw mtvec, t0\n\tj port_begin");
}

/* The stack may be what failed: start it anew. */
__attribute__((aligned(64), naked)) void port_trap(void)
{
    __asm__ volatile("la sp, port_stack_top\n\tli a0, 99\n\tj port_exit");
}

/* ---- protection: flash read-only, data memories not executable, nothing else ---- */

#if defined(BITNET_HAVE_PMP)

#define LOCKED 0x80u /* machine mode obeys, too */
#define TOP_OF_RANGE 0x08u
#define READ 1u
#define WRITE 2u
#define EXECUTE 4u

typedef struct {
    uint32_t base, bytes, access;
} range;

#define PMP_ADDRESS(n, v) __asm__ volatile("csrw pmpaddr" #n ", %0" ::"r"(v))

/* seven entries, each up to an address: the gaps give no access */
static void protect(void)
{
    static const range ranges[3] = {
        { BITNET_FLASH_BASE, BITNET_FLASH_BYTES, READ | EXECUTE },
        { BITNET_FAST_BASE, BITNET_FAST_BYTES, READ | WRITE },
#if defined(BITNET_RAM_BASE)
        { BITNET_RAM_BASE, BITNET_RAM_BYTES, READ | WRITE },
#else
        { 0xFFFFFFE0u, 0u, 0u },
#endif
    };
    uint32_t top[6];
    uint32_t config[2];
    uint32_t last = 0u;
    uint32_t i;
    uint32_t k;
    config[0] = 0u;
    config[1] = (LOCKED | TOP_OF_RANGE) << 16;
    for (i = 0u; i < 3u; i++) { /* ascending */
        uint32_t best = 0u;
        for (k = 1u; k < 3u; k++) {
            if (ranges[best].base < last || (ranges[k].base >= last && ranges[k].base < ranges[best].base)) {
                best = k;
            }
        }
        last = ranges[best].base + ranges[best].bytes;
        top[2u * i] = ranges[best].base >> 2;
        top[2u * i + 1u] = last >> 2;
        config[i >> 1] |= ((LOCKED | TOP_OF_RANGE) | (LOCKED | TOP_OF_RANGE | ranges[best].access) << 8) << (16u * (i & 1u));
        last = ranges[best].base + 1u;
    }
    PMP_ADDRESS(0, top[0]);
    PMP_ADDRESS(1, top[1]);
    PMP_ADDRESS(2, top[2]);
    PMP_ADDRESS(3, top[3]);
    PMP_ADDRESS(4, top[4]);
    PMP_ADDRESS(5, top[5]);
    PMP_ADDRESS(6, 0xFFFFFFFFu);
    __asm__ volatile("csrw pmpcfg1, %0\n\tcsrw pmpcfg0, %1" ::"r"(config[1]), "r"(config[0]) : "memory");
}

#else

static void protect(void) {}

#endif

void port_begin(void)
{
    uint32_t *p;
    for (p = port_bss_start; p < port_bss_end; p++) {
        *p = 0u;
    }
    protect();
    port_exit(bitnet_main());
}
