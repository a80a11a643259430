//! `--float`: commands that compute a checkpoint by the float reference.

use super::embed::Embed;
use super::eval::Compared;
use super::logits::Logits;
use super::run::{self, Run};
use super::vectors::{self, Embedding};
use super::{parse_ids, Printer};
use crate::error::{Error, Result};
use crate::eval::{self, Subject};
use crate::format::{safetensors, File};
use crate::import;
use crate::model::{Kind, Model, Pool, Pooling};
use crate::progress::Progress;
use crate::reference::{pool, unit, Array, Input, Output, Reference};
use crate::tensor::{DType, TensorView};
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::TextCodec;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

fn open(path: &Path, printer: &Printer) -> Result<Model> {
    let model = import::open(path, &printer.progress())?;
    model.warnings.iter().for_each(|w| printer.warn(w));
    Ok(model)
}

fn load(path: &Path, printer: &Printer) -> Result<(Model, Reference)> {
    let model = open(path, printer)?;
    let reference = Reference::load(&model)?;
    Ok((model, reference))
}

#[derive(Serialize)]
struct Printed {
    input_ids: Vec<u32>,
    /// `[positions, vocabulary]`; of a model without head there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argmax: Option<Vec<u32>>,
    /// `[positions, width]`, where the states are a result: encoders, and models without head.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_hidden_state: Option<Vec<Vec<f32>>>,
}

#[derive(Serialize)]
struct Written {
    file: String,
    tensors: Vec<WrittenTensor>,
}

#[derive(Serialize)]
struct WrittenTensor {
    name: &'static str,
    shape: Vec<usize>,
}

pub fn logits(l: &Logits, printer: &Printer) -> Result<u8> {
    // A list of numbers, or a file with a tensor.
    let is_list = l.input_ids.chars().all(|c| c.is_ascii_digit() || c == ',' || c.is_whitespace());
    let from_file = !is_list && l.input_ids.contains(".safetensors");
    let listed = if from_file { None } else { Some(Input::text(&parse_ids(&l.input_ids)?)) };
    if listed.is_none() && l.output.is_none() {
        return Err(Error::usage("ids from a file need a file for the result")
            .hint("add `-o out.safetensors`, or give the ids themselves: `--input-ids 1,2,3`"));
    }
    let (model, reference) = load(&l.artifact, printer)?;
    let input = match listed {
        Some(input) => input,
        None => read_input(&l.input_ids, &model)?,
    };
    let output = reference.forward(&input)?;
    let tensors = results(&model, &input, &output);
    if let Some(target) = &l.output {
        let list: Vec<_> = tensors.iter().map(|(name, a)| (*name, &a.shape[..], &a.data[..])).collect();
        safetensors::write(target, &list)?;
        let tensors = tensors.into_iter().map(|(name, a)| WrittenTensor { name, shape: a.shape }).collect();
        let written = Written { file: target.display().to_string(), tensors };
        printer.result(&written, |out| {
            for t in &written.tensors {
                writeln!(out, "{} {:?}", t.name, t.shape)?;
            }
            Ok(())
        })?;
        return Ok(0);
    }
    let rows = |a: &Array| -> Vec<Vec<f32>> {
        a.data.chunks(a.shape.last().copied().unwrap_or(1).max(1)).map(<[f32]>::to_vec).collect()
    };
    let logits = output.logits.as_ref().map(rows);
    let printed = Printed {
        input_ids: input.ids,
        argmax: logits.as_ref().map(|l| l.iter().map(|row| best(row)).collect()),
        last_hidden_state: tensors.iter().find(|(n, _)| *n == "last_hidden_state").map(|(_, a)| rows(a)),
        logits,
    };
    printer.result(&printed, |out| {
        let values = |row: &[f32]| row.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
        if let Some(states) = &printed.last_hidden_state {
            writeln!(out, "# last hidden state of {} positions", states.len())?;
            for (id, row) in printed.input_ids.iter().zip(states) {
                writeln!(out, "{id}: {}", values(row))?;
            }
        }
        if let (Some(logits), Some(argmax)) = (&printed.logits, &printed.argmax) {
            writeln!(out, "# {} positions x {} logits, float32", logits.len(), reference.vocab())?;
            for ((id, row), best) in printed.input_ids.iter().zip(logits).zip(argmax) {
                writeln!(out, "{id} -> {best}: {}", values(row))?;
            }
        }
        Ok(())
    })?;
    Ok(0)
}

