//! One batch of texts through the reference and every device.

use super::texts::{Batch, Case, Group};
use super::{Answer, Answered, Check, SLOW_RANDOM};
use crate::error::Result;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Ids,
    Decoded,
    /// The device gave no answer.
    Refused,
    /// The reference itself, from what a case says.
    Case,
}

/// A text that two sides disagree about.
#[derive(Debug, Clone)]
pub struct Found {
    /// Index of the device; None: the reference against a case.
    pub device: Option<usize>,
    pub what: What,
    pub group: Group,
    pub number: u64,
    pub text: Vec<u8>,
    pub expected: Answer,
    pub got: Answer,
    /// Why the device refused.
    pub why: String,
}

/// What one device made of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub texts: u64,
    pub bytes: u64,
    pub differing: u64,
    /// Texts that the reference does not take: nothing to compare.
    pub unknown: u64,
}

pub struct Outcome {
    pub batch: Batch,
    /// For each device; None: it left the batch out.
    pub tallies: Vec<Option<Tally>>,
    /// Cases that the reference contradicts.
    pub cases: u64,
    /// The first differences of each side, as many as are told.
    pub found: Vec<Found>,
}

/// What the reference says about texts: None where it cannot be asked.
fn reference(c: &Check, texts: &[&[u8]]) -> Vec<Option<Answer>> {
    let ask = |text: &&[u8]| {
        let host = c.reference?;
        let ids = host.encode(std::str::from_utf8(text).ok()?).ok()?;
        let decoded = host.decode(&ids).ok()?.into_bytes();
        Some(Answer { ids, decoded })
    };
    texts.iter().map(ask).collect()
}

/// What a device must equal: the reference, or the first device where there is none (and for a first device, nothing).
fn difference(expected: Option<&Answer>, got: &Answered) -> Option<What> {
    match (expected, got) {
        (_, Err(_)) => Some(What::Refused),
        (Some(e), Ok(g)) if e.ids != g.ids => Some(What::Ids),
        (Some(e), Ok(g)) if e.decoded != g.decoded => Some(What::Decoded),
        _ => None,
    }
}

/// Expected answers and those of one device. `device` other than the first is asked together with the first where the reference is silent.
pub fn ask(c: &Check, device: usize, texts: &[&[u8]]) -> Result<Vec<(Option<Answer>, Answered)>> {
    let mut expected = reference(c, texts);
    if device > 0 && expected.iter().any(Option::is_none) {
        let first = c.devices[0].answers(texts)?;
        expected.iter_mut().zip(first).filter(|(e, _)| e.is_none()).for_each(|(e, f)| *e = f.ok());
    }
    Ok(expected.into_iter().zip(c.devices[device].answers(texts)?).collect())
}

/// Whether a device and what it must equal differ, for each text.
pub fn differs(c: &Check, device: usize, texts: &[&[u8]]) -> Result<Vec<bool>> {
    Ok(ask(c, device, texts)?.iter().map(|(e, g)| difference(e.as_ref(), g).is_some()).collect())
}

/// How the reference, or the first device, differs from a case.
fn against_case(c: &Check, case: &Case, answer: &Answer) -> Option<(What, Answer)> {
    let (prefix, suffix) = (c.tokens.prefix_ids(), c.tokens.suffix_ids());
    let bare = answer.ids.strip_prefix(prefix).and_then(|i| i.strip_suffix(suffix)).unwrap_or(&answer.ids);
    let expected = Answer { ids: case.ids.clone(), decoded: case.decoded.clone().unwrap_or_default().into_bytes() };
    if case.ids != bare && case.ids != answer.ids {
        return Some((What::Case, expected));
    }
    // Whether special tokens are shown is a choice of who wrote the case.
    let special = case.ids.iter().any(|id| c.tokens.is_special(*id));
    let wrong = case.decoded.as_ref().is_some_and(|d| !special && d.as_bytes() != answer.decoded);
    wrong.then_some((What::Case, expected))
}

/// # Errors
/// If a device does not run.
pub fn batch(c: &Check, batch: Batch) -> Result<Outcome> {
    let texts = c.texts.of(batch);
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let expected = reference(c, &texts);
    let mut outcome = Outcome { batch, tallies: Vec::new(), cases: 0, found: Vec::new() };
    let mut first: Vec<Answered> = Vec::new();
    for (device, d) in c.devices.iter().enumerate() {
        let random = matches!(batch.group, Group::Random | Group::Stray);
        if d.is_slow() && (batch.group.is_large() || random && batch.first >= SLOW_RANDOM) {
            outcome.tallies.push(None);
            continue;
        }
        let taken: Vec<usize> = (0..texts.len()).filter(|i| texts[*i].len() <= d.longest()).collect();
        let answers = d.answers(&taken.iter().map(|i| texts[*i]).collect::<Vec<_>>())?;
        let mut t = Tally::default();
        for (i, got) in taken.into_iter().zip(&answers) {
            let other = first.get(i).and_then(|f| f.as_ref().ok());
            let wanted = expected[i].as_ref().or(other);
            t.texts += 1;
            t.bytes += texts[i].len() as u64;
            t.unknown += u64::from(wanted.is_none());
            let Some(what) = difference(wanted, got) else { continue };
            t.differing += 1;
            if t.differing <= c.most as u64 {
                outcome.found.push(Found {
                    device: Some(device),
                    what,
                    group: batch.group,
                    number: batch.first + i as u64,
                    text: texts[i].to_vec(),
                    expected: wanted.cloned().unwrap_or_default(),
                    got: got.clone().unwrap_or_default(),
                    why: got.as_ref().err().cloned().unwrap_or_default(),
                });
            }
        }
        outcome.tallies.push(Some(t));
        if device == 0 && answers.len() == texts.len() {
            first = answers;
        }
    }
    if batch.group == Group::Cases {
        cases(c, &texts, &expected, &first, &mut outcome);
    }
    Ok(outcome)
}

fn cases(c: &Check, texts: &[&[u8]], expected: &[Option<Answer>], first: &[Answered], outcome: &mut Outcome) {
    let start = outcome.batch.first;
    for (i, text) in texts.iter().enumerate() {
        let answer = expected[i].as_ref().or(first[i].as_ref().ok());
        let case = usize::try_from(start).ok().and_then(|s| c.texts.cases.get(s + i));
        let (Some(answer), Some(case)) = (answer, case) else { continue };
        if let Some((what, wanted)) = against_case(c, case, answer) {
            outcome.cases += 1;
            outcome.found.push(Found {
                device: None,
                what,
                group: Group::Cases,
                number: start + i as u64,
                text: text.to_vec(),
                expected: wanted,
                got: answer.clone(),
                why: String::new(),
            });
        }
    }
}
