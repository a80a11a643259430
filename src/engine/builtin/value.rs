//! Values between nodes: vectors that nodes share, or weights as they lie in the mapped file.

use crate::engine::{elements, Data, Tensor};
use crate::error::{Error, Result};
use crate::format::onnx::Elem;
use std::borrow::Cow;
use std::ops::Deref;
use std::rc::Rc;

/// Elements that are owned together, or that lie in the file.
#[derive(Clone)]
pub enum Buf<'a, T> {
    Owned(Rc<Vec<T>>),
    Mapped(&'a [T]),
}

impl<T> Deref for Buf<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Buf::Owned(v) => v,
            Buf::Mapped(v) => v,
        }
    }
}

impl<T> From<Vec<T>> for Buf<'_, T> {
    fn from(v: Vec<T>) -> Self {
        Buf::Owned(Rc::new(v))
    }
}

impl<T: Clone> Buf<'_, T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Buf::Owned(v) => Rc::try_unwrap(v).unwrap_or_else(|v| v.to_vec()),
            Buf::Mapped(v) => v.to_vec(),
        }
    }
}

/// Elements of one of the types that nodes compute with.
#[derive(Clone)]
pub enum Values<'a> {
    F32(Buf<'a, f32>),
    F64(Buf<'a, f64>),
    I8(Buf<'a, i8>),
    U8(Buf<'a, u8>),
    I16(Buf<'a, i16>),
    U16(Buf<'a, u16>),
    I32(Buf<'a, i32>),
    U32(Buf<'a, u32>),
    I64(Buf<'a, i64>),
    U64(Buf<'a, u64>),
    Bool(Buf<'a, bool>),
    /// Integers of 2 or 4 bits as they are stored, the first in the lowest bits. Only Cast takes them.
    Packed(Elem, Buf<'a, u8>),
}

/// Runs `$body` for the elements of any type that is not packed, `$v` being the buffer and `$wrap` its variant.
macro_rules! each {
    ($values:expr, $v:ident, $wrap:ident => $body:expr, packed $other:pat => $refused:expr) => {
        match $values {
            Values::F32($v) => {
                let $wrap = Values::F32;
                $body
            }
            Values::F64($v) => {
                let $wrap = Values::F64;
                $body
            }
            Values::I8($v) => {
                let $wrap = Values::I8;
                $body
            }
            Values::U8($v) => {
                let $wrap = Values::U8;
                $body
            }
            Values::I16($v) => {
                let $wrap = Values::I16;
                $body
            }
            Values::U16($v) => {
                let $wrap = Values::U16;
                $body
            }
            Values::I32($v) => {
                let $wrap = Values::I32;
                $body
            }
            Values::U32($v) => {
                let $wrap = Values::U32;
                $body
            }
            Values::I64($v) => {
                let $wrap = Values::I64;
                $body
            }
            Values::U64($v) => {
                let $wrap = Values::U64;
                $body
            }
            Values::Bool($v) => {
                let $wrap = Values::Bool;
                $body
            }
            $other => $refused,
        }
    };
}
pub(super) use each;

impl Values<'_> {
    pub fn elem(&self) -> Elem {
        match self {
            Values::F32(_) => Elem::F32,
            Values::F64(_) => Elem::F64,
            Values::I8(_) => Elem::I8,
            Values::U8(_) => Elem::U8,
            Values::I16(_) => Elem::I16,
            Values::U16(_) => Elem::U16,
            Values::I32(_) => Elem::I32,
            Values::U32(_) => Elem::U32,
            Values::I64(_) => Elem::I64,
            Values::U64(_) => Elem::U64,
            Values::Bool(_) => Elem::Bool,
            Values::Packed(elem, _) => *elem,
        }
    }

    /// Bytes of memory that are owned; those of a mapped weight are the file's.
    pub fn owned_bytes(&self) -> u64 {
        each!(self, v, _same => match v {
            Buf::Owned(v) => std::mem::size_of_val(v.as_slice()) as u64,
            Buf::Mapped(_) => 0,
        }, packed Values::Packed(_, v) => match v {
            Buf::Owned(v) => v.len() as u64,
            Buf::Mapped(_) => 0,
        })
    }
}

/// A value of the graph: as many elements as its dimensions say.
#[derive(Clone)]
pub struct Value<'a> {
    pub dims: Vec<usize>,
    pub data: Values<'a>,
}

impl<'a> Value<'a> {
    pub fn new(dims: Vec<usize>, data: Values<'a>) -> Self {
        Value { dims, data }
    }

    pub fn elem(&self) -> Elem {
        self.data.elem()
    }

    /// Number of elements, as the dimensions say.
    pub fn len(&self) -> usize {
        // A value exists only if this fitted.
        elements(&self.dims).unwrap_or(usize::MAX)
    }

    /// A tensor of the file. `bytes` has been checked to be as long as its shape and type say.
    pub fn stored(dims: &[i64], elem: i32, bytes: Cow<'a, [u8]>) -> Result<Self> {
        let elem = Elem::from_id(elem).ok_or_else(|| Error::unsupported("an unknown element type"))?;
        let dims = dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>();
        let dims = dims.filter(|d| elements(d).is_some()).ok_or_else(|| Error::input("a shape without a meaning"))?;
        let data = match elem {
            Elem::F32 => Values::F32(numbers(bytes, f32::from_le_bytes)),
            Elem::F64 => Values::F64(numbers(bytes, f64::from_le_bytes)),
            Elem::I8 => Values::I8(numbers(bytes, i8::from_le_bytes)),
            Elem::U8 => Values::U8(numbers(bytes, u8::from_le_bytes)),
            Elem::I16 => Values::I16(numbers(bytes, i16::from_le_bytes)),
            Elem::U16 => Values::U16(numbers(bytes, u16::from_le_bytes)),
            Elem::I32 => Values::I32(numbers(bytes, i32::from_le_bytes)),
            Elem::U32 => Values::U32(numbers(bytes, u32::from_le_bytes)),
            Elem::I64 => Values::I64(numbers(bytes, i64::from_le_bytes)),
            Elem::U64 => Values::U64(numbers(bytes, u64::from_le_bytes)),
            Elem::Bool => Values::Bool(bytes.iter().map(|b| *b != 0).collect::<Vec<_>>().into()),
            Elem::U4 | Elem::I4 | Elem::U2 | Elem::I2 => Values::Packed(elem, numbers(bytes, u8::from_le_bytes)),
            other => return Err(Error::unsupported(format!("a weight of type {}", other.name()))),
        };
        let value = Value { dims, data };
        match value.holds() == Some(value.len()) {
            true => Ok(value),
            false => Err(Error::input("a weight with another number of bytes than its shape says")),
        }
    }

    /// Number of elements that the data have; of packed ones, the number of the shape if it leads to as many bytes.
    fn holds(&self) -> Option<usize> {
        each!(&self.data, v, _same => Some(v.len()), packed Values::Packed(elem, v) => {
            let (n, each) = (self.len(), 8 / elem.bits() as usize);
            (n.div_ceil(each) == v.len()).then_some(n)
        })
    }

    pub fn from_tensor(t: &'a Tensor) -> Self {
        let data = match &t.data {
            Data::F32(v) => Values::F32(Buf::Mapped(v)),
            Data::F64(v) => Values::F64(Buf::Mapped(v)),
            Data::I8(v) => Values::I8(Buf::Mapped(v)),
            Data::U8(v) => Values::U8(Buf::Mapped(v)),
            Data::I16(v) => Values::I16(Buf::Mapped(v)),
            Data::U16(v) => Values::U16(Buf::Mapped(v)),
            Data::I32(v) => Values::I32(Buf::Mapped(v)),
            Data::U32(v) => Values::U32(Buf::Mapped(v)),
            Data::I64(v) => Values::I64(Buf::Mapped(v)),
            Data::U64(v) => Values::U64(Buf::Mapped(v)),
            Data::Bool(v) => Values::Bool(Buf::Mapped(v)),
        };
        Value { dims: t.dims.clone(), data }
    }

    pub fn into_tensor(self) -> Tensor {
        let n = self.len();
        let data = match self.data {
            Values::F32(v) => Data::F32(v.into_vec()),
            Values::F64(v) => Data::F64(v.into_vec()),
            Values::I8(v) => Data::I8(v.into_vec()),
            Values::U8(v) => Data::U8(v.into_vec()),
            Values::I16(v) => Data::I16(v.into_vec()),
            Values::U16(v) => Data::U16(v.into_vec()),
            Values::I32(v) => Data::I32(v.into_vec()),
            Values::U32(v) => Data::U32(v.into_vec()),
            Values::I64(v) => Data::I64(v.into_vec()),
            Values::U64(v) => Data::U64(v.into_vec()),
            Values::Bool(v) => Data::Bool(v.into_vec()),
            Values::Packed(elem, v) => {
                let all = unpacked(elem, &v, n);
                match elem {
                    Elem::I4 | Elem::I2 => Data::I8(all.collect()),
                    _ => Data::U8(all.map(|c| c as u8).collect()),
                }
            }
        };
        Tensor { dims: self.dims, data }
    }
}

/// The `n` integers of 2 or 4 bits in `bytes`, with their sign if the type has one.
pub fn unpacked(elem: Elem, bytes: &[u8], n: usize) -> impl Iterator<Item = i8> + '_ {
    let bits = (elem.bits() as u32).clamp(1, 8);
    let signed = matches!(elem, Elem::I4 | Elem::I2);
    let codes = bytes.iter().flat_map(move |b| (0..8 / bits).map(move |i| (b >> (i * bits) << (8 - bits)) as i8));
    codes.map(move |c| if signed { c >> (8 - bits) } else { ((c as u8) >> (8 - bits)) as i8 }).take(n)
}

/// Little-endian numbers: the bytes themselves where the machine reads them as they lie, else a copy.
fn numbers<T: Plain, const N: usize>(bytes: Cow<'_, [u8]>, read: fn([u8; N]) -> T) -> Buf<'_, T> {
    if cfg!(target_endian = "little") {
        if let Cow::Borrowed(b) = bytes {
            // SAFETY: `Plain` types have no padding and every pattern of bits is a value of them.
            let (before, all, after) = unsafe { b.align_to::<T>() };
            if before.is_empty() && after.is_empty() {
                return Buf::Mapped(all);
            }
        }
    }
    let all = bytes.chunks_exact(N).map(|b| {
        let mut one = [0; N];
        one.copy_from_slice(b);
        read(one)
    });
    all.collect::<Vec<_>>().into()
}

/// Numbers of which every pattern of bits is one.
///
/// # Safety
/// No padding, no invalid pattern.
unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty)*) => { $(
        // SAFETY: a number of the machine.
        unsafe impl Plain for $t {}
    )* };
}
plain!(f32 f64 i8 u8 i16 u16 i32 u32 i64 u64);
