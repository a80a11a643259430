//! Checkpoints that `torch.save` wrote: a zip archive with a pickle of the state dict and one entry for each storage.
//!
//! ```text
//! PREFIX/data.pkl      the pickle: names, shapes, strides, which storage
//! PREFIX/data/KEY      the elements of a storage, little-endian
//! PREFIX/byteorder     `little`, if it is there
//! ```
//!
//! Tensors are read where they are in the mapped file; only strided views are put in order in memory. The state dict is the pickled dict itself
//! or, if that has no tensors, its `state_dict` or `model`, and what a trainer put beside it is left out. A value in the state dict that is no
//! tensor is listed with the type `no tensor`, so that an importer meets it and cannot drop it unseen.
//!
//! | file | does |
//! |---|---|
//! | `zip` | the directory of the archive, without compression |
//! | `pickle` | what a pickle may hold |
//! | `machine` | the operations that build it, and none that runs code |
//! | `tensors` | storages, offsets and strides → bytes |

mod machine;
mod pickle;
mod tensors;
mod zip;

use super::file::Entries;
use crate::digest::crc32;
use crate::error::{Error, Result};
use crate::limits::MAX_PICKLE_BYTES;
use pickle::Pickle;
use zip::Archive;

/// First bytes of a zip archive.
pub const MAGIC: &[u8] = b"PK\x03\x04";

/// First bytes of what torch wrote before 1.6: a pickle of a long number.
pub const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.";

/// Why a file from before torch 1.6 is not read.
pub fn legacy() -> Error {
    Error::unsupported("this file was written by torch before 1.6, in a form without a directory")
        .at_offset(0)
        .hint("load it with torch and save it again as safetensors, or with torch.save")
}

/// The tensors of a whole file.
///
/// # Errors
/// `Input` if the archive or its pickle is damaged or contradicts itself, `Unsupported` for compressed archives, for names that a state dict
/// does not need, and for archives without one.
pub fn parse(file: &[u8]) -> Result<Entries> {
    let archive = Archive::read(file)?;
    let mut found = archive.names().filter_map(|n| n.strip_suffix("/data.pkl")).filter(|p| !p.contains('/'));
    let (prefix, more) = (found.next(), found.next());
    let (Some(prefix), None) = (prefix, more) else {
        return Err(Error::unsupported("this zip archive holds no checkpoint of torch, or more than one")
            .hint("a checkpoint has one `data.pkl`, in its only folder"));
    };
    let entry = |name: &str| archive.get(&format!("{prefix}/{name}"));
    if let Some(order) = entry("byteorder").and_then(|e| file.get(e.range.clone())).filter(|o| *o != b"little") {
        let order = String::from_utf8_lossy(order.get(..20).unwrap_or(order)).into_owned();
        return Err(Error::unsupported(format!(
            "the byte order of this checkpoint is `{order}`, only `little` is read"
        ))
        .hint("save it again on a little-endian machine"));
    }
    let Some(pkl) = entry("data.pkl") else { return Err(Error::input("the archive has no `data.pkl`")) };
    let data = &file[pkl.range.clone()];
    if data.len() as u64 > MAX_PICKLE_BYTES {
        let what = format!("`data.pkl` has {} bytes, at most {MAX_PICKLE_BYTES} are read", data.len());
        return Err(Error::unsupported(what).at_offset(pkl.range.start as u64));
    }
    if crc32(data) != pkl.crc {
        return Err(Error::input("the checksum of `data.pkl` is wrong")
            .at_offset(pkl.range.start as u64)
            .hint("the file is damaged; fetch it again"));
    }
    let pickle = Pickle::read(data, pkl.range.start)?;
    tensors::Reader { file, archive: &archive, prefix, pickle: &pickle, budget: file.len() }.entries()
}
