use super::Printer;
use crate::calibration;
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::import;
use crate::limits::MAX_CALIBRATION_BYTES;
use crate::model::Model;
use crate::plan::group;
use crate::prune::score::Scorer;
use crate::prune::vocabulary::{self, Fertility, Wanted};
use crate::prune::{write, Measure, Measured, Method, Verdict};
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::trim::Trimmed;
use crate::transform::prune::choice;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Make a smaller checkpoint: fewer layers, fewer tokens
///
/// The result is a folder in the Hugging Face layout. What removing layers costs is measured in float32 on a text and printed.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert prune --model DIR --layers 24 -o smaller
  bitnet-convert prune --model DIR --layers 24 --calibrate text.txt --dry-run
  bitnet-convert prune --model DIR --drop 13-15 -o smaller
  bitnet-convert prune --model DIR --vocab corpus.txt --vocab-size 8000 -o smaller")]
pub struct Prune {
    /// Folder of a Hugging Face checkpoint, or the name of a model on the hub: org/name[@revision]
    #[arg(long, value_name = "DIR|NAME")]
    model: PathBuf,
    /// Keep this many layers
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// How the layers are chosen
    #[arg(long, value_enum, default_value = "loss", conflicts_with_all = ["keep", "drop"])]
    method: Method,
    /// Keep these layers, the first is 0: `0-5,11`
    #[arg(long, value_name = "LIST", conflicts_with = "drop")]
    keep: Option<String>,
    /// Remove these layers: `3,7`
    #[arg(long, value_name = "LIST")]
    drop: Option<String>,
    /// Text that layers are chosen and measured on (default: a built-in one)
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Tokens of the text that are used
    #[arg(long, value_name = "N", default_value = "2048")]
    calibration_tokens: usize,
    /// Do not load the weights to measure what `--keep` or `--drop` costs
    #[arg(long)]
    no_measure: bool,
    /// Keep this many tokens, or those that a text needs: plain text, or the strings of a .jsonl file
    #[arg(long, value_name = "N|FILE")]
    vocab: Option<String>,
    /// Of the tokens that the text needs, at most this many
    #[arg(long, value_name = "N", requires = "vocab")]
    vocab_size: Option<usize>,
    /// Folder of the result; an earlier result is replaced
    #[arg(long, short, value_name = "OUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Print what would be kept and what it costs, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Output {
    layers: Layers,
    vocabulary: Option<Vocabulary>,
    /// Weights of all matrices, before and after.
    parameters: [u64; 2],
    /// Bytes of all tensors, before and after.
    bytes: [u64; 2],
    written: Option<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Layers {
    before: usize,
    after: usize,
    kept: Vec<usize>,
    removed: Vec<usize>,
    method: Option<Method>,
    measured: Option<Measured>,
    /// Before and after; of models that predict a next token.
    perplexity: Option<[f64; 2]>,
    ratio: Option<f64>,
    verdict: Option<Verdict>,
}

#[derive(Serialize)]
struct Vocabulary {
    before: usize,
    after: usize,
    #[serde(flatten)]
    fertility: Fertility,
}

/// Which layers go, as far as the arguments say it.
enum Choice {
    Nothing,
    Named(Vec<usize>),
    Count(usize),
}

impl Prune {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if self.layers.is_none() && self.keep.is_none() && self.drop.is_none() && self.vocab.is_none() {
            return Err(Error::usage("nothing to prune").hint("give `--layers`, `--keep`, `--drop` or `--vocab`"));
        }
        if self.model.extension().is_some_and(|e| e == "gguf") {
            return Err(Error::unsupported(
                "a GGUF file cannot be pruned, only a checkpoint in the Hugging Face layout",
            )
            .at_file(&self.model)
            .hint("take the checkpoint that the file was made from"));
        }
        let bar = printer.progress();
        let model = import::open(&self.model, &bar)?;
        let mut warnings = model.warnings.clone();
        let choice = self.choice(model.layers.len())?;
        let (layers, notes) = self.layers(&model, choice, printer)?;
        warnings.extend(notes);
        let trimmed = self.vocabulary(&model)?;
        let (trimmed, vocabulary) = trimmed.unzip();
        let prepared = write::prepare(&model, &layers.kept, trimmed)?;
        warnings.extend(prepared.warnings.iter().cloned());
        warnings.iter().for_each(|w| printer.warn(w));
        let out = self.output.as_ref().filter(|_| !self.dry_run);
        if let Some(out) = out {
            prepared.write(out, &bar)?;
        }
        let output = Output {
            layers,
            vocabulary,
            parameters: prepared.parameters,
            bytes: prepared.bytes,
            written: out.map(|o| o.display().to_string()),
            warnings,
        };
        printer.result(&output, |w| text(w, &output))?;
        match &output.written {
            Some(path) => printer.note(&format!("wrote {path}")),
            None => printer.note("nothing written (--dry-run)"),
        }
        Ok(0)
    }

