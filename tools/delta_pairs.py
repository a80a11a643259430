"""Pairs of packed models with known changes between them: the material of bench_delta.py.

A pair is two files in the packed format (docs/format/packed.md) with a small valid llama-like program, made with fixed seeds; needs numpy.  Everything that
moves is drawn from known distributions, so the least number of bytes that can describe the change is known too: `Pair.bits`, in bits.
"""
import hashlib, math, struct, sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures/reader"))
import bitnet_reader as br
from packed_writer import Weights, real_scale, tables_section, u32w, seal

BITS, TRITS, FIVES = br.BINARY, br.TERNARY, br.TERNARY5
ZERO_BELOW = 0.5 * math.sqrt(2 / math.pi)   # of a standard normal weight: the usual half of the mean magnitude, 31 % zeros
MOVE = 1e-3                                 # relative standard deviation by which every scale moves
HALF_LOG_2PIE = 0.5 * math.log2(2 * math.pi * math.e)


def entropy(p):
    """H(p) in bits, of numbers or arrays."""
    p = np.clip(np.asarray(p, dtype=np.float64), 1e-300, 1 - 1e-16)
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


@dataclass(frozen=True)
class Shape:
    layers: int
    d: int
    ffn: int
    vocabulary: int = 256
    scale: type = np.float32    # of the checkpoint that the row scales come from

    def matrices(self):
        d, f = self.d, self.ffn
        return [("q", d, d), ("k", d, d), ("v", d, d), ("o", d, d), ("gate", f, d), ("up", f, d), ("down", d, f)]

    def weights(self):
        return self.layers * sum(r * c for _, r, c in self.matrices())


B1 = Shape(10, 256, 704, scale=np.float16)      # 8.0 M weights
B100 = Shape(16, 2048, 5632)                    # 822,083,584 weights in 112 matrices
T1, T100 = Shape(5, 256, 704), Shape(8, 2048, 5632)
BILLION = Shape(20, 2048, 5408, vocabulary=32_000, scale=np.float16)   # 1,000,079,360 weights, frozen embedding


