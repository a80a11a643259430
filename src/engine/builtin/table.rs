//! The operators that are known.

use super::node::{Args, Ctx};
use super::value::Value;
use super::{arithmetic, attention, cast, matmul, nbits, reduce, select, shape, unary};
use crate::error::{Error, Result};
use crate::format::onnx::messages::NodeProto;

/// Computes the outputs of a node.
pub type Run = for<'v, 'a> fn(&Ctx<'_>, &Args<'v, 'a>) -> Result<Vec<Value<'a>>>;

/// Name, fewest and most inputs, most outputs.
type Row = (&'static str, usize, usize, usize, Run);

const MANY: usize = usize::MAX;

/// Operators of the standard. Versions from 13 on; where a later one moves an attribute to an input, both are known.
const STANDARD: [Row; 56] = [
    ("Abs", 1, 1, 1, unary::abs),
    ("Add", 2, 2, 1, arithmetic::add),
    ("And", 2, 2, 1, arithmetic::and),
    ("Cast", 1, 1, 1, cast::cast),
    ("Clip", 1, 3, 1, arithmetic::clip),
    ("Concat", 1, MANY, 1, select::concat),
    ("ConstantOfShape", 1, 1, 1, cast::constant_of_shape),
    ("Cos", 1, 1, 1, unary::cos),
    ("CumSum", 2, 2, 1, reduce::cumulative_sum),
    ("Div", 2, 2, 1, arithmetic::div),
    ("Equal", 2, 2, 1, arithmetic::equal),
    ("Erf", 1, 1, 1, unary::erf),
    ("Exp", 1, 1, 1, unary::exp),
    ("Expand", 2, 2, 1, select::expand),
    ("Floor", 1, 1, 1, unary::floor),
    ("Gather", 2, 2, 1, select::gather),
    ("Greater", 2, 2, 1, arithmetic::greater),
    ("GreaterOrEqual", 2, 2, 1, arithmetic::greater_or_equal),
    ("Identity", 1, 1, 1, shape::identity),
    ("Less", 2, 2, 1, arithmetic::less),
    ("LessOrEqual", 2, 2, 1, arithmetic::less_or_equal),
    ("Log", 1, 1, 1, unary::log),
    ("MatMul", 2, 2, 1, matmul::matmul),
    ("MatMulInteger", 2, 4, 1, matmul::matmul_integer),
    ("Max", 1, MANY, 1, arithmetic::max),
    ("Min", 1, MANY, 1, arithmetic::min),
    ("Mod", 2, 2, 1, arithmetic::modulo),
    ("Mul", 2, 2, 1, arithmetic::mul),
    ("Neg", 1, 1, 1, unary::neg),
    ("Not", 1, 1, 1, unary::not),
    ("Or", 2, 2, 1, arithmetic::or),
    ("Pow", 2, 2, 1, unary::pow),
    ("Range", 3, 3, 1, cast::range),
    ("Reciprocal", 1, 1, 1, unary::reciprocal),
    ("ReduceMax", 1, 2, 1, reduce::max),
    ("ReduceMean", 1, 2, 1, reduce::mean),
    ("ReduceMin", 1, 2, 1, reduce::min),
    ("ReduceSum", 1, 2, 1, reduce::sum),
    ("Relu", 1, 1, 1, unary::relu),
    ("Reshape", 2, 2, 1, shape::reshape),
    ("Round", 1, 1, 1, unary::round),
    ("Shape", 1, 1, 1, shape::shape),
    ("Sigmoid", 1, 1, 1, unary::sigmoid),
    ("Sign", 1, 1, 1, unary::sign),
    ("Sin", 1, 1, 1, unary::sin),
    ("Slice", 3, 5, 1, select::slice),
    ("Softmax", 1, 1, 1, unary::softmax),
    ("Split", 1, 2, MANY, select::split),
    ("Sqrt", 1, 1, 1, unary::sqrt),
    ("Squeeze", 1, 2, 1, shape::squeeze),
    ("Sub", 2, 2, 1, arithmetic::sub),
    ("Tanh", 1, 1, 1, unary::tanh),
    ("Transpose", 1, 1, 1, select::transpose),
    ("Unsqueeze", 2, 2, 1, shape::unsqueeze),
    ("Where", 3, 3, 1, select::choose),
    ("Xor", 2, 2, 1, arithmetic::xor),
];

/// Operators of com.microsoft.
const MICROSOFT: [Row; 2] = [
    ("GroupQueryAttention", 7, 14, 3, attention::group_query_attention),
    ("MatMulNBits", 3, 6, 1, nbits::matmul_nbits),
];

/// What runs a node.
///
/// # Errors
/// An operator that is not known, or a number of inputs or outputs that it does not have.
pub fn find(node: &NodeProto) -> Result<Run> {
    let rows: &[Row] = match &node.domain[..] {
        "" | "ai.onnx" => &STANDARD,
        "com.microsoft" => &MICROSOFT,
        _ => &[],
    };
    let row = rows.iter().find(|r| r.0 == node.op_type);
    let (_, fewest, most, outputs, run) = *row.ok_or_else(|| {
        let domain = if node.domain.is_empty() { "ai.onnx" } else { &node.domain };
        Error::unsupported(format!("the built-in engine does not know this operator of {domain}"))
            .hint("run the file with ONNX Runtime: --engine ort --lib PATH")
    })?;
    let (i, o) = (node.input.len(), node.output.len());
    match (fewest..=most).contains(&i) && (1..=outputs).contains(&o) {
        true => Ok(run),
        false => Err(Error::input(format!("{i} inputs and {o} outputs"))),
    }
}
