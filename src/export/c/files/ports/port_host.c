/*
 * port_host.c - the same program on a host: bitnet_host MODEL [adapter=FILE] [patch=FILE] [key=FILE] [command ...].
 * Only this file uses the C library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bitnet.h"
#include "port.h"
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

int bitnet_main(void);

static unsigned char *model;
static uint32_t model_size;
/* files that may be given beside the model */
static struct beside {
    const char *name;
    unsigned char *data;
    uint32_t size;
} files[] = { { "adapter=", NULL, 0 }, { "patch=", NULL, 0 }, { "key=", NULL, 0 } };
static void *adapter_scratch;
static void *arena;
static uint32_t arena_size;
static int32_t *results;
static uint32_t *ids;
static uint32_t *work;
static uint32_t work_words;
static char *args;
static uint32_t args_size;

#define ID_CAPACITY 131072u

void port_write(const char *text) { (void)fputs(text, stdout); }

void port_exit(int code)
{
    (void)fflush(stdout);
    exit(code);
}

const char *port_args(void) { return args; }

const void *port_model(uint32_t *bytes)
{
    (void)bitnet_to_native(model, model_size); /* bitnet_init says what is wrong */
    *bytes = model_size;
    return model;
}

const void *port_adapter(uint32_t *bytes)
{
    *bytes = files[0].size;
    return files[0].data;
}

const void *port_patch(uint32_t *bytes)
{
    *bytes = files[1].size;
    return files[1].data;
}

const void *port_patch_key(uint32_t *bytes)
{
    *bytes = files[2].size;
    return files[2].data;
}

/* exactly as much as it asks for */
void *port_adapter_scratch(uint32_t bytes)
{
    if (adapter_scratch == NULL && bytes <= 1u << 30) {
        adapter_scratch = malloc(bytes);
    }
    return adapter_scratch;
}

/* As large as the model asks for without a configuration, exactly: a sanitizer
 * then sees every access behind it. */
void *port_arena(uint32_t *bytes)
{
    uint32_t need = 0u;
    if (arena == NULL) {
        if (bitnet_arena_bytes(model, model_size, NULL, &need) != BITNET_OK || need == 0u) {
            need = 16u;
        }
        if (need > 1u << 30) {
            (void)fputs("the arena would need more than 1 GiB\n", stderr);
            port_exit(3);
        }
        arena_size = need;
        arena = aligned_alloc(64, ((size_t)need + 63u) & ~(size_t)63u);
        if (arena == NULL) {
            (void)fputs("out of memory\n", stderr);
            port_exit(3);
        }
        (void)memset(arena, 0xA5, need);
    }
    *bytes = arena_size;
    return arena;
}

/* exactly as many as the model has results: at most 2^20 */
int32_t *port_results(uint32_t elements)
{
    if (results == NULL) {
        results = malloc((size_t)elements * 4u);
    }
    return results;
}

/* a stand-in: the stack of a host is guarded by its system */
uint32_t *port_stack_low(void)
{
    static uint32_t low[BITNET_GUARD_WORDS];
    static int placed;
    if (placed == 0) {
        bitnet_guard_place(low);
        placed = 1;
    }
    return low;
}

uint32_t port_simd(void)
{
#if defined(__aarch64__) && defined(__linux__)
    return (getauxval(AT_HWCAP) >> 20 & 1u) != 0u ? BITNET_SIMD_DOT : 0u; /* HWCAP_ASIMDDP */
#else
    return 0u;
#endif
}

uint32_t *port_ids(uint32_t *elements)
{
    if (ids == NULL) {
        ids = malloc(ID_CAPACITY * 4u);
    }
    *elements = ids == NULL ? 0u : ID_CAPACITY;
    return ids;
}

/* exactly as many as were asked for */
uint32_t *port_work(uint32_t words)
{
    if (words > work_words && words <= 1u << 24) {
        free(work);
        work = malloc((size_t)words * 4u);
        work_words = work == NULL ? 0u : words;
    }
    return words <= work_words ? work : NULL;
}

/* the whole file */
static unsigned char *load(const char *name, uint32_t *bytes, int aligned)
{
    unsigned char *data;
    FILE *f = fopen(name, "rb");
    long size;
    if (f == NULL) {
        return NULL;
    }
    if (fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0 || size > 0x7FFFFFFF || fseek(f, 0, SEEK_SET) != 0) {
        (void)fclose(f);
        return NULL;
    }
    *bytes = (uint32_t)size;
    /* a model ends where the block ends, and starts at a multiple of 64 if its length is one */
    data = aligned != 0 ? aligned_alloc(64, ((size_t)size + 64u) & ~(size_t)63u) : malloc(size > 0 ? (size_t)size : 1u);
    if (data == NULL || fread(data, 1, (size_t)size, f) != (size_t)size) {
        (void)fclose(f);
        return NULL;
    }
    (void)fclose(f);
    return data;
}

/* what an argument like patch=FILE is for; NULL: it is none */
static struct beside *beside(const char *argument)
{
    size_t i;
    for (i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strncmp(argument, files[i].name, strlen(files[i].name)) == 0) {
            return &files[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int i;
    int code;
    int first = 2;
    struct beside *file;
    if (argc < 2) {
        (void)fputs("usage: bitnet_host MODEL [adapter=FILE] [patch=FILE] [key=FILE] [command ...]\n", stderr);
        return 2;
    }
    model = load(argv[1], &model_size, 1);
    if (model == NULL) {
        (void)fprintf(stderr, "%s: cannot be read\n", argv[1]);
        return 2;
    }
    while (first < argc && (file = beside(argv[first])) != NULL) {
        const char *name = strchr(argv[first], '=') + 1;
        free(file->data);
        file->data = load(name, &file->size, 0);
        if (file->data == NULL) {
            (void)fprintf(stderr, "%s: cannot be read\n", name);
            return 2;
        }
        first++;
    }
    for (i = first; i < argc; i++) {
        args_size += (uint32_t)strlen(argv[i]) + 1u;
    }
    args = calloc(args_size + 1u, 1);
    if (args == NULL) {
        return 3;
    }
    for (i = first; i < argc; i++) {
        (void)strcat(args, argv[i]);
        if (i + 1 < argc) {
            (void)strcat(args, " ");
        }
    }
    code = bitnet_main();
    (void)fflush(stdout);
    free(args);
    free(model);
    for (i = 0; i < (int)(sizeof files / sizeof files[0]); i++) {
        free(files[i].data);
    }
    free(adapter_scratch);
    free(arena);
    free(results);
    free(ids);
    return code;
}
