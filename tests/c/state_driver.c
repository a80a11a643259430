/* state_driver.c - a conversation that leaves and enters through bytes: state_driver MODEL [load FILE] [ids 1,2,3] [save FILE]
 * Prints the logits after the last id. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bitnet.h"
#include "read_file.h"

int main(int argc, char **argv)
{
    static bitnet_ctx ctx;
    uint32_t size = 0u, need = 0u, n = 0u, i;
    int at;
    unsigned char *model = read_file(argc > 1 ? argv[1] : "", &size), *arena;
    int32_t *logits;
    bitnet_status st = bitnet_to_native(model, size);
    if (st == BITNET_OK) { st = bitnet_arena_bytes(model, size, NULL, &need); }
    arena = aligned_alloc(64, (need + 63u) & ~63u);
    if (st == BITNET_OK) { st = bitnet_init(&ctx, model, size, NULL, arena, need); }
    logits = calloc(bitnet_vocab(&ctx) + 1u, sizeof *logits);
    for (at = 2; at + 1 < argc && st == BITNET_OK; at += 2) {
        if (strcmp(argv[at], "load") == 0) {
            unsigned char *data = read_file(argv[at + 1], &n);
            st = bitnet_state_restore(&ctx, data, n);
            free(data);
        } else if (strcmp(argv[at], "save") == 0) {
            FILE *f = fopen(argv[at + 1], "wb");
            unsigned char *data;
            st = bitnet_state_bytes(&ctx, &n);
            data = malloc(n);
            if (st == BITNET_OK) { st = bitnet_state_save(&ctx, data, n, &n); }
            if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0) { return 2; }
            free(data);
        } else {
            char *p = argv[at + 1];
            while (*p != '\0' && st == BITNET_OK) {
                uint32_t id = (uint32_t)strtoul(p, &p, 10);
                if (*p == ',') { p++; }
                st = bitnet_run(&ctx, &id, 1u, *p == '\0' ? logits : NULL);
            }
        }
    }
    for (i = 0u; i < bitnet_vocab(&ctx) && st == BITNET_OK; i++) { printf("%d\n", (int)logits[i]); }
    free(model);
    free(arena);
    free(logits);
    if (st != BITNET_OK) { printf("%s\n", bitnet_status_text(st)); }
    return st == BITNET_OK ? 0 : 10 + (int)st;
}
