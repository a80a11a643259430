//! The two digests by which a hub names contents, and a hasher for either.

use crate::digest::hex;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What a file must contain, told by the hub before its bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// Of large files.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the content: git's name of a small file.
    GitBlob(String),
}

impl Digest {
    /// From an etag or object id: 64 or 40 hex digits, in quotes or not, weak or not.
    pub fn parse(text: &str) -> Option<Digest> {
        let text = text.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Digest::Sha256(text)),
            40 => Some(Digest::GitBlob(text)),
            _ => None,
        }
    }

    /// Lower-case hex: the name of the file in the cache.
    pub fn hex(&self) -> &str {
        match self {
            Digest::Sha256(h) | Digest::GitBlob(h) => h,
        }
    }

    /// Whether both are of one kind and differ, so that they cannot mean the same content.
    pub fn contradicts(&self, other: &Digest) -> bool {
        self.hex().len() == other.hex().len() && self != other
    }

    /// A hasher for a content of this many bytes.
    pub fn hasher(&self, bytes: u64) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }
}

pub enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(data),
            Hasher::GitBlob(h) => h.update(data),
        }
    }

    pub fn matches(self, digest: &Digest) -> bool {
        let found = match self {
            Hasher::Sha256(h) => hex(&h.finalize()),
            Hasher::GitBlob(h) => hex(&h.finalize()),
        };
        found == digest.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        // The empty file and "hello world\n" under their well-known names in git.
        for (content, name) in [
            ("", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            ("hello world\n", "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"),
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ] {
            let digest = Digest::parse(&format!("W/\"{}\"", name.to_ascii_uppercase())).unwrap();
            let mut hasher = digest.hasher(content.len() as u64);
            hasher.update(content.as_bytes());
            assert!(hasher.matches(&digest), "{name}");
        }
        assert_eq!(Digest::parse("\"abc\""), None);
        assert_eq!(Digest::parse(&"g".repeat(40)), None);
    }
}
