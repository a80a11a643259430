//! Safetensors files. Headers are checked by the `safetensors` crate: ranges in bounds, contiguous, no overlap, sizes as the shapes say.

use super::file::{Bytes, Entries, Entry};
use crate::error::{Error, Result};
use crate::fsio::AtomicFile;
use crate::tensor::DType;
use serde_json::{json, Map, Value};
use std::path::Path;

fn dtype(d: safetensors::Dtype) -> DType {
    use safetensors::Dtype as D;
    match d {
        D::F64 => DType::F64,
        D::F32 => DType::F32,
        D::F16 => DType::F16,
        D::BF16 => DType::Bf16,
        D::I64 => DType::I64,
        D::I32 => DType::I32,
        D::I16 => DType::I16,
        D::I8 => DType::I8,
        D::U32 => DType::U32,
        D::U8 => DType::U8,
        D::BOOL => DType::Bool,
        D::U16 => DType::Other("U16"),
        D::U64 => DType::Other("U64"),
        _ => DType::Other("a type that is not read here"),
    }
}

/// The tensors of a whole file.
///
/// # Errors
/// `Input` if the header is damaged or contradicts the file's length.
pub fn parse(file: &[u8]) -> Result<Entries> {
    let bad = |what: String| {
        Error::input(format!("not a usable safetensors file: {what}"))
            .hint("the file is incomplete or damaged; fetch it again")
    };
    if file.len() < 8 {
        return Err(bad(format!("{} bytes, a header of 8 is needed", file.len())).at_offset(0));
    }
    let header = u64::from_le_bytes(file[..8].try_into().unwrap_or_default());
    if header > file.len() as u64 - 8 {
        return Err(bad(format!("its header claims {header} bytes, the file has {}", file.len())).at_offset(0));
    }
    let (size, meta) = safetensors::SafeTensors::read_metadata(file).map_err(|e| bad(e.to_string()).at_offset(8))?;
    let data = 8 + size;
    let mut entries = Entries::new();
    for (name, info) in meta.tensors() {
        let (a, b) = info.data_offsets;
        let (start, end) = (data + a, data + b);
        if end > file.len() || start > end {
            return Err(bad(format!("its data ends at byte {end}, the file has {}", file.len())).at_tensor(&name));
        }
        let entry = Entry { dtype: dtype(info.dtype), shape: info.shape.clone(), data: Bytes::At(start..end) };
        entries.insert(name, entry);
    }
    Ok(entries)
}

/// Writes float tensors, each with its name, shape and row-major values.
///
/// # Errors
/// `Io` if the file cannot be written, `Input` if a shape does not fit its values.
pub fn write(target: &Path, tensors: &[(&str, &[usize], &[f32])]) -> Result<()> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let bad = |e: safetensors::SafeTensorError| Error::input(format!("cannot be written: {e}")).at_file(target);
    let mut views = Vec::new();
    for ((name, shape, _), data) in tensors.iter().zip(&bytes) {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data);
        views.push((*name, view.map_err(bad)?));
    }
    let mut file = AtomicFile::create(target)?;
    file.write(&safetensors::serialize(views, None).map_err(bad)?)?;
    file.commit()
}

/// A tensor of a file that is written piece by piece.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub bytes: u64,
}

/// Bytes that are collected before they are written.
const PIECE: usize = 1 << 20;

/// Writes a file as transformers expects it, without holding more than a piece of it. `produce` is called once for each item, in the order in
/// which they lie in the file, and hands over the item's bytes.
///
/// # Errors
/// `Unsupported` for types that these files do not know, `Input` for two tensors of one name or more or fewer bytes than announced, `Io` from
/// the output, and those of `produce`.
pub fn stream(
    target: &Path,
    items: &[Item],
    mut produce: impl FnMut(usize, &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
) -> Result<u64> {
    // The widest elements first, so that every tensor is aligned to its own.
    let mut order: Vec<usize> = (0..items.len()).collect();
    let width = |i: &Item| i.dtype.size().unwrap_or(1);
    order.sort_by(|a, b| width(&items[*b]).cmp(&width(&items[*a])).then(items[*a].name.cmp(&items[*b].name)));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0u64;
    for i in &order {
        let t = &items[*i];
        if t.dtype.size().is_none() && !matches!(t.dtype, DType::Other("U16" | "U64")) {
            let what = format!("elements of {} cannot be written to a safetensors file", t.dtype.name());
            return Err(Error::unsupported(what).at_tensor(&t.name));
        }
        let end = at + t.bytes;
        let entry = json!({"dtype": t.dtype.name(), "shape": t.shape, "data_offsets": [at, end]});
        if header.insert(t.name.clone(), entry).is_some() {
            return Err(Error::input("two tensors would have this name").at_tensor(&t.name).at_file(target));
        }
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = AtomicFile::create(target)?;
    file.write(&(header.len() as u64).to_le_bytes())?;
    file.write(&header)?;
    let mut piece = Vec::with_capacity(PIECE);
    for i in order {
        let mut written = 0u64;
        produce(i, &mut |bytes| {
            written += bytes.len() as u64;
            if piece.len() + bytes.len() > PIECE {
                file.write(&piece)?;
                piece.clear();
            }
            if bytes.len() > PIECE {
                return file.write(bytes);
            }
            piece.extend_from_slice(bytes);
            Ok(())
        })?;
        if written != items[i].bytes {
            let what = format!("{written} bytes were written, {} were announced", items[i].bytes);
            return Err(Error::input(what).at_tensor(&items[i].name).at_file(target));
        }
    }
    file.write(&piece)?;
    file.commit()?;
    Ok(8 + header.len() as u64 + at)
}
