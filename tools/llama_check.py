#!/usr/bin/env python3
"""What llama.cpp computes for a GGUF file, and how far that is from logits that another program computed.

usage: llama_check.py FILE.gguf --text TEXT            prints the token ids as JSON
       llama_check.py FILE.gguf --ids 1,2,3 [--against LOGITS.safetensors] [--greedy N]

Needs the package llama-cpp-python.  The cache is f32 and attention plain, so that only the weights' types decide how inputs are rounded.
"""
import argparse, ctypes, json, math, sys
import numpy as np
import llama_cpp as L

a = argparse.ArgumentParser()
a.add_argument("file")
a.add_argument("--text")
a.add_argument("--ids")
a.add_argument("--against")
a.add_argument("--greedy", type=int, default=0)
a = a.parse_args()

said = []
log = L.llama_log_callback(lambda level, text, _: said.append(text.decode(errors="replace")) if level >= 4 else None)
L.llama_log_set(log, ctypes.c_void_p(0))
L.llama_backend_init()
settings = L.llama_model_default_params()
settings.n_gpu_layers = 0
model = L.llama_model_load_from_file(a.file.encode(), settings)
if not model:
    sys.exit("llama.cpp does not load the file: " + "".join(said).strip())
vocab = L.llama_model_get_vocab(model)


def logits(ids, last=False):
    c = L.llama_context_default_params()
    c.n_ctx = c.n_batch = c.n_ubatch = max(64, len(ids))
    c.n_threads = c.n_threads_batch = 2
    c.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_DISABLED
    c.type_k = c.type_v = L.GGML_TYPE_F32
    context = L.llama_init_from_model(model, c)
    batch = L.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, t in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = t, i, 1, 0
        batch.logits[i] = not last or i + 1 == len(ids)
    if L.llama_decode(context, batch) != 0:
        sys.exit("llama.cpp could not compute the tokens")
    n = L.llama_vocab_n_tokens(vocab)
    row = lambda i: np.ctypeslib.as_array(L.llama_get_logits_ith(context, i), (n,)).astype(np.float64)
    rows = np.stack([row(i) for i in range(len(ids)) if batch.logits[i]])
    L.llama_batch_free(batch)
    L.llama_free(context)
    return rows


def stored(path, name):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + n])[name]
    start, end = (8 + n + o for o in entry["data_offsets"])
    return np.frombuffer(data[start:end], np.float32).reshape(entry["shape"]).astype(np.float64)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


if a.text is not None:
    data = a.text.encode()
    ids = (ctypes.c_int32 * (2 * len(data) + 16))()
    n = L.llama_tokenize(vocab, data, len(data), ids, len(ids), True, True)
    print(json.dumps(list(ids[:n])))
    sys.exit()

ids = [int(i) for i in a.ids.split(",")]
got = logits(ids)
perplexity = lambda p: math.exp(-np.mean([p[i, t] for i, t in enumerate(ids[1:])]))
out = {"perplexity": perplexity(log_softmax(got))}
if a.against:
    want = stored(a.against, "logits").reshape(-1, got.shape[-1])
    p, q = log_softmax(want), log_softmax(got)
    out |= {
        "perplexity_wanted": perplexity(p),
        "relative_error": float(np.linalg.norm(got - want) / np.linalg.norm(want - want.mean(-1, keepdims=True))),
        "divergence": float((np.exp(p) * (p - q)).sum(-1).mean()),
        "same_argmax": float((got.argmax(-1) == want.argmax(-1)).mean()),
    }
if a.greedy:
    more = list(ids)
    for _ in range(a.greedy):
        more.append(int(logits(more, True)[0].argmax()))
    out["greedy"] = more[len(ids):]
print(json.dumps(out))
