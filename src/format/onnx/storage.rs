//! Where the bytes of tensors are: in one of the fields of their message, or in another file of the same folder.

use super::messages::{StringStringEntryProto, TensorProto, EXTERNAL};
use super::Elem;
use crate::error::{Error, Kind, Result};
use crate::fsio::{self, Mapped};
use crate::limits::MAX_DIMS;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The type and the number of bytes of a tensor.
///
/// # Errors
/// `Unsupported` for a type that we do not know, `Input` for a shape that no tensor has.
pub(super) fn size(t: &TensorProto) -> Result<(Elem, u64)> {
    let elem = elem(t.data_type)?;
    if t.dims.len() > MAX_DIMS {
        return Err(Error::input(format!("{} dimensions, at most {MAX_DIMS} are read", t.dims.len())));
    }
    if let Some(d) = t.dims.iter().find(|d| **d < 0) {
        return Err(Error::input(format!("a dimension is {d}")));
    }
    // Without the zeros, so that no dimension beside one escapes.
    let product = t.dims.iter().filter(|d| **d > 0).try_fold(1u64, |n, d| n.checked_mul(*d as u64));
    let bytes = product.and_then(|n| elem.bytes(n)).filter(|b| i64::try_from(*b).is_ok());
    let bytes = bytes.ok_or_else(|| Error::input(format!("{:?} has more elements than anything can hold", t.dims)))?;
    Ok((elem, if t.dims.contains(&0) { 0 } else { bytes }))
}

/// # Errors
/// `Unsupported` with the number and, where the format has one, the name.
pub(super) fn elem(id: i32) -> Result<Elem> {
    Elem::from_id(id).ok_or_else(|| {
        let name = match id {
            0 => " (undefined)",
            8 => " (text)",
            14 | 15 => " (complex numbers)",
            16 => " (bfloat16)",
            17..=20 | 24 => " (float8)",
            23 => " (float4)",
            _ => "",
        };
        Error::unsupported(format!("element type {id}{name} is not read"))
    })
}

/// The elements of a tensor in its own message: little-endian, row-major.
///
/// # Errors
/// `Input` if they are in no field, in two, in one that is not for their type, or not as many as the shape says.
pub(super) fn inline(t: &TensorProto) -> Result<Cow<'_, [u8]>> {
    let (elem, bytes) = size(t)?;
    let lists = [t.float_data.len(), t.int32_data.len(), t.int64_data.len(), t.double_data.len(), t.uint64_data.len()];
    let stored = lists.iter().filter(|n| **n > 0).count() + usize::from(t.raw_data.is_some());
    if stored > 1 {
        return Err(Error::input("its elements are in two fields"));
    }
    if let Some(raw) = &t.raw_data {
        return match raw.len() as u64 == bytes {
            true => Ok(Cow::Borrowed(raw)),
            false => Err(Error::input(format!("{} bytes, its type and shape need {bytes}", raw.len()))),
        };
    }
    let (width, count) = match elem {
        Elem::F32 => (4, lists[0]),
        Elem::F64 => (8, lists[3]),
        Elem::I64 => (8, lists[2]),
        Elem::U64 => (8, lists[4]),
        Elem::U32 => (4, lists[4]),
        // Below a byte, each number of the list is a byte of them.
        _ => (elem.bits().max(8) / 8, lists[1]),
    };
    if stored == 1 && count == 0 {
        return Err(Error::input(format!("its elements are in a field that is not for {}", elem.name())));
    }
    if (count as u64).checked_mul(width.into()) != Some(bytes) {
        return Err(Error::input(format!("{count} numbers of {width} bytes, its type and shape need {bytes} bytes")));
    }
    let out: Vec<u8> = match elem {
        Elem::F32 => t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Elem::F64 => t.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Elem::I64 => t.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Elem::U64 => t.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Elem::U32 => narrow(&t.uint64_data, elem, |v| u32::try_from(v).ok().map(u32::to_le_bytes))?,
        Elem::I32 => t.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Elem::I16 => narrow(&t.int32_data, elem, |v| i16::try_from(v).ok().map(i16::to_le_bytes))?,
        Elem::U16 | Elem::F16 => narrow(&t.int32_data, elem, |v| u16::try_from(v).ok().map(u16::to_le_bytes))?,
        Elem::I8 => narrow(&t.int32_data, elem, |v| i8::try_from(v).ok().map(i8::to_le_bytes))?,
        Elem::Bool => narrow(&t.int32_data, elem, |v| u8::try_from(v).ok().filter(|v| *v < 2).map(u8::to_le_bytes))?,
        Elem::U8 | Elem::U4 | Elem::I4 | Elem::U2 | Elem::I2 => {
            narrow(&t.int32_data, elem, |v| u8::try_from(v).ok().map(u8::to_le_bytes))?
        }
    };
    Ok(Cow::Owned(out))
}

