//! What a folder of patches has, as JSON. It is not signed and nothing in it is believed: it only helps to choose what to fetch, and every
//! patch then has to show its own signature and digests.

use crate::digest::hex;
use crate::error::{Error, Result};
use crate::format::delta::Header;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// An index of more bytes is refused before it is read whole.
pub const MAX_BYTES: u64 = 1 << 20;
/// Files and patches together.
pub const MAX_ENTRIES: usize = 4096;
const FORMAT: u32 = 1;
/// Shortest patch: a header and an index of one byte.
const MIN_PATCH: u64 = Header::LEN as u64 + 1;
const MAX_PATCH: u64 = 1 << 48;

/// A SHA-256, in JSON as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sha(pub [u8; 32]);

impl std::fmt::Debug for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |b: u8| char::from(b).to_digit(16);
        let bytes: Option<Vec<u8>> = pairs.iter().map(|[a, b]| Some((digit(*a)? << 4 | digit(*b)?) as u8)).collect();
        let bytes = bytes.filter(|_| rest.is_empty()).and_then(|b| b.try_into().ok());
        bytes.map(Sha).ok_or_else(|| serde::de::Error::custom("a SHA-256 has 64 hexadecimal digits"))
    }
}

/// A version of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// For people.
    pub version: String,
    pub sequence: u64,
    pub sha256: Sha,
    /// Of the file itself.
    pub length: u64,
    /// Of the full patch at `url`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The full patch may be applied in place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
}

/// A patch from one version to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from_sha256: Sha,
    pub to_sha256: Sha,
    pub bytes: u64,
    pub url: String,
    #[serde(default)]
    pub in_place: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    format: u32,
    pub model: String,
    pub files: Vec<Release>,
    pub patches: Vec<Edge>,
}

impl Index {
    /// # Errors
    /// `Input` if it is no index, contradicts itself or is too large, `Unsupported` for another format.
    pub fn parse(text: &[u8]) -> Result<Index> {
        let bad = |what: String| Error::input(format!("the index of the updates {what}"));
        if text.len() as u64 > MAX_BYTES {
            return Err(bad(format!("is larger than {MAX_BYTES} bytes")));
        }
        // serde_json stops at 128 levels.
        let index: Index = serde_json::from_slice(text).map_err(|e| {
            bad(format!("cannot be read: {e}"))
                .hint("make it with `bitnet-convert delta index`; is this the right address?")
        })?;
        if index.format != FORMAT {
            return Err(Error::unsupported(format!("the index of the updates has format {}", index.format))
                .hint(format!("this version of bitnet-convert reads format {FORMAT}")));
        }
        if index.files.len() + index.patches.len() > MAX_ENTRIES {
            return Err(bad(format!("has more than {MAX_ENTRIES} entries")));
        }
        let sizes = index.patches.iter().map(|p| p.bytes).chain(index.files.iter().filter_map(|f| f.bytes));
        if let Some(n) = sizes.into_iter().find(|n| !(MIN_PATCH..MAX_PATCH).contains(n)) {
            return Err(bad(format!("lists a patch of {n} bytes")));
        }
        if index.files.iter().any(|f| f.url.is_some() != f.bytes.is_some()) {
            return Err(bad("lists a full patch without its size, or a size without a patch".into()));
        }
        index.releases().map_err(|e| bad(e.message().to_string()))?;
        Ok(index)
    }

    /// By digest; one digest is one release, and one sequence is one digest.
    fn releases(&self) -> Result<BTreeMap<Sha, &Release>> {
        let (mut by_digest, mut by_sequence) = (BTreeMap::new(), BTreeMap::new());
        for f in &self.files {
            if by_digest.insert(f.sha256, f).is_some() {
                return Err(Error::input(format!("lists the file {:?} twice", f.sha256)));
            }
            if by_sequence.insert(f.sequence, f).is_some() {
                return Err(Error::input(format!("lists two files with the sequence {}", f.sequence)));
            }
        }
        Ok(by_digest)
    }

    /// The release with the highest sequence.
    pub fn newest(&self) -> Option<&Release> {
        self.files.iter().max_by_key(|f| f.sequence)
    }

    pub fn release(&self, sha256: &Sha) -> Option<&Release> {
        self.files.iter().find(|f| f.sha256 == *sha256)
    }

    /// The index of patches: their addresses and headers. The order of the argument does not matter.
    ///
    /// # Errors
    /// `Usage` if they are for several models, or say different things about one version.
    pub fn of(patches: &[(String, Header)]) -> Result<Index> {
        let Some((first, head)) = patches.first() else {
            return Err(Error::usage("there is no patch").hint("make one: `bitnet-convert delta create OLD NEW -o P`"));
        };
        let mut patches: Vec<&(String, Header)> = patches.iter().collect();
        patches.sort_by(|a, b| a.0.cmp(&b.0));
        let mut files: BTreeMap<Sha, (Release, &str)> = BTreeMap::new();
        let mut edges = Vec::new();
        for (url, h) in &patches {
            if h.model != head.model {
                let (a, b) = (&head.model, &h.model);
                return Err(Error::usage(format!("`{first}` is for the model `{a}`, `{url}` for `{b}`"))
                    .hint("a folder and its index are for one model"));
            }
            let to = (&h.target_version, h.target_sequence, h.target_sha, h.target_len);
            let from = (&h.base_version, h.base_sequence, h.base_sha, h.base_len);
            for (version, sequence, sha256, length) in [to, from].into_iter().take(if h.flags.full { 1 } else { 2 }) {
                let release = Release {
                    version: version.clone(),
                    sequence,
                    sha256: Sha(sha256),
                    length,
                    bytes: None,
                    url: None,
                    in_place: false,
                };
                let (there, by) = files.entry(release.sha256).or_insert((release, url));
                if (&there.version, there.sequence) != (version, sequence) {
                    let told = format!("`{}` ({}) and `{version}` ({sequence})", there.version, there.sequence);
                    return Err(Error::usage(format!("`{by}` and `{url}` name one file differently: {told}")).hint(
                        "give both the same versions and sequences: `delta create --from-version … --from-sequence …`",
                    ));
                }
            }
            if !h.flags.full {
                edges.push(Edge {
                    from_sha256: Sha(h.base_sha),
                    to_sha256: Sha(h.target_sha),
                    bytes: h.patch_len,
                    url: url.clone(),
                    in_place: h.flags.in_place,
                });
            } else if let Some((release, _)) = files.get_mut(&Sha(h.target_sha)) {
                // Of several the smallest is enough.
                if release.bytes.is_none_or(|n| n > h.patch_len) {
                    release.bytes = Some(h.patch_len);
                    release.url = Some(url.clone());
                    release.in_place = h.flags.in_place;
                }
            }
        }
        let mut files: Vec<Release> = files.into_values().map(|(f, _)| f).collect();
        files.sort_by_key(|f| (f.sequence, f.sha256));
        edges.sort_by(|a, b| a.url.cmp(&b.url));
        let index = Index { format: FORMAT, model: head.model.clone(), files, patches: edges };
        if index.files.len() + index.patches.len() > MAX_ENTRIES {
            return Err(Error::usage(format!("an index has at most {MAX_ENTRIES} files and patches")));
        }
        index.releases().map_err(|e| {
            Error::usage(format!("the folder {}", e.message()))
                .hint("a new file needs a new sequence: `delta create --to-sequence N`")
        })?;
        Ok(index)
    }

    /// The text of the file. The same patches give the same bytes.
    pub fn to_text(&self) -> Vec<u8> {
        // Plain structs: this cannot fail, and an empty index would be refused.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
