#!/usr/bin/env python3
"""The figures of docs/benchmarks.md: fidelity, accuracy, what each width of the cache costs, instructions on an emulated Cortex-M7, host speed.

usage: bench.py BINARY [--quick] [PART ...]   parts: fidelity architectures flips accuracy heads cache cortex_m7 targets kernels host convert adapters tokenizers long_texts

Prints Markdown.  Instruction counts are exact and the same on every machine; host speed is a ratio within one run.
Data that may not be in the project (HWU64, the held-out tales) is looked for in $BITNET_SHARED, default ../shared; what is missing is a line "not run".
"""
import hashlib, json, os, platform, random, re, resource, shutil, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("BITNET_SHARED", ROOT.parent / "shared"))
MODELS = ROOT / "fixtures/models"
GOLDEN = ROOT / "fixtures/golden"
BIN, QUICK = sys.argv[1], "--quick" in sys.argv
TMP = tempfile.TemporaryDirectory()


def tool(*args, env=None):
    out = subprocess.run([BIN, *map(str, args)], capture_output=True, text=True, env={**os.environ, **(env or {})})
    if out.returncode not in (0, 1):
        sys.exit(f"{args}: {out.stderr}")
    return out.stdout


def packed(model, *flags):
    path = Path(TMP.name) / "model.bitnet"
    tool("export", "-q", "--model", model, "--format", "packed", "-o", path, *flags)
    return path


def evaluate(path, *flags, env=None):
    return json.loads(tool("eval", path, "--json", *flags, env=env))


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rows:
        print("| " + " | ".join(str(c) for c in r) + " |")
    print()


def fidelity():
    print("## Distance from the float model\n")
    print("Golden logits of the checkpoint in float32 with its own fake-quantizers (transformers), against the integer program with a 16-bit cache.\n")
    rows = []
    cases = [(MODELS / m, []) for m in ("intent-w1a2", "intent-b158", "stories-b158")]
    names = ("bitnet_1bitllm_like", "bitnet_online_bf16", "bitnet_packed_2b4t_like", "llama_bitlinear_packed_falcon_e_like", "llama_bitlinear_rmsnorm")
    cases += [(GOLDEN / n, []) for n in names]
    for folder, flags in cases:
        for bits in ("16", "8"):
            if folder.name == "intent-w1a2" and bits == "16":
                continue  # trained with int8 rows
            g = evaluate(packed(folder, "--embedding-bits", bits), "--golden", folder / "golden.safetensors")["golden"]
            rows.append((folder.name, bits, f"{g['mean_kl']:.2e}", f"{g['same_top1']} of {g['positions']}", g["different_not_near_tie"],
                         f"{g['worst_logit_difference']:.4f}"))
    table(("checkpoint", "embedding bits", "mean KL per token", "same top 1", "others no near tie", "worst logit difference"), rows)


def architectures():
    print("## Every architecture and low-bit form\n")
    print("Outputs of transformers in float32 for tiny random checkpoints, against the integer program: with the checkpoint's own rule where it was trained "
          "for low bits (weight-only forms get 16-bit activations), else 16-bit rows and 16-bit activations. The cache has 16 bits. Encoders: cosine of the "
          "pooled vectors. `tests/lowering_golden.rs` holds bounds for these and compares the exported C with the host, integer by integer.\n")
    rows = []
    found = {c.parent.name: c.parent for c in [*SHARED.glob("golden/*/golden.safetensors"), *GOLDEN.glob("*/golden.safetensors")]}
    for name, folder in sorted(found.items()):
        path = Path(TMP.name) / "model.bitnet"
        for rule, flags in (("own", []), ("16 bits", ["--quantize-weight", "16", "--quantize-activation", "16"])):
            made = subprocess.run([BIN, "export", "-q", "--model", folder, "--format", "packed", "-o", path, *flags], capture_output=True, text=True)
            if made.returncode == 0 or "the settings must be given" not in made.stderr:
                break
        if made.returncode != 0:
            rows.append((name, "not lowered", made.stderr.split(":", 1)[1].split("\n")[0].strip(), ""))
            continue
        seen = subprocess.run([BIN, "eval", path, "--json", "--golden", folder / "golden.safetensors"], capture_output=True, text=True)
        if seen.returncode != 0:
            rows.append((name, rule, "no output to compare with", ""))
            continue
        seen = json.loads(seen.stdout)
        g = seen["golden"]
        rows.append((name, rule, f"KL {g['mean_kl']:.1e}", f"{g['same_top1']} of {g['positions']}") if g
                    else (name, rule, f"cosine {seen['embedding']['worst_cosine']:.9f}", ""))
    print("Of `bert_base` the texts have two segments; a program computes texts of one, so that row says how much the second segment matters.\n")
    table(("checkpoint", "rule", "distance", "same top 1"), rows)


