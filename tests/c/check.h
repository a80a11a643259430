/* check.h - checks that are counted; a program ends with their number. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int failures;
#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); failures++; } } while (0)

#endif
