//! Runs an ONNX file: with an interpreter of our own, which knows only what the exporter writes and can show every inner value, or with
//! ONNX Runtime from a library that the user has (feature `ort`).

pub mod builtin;
#[cfg(feature = "ort")]
pub mod ort;

use crate::error::{Error, Result};
use crate::format::onnx::Elem;

/// The elements of a tensor in row-major order. Integers of 2 and 4 bits stand unpacked in `I8` and `U8`.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::I8(v) => v.len(),
            Data::U8(v) => v.len(),
            Data::I16(v) => v.len(),
            Data::U16(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::U32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::U64(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn elem(&self) -> Elem {
        match self {
            Data::F32(_) => Elem::F32,
            Data::F64(_) => Elem::F64,
            Data::I8(_) => Elem::I8,
            Data::U8(_) => Elem::U8,
            Data::I16(_) => Elem::I16,
            Data::U16(_) => Elem::U16,
            Data::I32(_) => Elem::I32,
            Data::U32(_) => Elem::U32,
            Data::I64(_) => Elem::I64,
            Data::U64(_) => Elem::U64,
            Data::Bool(_) => Elem::Bool,
        }
    }
}

/// An array with as many elements as the product of its dimensions; no dimensions are a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dims: Vec<usize>,
    pub data: Data,
}

impl Tensor {
    /// # Errors
    /// The dimensions do not multiply to the number of elements.
    pub fn new(dims: &[usize], data: Data) -> Result<Self> {
        if elements(dims) != Some(data.len()) {
            return Err(Error::input(format!("a tensor of shape {dims:?} was given {} elements", data.len())));
        }
        Ok(Tensor { dims: dims.to_vec(), data })
    }

    /// A tensor of int64, as ids and masks are.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn i64s(dims: &[usize], values: Vec<i64>) -> Result<Self> {
        Self::new(dims, Data::I64(values))
    }

    /// A tensor of `elem` with every element 0 (or false), for instance an empty cache, which has a dimension of 0.
    ///
    /// # Errors
    /// A type that no engine takes, or a shape with more elements than fit the address space.
    pub fn zeros(elem: Elem, dims: &[usize]) -> Result<Self> {
        let n = elements(dims).filter(|n| n.checked_mul(8).is_some_and(|b| b <= isize::MAX as usize));
        let n = n.ok_or_else(|| Error::input(format!("a tensor of shape {dims:?} is too large")))?;
        let data = match elem {
            Elem::F32 => Data::F32(vec![0.0; n]),
            Elem::F64 => Data::F64(vec![0.0; n]),
            Elem::I8 => Data::I8(vec![0; n]),
            Elem::U8 => Data::U8(vec![0; n]),
            Elem::I16 => Data::I16(vec![0; n]),
            Elem::U16 => Data::U16(vec![0; n]),
            Elem::I32 => Data::I32(vec![0; n]),
            Elem::U32 => Data::U32(vec![0; n]),
            Elem::I64 => Data::I64(vec![0; n]),
            Elem::U64 => Data::U64(vec![0; n]),
            Elem::Bool => Data::Bool(vec![false; n]),
            other => return Err(Error::unsupported(format!("no engine takes tensors of {} as input", other.name()))),
        };
        Ok(Tensor { dims: dims.to_vec(), data })
    }

    /// The type of the elements.
    pub fn elem(&self) -> Elem {
        self.data.elem()
    }
}

/// The product of dimensions, unless it overflows. A shape with a dimension of 0 has no elements, but the product of the others must fit, too,
/// so that no part of a shape ever overflows.
pub fn elements(dims: &[usize]) -> Option<usize> {
    let others = dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    let fits = others <= isize::MAX as usize;
    fits.then_some(if dims.contains(&0) { 0 } else { others })
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub elem: Elem,
    /// `None`: the size is known only at run time.
    pub dims: Vec<Option<usize>>,
}

/// Something that runs a graph.
pub trait Engine {
    /// Name and version, for reports: "onnxruntime 1.31.1".
    fn name(&self) -> String;

    /// What [`Engine::run`] needs, in the order of the file.
    fn inputs(&self) -> Vec<Port>;

    /// What the graph gives, in the order of the file.
    fn outputs(&self) -> Vec<Port>;

    /// Computes the values named in `wanted`, in that order. Names are those of outputs; the built-in engine also gives any inner value.
    ///
    /// # Errors
    /// An input that is missing, unknown or of another type or shape; a name that the graph does not have; what the graph does with
    /// the values (a division by zero, an index out of range), with the node.
    fn run(&mut self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<Vec<Tensor>>;
}
