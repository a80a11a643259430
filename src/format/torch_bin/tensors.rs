//! State dict → entries: where in the file the elements of each tensor are.

use super::pickle::{Id, Pickle, Tensor, Value};
use super::zip::Archive;
use crate::error::{Error, Result};
use crate::format::file::{Bytes, Entries, Entry};
use crate::limits::MAX_DIMS;
use crate::tensor::DType;

/// The type under which values are listed that are no tensors.
pub const NO_TENSOR: &str = "no tensor";

pub struct Reader<'a> {
    pub file: &'a [u8],
    pub archive: &'a Archive<'a>,
    pub prefix: &'a str,
    pub pickle: &'a Pickle<'a>,
    /// Bytes that may still be put in order: as many as the file has, so that views of one storage cannot fill the memory.
    pub budget: usize,
}

impl<'a> Reader<'a> {
    /// The entries of the state dict, which is the root or `state_dict` or `model` in it.
    pub fn entries(&mut self) -> Result<Entries> {
        let pickle = self.pickle;
        let Value::Dict(root) = pickle.root() else {
            return Err(Error::unsupported("the checkpoint holds no dict of tensors").hint("save `model.state_dict()`"));
        };
        let dict = if self.has_tensors(root) { root } else { self.nested(root).unwrap_or(root) };
        let mut entries = Entries::new();
        for (key, value) in dict {
            let Value::Text(name) = pickle.get(*key) else {
                return Err(Error::unsupported("the state dict has a key that is no text"));
            };
            let entry = match pickle.get(*value) {
                Value::Tensor(t) => self.entry(t).map_err(|e| e.at_tensor(name))?,
                _ => Entry { dtype: DType::Other(NO_TENSOR), shape: vec![0], data: Bytes::At(0..0) },
            };
            if entries.insert(name.to_string(), entry).is_some() {
                return Err(Error::input("the state dict has this name twice").at_tensor(name));
            }
        }
        Ok(entries)
    }

    fn has_tensors(&self, dict: &[(Id, Id)]) -> bool {
        dict.iter().any(|(_, v)| matches!(self.pickle.get(*v), Value::Tensor(_)))
    }

    /// Trainers put the state dict beside their own state.
    fn nested(&self, root: &[(Id, Id)]) -> Option<&'a [(Id, Id)]> {
        let pickle = self.pickle;
        ["state_dict", "model"].iter().find_map(|want| {
            let (_, v) = root.iter().find(|(k, _)| matches!(pickle.get(*k), Value::Text(t) if t == want))?;
            match pickle.get(*v) {
                Value::Dict(d) if self.has_tensors(d) => Some(d.as_slice()),
                _ => None,
            }
        })
    }

    /// Non-negative integers of a tuple or list.
    fn integers(&self, id: Id, what: &str) -> Result<Vec<usize>> {
        let (Value::Tuple(ids) | Value::List(ids)) = self.pickle.get(id) else {
            return Err(Error::input(format!("its {what} is no tuple")));
        };
        if ids.len() > MAX_DIMS {
            return Err(Error::unsupported(format!("it has {} dimensions, at most {MAX_DIMS} are read", ids.len())));
        }
        ids.iter().map(|id| self.integer(*id, what)).collect()
    }

    fn integer(&self, id: Id, what: &str) -> Result<usize> {
        match self.pickle.get(id) {
            Value::Int(v) => usize::try_from(*v).map_err(|_| Error::input(format!("its {what} has {v}"))),
            _ => Err(Error::input(format!("its {what} is no integer"))),
        }
    }

    /// The bytes of a storage.
    fn storage(&self, key: Id, elements: i64, size: usize) -> Result<std::ops::Range<usize>> {
        let Value::Text(key) = self.pickle.get(key) else {
            return Err(Error::input("the key of its storage is no text"));
        };
        if key.is_empty() || key.contains(['/', '\\']) || *key == ".." {
            return Err(Error::input(format!("`{key}` is no key of a storage")));
        }
        let name = format!("{}/data/{key}", self.prefix);
        let stored = self.archive.get(&name);
        let range =
            stored.ok_or_else(|| Error::input(format!("its storage `{name}` is not in the archive")))?.range.clone();
        let bytes = usize::try_from(elements).ok().and_then(|n| n.checked_mul(size));
        if bytes != Some(range.len()) {
            let what =
                format!("its storage `{name}` has {} bytes, {elements} elements of {size} are promised", range.len());
            return Err(Error::input(what).at_offset(range.start as u64));
        }
        Ok(range)
    }

    fn entry(&mut self, t: &Tensor) -> Result<Entry> {
        let Value::Storage { dtype, key, elements } = *self.pickle.get(t.storage) else {
            return Err(Error::input("it has no storage"));
        };
        let width = dtype.size().ok_or_else(|| Error::unsupported("elements without a size"))?;
        let storage = self.storage(key, elements, width)?;
        let offset = self.integer(t.offset, "offset")?;
        let (shape, stride) = (self.integers(t.size, "shape")?, self.integers(t.stride, "strides")?);
        if shape.len() != stride.len() {
            return Err(Error::input(format!("it has {} dimensions and {} strides", shape.len(), stride.len())));
        }
        let outside = || {
            let what = format!(
                "shape {shape:?} with strides {stride:?} from {offset} leaves its storage of {elements} elements"
            );
            Error::input(what).at_offset(storage.start as u64)
        };
        // Without the zeros, so that no order of multiplication can overflow later.
        let count = shape.iter().filter(|d| **d > 0).try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(outside)?;
        let capacity = storage.len() / width;
        if shape.contains(&0) {
            return Ok(Entry { dtype, shape, data: Bytes::At(storage.start..storage.start) });
        }
        let reach = shape.iter().zip(&stride).try_fold(offset, |r, (d, s)| r.checked_add((d - 1).checked_mul(*s)?));
        // Views that repeat elements may be longer than their storage, without a bound.
        if reach.is_none_or(|last| last >= capacity) || count > capacity {
            return Err(outside());
        }
        // The stride of a dimension of one element means nothing and may be anything.
        let stride: Vec<_> = shape.iter().zip(stride).map(|(d, s)| if *d == 1 { 0 } else { s }).collect();
        let mut packed = 1;
        let contiguous = shape.iter().zip(&stride).rev().all(|(d, s)| {
            let fits = *d == 1 || *s == packed;
            packed *= d;
            fits
        });
        if contiguous {
            let start = storage.start + offset * width;
            return Ok(Entry { dtype, shape, data: Bytes::At(start..start + count * width) });
        }
        self.budget = self.budget.checked_sub(count * width).ok_or_else(|| {
            Error::unsupported("the strided views of this file are together longer than the file")
                .hint("save the tensors with `.contiguous()`")
        })?;
        let bytes = gather(&self.file[storage], width, offset, &shape, &stride);
        Ok(Entry { dtype, shape, data: Bytes::Owned(bytes) })
    }
}

/// The elements of a view in row-major order; every index is inside of `storage`, there is no empty dimension.
fn gather(storage: &[u8], width: usize, offset: usize, shape: &[usize], stride: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * width);
    let mut index = vec![0; shape.len()];
    let mut at = offset;
    for _ in 0..count {
        out.extend_from_slice(&storage[at * width..(at + 1) * width]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += stride[d];
            if index[d] < shape[d] {
                break;
            }
            at -= index[d] * stride[d];
            index[d] = 0;
        }
    }
    out
}
