#!/usr/bin/env python3
"""The section "Patches" of docs/benchmarks.md: size of patches against the bound and against other tools, speed, memory.

usage: bench_delta.py BINARY [--quick] [--keep FOLDER] [PART ...]   parts: uniform clustered ternary layout real billion speed

Prints Markdown.  Pairs are made with fixed seeds (tools/delta_pairs.py); every patch is applied and the result compared.  --quick: only the small pairs.
--keep: pairs, and what other tools made of them, are taken from there, or put there; 100 MB each.  Needs numpy, GNU time, bsdiff, xdelta3 and zstd.
"""
import hashlib, json, os, pickle, platform, re, subprocess, sys, tempfile, time
from pathlib import Path

import delta_pairs as dp

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("BITNET_SHARED", ROOT.parent / "shared"))
ARGS = sys.argv[1:]
KEEP = Path(ARGS.pop(ARGS.index("--keep") + 1)) if "--keep" in ARGS else None
BIN, QUICK = ARGS[0], "--quick" in ARGS
TMP = tempfile.TemporaryDirectory()
WORK = KEEP or Path(TMP.name)
LIMIT = 400         # CPU seconds that another tool may take
TOOLS = {
    "bsdiff": lambda old, new, out: ["bsdiff", old, new, out],
    "xdelta3": lambda old, new, out: ["xdelta3", "-e", "-f", "-q", "-9", "-S", "lzma", "-B", str(1 << max(26, old.stat().st_size.bit_length())), "-s", old, new, out],
    "zstd": lambda old, new, out: ["zstd", "-q", "-f", "-19", "--long=31", f"--patch-from={old}", new, "-o", out],
}


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rows:
        print("| " + " | ".join(str(c) for c in r) + " |")
    print(flush=True)