def flips():
    print("## Flipped activation codes\n")
    print("Codes of all QUANTIZE operations of the layers on the golden prompts that differ from a float64 forward (`tools/flips.py`).\n")
    try:
        import numpy  # noqa: F401
    except ImportError:
        print("not run: needs numpy\n")
        return
    rows = []
    for m in ("intent-w1a2", "intent-b158", "stories-b158"):
        for bits in ("16", "8"):
            if m == "intent-w1a2" and bits == "16":
                continue
            path = packed(MODELS / m, "--embedding-bits", bits)
            r = json.loads(subprocess.run([sys.executable, ROOT / "tools/flips.py", MODELS / m, path], capture_output=True, text=True, check=True).stdout)
            rows.append((m, bits, f"{r['codes']:,}", f"{r['flips']:,}", f"{100 * r['flips'] / r['codes']:.3f} %", r["largest"]))
    table(("checkpoint", "embedding bits", "codes", "flipped", "share", "largest step"), rows)


def accuracy():
    mcu = ["--kv-bits", "16", "--kv-window", "32", "--kv-sinks", "4", "--embedding-bits", "8"]
    print("## Accuracy of the intent models\n")
    rows = []
    for m in ("intent-w1a2", "intent-b158"):
        metrics = json.loads((MODELS / m / "metrics.json").read_text())
        for data, file in (("sensor", MODELS / m / "eval_sensor.jsonl"), ("hwu64", SHARED / "models" / m / "eval_hwu64.jsonl")):
            if not file.exists():
                rows.append((m, data, f"{100 * metrics[data + '_accuracy']:.2f} %", "not run: file not here", ""))
                continue
            for name, flags in (("16-bit cache", []), ("Cortex-M7 default: window 32, int8 rows", mcu),
                                ("the same with `--kv-window 48`", [*mcu[:3], "48", *mcu[4:]]),
                                ("the same with `--kv-bits 8`", ["--kv-bits", "8", *mcu[2:]])):
                a = evaluate(packed(MODELS / m, *flags), "--tasks", file)["tasks"]
                rows.append((m, f"{data} ({a['items']})", f"{100 * metrics[data + '_accuracy']:.2f} %", name, f"{100 * a['accuracy']:.2f} %"))
    table(("model", "test set", "float fake-quant", "program", "accuracy"), rows)


