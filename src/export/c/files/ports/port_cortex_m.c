/*
 * port_cortex_m.c - Cortex-M0 to M55: vector table, start-up, memory
 * protection where the chip has it.  The floating-point unit stays off, so a
 * floating-point instruction ends in fault_handler like every other fault.
 */
#include "port.h"

int bitnet_main(void);
void port_start(void);
void port_begin(void);
void port_stack_top(void); /* an address, not a function */
extern uint32_t port_bss_start[];
extern uint32_t port_bss_end[];

/* The stack may be what failed: start it anew. */
__attribute__((naked)) static void fault_handler(void)
{
    __asm__ volatile("ldr r0, =port_stack_top\n\tmov sp, r0\n\tmovs r0, #99\n\tldr r1, =port_exit\n\tbx r1");
}

/* ---- memory protection: flash read-only, data memories not executable, nothing else ---- */

#define MPU ((volatile uint32_t *)0xE000ED90u) /* TYPE, CTRL, RNR, RBAR, RASR or RLAR */

#if __ARM_ARCH >= 8

#define READ_ONLY 6u  /* any privilege */
#define READ_WRITE 3u /* any privilege, not executable */

static uint32_t region(uint32_t n, uint32_t base, uint32_t bytes, uint32_t access)
{
    MPU[2] = n;
    MPU[3] = base | access;
    MPU[4] = (base + bytes - 32u) | 1u; /* attributes 0 */
    return n + 1u;
}

#else

#define READ_ONLY (6u << 24 | 2u << 16)             /* normal memory, write-through */
#define READ_WRITE (1u << 28 | 3u << 24 | 2u << 16) /* not executable */

static uint32_t set(uint32_t n, uint32_t base, uint32_t log2, uint32_t access)
{
    MPU[2] = n;
    MPU[3] = base;
    MPU[4] = access | (log2 - 1u) << 1 | 1u;
    return n + 1u;
}

/* Sizes are powers of two at multiples of themselves: the flash, where nothing can be written, gets one that holds it;
 * data memories get as many as it takes, to the byte. */
static uint32_t region(uint32_t n, uint32_t base, uint32_t bytes, uint32_t access)
{
    uint32_t log2 = 5u;
    if (access == READ_ONLY) {
        while ((base >> log2 << log2) + (1u << log2) < base + bytes) {
            log2 += 1u;
        }
        return set(n, base >> log2 << log2, log2, access);
    }
    while (bytes >= 32u && n < MPU[0] >> 8) {
        log2 = 31u;
        while (1u << log2 > bytes || (base & ((1u << log2) - 1u)) != 0u) {
            log2 -= 1u;
        }
        n = set(n, base, log2, access);
        base += 1u << log2;
        bytes -= 1u << log2;
    }
    if (bytes >= 32u) {
        port_exit(98); /* too few regions for this board */
    }
    return n;
}

#endif

static void protect(void)
{
    uint32_t n = 0u;
    if (MPU[0] >> 8 == 0u) { /* none here */
        return;
    }
#if __ARM_ARCH >= 8
    MPU[12] = 0x44u; /* MAIR0: normal memory, not cached */
#endif
    n = region(n, BITNET_FLASH_BASE, BITNET_FLASH_BYTES, READ_ONLY);
    n = region(n, BITNET_FAST_BASE, BITNET_FAST_BYTES, READ_WRITE);
#if defined(BITNET_RAM_BASE)
    n = region(n, BITNET_RAM_BASE, BITNET_RAM_BYTES, READ_WRITE);
#endif
    (void)n;
    MPU[1] = 1u; /* on; no background region */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    port_stack_top, port_start, fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler, fault_handler, fault_handler
};

/* A boot loader may start this as a function: the stack and the vectors are set here, not by reset. */
__attribute__((section(".start"), used, naked)) void port_start(void)
{
    __asm__ volatile("ldr r0, =port_stack_top\n\tmov sp, r0\n\tldr r0, =port_begin\n\tbx r0");
}

void port_begin(void)
{
    uint32_t *p;
    *(volatile uint32_t *)0xE000ED08u = (uint32_t)(uintptr_t)vectors; /* VTOR; a Cortex-M0 has none and does not mind */
    for (p = port_bss_start; p < port_bss_end; p++) {
        *p = 0u;
    }
    protect();
    port_exit(bitnet_main());
}
