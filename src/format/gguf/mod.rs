//! GGUF containers, versions 2 and 3, little-endian: typed metadata, tensor headers, aligned data.
//!
//! Strict as the strictest reader of the format: names and keys are unique, tensors lie in the order of their headers without gaps, and
//! nothing follows the last one. Every count is held against the file's length before anything is allocated.

mod keys;
mod metadata;
mod parts;
mod types;
mod write;

pub use keys::{Keys, Scalar};
pub use metadata::{Metadata, Numbers, Value};
pub use parts::open;
pub use write::{TensorInfo, Writer};

use super::file::{Bytes, Entries, Entry};
use crate::bytes::Reader;
use crate::error::{Error, Result};
use crate::tensor::DType;
use std::fmt::Display;

pub const MAGIC: &[u8; 4] = b"GGUF";

/// Tensor names end with a NUL in a field of 64 bytes where they are used.
const MAX_NAME: usize = 63;
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A parsed header.
#[derive(Debug)]
pub struct Gguf {
    pub metadata: Metadata,
    /// Shapes are outermost first: `[out, in]` for a matrix.
    pub entries: Entries,
}

/// A tensor header.
struct Info {
    name: String,
    shape: Vec<usize>,
    elements: usize,
    id: u32,
    offset: u64,
    /// Where the header is in the file.
    at: u64,
}

impl Info {
    fn error(&self, message: impl Into<String>) -> Error {
        Error::input(message).at_tensor(&self.name).at_offset(self.at)
    }
}

/// The tensors and the metadata of a whole file.
///
/// # Errors
/// `Unsupported` for other versions, byte orders and tensor types, by name; `Input` for what contradicts the format or the file's length.
pub fn parse(file: &[u8]) -> Result<Gguf> {
    let mut r = Reader::new(file, 0, "the GGUF header");
    if r.take(4)? != MAGIC {
        return Err(Error::input("not a GGUF file: it does not begin with `GGUF`").at_offset(0));
    }
    version(r.u32()?)?;
    let tensors = r.u64()?;
    let keys = r.u64()?;
    let metadata = metadata::read(&mut r, keys)?;
    let alignment = metadata.alignment()?;
    if !is_alignment(alignment) {
        return Err(Error::input(format!(
            "`general.alignment` is {alignment}, a power of two up to {MAX_ALIGNMENT} is expected"
        )));
    }
    let infos = infos(&mut r, tensors)?;
    let start = r.offset().next_multiple_of(alignment);
    let entries = if infos.is_empty() { Entries::new() } else { place(file, &infos, start, alignment)? };
    Ok(Gguf { metadata, entries })
}

fn is_alignment(n: u64) -> bool {
    n.is_power_of_two() && n <= MAX_ALIGNMENT
}

fn version(v: u32) -> Result<()> {
    let e = match v {
        2 | 3 => return Ok(()),
        1 => Error::unsupported("GGUF version 1 is not read, versions 2 and 3 are"),
        v if v & 0xFFFF == 0 && v != 0 => Error::unsupported("the file is big-endian, only little-endian GGUF is read"),
        v => Error::unsupported(format!("GGUF version {v} is not read, versions 2 and 3 are")),
    };
    Err(e.at_offset(4).hint("convert the model again with a current converter, or take its original checkpoint"))
}

fn cut_short(r: &Reader, what: impl Into<String>) -> Error {
    Error::input(what).at_offset(r.offset()).hint("the file is incomplete or damaged; fetch it again")
}

/// A text with its length in front.
fn text(r: &mut Reader, what: &(impl Display + ?Sized), max: usize) -> Result<String> {
    let at = r.offset();
    let n = r.u64()?;
    let n = usize::try_from(n).ok().filter(|n| *n <= r.remaining()).ok_or_else(|| {
        let left = r.remaining();
        cut_short(r, format!("{what} claims {n} bytes, {left} are left"))
    })?;
    if n > max {
        return Err(Error::input(format!("{what} has {n} bytes, at most {max} are allowed")).at_offset(at));
    }
    let text = std::str::from_utf8(r.take(n)?);
    text.map(str::to_string).map_err(|_| Error::input(format!("{what} is no valid UTF-8")).at_offset(at))
}

