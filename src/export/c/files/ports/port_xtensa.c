/*
 * port_xtensa.c - Xtensa, call0 ABI: reset, exception vectors that end the
 * run with status 99. Every 16 bytes of the kilobyte of vectors hold the same
 * jump, whatever offsets the core was configured with.
 */
#include "port.h"

int bitnet_main(void);
void port_begin(void);
extern uint32_t port_bss_start[];
extern uint32_t port_bss_end[];

__asm__(".section .vectors, \"ax\"\n"
        ".balign 1024\n"
        "port_vectors:\n"
        "    j port_start\n" /* a core that starts at its reset vector starts here */
        ".rept 63\n"
        "    .balign 16\n"
        "    j port_fault\n"
        ".endr\n"
        ".balign 16\n"
        ".literal_position\n"
        ".global port_start\n"
        "port_start:\n"
        "    movi a0, port_stack_top\n"
        "    mov a1, a0\n"
#if !defined(BITNET_NO_VECBASE)
        "    movi a0, port_vectors\n"
        "    wsr a0, vecbase\n"
        "    rsync\n"
#endif
        "    movi a0, port_begin\n"
        "    jx a0\n"
        "port_fault:\n"
        "    movi a1, port_stack_top\n"
        "    movi a2, 99\n"
        "    movi a0, port_exit\n"
        "    jx a0\n"
        ".text\n");

void port_begin(void)
{
    uint32_t *p;
    for (p = port_bss_start; p < port_bss_end; p++) {
        *p = 0u;
    }
    port_exit(bitnet_main());
}
