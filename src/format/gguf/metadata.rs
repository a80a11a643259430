//! The key-value part of a GGUF header.

use super::{cut_short, text, DEFAULT_ALIGNMENT};
use crate::bytes::Reader;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest key, as other readers have it.
pub(super) const MAX_KEY: usize = 65_535;

/// A value of the header.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(i64),
    /// An unsigned number that does not fit in [`Value::Int`].
    Large(u64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Strings(Vec<String>),
    Numbers(Numbers),
}

/// An array of numbers, as it lies in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

impl Kind {
    fn of(id: u32) -> Option<Kind> {
        Some(match id {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }

    /// The number in the `size` bytes of `b`.
    fn value(self, b: &[u8]) -> Value {
        let raw = b.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        match self {
            Kind::U8 | Kind::U16 | Kind::U32 => Value::Int(raw as i64),
            Kind::I8 => Value::Int(i64::from(raw as i8)),
            Kind::I16 => Value::Int(i64::from(raw as i16)),
            Kind::I32 => Value::Int(i64::from(raw as i32)),
            Kind::I64 => Value::Int(raw as i64),
            Kind::U64 => i64::try_from(raw).map_or(Value::Large(raw), Value::Int),
            Kind::F32 => Value::F32(f32::from_bits(raw as u32)),
            Kind::F64 => Value::F64(f64::from_bits(raw)),
            Kind::Bool => Value::Bool(raw != 0),
        }
    }
}

impl Numbers {
    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.size()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        self.bytes.chunks_exact(self.kind.size()).map(|b| self.kind.value(b))
    }

    /// The bytes of an array of u8 or i8.
    pub fn raw(&self) -> Option<&[u8]> {
        (self.kind.size() == 1 && self.kind != Kind::Bool).then_some(&self.bytes)
    }
}

impl Value {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) | Value::Large(_) => "a whole number",
            Value::F32(_) | Value::F64(_) => "a number",
            Value::Bool(_) => "a truth value",
            Value::Str(_) => "a text",
            Value::Strings(_) => "a list of texts",
            Value::Numbers(_) => "a list of numbers",
        }
    }
}

/// The key-value part of a header.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
    /// In the order of the file: where the value lies, from its type number on.
    spans: Vec<(String, Range<usize>)>,
}

impl Metadata {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Keys in the order of the file, and the bytes of each value there with its type number in front.
    pub fn spans(&self) -> &[(String, Range<usize>)] {
        &self.spans
    }

    fn typed<'a, T>(&'a self, key: &str, want: &str, f: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(v) = self.values.get(key) else { return Ok(None) };
        match f(v) {
            Some(t) => Ok(Some(t)),
            None => Err(Error::input(format!("`{key}` is {}, {want} is expected", v.kind()))),
        }
    }

    /// # Errors
    /// `Input` if the value is there and of another kind; so for all of these.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |v| if let Value::Str(s) = v { Some(s.as_str()) } else { None })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a truth value", |v| if let Value::Bool(b) = v { Some(*b) } else { None })
    }

    /// A number that is not negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number from 0", |v| match v {
            Value::Int(i) => u64::try_from(*i).ok(),
            Value::Large(n) => Some(*n),
            _ => None,
        })
    }

    /// What the data of tensors is padded to. Not checked: that is a matter of reading it.
    pub fn alignment(&self) -> Result<u64> {
        Ok(self.u64("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT))
    }

    /// A finite number. What was stored as f32 comes as the shortest decimal that means it: 1e-5 and not 9.99999974737875e-6.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite number", |v| match v {
            Value::F32(f) => f.to_string().parse().ok().filter(|f: &f64| f.is_finite()),
            Value::F64(f) => Some(*f).filter(|f| f.is_finite()),
            Value::Int(i) => Some(*i as f64),
            Value::Large(n) => Some(*n as f64),
            _ => None,
        })
    }

    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "a list of texts", |v| if let Value::Strings(s) = v { Some(&s[..]) } else { None })
    }

    pub fn numbers(&self, key: &str) -> Result<Option<&Numbers>> {
        self.typed(key, "a list of numbers", |v| if let Value::Numbers(n) = v { Some(n) } else { None })
    }
}

/// Reads `count` pairs.
pub fn read(r: &mut Reader, count: u64) -> Result<Metadata> {
    // A pair takes at least a length, a character, a type and a byte.
    if count > r.remaining() as u64 / 14 {
        return Err(cut_short(r, format!("it claims {count} keys, {} bytes are left", r.remaining())));
    }
    let mut all = Metadata::default();
    for _ in 0..count {
        let at = r.offset();
        let key = text(r, "a key", MAX_KEY)?;
        if key.is_empty() {
            return Err(Error::input("a key is empty").at_offset(at));
        }
        let from = r.offset() as usize;
        let value = value(r, &key)?;
        if all.values.insert(key.clone(), value).is_some() {
            return Err(Error::input(format!("the key `{key}` stands there twice")).at_offset(at));
        }
        all.spans.push((key, from..r.offset() as usize));
    }
    Ok(all)
}

fn value(r: &mut Reader, key: &str) -> Result<Value> {
    let id = r.u32()?;
    match id {
        8 => Ok(Value::Str(text(r, &format!("`{key}`"), usize::MAX)?)),
        9 => array(r, key),
        id => {
            let kind = kind(r, key, id)?;
            check_bools(r, key, kind, 1)?;
            Ok(kind.value(r.take(kind.size())?))
        }
    }
}

fn kind(r: &Reader, key: &str, id: u32) -> Result<Kind> {
    Kind::of(id).ok_or_else(|| r.error(format!("`{key}` has value type {id}, known are 0 to 12")))
}

fn array(r: &mut Reader, key: &str) -> Result<Value> {
    let id = r.u32()?;
    if id == 9 {
        return Err(r.error(format!("`{key}` is a list of lists, which the format does not have")));
    }
    let kind = if id == 8 { None } else { Some(kind(r, key, id)?) };
    let n = r.u64()?;
    let smallest = kind.map_or(8, Kind::size);
    let n = usize::try_from(n).ok().filter(|n| *n <= r.remaining() / smallest);
    let n =
        n.ok_or_else(|| cut_short(r, format!("`{key}` claims more items than the {} bytes left", r.remaining())))?;
    let Some(kind) = kind else {
        let mut all = Vec::with_capacity(n);
        for i in 0..n {
            all.push(text(r, &format_args!("item {i} of `{key}`"), usize::MAX)?);
        }
        return Ok(Value::Strings(all));
    };
    check_bools(r, key, kind, n)?;
    Ok(Value::Numbers(Numbers { kind, bytes: r.take(n * kind.size())?.to_vec() }))
}

/// A truth value is 0 or 1.
fn check_bools(r: &Reader, key: &str, kind: Kind, n: usize) -> Result<()> {
    match kind {
        Kind::Bool if r.peek(n).iter().any(|b| *b > 1) => {
            Err(Error::input(format!("`{key}` holds a truth value that is neither 0 nor 1")).at_offset(r.offset()))
        }
        _ => Ok(()),
    }
}
