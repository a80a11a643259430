/* What tools/kernels.py counts: each kernel in several sizes.  The fields are those of a_case in kernels.c. */
#define SIZES(kind, order, hint, qmax, scales, name)                \
    { kind, order, hint, qmax, 512, 512, 0, scales, name " 512 512" }, \
    { kind, order, hint, qmax, 512, 160, 0, scales, name " 512 160" }, \
    { kind, order, hint, qmax, 96, 640, 0, scales, name " 96 640" },   \
    { kind, order, hint, qmax, 64, 64, 0, scales, name " 64 64" },     \
    { kind, order, hint, qmax, 172, 96, 0, scales, name " 172 96" },   \
    { kind, order, hint, qmax, 256, 320, 0, scales, name " 256 320" }
SIZES(1, 0, 0, 127, 1, "select"),
SIZES(2, 0, 0, 127, 1, "select_ternary"),
SIZES(1, 0, 1, 2, 1, "planes"),
SIZES(2, 0, 1, 2, 1, "planes_ternary"),
SIZES(1, 1, 2, 127, 1, "tables"),
SIZES(1, 1, 2, 2, 1, "tables8"),
SIZES(8, 1, 2, 127, 1, "ternary5"),
SIZES(8, 1, 2, 7, 1, "ternary5_8"),
SIZES(10, 1, 2, 127, 2, "planes4"),
SIZES(10, 1, 2, 7, 2, "planes4_8"),
SIZES(9, 0, 0, 32767, 2, "int4"),
SIZES(3, 0, 0, 8191, 2, "int8"),
SIZES(4, 0, 0, 31, 2, "int16"),
{ 1, 0, 0, 300, 512, 512, 0, 1, "select(i16) 512 512" },
{ 1, 1, 2, 127, 512, 512, 16384, 1, "tables(16K) 512 512" },
{ 8, 1, 2, 127, 512, 512, 16384, 1, "ternary5(16K) 512 512" },
