//! What an operator sees: its node, its inputs, and how much memory and work are left.

use super::value::{Value, Values};
use crate::engine::elements;
use crate::error::{Error, Result};
use crate::format::onnx::messages::{AttributeProto, NodeProto};
use crate::format::onnx::{Elem, Loaded};
use std::cell::Cell;

/// What a run may use. A file of a stranger can ask for any size and any number of products; one of ours never comes near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all values that exist at a time.
    pub bytes: u64,
    /// Elements computed, a product of two matrices counted as its multiplications.
    pub work: u64,
}

impl Limits {
    /// 256 MiB, and eight times what the file and the inputs have; 256 operations for each byte of the file (a MiB at least) and each
    /// element of the inputs (64 at least).
    pub fn of(file_bytes: u64, input_bytes: u64, input_elements: u64) -> Self {
        let bytes = (256 << 20) + 8u64.saturating_mul(file_bytes.saturating_add(input_bytes));
        let work = 256u64.saturating_mul(file_bytes.max(1 << 20)).saturating_mul(input_elements.max(64));
        Limits { bytes, work }
    }
}

/// What of the limits is used.
pub struct Budget {
    limits: Limits,
    live: Cell<u64>,
    work: Cell<u64>,
}

impl Budget {
    pub fn new(limits: Limits) -> Self {
        Budget { limits, live: Cell::new(0), work: Cell::new(0) }
    }

    pub fn grow(&self, bytes: u64) {
        self.live.set(self.live.get().saturating_add(bytes));
    }

    pub fn shrink(&self, bytes: u64) {
        self.live.set(self.live.get().saturating_sub(bytes));
    }
}

/// A node that runs.
pub struct Ctx<'n> {
    pub node: &'n NodeProto,
    /// Version of the operators of the domain of the node.
    pub opset: i64,
    pub budget: &'n Budget,
    /// The file, for tensors in attributes.
    pub loaded: &'n Loaded,
}

impl Ctx<'_> {
    /// Room for `n` elements of which each takes `size` bytes, if there may be so many.
    pub fn room(&self, n: usize, size: usize) -> Result<()> {
        let limit = self.budget.limits.bytes;
        let wanted = (n as u64).checked_mul(size as u64).and_then(|b| b.checked_add(self.budget.live.get()));
        match wanted {
            Some(b) if b <= limit => Ok(()),
            _ => Err(Error::unsupported(format!(
                "{n} more elements would need more than the {limit} bytes that a graph of this size may use"
            ))),
        }
    }

    /// The number of elements of a result, if there is room for it.
    pub fn elements<T>(&self, dims: &[usize]) -> Result<usize> {
        let n = elements(dims).ok_or_else(|| Error::input(format!("a result of shape {dims:?} is too large")))?;
        self.room(n, std::mem::size_of::<T>())?;
        self.work(n as u64)?;
        Ok(n)
    }

    /// An empty vector for so many elements.
    pub fn vec<T>(&self, n: usize) -> Result<Vec<T>> {
        self.room(n, std::mem::size_of::<T>())?;
        let mut v = Vec::new();
        v.try_reserve_exact(n).map_err(|_| Error::unsupported(format!("no memory for {n} elements")))?;
        Ok(v)
    }

    /// A vector of so many equal elements.
    pub fn filled<T: Clone>(&self, n: usize, with: T) -> Result<Vec<T>> {
        let mut v = self.vec(n)?;
        v.resize(n, with);
        Ok(v)
    }

    /// Counts operations.
    pub fn work(&self, n: u64) -> Result<()> {
        let done = self.budget.work.get().saturating_add(n);
        self.budget.work.set(done);
        match done <= self.budget.limits.work {
            true => Ok(()),
            false => Err(Error::unsupported("the graph computes more than a file of this size may with these inputs")),
        }
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    /// An attribute that is an integer.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.attribute(name) {
            None => Ok(default),
            Some(a) => a.i.ok_or_else(|| Error::input(format!("attribute {name} is no integer"))),
        }
    }

    /// An attribute that is a float.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        match self.attribute(name) {
            None => Ok(default),
            Some(a) => a.f.ok_or_else(|| Error::input(format!("attribute {name} is no float"))),
        }
    }

    /// An attribute that is a list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| &a.ints[..])
    }

    /// An attribute that is a tensor.
    pub fn tensor(&self, name: &str) -> Result<Option<Value<'_>>> {
        let Some(t) = self.attribute(name).and_then(|a| a.t.as_deref()) else { return Ok(None) };
        Value::stored(&t.dims, t.data_type, self.loaded.tensor_bytes(t)?).map(Some)
    }

    /// An attribute that may only have the value that means "not used".
    pub fn only(&self, name: &str, value: i64) -> Result<()> {
        match self.int(name, value)? {
            v if v == value => Ok(()),
            v => Err(Error::unsupported(format!("{name} = {v} is not known to the built-in engine"))),
        }
    }

    /// An axis of an array of `rank` dimensions, counted from the end if it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let r = rank as i64;
        match (-r..r).contains(&axis) {
            true => Ok(axis.rem_euclid(r) as usize),
            false => Err(Error::input(format!("axis {axis} of {rank} dimensions"))),
        }
    }

    /// A type that the operator does not have.
    pub fn no_type(&self, elem: Elem) -> Error {
        Error::unsupported(format!("{} of {} is not known to the built-in engine", self.node.op_type, elem.name()))
    }

    /// Two inputs that ought to have one type.
    pub fn mixed(&self, a: Elem, b: Elem) -> Error {
        Error::input(format!("{} of {} and {}", self.node.op_type, a.name(), b.name()))
    }
}

/// The inputs of a node; an optional one may be absent.
pub struct Args<'v, 'a>(pub Vec<Option<&'v Value<'a>>>);

impl<'v, 'a> Args<'v, 'a> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn opt(&self, i: usize) -> Option<&'v Value<'a>> {
        self.0.get(i).copied().flatten()
    }

    pub fn get(&self, i: usize) -> Result<&'v Value<'a>> {
        self.opt(i).ok_or_else(|| Error::input(format!("input {i} is missing")))
    }

    /// All inputs, of which none is absent.
    pub fn all(&self) -> Result<Vec<&'v Value<'a>>> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }

    /// A list of integers of a node: a tensor of int64 or int32 with at most one dimension.
    pub fn list(&self, i: usize) -> Result<Vec<i64>> {
        list(self.get(i)?)
    }

    /// As [`Args::list`], if the input is there.
    pub fn opt_list(&self, i: usize) -> Result<Option<Vec<i64>>> {
        self.opt(i).map(list).transpose()
    }

    /// An integer that is alone.
    pub fn scalar(&self, i: usize) -> Result<i64> {
        match self.list(i)?[..] {
            [one] => Ok(one),
            _ => Err(Error::input(format!("input {i} is to be one integer"))),
        }
    }
}

fn list(v: &Value) -> Result<Vec<i64>> {
    if v.dims.len() > 1 {
        return Err(Error::input(format!("a list of integers has the shape {:?}", v.dims)));
    }
    match &v.data {
        Values::I64(v) => Ok(v.to_vec()),
        Values::I32(v) => Ok(v.iter().map(|x| i64::from(*x)).collect()),
        _ => Err(Error::input(format!("a list of integers is of {}", v.elem().name()))),
    }
}
