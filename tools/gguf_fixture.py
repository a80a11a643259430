#!/usr/bin/env python3
"""Writes tests/data/gguf: a GGUF file with a tensor of every block layout that the Python package `gguf` decodes, metadata of every kind,
and what the package decodes as f32 in a safetensors file; and a tiny random llama with a byte-level tokenizer. Needs
`pip install gguf numpy`; deterministic.

    python3 tools/gguf_fixture.py tests/data/gguf
"""
import json
import pathlib
import struct
import sys

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
ENCODED = [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.TQ1_0, T.TQ2_0]
# No encoder in the package: random bytes with a sound scale. Layout: bytes of a block, places of its f16 scales.
RANDOM = {T.Q2_K: (84, [80, 82]), T.Q3_K: (110, [108]), T.Q4_K: (144, [0, 2]), T.Q5_K: (176, [0, 2]), T.Q6_K: (210, [208])}


def main(out):
    rng = np.random.default_rng(20261121)
    writer = gguf.GGUFWriter(out / "blocks.gguf", "fixture")
    writer.add_uint8("kind.u8", 200)
    writer.add_int8("kind.i8", -100)
    writer.add_uint16("kind.u16", 60000)
    writer.add_int16("kind.i16", -30000)
    writer.add_uint32("kind.u32", 4000000000)
    writer.add_int32("kind.i32", -2000000000)
    writer.add_float32("kind.f32", 1e-5)
    writer.add_bool("kind.bool", True)
    writer.add_string("kind.str", "A text, \u00e9")
    writer.add_uint64("kind.u64", 2**64 - 1)
    writer.add_int64("kind.i64", -(2**62))
    writer.add_float64("kind.f64", 0.1)
    writer.add_array("list.str", ["a", "", "\u2581b"])
    writer.add_array("list.i32", [1, -2, 3])
    writer.add_array("list.f32", [0.5, -1.0])
    expected = {}
    for kind in ENCODED:
        x = rng.normal(0, 0.05, (2, 256)).astype(np.float32)
        if kind in (T.TQ1_0, T.TQ2_0):
            x = np.sign(x) * (np.abs(x) > 0.02) * np.float32(0.03)
        x = x.astype(np.float32)
        data = gguf.quants.quantize(x, kind)
        expected[kind.name] = gguf.quants.dequantize(data, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
    for kind, (size, scales) in RANDOM.items():
        data = rng.integers(0, 256, (2, size), dtype=np.uint8)
        for at in scales:
            data[:, at : at + 2] = rng.uniform(0.001, 0.01, (2, 1)).astype(np.float16).view(np.uint8)
        expected[kind.name] = gguf.quants.dequantize(data, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header, at, parts = {}, 0, []
    for name, x in expected.items():
        part = np.ascontiguousarray(x, dtype="<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + len(part)]}
        at += len(part)
        parts.append(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (out / "blocks.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def spelled():
    """The characters that stand for the 256 bytes in byte-level vocabularies."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)]


def tiny_llama(out):
    rng = np.random.default_rng(7)
    width, heads, kv_heads, ffn, layers = 32, 4, 2, 64, 2
    writer = gguf.GGUFWriter(out / "tiny-llama.gguf", "llama")
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    merges = ["t h", "th e", "\u0120 the", "i n"]
    tokens = spelled() + [m.replace(" ", "") for m in merges] + ["<|end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}")

    def matrix(name, rows, cols, kind=T.Q8_0):
        x = rng.normal(0, 0.1, (rows, cols)).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name, np.ones(width, dtype=np.float32))

    head = width // heads
    matrix("token_embd.weight", len(tokens), width)
    norm("output_norm.weight")
    for i in range(layers):
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.attn_q.weight", heads * head, width, T.Q4_0)
        matrix(f"blk.{i}.attn_k.weight", kv_heads * head, width, T.Q4_1)
        matrix(f"blk.{i}.attn_v.weight", kv_heads * head, width, T.Q5_0)
        matrix(f"blk.{i}.attn_output.weight", width, heads * head, T.Q5_1)
        matrix(f"blk.{i}.ffn_gate.weight", ffn, width)
        matrix(f"blk.{i}.ffn_up.weight", ffn, width, T.F16)
        matrix(f"blk.{i}.ffn_down.weight", width, ffn, T.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    tiny_llama(pathlib.Path(sys.argv[1]))