/// What a model is for, by the names that transformers uses.
fn results(model: &Model, input: &Input, output: &Output) -> Vec<(&'static str, Array)> {
    let mut out = Vec::new();
    out.extend(output.logits.clone().map(|a| ("logits", a)));
    if model.kind == Kind::Encoder || output.logits.is_none() {
        out.push(("last_hidden_state", output.hidden.clone()));
    }
    out.extend(output.pooler_output.clone().map(|a| ("pooler_output", a)));
    out.extend(output.encoder_hidden.clone().map(|a| ("encoder_last_hidden_state", a)));
    if let Some(p) = model.pooling {
        let vectors = vectors(output, input.mask.as_deref(), p);
        let shape = vec![vectors.len(), vectors.first().map_or(0, Vec::len)];
        out.push(("embedding", Array { shape, data: vectors.concat() }));
    }
    out
}

fn vectors(output: &Output, mask: Option<&[bool]>, p: Pooling) -> Vec<Vec<f32>> {
    let mut vectors = pool(&output.hidden, mask, p.pool);
    if p.normalize {
        vectors.iter_mut().for_each(|v| unit(v));
    }
    vectors
}

/// The first of the largest.
fn best(row: &[f32]) -> u32 {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32
}

/// `FILE.safetensors:TENSOR` and what lies beside it.
fn read_input(place: &str, model: &Model) -> Result<Input> {
    let (path, name) = match place.rsplit_once(':') {
        Some((path, name)) if !name.ends_with(".safetensors") => (Path::new(path), name),
        _ => (Path::new(place), "input_ids"),
    };
    let file = File::open(path)?;
    let view = file.get(name).or_else(|| file.get("decoder_input_ids").filter(|_| model.audio.is_some()));
    let view = view.ok_or_else(|| {
        Error::usage(format!("there is no tensor `{name}`"))
            .at_file(path)
            .hint(format!("it has {}", file.names().take(12).collect::<Vec<_>>().join(", ")))
    })?;
    let whole = |v: TensorView<'_>| integers(&v).map_err(|e| e.at_file(path));
    let texts = match view.shape {
        [texts, _] => *texts,
        [_] => 1,
        shape => return Err(view.error(format!("has shape {shape:?}, [texts, length] is needed")).at_file(path)),
    };
    let mut input = Input { ids: whole(view)?, texts, ..Input::default() };
    if model.audio.is_some() {
        if let Some(v) = file.get("input_features") {
            let data = v.to_f32().map_err(|e| e.at_file(path))?;
            input.features = Some(Array { shape: v.shape.to_vec(), data });
        }
        return Ok(input);
    }
    let mask = file.get("attention_mask").map(whole).transpose()?;
    input.mask = mask.map(|m| m.into_iter().map(|v| v != 0).collect());
    input.token_types = file.get("token_type_ids").map(whole).transpose()?;
    Ok(input)
}

/// Values of a tensor of ids or flags.
fn integers(v: &TensorView<'_>) -> Result<Vec<u32>> {
    let wide: Vec<i64> = match v.dtype {
        DType::I64 => v.data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        DType::I32 => v.data.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
        DType::U32 => v.data.as_chunks().0.iter().map(|b| i64::from(u32::from_le_bytes(*b))).collect(),
        DType::U8 | DType::Bool => v.data.iter().map(|b| i64::from(*b)).collect(),
        other => return Err(v.error(format!("holds {}, whole numbers (I64, I32) are needed", other.name()))),
    };
    let narrow = wide.iter().map(|v| u32::try_from(*v).map_err(|_| *v));
    narrow.collect::<std::result::Result<_, i64>>().map_err(|n| v.error(format!("holds {n}, which is no id")))
}

fn tokenizer(model: &Model, path: &Path) -> Result<HostTokenizer> {
    let json = model.tokenizer_json.as_ref().ok_or_else(|| {
        let e = Error::usage("the checkpoint has no `tokenizer.json`, so text means nothing to it").at_file(path);
        e.hint("give token ids instead: `bitnet-convert logits DIR --float --input-ids 1,2,3`")
    })?;
    HostTokenizer::from_json(json).map_err(|e| e.at_file(path))
}

