/* lora_test.c - adapters in the runtime with good and bad arguments: lora_test MODEL ADAPTER OTHER_MODEL
 * MODEL gives logits and takes 3 tokens; the adapter is unsigned.  Built with sanitizers; prints each check that fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bitnet.h"
#include "check.h"
#include "read_file.h"

static unsigned char *open_model(bitnet_ctx *ctx, const unsigned char *model, uint32_t size)
{
    uint32_t need = 0u;
    unsigned char *arena;
    if (bitnet_arena_bytes(model, size, NULL, &need) != BITNET_OK) { exit(2); }
    arena = aligned_alloc(64, (need + 63u) & ~63u);
    if (arena == NULL || bitnet_init(ctx, model, size, NULL, arena, need) != BITNET_OK) { exit(2); }
    return arena;
}

int main(int argc, char **argv)
{
    static bitnet_ctx ctx, second, stranger;
    uint32_t size, bytes, other_size, need = 0u, covered = 0u;
    const uint8_t *signature = (const uint8_t *)&failures;
    unsigned char *model, *adapter, *other, *moved, *arena, *arena2, *arena3;
    uint32_t *scratch, *scratch2;
    const uint32_t ids[3] = { 1u, 2u, 3u };
    int32_t *base, *with, *now;
    size_t length;
    if (argc != 4) { return 2; }
    model = read_file(argv[1], &size);
    adapter = read_file(argv[2], &bytes);
    other = read_file(argv[3], &other_size);
    CHECK(bitnet_lora_scratch(NULL, bytes, &need) == BITNET_E_NULL);
    CHECK(bitnet_lora_scratch(adapter, bytes, NULL) == BITNET_E_NULL);
    CHECK(bitnet_lora_scratch(adapter, 0u, &need) == BITNET_E_MAGIC);
    CHECK(bitnet_lora_scratch(model, size, &need) == BITNET_E_MAGIC);
    CHECK(bitnet_lora_scratch(adapter, bytes, &need) == BITNET_OK && need > 0u);
    CHECK(bitnet_lora_signature(adapter, bytes, NULL, &signature) == BITNET_E_NULL);
    CHECK(bitnet_lora_signature(adapter, bytes, &covered, &signature) == BITNET_OK);
    CHECK(covered == bytes && signature == NULL);
    scratch = malloc(need); /* exactly, so that a sanitizer sees every access behind it */
    scratch2 = malloc(need + 8u);
    moved = malloc(bytes + 1u);
    if (scratch == NULL || scratch2 == NULL || moved == NULL) { return 2; }

    (void)memset(&ctx, 0, sizeof ctx);
    CHECK(bitnet_lora_load(&ctx, adapter, bytes, scratch, need) == BITNET_E_STATE);
    CHECK(bitnet_lora_unload(&ctx) == BITNET_E_STATE);
    CHECK(bitnet_lora_unload(NULL) == BITNET_E_NULL);
    arena = open_model(&ctx, model, size);
    arena2 = open_model(&second, model, size);
    arena3 = open_model(&stranger, other, other_size);
    length = 4u * bitnet_result_length(&ctx);
    base = malloc(length);
    with = malloc(length);
    now = malloc(length);
    if (base == NULL || with == NULL || now == NULL) { return 2; }
    CHECK(bitnet_run(&ctx, ids, 3u, base) == BITNET_OK);

    CHECK(bitnet_lora_load(NULL, adapter, bytes, scratch, need) == BITNET_E_NULL);
    CHECK(bitnet_lora_load(&ctx, NULL, bytes, scratch, need) == BITNET_E_NULL);
    CHECK(bitnet_lora_load(&ctx, adapter, bytes, NULL, need) == BITNET_E_NULL);
    CHECK(bitnet_lora_load(&ctx, adapter, bytes, scratch, need - 1u) == BITNET_E_CAPACITY);
    CHECK(bitnet_lora_load(&ctx, adapter, bytes, (unsigned char *)scratch2 + 1, need) == BITNET_E_ALIGN);
    CHECK(bitnet_lora_load(&ctx, adapter, bytes - 1u, scratch, need) != BITNET_OK);
    CHECK(bitnet_lora_load(&stranger, adapter, bytes, scratch, need) == BITNET_E_OTHER);
    adapter[bytes - 5u] ^= 1u;
    CHECK(bitnet_lora_load(&ctx, adapter, bytes, scratch, need) == BITNET_E_CRC);
    adapter[bytes - 5u] ^= 1u;
    (void)bitnet_reset(&ctx);
    CHECK(bitnet_run(&ctx, ids, 3u, now) == BITNET_OK && memcmp(base, now, length) == 0);

    /* loaded, at an odd address in the other context; the two do not disturb each other */
    (void)memcpy(moved + 1, adapter, bytes);
    (void)bitnet_reset(&ctx);
    CHECK(bitnet_lora_load(&ctx, adapter, bytes, scratch, need) == BITNET_OK);
    CHECK(bitnet_run(&ctx, ids, 3u, with) == BITNET_OK && memcmp(base, with, length) != 0);
    CHECK(bitnet_run(&second, ids, 2u, NULL) == BITNET_OK);
    CHECK(bitnet_run(&second, ids + 2, 1u, now) == BITNET_OK && memcmp(base, now, length) == 0);
    CHECK(bitnet_lora_load(&second, moved + 1, bytes, scratch2, need + 8u) == BITNET_OK);
    (void)bitnet_reset(&second);
    CHECK(bitnet_run(&second, ids, 3u, now) == BITNET_OK && memcmp(with, now, length) == 0);

    /* the self-test is of the model alone and leaves the adapter as it was */
    CHECK(bitnet_selftest(&ctx, now) == BITNET_OK);
    CHECK(bitnet_run(&ctx, ids, 3u, now) == BITNET_OK && memcmp(with, now, length) == 0);

    /* what cannot be loaded leaves the one before; removed between two tokens */
    CHECK(bitnet_lora_load(&ctx, model, size, scratch, need) == BITNET_E_MAGIC);
    (void)bitnet_reset(&ctx);
    CHECK(bitnet_run(&ctx, ids, 3u, now) == BITNET_OK && memcmp(with, now, length) == 0);
    (void)bitnet_reset(&ctx);
    CHECK(bitnet_run(&ctx, ids, 2u, NULL) == BITNET_OK);
    CHECK(bitnet_lora_unload(&ctx) == BITNET_OK);
    CHECK(bitnet_run(&ctx, ids + 2, 1u, now) == BITNET_OK);
    CHECK(memcmp(with, now, length) != 0);
    (void)bitnet_reset(&ctx);
    CHECK(bitnet_run(&ctx, ids, 3u, now) == BITNET_OK && memcmp(base, now, length) == 0);

    free(arena);
    free(arena2);
    free(arena3);
    free(scratch);
    free(scratch2);
    free(moved);
    free(base);
    free(with);
    free(now);
    free(model);
    free(adapter);
    free(other);
    printf("%d failures\n", failures);
    return failures != 0;
}