@dataclass
class Matrix:
    kind: int
    rows: int
    cols: int
    codes: np.ndarray           # BITS: packed rows; else trits as int8
    scales: np.ndarray          # one per row (BITS) or one (trits)

    def data(self, kind=None):
        kind = kind or self.kind
        if kind == BITS:
            return self.codes.tobytes()
        if kind == TRITS:
            planes = [np.packbits(self.codes == v, axis=1, bitorder="little") for v in (1, -1)]
            return np.concatenate(planes, axis=1).tobytes()
        d = np.ones((self.rows, -(-self.cols // 5) * 5), np.uint8)
        d[:, :self.cols] = self.codes + 1
        return (d.reshape(self.rows, -1, 5) @ np.array([1, 3, 9, 28, 84], np.uint8)).tobytes()

    def stride(self):
        return {BITS: self.cols // 8, TRITS: self.cols // 4, FIVES: -(-self.cols // 5)}[self.kind]


@dataclass
class Model:
    shape: Shape
    layers: list                # of dicts: name -> Matrix
    embedding: tuple            # int8 rows, their scales
    grouped: bool = False       # tensors of one name together instead of layer by layer


# ---- writing --------------------------------------------------------------------

class PackedWeights(Weights):
    def rows_scaled(self, kind, rows, cols, stride, data, reals):
        m, e = np.frexp(np.asarray(reals, np.float64))
        m, e = np.rint(m * 2.0**31).astype("<u4"), e.astype(np.int64) - 31
        top = int(e.max())
        scales = m.tobytes() + (top - e).astype(np.uint8).tobytes()
        return self.add(kind, rows, cols, 2, 0, (1 << 30, top), stride, data, scales)

    def low_bit_matrix(self, x):
        if len(x.scales) == 1:
            return self.add(x.kind, x.rows, x.cols, 1, 0, real_scale(float(x.scales[0])), x.stride(), x.data())
        return self.rows_scaled(x.kind, x.rows, x.cols, x.stride(), x.data(), x.scales)


def write(path, model):
    """The model as a packed file; the program is a decoder with rotary embedding, SiLU gates and a head tied to the embedding."""
    s, w, ops, registers = model.shape, PackedWeights(), [], []
    d, head_dim = s.d, 64

    def register(kind, n):
        registers.append((kind, n))
        return len(registers) - 1

    def op(opcode, layer, dst=br.NONE, a=br.NONE, b=br.NONE, t0=br.NONE, p=()):
        ops.append([opcode | layer << 8, dst, a, b, t0, br.NONE] + [u32w(v) for v in p] + [0] * (6 - len(p)))

    freqs = w.frequencies([round(10000 ** (-2 * j / head_dim) / (2 * math.pi) * 2**32) for j in range(head_dim // 2)])
    rows, reals = model.embedding
    embed = w.rows_scaled(br.INT8, len(rows), d, d, rows.tobytes(), reals)
    gains = np.random.default_rng(99).normal(1, 0.1, (2 * s.layers + 1, d))
    gain = [w.vector([int(v) for v in np.rint(g * (1 << 20))], -20 - 30) for g in gains]
    names = [n for n, _, _ in s.matrices()]
    order = [(i, n) for n in names for i in range(s.layers)] if model.grouped else [(i, n) for i in range(s.layers) for n in names]
    at = {key: w.low_bit_matrix(model.layers[key[0]][key[1]]) for key in order}

    vector = lambda n: register(br.REG_VECTOR, n)
    x, hidden, codes = vector(d), vector(d), register(br.REG_I8, max(d, s.ffn))
    q, k, v, att, back = (vector(d) for _ in range(5))
    gate, up, logits = vector(s.ffn), vector(s.ffn), vector(len(rows))

    def normed(layer, t):
        op(br.RMSNORM, layer, hidden, x, t0=t, p=real_scale(1e-5))
        quantized(layer, hidden)

    def quantized(layer, src):
        op(br.QUANTIZE, layer, codes, src, p=(127, -128, 127) + real_scale(1e-5))

    def linear(layer, dst, t):
        op(br.LINEAR, layer, dst, codes, t0=t, p=(0,))

    op(br.EMBED, br.OUTSIDE, x, t0=embed)
    for i in range(s.layers):
        normed(i, gain[2 * i])
        for dst, n in ((q, "q"), (k, "k"), (v, "v")):
            linear(i, dst, at[i, n])
        op(br.KVWRITE, i, a=k, b=v, t0=freqs)
        op(br.ATTEND, i, att, q, t0=freqs, p=real_scale(math.log2(math.e) / math.sqrt(head_dim)))
        quantized(i, att)
        linear(i, back, at[i, "o"])
        op(br.ADD, i, x, back)
        normed(i, gain[2 * i + 1])
        linear(i, gate, at[i, "gate"])
        linear(i, up, at[i, "up"])
        op(br.SILUMUL, i, gate, gate, up)
        quantized(i, gate)
        linear(i, back, at[i, "down"])
        op(br.ADD, i, x, back)
    head_op = len(ops)
    normed(br.OUTSIDE, gain[-1])
    linear(br.OUTSIDE, logits, embed)
    op(br.LOGITS, br.OUTSIDE, a=logits)

    sha = hashlib.sha256()
    for i, n in sorted(at, key=at.get):
        m = model.layers[i][n]
        sha.update(struct.pack("<II", m.rows, m.cols) + m.data(BITS if m.kind == BITS else TRITS))
    model_id = struct.unpack("<II", sha.digest()[:8])
    words = [1, len(ops), head_op, len(w.entries), len(registers), len(rows), d, s.layers, d // head_dim, d // head_dim, head_dim,
             16, 64, 4, 8, 8, 0, 0, 0, 0, 0, 0, 0, br.NONE, 2048, 0, 0, *model_id, 0, 0, 0]
    for group in (registers, ops, w.entries):
        for entry in group:
            words += entry
    data = seal([(br.KIND_PROGRAM, struct.pack(f"<{len(words)}I", *words)), (br.KIND_TABLES, tables_section()), (br.KIND_WEIGHTS, w.blob)])
    Path(path).write_bytes(data)
    return len(data)


# ---- the old model --------------------------------------------------------------

def reals(rng, n, shape):
    return (0.02 * np.exp(rng.normal(0, 0.2, n))).astype(shape.scale)


def fresh_layer(rng, shape, kind):
    layer = {}
    for name, rows, cols in shape.matrices():
        if kind == BITS:
            codes = np.frombuffer(rng.bytes(rows * cols // 8), np.uint8).reshape(rows, -1)
            layer[name] = Matrix(kind, rows, cols, codes, reals(rng, rows, shape))
        else:
            w = rng.standard_normal((rows, cols), np.float32)
            layer[name] = Matrix(kind, rows, cols, trits(w), reals(rng, 1, shape))
    return layer


def trits(w):
    return (w > ZERO_BELOW).astype(np.int8) - (w < -ZERO_BELOW)


def embedding_rows(rng, n, d):
    w = rng.normal(0, 1, (n, d)).astype(np.float32)
    top = np.abs(w).max(axis=1)
    return np.rint(w / top[:, None] * 127).astype(np.int8), (top / 127).astype(np.float32)


# ---- the new model --------------------------------------------------------------

@dataclass
class Pair:
    old: Path
    new: Path
    bytes: int = 0              # of the new file
    weights: int = 0
    changed: int = 0
    bits: dict = field(default_factory=lambda: dict(signs=0.0, scales=0.0, new=0.0))   # parts of the bound
    unrelated: int = -1         # a layer that is not in the old model
    one_rate: float = 0.0       # bits of the signs if each tensor has one rate; `bits` knows the rates that the pair was made with

    def bound(self):
        """Bytes."""
        return sum(self.bits.values()) / 8

    def bound_of_one_rate(self):
        """The same if the changes were spread evenly over all weights."""
        return (self.weights * float(entropy(self.changed / self.weights)) + self.bits["scales"] + self.bits["new"]) / 8


def moved(rng, scales):
    """Scales after an update, and the entropy of it for a reader of the old ones: a normal step of so many units of the last place, rounded."""
    new = (scales.astype(np.float64) * (1 + rng.normal(0, MOVE, len(scales)))).astype(scales.dtype)
    mantissa = 2 * np.frexp(scales.astype(np.float64))[0]
    steps = mantissa * MOVE * 2.0 ** (np.finfo(scales.dtype).nmant)
    return new, float(np.sum(HALF_LOG_2PIE + np.log2(steps)))


def flipped(rng, m, rate):
    """Signs of a matrix flipped with a probability: the new rows, how many flipped."""
    n = m.rows * m.cols
    if not isinstance(rate, tuple):
        if rate <= 0:
            return m.codes, 0
        gaps = rng.geometric(rate, int(n * rate + 20 * math.sqrt(n * rate) + 100))
        at = np.cumsum(gaps) - 1
        at = at[at < n]
        mask = np.zeros(n, np.uint8)
        mask[at] = 1
        mask, k = mask.reshape(m.rows, m.cols), len(at)
    else:
        mask = rng.random((m.rows, m.cols), np.float32) < np.outer(*rate).astype(np.float32)
        k = int(np.count_nonzero(mask))
    return m.codes ^ np.packbits(mask, axis=1, bitorder="little"), k


def log_normal(rng, n):
    """Factors with mean 1 but for the largest, which are cut off."""
    return np.minimum(np.exp(rng.normal(0, 1, n) - 0.5), 6)


def entropy_of_products(rows, cols):
    """The sum of H(r c) over all pairs, r c < 0.9, by the power series of (1 - p) ln(1 - p): a sum over pairs of a power is a product of two sums."""
    rows, cols = np.asarray(rows, np.float64), np.asarray(cols, np.float64)
    p_ln_p = float(np.sum(rows * np.log(rows)) * np.sum(cols) + np.sum(rows) * np.sum(cols * np.log(cols)))
    nats = float(np.sum(rows) * np.sum(cols)) - p_ln_p
    nats -= sum(float(np.sum(rows**k) * np.sum(cols**k)) / (k * (k - 1)) for k in range(2, 200))
    return nats / math.log(2)


def rates_of(rng, how, mean, m, layer, layers):
    """Flip rates of one matrix: a number, or factors of rows and of columns."""
    if how == "uniform":
        return mean
    if how == "layers":
        return 4 * mean if layer % (layers // 4) == 1 and layer < 4 * (layers // 4) else 0.0
    return mean * log_normal(rng, m.rows), log_normal(rng, m.cols) if how == "rowcol" else np.ones(m.cols)


def updated(model, rng, pair, how, mean):
    """The model with changed weights and scales; adds to the counts of the pair."""
    layers = []
    for i, layer in enumerate(model.layers):
        if i == pair.unrelated:
            layers.append(layer)
            continue
        layers.append({})
        for name, m in layer.items():
            n = m.rows * m.cols
            scales, scale_bits = moved(rng, m.scales)
            pair.bits["scales"] += scale_bits
            if m.kind == BITS:
                rate = rates_of(rng, how, mean, m, i, len(model.layers))
                codes, k = flipped(rng, m, rate)
                one_rate = n * float(entropy(k / n))
                bits = entropy_of_products(*rate) if isinstance(rate, tuple) else one_rate
                pair.one_rate += one_rate
            else:
                codes, k, bits = requantized(rng, m, mean)
            pair.bits["signs"] += bits
            pair.weights, pair.changed = pair.weights + n, pair.changed + k
            layers[-1][name] = Matrix(m.kind, m.rows, m.cols, codes, scales)
    return Model(model.shape, layers, model.embedding, model.grouped)


def requantized(rng, m, rate):
    """Trits after a small normal step of the weights behind them, how many changed, and the entropy given the old trits: where, and the sign out of 0."""
    # a normal weight that lies on the other side of a threshold after a step of this size: 2 thresholds, density there, mean size of the step
    density = math.exp(-ZERO_BELOW**2 / 2) / math.sqrt(2 * math.pi)
    step = rate / (2 * density * math.sqrt(2 / math.pi))
    old = m.codes
    w = hidden_weights(rng, old)
    new = trits(w + np.float32(step) * rng.standard_normal(w.shape, np.float32))
    bits = 0.0
    for zero in (True, False):
        of = (old == 0) == zero
        n, k = int(np.count_nonzero(of)), int(np.count_nonzero(of & (new != old)))
        bits += n * float(entropy(k / n)) + (k if zero else 0)
    return new, int(np.count_nonzero(new != old)), bits


def hidden_weights(rng, codes):
    """Normal weights that have these trits."""
    w = np.empty(codes.shape, np.float32)
    zero = codes == 0
    small, large = np.empty(0, np.float32), np.empty(0, np.float32)
    wanted = int(np.count_nonzero(zero))
    while len(small) < wanted or len(large) < codes.size - wanted:
        draw = np.abs(rng.standard_normal(codes.size + codes.size // 50, np.float32))
        small, large = np.append(small, draw[draw <= ZERO_BELOW]), np.append(large, draw[draw > ZERO_BELOW])
    w[zero] = small[:wanted] * (2 * rng.integers(0, 2, wanted, np.int8) - 1)
    w[~zero] = large[:codes.size - wanted] * codes[~zero]
    return w


# ---- pairs ----------------------------------------------------------------------

def fresh(rng, shape, kind):
    layers = [fresh_layer(rng, shape, kind) for _ in range(shape.layers)]
    return Model(shape, layers, embedding_rows(rng, shape.vocabulary, shape.d))


def pair_of(folder, name, shape, how="uniform", rate=1e-3, kind=BITS, stored=None, seed=1):
    """The pair `name` in a folder: weights of a kind change at a mean rate; `how` they cluster; `stored` as another kind of file."""
    rng = np.random.default_rng(seed)
    pair = Pair(folder / f"{name}-old.bitnet", folder / f"{name}-new.bitnet")
    old = fresh(rng, shape, kind)
    layout = LAYOUTS.get(how)
    new = updated(layout(rng, old, pair) if layout else old, rng, pair, "uniform" if layout else how, rate)
    for model, path in ((old, pair.old), (new, pair.new)):
        for layer in model.layers if stored else ():
            for m in layer.values():
                m.kind = stored
        pair.bytes = write(path, model)
    return pair


def removed(rng, m, pair):
    return Model(replace(m.shape, layers=m.shape.layers - 1), m.layers[:3] + m.layers[4:], m.embedding)


def inserted(rng, m, pair):
    """A layer of new weights.  They, and their scales, count with all their bits."""
    layer = fresh_layer(rng, m.shape, BITS)
    pair.bits["new"] += sum(x.rows * x.cols + x.rows * 8 * x.scales.dtype.itemsize for x in layer.values())
    pair.unrelated = 3
    return Model(replace(m.shape, layers=m.shape.layers + 1), m.layers[:3] + [layer] + m.layers[3:], m.embedding)


def reordered(rng, m, pair):
    return Model(m.shape, m.layers, m.embedding, grouped=True)


def grown(rng, m, pair):
    """256 more rows of int8 in the embedding.  They count with the entropy of their values, their scales with all their bits."""
    rows, scales = m.embedding
    more, more_scales = embedding_rows(rng, 256, m.shape.d)
    share = np.bincount(more.reshape(-1).astype(np.int64) + 128) / more.size
    pair.bits["new"] += more.size * float(-np.sum(share[share > 0] * np.log2(share[share > 0]))) + 32 * len(more_scales)
    return Model(m.shape, m.layers, (np.concatenate([rows, more]), np.concatenate([scales, more_scales])))


LAYOUTS = {"removed": removed, "inserted": inserted, "reordered": reordered, "grown": grown}
