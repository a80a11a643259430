//! The key-value part of a header on the way out: every value in its wire form, so that what was read goes out as it came in.

use super::metadata::MAX_KEY;
use super::{Metadata, DEFAULT_ALIGNMENT};
use crate::bytes::Reader;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A number of the format: its type number and its bytes.
pub trait Scalar: Copy {
    const ID: u32;
    fn push(self, out: &mut Vec<u8>);
}

macro_rules! scalars {
    ($($t:ty = $id:expr),*) => {$(
        impl Scalar for $t {
            const ID: u32 = $id;
            fn push(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}

scalars!(u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = U32, i32 = 5, f32 = 6, u64 = 10, i64 = 11, f64 = 12);

impl Scalar for bool {
    const ID: u32 = 7;
    fn push(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

/// Keys and values in the order in which they are written. A key that is set again keeps its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<(String, Vec<u8>)>);

impl Keys {
    /// A number or a truth value, in the type that it has here.
    pub fn set<T: Scalar>(&mut self, key: &str, value: T) {
        let mut wire = T::ID.to_le_bytes().to_vec();
        value.push(&mut wire);
        self.insert(key, wire);
    }

    pub fn set_text(&mut self, key: &str, value: &str) {
        let mut wire = STRING.to_le_bytes().to_vec();
        push_text(&mut wire, value);
        self.insert(key, wire);
    }

    pub fn set_list<T: Scalar>(&mut self, key: &str, values: &[T]) {
        let mut wire = list(T::ID, values.len());
        values.iter().for_each(|v| v.push(&mut wire));
        self.insert(key, wire);
    }

    pub fn set_texts<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        let mut wire = list(STRING, values.len());
        values.iter().for_each(|v| push_text(&mut wire, v.as_ref()));
        self.insert(key, wire);
    }

    /// All keys of a parsed file, byte for byte and in their order.
    pub fn of(file: &[u8], metadata: &Metadata) -> Keys {
        let wire = |(key, range): &(String, std::ops::Range<usize>)| {
            (key.clone(), file.get(range.clone()).unwrap_or_default().to_vec())
        };
        Keys(metadata.spans().iter().map(wire).collect())
    }

    /// The values as a reader sees them.
    ///
    /// # Errors
    /// As reading a file with these keys.
    pub fn metadata(&self) -> Result<Metadata> {
        let mut wire = Vec::new();
        self.wire(&mut wire);
        super::metadata::read(&mut Reader::new(&wire, 0, "the keys"), self.len() as u64)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// Drops the keys for which `drop` says so.
    pub fn remove(&mut self, drop: impl Fn(&str) -> bool) {
        self.0.retain(|(k, _)| !drop(k));
    }

    /// Puts `to` in the place of the prefix `from`.
    pub fn rename(&mut self, from: &str, to: &str) {
        for (key, _) in &mut self.0 {
            if let Some(rest) = key.strip_prefix(from) {
                *key = format!("{to}{rest}");
            }
        }
    }

    /// What `general.alignment` says, or the format's default.
    ///
    /// # Errors
    /// `Input` if it is no u32, or no power of two up to 2^20.
    pub fn alignment(&self) -> Result<u64> {
        let Some((_, wire)) = self.0.iter().find(|(k, _)| k == "general.alignment") else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let of_u32 = wire.strip_prefix(&U32.to_le_bytes()[..]).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        match of_u32.map(u64::from) {
            Some(n) if super::is_alignment(n) => Ok(n),
            _ => Err(Error::input("`general.alignment` is no u32 that is a power of two up to 2^20")),
        }
    }

    /// # Errors
    /// `Input` for a key that no reader takes.
    pub(super) fn check(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (k, _) in &self.0 {
            if k.is_empty() || k.len() > MAX_KEY {
                return Err(Error::input(format!("a key has 1 to {MAX_KEY} bytes, this one {}", k.len())));
            }
            if !seen.insert(k) {
                return Err(Error::input(format!("the key `{}` would stand in the file twice", k.escape_debug())));
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The whole part as the file has it.
    pub(super) fn wire(&self, out: &mut Vec<u8>) {
        for (key, wire) in &self.0 {
            push_text(out, key);
            out.extend_from_slice(wire);
        }
    }

    fn insert(&mut self, key: &str, wire: Vec<u8>) {
        match self.0.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = wire,
            None => self.0.push((key.to_string(), wire)),
        }
    }
}

fn list(id: u32, n: usize) -> Vec<u8> {
    [&ARRAY.to_le_bytes()[..], &id.to_le_bytes(), &(n as u64).to_le_bytes()].concat()
}

/// A text with its length in front.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
