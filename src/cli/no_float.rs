//! What stands in the place of the float reference in a build without it.

use super::eval::Compared;
use super::{embed::Embed, logits::Logits, run::Run, Printer};
use crate::error::{Error, Result};
use crate::eval::Subject;
use crate::tokenizer::TextCodec;
use std::path::Path;

fn absent() -> Result<u8> {
    Err(Error::unsupported("this build has no float reference")
        .hint("build it with `cargo build --features reference`"))
}

pub fn logits(_: &Logits, _: &Printer) -> Result<u8> {
    absent()
}

pub fn run(_: &Run, _: &Printer) -> Result<u8> {
    absent()
}

pub fn embed(_: &Embed, _: &Printer) -> Result<u8> {
    absent()
}

pub fn compare_adapter(_: Subject, _: &TextCodec, _: (&Path, &Path), _: &Path, _: &Printer) -> Result<Vec<Compared>> {
    absent().map(|_| Vec::new())
}
