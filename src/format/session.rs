//! The state of a conversation as bytes (docs/format/session.md): what `run --session` keeps and `bitnet_state_save` of the C runtime writes.

use crate::bytes::put_u32;
use crate::digest::crc32;
use crate::error::{Error, Result};

pub const MAGIC: [u8; 8] = [0x89, b'B', b'N', b'S', b'T', 0x0D, 0x0A, 0x1A];
pub const HEAD_BYTES: usize = 96;

const VERSION: u16 = 1;
const CRC_AT: usize = 16;
const STATIC_KEYS: u32 = 1;

/// What a session belongs to and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// SHA-256 of the header of the packed file.
    pub model: [u8; 32],
    pub window: u32,
    pub key_bits: u32,
    pub value_bits: u32,
    pub layers: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub static_keys: bool,
    /// Tokens so far; wraps after 2^32.
    pub position: u32,
    /// Elements of the residual that reached the limit.
    pub saturated: u32,
}

impl Header {
    /// Slots of the window that hold a token.
    pub fn filled(&self) -> u32 {
        self.position.min(self.window)
    }

    /// Bytes of everything after the header.
    pub fn cache_bytes(&self) -> u64 {
        let heads = u64::from(self.filled()) * u64::from(self.kv_heads);
        let codes = heads * u64::from(self.head_dim) * u64::from(self.key_bits + self.value_bits) / 8;
        let scales = heads * if self.static_keys { 6 } else { 12 };
        u64::from(self.layers) * (codes + scales)
    }

    /// The whole file.
    pub fn write(&self, cache: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + cache.len());
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, u32::from(VERSION));
        put_u32(&mut out, (HEAD_BYTES + cache.len()) as u32);
        put_u32(&mut out, 0);
        out.extend_from_slice(&self.model);
        let flags = if self.static_keys { STATIC_KEYS } else { 0 };
        for v in [self.window, self.key_bits, self.value_bits, self.layers, self.kv_heads, self.head_dim, flags] {
            put_u32(&mut out, v);
        }
        for v in [self.position, self.saturated, 0, 0] {
            put_u32(&mut out, v);
        }
        out.extend_from_slice(cache);
        let crc = crc32(&out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header and the cache behind it, with lengths and checksum checked.
    ///
    /// # Errors
    /// `Input`: no session, cut, damaged, or against its format; `Unsupported`: a newer version.
    pub fn read(data: &[u8]) -> Result<(Header, &[u8])> {
        let word = |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        if !data.starts_with(&MAGIC) {
            return Err(Error::input("this is no session file")
                .hint("give the name of a file that `--session` made, or of none yet"));
        }
        if data.len() < HEAD_BYTES {
            return Err(Error::input(format!("the session is cut off after {} bytes", data.len())).hint(AGAIN));
        }
        let major = u16::from_le_bytes([data[8], data[9]]);
        if major != VERSION {
            let e = Error::unsupported(format!("session version {major}, this program reads version {VERSION}"));
            return Err(e.at_offset(8).hint("it was written by a newer version of this program, use that"));
        }
        if word(12) as usize != data.len() {
            return Err(Error::input(format!("the session says {} bytes, the file has {}", word(12), data.len()))
                .at_offset(12)
                .hint(AGAIN));
        }
        let mut whole = crc32fast::Hasher::new();
        whole.update(&data[..CRC_AT]);
        whole.update(&[0; 4]);
        whole.update(&data[CRC_AT + 4..]);
        if whole.finalize() != word(CRC_AT) {
            return Err(Error::input("the session is damaged: its CRC-32 does not match")
                .at_offset(CRC_AT as u64)
                .hint(AGAIN));
        }
        let mut model = [0; 32];
        model.copy_from_slice(&data[20..52]);
        let header = Header {
            model,
            window: word(52),
            key_bits: word(56),
            value_bits: word(60),
            layers: word(64),
            kv_heads: word(68),
            head_dim: word(72),
            static_keys: word(76) == STATIC_KEYS,
            position: word(80),
            saturated: word(84),
        };
        if word(76) > STATIC_KEYS || word(88) != 0 || word(92) != 0 {
            return Err(Error::input("a reserved field of the session is not 0").at_offset(76));
        }
        let small =
            [(header.layers, 1024), (header.kv_heads, 32_768), (header.head_dim, 32_768), (header.window, 131_072)];
        let widths = [header.key_bits, header.value_bits].iter().all(|b| [4, 8, 16].contains(b));
        if !widths || small.iter().any(|(v, most)| *v == 0 || v > most) {
            return Err(Error::input("the session describes an impossible cache").at_offset(52));
        }
        if header.cache_bytes() != (data.len() - HEAD_BYTES) as u64 {
            return Err(Error::input(format!(
                "the session needs {} bytes of cache and has {}",
                header.cache_bytes(),
                data.len() - HEAD_BYTES
            ))
            .at_offset(HEAD_BYTES as u64));
        }
        Ok((header, &data[HEAD_BYTES..]))
    }
}

const AGAIN: &str = "remove the file to start again";
