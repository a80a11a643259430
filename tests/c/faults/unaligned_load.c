/* A word from an odd address. */
#include <stdint.h>
int bitnet_main(void);
int bitnet_main(void)
{
    uint32_t v;
    __asm__ volatile("ldr %0, [%1]" : "=l"(v) : "l"(BITNET_FLASH_BASE + 1u));
    return v == 0u ? 7 : 8;
}
