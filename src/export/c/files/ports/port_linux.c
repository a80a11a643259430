/* port_linux.c - a static program that holds the model: PROGRAM [command ...]. Only this file uses the C library. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include "bitnet.h"
#include "port.h"

int bitnet_main(void);

static char line[4096];

void port_write(const char *text)
{
    size_t left = strlen(text);
    while (left > 0u) {
        ssize_t n = write(1, text, left);
        if (n <= 0) {
            _exit(97);
        }
        text += n;
        left -= (size_t)n;
    }
}

void port_exit(int code) { _exit(code); }

const char *port_args(void) { return line; }

uint32_t port_simd(void)
{
#if defined(__aarch64__)
    return (getauxval(AT_HWCAP) >> 20 & 1u) != 0u ? BITNET_SIMD_DOT : 0u; /* HWCAP_ASIMDDP */
#else
    return 0u;
#endif
}

int main(int argc, char **argv)
{
    size_t at = 0u;
    int i;
    for (i = 1; i < argc; i++) {
        size_t n = strlen(argv[i]);
        if (n + 2u > sizeof line - at) {
            (void)write(2, "the command is too long\n", 24u);
            return 2;
        }
        (void)memcpy(line + at, argv[i], n);
        at += n;
        line[at] = i + 1 < argc ? ' ' : '\0';
        at += 1u;
    }
    return bitnet_main();
}