def heads():
    print("## What the head costs\n")
    print("Cortex-M7 settings (window 32, embedding of int8 rows) with `--head`; the last two lines of a model with `--embedding-bits 4`, which the head shares.\n")
    text = SHARED / "data/tales_heldout.txt"
    cut = Path(TMP.name) / "text.txt"
    if text.exists():
        cut.write_text(text.read_text()[: 20_000 if QUICK else None])
    rows = []
    mcu = ["--kv-window", "32", "--kv-sinks", "4"]
    forms = [(("--embedding-bits", "8", "--head", h), f"{h}, embedding int8") for h in ("int16", "int8", "int4", "planes4")]
    forms += [(("--embedding-bits", "4"), "int4, with the embedding"), (("--embedding-bits", "4", "--head", "planes4"), "planes4, with the embedding")]
    for m in ("intent-w1a2", "intent-b158", "stories-b158"):
        for flags, name in forms:
            path = packed(MODELS / m, *mcu, *flags)
            tensors = json.loads(tool("inspect", "--json", path))["tensors"]
            size = sum(t["bytes"] for t in tensors if t["name"] in ("embedding", "head"))
            if m == "stories-b158":
                result = f"perplexity {evaluate(path, '--text', cut)['text']['perplexity']:.3f}" if text.exists() else "not run: the held-out text is not here"
            else:
                a = evaluate(path, "--tasks", MODELS / m / "eval_sensor.jsonl")["tasks"]
                result = f"{100 * a['accuracy']:.2f} % of {a['items']}"
            rows.append((m, name, f"{size:,}", result))
    table(("model", "head", "bytes of head and embedding", "sensor test set, or held-out text"), rows)


def cache():
    print("## What the cache costs\n")
    text = SHARED / "data/tales_heldout.txt"
    if not text.exists():
        print("not run: the held-out text is not here\n")
        return
    cut = Path(TMP.name) / "text.txt"
    cut.write_text(text.read_text()[: 20_000 if QUICK else None])
    metrics = json.loads((MODELS / "stories-b158/metrics.json").read_text())
    print(f"stories-b158 on held-out text, windows of 256 tokens; float fake-quant: {metrics['heldout_perplexity_from_saved_bf16']:.2f}.\n")
    rows = []
    for bits, window, sinks in (("16", "256", "4"), ("8", "256", "4"), ("4", "256", "4"), ("16", "32", "4"), ("8", "32", "4"), ("4", "32", "4"), ("16", "32", "0")):
        p = evaluate(packed(MODELS / "stories-b158", "--kv-bits", bits, "--kv-window", window, "--kv-sinks", sinks), "--text", cut)["text"]
        rows.append((bits, window, sinks, f"{p['perplexity']:.3f}"))
    table(("bits", "slots", "sinks", "perplexity"), rows)


HEAD = "head (int8 rows)"
GROUPS = [  # first match wins; names of functions of the runtime
    ("BitLinear", r"rows8|rows16|planes_|bn_planes|range_total|lookup|bn_table|by_tables|bits8|bits16|digits|spread|fill$|byte_of|five_codes|select_|by_rows|finish|subset|block|grouped|pair|bn_linear|code_at|plain|wide"),
    (HEAD, r"rows_|row_int|by_int4|bn_logits"),
    ("RMSNORM", r"bn_rmsnorm"),
    ("QUANTIZE", r"bn_quantize|quantize_two|bn_code|bn_divide"),
    ("attention and cache", r"attend|rotate|write_|put_code|score|weigh|soften|prepare|angles|bn_kv|dot_i|thirty|bn_exp2n|bn_sin"),
    ("feed-forward product", r"relu2|silu"),
    ("ADD, EMBED", r"bn_add$|bn_embed|bn_times"),
    ("scales and the rest", r"."),
]


def count(elf, plugin, args):
    out = Path(TMP.name) / "count.txt"
    semihosting = "enable=on,target=native,chardev=out,arg=firmware,arg=" + args.replace(",", ",,")
    subprocess.run(["qemu-system-arm", "-M", "mps2-an500", "-display", "none", "-monitor", "none", "-serial", "null", "-chardev", "stdio,id=out",
                    "-plugin", f"{plugin},out={out}", "-semihosting-config", semihosting, "-kernel", elf], check=True, capture_output=True)
    counts = {}
    for line in out.read_text().splitlines():
        n, name = line.split()[:2]
        counts[name] = int(n)
    return counts


