//! The 384 bytes that say what a patch is made for and what it becomes.

use super::MAGIC;
use crate::digest::sha256;
use crate::error::{Error, Result};

/// What a patch promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// A block of the target depends on the same bytes of the base only.
    pub in_place: bool,
    /// The patch also turns the target into the base.
    pub reversible: bool,
    /// The patch needs no base.
    pub full: bool,
    pub signed: bool,
    /// Some parts are zstd frames, which devices do not read.
    pub host_only: bool,
}

/// The header of a patch, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub flags: Flags,
    /// log2 of the bytes of a block of the target.
    pub block_log2: u32,
    /// Bytes of the index.
    pub index_len: u32,
    /// Bytes of the whole patch.
    pub patch_len: u64,
    pub base_len: u64,
    pub target_len: u64,
    pub base_sequence: u64,
    pub target_sequence: u64,
    /// Contexts that a decoder needs; `Index::contexts` says how many.
    pub contexts: u32,
    /// Bytes of the longest row of trits in planes, or 0.
    pub row: u32,
    pub base_sha: [u8; 32],
    pub target_sha: [u8; 32],
    pub index_sha: [u8; 32],
    pub payload_sha: [u8; 32],
    pub model: String,
    pub base_version: String,
    pub target_version: String,
    /// Number of the key that signed, as in its file.
    pub key_id: [u8; 8],
    pub signature: [u8; 64],
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 384;

    /// Reads the first [`Header::LEN`] bytes of `bytes`; more may follow.
    ///
    /// # Errors
    /// `Input` if it is no patch or a field is damaged, `Unsupported` for another version.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        if !bytes.starts_with(&MAGIC) {
            return Err(Error::input("this is not a patch: it does not begin with the right bytes").at_offset(0));
        }
        let Some(bytes) = bytes.first_chunk::<{ Header::LEN }>() else {
            return Err(Error::input(format!("a patch has a header of {} bytes, this ends before", Header::LEN))
                .hint("the file is incomplete; fetch it again"));
        };
        let f = Fields(bytes);
        match (f.u16(8), f.u16(10)) {
            (1, 0) => {}
            (major, minor) => {
                return Err(Error::unsupported(format!("patch format {major}.{minor}; this program reads 1.0"))
                    .at_offset(8)
                    .hint("use a newer version of this program"));
            }
        }
        let header = Header {
            flags: Flags::read(f.u32(12))?,
            block_log2: f.u32(16),
            index_len: f.u32(20),
            patch_len: f.u64(24),
            base_len: f.u64(32),
            target_len: f.u64(40),
            base_sequence: f.u64(48),
            target_sequence: f.u64(56),
            contexts: f.u32(64),
            row: f.u32(68),
            base_sha: f.bytes(72),
            target_sha: f.bytes(104),
            index_sha: f.bytes(136),
            payload_sha: f.bytes(168),
            model: f.text::<32>(200, "the name of the model")?,
            base_version: f.text::<24>(232, "the version of the base")?,
            target_version: f.text::<24>(256, "the version of the target")?,
            key_id: f.bytes(280),
            signature: f.bytes(320),
        };
        if f.bytes::<32>(288) != [0; 32] {
            return Err(damaged("a reserved field of the header is not 0", 288));
        }
        header.check()?;
        Ok(header)
    }

    /// What fields must keep to, one by one and together.
    fn check(&self) -> Result<()> {
        const LIMIT: u64 = 1 << 48;
        let full = self.flags.full;
        let rest = self.patch_len.checked_sub(Header::LEN as u64 + u64::from(self.index_len));
        let unsigned = self.key_id == [0; 8] && self.signature == [0; 64];
        let wrong: &[(bool, &str, u64)] = &[
            (!(12..=20).contains(&self.block_log2), "the size of a block is not between 4 KiB and 1 MiB", 16),
            (!(1..=1 << 24).contains(&self.index_len), "the length of the index is not between 1 byte and 16 MiB", 20),
            (rest.is_none(), "the patch is shorter than its header and its index", 24),
            (self.base_len >= LIMIT, "the length of the base is beyond 2^48", 32),
            (!(1..LIMIT).contains(&self.target_len), "the length of the target is 0 or beyond 2^48", 40),
            (full && self.base_len > 0, "a full patch has a base", 32),
            (full && self.base_sequence > 0, "a full patch has the sequence of a base", 48),
            (full && self.base_sha != sha256(&[]), "a full patch has the digest of a base", 72),
            (self.row > 1 << 16, "the longest row is beyond 64 KiB", 68),
            (self.model.is_empty(), "the name of the model is empty", 200),
            (self.flags.reversible && !self.flags.in_place, "a reversible patch must be one in place", 12),
            (
                self.flags.reversible && self.base_len != self.target_len,
                "a reversible patch must keep the length of the file",
                32,
            ),
            (!self.flags.signed && !unsigned, "an unsigned patch has a key or a signature", 280),
        ];
        match wrong.iter().find(|w| w.0) {
            Some((_, message, offset)) => Err(damaged(message, *offset)),
            None => Ok(()),
        }
    }

    /// The header as it stands in a file. Texts that are too long lose their end.
    pub fn to_bytes(&self) -> [u8; Header::LEN] {
        let mut out = [0; Header::LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &[1, 0, 0, 0]);
        for (at, v) in
            [(12, self.flags.bits()), (16, self.block_log2), (20, self.index_len), (64, self.contexts), (68, self.row)]
        {
            put(at, &v.to_le_bytes());
        }
        for (at, v) in [
            (24, self.patch_len),
            (32, self.base_len),
            (40, self.target_len),
            (48, self.base_sequence),
            (56, self.target_sequence),
        ] {
            put(at, &v.to_le_bytes());
        }
        for (at, digest) in
            [(72, &self.base_sha), (104, &self.target_sha), (136, &self.index_sha), (168, &self.payload_sha)]
        {
            put(at, digest);
        }
        put(200, cut(&self.model, 32));
        put(232, cut(&self.base_version, 24));
        put(256, cut(&self.target_version, 24));
        put(280, &self.key_id);
        put(320, &self.signature);
        out
    }

    /// What the signature of a header is made of: the domain, then everything before the signature.
    pub fn signed_message(header: &[u8; Header::LEN]) -> [u8; 336] {
        let mut message = [0; 336];
        message[..16].copy_from_slice(b"bitnet delta v1\0");
        message[16..].copy_from_slice(&header[..320]);
        message
    }

    /// Bytes of the payload area, which ends the patch.
    pub fn payload_len(&self) -> u64 {
        self.patch_len.saturating_sub(Header::LEN as u64 + u64::from(self.index_len))
    }

    /// Blocks of the target.
    pub fn block_count(&self) -> u64 {
        self.target_len.div_ceil(1 << self.block_log2)
    }

    /// The bytes of the target that block `i` holds.
    pub fn block_range(&self, i: u64) -> std::ops::Range<u64> {
        let at = (i << self.block_log2).min(self.target_len);
        at..(at + (1 << self.block_log2)).min(self.target_len)
    }
}

