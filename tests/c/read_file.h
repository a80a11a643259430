/* read_file.h - a whole file, for the test programs. */
#ifndef READ_FILE_H
#define READ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* at a multiple of 64, with at least 64 bytes of room behind it */
static unsigned char *read_file(const char *path, uint32_t *size)
{
    FILE *f = fopen(path, "rb");
    long n;
    unsigned char *data;
    if (f == NULL) { exit(2); }
    (void)fseek(f, 0, SEEK_END);
    n = ftell(f);
    (void)fseek(f, 0, SEEK_SET);
    data = aligned_alloc(64, ((size_t)n + 127u) & ~(size_t)63u);
    if (data == NULL || fread(data, 1, (size_t)n, f) != (size_t)n) { exit(2); }
    (void)fclose(f);
    *size = (uint32_t)n;
    return data;
}

#endif