def cortex_m7():
    print("## Cortex-M7: instructions per token, flash, RAM\n")
    print("Counted by a QEMU plugin on mps2-an500, firmware as exported (`-O2` for the kernels, `-Os` else, gcc), token at position 20 with logits. "
          "Exact and repeatable; cycles, caches and flash wait states need a board.\n")
    plugin = Path(TMP.name) / "inscount.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", plugin, ROOT / "tools/inscount.c"], check=True)
    summary, details = [], {}
    for m in ("intent-w1a2", "intent-b158", "stories-b158"):
        folder = Path(TMP.name) / f"m7-{m}"
        plan = json.loads(tool("export", "--json", "--model", MODELS / m, "--target", "cortex-m7", "-o", folder))["plan"]
        subprocess.run(["make", "-s", "-C", folder, "emulator", "MACHINE=mps2-an500"], check=True, capture_output=True)
        subprocess.run(["make", "-s", "-C", folder], check=True, capture_output=True)
        elf = folder / "build/mps2-an500.elf"
        ids = [str(3 + 7 * i) for i in range(22)]
        # 21 tokens against 20: the difference is the body of one token. Each run computes the head once, for its last token.
        long, short = count(elf, plugin, "token " + ",".join(ids[:21])), count(elf, plugin, "token " + ",".join(ids[:20]))
        groups = {name: 0 for name, _ in GROUPS}
        for k, n in long.items():
            if k != "total":
                group = next(name for name, p in GROUPS if re.search(p, k))
                groups[group] += n if group == HEAD else n - short.get(k, 0)
        total = sum(groups.values())
        weights = plan["low_bit_weights"]
        size = subprocess.run(["arm-none-eabi-size", "-A", folder / "build/firmware.elf"], capture_output=True, text=True, check=True).stdout
        text = sum(int(line.split()[1]) for line in size.splitlines() if line.startswith((".text", ".vectors")))
        flash, ram = ({u["memory"]: u for u in plan["usage"]}[k] for k in ("flash", "ram"))
        summary.append((m, f"{total:,}", f"{groups['BitLinear'] / weights:.3f}", f"{100 * (1 - groups['BitLinear'] / total):.1f} %",
                        f"{plan['file_bytes']:,}", f"{text:,}", f"{flash['total']:,}", f"{ram['total']:,}"))
        details[m] = groups
    table(("model", "instructions per token", "BitLinear per weight", "not BitLinear", "model.bin", "code", "flash planned", "RAM planned"), summary)
    table(("part", *details), [(name, *(f"{g[name]:,}" for g in details.values())) for name, _ in GROUPS])


EVERYWHERE = [(MODELS / m, []) for m in ("intent-w1a2", "intent-b158", "stories-b158")]
EVERYWHERE += [(GOLDEN / m, ["--quantize-activation", "8", "--quantize-weight", "1.58"]) for m in ("llama", "qwen3", "phi", "bert_mlm")]


def targets():
    reports = {}
    for folder, flags in EVERYWHERE:
        out = Path(TMP.name) / "everywhere"
        tool("export", "-q", "--model", folder, "--target", "cortex-m7", "-o", out, *flags)
        reports[folder.name] = json.loads(tool("verify", out, "--target", "all", "--json"))
        shutil.rmtree(out)
    print_targets(reports)


def print_targets(reports):
    print("## Every target: instructions per token\n")
    print("`verify --target all` of models exported for the Cortex-M7: one artifact each, the same integers after every operation on every row, or the cell says what went wrong. "
          "One more token with its logits, start-up excluded, of an encoder one more token of the text (`-`: not counted there); QEMU's plugin, for WebAssembly wasmi's fuel; exact and repeatable. An export "
          "for another target may choose other kernels. The golden models have random weights, as 1.58 bits with 8-bit activations. No emulator shows cycles.\n")
    first = next(iter(reports.values()))
    rows = []
    for i, r in enumerate(first["rows"]):
        cells = [report["rows"][i] for report in reports.values()]
        good = lambda c: f"{c['instructions_per_token']:,}" if c["instructions_per_token"] else "-"
        rows.append((r["runner"], r["emulator"], *(good(c) if c["result"] == "equal" else c["result"] for c in cells)))
    table(("target", "emulator", *reports), rows)
    table(("model", "tokens", "operations compared on each row", "rows equal"), [
        (name, r["tokens"], f"{r['operations_compared']:,}", f"{sum(c['result'] == 'equal' for c in r['rows'])} of {len(r['rows'])}") for name, r in reports.items()])