impl Flags {
    fn read(bits: u32) -> Result<Flags> {
        if bits >> 5 != 0 {
            return Err(damaged(&format!("the flags {bits:#x} are not all known"), 12));
        }
        let [in_place, reversible, full, signed, host_only] = [0, 1, 2, 3, 4].map(|i| bits >> i & 1 == 1);
        Ok(Flags { in_place, reversible, full, signed, host_only })
    }

    fn bits(self) -> u32 {
        let all = [self.in_place, self.reversible, self.full, self.signed, self.host_only];
        (0..).zip(all).map(|(i, flag)| u32::from(flag) << i).sum()
    }
}

fn damaged(message: &str, offset: u64) -> Error {
    Error::input(format!("the patch is damaged: {message}"))
        .at_offset(offset)
        .hint("fetch the patch again, and if that does not help, ask its maker")
}

/// At most `max` bytes of `text`, whole characters.
fn cut(text: &str, max: usize) -> &[u8] {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// The fields by their offsets, all of which are constants below [`Header::LEN`].
struct Fields<'a>(&'a [u8; Header::LEN]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.0[at..at + N]);
        out
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    fn text<const N: usize>(&self, at: usize, what: &str) -> Result<String> {
        let field = self.bytes::<N>(at);
        let end = field.iter().position(|b| *b == 0).unwrap_or(N);
        let (text, padding) = field.split_at(end);
        match std::str::from_utf8(text) {
            Ok(t) if !t.chars().any(char::is_control) && padding.iter().all(|b| *b == 0) => Ok(t.to_string()),
            _ => Err(damaged(&format!("{what} is no plain text"), at as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            flags: Flags { in_place: true, signed: true, ..Flags::default() },
            block_log2: 16,
            index_len: 5,
            patch_len: 389,
            base_len: 1,
            target_len: 2,
            base_sequence: 3,
            target_sequence: 4,
            contexts: 6,
            row: 7,
            base_sha: [8; 32],
            target_sha: [9; 32],
            index_sha: [10; 32],
            payload_sha: [11; 32],
            model: "tiny-möbius".to_string(),
            base_version: "0.4.2".to_string(),
            target_version: "x".repeat(24),
            key_id: [12; 8],
            signature: [13; 64],
        }
    }

    /// What is said of a header after `change`.
    fn refused(change: impl FnOnce(&mut [u8; 384])) -> String {
        let mut bytes = header().to_bytes();
        change(&mut bytes);
        Header::parse(&bytes).expect_err("a damaged header").message().to_string()
    }

    #[test]
    fn a_header_comes_back() {
        let bytes = header().to_bytes();
        assert_eq!(Header::parse(&bytes).unwrap(), header());
        assert_eq!(Header::parse(&[&bytes[..], b"more"].concat()).unwrap(), header());
        for flag in 0..5 {
            let flags = Flags::read(1 << flag).unwrap();
            assert_eq!(flags.bits(), 1 << flag);
        }
    }

    #[test]
    fn every_byte_of_a_header_means_something() {
        let bytes = header().to_bytes();
        for i in 0..384 {
            let mut changed = bytes;
            changed[i] ^= 1;
            assert!(!Header::parse(&changed).is_ok_and(|h| h == header()), "byte {i}");
        }
    }

    #[test]
    fn the_signed_message_is_domain_and_header() {
        let bytes = header().to_bytes();
        let message = Header::signed_message(&bytes);
        assert_eq!(&message[..16], b"bitnet delta v1\0");
        assert_eq!(message[16..], bytes[..320]);
    }

    #[test]
    fn a_short_header_is_refused() {
        let bytes = header().to_bytes();
        for n in [0, 7, 8, 383] {
            assert!(Header::parse(&bytes[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn other_versions_are_refused() {
        let mut bytes = header().to_bytes();
        for at in [8, 10] {
            bytes[at] += 1;
            assert_eq!(Header::parse(&bytes).unwrap_err().kind(), crate::error::Kind::Unsupported);
            bytes[at] -= 1;
        }
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(refused(|b| b[12] |= 32).contains("flags"));
        assert!(refused(|b| b[15] |= 128).contains("flags"));
    }

    #[test]
    fn block_sizes_out_of_range_are_refused() {
        assert!(refused(|b| b[16] = 11).contains("block"));
        assert!(refused(|b| b[16] = 21).contains("block"));
        assert!(refused(|b| b[19] = 1).contains("block"));
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        assert!(refused(|b| b[20] = 0).contains("index"));
        assert!(refused(|b| b[20..24].copy_from_slice(&[1, 0, 0, 1])).contains("index"));
        assert!(refused(|b| b[24..26].copy_from_slice(&[0x84, 1])).contains("shorter"));
        assert!(refused(|b| b[38] = 1).contains("base"));
        assert!(refused(|b| b[40] = 0).contains("target"));
        assert!(refused(|b| b[46] = 1).contains("target"));
        assert!(refused(|b| b[70] = 2).contains("row"));
    }

    #[test]
    fn a_full_patch_has_no_base() {
        let full = Header {
            flags: Flags { full: true, ..Flags::default() },
            base_len: 0,
            base_sequence: 0,
            base_sha: sha256(&[]),
            key_id: [0; 8],
            signature: [0; 64],
            ..header()
        };
        assert!(Header::parse(&full.to_bytes()).is_ok());
        assert!(Header::parse(&Header { base_len: 1, ..full.clone() }.to_bytes()).is_err());
        assert!(Header::parse(&Header { base_sequence: 1, ..full.clone() }.to_bytes()).is_err());
        assert!(Header::parse(&Header { base_sha: [0; 32], ..full }.to_bytes()).is_err());
    }

    #[test]
    fn a_reversible_patch_is_in_place_and_keeps_the_length() {
        assert!(refused(|b| b[12] = 2 | 8).contains("in place"));
        assert!(refused(|b| b[12] |= 2).contains("length"));
        let flags = Flags { in_place: true, reversible: true, signed: true, ..Flags::default() };
        assert!(Header::parse(&Header { flags, target_len: 1, ..header() }.to_bytes()).is_ok());
    }

    #[test]
    fn an_unsigned_patch_has_neither_key_nor_signature() {
        assert!(refused(|b| b[12] = 1).contains("unsigned"));
        let plain = Header { flags: Flags::default(), key_id: [0; 8], signature: [0; 64], ..header() };
        assert!(Header::parse(&plain.to_bytes()).is_ok());
        assert!(Header::parse(&Header { key_id: [1; 8], ..plain.clone() }.to_bytes()).is_err());
        assert!(Header::parse(&Header { signature: [1; 64], ..plain }.to_bytes()).is_err());
    }

    #[test]
    fn texts_that_are_none_are_refused() {
        assert!(refused(|b| b[200] = 0).contains("name of the model"));
        assert!(refused(|b| b[200] = 0xff).contains("name of the model"));
        assert!(refused(|b| b[201] = 7).contains("name of the model"));
        assert!(refused(|b| b[231] = b'x').contains("name of the model"));
        assert!(refused(|b| b[255] = b'x').contains("version of the base"));
        assert!(refused(|b| b[256] = b'\n').contains("version of the target"));
        assert!(refused(|b| b[200..232].fill(0)).contains("empty"));
    }

    #[test]
    fn reserved_bytes_are_refused() {
        assert!(refused(|b| b[288] = 1).contains("reserved"));
        assert!(refused(|b| b[319] = 1).contains("reserved"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Header { model: format!("{}ö", "x".repeat(31)), ..header() };
        assert_eq!(Header::parse(&long.to_bytes()).unwrap().model, "x".repeat(31));
    }
}
