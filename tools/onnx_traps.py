#!/usr/bin/env python3
"""Writes tests/data/onnx: a graph with every trap that `inspect` warns of, and tensors in every field that they may be stored in, some of them
in another file. Needs `pip install onnx numpy`; deterministic.

    python3 tools/onnx_traps.py tests/data/onnx
"""
import pathlib
import sys

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper, save
from onnx.external_data_helper import set_external_data


def port(name, dtype, shape):
    return h.make_tensor_value_info(name, dtype, shape)


def main(out):
    data = b""

    def external(name, array):
        nonlocal data
        data += bytes(-len(data) % 64)
        t = numpy_helper.from_array(array, name)
        set_external_data(t, "traps.onnx.data", offset=len(data), length=array.nbytes)
        data += array.tobytes()
        t.ClearField("raw_data")
        t.data_location = T.EXTERNAL
        return t

    codes = np.arange(16 * 16, dtype=np.int32).reshape(16, 16) % 3 - 1
    wide = np.where(codes == 1, 100, codes).astype(np.int8)
    tensors = [
        external("w", codes.astype(np.int8)),
        external("wide", wide),
        h.make_tensor("scale", T.FLOAT, [], [0.5]),
        h.make_tensor("zero", T.INT8, [], [0]),
        h.make_tensor("zeros", T.INT8, [1], [0]),
        h.make_tensor("middle", T.UINT8, [], [128]),
        h.make_tensor("yes", T.BOOL, [1], [True]),
        h.make_tensor("halves", T.FLOAT16, [2], np.array([1, 2], np.float16)),
        h.make_tensor("doubles", T.DOUBLE, [2], [1.0, 2.0]),
        h.make_tensor("longs", T.INT64, [3], [1, -1, 1 << 40]),
        h.make_tensor("unsigned", T.UINT32, [2], [1, 1 << 31]),
        h.make_tensor("nibbles", T.INT4, [3], [1, -1, 7]),
        numpy_helper.from_array(np.zeros((16, 1, 8), np.uint8), "blocks"),
        numpy_helper.from_array(np.ones((16, 1), np.float32), "block_scales"),
    ]
    nodes = [
        h.make_node("DequantizeLinear", ["w", "scale", "zero"], ["floats"], axis=0),
        h.make_node("MatMul", ["x", "floats"], ["a"]),
        h.make_node("QuantizeLinear", ["x", "scale", "zero"], ["signed"]),
        h.make_node("MatMulInteger", ["signed", "w", "zeros"], ["b"]),
        h.make_node("QuantizeLinear", ["x", "scale", "middle"], ["unsigned_codes"]),
        h.make_node("MatMulInteger", ["unsigned_codes", "wide", "middle"], ["c"]),
        h.make_node("Where", ["yes", "signed", "zero"], ["d"]),
        h.make_node("MatMulNBits", ["x", "blocks", "block_scales"], ["e"], domain="com.microsoft",
                    K=16, N=16, bits=4, block_size=16, accuracy_level=4),
        h.make_node("Constant", [], ["f"], value=h.make_tensor("value", T.INT64, [2], [-1, 16])),
        h.make_node("Clip", ["a", "", "scale"], ["g"]),
        h.make_node("Split", ["x"], ["", "h"], axis=1, num_outputs=2, note="text"),
        h.make_node("Resize", ["x"], ["i"], scales=[1.0, 0.5], axes=[0, 1], words=["a", "b"]),
    ]
    outputs = [port("g", T.FLOAT, ["batch", 16]), port("b", T.INT32, ["batch", None]), port("h", T.FLOAT, None)]
    graph = h.make_graph(nodes, "traps", [port("x", T.FLOAT, ["batch", 16])], outputs, tensors,
                         value_info=[port("a", T.FLOAT, ["batch", 16])])
    sets = [h.make_opsetid("", 28), h.make_opsetid("com.microsoft", 1)]
    model = h.make_model(graph, opset_imports=sets, ir_version=14, producer_name="onnx_fixture",
                         producer_version="1", doc_string="Not to be run: everything that goes wrong")
    h.set_model_props(model, {"author": "us"})
    save(model, out / "traps.onnx")
    (out / "traps.onnx.data").write_bytes(data)


main(pathlib.Path(sys.argv[1]))
