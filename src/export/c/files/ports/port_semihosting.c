/*
 * port_semihosting.c - Cortex-M7 with semihosting: QEMU (mps2-an500) and
 * STM32H743 with a debugger.  Startup code, vector table, memory protection.
 */
#include <stdint.h>
#include "bitnet.h"
#include "bitnet_board.h"
#include "port.h"

int bitnet_main(void);
void reset_handler(void);

extern const uint32_t bitnet_model_words[];
extern const uint32_t bitnet_model_bytes;
void port_stack_top(void); /* an address, not a function */
extern uint32_t port_stack_end[];
extern uint32_t port_bss_start[];
extern uint32_t port_bss_end[];

/* ---- memory of the program ------------------------------------------------------- */

#if BITNET_ARENA_IN_DTCM
#define ARENA_SECTION ".dtcm_bss"
#else
#define ARENA_SECTION ".axi_bss"
#endif

static uint64_t arena[(BITNET_ARENA_BYTES + 7u) / 8u] __attribute__((section(ARENA_SECTION), aligned(64)));
static int32_t results[BITNET_RESULTS] __attribute__((section(".axi_bss"), aligned(8)));
static uint32_t ids[BITNET_PROMPT_IDS] __attribute__((section(".axi_bss"), aligned(8)));

const void *port_model(uint32_t *bytes)
{
    *bytes = bitnet_model_bytes;
    return bitnet_model_words;
}

void *port_arena(uint32_t *bytes)
{
    *bytes = (uint32_t)sizeof arena;
    return arena;
}

int32_t *port_results(uint32_t elements) { return elements <= BITNET_RESULTS ? results : (int32_t *)0; }

uint32_t *port_stack_low(void) { return port_stack_end; }
uint32_t port_simd(void) { return 0u; }

uint32_t *port_ids(uint32_t *elements)
{
    *elements = BITNET_PROMPT_IDS;
    return ids;
}

/* ---- semihosting -------------------------------------------------------------------- */

static uint32_t call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void port_write(const char *text) { (void)call(0x04u, text); } /* SYS_WRITE0 */

void port_exit(int code)
{
    uint32_t block[2];
    block[0] = 0x20026u; /* ADP_Stopped_ApplicationExit */
    block[1] = (uint32_t)code;
    (void)call(0x20u, block); /* SYS_EXIT_EXTENDED */
    for (;;) {
    }
}

const char *port_args(void)
{
    static char line[512];
    static uint32_t block[2];
    const char *p = line;
    block[0] = (uint32_t)(uintptr_t)line;
    block[1] = (uint32_t)sizeof line;
    line[0] = '\0';
    if (call(0x15u, block) != 0u) { /* SYS_GET_CMDLINE */
        return "";
    }
    line[sizeof line - 1u] = '\0';
    while (*p != '\0' && *p != ' ') { /* the program's name */
        p++;
    }
    return p;
}

/* ---- start ---------------------------------------------------------------------------- */

static void fault_handler(void) { port_exit(99); }

/* ARMv7-M memory protection: flash read-only, data memories read-write and
 * not executable, nothing else.  The floating-point unit stays off, so that a
 * floating-point instruction ends in fault_handler. */
static void region(uint32_t n, uint32_t base, uint32_t log2_bytes, uint32_t access)
{
    volatile uint32_t *const mpu = (volatile uint32_t *)0xE000ED98u; /* RNR, RBAR, RASR */
    mpu[0] = n;
    mpu[1] = base;
    mpu[2] = access | (log2_bytes - 1u) << 1 | 1u;
}

#define READ_ONLY (6u << 24 | 2u << 16)             /* normal memory, write-through */
#define READ_WRITE (1u << 28 | 3u << 24 | 2u << 16) /* not executable */

static void protect(void)
{
    region(0u, BITNET_FLASH_BASE, 21u, READ_ONLY);
    region(1u, BITNET_DTCM_BASE, 17u, READ_WRITE);
#if defined(BITNET_AXI_SPLIT) /* a base that is no multiple of 512 KB */
    region(2u, BITNET_AXI_BASE, 17u, READ_WRITE);
    region(3u, BITNET_AXI_BASE + 0x20000u, 18u, READ_WRITE);
    region(4u, BITNET_AXI_BASE + 0x60000u, 17u, READ_WRITE);
#else
    region(2u, BITNET_AXI_BASE, 19u, READ_WRITE);
#endif
    *(volatile uint32_t *)0xE000ED94u = 1u; /* on; no background region */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

void reset_handler(void)
{
    uint32_t *p;
    for (p = port_bss_start; p < port_bss_end; p++) {
        *p = 0u;
    }
    protect();
    bitnet_guard_place(port_stack_end);
    port_exit(bitnet_main());
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    port_stack_top, reset_handler, fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler, fault_handler, fault_handler
};
