"""GGUF files byte for byte, apart from our own reader; tests/gguf/python.rs calls this.

usage: check.py FILE...

The container is taken apart here: order of tensors, offsets, padding. What the package `gguf` knows it must open with the same tensors, and its
decoders are taken where it has some; the other types are decoded below. FILE.values holds what our reader makes of all tensors of FILE, as f32 in
the order of the file. Prints a JSON list, an object for each file: keys, tensors by type, and who decoded which.
"""
import json, pathlib, struct, sys

import gguf
import numpy as np

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 8: ("Q8_0", 32, 34), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
         36: ("I2_S", 128, 32), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18)}


def header(data):
    """Keys, tensors as (name, ne, type, offset) and where the header ends."""
    at = 0

    def take(form):
        nonlocal at
        at += struct.calcsize("<" + form)
        return struct.unpack_from("<" + form, data, at - struct.calcsize("<" + form))

    def text():
        nonlocal at
        n, = take("Q")
        at += n
        return bytes(data[at - n : at]).decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, n = take("IQ")
            return [value(inner) for _ in range(n)] if inner == 8 else list(take(f"{n}{NUMBERS[inner]}"))
        return take(NUMBERS[kind])[0]

    magic, version, tensors, keys = take("4sIQQ")
    assert (magic, version) == (b"GGUF", 3), (magic, version)
    found = {}
    for _ in range(keys):
        key = text()
        assert key and key not in found, key
        found[key] = value(*take("I"))
    infos = []
    for _ in range(tensors):
        name, dims = text(), take("I")[0]
        infos.append((name, take(f"{dims}Q"), *take("IQ")))
    return found, infos, at


def trits_of_16(blocks, first):
    """Q2_0 and the like: a scale, then four codes a byte from the lowest bits on."""
    scale = blocks[:, :2].copy().view("<f2").astype("f4")
    codes = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], "u1") & 3).astype("f4") + first
    return scale * codes.reshape(len(blocks), -1)


def signs(blocks):
    scale = blocks[:, :2].copy().view("<f2").astype("f4")
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype("f4")
    return scale * (2 * bits - 1)


def i2_s(data):
    scale = np.frombuffer(data[-32:-28], "<f4")[0]
    assert not any(data[-28:]), "bytes behind the scale of I2_S"
    blocks = np.frombuffer(data[:-32], "u1").reshape(-1, 32)
    codes = (blocks[:, None, :] >> np.array([6, 4, 2, 0], "u1")[None, :, None] & 3).astype("f4") - 1
    return scale * codes.reshape(-1)


def decoded(data, kind, by):
    name, _, size = TYPES[kind]
    blocks = np.frombuffer(data, "u1").reshape(-1, size) if name != "I2_S" else None
    own = {"F32": lambda: np.frombuffer(data, "<f4"), "F16": lambda: np.frombuffer(data, "<f2").astype("f4"), "I2_S": lambda: i2_s(data),
           "Q1_0": lambda: signs(blocks), "Q2_0": lambda: trits_of_16(blocks, -1)}
    known = next((t for t in gguf.GGMLQuantizationType if t.value == kind and t.name == name), None)
    if known is not None:
        try:
            values = gguf.quants.dequantize(blocks, known).reshape(-1)
            by[name] = "gguf"
            return values
        except NotImplementedError:
            pass
    by[name] = "here"
    return own[name]().reshape(-1)


def check(path):
    data = memoryview(path.read_bytes())
    keys, infos, end = header(data)
    alignment = keys.get("general.alignment", 32)
    up = lambda n: -(-n // alignment) * alignment
    start, want = up(end), np.fromfile(f"{path}.values", "<f4")
    assert not any(data[end:start]), "padding behind the header"
    at, seen, by, types = 0, 0, {}, {}
    for name, ne, kind, offset in infos:
        type_name, values, size = TYPES[kind]
        n = int(np.prod(ne, dtype=object))
        assert offset == at and ne[0] % values == 0, (name, offset, at, ne)
        length = n // values * size + 32 * (type_name == "I2_S")
        tensor = data[start + at : start + at + length]
        assert len(tensor) == length, name
        assert not any(data[start + at + length : start + up(at + length)]), f"padding behind {name}"
        got = decoded(tensor, kind, by)
        assert np.array_equal(got, want[seen : seen + n]), f"{name}: other values"
        at, seen = up(at + length), seen + n
        types[type_name] = types.get(type_name, 0) + 1
    assert start + at == len(data) and seen == len(want), "the end of the file"
    out = {"file": path.name, "keys": len(keys), "architecture": keys["general.architecture"], "types": types, "by": by, "opened": False}
    if all(kind in [t.value for t in gguf.GGMLQuantizationType] for _, _, kind, _ in infos):
        reader = gguf.GGUFReader(path)
        theirs = [(t.name, tuple(int(n) for n in t.shape), int(t.tensor_type), int(t.data_offset) - start) for t in reader.tensors]
        assert theirs == infos, "the package sees other tensors"
        assert [k for k in reader.fields if not k.startswith("GGUF.")] == list(keys), "the package sees other keys"
        out["opened"] = True
    return out


print(json.dumps([check(pathlib.Path(f)) for f in sys.argv[1:]]))
