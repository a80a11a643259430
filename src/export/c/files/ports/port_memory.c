/* port_memory.c - model, arena and buffers of a program with fixed memory, for every port but the host's. */
#include "model.h" /* before bitnet.h: its switches are defaults otherwise */
#include "bitnet.h"
#include "port.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
extern uint32_t bitnet_model_words[]; /* writable, see model.S and bitnet_to_native */
#else
extern const uint32_t bitnet_model_words[];
#endif
extern const uint32_t bitnet_model_bytes;

#if defined(__linux__)
#define FAST_MEMORY
#define OTHER_MEMORY
#else
#define OTHER_MEMORY __attribute__((section(".ram_bss")))
#if BITNET_ARENA_IN_FAST
#define FAST_MEMORY __attribute__((section(".fast_bss")))
#else
#define FAST_MEMORY OTHER_MEMORY
#endif
#endif

static uint64_t arena[(BITNET_ARENA_BYTES + 7u) / 8u] FAST_MEMORY __attribute__((aligned(64)));
static int32_t results[BITNET_RESULTS] OTHER_MEMORY __attribute__((aligned(8)));
static uint32_t ids[BITNET_PROMPT_IDS] OTHER_MEMORY __attribute__((aligned(8)));

static uint32_t work[BITNET_TOKENIZER_WORK] OTHER_MEMORY __attribute__((aligned(8)));

#if defined(BITNET_PORT_ADAPTER)
extern const uint8_t bitnet_adapter_data[];
extern const uint32_t bitnet_adapter_bytes;
static uint32_t adapter_scratch[(BITNET_ADAPTER_SCRATCH + 3u) / 4u] OTHER_MEMORY __attribute__((aligned(8)));

const void *port_adapter(uint32_t *bytes)
{
    *bytes = bitnet_adapter_bytes;
    return bitnet_adapter_data;
}

void *port_adapter_scratch(uint32_t bytes) { return bytes <= BITNET_ADAPTER_SCRATCH ? adapter_scratch : (void *)0; }
#endif

#if defined(BITNET_PORT_PATCH)
extern const uint8_t bitnet_patch_data[];
extern const uint32_t bitnet_patch_bytes;
extern const uint8_t bitnet_patch_key[];
extern const uint32_t bitnet_patch_key_bytes;

const void *port_patch(uint32_t *bytes)
{
    *bytes = bitnet_patch_bytes;
    return bitnet_patch_data;
}

const void *port_patch_key(uint32_t *bytes)
{
    *bytes = bitnet_patch_key_bytes;
    return bitnet_patch_key;
}
#endif

const void *port_model(uint32_t *bytes)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    (void)bitnet_to_native((void *)bitnet_model_words, bitnet_model_bytes); /* bitnet_init says what is wrong */
#endif
    *bytes = bitnet_model_bytes;
    return bitnet_model_words;
}

void *port_arena(uint32_t *bytes)
{
    *bytes = (uint32_t)sizeof arena;
    return arena;
}

int32_t *port_results(uint32_t elements) { return elements <= BITNET_RESULTS ? results : (int32_t *)0; }

uint32_t *port_work(uint32_t words) { return words <= BITNET_TOKENIZER_WORK ? work : (uint32_t *)0; }

#if defined(__linux__)
uint32_t *port_stack_low(void) { return (uint32_t *)0; } /* the system guards it */
#else
extern uint32_t port_stack_end[];
uint32_t *port_stack_low(void) { return port_stack_end; }
uint32_t port_simd(void) { return 0u; }
#endif

uint32_t *port_ids(uint32_t *elements)
{
    *elements = BITNET_PROMPT_IDS;
    return ids;
}
