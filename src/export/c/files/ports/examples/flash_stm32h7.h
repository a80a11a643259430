/* flash_stm32h7.h - an example: where a chip of ST keeps two models. */
#ifndef FLASH_STM32H7_H
#define FLASH_STM32H7_H

#include "bitnet_delta.h"

/*
 * Sector 0: the program.  1 and 2: the state of updates.  3: the patch.  From 4 on: slot A, then slot B, each of `model_sectors` sectors,
 * 1 to 6.
 */
void flash_stm32h7(bitnet_flash_t *flash, uint32_t model_sectors);

#endif
