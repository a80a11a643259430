//! One of the two files of a patch.

use crate::delta::segments::Layout;
use crate::error::{Error, Result};
use crate::format::packed::{Packed, MAGIC};
use crate::fsio::{self, Mapped};
use std::path::{Path, PathBuf};

/// A file, mapped, and what is known of it.
pub struct Side {
    pub path: PathBuf,
    data: Mapped,
    pub layout: Layout,
    /// Why it is taken for any file.
    pub warning: Option<String>,
}

impl Side {
    /// A packed file, an exported folder, or anything.
    ///
    /// # Errors
    /// `Io`, `Usage` for a folder without a model.
    pub fn open(path: &Path) -> Result<Side> {
        let path = if path.is_dir() { path.join("model.bin") } else { path.to_path_buf() };
        if !path.is_file() {
            let hint = "give a packed file, the folder of an export with its model.bin, or any file";
            return Err(Error::usage("there is no such file").at_file(&path).hint(hint));
        }
        Ok(Side::of(fsio::map_whole(&path)?, &path, || Packed::open(&path)))
    }

    /// A file in memory.
    pub fn from_bytes(data: Vec<u8>, path: &Path) -> Side {
        let copy = data.clone();
        Side::of(Mapped::Bytes(data), path, || Packed::from_bytes(copy, path))
    }

    fn of(data: Mapped, path: &Path, packed: impl FnOnce() -> Result<Packed>) -> Side {
        let plain = Layout::plain(data.len());
        let (layout, warning) = match data.starts_with(&MAGIC) {
            false => {
                (plain, Some("it is no packed model; its bytes are compared without knowing what they mean".into()))
            }
            true => match packed().and_then(|p| Layout::packed(&p)) {
                Ok(layout) => (layout, None),
                Err(e) => (
                    plain,
                    Some(format!(
                        "it is a damaged packed model, so its bytes are compared without knowing what they mean: {e}"
                    )),
                ),
            },
        };
        Side { path: path.to_path_buf(), data, layout, warning }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Says that a part is not needed soon.
    pub fn release(&self, part: &[u8]) {
        self.data.release(part);
    }
}
