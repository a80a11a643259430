use super::source::Source;
use super::Printer;
use crate::error::{Error, Result};
use crate::fsio::{AtomicDir, AtomicFile};
use crate::plan::group;
use crate::prune::vocabulary::corpus;
use crate::tokenizer::compile;
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::trim::{count, trim, Choice, Keep, Trimmed};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Make a smaller tokenizer of what a text needs, for a given size in flash
///
/// Bytes, or the characters that stand for them, are always kept, so that any input still encodes. The ids change: a model needs the same rows
/// taken out of its embedding and its head, which `prune --vocab FILE --vocab-size N` does with the number that is told here.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert tokenizer trim --model DIR --corpus domain.txt --max-rom 32K -o smaller
  bitnet-convert tokenizer trim --model tokenizer.json --corpus domain.jsonl -o tok.json
  bitnet-convert prune --model DIR --vocab domain.txt --vocab-size 5120 -o smaller    the model with it")]
pub struct Trim {
    /// A tokenizer, see `tokenizer --help`
    #[arg(long, value_name = "SOURCE")]
    model: PathBuf,
    /// Text of the domain: plain text, or the strings of a .jsonl file
    #[arg(long, value_name = "FILE", required = true)]
    corpus: Vec<PathBuf>,
    /// Most bytes of the compiled form: 32768, 32K, 1M (default: all that the text uses)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_rom: Option<u64>,
    /// A folder, or a file with the name of a tokenizer.json
    #[arg(long, short, value_name = "DIR|FILE.json", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Tell the sizes and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// A folder of `trim` has this file besides tokenizer.json: the old id of each new one.
const KEPT: &str = "kept_ids.json";

#[derive(Serialize)]
struct Output {
    /// Before and after.
    entries: [usize; 2],
    /// Of the compiled form; before: none if the device has no form of it.
    bytes: [Option<usize>; 2],
    corpus_bytes: usize,
    corpus_tokens: [usize; 2],
    tokens_per_byte: [f64; 2],
    written: Option<String>,
}

/// `32K`.
fn bytes(text: &str) -> std::result::Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        _ => (text, 1u64),
    };
    let n = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0);
    n.ok_or_else(|| format!("`{text}` is no number of bytes like 32768, 32K or 1M"))
}

impl Trim {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let source = Source::open(&self.model)?;
        let Some(json) = &source.json else {
            return Err(
                Error::usage("a compiled tokenizer cannot be trimmed, only what it was made from").at_file(&self.model)
            );
        };
        let mut texts = Vec::new();
        for file in &self.corpus {
            texts.extend(corpus(file)?);
        }
        let bar = printer.progress();
        use crate::progress::Progress;
        bar.stage("counting tokens", 0);
        let counts = count(json, texts.iter().map(String::as_str)).map_err(|e| e.at_file(&self.model))?;
        bar.done();
        bar.stage("choosing tokens", 0);
        let trimmed = self.choose(json, &counts)?;
        bar.done();
        let before = HostTokenizer::from_json(json)?;
        let after = HostTokenizer::from_json(&trimmed.tokenizer_json)?;
        let tokens =
            |t: &HostTokenizer| texts.iter().try_fold(0, |n, text| Ok::<_, Error>(n + t.encode_more(text)?.len()));
        let corpus_tokens = [tokens(&before)?, tokens(&after)?];
        let corpus_bytes = texts.iter().map(String::len).sum::<usize>();
        let size = |json: &[u8]| compile(json).ok().map(|b| b.len());
        let out = self.output.as_ref().filter(|_| !self.dry_run);
        if let Some(out) = out {
            write(out, &trimmed)?;
        }
        let output = Output {
            entries: [before.size(), trimmed.kept.len()],
            bytes: [size(json), size(&trimmed.tokenizer_json)],
            corpus_bytes,
            corpus_tokens,
            tokens_per_byte: corpus_tokens.map(|n| n as f64 / corpus_bytes.max(1) as f64),
            written: out.map(|p| p.display().to_string()),
        };
        printer.result(&output, |w| {
            let o = &output;
            let known = |b: Option<usize>| b.map_or("unknown".to_string(), |b| group(b as u64));
            writeln!(w, "entries          {} -> {}", group(o.entries[0] as u64), group(o.entries[1] as u64))?;
            writeln!(w, "compiled bytes   {} -> {}", known(o.bytes[0]), known(o.bytes[1]))?;
            let [a, b] = o.corpus_tokens.map(|n| group(n as u64));
            writeln!(w, "tokens           {a} -> {b} for {} bytes of text", group(o.corpus_bytes as u64))?;
            writeln!(w, "tokens a byte    {:.4} -> {:.4}", o.tokens_per_byte[0], o.tokens_per_byte[1])
        })?;
        match &output.written {
            Some(path) => printer.note(&format!("wrote {path}")),
            None => printer.note("nothing written (--dry-run)"),
        }
        Ok(0)
    }

    /// As many tokens as the size allows: the compiled form grows with them.
    fn choose(&self, json: &[u8], counts: &[u64]) -> Result<Trimmed> {
        let with = |at_most: Option<usize>| {
            let keep = Keep { choice: Choice::Used { counts, at_most }, always: &[] };
            trim(json, &keep).map_err(|e| e.at_file(&self.model))
        };
        let all = with(None)?;
        let Some(limit) = self.max_rom else { return Ok(all) };
        let size = |t: &Trimmed| {
            compile(&t.tokenizer_json).map(|b| b.len() as u64).map_err(|e| Error::from(e).at_file(&self.model))
        };
        let needs = size(&all)?;
        if needs <= limit {
            return Ok(all);
        }
        // `low` tokens are too few to spell every text, or fit; `high` do not fit.
        let (mut low, mut high) = (0, all.kept.len());
        let mut best: Option<Trimmed> = None;
        let mut least: Option<u64> = None;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match with(Some(middle)) {
                Err(e) if e.kind() == crate::error::Kind::Usage => low = middle,
                Err(e) => return Err(e),
                Ok(t) => {
                    let bytes = size(&t)?;
                    if bytes <= limit {
                        low = middle;
                        best = Some(t);
                    } else {
                        least = Some(least.map_or(bytes, |l| l.min(bytes)));
                        high = middle;
                    }
                }
            }
        }
        best.ok_or_else(|| {
            let least = least.unwrap_or(needs);
            let e = Error::new(
                crate::error::Kind::DoesNotFit,
                format!("{} bytes are too few: what every text needs takes {}", group(limit), group(least)),
            );
            e.at_file(&self.model).hint(format!("give `--max-rom {least}` or more"))
        })
    }
}

fn write(out: &Path, trimmed: &Trimmed) -> Result<()> {
    if out.extension().is_some_and(|e| e == "json") {
        let mut file = AtomicFile::create(out)?;
        file.write(&trimmed.tokenizer_json)?;
        return file.commit();
    }
    let dir = AtomicDir::create(out, KEPT)?;
    let put = |name: &str, data: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, data).map_err(|e| Error::io("write", &path, &e))
    };
    put("tokenizer.json", &trimmed.tokenizer_json)?;
    let ids: Vec<String> = trimmed.kept.iter().map(u32::to_string).collect();
    put(KEPT, format!("[{}]\n", ids.join(",")).as_bytes())?;
    dir.commit()
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        assert_eq!((bytes("32768"), bytes("32K"), bytes("1m")), (Ok(32768), Ok(32768), Ok(1 << 20)));
        for bad in ["", "K", "0", "-1", "1.5K", "99999999999999999999", "18446744073709551615K", "é"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