    /// Checks the arguments about layers against each other and the model.
    fn choice(&self, total: usize) -> Result<Choice> {
        if let Some(n) = self.layers.filter(|n| *n == 0 || *n > total) {
            return Err(Error::usage(format!(
                "`--layers {n}`: the model has {total} layers, 1 to {total} can be kept"
            )));
        }
        let keep = self.keep.as_ref().map(|l| choice::list(l, total)).transpose()?;
        let drop = self.drop.as_ref().map(|l| choice::list(l, total)).transpose()?;
        let removed = drop.or(keep.map(|k| choice::others(&k, total)));
        let Some(removed) = removed else {
            if self.no_measure && self.layers.is_some_and(|n| n < total) {
                return Err(Error::usage("layers are chosen by measuring, which `--no-measure` forbids")
                    .hint("name them with `--keep` or `--drop`"));
            }
            return Ok(self.layers.map_or(Choice::Nothing, Choice::Count));
        };
        if removed.len() == total {
            return Err(Error::usage("no layer would be left").hint("keep at least one"));
        }
        match self.layers.filter(|n| *n != total - removed.len()) {
            Some(n) => Err(Error::usage(format!("`--layers {n}`, but the list keeps {}", total - removed.len()))
                .hint("leave `--layers` out, or correct one of them")),
            None => Ok(Choice::Named(removed)),
        }
    }

    fn layers(&self, model: &Model, choice: Choice, printer: &Printer) -> Result<(Layers, Vec<String>)> {
        let total = model.layers.len();
        let mut notes = Vec::new();
        let unchanged = matches!(choice, Choice::Nothing) || matches!(&choice, Choice::Count(n) if *n == total);
        let named = match &choice {
            Choice::Named(list) => Some(list.clone()),
            _ => None,
        };
        let measured = if unchanged || (named.is_some() && self.no_measure) {
            None
        } else {
            let ids = self.calibration(model, &mut notes)?;
            let scorer = Scorer::new(model, &ids)?;
            let bar = printer.progress();
            Some(match &choice {
                Choice::Count(n) => scorer.choose(self.method, total - n, &bar)?,
                _ => scorer.measure(named.iter().flatten().map(|l| (*l, None)), &bar)?,
            })
        };
        let mut removed: Vec<usize> =
            named.unwrap_or_else(|| measured.iter().flat_map(|m| &m.steps).map(|s| s.layer).collect());
        removed.sort_unstable();
        let kept = choice::others(&removed, total);
        let perplexity =
            measured.as_ref().filter(|m| m.measure == Measure::Loss).map(|m| [m.before.exp(), m.after.exp()]);
        let ratio = measured.as_ref().filter(|_| perplexity.is_some()).map(|m| (m.after - m.before).exp());
        // Ids that are no text say nothing about text.
        let verdict = ratio.filter(|_| model.tokenizer_json.is_some()).map(Verdict::of);
        let method = matches!(choice, Choice::Count(_)).then_some(self.method).filter(|_| !unchanged);
        let layers =
            Layers { before: total, after: kept.len(), kept, removed, method, measured, perplexity, ratio, verdict };
        notes.extend(judgement(&layers));
        Ok((layers, notes))
    }

    /// The ids that layers are measured on.
    fn calibration(&self, model: &Model, notes: &mut Vec<String>) -> Result<Vec<u32>> {
        if self.calibration_tokens < 2 {
            return Err(Error::usage("`--calibration-tokens` must be at least 2"));
        }
        let given = self.calibrate.as_ref().map(|f| read_capped(f, MAX_CALIBRATION_BYTES)).transpose()?;
        let given = given.map(|t| String::from_utf8_lossy(&t).into_owned());
        let Some(json) = &model.tokenizer_json else {
            if given.is_some() {
                return Err(Error::usage("a calibration text needs a tokenizer, the checkpoint has none")
                    .hint("leave `--calibrate` out"));
            }
            notes.push("the checkpoint has no tokenizer: layers are measured on ids without meaning, which says little about text".into());
            return Ok(calibration::scattered_ids(self.calibration_tokens.min(512), model.vocab));
        };
        let at = |e: Error| e.at_file(&model.files[0].path.with_file_name("tokenizer.json"));
        let tokenizer = HostTokenizer::from_json(json).map_err(at)?;
        let mut ids = tokenizer.encode(given.as_deref().unwrap_or(calibration::TEXT)).map_err(at)?;
        ids.truncate(self.calibration_tokens);
        match ids.iter().find(|id| **id as usize >= model.vocab) {
            Some(id) => {
                Err(at(Error::input(format!("tokenizer.json gives id {id}, the model has {} entries", model.vocab)))
                    .hint("the tokenizer belongs to another model"))
            }
            None => Ok(ids),
        }
    }

