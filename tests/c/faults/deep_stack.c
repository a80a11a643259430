/* A stack that never ends: it leaves its memory at the low end. */
#include <stdint.h>
int bitnet_main(void);
static uint32_t deeper(volatile uint32_t *p)
{
    volatile uint32_t here[64];
    here[0] = p[0] + 1u;
    return here[0] == 0u ? 0u : deeper(here) + here[0];
}
int bitnet_main(void)
{
    volatile uint32_t first = 0u;
    return deeper(&first) == 1u ? 7 : 8;
}
