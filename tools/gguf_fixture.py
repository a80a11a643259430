#!/usr/bin/env python3
"""Writes tests/data/gguf: a GGUF file with a tensor of every block layout that the Python package `gguf` decodes, metadata of every kind,
and what the package decodes as f32 in a safetensors file. Needs `pip install gguf numpy`; deterministic.

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


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
