/*
 * port_output.c - how a chip without an operating system speaks and stops:
 *
 *   semihosting       a debugger or emulator does it (the default); on Xtensa by SIMCALL
 *   BITNET_MAILBOX    a buffer in RAM that the emulator's script reads: bitnet_mailbox (run_labwired.py)
 *
 * BITNET_COMMAND, a string, is the command line where nobody hands one over.
 */
#include "port.h"

#if defined(BITNET_MAILBOX)

#ifndef BITNET_MAILBOX_BYTES
#define BITNET_MAILBOX_BYTES 65536u
#endif

/* done: 1 after port_exit, with its code; text is cut where the buffer ends */
struct mailbox {
    uint32_t done, code, length;
    char text[BITNET_MAILBOX_BYTES];
};
extern volatile struct mailbox bitnet_mailbox;
volatile struct mailbox bitnet_mailbox;

void port_write(const char *text)
{
    uint32_t n = bitnet_mailbox.length;
    while (*text != '\0' && n < BITNET_MAILBOX_BYTES) {
        bitnet_mailbox.text[n] = *text++;
        n += 1u;
    }
    bitnet_mailbox.length = n;
}

void port_exit(int code)
{
    bitnet_mailbox.code = (uint32_t)code;
    bitnet_mailbox.done = 1u;
    for (;;) {
    }
}

#elif defined(__XTENSA__)

static uint32_t call(uint32_t operation, uint32_t a, uint32_t b, uint32_t c)
{
    register uint32_t a2 __asm__("a2") = operation;
    register uint32_t a3 __asm__("a3") = a;
    register uint32_t a4 __asm__("a4") = b;
    register uint32_t a5 __asm__("a5") = c;
    __asm__ volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
    return a2;
}

static uint32_t address(const void *p) { return (uint32_t)(uintptr_t)p; }

void port_write(const char *text)
{
    uint32_t n = 0u;
    while (text[n] != '\0') {
        n += 1u;
    }
    (void)call(4u, 1u, address(text), n);
}

void port_exit(int code)
{
    (void)call(1u, (uint32_t)code, 0u, 0u);
    for (;;) {
    }
}

#else

static uint32_t call(uint32_t operation, const void *argument)
{
#if defined(__arm__)
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#elif defined(__riscv)
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    /* three instructions of full length on one page mark the call */
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\tslli zero, zero, 0x1f\n\tebreak\n\tsrai zero, zero, 7\n\t.option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return a0;
#else
#error "no semihosting here: build with -DBITNET_MAILBOX"
#endif
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

#endif

#if defined(BITNET_COMMAND)

const char *port_args(void) { return BITNET_COMMAND; }

#elif defined(BITNET_MAILBOX)

const char *port_args(void) { return ""; }

#elif defined(__XTENSA__)

/* argc + 1 pointers, then the arguments, each closed by a zero */
const char *port_args(void)
{
    static uint32_t block[129];
    char *line = (char *)block;
    uint32_t count = call(1000u, 0u, 0u, 0u);
    uint32_t bytes = call(1001u, 0u, 0u, 0u);
    uint32_t at = 4u * count + 4u;
    uint32_t i;
    if (count < 2u || count > 16u || bytes <= at || bytes > 512u) {
        return "";
    }
    (void)call(1002u, address(block), 0u, 0u);
    while (at < bytes && line[at] != '\0') { /* the program's name */
        at += 1u;
    }
    for (i = at; i + 1u < bytes; i++) {
        line[i] = line[i] == '\0' ? ' ' : line[i];
    }
    return line + at;
}

#else

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

#endif
