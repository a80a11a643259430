/* A store to the first byte behind the data memory. */
#include <stdint.h>
int bitnet_main(void);
int bitnet_main(void)
{
    *(volatile uint8_t *)(BITNET_FAST_BASE + BITNET_FAST_BYTES) = 1u;
    return 7;
}
