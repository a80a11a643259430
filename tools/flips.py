#!/usr/bin/env python3
"""Counts activation codes that differ between a float forward and the integer program: flips.py CHECKPOINT MODEL.bitnet

The float side is a float64 forward with the checkpoint's own fake-quantizers (docs of fixtures/models), for `bitnet` checkpoints with master weights; the
integer side is the interpreter in fixtures/reader.  The prompts are those of golden.safetensors.  Prints JSON. Needs numpy.
"""
import json, struct, sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures/reader"))
import bitnet_reader
import bitnet_reference


def tensors(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            data = raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
            if t["dtype"] == "BF16":
                x = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                x = np.frombuffer(data, {"F32": np.float32, "F16": np.float16, "I64": np.int64}.get(t["dtype"], np.uint8))
            out[name] = x.reshape(t["shape"])
    return out


class Float:
    """The forward; `codes` collects what every quantizer of an activation gave, in the order of the program's QUANTIZE operations."""

    def __init__(self, folder):
        self.cfg = json.loads((folder / "config.json").read_text())
        self.w = {k: v.astype(np.float64) for k, v in tensors(folder / "model.safetensors").items()}
        scheme = self.cfg.get("qat_config", {}).get("scheme", {"weight": "w158", "act": "a8", "embed": "none"})
        self.binary, self.two, self.int8 = scheme["weight"] == "w1", scheme["act"] == "a2", scheme["embed"] == "e8"

    def weight(self, name):
        m = self.w[name]
        mean = np.float64(np.float32(np.abs(m).mean()))
        if self.binary:
            return np.where(m >= 0, mean, -mean)
        g = np.float64(np.float32(1) / np.maximum(np.float32(mean), np.float32(1e-5)))
        return np.clip(np.round(m * g), -1, 1) / g

    def act(self, x):
        q = 2 if self.two else 127
        s = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5) / q
        code = np.clip(np.round(x / s), -2 if q == 2 else -128, 1 if q == 2 else 127)
        self.codes.append(code)
        return s * code

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.cfg["rms_norm_eps"]) * self.w[name]

    def run(self, ids):
        c, self.codes = self.cfg, []
        heads, kv, d = c["num_attention_heads"], c["num_key_value_heads"], c["hidden_size"] // c["num_attention_heads"]
        emb = self.w["model.embed_tokens.weight"]
        if self.int8:
            t = 127 / np.maximum(np.abs(emb).max(-1, keepdims=True), 1e-5)
            emb = np.round(emb * t) / t
        x, n = emb[ids], len(ids)
        angle = np.outer(np.arange(n), 1.0 / c["rope_theta"] ** (np.arange(0, d, 2) / d))
        cos, sin = (np.concatenate((f(angle), f(angle)), -1)[:, None] for f in (np.cos, np.sin))
        rope = lambda t: t * cos + np.concatenate((-t[..., d // 2:], t[..., :d // 2]), -1) * sin
        mask = np.triu(np.full((n, n), -np.inf), 1)
        for l in range(c["num_hidden_layers"]):
            p = f"model.layers.{l}."
            linear = lambda h, name: h @ self.weight(p + name + ".weight").T
            h = self.act(self.norm(x, p + "input_layernorm.weight"))
            q, k, v = (linear(h, f"self_attn.{m}_proj") for m in "qkv")
            q, k, v = rope(q.reshape(n, heads, d)), rope(k.reshape(n, kv, d)), v.reshape(n, kv, d)
            o = np.empty((n, heads, d))
            for j in range(heads):
                s = q[:, j] @ k[:, j * kv // heads].T / np.sqrt(d) + mask
                e = np.exp(s - s.max(-1, keepdims=True))
                o[:, j] = e / e.sum(-1, keepdims=True) @ v[:, j * kv // heads]
            x = x + linear(self.act(self.norm(o.reshape(n, heads * d), p + "self_attn.attn_sub_norm.weight")), "self_attn.o_proj")
            h = self.act(self.norm(x, p + "post_attention_layernorm.weight"))
            g = np.maximum(linear(h, "mlp.gate_proj"), 0) ** 2 * linear(h, "mlp.up_proj")
            x = x + linear(self.act(self.norm(g, p + "mlp.ffn_sub_norm.weight")), "mlp.down_proj")
        return self.codes


def main(folder, packed):
    folder, model = Path(folder), Float(Path(folder))
    artifact = bitnet_reader.open_file(packed)
    golden, codes, flips, most = tensors(folder / "golden.safetensors"), 0, 0, 0
    seen, quantize = [], bitnet_reference.quantize

    def recorded(*operands):
        result = quantize(*operands)
        seen.append(result[0])
        return result

    bitnet_reference.quantize = recorded
    for name in sorted(n for n in golden if n.startswith("input_ids")):
        ids = [int(i) for i in golden[name].reshape(-1)]
        want = model.run(ids)
        for pos, *_ in bitnet_reference.run(artifact, ids, 0):
            for mine, float_codes in zip(seen, want):  # the head's input is of another width: it is left out
                diff = np.abs(np.array(mine) - float_codes[pos])
                codes, flips, most = codes + len(diff), flips + int((diff > 0).sum()), max(most, int(diff.max()))
            seen.clear()
    print(json.dumps({"codes": codes, "flips": flips, "largest": most}))


main(*sys.argv[1:3])