fn infos(r: &mut Reader, count: u64) -> Result<Vec<Info>> {
    // Name of one character, one dimension, type and offset.
    if count > r.remaining() as u64 / 33 {
        return Err(cut_short(
            r,
            format!("it claims {count} tensors, {} bytes are left for their headers", r.remaining()),
        ));
    }
    let mut all = Vec::new();
    for i in 0..count {
        let at = r.offset();
        let name = text(r, &format_args!("the name of tensor {i}"), MAX_NAME)?;
        if name.is_empty() {
            return Err(Error::input(format!("tensor {i} has no name")).at_offset(at));
        }
        let bad = |what: String| Error::input(what).at_tensor(&name).at_offset(at);
        let dims = r.u32()?;
        if !(1..=MAX_DIMS).contains(&dims) {
            return Err(bad(format!("the tensor has {dims} dimensions, 1 to {MAX_DIMS} are allowed")));
        }
        let (mut shape, mut elements) = (Vec::new(), 1usize);
        for _ in 0..dims {
            let n = r.u64()?;
            let n = usize::try_from(n).ok().filter(|n| (1..=usize::MAX >> 1).contains(n));
            let product = n.and_then(|n| elements.checked_mul(n));
            let (Some(n), Some(product)) = (n, product) else {
                return Err(bad("a dimension of the tensor is 0, or it has more elements than can be counted".into()));
            };
            shape.push(n);
            elements = product;
        }
        shape.reverse();
        let id = r.u32()?;
        let offset = r.u64()?;
        all.push(Info { name, shape, elements, id, offset, at });
    }
    Ok(all)
}

/// Finds the data of each tensor.
fn place(file: &[u8], infos: &[Info], start: u64, alignment: u64) -> Result<Entries> {
    let spans = spans(file, infos, start, alignment)?;
    let fits = |dtype: DType, info: &Info, i: usize| {
        let size = types::size(dtype, &info.shape, info.elements).map(|n| n as u64);
        let padded = size.and_then(|n| n.checked_next_multiple_of(alignment));
        // Padding behind the last tensor is often left out.
        let last = i + 1 == infos.len();
        size.zip(padded).is_some_and(|(n, p)| spans[i] == p || last && (n..p).contains(&spans[i]))
    };
    // A number that stands for two layouts has one meaning in a file; small tensors fit both, larger ones tell.
    let mut excluded: Vec<(u32, DType)> = Vec::new();
    for (i, info) in infos.iter().enumerate() {
        let all = types::candidates(info.id).map_err(|e| e.at_tensor(&info.name).at_offset(info.at))?;
        for d in all.iter().filter(|d| all.len() > 1 && !fits(**d, info, i)) {
            if !excluded.contains(&(info.id, *d)) {
                excluded.push((info.id, *d));
            }
        }
    }
    let mut entries = Entries::new();
    for (i, info) in infos.iter().enumerate() {
        let all = types::candidates(info.id)?;
        let size = |d: DType| types::size(d, &info.shape, info.elements);
        if all.iter().all(|d| size(*d).is_none()) {
            let what = format!("is no multiple of {}, the block of {}", types::multiple(all), all[0].name());
            return Err(info.error(format!("the last dimension of shape {:?} {what}", info.shape)));
        }
        let fitting = all.iter().find(|d| fits(**d, info, i) && !excluded.contains(&(info.id, **d)));
        let Some((dtype, bytes)) = fitting.and_then(|d| size(*d).map(|n| (*d, n))) else {
            let (name, need) = (all[0].name(), size(all[0]).unwrap_or(0));
            let what = format!("{} bytes lie between the tensor's offset and the next tensor or the end", spans[i]);
            let e =
                info.error(format!("{what}; {name} of shape {:?} takes {need}{}", info.shape, types::rivals(info.id)));
            return Err(e.hint("the file is incomplete or damaged, or from a foreign writer; fetch it again"));
        };
        let from = (start + info.offset) as usize;
        let entry = Entry { dtype, shape: info.shape.clone(), data: Bytes::At(from..from + bytes) };
        if entries.insert(info.name.clone(), entry).is_some() {
            return Err(info.error("the file has two tensors of this name"));
        }
    }
    Ok(entries)
}

/// Bytes from each tensor's offset to the next one's, for the last to the end. Offsets start at 0, are aligned and rise.
fn spans(file: &[u8], infos: &[Info], start: u64, alignment: u64) -> Result<Vec<u64>> {
    let length = file.len() as u64;
    let data = length.checked_sub(start).ok_or_else(|| {
        Error::input("the file ends before the data of its tensors")
            .at_offset(length)
            .hint("the file is incomplete or damaged; fetch it again")
    })?;
    let mut all = Vec::with_capacity(infos.len());
    for (i, info) in infos.iter().enumerate() {
        if info.offset % alignment != 0 {
            return Err(info.error(format!("its offset {} is no multiple of the alignment {alignment}", info.offset)));
        }
        if i == 0 && info.offset != 0 {
            return Err(info.error(format!("its offset is {}, the first tensor has 0", info.offset)));
        }
        let next = infos.get(i + 1).map_or(data, |n| n.offset);
        if next > data || info.offset > data {
            let (of, at) = if info.offset > data { (info, info.offset) } else { (&infos[i + 1], next) };
            let e = of.error(format!("its offset is {at}, the file has {data} bytes of tensor data"));
            return Err(e.hint("the file is incomplete or damaged; fetch it again"));
        }
        all.push(next.checked_sub(info.offset).ok_or_else(|| {
            infos[i + 1]
                .error(format!("its offset {next} is before that of the tensor listed before it, {}", info.offset))
        })?);
    }
    Ok(all)
}
