//! The stored prompts as text: a device encodes what they were made from and decodes what they became, so that the whole way is compared:
//! text, ids, logits, text.

use super::parse::Said;
use crate::error::{Error, Result};
use crate::export::packed::{GOLDEN_TEXTS, MORE_TEXTS};
use crate::format::packed::Kind;
use crate::runtime::Artifact;
use crate::tokenizer::DeviceTokenizer;

/// What every device must say.
pub struct Prompts {
    /// Ids of each text, with those that the tokenizer puts around one.
    ids: Vec<Vec<u32>>,
    /// Text of each golden prompt with its continuation, special tokens left out.
    decoded: Vec<Vec<u8>>,
}

impl Prompts {
    /// By the tokenizer for devices that is in the artifact; None: it has none.
    ///
    /// # Errors
    /// `Input` if that is damaged.
    pub fn of(artifact: &Artifact) -> Result<Option<Prompts>> {
        let Some(blob) = artifact.packed.section(Kind::Tokenizer) else { return Ok(None) };
        let t = DeviceTokenizer::from_bytes(blob).map_err(|e| Error::from(e).at_file(&artifact.packed.path))?;
        let encode = |text: &&str| [t.prefix_ids(), &t.encode(text.as_bytes()), t.suffix_ids()].concat();
        Ok(Some(Prompts {
            ids: GOLDEN_TEXTS.iter().chain(&MORE_TEXTS).map(encode).collect(),
            decoded: artifact.golden.prompts.iter().map(|g| t.decode(&g.ids).into_bytes()).collect(),
        }))
    }

    /// How many texts are encoded and decoded.
    pub fn count(&self) -> usize {
        self.ids.len() + self.decoded.len()
    }

    /// Against the golden prompts, which the reference tokenizer of the host made from the same texts. None: they are equal.
    pub fn stored(&self, artifact: &Artifact) -> Option<String> {
        let golden = &artifact.golden.prompts;
        // A prompt for each text that has ids, and one that is no text.
        let texts: Vec<_> = self.ids.iter().take(GOLDEN_TEXTS.len()).filter(|ids| !ids.is_empty()).collect();
        if golden.len() != texts.len() + 1 {
            return None;
        }
        texts.iter().zip(golden).enumerate().find_map(|(i, (ids, g))| {
            let want = &g.ids[..g.prompt_len];
            // A model of a limited length was given the beginning.
            let cut = artifact.program.longest().is_some() && want.len() < ids.len();
            let ids = if cut { &ids[..want.len()] } else { &ids[..] };
            first(want, ids)
                .map(|at| format!("text {i}: the tokenizer's {at} from the reference's in the golden trace"))
        })
    }

    /// The first place where a device differs. None: there is none.
    pub fn difference(&self, said: &Said) -> Option<String> {
        if said.texts.len() != self.ids.len() || said.decoded.len() != self.decoded.len() {
            return Some(format!(
                "{} texts were encoded and {} prompts decoded, {} and {} were expected",
                said.texts.len(),
                said.decoded.len(),
                self.ids.len(),
                self.decoded.len()
            ));
        }
        let ids = self.ids.iter().zip(&said.texts).enumerate();
        let encoded = ids.filter_map(|(i, (w, g))| Some(format!("text {i}: {} from the host's", first(w, g)?)));
        let texts = self.decoded.iter().zip(&said.decoded).enumerate();
        let decoded = texts.filter_map(|(i, (w, g))| {
            let at = w.iter().zip(g).position(|(a, b)| a != b).unwrap_or(w.len().min(g.len()));
            (w != g).then(|| format!("prompt {i} as text: byte {at}"))
        });
        encoded.chain(decoded).next()
    }
}

/// The first difference between ids that are expected and others.
fn first(want: &[u32], got: &[u32]) -> Option<String> {
    match want.iter().zip(got).position(|(a, b)| a != b) {
        Some(n) => Some(format!("id {n} is {} and differs", got[n])),
        None if want.len() != got.len() => Some(format!("{} ids differ in number", got.len())),
        None => None,
    }
}
