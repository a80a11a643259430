//! Does a device tokenizer equal the reference? Texts of every kind go through both; every difference is counted, the first ones are told
//! with what is around them and cut down to the shortest text that still differs.
//!
//! What must be equal, for each text: the ids, with those of the template around them; and the text that these ids decode to, special tokens
//! left out, where the reference decodes all of them at once and a device as they come. Other lists of ids, which no text gives, may be
//! decoded differently: a device has shown the first half by then. Of bytes that are not UTF-8 the reference knows nothing: there the devices
//! must equal the first of them.
//!
//! | file | does |
//! |---|---|
//! | `nasty` | texts that have broken tokenizers, tables of characters |
//! | `random` | texts of a seed |
//! | `texts` | all texts of a check in batches |
//! | `compare` | one batch through everyone |
//! | `shorten` | a text that differs, made as short as possible |
//! | `report` | what came of it, as text and as JUnit XML |

mod compare;
mod nasty;
mod random;
mod report;
mod shorten;
mod texts;

pub use random::Material;
pub use report::{junit, text, Difference, NotRun, Report, Row, Side};
pub use texts::{cases, Builtin, Case, Group, Sources, Texts};

use super::host::HostTokenizer;
use super::DeviceTokenizer;
use crate::error::{Error, Result};
use crate::parallel;
use crate::progress::Progress;
use compare::{Found, Outcome};
use std::collections::BTreeSet;

/// What a device made of a text: ids with those of the template, and the text that they decode to as they come, special tokens left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub ids: Vec<u32>,
    pub decoded: Vec<u8>,
}

/// An answer, or why there is none for this text.
pub type Answered = std::result::Result<Answer, String>;

/// Something that runs the compiled tokenizer.
pub trait Device: Sync {
    /// As the report names it.
    fn name(&self) -> &str;
    /// Whether it is so slow that large groups are left out and random texts are few.
    fn is_slow(&self) -> bool {
        false
    }
    /// Longest text that it takes, in bytes; longer ones are left out.
    fn longest(&self) -> usize {
        usize::MAX
    }
    /// One answer for each text, in their order.
    ///
    /// # Errors
    /// If it does not run at all; a text that it refuses is an answer.
    fn answers(&self, texts: &[&[u8]]) -> Result<Vec<Answered>>;
}

/// The Rust form in this process.
impl Device for DeviceTokenizer {
    fn name(&self) -> &str {
        "rust"
    }

    fn answers(&self, texts: &[&[u8]]) -> Result<Vec<Answered>> {
        let answer = |text: &&[u8]| {
            let ids = self.encode_as_stated(text).map_err(|e| e.to_string())?;
            let ids = [self.prefix_ids(), &ids, self.suffix_ids()].concat();
            Ok(Answer { decoded: self.decode(&ids).into_bytes(), ids })
        };
        Ok(texts.iter().map(answer).collect())
    }
}

/// Random texts that a slow device takes at most.
pub const SLOW_RANDOM: u64 = 1024;

/// Everything that is compared.
pub struct Check<'a> {
    /// None: the cases and the first device stand for it.
    pub reference: Option<&'a HostTokenizer>,
    /// Spells ids in the report, and is asked which ids are special.
    pub tokens: &'a DeviceTokenizer,
    pub devices: Vec<&'a dyn Device>,
    pub texts: Texts,
    /// Threads; the result is the same for any number.
    pub threads: usize,
    /// Differences that are told in full, of each device.
    pub most: usize,
}

/// The words that random texts are made from: what a tokenizer has, and lines that stand for ordinary text.
pub fn material(tokens: &DeviceTokenizer, reference: Option<&HostTokenizer>, added: Vec<String>) -> Material {
    let ids = 0..tokens.vocab_size();
    let text = |id| tokens.decode_token(id).and_then(|b| String::from_utf8(b).ok()).filter(|t| !t.is_empty());
    let spelling = |id| reference.and_then(|r| r.spelling(id));
    Material {
        tokens: ids.clone().filter_map(text).collect(),
        spellings: ids.filter_map(spelling).collect(),
        added,
        lines: crate::calibration::TEXT.lines().filter(|l| !l.is_empty()).map(str::to_string).collect(),
    }
}

/// The texts of the added tokens of a `tokenizer.json`.
pub fn added_tokens(json: &[u8]) -> Vec<String> {
    let file: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let list = file.get("added_tokens").and_then(|v| v.as_array()).into_iter().flatten();
    let content = |t: &serde_json::Value| t.get("content").and_then(|c| c.as_str()).map(str::to_string);
    // One list, whatever the order in the file.
    list.filter_map(content).filter(|c| !c.is_empty()).collect::<BTreeSet<_>>().into_iter().collect()
}

impl Check<'_> {
    /// Runs all batches on all devices.
    ///
    /// # Errors
    /// If a device or the reference does not run at all. Differences are no errors.
    pub fn run(&self, progress: &dyn Progress) -> Result<Report> {
        if self.devices.is_empty() {
            return Err(Error::usage("there is no device to compare"));
        }
        let batches = self.texts.batches();
        let mut report = Report::new(self.devices.iter().map(|d| d.name().to_string()), self.reference.is_some());
        progress.stage("comparing texts", batches.iter().map(|b| b.count).sum());
        let mut found: Vec<Found> = Vec::new();
        let compared = parallel::in_order_on(
            self.threads,
            batches.len(),
            |i| compare::batch(self, batches[i]),
            |outcome: Outcome| {
                progress.advance(outcome.batch.count);
                report.add(&outcome);
                for f in outcome.found {
                    if found.iter().filter(|o| o.device == f.device).count() < self.most {
                        found.push(f);
                    }
                }
                Ok(())
            },
        );
        progress.done();
        compared?;
        if !found.is_empty() {
            progress.stage("shortening what differs", 0);
            for f in found {
                report.differences.push(shorten::told(self, f)?);
            }
            progress.done();
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