def kernels():
    print("## Instructions per weight of each kernel\n")
    print("512 x 512, first use (tables or planes built) / further use with the same input; see tools/kernels.py.\n")
    out = subprocess.run([sys.executable, ROOT / "tools/kernels.py", "table"], capture_output=True, text=True)
    print((out.stdout or out.stderr).strip() + "\n")


def host():
    print("## Host: kernels against each other\n")
    file = MODELS / "stories-b158"
    path = packed(file)
    rows = []
    speeds = {}
    for kernel in ("scalar", "avx2"):
        best = 0.0
        for _ in range(3):
            out = subprocess.run([BIN, "run", path, "--prompt", "Once upon a time", "--greedy", "--max-new-tokens", "200"], capture_output=True, text=True,
                                 env={**os.environ, "BITNET_KERNEL": kernel})
            found = re.search(r"at ([\d.]+) tokens/s \((\w+) kernel", out.stderr)
            if found and found.group(2) == kernel:
                best = max(best, float(found.group(1)))
        speeds[kernel] = best
    for kernel, s in speeds.items():
        rows.append((kernel, f"{s / speeds['scalar']:.1f}" if s else "not run: not on this machine"))
    print("Tokens per second of stories-b158, best of three, as a multiple of the scalar definition in the same run; one thread.\n")
    table(("kernel", "times scalar"), rows)