pub fn run(r: &Run, printer: &Printer) -> Result<u8> {
    let model = open(&r.artifact, printer)?;
    let codec = TextCodec::Host(Box::new(tokenizer(&model, &r.artifact)?));
    let prompt_ids = codec.encode(&r.prompt)?;
    if prompt_ids.is_empty() {
        return Err(Error::usage("the prompt is empty").hint("give some text with `--prompt`"));
    }
    let reference = Reference::load(&model)?;
    let mut session = reference.start()?;
    let mut logits = session.step(&prompt_ids)?;
    let mut stream = codec.stream();
    let mut output =
        run::Output { prompt_ids, generated_ids: Vec::new(), text: String::new(), finished: false, session: None };
    while output.generated_ids.len() < r.max_new_tokens {
        let id = best(&logits);
        if model.eos.contains(&id) {
            output.finished = true;
            break;
        }
        output.generated_ids.push(id);
        let piece = stream.push(id)?;
        if !printer.json && !piece.is_empty() {
            let mut out = std::io::stdout().lock();
            if write!(out, "{piece}").and_then(|()| out.flush()).is_err() {
                return Ok(0); // whoever reads us has seen enough
            }
        }
        output.text += &piece;
        if model.positions.is_some() && output.prompt_ids.len() + output.generated_ids.len() >= model.context {
            printer.note("the model has no position for another token");
            break;
        }
        logits = session.step(&[id])?;
    }
    printer.result(&output, |out| writeln!(out))?;
    Ok(0)
}

pub fn embed(e: &Embed, printer: &Printer) -> Result<u8> {
    let model = open(&e.model, printer)?;
    if model.audio.is_some() {
        return Err(Error::unsupported("a speech model gives no embedding of a text").at_file(&e.model));
    }
    let tokenizer = tokenizer(&model, &e.model)?;
    let reference = Reference::load(&model)?;
    let usual = match model.kind {
        Kind::Encoder => Pool::Mean,
        Kind::Decoder => Pool::Last,
    };
    let pooling = model.pooling.unwrap_or(Pooling { pool: usual, normalize: true });
    let mut out = Vec::new();
    for text in &e.text {
        let ids = tokenizer.encode(text)?;
        if ids.is_empty() {
            return Err(Error::usage("a text is empty").hint("give some text with `--text`"));
        }
        // One at a time: no padding, so a vector depends on its text alone.
        let output = reference.forward(&Input::text(&ids))?;
        let embedding = vectors(&output, None, pooling).pop().unwrap_or_default();
        out.push(Embedding { text: text.clone(), input_ids: ids, embedding });
    }
    vectors::print(out, printer)
}

/// The base, the adapter in floats and the adapter of `subject` on the same tasks.
pub fn compare_adapter(
    subject: Subject,
    codec: &TextCodec,
    (base, lora): (&Path, &Path),
    tasks: &Path,
    printer: &Printer,
) -> Result<Vec<Compared>> {
    subject.artifact.need_logits()?;
    let bar = printer.progress();
    let mut model = open(base, printer)?;
    if model.vocab != subject.artifact.program.vocab {
        return Err(Error::usage("the checkpoint is not the base of this artifact").at_file(base));
    }
    model.adapter = Some(crate::import::lora::open(lora, &model)?);
    let reference = Reference::load(&model)?;
    let items = eval::items(codec, tasks)?;
    let mut want = Vec::with_capacity(items.len());
    let mut answers = Vec::with_capacity(items.len());
    bar.stage("answering in floats", items.len() as u64);
    for item in &items {
        let mut session = reference.start()?;
        let mut logits = session.step(&item.ids)?;
        want.push(logits.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>());
        let mut ids = Vec::new();
        loop {
            let id = best(&logits);
            if model.eos.contains(&id) || ids.len() == eval::MAX_ANSWER {
                break;
            }
            ids.push(id);
            logits = session.step(&[id])?;
        }
        answers.push(codec.decode(&ids)?);
        bar.advance(1);
    }
    bar.done();
    let float = Compared { what: "float adapter", accuracy: eval::judge(&items, answers), mean_kl: 0.0 };
    let compared = |what, subject: Subject| -> Result<Compared> {
        let mut session = subject.session();
        let mut sum = 0.0;
        for (item, want) in items.iter().zip(&want) {
            session.reset();
            let got = session.run(&item.ids)?.unwrap_or_default();
            sum += eval::divergence(want, &eval::real(&got));
        }
        let accuracy = eval::judge(&items, eval::answers(subject, codec, &items, &bar)?);
        Ok(Compared { what, accuracy, mean_kl: sum / items.len().max(1) as f64 })
    };
    let mut out = vec![compared("without adapter", Subject { adapter: None, ..subject })?, float];
    if subject.adapter.is_some() {
        out.push(compared("low-bit adapter", subject)?);
    }
    Ok(out)
}