fn narrow<T: Copy + std::fmt::Display, const N: usize>(
    list: &[T],
    elem: Elem,
    f: impl Fn(T) -> Option<[u8; N]>,
) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(list.len() * N);
    for v in list {
        let bytes = f(*v).ok_or_else(|| Error::input(format!("{v} is no {}", elem.name())))?;
        out.extend_from_slice(&bytes);
    }
    Ok(out)
}

/// Where a tensor in another file lies.
pub(super) struct Place<'a> {
    pub location: &'a str,
    pub offset: u64,
}

/// # Errors
/// `Input` if the pairs are not those of a place, or its length is not that of the tensor.
pub(super) fn place(t: &TensorProto) -> Result<Place<'_>> {
    let (_, bytes) = size(t)?;
    let find = |key: &str| -> Result<Option<&str>> {
        let mut all = t.external_data.iter().filter(|e: &&StringStringEntryProto| e.key == key);
        let found = all.next().map(|e| &e.value[..]);
        match all.next() {
            None => Ok(found),
            Some(_) => Err(Error::input(format!("it says `{key}` of its other file twice"))),
        }
    };
    let number = |key: &str| -> Result<Option<u64>> {
        let Some(text) = find(key)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let n = text.parse().ok().filter(|_| digits);
        n.map(Some).ok_or_else(|| Error::input(format!("`{key}` of its other file is `{text}`, which is no number")))
    };
    let location = find("location")?.filter(|l| !l.is_empty());
    let location = location.ok_or_else(|| Error::input("it is in another file but does not say in which"))?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(bytes));
    if length != bytes {
        return Err(Error::input(format!("{length} bytes of another file, its type and shape need {bytes}")));
    }
    Ok(Place { location, offset })
}

pub(super) fn is_external(t: &TensorProto) -> bool {
    t.data_location == Some(EXTERNAL)
}

/// The other files of a model, each mapped once.
#[derive(Default)]
pub(super) struct Others {
    files: Vec<(PathBuf, Mapped)>,
    /// Which of them a location means.
    known: BTreeMap<String, usize>,
}

impl Others {
    /// The place of a tensor's bytes, with its file mapped.
    ///
    /// # Errors
    /// `Input` if the file is not within the folder of the model or the place not within the file; `Io`.
    pub(super) fn add(&mut self, model: &Path, t: &TensorProto) -> Result<()> {
        let place = place(t)?;
        if !self.known.contains_key(place.location) {
            let path = within(model, place.location)?;
            let index = match self.files.iter().position(|(p, _)| *p == path) {
                Some(i) => i,
                None => {
                    self.files.push((path.clone(), fsio::map(&path)?));
                    self.files.len() - 1
                }
            };
            self.known.insert(place.location.to_string(), index);
        }
        self.bytes(t).map(drop)
    }

    pub(super) fn bytes(&self, t: &TensorProto) -> Result<&[u8]> {
        let place = place(t)?;
        let (_, bytes) = size(t)?;
        let file = self.known.get(place.location).and_then(|i| self.files.get(*i));
        let (path, file) = file.ok_or_else(|| Error::usage("this tensor is not one of the model's"))?;
        let (start, end) = (place.offset, place.offset.saturating_add(bytes));
        let part = usize::try_from(start).ok().zip(usize::try_from(end).ok()).and_then(|(s, e)| file.get(s..e));
        part.ok_or_else(|| {
            let what = format!("{bytes} bytes from byte {start} on, but the other file ends at byte {}", file.len());
            Error::input(what).at_file(path).hint("the file of weights is incomplete, or belongs to another model")
        })
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &Mapped)> {
        self.files.iter().map(|(p, m)| (p.as_path(), m))
    }
}

/// The file that a location means: below the folder of the model, whatever links are on the way.
fn within(model: &Path, location: &str) -> Result<PathBuf> {
    let outside = |why: &str| {
        Err(Error::input(format!("its bytes are in `{location}`, {why}"))
            .hint("only files beside the model or below its folder are read; copy it there, with links resolved"))
    };
    if location.contains(['\\', '\0']) {
        return outside("which is no path of this format");
    }
    let path = Path::new(location);
    if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return outside("which is outside the folder of the model");
    }
    let folder = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let real = |p: &Path| {
        fs::canonicalize(p).map_err(|e| {
            let found = format!("the weights are in another file, which cannot be found: {e}");
            Error::new(Kind::Io, found)
                .at_file(p)
                .hint("it belongs beside the model, under the name that it had when the model was written")
        })
    };
    let (found, folder) = (real(&folder.join(path))?, real(folder)?);
    if !found.starts_with(&folder) {
        return outside("a link that leads outside the folder of the model");
    }
    // Before it is opened: opening a pipe waits.
    if !found.is_file() {
        return outside("which is no regular file");
    }
    Ok(found)
}