def memory(pid):
    """Peak resident set, and what of the present one is no page of a file, in MB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = [re.search(rf"{k}:\s+(\d+) kB", status) for k in ("VmHWM", "RssAnon")]
    return tuple(int(f.group(1)) / 1000 for f in found) if all(found) else None


def convert():
    print("## Conversion of a large checkpoint\n")
    try:
        import numpy  # noqa: F401
    except ImportError:
        print("not run: needs numpy\n")
        return
    size = 1 if QUICK else 4
    if shutil.disk_usage(TMP.name).free < 1.5e9 * size:
        print("not run: not enough space for temporary files\n")
        return
    folder = Path(TMP.name) / "big"
    said = subprocess.run([sys.executable, ROOT / "tools/big_checkpoint.py", folder, str(size), "--layers", "1" if QUICK else "3"],
                          capture_output=True, text=True, check=True).stdout.strip()
    shards = sorted(folder.glob("*.safetensors"))
    total = sum(s.stat().st_size for s in shards)

    def cat():
        began = time.monotonic()
        with open(os.devnull, "wb") as null:
            subprocess.run(["cat", *shards], stdout=null, check=True)
        return total / 1e9 / (time.monotonic() - began)

    cat()
    reading = max(cat() for _ in range(3))
    print(f"bf16 masters, {said}; the files are in the page cache, `cat` of them to /dev/null runs at {reading:.1f} GB/s. The weights stage reads all "
          "weights twice, once for the scale of a tensor and once for its codes, and writes and hashes the result; peak memory is that of the "
          "process until the stage ends, with the mapped pages of the checkpoint.\n")
    rows, seen = [], set()
    for threads in sorted({1, os.cpu_count()}):
        out = Path(TMP.name) / "big.bitnet"
        began = time.monotonic()
        p = subprocess.Popen([BIN, "export", "-q", "--json", "--model", folder, "--format", "packed", "-o", out, "--kv-window", "64"],
                             stdout=subprocess.PIPE, text=True, env={**os.environ, "BITNET_THREADS": str(threads)})
        samples = []
        while p.poll() is None:
            samples.append((time.monotonic() - began, memory(p.pid)))
            time.sleep(0.02)
        wall = time.monotonic() - began
        stage = json.loads(p.stdout.read())["written"]["weights_seconds"]
        during = [m for at, m in samples if m and at < stage]
        seen.add(hashlib.sha256(out.read_bytes()).hexdigest())
        speed = total / 1e9 / stage
        rows.append((threads, f"{speed:.2f} GB/s", f"{speed / reading:.2f}", f"{max(m[0] for m in during):.0f} MB", f"{max(m[1] for m in during):.0f} MB",
                     f"{wall:.0f} s"))
        out.unlink()
    table(("threads", "weights stage", "of `cat`", "peak resident", "of it not file pages", "whole export with calibration and trace"), rows)
    print("The files are the same, byte for byte.\n" if len(seen) == 1 else "**The files differ.**\n")
    shutil.rmtree(folder)


print("# Benchmarks\n")
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
print(f"Made by `make bench` on {cpu}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}; "
      + subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
      + "; " + subprocess.run(["qemu-system-arm", "--version"], capture_output=True, text=True).stdout.splitlines()[0] + ".\n")
def tokenizers():
    print("## Tokenizers\n")
    print("What `tokenizer pack` makes of tokenizer files, and the RAM that a device needs to encode with it besides the text and its ids. Source: the bytes of the "
          "files that hold the tokenizer (the smaller form where there are several). The first rows are public tokenizers (`shared/tokenizers`), the others those of "
          "`fixtures/tokenizers`, trained for the tests.\n")
    kinds = {0: "BPE of bytes", 1: "BPE of characters", 2: "unigram", 3: "WordPiece"}
    # the files of one form of a tokenizer, the forms from small to large
    forms = [("tokenizer.model",), ("spiece.model",), ("vocab.txt",), ("vocab.json", "merges.txt", "tokenizer_rest.json"), ("tokenizer.json",)]
    rows = []
    folders = sorted(p.parent for p in SHARED.glob("tokenizers/*/golden.json")), sorted(p.parent for p in (ROOT / "fixtures/tokenizers").glob("*/golden.json"))
    for folder in [f for group in folders for f in group]:
        found = [sum((folder / n).stat().st_size for n in form if (folder / n).exists()) for form in forms]
        source = min((n for n in found if n), default=0)
        blob = Path(TMP.name) / "tokenizer.bin"
        made = subprocess.run([BIN, "tokenizer", "pack", "--json", "--model", folder, "-o", blob], capture_output=True, text=True)
        if made.returncode != 0:
            rows.append((folder.name, "", "", "not compiled: " + made.stderr.split("\n")[0].removeprefix("error: "), "", "", "", "", ""))
            continue
        m = json.loads(made.stdout)
        sections = {s["name"]: s["bytes"] for s in m["sections"]}
        tables = sum(sections.get(n, 0) for n in ("classes", "normalizer"))
        rows.append((folder.name, kinds[blob.read_bytes()[22]], f"{m['vocabulary']:,}", f"{m['bytes']:,}", f"{m['bytes'] / m['vocabulary']:.2f}", f"{tables:,}",
                     f"{m['work_bytes']:,}", f"{source:,}", f"{source / m['bytes']:.1f}"))
    if not folders[0]:
        rows.append(("public tokenizers", "", "", "not run: no `shared/tokenizers`", "", "", "", "", ""))
    table(("tokenizer", "kind", "entries", "bytes", "an entry", "of these Unicode tables", "RAM to encode", "source", "smaller by"), rows)


def long_texts():
    print("## Long texts\n")
    print("CPU seconds of `tokenizer encode --engine device` for 1 MB of one thing repeated, in brackets those for 1 MB divided by 4 times those for 250 KB: 1 is linear, 4 would be quadratic. "
          "Such texts are one word, one run of marks or nothing but candidates that fail; the time to start is taken off.\n")
    letters = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)).encode()
    units = {"one letter": "a", "random letters": letters, "spaces": " ", "new lines": "\n", "digits": "1", "letter and three marks": "a\u0301\u0323\u0316", "marks only": "\u0301\u0316",
             "a ligature of 18 letters": "\ufdfa", "emoji joined": "\U0001f469\u200d", "U+2581": "\u2581", "Han": "\u4e2d", "Hangul jamo": "\u1100\u1161\u11a8",
             "half of a special token": "<|im_", "no UTF-8": b"\xff\x80"}
    text, blob = Path(TMP.name) / "long.txt", Path(TMP.name) / "long.bin"

    def seconds(data):
        text.write_bytes(data)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        tool("tokenizer", "encode", blob, "--engine", "device", "--file", text, "-q", "--json")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    models = ("bytes-gpt2", "bytes-qwen", "spm-bpe-nmt-nfkc", "spm-unigram-nfkc", "wordpiece-uncased")
    cells = {what: [] for what in units}
    for m in models:
        tool("tokenizer", "pack", "-q", "--model", ROOT / "fixtures/tokenizers" / m, "-o", blob)
        start = min(seconds(b"a") for _ in range(3))
        for what, unit in units.items():
            unit = unit.encode() if isinstance(unit, str) else unit
            quarter, whole = (max(min(seconds(unit * (n // len(unit)) or unit[:n]) for _ in range(3)) - start, 0.001) for n in (250_000, 1_000_000))
            cells[what].append(f"{whole:.2f} ({whole / (4 * quarter):.2f})")
    table(("text", *models), [(what, *row) for what, row in cells.items()])


def adapters():
    print("## Adapters\n")
    base, lora = MODELS / "intent-w1a2", MODELS / "intent-w1a2-lora-irrigation"
    print("`intent-w1a2` with the LoRA adapter that teaches it `irrigation_schedule` (20 held-out utterances, one is 5 points) and its other test set (sensor). Kept: share of the "
          "energy of the adapter's output. KL: of the first token of the answer, against the float reference with the float adapter. Calibrated with the built-in text.\n")
    model = Path(TMP.name) / "adapter-base.bitnet"
    tool("export", "-q", "--model", base, "-o", model)
    tasks = {"irrigation": Path(TMP.name) / "irrigation.jsonl", "sensor": Path(TMP.name) / "sensor.jsonl"}
    lines = [json.loads(l) for l in (lora / "eval_sensor.jsonl").read_text().splitlines() if l.strip()]
    for name, path in tasks.items():
        wanted = [l for l in lines if (l["expected"] == "irrigation_schedule") == (name == "irrigation")]
        path.write_text("".join(json.dumps(l) + "\n" for l in wanted))
    bits = Path(TMP.name) / "lora-bits.bin"

    def measured(*flags):
        found = {}
        for name, path in tasks.items():
            for c in evaluate(model, "--tasks", path, "--base", base, "--lora", lora, *flags)["comparison"]:
                found.setdefault(c["what"], {})[name] = c
        return found

    def row(what, size, kept, c):
        return (what, size, kept, *(f"{100 * c[n]['accuracy']['accuracy']:.2f} %" for n in tasks), *(f"{c[n]['mean_kl']:.3f}" for n in tasks))

    rows = []
    cases = [["--bits", b] for b in "1248"] + [["--bits", b, "--max-size", size] for size in ("4K", "8K", "16K") for b in "124"]
    for flags in cases:
        made = json.loads(tool("adapter", "--json", "--base", base, "--lora", lora, "-o", bits, *flags))
        found = measured("--adapter", bits)
        if not rows:
            rows += [row("without", "", "", found["without adapter"]),
                     row("float adapter (f32)", f"{made['float_bytes']:,}", "100 %", found["float adapter"])]
        rows.append(row(f"`{' '.join(flags)}`", f"{made['file_bytes']:,}", f"{100 * made['energy']:.1f} %", found["low-bit adapter"]))
    table(("adapter", "bytes", "kept", "irrigation", "sensor", "KL irrigation", "KL sensor"), rows)


PARTS = (fidelity, architectures, flips, accuracy, heads, cache, cortex_m7, targets, kernels, host, convert, adapters, tokenizers, long_texts)
WANTED = [a for a in sys.argv[2:] if not a.startswith("--")]
for part in PARTS:
    if WANTED and part.__name__ not in WANTED:
        continue
    part()
    sys.stdout.flush()
