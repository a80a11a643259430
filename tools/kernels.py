#!/usr/bin/env python3
"""kernels.py - instructions of every LINEAR kernel on every core that can be emulated here.

  kernels.py counts [TARGET ...]   lines "target kernel ROWSxCOLS first again": a call that builds its tables, and the next
  kernels.py table  [TARGET ...]   the table of docs/benchmarks.md: instructions per weight, 512 x 512
  kernels.py costs  [TARGET ...]   src/target/data/costs.toml: coefficients of the cost model, and a complaint
                                where the model is off by more than 5 %

Each count is of one bn_linear with everything in it, by the QEMU plugin tools/inscount.c; every result is compared with a plain
loop on the core itself. Needs cc, the compiler and the emulator of a target; a target without them is reported on standard error,
and with --require the program then ends with status 1.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "src/export/c/files/runtime"
ARM = ["-display", "none", "-monitor", "none", "-serial", "null", "-chardev", "stdio,id=out", "-semihosting-config",
       "enable=on,target=native,chardev=out"]
UART = ["-display", "none", "-monitor", "none", "-serial", "stdio"]


def arm(core, machine, flash=0, ram=0x20000000):
    flags = [f"-mcpu={core}", "-mthumb", "-mfloat-abi=soft", "-mgeneral-regs-only"]
    return ("arm-none-eabi-gcc", flags, flash, ram, ["qemu-system-arm", "-M", machine, *ARM])


# name: (compiler, flags, where the code lies, where the data lies, emulator); the names are those of src/target/data
TARGETS = {
    "cortex-m0plus": arm("cortex-m0plus", "mps2-an385"),
    "cortex-m3": arm("cortex-m3", "mps2-an385"),
    "cortex-m4": arm("cortex-m4", "mps2-an386"),
    "cortex-m7": arm("cortex-m7", "mps2-an500"),
    "cortex-m33": arm("cortex-m33", "mps2-an505", 0x10000000, 0x38000000),
    "rv32imc": ("riscv64-unknown-elf-gcc", ["-march=rv32imc", "-mabi=ilp32"], 0x80000000, 0x80100000,
                ["qemu-system-riscv32", "-M", "virt", "-cpu", "rv32,f=false,d=false,a=false", "-bios", "none", "-m", "8M", *UART]),
    "xtensa": ("xtensa-lx106-elf-gcc", [], 0x50000000, 0x60000000,
               ["qemu-system-xtensa", "-M", "sim", "-cpu", "de212", *UART, "-semihosting"]),
}
# a row of costs.toml for each instruction set, measured on one of its cores
ISAS = {"armv6-m": "cortex-m0plus", "armv7-m": "cortex-m3", "armv7e-m": "cortex-m7", "armv8-m": "cortex-m33", "rv32imc": "rv32imc",
        "xtensa": "xtensa"}
FIRST_SIZE = (512, 512)


def fail(text):
    sys.exit(f"kernels.py: {text}")


def missing(target):
    compiler, _, _, _, emulator = TARGETS[target]
    return [tool for tool in ("cc", compiler, emulator[0]) if shutil.which(tool) is None]


def measure(target, folder):
    """[(kernel, rows, cols, first, again)]"""
    compiler, flags, code, data, emulator = TARGETS[target]
    plugin, elf, out = folder / "inscount.so", folder / f"{target}.elf", folder / f"{target}.txt"
    if not plugin.exists():
        run(["cc", "-shared", "-fPIC", "-O2", "-o", plugin, ROOT / "tools/inscount.c"])
    run([compiler, "-std=c99", "-O2", *flags, "-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-ffunction-sections",
         "-nostdlib", "-nostartfiles", "-static", f"-I{RUNTIME}", ROOT / "tests/c/kernels.c", ROOT / "tests/c/kernels_port.c",
         *sorted(RUNTIME.glob("bitnet_*.c")), "-Wl,--gc-sections,-e,kernels_vectors,-u,kernels_vectors,-u,kernels_stack",
         f"-Wl,--section-start=.vectors={code:#x},-Ttext={code + 1024:#x},-Tbss={data:#x}", "-lgcc", "-o", elf])
    text = run([*emulator, "-plugin", f"{plugin},out={out},mark=kernels_mark", "-kernel", elf])
    marks = [int(line) for line in out.read_text().split()]
    names = [line.split() for line in text.splitlines() if line]
    if not names or len(marks) != 4 * len(names):
        fail(f"{target}: {len(names)} results and {len(marks)} counts")
    for verdict, *name in names:
        if verdict != "equal":
            fail(f"{target}: {' '.join(name)} differs from the plain loop")
    return [(name[0], int(name[1]), int(name[2]), marks[4 * i + 1], marks[4 * i + 3]) for i, (_, *name) in enumerate(names)]


def run(command):
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        fail(f"{command[0]} did not end in 600 s")
    if done.returncode != 0:
        fail(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def solve(rows, values):
    """Least squares by the normal equations."""
    n = len(rows[0])
    a = [[sum(r[i] * r[j] for r in rows) for j in range(n)] + [sum(r[i] * v for r, v in zip(rows, values))] for i in range(n)]
    for i in range(n):
        p = max(range(i, n), key=lambda k: abs(a[k][i]))
        a[i], a[p] = a[p], a[i]
        for k in range(n):
            if k != i:
                f = a[k][i] / a[i][i]
                a[k] = [x - f * y for x, y in zip(a[k], a[i])]
    return [a[i][n] / a[i][i] for i in range(n)]


def coefficients(counts):
    """weight, row, column, call and the largest relative error of the model for one kernel; errors count relative"""
    weight, row, call = solve([[r * k / c, r / c, 1 / c] for r, k, _, c in counts], [1.0] * len(counts))
    if call < 0.0:
        weight, row = solve([[r * k / c, r / c] for r, k, _, c in counts], [1.0] * len(counts))
        call = 0.0
    column = sum((first - again) / k for _, k, first, again in counts) / len(counts)
    rounded = [round(weight, 4), round(row, 1), round(max(column, 0.0), 1), float(round(call))]
    worst = 0.0
    for r, k, first, again in counts:
        model = rounded[0] * r * k + rounded[1] * r + rounded[3]
        worst = max(worst, abs(model / again - 1), abs((model + rounded[2] * k) / first - 1))
    return rounded, worst


def costs(results):
    for isa, target in ISAS.items():
        if target not in results:
            continue
        print(f"\n[{isa}]")
        kernels = {}
        for kernel, r, k, first, again in results[target]:
            kernels.setdefault(kernel, []).append((r, k, first, again))
        for kernel, counts in kernels.items():
            if len(counts) > 3:
                (weight, row, column, call), worst = coefficients(counts)
                if worst > 0.05:
                    print(f"{target} {kernel}: the model is off by {100 * worst:.1f} %", file=sys.stderr)
                print(f"{kernel:14} = {{ weight = {weight}, row = {row}, column = {column}, call = {call} }}")


def table(results):
    print("| kernel | " + " | ".join(results) + " |")
    print("|---|" + "---|" * len(results))
    for kernel in dict.fromkeys(name for counts in results.values() for name, *_ in counts):
        cells = []
        for counts in results.values():
            hit = [c for c in counts if c[0] == kernel and (c[1], c[2]) == FIRST_SIZE]
            n = FIRST_SIZE[0] * FIRST_SIZE[1]
            cells.append(f"{hit[0][3] / n:.3f} / {hit[0][4] / n:.3f}")
        print(f"| {kernel} | " + " | ".join(cells) + " |")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--require"]
    if not arguments or arguments[0] not in ("counts", "table", "costs") or any(a not in TARGETS for a in arguments[1:]):
        print(__doc__)
        sys.exit(2)
    results = {}
    absent = False
    with tempfile.TemporaryDirectory() as folder:
        for target in arguments[1:] or TARGETS:
            tools = missing(target)
            if tools:
                absent = True
                print(f"not run: {target} needs {', '.join(tools)}", file=sys.stderr)
                continue
            results[target] = measure(target, Path(folder))
    if arguments[0] == "counts":
        for target, counts in results.items():
            for kernel, r, k, first, again in counts:
                print(target, kernel, f"{r}x{k}", first, again)
    elif arguments[0] == "table":
        table(results)
    else:
        costs(results)
    if absent and "--require" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
