//! What a pickle of a state dict can hold, without the part of pickle that runs code.
//!
//! A pickle is a program for a stack machine. This machine knows the operations that build values, and the names it may look up are a dict, two
//! ways to put a tensor together, and element types; none of them is a function that is called with what the file says. Everything else is refused by its name.
//!
//! Values lie in one list and refer to each other by their place in it. So a value that the file uses a thousand times is there once, depth
//! costs no stack of ours, and an operation of the file adds at most one value: memory is bounded by the length of the file.

use crate::tensor::DType;

/// The place of a value in its [`Pickle`].
pub type Id = u32;

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// Keys and values in the order of the file; a key may come twice.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage {
        dtype: DType,
        key: Id,
        elements: i64,
    },
    Tensor(Tensor),
    /// Floats, bytes and integers beyond 64 bits: no tensor needs them.
    Other,
}

/// The arguments of `_rebuild_tensor_v2`, not yet looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub storage: Id,
    pub offset: Id,
    pub size: Id,
    pub stride: Id,
}

/// What a file may look up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(DType),
}

/// The only names of all that a pickle could ask for.
pub fn global(module: &str, name: &str) -> Option<Global> {
    let storage = match (module, name) {
        ("collections", "OrderedDict") => return Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => return Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => return Some(Global::RebuildParameter),
        ("torch", name) => name.strip_suffix("Storage")?,
        _ => return None,
    };
    Some(Global::Storage(match storage {
        "Double" => DType::F64,
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::Bf16,
        "Long" => DType::I64,
        "Int" => DType::I32,
        "Short" => DType::I16,
        "Char" => DType::I8,
        "Byte" => DType::U8,
        "Bool" => DType::Bool,
        _ => return None,
    }))
}

/// The values of a pickle that ran to its end.
pub struct Pickle<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) root: Id,
}

impl<'a> Pickle<'a> {
    pub fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    pub fn get(&self, id: Id) -> &Value<'a> {
        // Only the machine makes ids, one for each value.
        &self.values[id as usize]
    }
}
