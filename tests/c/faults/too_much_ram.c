/* 1,000 bytes more than the data memory has, beside the stack. */
#include <stdint.h>
int bitnet_main(void);
extern volatile uint8_t too_much[];
volatile uint8_t too_much[BITNET_FAST_BYTES - STACK_SIZE + 1000u] __attribute__((section(".fast_bss")));
int bitnet_main(void) { return too_much[0] == 0u ? 7 : 8; }
