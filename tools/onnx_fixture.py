#!/usr/bin/env python3
"""Writes tests/data/onnx/operators.json: one small ONNX model for each case of an operator, with inputs and results.

Results are those of ONNX Runtime where it has a kernel for the types, else those of the reference evaluator of the onnx package; where both
can run a case, they must agree (floats: to 1e-5). Needs numpy, onnx and onnxruntime. Deterministic.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "onnx" / "operators.json"
NAMES = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float64": 11,
         "uint32": 12, "uint64": 13}
rng = np.random.default_rng(7)
cases = []


def tensor(a):
    a = np.asarray(a)
    little = a.astype(a.dtype.newbyteorder("<"))
    return {"type": NAMES[a.dtype.name], "dims": list(a.shape), "data": little.tobytes().hex()}


def packed(name, values, elem, bits):
    """An initializer of 2 or 4 bits."""
    flat = np.asarray(values).reshape(-1).astype(np.int64) & ((1 << bits) - 1)
    each = 8 // bits
    flat = np.concatenate([flat, np.zeros(-len(flat) % each, np.int64)]).reshape(-1, each)
    data = (flat << (np.arange(each) * bits)).sum(1).astype(np.uint8).tobytes()
    t = TensorProto(name=name, data_type=elem, raw_data=data)
    t.dims.extend(np.asarray(values).shape)
    return t


def model(op, inputs, attrs, opset, outputs, domain, constants, extra):
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(inputs)]
    if extra:
        names = [extra.name]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], name="node", domain=domain, **attrs)
    given, stored = [], [extra] if extra else []
    for i, a in enumerate(inputs):
        if a is None:
            continue
        if i in constants:
            stored.append(numpy_helper.from_array(np.asarray(a), f"x{i}"))
        else:
            given.append(helper.make_tensor_value_info(f"x{i}", NAMES[a.dtype.name], a.shape))
    outs = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "case", given, outs, stored)
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    ir = 13 if opset >= 25 else 10 if opset >= 21 else 7
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, producer_name="fixture")


def case(name, op, *inputs, opset=13, outputs=1, domain="", constants=(), exact=True, only=None, error=None, extra=None, **attrs):
    inputs = [None if a is None else np.asarray(a) for a in inputs]
    m = model(op, inputs, attrs, opset, outputs, domain, constants, extra)
    feed = {f"x{i}": a for i, a in enumerate(inputs) if a is not None and i not in constants}
    entry = {"name": name, "model": m.SerializeToString().hex(), "inputs": {n: tensor(a) for n, a in feed.items()}}
    if error is not None:
        cases.append(entry | {"error": error})
        return
    results = {}
    if only != "reference":
        # The type of a result is not in the model; the runtime infers it.
        try:
            options = ort.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = 1
            session = ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
            results["ort"] = session.run(None, feed)
        except Exception as e:  # no kernel for these types
            print(f"{name}: ONNX Runtime: {str(e)[:150]}", file=sys.stderr)
    if only != "ort" and not domain:
        try:
            results["reference"] = ReferenceEvaluator(m).run(None, feed)
        except Exception as e:
            print(f"{name}: reference: {str(e)[:150]}", file=sys.stderr)
    if not results:
        raise SystemExit(f"{name}: nothing runs it")
    first = next(iter(results.values()))
    for who, other in results.items():
        for a, b in zip(first, other):
            a, b = np.asarray(a), np.asarray(b)
            same = a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, 1e-5, 1e-6, equal_nan=True)
            if not same:
                raise SystemExit(f"{name}: {who} differs\n{a}\n{b}")
    entry["outputs"] = [tensor(a) for a in first]
    entry["exact"] = exact
    entry["from"] = "+".join(results)
    cases.append(entry)


def ints(dtype, *shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def small(dtype, *shape):
    return rng.integers(0 if np.iinfo(dtype).min == 0 else -9, 9, shape).astype(dtype)


def floats(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


WHOLE = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
I = lambda *v: np.array(v, np.int64)
nan, inf = np.nan, np.inf

# Arithmetic: every type, wrapping, shapes stretched to each other.
for t in WHOLE:
    n = np.dtype(t).name
    for op in ["Add", "Sub", "Mul"]:
        case(f"{op} {n} wraps", op, ints(t, 3, 4), ints(t, 3, 4), opset=14)
    divisor = ints(t, 2, 5)
    # The smallest by -1 overflows.
    divisor = np.where((divisor == 0) | (divisor == np.array(-1).astype(t)), 3, divisor).astype(t)
    case(f"Div {n}", "Div", ints(t, 2, 5), divisor, opset=14)
    case(f"Mod {n}", "Mod", ints(t, 2, 5), divisor)
    case(f"Mod {n} fmod", "Mod", ints(t, 2, 5), divisor, fmod=1)
    case(f"Max {n}", "Max", ints(t, 2, 3), ints(t, 3), only="reference" if n in ("int16", "uint16") else None)
    case(f"Min {n}", "Min", ints(t, 2, 3), ints(t, 2, 1), only="reference" if n in ("int16", "uint16") else None)
    case(f"Clip {n}", "Clip", ints(t, 9), np.array(10, t), np.array(100, t))
    for op in ["Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"]:
        case(f"{op} {n}", op, small(t, 4, 5), small(t, 5), opset=16)
for op in ["Add", "Sub", "Mul", "Div"]:
    case(f"{op} float32", op, floats(2, 3, 4), floats(3, 1))
    case(f"{op} float64", op, floats(4, dtype=np.float64), floats(2, 1, dtype=np.float64))
    case(f"{op} scalar left", op, np.float32(3), floats(2, 3))
    case(f"{op} empty", op, floats(2, 0, 3), floats(1, 1))
case("Div float by zero", "Div", np.array([1, -1, 0], np.float32), np.float32(0))
case("Div truncates", "Div", I(7, -7, 7, -7), I(2, 2, -2, -2))
case("Mod signs", "Mod", I(7, -7, 7, -7, 0), I(3, 3, -3, -3, 3))
case("Mod signs fmod", "Mod", I(7, -7, 7, -7, 0), I(3, 3, -3, -3, 3), fmod=1)
case("Mod float", "Mod", np.array([7.5, -7.5, 7.5], np.float32), np.array([2, 2, -2], np.float32), fmod=1)
case("Div by zero", "Div", I(1, 2), I(1, 0), error="division by zero")
case("Div overflows", "Div", I(-2**63), I(-1), error="overflows")
case("Mod by zero", "Mod", I(1, 2), I(0), error="division by zero")
case("Mod of the smallest by -1", "Mod", I(-2**63), I(-1), only="reference")
case("Div of nothing by zero", "Div", np.zeros((0,), np.int64), I(0))
case("Max three", "Max", floats(2, 3), floats(3), floats(2, 1))
case("Max nan", "Max", np.array([nan, 1, 2], np.float32), np.array([1, nan, 3], np.float32))
case("Min nan", "Min", np.array([nan, 1, 2], np.float32), np.array([1, nan, 3], np.float32))
case("Clip lower alone", "Clip", floats(5), np.float32(0))
case("Clip upper alone", "Clip", floats(5), None, np.float32(0))
case("Clip float", "Clip", np.array([-3, -1, 0, 1, 3], np.float32), np.float32(-1), np.float32(1))
case("Add of two types", "Add", I(1), np.array([1], np.int32), error="int64 and int32")
case("Add shapes that do not fit", "Add", floats(2, 3), floats(2, 2), error="do not fit")
for op in ["And", "Or", "Xor", "Equal"]:
    case(f"{op} bool", op, rng.random((3, 4)) < 0.5, rng.random((4,)) < 0.5)
case("Less float nan", "Less", np.array([nan, 1, 2], np.float32), np.array([1, nan, 3], np.float32))
case("Pow", "Pow", np.abs(floats(7)), floats(7), exact=False)
case("Pow square", "Pow", floats(7), np.float32(2))

# One operand.
for t in [np.int8, np.int16, np.int32, np.int64, np.float32, np.float64]:
    n = np.dtype(t).name
    x = floats(8).astype(t) if np.dtype(t).kind == "f" else small(t, 8)
    for op in ["Abs", "Neg", "Sign"]:
        case(f"{op} {n}", op, x)
for t in [np.uint8, np.uint64]:
    case(f"Abs {np.dtype(t).name}", "Abs", ints(t, 5))
    case(f"Sign {np.dtype(t).name}", "Sign", small(t, 5))
case("Neg wraps", "Neg", I(-2**63, 1))
case("Not", "Not", rng.random(6) < 0.5)
case("Round half to even", "Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, 2**23 + 1, nan, inf], np.float32))
case("Round float64", "Round", np.array([0.5, 1.5, 2.5, -2.5, 4503599627370497.5], np.float64))
case("Floor", "Floor", np.array([-0.5, 0.5, 2, -2], np.float32))
case("Sqrt", "Sqrt", np.array([0, 2, 1e-40, 3e38, -1], np.float32))
case("Sqrt float64", "Sqrt", np.array([0, 2, 1e-300], np.float64))
case("Reciprocal", "Reciprocal", np.array([3, 0, -7], np.float32))
case("Relu", "Relu", floats(9))
case("Relu int32", "Relu", small(np.int32, 9), opset=14)
for op in ["Exp", "Log", "Tanh", "Erf", "Sigmoid", "Sin", "Cos"]:
    x = np.array([0, 0.1, 1, -1 if op != "Log" else 4, 3.3, 7.7, 30], np.float32)
    case(f"{op} float32", op, x, exact=False)
case("Exp extremes", "Exp", np.array([-200, 200, -inf, nan], np.float32), exact=False)
for axis in [-1, 0, 1]:
    case(f"Softmax axis {axis}", "Softmax", 4 * floats(2, 3, 5), axis=axis, exact=False)
case("Softmax large", "Softmax", np.array([[1e4, 1e4 - 1, -1e30]], np.float32), exact=False)

# Cast.
for a in WHOLE + [np.float32, np.float64, np.bool_]:
    for b in WHOLE + [np.float32, np.float64, np.bool_]:
        if a == b:
            continue
        x = ints(a, 6) if np.dtype(a).kind in "iu" else (rng.random(6) < 0.5 if a == np.bool_ else 40 * np.abs(floats(6)).astype(a))
        if np.dtype(a).kind == "f" and np.dtype(b).kind == "i":
            x = x * np.array([1, -1, 1, -1, 1, -1], a)
        case(f"Cast {np.dtype(a).name} to {np.dtype(b).name}", "Cast", x, to=NAMES[np.dtype(b).name])
case("Cast 1e10 to int32", "Cast", np.array([1e10], np.float32), to=6, error="does not hold")
case("Cast 2^31 to int32", "Cast", np.array([2.0**31], np.float32), to=6, error="does not hold")
case("Cast -2^31 to int32", "Cast", np.array([-2.0**31, -0.9], np.float32), to=6)
case("Cast 2^63 to int64", "Cast", np.array([2.0**63], np.float64), to=7, error="does not hold")
case("Cast -1 to uint8", "Cast", np.array([-1], np.float32), to=2, error="does not hold")
case("Cast nan to int64", "Cast", np.array([nan], np.float32), to=7, error="does not hold")
case("Cast nan to bool", "Cast", np.array([nan, 0, -0.0], np.float32), to=9, only="ort")
case("Cast to text", "Cast", floats(1), to=8, error="type 8")
for elem, bits, low, high, opset in [(26, 2, -2, 1, 25), (25, 2, 0, 3, 25), (22, 4, -8, 7, 21), (21, 4, 0, 15, 21)]:
    values = rng.integers(low, high, (3, 7), endpoint=True)
    for to in [3, 2, 6, 7, 1]:
        if to == 2 and low < 0:
            continue
        case(f"Cast of type {elem} to {to}", "Cast", opset=opset, extra=packed("w", values, elem, bits), to=to, only="ort")

# Shapes.
x = floats(2, 3, 4)
case("Shape", "Shape", x)
case("Shape part", "Shape", x, opset=15, start=-2, end=3)
case("Shape of a scalar", "Shape", np.float32(1))
case("Reshape", "Reshape", x, I(0, -1), constants=[1])
case("Reshape to a scalar", "Reshape", floats(1), np.zeros(0, np.int64))
case("Reshape empty", "Reshape", floats(0, 3), I(3, 0), opset=14, allowzero=1)
case("Reshape of nothing with -1", "Reshape", floats(0, 3), I(-1, 3))
case("Reshape wrong", "Reshape", x, I(5, 5), error="do not make")
case("Reshape undivided", "Reshape", x, I(5, -1), error="do not make")
case("Reshape twice open", "Reshape", x, I(-1, -1), error="shape")
case("Reshape negative", "Reshape", x, I(-2, 12), error="shape")
case("Squeeze", "Squeeze", floats(1, 3, 1), I(0))
case("Squeeze all", "Squeeze", floats(1, 3, 1))
case("Squeeze wrong", "Squeeze", floats(1, 3, 1), I(1), error="left out")
case("Unsqueeze", "Unsqueeze", x, I(0, -1))
case("Unsqueeze twice", "Unsqueeze", x, I(0, 0), error="twice")
case("Transpose", "Transpose", x, perm=[2, 0, 1])
case("Transpose default", "Transpose", ints(np.int8, 3, 5))
case("Transpose last kept", "Transpose", ints(np.int64, 2, 3, 2, 4), perm=[0, 2, 1, 3])
case("Transpose empty", "Transpose", floats(0, 3, 2), perm=[2, 0, 1])
case("Transpose wrong", "Transpose", x, perm=[0, 1, 1], error="perm")
case("Identity", "Identity", x)
case("Expand", "Expand", floats(3, 1), I(2, 1, 4))
case("Expand keeps", "Expand", floats(3, 4), I(1, 4))
case("Expand wrong", "Expand", floats(3, 4), I(2, 4), error="do not fit")
case("Expand huge", "Expand", floats(1), I(2**40, 2**20), error="")
case("Expand beyond memory", "Expand", floats(1), I(2**20, 2**20), error="more than the")
case("Range", "Range", np.int64(3), np.int64(11), np.int64(2))
case("Range down", "Range", np.int32(5), np.int32(-4), np.int32(-3))
case("Range nothing", "Range", np.int64(3), np.int64(3), np.int64(1))
case("Range without end", "Range", np.int64(-2**63), np.int64(2**63 - 1), np.int64(1), error="")
case("Range step 0", "Range", np.int64(0), np.int64(9), np.int64(0), error="is 0")
case("ConstantOfShape", "ConstantOfShape", I(2, 3))
case("ConstantOfShape value", "ConstantOfShape", I(2, 0, 3), value=helper.make_tensor("v", 7, [1], [-5]))
case("ConstantOfShape one", "ConstantOfShape", np.zeros(0, np.int64), value=helper.make_tensor("v", 9, [1], [True]))
case("ConstantOfShape huge", "ConstantOfShape", I(2**31, 2**31), error="")

# Elements elsewhere.
case("Gather", "Gather", floats(5, 3), I(0, 4, -1))
case("Gather axis", "Gather", ints(np.uint8, 2, 5, 3), np.array([[0, 1], [-5, 4]], np.int32), axis=1)
case("Gather scalar", "Gather", ints(np.int16, 5, 3), np.int64(2))
case("Gather none", "Gather", floats(5, 3), np.zeros((0,), np.int64), only="ort")
case("Gather beyond", "Gather", floats(5, 3), I(5), error="index 5")
case("Gather below", "Gather", floats(5, 3), I(-6), error="index -6")
case("Slice", "Slice", x, I(1), I(3), I(1))
case("Slice several", "Slice", x, I(0, -3), I(1, -1), I(0, 2))
case("Slice all axes", "Slice", floats(4, 5), I(1, 2), I(3, 2**62))
case("Slice step", "Slice", floats(10), I(1), I(9), I(0), I(3))
case("Slice huge step", "Slice", floats(10), I(1), I(9), I(0), I(2**62))
case("Slice back", "Slice", floats(10), I(8), I(1), I(0), I(-3))
case("Slice reverse", "Slice", floats(3, 4), I(-1), I(-2**62), I(1), I(-1))
case("Slice reverse step", "Slice", floats(3, 4), I(-1), I(-2**62), I(1), I(-(2**62)))
case("Slice nothing", "Slice", floats(10), I(5), I(5), I(0))
case("Slice of nothing", "Slice", floats(0, 4), I(0), I(9), I(0))
case("Slice backwards of nothing", "Slice", floats(0, 4), I(-1), I(-9), I(0), I(-1))
case("Slice int32", "Slice", floats(10), np.array([2], np.int32), np.array([7], np.int32), np.array([0], np.int32))
case("Slice step 0", "Slice", floats(10), I(1), I(9), I(0), I(0), error="step of 0")
case("Slice twice", "Slice", floats(10), I(1, 1), I(9, 9), I(0, 0), error="twice")
case("Concat", "Concat", floats(2, 3), floats(2, 1), floats(2, 0), axis=1)
case("Concat axis 0", "Concat", ints(np.int16, 2, 3), ints(np.int16, 1, 3), axis=0)
case("Concat wrong", "Concat", floats(2, 3), floats(3, 3), axis=1, error="cannot be joined")
case("Split", "Split", floats(2, 7), I(3, 0, 4), axis=1, outputs=3)
case("Split even", "Split", ints(np.int64, 6, 2), outputs=3)
case("Split uneven", "Split", floats(7), outputs=3, opset=18, num_outputs=3)
case("Split wrong", "Split", floats(2, 7), I(3, 5), axis=1, outputs=2, error="split into")
case("Where", "Where", rng.random((2, 1)) < 0.5, floats(2, 3), floats(3))
case("Where int64", "Where", rng.random((4,)) < 0.5, ints(np.int64, 3, 1), np.int64(7))
case("Where bool", "Where", np.array([True, False]), np.array([True, True]), np.array(False), only="reference")
case("Where wrong", "Where", np.array([True, False]), floats(3), floats(3), error="do not fit")

# Many to one.
for op in ["ReduceMax", "ReduceMin"]:
    for t in [np.int8, np.uint8, np.int32, np.int64]:
        case(f"{op} {np.dtype(t).name}", op, ints(t, 3, 4), axes=[1], keepdims=0)
    case(f"{op} float", op, floats(2, 3, 4), axes=[0, 2])
    case(f"{op} input", op, floats(2, 3, 4), I(-2), opset=18, constants=[1])
    case(f"{op} all", op, floats(2, 3))
case("ReduceMax of nothing", "ReduceMax", floats(2, 0), axes=[1], error="no element")
case("ReduceSum", "ReduceSum", ints(np.int64, 3, 4) >> 14, I(1))
# ONNX Runtime 1.31 sums int64 as double.
case("ReduceSum wraps", "ReduceSum", ints(np.int64, 3, 4), I(1), only="reference")
case("ReduceSum int32", "ReduceSum", ints(np.int32, 3, 4) >> 2, I(0), keepdims=0)
case("ReduceSum float", "ReduceSum", floats(3, 4, 5), I(0, 2), exact=False)
case("ReduceSum all", "ReduceSum", small(np.int64, 3, 4))
case("ReduceSum none", "ReduceSum", small(np.int64, 3, 4), np.zeros(0, np.int64), noop_with_empty_axes=1, constants=[1])
case("ReduceSum of nothing", "ReduceSum", np.zeros((2, 0), np.int64), I(1))
case("ReduceMean", "ReduceMean", floats(3, 8), axes=[-1], exact=False)
case("ReduceMean float64", "ReduceMean", floats(3, 8, dtype=np.float64), axes=[1], keepdims=0, exact=False)
case("ReduceMean input", "ReduceMean", floats(3, 8), I(1), opset=18, exact=False, constants=[1])
case("CumSum", "CumSum", small(np.int64, 3, 4), np.int64(1), opset=14)
case("CumSum axis 0", "CumSum", small(np.int32, 3, 4), np.int32(0), opset=14)
for e in (0, 1):
    case(f"CumSum reverse {e}", "CumSum", small(np.int64, 2, 5), np.int64(-1), opset=14, reverse=1, exclusive=e)
case("CumSum exclusive", "CumSum", small(np.int64, 2, 5), np.int64(-1), opset=14, exclusive=1)

# Matrices.
case("MatMul", "MatMul", floats(3, 4), floats(4, 5), exact=False)
case("MatMul stretched", "MatMul", floats(2, 1, 3, 4), floats(5, 4, 2), exact=False)
case("MatMul row", "MatMul", floats(4), floats(2, 4, 3), exact=False)
case("MatMul column", "MatMul", floats(2, 3, 4), floats(4), exact=False)
case("MatMul inner product", "MatMul", floats(4), floats(4), exact=False)
case("MatMul float64", "MatMul", floats(3, 4, dtype=np.float64), floats(4, 2, dtype=np.float64), exact=False)
for t in [np.int32, np.int64, np.uint32, np.uint64]:
    case(f"MatMul {np.dtype(t).name} wraps", "MatMul", ints(t, 2, 3, 4), ints(t, 2, 4, 3))
case("MatMul nothing inside", "MatMul", np.zeros((2, 0), np.int64), np.zeros((0, 3), np.int64), only="reference")
case("MatMul no rows", "MatMul", floats(0, 4), floats(4, 3))
case("MatMul wrong", "MatMul", floats(2, 3), floats(4, 2), error="no product")
for a in [np.uint8, np.int8]:
    for b in [np.uint8, np.int8]:
        n = f"{np.dtype(a).name} x {np.dtype(b).name}"
        # More columns than are computed together, and a last block of rows that is not full.
        for rows, columns in [(1, 270), (3, 5), (4, 5), (9, 270)]:
            x, w = ints(a, rows, 9), ints(b, 9, columns)
            if a == np.uint8 and b == np.int8:
                w = np.clip(w, -64, 64).astype(b)
            case(f"MatMulInteger {n}, {rows} rows", "MatMulInteger", x, w, constants=[1])
            case(f"MatMulInteger {n}, {rows} rows, zeros", "MatMulInteger", x, w, np.array(7, a), np.array(100, b), constants=[1, 2, 3])
case("MatMulInteger activations", "MatMulInteger", ints(np.uint8, 2, 3, 33), rng.integers(-1, 1, (33, 17), endpoint=True).astype(np.int8), np.uint8(128), constants=[1, 2])
case("MatMulInteger stretched", "MatMulInteger", ints(np.uint8, 2, 3, 2, 8), rng.integers(-64, 64, (3, 8, 5)).astype(np.int8), np.uint8(128), constants=[2])
case("MatMulInteger zeros of columns", "MatMulInteger", ints(np.uint8, 3, 8), ints(np.uint8, 8, 5), np.uint8(3), ints(np.uint8, 5), constants=[2, 3])
case("MatMulInteger wrong", "MatMulInteger", ints(np.uint8, 3, 8), ints(np.int8, 7, 5), error="no product")
case("MatMulInteger of int32", "MatMulInteger", ints(np.int32, 3, 8), ints(np.int8, 8, 5), error="int32")

# com.microsoft.
MS = "com.microsoft"
for bits in (2, 4, 8):
    for block, k in ((32, 64), (16, 40)):
        n, blocks = 5, -(-k // block)
        codes = ints(np.uint8, n, blocks, block * bits // 8)
        scales = np.abs(floats(n * blocks))
        zeros = ints(np.uint8, n, -(-blocks * bits // 8)).reshape(-1)
        for z in (None, zeros):
            case(f"MatMulNBits {bits} bits, block {block}{', zeros' if z is not None else ''}", "MatMulNBits", floats(2, 3, k), codes, scales,
                 *([z] if z is not None else []), domain=MS, opset=21, exact=False, constants=[1, 2, 3], K=k, N=n, bits=bits, block_size=block, accuracy_level=1)
case("MatMulNBits short codes", "MatMulNBits", floats(1, 64), ints(np.uint8, 5, 2, 7), floats(10), domain=MS, opset=21, K=64, N=5, bits=2, block_size=32, error="codes of shape")
case("MatMulNBits three bits", "MatMulNBits", floats(1, 64), ints(np.uint8, 5, 2, 8), floats(10), domain=MS, opset=21, K=64, N=5, bits=3, block_size=32, error="3 bits")


def attention(name, batch, tokens, past, total, lengths, heads=4, kv=2, head=16, rotary=None, bias=None, error=None, **attrs):
    ins = [floats(batch, tokens, heads * head), floats(batch, tokens, kv * head), floats(batch, tokens, kv * head),
           floats(batch, kv, past, head), floats(batch, kv, past, head), np.array(lengths, np.int32), np.int32(total)]
    if rotary:
        angles = np.arange(32)[:, None] * np.exp(-np.arange(rotary // 2) / 2)
        ins += [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    if bias:
        ins += [None] * (10 - len(ins)) + [floats(*bias)]
    case(f"GroupQueryAttention {name}", "GroupQueryAttention", *ins, domain=MS, opset=21, outputs=3, exact=False, error=error,
         num_heads=heads, kv_num_heads=kv, do_rotary=int(bool(rotary)), **attrs)


attention("prompt", 1, 4, 0, 4, [3], rotary=16)
attention("without rotation", 1, 4, 0, 4, [3])
attention("one more", 1, 1, 4, 5, [4], rotary=16)
attention("three more", 1, 3, 5, 8, [7], rotary=16)
attention("two of different lengths", 2, 1, 5, 6, [5, 3], rotary=16)
attention("two padded prompts", 2, 4, 0, 4, [3, 1], rotary=16)
attention("interleaved", 1, 3, 5, 8, [7], rotary=16, rotary_interleaved=1)
attention("soft cap", 1, 3, 5, 8, [7], rotary=16, softcap=2.0)
attention("scale", 1, 3, 5, 8, [7], scale=0.7)
attention("window", 1, 3, 5, 8, [7], rotary=16, local_window_size=3)
attention("window of a prompt", 1, 6, 0, 6, [5], rotary=16, local_window_size=3)
attention("bias", 1, 3, 5, 8, [7], bias=(1, 1, 3, 8))
attention("bias of heads", 2, 4, 0, 4, [3, 3], rotary=16, bias=(2, 4, 4, 4))
attention("half rotated", 1, 3, 5, 8, [7], head=32, rotary=16)
attention("longer cache", 1, 1, 10, 8, [7], rotary=16)
attention("beyond the cache", 1, 1, 2, 8, [7], error="in the cache")
attention("too long", 1, 1, 4, 5, [9], error="lengths")
attention("position without an angle", 1, 1, 40, 41, [40], rotary=16, error="position 40")

OUT.parent.mkdir(parents=True, exist_ok=True)
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
OUT.write_text(f"[\n{lines}\n]\n")
print(f"{OUT}: {len(cases)} cases, {OUT.stat().st_size} bytes")
