/* bitnet_board.h - addresses of the board and sizes of the model (the exporter writes model.h). */
#ifndef BITNET_BOARD_H
#define BITNET_BOARD_H

#include "model.h"

#if defined(BITNET_TARGET_QEMU)
#define BITNET_FLASH_BASE 0x00000000u
#define BITNET_DTCM_BASE 0x20000000u
#define BITNET_AXI_BASE 0x20020000u
#define BITNET_AXI_SPLIT 1
#else
#define BITNET_FLASH_BASE 0x08000000u
#define BITNET_DTCM_BASE 0x20000000u
#define BITNET_AXI_BASE 0x24000000u
#endif

#endif
