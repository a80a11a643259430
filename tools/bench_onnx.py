#!/usr/bin/env python3
"""The section on ONNX of docs/benchmarks.md: size, load time, memory and speed of each profile against the others.

usage: bench_onnx.py BINARY [--layers N] [--packages FOLDER]

Makes a random model with the shapes of a model of two billion weights but few layers, exports it in each profile, and runs each file in a process
of its own in ONNX Runtime (FOLDER, default build/python-onnx/new) on one thread.  Prints Markdown.  Times are the least of several runs; only their
ratios mean something on another machine.
"""
import json, os, platform, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHAPE = "2560,20,5,128,6912"
PREFILL, TOKENS, REPEATS = 64, 12, 8
VARIANTS = [
    ("`std`", "--profile std"),
    ("`std --weights int4`", "--profile std --weights int4"),
    ("`std --weights int2`", "--profile std --weights int2"),
    ("`std --norm f32`", "--profile std --norm f32"),
    ("`int`", "--profile int"),
    ("`ort`", "--profile ort"),
    ("`ort --weights int2`", "--profile ort --weights int2"),
    ("`ort --exact`", "--profile ort --exact"),
]


def option(name, otherwise):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


def resident(field):
    """VmRSS or VmHWM of this process in MB."""
    line = next(l for l in open("/proc/self/status") if l.startswith(field))
    return int(line.split()[1]) / 1024


def prompt_of(tokens):
    return [(17 * i + 3) % 8000 for i in range(tokens)]


def measure(file):
    """One file, in this process: what the parent prints."""
    import numpy, onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    before, cpu, wall = resident("VmRSS"), time.process_time(), time.time()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    load_cpu, load, loaded = time.process_time() - cpu, time.time() - wall, resident("VmRSS") - before
    types = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(float16)": "float16"}
    inputs, outputs = session.get_inputs(), [o.name for o in session.get_outputs()]
    caches = [i for i in inputs if i.name.startswith("past_key_values.")]
    empty = {i.name: numpy.zeros((1, i.shape[1], 0, i.shape[3]), types[i.type]) for i in caches}

    def step(ids, cache, seen):
        given = {"input_ids": numpy.array([ids], "int64"), "attention_mask": numpy.ones((1, seen + len(ids)), "int64"), **cache}
        start = time.process_time()
        got = dict(zip(outputs, session.run(None, given)))
        took = time.process_time() - start
        return took, {name: got["present." + name[len("past_key_values."):]] for name in cache}

    prompt = prompt_of(PREFILL)
    prefill, token = 1e9, 1e9
    for _ in range(REPEATS):
        took, cache = step(prompt, empty, 0)
        prefill = min(prefill, took)
        for i in range(TOKENS):
            took, cache = step([5 + i], cache, PREFILL + i)
            token = min(token, took)
    print(json.dumps({
        "load": load, "load_cpu": load_cpu, "loaded_mb": loaded, "peak_mb": resident("VmHWM") - before,
        "token_ms": 1e3 * token, "prefill_ms": 1e3 * prefill, "runtime": onnxruntime.__version__,
    }))


def own_runtime(packed):
    """Milliseconds of the host runtime on one thread for a token, the mean of 2 * PREFILL after the first: it takes a prompt one by one, too."""
    env, least = {**os.environ, "BITNET_THREADS": "1"}, {1: 1e9, 2 * PREFILL + 1: 1e9}
    for _ in range(REPEATS):
        for tokens in least:
            ids, before = ",".join(map(str, prompt_of(tokens))), os.times()
            subprocess.run([sys.argv[1], "logits", "-q", packed, "--input-ids", ids], env=env, check=True, stdout=subprocess.DEVNULL)
            now = os.times()
            least[tokens] = min(least[tokens], now.children_user + now.children_system - before.children_user - before.children_system)
    return 1e3 * (least[2 * PREFILL + 1] - least[1]) / (2 * PREFILL)


def tool(*args):
    start = time.time()
    done = subprocess.run([sys.argv[1], *map(str, args)], capture_output=True, text=True)
    return (time.time() - start, None) if done.returncode == 0 else (0, done.stderr.strip().splitlines()[0])


def cpu_name():
    names = [l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    return names[0] if names else platform.machine()


def main():
    packages = Path(option("--packages", ROOT / "build/python-onnx/new"))
    layers = option("--layers", "4")
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        subprocess.run([sys.executable, ROOT / "tools/big_checkpoint.py", tmp / "model", "--shape", SHAPE, "--layers", layers], check=True, stdout=subprocess.DEVNULL)
        packed = tmp / "model.bitnet"
        _, error = tool("export", "-q", "--model", tmp / "model", "--format", "packed", "--kv-window", "512", "-o", packed)
        if error:
            sys.exit(error)
        rows, runtime = [], ""
        for title, flags in VARIANTS:
            file = tmp / "model.onnx"
            took, error = tool("export", "-q", "--model", packed, "--format", "onnx", *flags.split(), "-o", file)
            if error:
                rows.append((title, None, error))
                continue
            sizes = [os.path.getsize(f) for f in (file, f"{file}.data")]
            env = {**os.environ, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
            run = subprocess.run([sys.executable, __file__, "--measure", file], capture_output=True, text=True, env=env)
            if run.returncode != 0:
                rows.append((title, None, run.stderr.strip().splitlines()[-1]))
                continue
            m = json.loads(run.stdout)
            m["mb"], m["graph_kb"], m["export"] = sum(sizes) / 1e6, sizes[0] / 1e3, took
            runtime = m["runtime"]
            rows.append((title, m, None))
        own, own_token = packed.stat().st_size / 1e6, own_runtime(packed)
    base = next(m for title, m, _ in rows if m)
    print("## ONNX: the profiles against each other\n")
    print(f"A random model with {layers} layers of hidden 2560, 20 heads (5 for keys and values) of 128, feed-forward 6912 and a vocabulary of 8192; its "
          f"packed file has {own:.0f} MB. ONNX Runtime {runtime} on one thread of {cpu_name()}. A token is one step with {PREFILL} tokens in the cache, "
          f"the prompt has {PREFILL}. CPU time, the least of several runs; in brackets the ratio to {rows[0][0]}. Memory is what the process has more than "
          "before the file was opened. The last row is the packed file in our own host runtime, which takes a prompt token by token: "
          f"a token is the mean of {2 * PREFILL}, a prompt {PREFILL} of them. "
          "`make bench-onnx` repeats it.\n")
    print("| profile | export s | file MB | load ms | MB after load | MB at most | ms a token | ms a prompt |\n|---|---|---|---|---|---|---|---|")
    for title, m, error in rows:
        if error:
            print(f"| {title} | not run: {error} |||||||")
            continue
        cell = lambda key, digits, factor=1: f"{factor * m[key]:.{digits}f} ({m[key] / base[key]:.2f})"
        print(f"| {title} | {m['export']:.1f} | {cell('mb', 0)} | {cell('load_cpu', 0, 1e3)} | {cell('loaded_mb', 0)} | {cell('peak_mb', 0)} | {cell('token_ms', 1)} | {cell('prefill_ms', 0)} |")
    own_prompt = PREFILL * own_token
    cells = f"{own:.0f} ({own / base['mb']:.2f}) | | | | {own_token:.1f} ({own_token / base['token_ms']:.2f}) | {own_prompt:.0f} ({own_prompt / base['prefill_ms']:.2f})"
    print(f"| packed, our runtime | | {cells} |")
    print()


if "--measure" in sys.argv:
    measure(sys.argv[-1])
else:
    main()
