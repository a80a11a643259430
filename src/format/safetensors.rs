//! Safetensors files. Headers are checked by the `safetensors` crate: ranges in bounds, contiguous, no overlap, sizes as the shapes say.

use super::file::{Bytes, Entries, Entry};
use crate::error::{Error, Result};
use crate::fsio::AtomicFile;
use crate::tensor::DType;
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
