//! Functions of floats.

use crate::export::onnx::graph::{Attr, Graph, Value};
use crate::export::onnx::int::math::Ints;
use crate::kernels::vector::Act;

/// A reduction over one dimension, which becomes 1.
pub fn reduce(g: &mut Graph, op: &str, v: Value, axis: i64) -> Value {
    if g.opset() < 18 {
        return g.op(op, &[v], &[("axes", Attr::Ints(&[axis])), ("keepdims", Attr::I(1))]);
    }
    let axes = g.i64s(&[1], &[axis]);
    g.op(op, &[v, axes], &[("keepdims", Attr::I(1))])
}

/// `c * tanh(x / c)`.
pub fn capped(m: &mut Ints, x: Value, c: f64) -> Value {
    let c = m.g.f32(c as f32);
    let x = m.g.op("Div", &[x, c], &[]);
    let x = m.g.op("Tanh", &[x], &[]);
    m.g.op("Mul", &[x, c], &[])
}

/// The non-linearity of ACT and of gates.
pub fn act(m: &mut Ints, x: Value, kind: Act) -> Value {
    let g = &mut m.g;
    match kind {
        Act::Relu => g.op("Relu", &[x], &[]),
        Act::Relu2 => {
            let r = g.op("Relu", &[x], &[]);
            g.op("Mul", &[r, r], &[])
        }
        Act::Silu => {
            let s = g.op("Sigmoid", &[x], &[]);
            g.op("Mul", &[x, s], &[])
        }
        Act::Tanh => g.op("Tanh", &[x], &[]),
        // Hendrycks and Gimpel 2016.
        Act::GeluTanh => {
            let (a, b, one, half) =
                (g.f32(0.044715), g.f32((2.0 / std::f64::consts::PI).sqrt() as f32), g.f32(1.0), g.f32(0.5));
            let square = g.op("Mul", &[x, x], &[]);
            let cube = g.op("Mul", &[square, x], &[]);
            let cube = g.op("Mul", &[cube, a], &[]);
            let inner = g.op("Add", &[x, cube], &[]);
            let inner = g.op("Mul", &[inner, b], &[]);
            let t = g.op("Tanh", &[inner], &[]);
            let t = g.op("Add", &[t, one], &[]);
            let t = g.op("Mul", &[t, half], &[]);
            g.op("Mul", &[x, t], &[])
        }
        Act::Gelu => {
            let (root, one, half) = (g.f32(std::f32::consts::SQRT_2), g.f32(1.0), g.f32(0.5));
            let e = g.op("Div", &[x, root], &[]);
            let e = g.op("Erf", &[e], &[]);
            let e = g.op("Add", &[e, one], &[]);
            let e = g.op("Mul", &[e, half], &[]);
            g.op("Mul", &[x, e], &[])
        }
    }
}
