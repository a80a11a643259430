//! Looks at a patch while it comes in: what it is, whether it is wanted, and whether its bytes are those that its header names.

use crate::digest::Sha;
use crate::error::{Error, Result};
use crate::format::delta::Header;

/// A judge of the first 384 bytes.
pub type Gate<'g> = dyn Fn(&[u8; Header::LEN]) -> Result<Verdict> + 'g;

pub enum Verdict {
    /// Fetch the rest.
    Fetch(Header),
    /// The header is all that was needed.
    Stop(Header),
}

/// Why a patch is not taken.
pub enum Bad {
    /// It is not wanted; fetched again it would be the same.
    Refused(Error),
    /// It is not what its header says; another attempt may bring it whole.
    Damaged(Error),
}

const MAGIC: &[u8; 8] = b"\x89BNDP\r\n\x1a";

/// What the first bytes of a body say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    Patch,
    Json,
    /// Not enough bytes to say.
    Unknown,
}

/// # Errors
/// `Input` with what it looks like.
pub fn sniff(start: &[u8]) -> Result<Sniffed> {
    let n = start.len().min(MAGIC.len());
    let other = |what: &str| {
        Err(Error::input(format!("what comes is no patch and no index: {what}"))
            .hint("nothing of it was kept; look at the address, and at proxies in between"))
    };
    match start.trim_ascii_start().first() {
        _ if start[..n] == MAGIC[..n] && n > 0 => Ok(if n < MAGIC.len() { Sniffed::Unknown } else { Sniffed::Patch }),
        Some(b'{') => Ok(Sniffed::Json),
        Some(b'<') => other("it looks like a web page"),
        _ if start.starts_with(&[0x1F, 0x8B]) => other("it is compressed with gzip, which was not asked for"),
        _ if n < MAGIC.len() => Ok(Sniffed::Unknown),
        _ => other("its first bytes are of neither"),
    }
}

/// A patch as far as it has come.
pub struct Intake<'g> {
    gate: &'g Gate<'g>,
    head: Vec<u8>,
    header: Option<Header>,
    index: Sha,
    payload: Sha,
    have: u64,
}

impl<'g> Intake<'g> {
    pub fn new(gate: &'g Gate<'g>) -> Self {
        Intake { gate, head: Vec::new(), header: None, index: Sha::default(), payload: Sha::default(), have: 0 }
    }

    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    pub fn have(&self) -> u64 {
        self.have
    }

    /// Bytes that may still come: to the end of the header until that is known, then to the end of the patch.
    pub fn room(&self) -> u64 {
        let end = self.header.as_ref().map_or(Header::LEN as u64, |h| h.patch_len);
        end.saturating_sub(self.have)
    }

    /// Takes the next bytes, at most [`Intake::room`] of them. The verdict comes once, with the last byte of the header.
    ///
    /// # Errors
    /// That of the gate, and damage of the index.
    pub fn take(&mut self, data: &[u8]) -> Result<Option<Verdict>, Bad> {
        let at = self.have;
        self.have += data.len() as u64;
        let Some(header) = &self.header else {
            self.head.extend_from_slice(data);
            let Some(head) = self.head.first_chunk::<{ Header::LEN }>() else { return Ok(None) };
            let verdict = (self.gate)(head).map_err(Bad::Refused)?;
            if let Verdict::Fetch(h) = &verdict {
                self.header = Some(h.clone());
            }
            return Ok(Some(verdict));
        };
        let index_end = Header::LEN as u64 + u64::from(header.index_len);
        let of_index = index_end.saturating_sub(at).min(data.len() as u64) as usize;
        let (index, payload) = data.split_at(of_index);
        self.index.update(index);
        self.payload.update(payload);
        if of_index > 0 && self.have >= index_end && std::mem::take(&mut self.index).finish() != header.index_sha {
            return Err(damaged("index"));
        }
        Ok(None)
    }

    /// Whether all bytes came and are right.
    ///
    /// # Errors
    /// Damage.
    pub fn finish(&mut self) -> Result<(), Bad> {
        match &self.header {
            Some(h) if self.have == h.patch_len => match std::mem::take(&mut self.payload).finish() == h.payload_sha {
                true => Ok(()),
                false => Err(damaged("payload")),
            },
            _ => Err(Bad::Damaged(Error::input("the patch is not complete"))),
        }
    }
}

fn damaged(what: &str) -> Bad {
    let e = Error::input(format!("the {what} of the patch is not the one that its header names"));
    Bad::Damaged(e.hint("it was damaged or changed on its way; nothing of it was kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        assert_eq!(sniff(b"").unwrap(), Sniffed::Unknown);
        assert_eq!(sniff(&MAGIC[..5]).unwrap(), Sniffed::Unknown);
        assert_eq!(sniff(MAGIC).unwrap(), Sniffed::Patch);
        assert_eq!(sniff(b"\n {").unwrap(), Sniffed::Json);
        assert_eq!(sniff(b"ab").unwrap(), Sniffed::Unknown);
        for (bad, what) in [
            (&b"<!doc"[..], "web page"),
            (b"\x1f\x8b", "gzip"),
            (b"abcdefgh", "neither"),
            (b"\x89BNDP\n\x1a\n", "neither"),
        ] {
            let e = sniff(bad).unwrap_err().to_string();
            assert!(e.contains(what), "{e}");
        }
    }
}