class Run:
    """A finished process: exit code, CPU seconds, peak memory in MB.

    GNU time starts it: the peak of a child that Python starts itself would count the pages of this process.
    """

    def __init__(self, args, limit=None):
        said = Path(TMP.name) / "rss"
        command = ["prlimit", f"--cpu={limit}"] if limit else []
        with open(os.devnull) as null:
            p = subprocess.Popen(["/usr/bin/time", "-f", "%M", "-o", said, *command, *map(str, args)], stdin=null, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.out = p.stdout.read().decode(errors="replace")
            _, status, used = os.wait4(p.pid, 0)
        p.returncode = self.code = os.waitstatus_to_exitcode(status)
        self.cpu = used.ru_utime + used.ru_stime
        self.rss = int(said.read_text().split()[-1]) * 1024 / 1e6    # GNU time prints KiB

    def must(self, what):
        if self.code != 0:
            sys.exit(f"{what}: exit code {self.code}\n{self.out}")
        return self


def sha(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while part := f.read(1 << 20):
            h.update(part)
    return h.hexdigest()


def least(run, times):
    return min((run() for _ in range(times)), key=lambda r: r.cpu)


def create(pair, coder="auto", times=1, flags=()):
    patch = Path(TMP.name) / f"{coder}.bdelta"
    args = [BIN, "delta", "create", pair.old, pair.new, "-o", patch, "--coder", coder, "--model", "bench", "--from-version", "0.1.0", "--to-version", "0.2.0", *flags]

    def once():
        patch.unlink(missing_ok=True)
        return Run(args).must("delta create")

    return patch, least(once, times)


def apply(pair, patch, times=1):
    out = Path(TMP.name) / "applied"

    def once():
        for left in Path(TMP.name).glob("applied*"):
            left.unlink()
        return Run([BIN, "delta", "apply", pair.old, patch, "-o", out]).must("delta apply")

    ran = least(once, times)
    if sha(out) != sha(pair.new):
        sys.exit(f"{pair.new}: the applied patch gives another file")
    for left in Path(TMP.name).glob("applied*"):
        left.unlink()
    return ran


def sizes(pair, coders=("auto", "rice", "range")):
    """Bytes of our patches, each applied and compared."""
    found = []
    for coder in coders:
        patch, _ = create(pair, coder)
        apply(pair, patch)
        found.append(patch.stat().st_size)
        patch.unlink()
    return found


def other(pair, names=TOOLS):
    """Bytes of other tools' patches; None if one does not finish.  Kept with the pair."""
    note, out = pair.new.with_suffix(".tools"), Path(TMP.name) / "other"
    kept = pair.new.parent == KEEP
    if kept and note.exists():
        return json.loads(note.read_text())
    found = {}
    for name in names:
        ran = Run(TOOLS[name](pair.old, pair.new, out), LIMIT)
        found[name] = out.stat().st_size if ran.code == 0 else None
        out.unlink(missing_ok=True)
    if kept:
        note.write_text(json.dumps(found))
    return found


def times_ours(found, ours):
    return ["" if n not in found else "not done" if found[n] is None else f"{found[n] * 100 // ours / 100:.2f}" for n in TOOLS]


def pair_of(name, **how):
    """A pair of dp.pair_of, kept if wanted."""
    note = WORK / f"{name}.pair"
    if KEEP and note.exists():
        return pickle.loads(note.read_bytes())
    WORK.mkdir(parents=True, exist_ok=True)
    pair = dp.pair_of(WORK, name, **how)
    if KEEP:
        note.write_bytes(pickle.dumps(pair))
    return pair


def done_with(pair):
    if not KEEP:
        pair.old.unlink()
        pair.new.unlink()


def percent(p):
    return f"{100 * p:.3f} %"


def ceil3(x):
    """Three decimals, never in our favour."""
    return f"{-(-x * 1000 // 1):.0f}"[:-3].rjust(1, "0") + "." + f"{int(-(-x * 1000 // 1)) % 1000:03}"


SIZES = [("b1", dp.B1)] + ([] if QUICK else [("b100", dp.B100)])
RATES = (1e-4, 1e-3, 1e-2, 5e-2)


def uniform():
    print("### Changes spread evenly\n")
    print("`b1`: 8,028,160 signs in 70 matrices, `b100`: 822,083,584 in 112; each sign flips with the same probability. Every row has a scale, of f16 in `b1` and of f32 in "
          "`b100`, and every scale moves by a normal step of 0.1 %. `--coder rice` and `--coder range` force one of the two coders for the signs, else the smaller "
          "one is taken for each tensor. The other tools take minutes for a large pair, or do not finish: they were run on the small ones.\n")
    rows = []
    for name, shape in SIZES:
        for rate in RATES:
            pair = pair_of(f"{name}-{rate:g}", shape=shape, rate=rate)
            ours = sizes(pair)
            found = other(pair) if name == "b1" else {}
            rows.append((name, percent(pair.changed / pair.weights), f"{pair.bytes:,}", f"{pair.bound():,.0f}", f"{pair.bits['scales'] / 8:,.0f}", f"{ours[0]:,}",
                         *(ceil3(n / pair.bound()) for n in ours), *times_ours(found, ours[0])))
            done_with(pair)
    table(("pair", "signs changed", "model", "bound", "of it scales", "patch", "of the bound", "`--coder rice`", "`--coder range`", *(f"{n} / ours" for n in TOOLS)), rows)


def clustered():
    print("### Changes in clusters\n")
    print("`layers`: the signs of four layers flip, the others stay. `rows`: each row has a rate of its own, log-normal with spread 1; `rowcol`: each row and each column "
          "has a factor. The bounds are those of a reader that knows one rate for all weights; one for each tensor; the rates that the pair was made with.\n")
    rows = []
    for name, shape in SIZES:
        for how in ("layers", "rows", "rowcol"):
            pair = pair_of(f"{name}-{how}", shape=shape, rate=1e-2, how=how)
            ours = sizes(pair)
            found = other(pair) if name == "b1" else {}
            one = (pair.one_rate + pair.bits["scales"]) / 8
            rows.append((f"{name} {how}", percent(pair.changed / pair.weights), f"{ours[0]:,}", ceil3(ours[0] / pair.bound_of_one_rate()), ceil3(ours[0] / one),
                         *(ceil3(n / pair.bound()) for n in ours), *times_ours(found, ours[0])))
            done_with(pair)
    table(("pair", "signs changed", "patch", "of the even bound", "of that with a rate for each tensor", "of the bound that knows the rates", "`--coder rice`", "`--coder range`",
           *(f"{n} / ours" for n in TOOLS)), rows)


def ternary():
    print("### Ternary weights\n")
    print("`t1`: 4,014,080 trits in 35 matrices, `t100`: 411,041,792 in 56; 31 % are 0, one scale a tensor moves. New trits are those of the same normal weights after a small normal "
          "step. The bound is that of where trits change, given the old trits, and of the sign of those that were 0. One pair is stored as `ternary2` and as `ternary5`.\n")
    rows = []
    for name, shape in [("t1", dp.T1)] + ([] if QUICK else [("t100", dp.T100)]):
        for stored, kind in (("ternary2", None), ("ternary5", dp.FIVES)):
            for rate in (1e-3, 1e-2):
                pair = pair_of(f"{name}-{stored}-{rate:g}", shape=shape, rate=rate, kind=dp.TRITS, stored=kind)
                ours = sizes(pair)
                found = other(pair) if name == "t1" else {}
                rows.append((f"{name} {stored}", percent(pair.changed / pair.weights), f"{pair.bytes:,}", f"{pair.bound():,.0f}", f"{ours[0]:,}",
                             *(ceil3(n / pair.bound()) for n in ours), *times_ours(found, ours[0])))
                done_with(pair)
    table(("pair", "trits changed", "model", "bound", "patch", "of the bound", "`--coder rice`", "`--coder range`", *(f"{n} / ours" for n in TOOLS)), rows)


def layout():
    print("### Another layout\n")
    print("`b1` with 0.1 % of the signs flipped, and: a layer removed, so that all behind it are renumbered; a layer of new weights inserted, which count with all their bits (16 a "
          "scale); tensors in another order; 256 rows of int8 more in the embedding, which count with the entropy of their values. The files name no tensors.\n")
    rows = []
    for name, shape in SIZES[:1]:
        for how in dp.LAYOUTS:
            pair = pair_of(f"{name}-{how}", shape=shape, rate=1e-3, how=how)
            ours = sizes(pair)
            rows.append((f"{name} {how}", f"{pair.bound():,.0f}", f"{pair.bits['new'] / 8:,.0f}", f"{ours[0]:,}", *(ceil3(n / pair.bound()) for n in ours),
                         *times_ours(other(pair), ours[0])))
            done_with(pair)
    table(("pair", "bound", "of it new", "patch", "of the bound", "`--coder rice`", "`--coder range`", *(f"{n} / ours" for n in TOOLS)), rows)


def signs_of(old, new):
    """Weights, changes and the bound in bytes of the matrices of signs in two exports of one program."""
    a, b = dp.br.Artifact(old.read_bytes()), dp.br.Artifact(new.read_bytes())
    weights = changed = bits = 0
    for t, u in zip(a.program.tensors, b.program.tensors):
        if t.kind != dp.BITS or (t.rows, t.cols, t.data_len, t.order) != (u.rows, u.cols, u.data_len, u.order):
            continue
        x, y = (int.from_bytes(f.data[v.data_at:v.data_at + v.data_len], "little") for f, v in ((a, t), (b, u)))
        n, k = t.rows * t.cols, bin(x ^ y).count("1")
        weights, changed, bits = weights + n, changed + k, bits + n * float(dp.entropy(k / n))
    return weights, changed, bits / 8


def real():
    print("### Two trained models\n")
    print("Two releases of the same intent models, really trained and fine-tuned, as packed files and as exported for a Cortex-M7. Other than signs, scales, rows of the embedding, gains, "
          "the golden trace and digests change.\n")
    folders = [(ROOT / "fixtures/models" / m, [p for p in (ROOT / "fixtures/models", SHARED / "models") if (p / f"{m}-v0.4.3/config.json").exists()])
               for m in ("intent-w1a2", "intent-b158")]
    rows = []
    for model, newer in folders:
        if not newer:
            rows.append((model.name, "not run: no v0.4.3 here"))
            continue
        files = {}
        for version, folder in (("old", model), ("new", newer[0] / f"{model.name}-v0.4.3")):
            files[version] = Path(TMP.name) / f"{version}.bitnet", Path(TMP.name) / f"{version}-m7/model.bin"
            Run([BIN, "export", "-q", "--model", folder, "--format", "packed", "-o", files[version][0]]).must("export")
            Run([BIN, "export", "-q", "--model", folder, "--target", "cortex-m7", "-o", files[version][1].parent]).must("export")
        for i, what in enumerate(("packed file", "device image")):
            pair = dp.Pair(files["old"][i], files["new"][i])
            ours = sizes(pair)
            weights, changed, bound = signs_of(pair.old, pair.new)
            size = pair.new.stat().st_size
            rows.append((model.name, what, f"{size:,}", f"{changed:,} of {weights:,}", f"{bound:,.0f}" if weights else "", f"{ours[0]:,}", f"{size / ours[0]:.2f}",
                         *times_ours(other(pair), ours[0])))
    table(("model", "form", "bytes", "signs changed", "bound of the signs", "patch", "model / patch", *(f"{n} / ours" for n in TOOLS)), rows)


def billion():
    print("### A billion weights in 12 MB\n")
    print("1,000,079,360 signs in 20 layers (d 2048, ffn 5408), all f16 row scales moved; the embedding, 32,000 rows of int8, is frozen.\n")
    if QUICK:
        print("not run with --quick\n")
        return
    rows = []
    for rate in (1.1e-2, 1.2e-2, 1.25e-2):
        pair = pair_of(f"billion-{rate:g}", shape=dp.BILLION, rate=rate)
        patch = Path(TMP.name) / "billion.bdelta"
        ran = Run([BIN, "delta", "create", pair.old, pair.new, "-o", patch, "--model", "bench", "--from-version", "0.1.0", "--to-version", "0.2.0", "--max-size", "12000000"])
        if ran.code == 0:
            apply(pair, patch)
            rows.append((f"{pair.weights:,}", percent(pair.changed / pair.weights), f"{pair.bytes:,}", f"{pair.bound():,.0f}", f"{patch.stat().st_size:,}",
                         ceil3(patch.stat().st_size / pair.bound()), "taken"))
        else:
            made, _ = create(pair)
            rows.append((f"{pair.weights:,}", percent(pair.changed / pair.weights), f"{pair.bytes:,}", f"{pair.bound():,.0f}", f"{made.stat().st_size:,}",
                         ceil3(made.stat().st_size / pair.bound()), f"refused, exit code {ran.code}"))
        patch.unlink(missing_ok=True)
        done_with(pair)
    table(("signs", "changed", "model", "bound", "patch", "of the bound", "with `--max-size 12000000`"), rows)


def plain(path, times):
    """CPU seconds of SHA-256 and of cp, of the bytes of a file, and with them the tools' names."""
    data = path.read_bytes()

    def hashing():
        began = time.process_time()
        hashlib.sha256(data).digest()
        return time.process_time() - began

    copy = Path(TMP.name) / "copy"
    copied = least(lambda: (copy.unlink(missing_ok=True), Run(["cp", path, copy]).must("cp"))[1], times).cpu
    copy.unlink()
    return min(hashing() for _ in range(times)), copied


def speed():
    print("### Speed and memory\n")
    print("MB of the target per second of CPU time, all threads of the process together, best of several runs; everything in it: digests of base, target and patch, reading, writing. Speed of SHA-256 "
          "is that of one pass of OpenSSL over the same bytes, `cp` copies the same file; both in the same run, also as CPU time. Peak RSS is that of the whole process.\n")
    name, shape = SIZES[-1]
    times = 3 if QUICK else 5
    rows = []
    for rate in (*RATES, 0.0):
        pair = pair_of(f"{name}-{rate:g}", shape=shape, rate=rate) if rate else pair_of(f"{name}-0.0001", shape=shape, rate=1e-4)
        if not rate:
            pair.new = pair.old
        mb = pair.old.stat().st_size / 1e6
        hashed, copied = plain(pair.new, times)
        for coder in ("rice", "range") if rate else ("auto",):
            patch, made = create(pair, coder, times)
            ran = apply(pair, patch, times)
            rows.append((name, percent(pair.changed / pair.weights) if rate else "the same file", coder, f"{patch.stat().st_size:,}", f"{mb / made.cpu:,.0f} MB/s", f"{made.rss:.1f} MB",
                         f"{mb / ran.cpu:,.0f} MB/s", f"{hashed / ran.cpu:.3f}", f"{copied / ran.cpu:.3f}", f"{ran.rss:.1f} MB"))
            patch.unlink()
        print(f"<!-- {rate}: SHA-256 {mb / hashed:,.0f} MB/s, cp {mb / copied:,.0f} MB/s -->")
        if rate != 1e-4:
            done_with(pair)
    table(("pair", "signs changed", "coder", "patch", "create", "peak RSS", "apply", "speed / SHA-256's", "speed / `cp`'s", "peak RSS"), rows)


def version(*args):
    """The first number that a tool prints of itself."""
    said = subprocess.run(args, capture_output=True, text=True)
    return (re.findall(r"\d+(?:\.\d+)+", said.stdout + said.stderr) or ["?"])[0]


if __name__ == "__main__":
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    print("## Patches\n")
    print(f"Made by `make bench-delta` on {cpu}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}; bsdiff 4.3, xdelta3 {version('xdelta3', '-V')} (`-9 -S lzma`, window of the "
          f"whole base), zstd {version('zstd', '--version')} (`-19 --long=31 --patch-from`).\n")
    print("*Bound*: the entropy of what changes for a reader of the old file: N * H(k/N) bits for k of N signs, tensor by tensor, and of the scales that of a rounded normal step "
          "(2.5 bits each for f16, 15.5 for f32). Everything else, such as header, index, digests and what the new digests of the file itself cost, is overhead. Ratios are rounded up. "
          "A column *tool / ours* says how many times larger the tool's patch of the same two files is. Every patch was applied and compared.\n")
    wanted = [a for a in ARGS[1:] if not a.startswith("--")]
    for part in (uniform, clustered, ternary, layout, real, billion, speed):
        if not wanted or part.__name__ in wanted:
            part()
