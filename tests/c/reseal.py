#!/usr/bin/env python3
"""Changes a packed model and writes its checksums anew (for tests of the C runtime).

usage: reseal.py IN OUT [hint=0|1|2] [lut=BYTES] [word=SECTION:INDEX:VALUE ...] [xor=SECTION:BYTE:MASK ...]
SECTION is a kind, or 0 for the header and table (word index there counts from byte 0).
"""
import hashlib, struct, sys, zlib


def sections(d):
    n = struct.unpack_from("<I", d, 12)[0]
    for i in range(n):
        at = 64 + 64 * i
        kind, _, off, length = struct.unpack_from("<IIQQ", d, at)
        yield at, kind, off, length


def seal(d):
    for at, _, off, length in sections(d):
        if off + length <= len(d):
            body = bytes(d[off:off + length])
            struct.pack_into("<I", d, at + 24, zlib.crc32(body))
            d[at + 32:at + 64] = hashlib.sha256(body).digest()
    n = struct.unpack_from("<I", d, 12)[0]
    head = bytes(d[:28]) + bytes(36) + bytes(d[64:64 + 64 * n])
    struct.pack_into("<I", d, 28, zlib.crc32(head))
    d[32:64] = hashlib.sha256(head).digest()


def change(d, what):
    key, value = what.split("=")
    table = {kind: off for _, kind, off, _ in sections(d)}
    table[0] = 0
    program = table[1]
    if key == "hint":
        ops, _, _, regs = struct.unpack_from("<4I", d, program + 4)
        for i in range(ops):
            at = program + 128 + 8 * regs + 48 * i
            if d[at] == 4:
                struct.pack_into("<I", d, at + 24, int(value))
    elif key == "lut":
        struct.pack_into("<I", d, program + 100, int(value))
    elif key == "word":
        s, i, v = (int(x, 0) for x in value.split(":"))
        struct.pack_into("<I", d, table[s] + 4 * i, v & 0xFFFFFFFF)
    elif key == "xor":
        s, i, v = (int(x, 0) for x in value.split(":"))
        d[table[s] + i] ^= v


def main(argv):
    d = bytearray(open(argv[0], "rb").read())
    for what in argv[2:]:
        change(d, what)
    seal(d)
    open(argv[1], "wb").write(d)


if __name__ == "__main__":
    main(sys.argv[1:])
