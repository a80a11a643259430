/* A store into the program. */
#include <stdint.h>
int bitnet_main(void);
int bitnet_main(void)
{
    volatile uint32_t at = BITNET_FLASH_BASE + 0x200u;
    *(volatile uint32_t *)at = 1u;
    return 7;
}
