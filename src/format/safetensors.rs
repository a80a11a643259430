//! safetensors files, mapped. The header is checked by the `safetensors` crate: ranges in bounds, contiguous, no overlap, sizes as the shapes say.

use crate::error::{Error, Result};
use crate::fsio::{self, Mapped};
use crate::tensor::{DType, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A mapped safetensors file.
pub struct File {
    pub path: PathBuf,
    map: Mapped,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    dtype: DType,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

fn dtype(d: safetensors::Dtype) -> DType {
    use safetensors::Dtype as D;
    match d {
        D::F32 => DType::F32,
        D::F16 => DType::F16,
        D::BF16 => DType::Bf16,
        D::U8 => DType::U8,
        D::BOOL => DType::Other("BOOL"),
        D::I8 => DType::Other("I8"),
        D::I16 => DType::Other("I16"),
        D::U16 => DType::Other("U16"),
        D::I32 => DType::Other("I32"),
        D::U32 => DType::Other("U32"),
        D::I64 => DType::Other("I64"),
        D::U64 => DType::Other("U64"),
        D::F64 => DType::Other("F64"),
        _ => DType::Other("a type that is not read here"),
    }
}

impl File {
    /// # Errors
    /// `Io` if it cannot be mapped, `Input` if the header is damaged or contradicts the file's length.
    pub fn open(path: &Path) -> Result<File> {
        File::from_mapped(fsio::map(path)?, path)
    }

    /// As [`File::open`], for bytes in memory.
    pub fn from_bytes(data: Vec<u8>, path: &Path) -> Result<File> {
        File::from_mapped(Mapped::Bytes(data), path)
    }

    fn from_mapped(map: Mapped, path: &Path) -> Result<File> {
        let bad = |what: String| {
            Error::input(format!("not a usable safetensors file: {what}"))
                .at_file(path)
                .hint("the file is incomplete or damaged; fetch it again")
        };
        if map.len() < 8 {
            return Err(bad(format!("{} bytes, a header of 8 is needed", map.len())).at_offset(0));
        }
        let header = u64::from_le_bytes(map[..8].try_into().unwrap_or_default());
        if header > map.len() as u64 - 8 {
            return Err(bad(format!("its header claims {header} bytes, the file has {}", map.len())).at_offset(0));
        }
        let (size, meta) =
            safetensors::SafeTensors::read_metadata(&map).map_err(|e| bad(e.to_string()).at_offset(8))?;
        let data = 8 + size;
        let mut entries = BTreeMap::new();
        for (name, info) in meta.tensors() {
            let (a, b) = info.data_offsets;
            let (start, end) = (data + a, data + b);
            if end > map.len() || start > end {
                return Err(bad(format!("its data ends at byte {end}, the file has {}", map.len())).at_tensor(&name));
            }
            let entry = Entry { dtype: dtype(info.dtype), shape: info.shape.clone(), start, end };
            entries.insert(name, entry);
        }
        Ok(File { path: path.to_path_buf(), map, entries })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, e) = self.entries.get_key_value(name)?;
        let data = &self.map[e.start..e.end];
        Some(TensorView { name, dtype: e.dtype, shape: &e.shape, data, offset: e.start as u64 })
    }

    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The whole file, for its digest.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}
