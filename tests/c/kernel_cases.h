/* kind, order, hint, qmax, rows, cols, lut_bytes, scales, name: what tools/kernels.py counts */
{ 1, 1, 2, 127, 512, 512, 0, 1, "tables" },
{ 1, 1, 2, 2, 512, 512, 0, 1, "tables8" },
{ 8, 1, 2, 127, 512, 512, 0, 1, "ternary5" },
{ 8, 1, 2, 7, 512, 512, 0, 1, "ternary5_8" },
