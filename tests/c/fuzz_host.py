#!/usr/bin/env python3
"""Hostile files for the C runtime: fuzz_host.py BITNET_HOST MODEL SEED COUNT WORKDIR

Changes words of the program (also header, table, golden trace and scales), writes the checksums anew so that the
change is seen by the checks behind them, and runs the sanitized host program. Any exit status but the documented ones
(0, 2, 3, 10 + status) is a failure; the file that caused it stays in WORKDIR.
"""
import os, random, struct, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reseal

VALUES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 32767, 32768,
          65535, 65536, 1 << 17, 1 << 20, (1 << 20) + 1, 1 << 24, 1 << 28, (1 << 30) - 1, 1 << 30, (1 << 31) - 1, 1 << 31,
          (1 << 32) - 1, (1 << 32) - 2, (1 << 32) - 4096, 0xFFFFFF]


def main(host, model, seed, count, work):
    rng = random.Random(int(seed))
    original = open(model, "rb").read()
    seen = {}
    for n in range(int(count)):
        d = bytearray(original)
        places = {kind: (off, length) for _, kind, off, length in reseal.sections(d)}
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            kind = rng.choice([1, 1, 1, 1, 1, 1, 3, 5, 2, 0])
            off, length = (0, 64 * (1 + len(places))) if kind == 0 else places.get(kind, places[1])
            at = off + 4 * rng.randrange(length // 4)
            old = struct.unpack_from("<I", d, at)[0]
            new = rng.choice([rng.choice(VALUES), old + 1, old - 1, old ^ 1 << rng.randrange(32), rng.getrandbits(32),
                              struct.unpack_from("<I", d, off + 4 * rng.randrange(length // 4))[0]])
            struct.pack_into("<I", d, at, new & 0xFFFFFFFF)
        if rng.random() < 0.95:
            try:
                reseal.seal(d)
            except (struct.error, IndexError):
                pass
        if rng.random() < 0.05:
            d = d[:rng.randrange(len(d))]
        path = os.path.join(work, f"fuzz-{seed}.bitnet")
        open(path, "wb").write(d)
        command = rng.choice([["selftest"], ["trace"], ["window=3", "ids", "1,2,3,4,5", "6"], ["kvbits=4", "ids", "1,2", "3"],
                              ["nostream", "ids", "1,2,3", "20"], ["logits", "0,1"], ["embed", "1,2,3"],
                              ["window=3", "embed", "1,2,3"], ["kvbits=4", "embed", "0,1"]])
        try:
            r = subprocess.run([host, path] + command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
            code = r.returncode
        except subprocess.TimeoutExpired:
            code = "timeout"
        seen[code] = seen.get(code, 0) + 1
        if code not in (0, 2, 3) and not (isinstance(code, int) and 10 <= code <= 25):
            keep = os.path.join(work, f"crash-{seed}-{n}.bitnet")
            os.replace(path, keep)
            print(keep, command, code, r.stderr.decode(errors="replace")[:1500] if code != "timeout" else "")
    print(seen)


if __name__ == "__main__":
    main(*sys.argv[1:])
