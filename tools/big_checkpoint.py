#!/usr/bin/env python3
"""Writes a random checkpoint of the bitnet architecture with bf16 master weights, large enough to measure a conversion.

usage: big_checkpoint.py FOLDER GIGABYTES [--layers N] [--vocab N]
       big_checkpoint.py FOLDER --shape HIDDEN,HEADS,KV_HEADS,HEAD_DIM,FFN [--layers N] [--vocab N]

Few wide layers, so that calibration and the golden trace stay short beside the weights.  The same arguments give the same bytes; needs numpy.
There is no tokenizer.  Each layer is a shard of its own.
"""
import json, sys
from pathlib import Path

import numpy as np

VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 8192, 8192, 64, 8, 128
TILE = 1 << 24  # weights that are drawn once and repeated from changing starts


def shard(path, tensors, tile, rng):
    """tensors: name -> (shape, "weight" or "gain"); bf16.  No two matrices are equal: a runtime may keep equal ones once."""
    header, at = {}, 0
    for name, (shape, _) in tensors.items():
        n = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for shape, kind in tensors.values():
            left = int(np.prod(shape))
            if kind == "gain":
                f.write(np.full(left, 0x3F80, "<u2").tobytes())
                continue
            start = int(rng.integers(TILE))
            while left:
                part = tile[start:][:left]
                f.write(part.tobytes())
                left -= len(part)
                start = int(rng.integers(TILE))
    return at


def ffn_for(size, layers):
    """The width of the feed-forward part that makes a checkpoint of this size in bytes."""
    attention = 2 * HIDDEN * HEADS * HEAD_DIM + 2 * HIDDEN * KV_HEADS * HEAD_DIM
    rest = (size - 2 * VOCAB * HIDDEN) / layers / 2 - attention
    return min(32_768, max(256, int(rest / (3 * HIDDEN)) // 256 * 256))


def main():
    global VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM
    folder = Path(sys.argv[1])
    option = lambda name: sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None
    layers, shape, VOCAB = int(option("--layers") or 4), option("--shape"), int(option("--vocab") or VOCAB)
    if shape:
        HIDDEN, HEADS, KV_HEADS, HEAD_DIM, ffn = map(int, shape.split(","))
    else:
        ffn = ffn_for(float(sys.argv[2]) * 1e9, layers)
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(1).standard_normal(TILE, dtype=np.float32) * np.float32(0.02)
    bits = values.view(np.uint32)
    tile = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")  # to bf16, nearest, ties to even
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    parts = [{"model.embed_tokens.weight": ((VOCAB, HIDDEN), "weight"), "model.norm.weight": ((HIDDEN,), "gain")}]
    for i in range(layers):
        p = f"model.layers.{i}."
        parts.append({
            p + "input_layernorm.weight": ((HIDDEN,), "gain"), p + "post_attention_layernorm.weight": ((HIDDEN,), "gain"),
            p + "self_attn.attn_sub_norm.weight": ((q,), "gain"), p + "mlp.ffn_sub_norm.weight": ((ffn,), "gain"),
            p + "self_attn.q_proj.weight": ((q, HIDDEN), "weight"), p + "self_attn.k_proj.weight": ((kv, HIDDEN), "weight"),
            p + "self_attn.v_proj.weight": ((kv, HIDDEN), "weight"), p + "self_attn.o_proj.weight": ((HIDDEN, q), "weight"),
            p + "mlp.gate_proj.weight": ((ffn, HIDDEN), "weight"), p + "mlp.up_proj.weight": ((ffn, HIDDEN), "weight"),
            p + "mlp.down_proj.weight": ((HIDDEN, ffn), "weight"),
        })
    names, total = {}, 0
    for i, tensors in enumerate(parts):
        file = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        total += shard(folder / file, tensors, tile, np.random.default_rng((2, i)))
        names.update({t: file for t in tensors})
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "bos_token_id": 0, "eos_token_id": 1,
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    print(f"{total / 1e9:.2f} GB, ffn {ffn}, {len(parts)} shards")


main()