    fn vocabulary(&self, model: &Model) -> Result<Option<(Trimmed, Vocabulary)>> {
        let Some(what) = &self.vocab else { return Ok(None) };
        let wanted = match what.parse::<usize>() {
            Ok(_) if self.vocab_size.is_some() => {
                return Err(Error::usage("`--vocab-size` limits what a text needs, `--vocab` is a number here")
                    .hint("give a text: `--vocab corpus.txt --vocab-size 8000`"));
            }
            Ok(n) => Wanted::Size(n),
            Err(_) => Wanted::Corpus { texts: vocabulary::corpus(Path::new(what))?, at_most: self.vocab_size },
        };
        let trimmed = vocabulary::choose(model, &wanted, &write::named_ids(model)?)?;
        let own;
        let texts = match &wanted {
            Wanted::Corpus { texts, .. } => texts,
            Wanted::Size(_) => {
                own = vec![calibration::TEXT.to_string()];
                &own
            }
        };
        let fertility = vocabulary::fertility(model, &trimmed, texts)?;
        let vocabulary = Vocabulary { before: model.vocab, after: trimmed.kept.len(), fertility };
        Ok(Some((trimmed, vocabulary)))
    }
}

/// What a person must hear if the result is not as good as the source.
fn judgement(l: &Layers) -> Option<String> {
    let (ratio, verdict, m) = (l.ratio?, l.verdict?, l.measured.as_ref()?);
    let removed = l.before - l.after;
    let within = |limit: f64| m.steps.iter().take_while(|s| (s.after - m.before).exp() <= limit).count();
    let instead = match within(2.0) {
        0 => "no layer of this model can be spared without it".to_string(),
        n => format!("with `--layers {}` the perplexity stays below twice that of the source", l.before - n),
    };
    if verdict >= Verdict::BadlyDamaged {
        return Some(format!(
            "the result is {}: its perplexity is {ratio:.3e} times that of the source; it must be trained further before it is of use; {instead}",
            verdict.name()
        ));
    }
    (4 * removed > l.before && verdict > Verdict::NearLossless).then(|| {
        "more than a quarter of the layers is removed: on other texts and tasks the loss is larger than measured here, train the result further".to_string()
    })
}

/// `0-5,11`.
fn ranges(list: &[usize]) -> String {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for i in list {
        match out.last_mut().filter(|(_, last)| last + 1 == *i) {
            Some((_, last)) => *last = *i,
            None => out.push((*i, *i)),
        }
    }
    let one = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    out.iter().map(one).collect::<Vec<_>>().join(",")
}

fn text(out: &mut dyn Write, o: &Output) -> io::Result<()> {
    let l = &o.layers;
    writeln!(out, "layers       {} -> {}, kept {}", l.before, l.after, ranges(&l.kept))?;
    if let Some(m) = &l.measured {
        let name = match m.measure {
            Measure::Loss => "loss",
            Measure::Drift => "1 - cosine of the last states",
        };
        writeln!(
            out,
            "measured     {name}, on {} tokens; layers are chosen on {} others",
            m.measured_on_tokens, m.chosen_on_tokens
        )?;
        for s in &m.steps {
            let score = s.score.map_or(String::new(), |v| format!("  (chosen by {v:.4})"));
            writeln!(out, "  without {:<4} {:8.4} -> {:8.4}{score}", s.layer, s.before, s.after)?;
        }
    }
    if let (Some([before, after]), Some(ratio)) = (l.perplexity, l.ratio) {
        writeln!(out, "perplexity   {} -> {}, {} times", number(before), number(after), number(ratio))?;
    }
    if let Some(v) = &o.vocabulary {
        let f = &v.fertility;
        writeln!(
            out,
            "vocabulary   {} -> {}; {} -> {} tokens for {} texts",
            group(v.before as u64),
            group(v.after as u64),
            group(f.tokens_before as u64),
            group(f.tokens_after as u64),
            f.texts
        )?;
    }
    for (name, [before, after]) in [("parameters", o.parameters), ("bytes", o.bytes)] {
        let saved = 100.0 * (1.0 - after as f64 / before.max(1) as f64);
        writeln!(out, "{name:12} {} -> {}, {saved:.1} % saved", group(before), group(after))?;
    }
    match l.verdict {
        Some(v) => writeln!(out, "verdict      {}", v.name()),
        None => Ok(()),
    }
}

/// Large perplexities are no text of twenty digits.
fn number(v: f64) -> String {
    if v < 1e5 {
        format!("{v:.3}")
    } else {
        format!("{v:.3e}")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists_as_ranges() {
        assert_eq!(super::ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(super::ranges(&[]), "");
    }
}
