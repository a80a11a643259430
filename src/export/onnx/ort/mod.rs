//! Profile `ort`: the float profile on GroupQueryAttention and MatMulNBits, operators that ONNX Runtime has beside the standard.

mod attend;
mod blocks;
mod linear;
#[cfg(test)]
mod tests;

use super::graph::{Graph, Value};
use super::int::math::Ints;
use super::std::attend::Kv;
use super::std::linear::Codes;
use super::std::{self, Kernels, Place, Query};
use super::weights::Matrix;
use super::{Settings, WeightForm};
use crate::error::{Error, Result};
use crate::program::TensorId;
use crate::runtime::Artifact;

/// How MatMulNBits is used.
struct Contributed {
    /// Bits of a weight of -1, 0 or 1; others have 4.
    bits: u32,
    exact: bool,
}

/// The graph of a packed file.
///
/// # Errors
/// `Unsupported` with what GroupQueryAttention has no way to say, `Usage` for settings of another profile.
pub fn build<'a>(artifact: &'a Artifact, s: &Settings) -> Result<Graph<'a>> {
    if artifact.program.encoder {
        return Err(cannot(
            artifact,
            "each token of an encoder sees all others, and GroupQueryAttention looks back only",
        ));
    }
    let bits = match s.weights {
        WeightForm::Int4 => 4,
        WeightForm::Int2 if s.exact => {
            let e = Error::usage("2-bit weights at accuracy level 1 are unpacked for every product");
            return Err(e.hint("leave `--exact` or `--weights int2` away"));
        }
        WeightForm::Int2 => 2,
        WeightForm::Int8 => {
            let e = Error::usage("low-bit weights of the profile `ort` have 4 or 2 bits");
            return Err(e.hint("leave `--weights` away"));
        }
    };
    let mut g = std::translate(artifact, s, &Contributed { bits, exact: s.exact })?;
    g.meta("bitnet.accuracy_level", if s.exact { "1" } else { "4" });
    g.meta(
        "bitnet.sums",
        match s.exact {
            true => "exact: the runtime rounds no activations",
            false => "approximate by what accuracy level 4 allows; exact where the runtime rounds a block to 127 steps of its largest",
        },
    );
    Ok(g)
}

fn cannot(a: &Artifact, what: &str) -> Error {
    Error::unsupported(format!("profile `ort` cannot express this model: {what}"))
        .hint("use `--profile std`, in which every program has a graph")
        .at_file(&a.packed.path)
}

impl<'a> Kernels<'a> for Contributed {
    fn codes(&self, m: &mut Ints<'a>, n: usize, c: &Codes) {
        m.g.name(c.real, format!("op{n}.codes"));
    }

    fn linear(&self, m: &mut Ints<'a>, n: usize, c: &Codes, w: &Matrix<'a>) -> Value {
        match self.bits(w) {
            Some(bits) => linear::sums(m, n, c, w, bits, self.exact),
            // As fast at 8 bits, and exact everywhere.
            None => std::linear::linear(m, n, c, w, WeightForm::Int8),
        }
    }

    fn product(&self, m: &mut Ints<'a>, x: Value, w: &Matrix<'a>) -> Value {
        match self.bits(w) {
            // Two bits would be unpacked for every product.
            Some(_) => linear::product(m, x, w, 4),
            None => std::linear::product(m, x, w),
        }
    }

    fn kvwrite(&self, m: &mut Ints<'a>, at: &Place, layer: usize, kv: (Value, Value), freq: Option<TensorId>) -> Kv {
        attend::kvwrite(m, at, layer, kv, freq)
    }

    fn attend(&self, m: &mut Ints<'a>, at: &Place, kv: &mut Kv, query: &Query) -> Result<Value> {
        attend::attend(m, at, kv, query)
    }
}

impl Contributed {
    /// Bits that MatMulNBits stores these weights in; None: they have more than 4.
    fn bits(&self, w: &Matrix) -> Option<u32> {
        match w.enc.wmax() {
            1 => Some(self.bits),
            ..=8 => Some(4),
            _ => None,
        }
    }
}
