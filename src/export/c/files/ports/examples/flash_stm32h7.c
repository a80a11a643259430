/*
 * flash_stm32h7.c - the flash of an STM32H742, H743, H753 for bitnet_delta.h: two banks of eight sectors of 128 KB, programmed in words of
 * 32 bytes (ST RM0433, chapter 4).  Compiled by the tests, not run: the emulated machine has no such flash.
 *
 * - While a bank is written, whatever is fetched from it waits, an interrupt too: keep code and model in the other bank if that
 *   matters.  An erase takes seconds, so the watchdog's time must be longer than that, or the handler be in RAM.
 * - The data cache is taken to be off, as after a reset.  With it on, invalidate the written lines before they are read.
 * - A word whose programming was cut has a wrong code for its 32 bytes, and a read of it is a bus fault.  Here it gives whatever bytes
 *   there are: the digests of the applier tell that they are wrong.
 */
#include "flash_stm32h7.h"

#define FLASH_START 0x08000000u
#define BANK_BYTES 0x00100000u
#define UNIT_BYTES 131072u
#define WORD_BYTES 32u

/* the registers of bank 1; those of bank 2 lie 0x100 higher */
#define REGISTERS 0x52002000u
enum { KEYR = 0x04u, CR = 0x0Cu, SR = 0x10u, CCR = 0x14u };
enum { CR_LOCK = 1u, CR_PG = 2u, CR_SER = 4u, CR_PSIZE_64 = 0x30u, CR_START = 0x80u, CR_SNB = 8u };
enum { SR_BUSY = 7u, SR_FAILED = 0x01EE0000u, SR_DOUBLE = 0x04000000u };

/* of the core: faults of data reads are ignored while this bit is set and faults are masked */
#define SCB_CCR 0xE000ED14u
#define SCB_IGNORE 0x100u

static volatile uint32_t *at_address(uint32_t address) { return (volatile uint32_t *)(uintptr_t)address; }

static volatile uint32_t *of_bank(uint32_t at, uint32_t which)
{
    return at_address(REGISTERS + (at - FLASH_START >= BANK_BYTES ? 0x100u : 0u) + which);
}

static uint32_t outside(uint32_t at, uint32_t bytes)
{
    return (uint32_t)(at < FLASH_START || at - FLASH_START > 2u * BANK_BYTES || bytes > 2u * BANK_BYTES - (at - FLASH_START));
}

/* 0: what was begun in this bank is done, without an error */
static int finish(uint32_t at)
{
    uint32_t state;
    do {
        state = *of_bank(at, SR);
    } while ((state & SR_BUSY) != 0u);
    *of_bank(at, CCR) = SR_FAILED;
    return (state & SR_FAILED) != 0u ? 1 : 0;
}

static void open(uint32_t at)
{
    (void)finish(at);
    if ((*of_bank(at, CR) & CR_LOCK) != 0u) {
        *of_bank(at, KEYR) = 0x45670123u;
        *of_bank(at, KEYR) = 0xCDEF89ABu;
    }
}

static int read_flash(void *user, uint32_t at, void *out, uint32_t bytes)
{
    const volatile uint8_t *from = (const volatile uint8_t *)(uintptr_t)at;
    uint8_t *to = (uint8_t *)out;
    uint32_t masked;
    uint32_t i;
    (void)user;
    if (outside(at, bytes) != 0u) {
        return 1;
    }
    __asm__ volatile("mrs %0, faultmask\n\tcpsid f" : "=r"(masked) : : "memory");
    *at_address(SCB_CCR) |= SCB_IGNORE;
    __asm__ volatile("dsb\n\tisb" : : : "memory");
    for (i = 0u; i < bytes; i++) {
        to[i] = from[i];
    }
    __asm__ volatile("dsb" : : : "memory");
    *at_address(SCB_CCR) &= ~(uint32_t)SCB_IGNORE;
    *of_bank(at, CCR) = SR_DOUBLE;
    __asm__ volatile("dsb\n\tisb\n\tmsr faultmask, %0" : : "r"(masked) : "memory");
    return 0;
}

static int program(void *user, uint32_t at, const void *data, uint32_t bytes)
{
    const uint8_t *from = (const uint8_t *)data;
    uint32_t done;
    uint32_t i;
    int failed = 0;
    (void)user;
    if (outside(at, bytes) != 0u || ((at | bytes) & (WORD_BYTES - 1u)) != 0u) {
        return 1;
    }
    for (done = 0u; done < bytes && failed == 0; done += WORD_BYTES) {
        open(at + done);
        *of_bank(at + done, CR) = CR_PSIZE_64 | CR_PG;
        __asm__ volatile("dsb\n\tisb" : : : "memory");
        for (i = 0u; i < WORD_BYTES; i += 4u) { /* eight words, then the chip programs them */
            const uint8_t *b = from + done + i;
            *at_address(at + done + i) = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        }
        __asm__ volatile("dsb\n\tisb" : : : "memory");
        failed = finish(at + done);
        *of_bank(at + done, CR) = CR_LOCK;
    }
    return failed;
}

static int erase(void *user, uint32_t at)
{
    const uint32_t sector = (at - FLASH_START) >> 17 & 7u;
    int failed;
    (void)user;
    if (outside(at, UNIT_BYTES) != 0u || (at & (UNIT_BYTES - 1u)) != 0u) {
        return 1;
    }
    open(at);
    *of_bank(at, CR) = CR_PSIZE_64 | CR_SER | sector << CR_SNB;
    *of_bank(at, CR) = CR_PSIZE_64 | CR_SER | sector << CR_SNB | CR_START;
    __asm__ volatile("dsb" : : : "memory");
    failed = finish(at);
    *of_bank(at, CR) = CR_LOCK;
    return failed;
}

/* sectors 0 to 15 of the chip, one after the other */
static bitnet_area_t sectors(uint32_t first, uint32_t count)
{
    bitnet_area_t a;
    a.at = FLASH_START + first * UNIT_BYTES;
    a.bytes = count * UNIT_BYTES;
    return a;
}

void flash_stm32h7(bitnet_flash_t *flash, uint32_t model_sectors)
{
    flash->user = (void *)0;
    flash->read = read_flash;
    flash->program = program;
    flash->erase = erase;
    flash->sync = (int (*)(void *))0; /* `finish` waits */
    flash->erase_log2 = 17u;
    flash->program_bytes = WORD_BYTES;
    flash->state = sectors(1u, 2u);
    flash->patch = sectors(3u, 1u);
    flash->journal = sectors(0u, 0u); /* two slots need none */
    flash->slot[0] = sectors(4u, model_sectors);
    flash->slot[1] = sectors(4u + model_sectors, model_sectors);
}
