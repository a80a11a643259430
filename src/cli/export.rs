use super::export_gguf::{self, GgufArgs};
use super::export_onnx::Onnx;
use super::Printer;
use crate::error::{Error, Result};
use crate::export::rules::Rules;
use crate::export::{c, gguf, packed, rust, wasm};
use crate::fsio::read_capped;
use crate::import;
use crate::limits::MAX_CALIBRATION_BYTES;
use crate::lower::{Head, Kernels, Options, WeightChoice};
use crate::model::{ActivationRule, Model, WeightRule};
use crate::plan::{self, Plan};
use crate::program::ScaleMode;
use crate::report;
use crate::target::{self, Kernel, Kind, Target};
use crate::tokenizer::chat::{self, Source};
use crate::tokenizer::{self, DeviceTokenizer};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Convert a checkpoint: a packed file for hosts, a folder with C sources or a Rust crate for a microcontroller, a WebAssembly module, or ONNX
///
/// A checkpoint that was trained for low bits is carried over with its own codes and scales.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert export --model DIR --format packed -o model.bitnet
  bitnet-convert export --model DIR --target cortex-m7 -o build/m7
  bitnet-convert export --model DIR --target cortex-m7 --dry-run
  bitnet-convert export --model DIR --target cortex-m7 --head planes4 -o build/m7
  bitnet-convert export --model DIR --target cortex-m7 --rules answers.rules -o build/m7
  bitnet-convert export --model DIR --target cortex-m7 --format rust -o build/m7-rust
  bitnet-convert export --model DIR --target wasm32 -o build/web
  bitnet-convert export --model DIR --format gguf --type tq2_0 -o model.gguf
  bitnet-convert export --model i2_s.gguf --format gguf --type tq2_0 -o tq2_0.gguf
  bitnet-convert export --model DIR --format onnx -o build/onnx
  bitnet-convert export --model DIR --format onnx --genai -o build/genai
  bitnet-convert export --model model.bitnet --format onnx --profile ort --exact -o build/ort
  bitnet-convert export --model model.bitnet --format onnx --profile int -o model.onnx
  bitnet-convert export --model DIR --quantize-weight 1.58 --quantize-activation 8 -o model.bitnet")]
pub struct Export {
    /// Folder of a Hugging Face checkpoint, a .safetensors file with config.json beside it, a .gguf file, or the name of a model on the hub: org/name[@revision][:file];
    /// for ONNX also a packed file or an exported folder
    #[arg(long, value_name = "DIR|NAME")]
    pub(super) model: PathBuf,
    /// What it is for: a name from `bitnet-convert targets list`, a board, or a target file such as ./my-board.toml
    #[arg(long, default_value = "host", value_name = "NAME|FILE")]
    pub(super) target: String,
    /// Default: c for microcontrollers, wasm for wasm32, packed for the host
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Output file (packed) or folder (c, rust, wasm); for ONNX either
    #[arg(long, short, value_name = "OUT", required_unless_present = "dry_run")]
    pub(super) output: Option<PathBuf>,
    /// Print the plan and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Bits of the weights: 1 (±1) or 1.58 (-1, 0, 1)
    #[arg(long, value_enum, value_name = "BITS")]
    quantize_weight: Option<WeightBits>,
    /// Bits of the activations: 2, 4 or 8
    #[arg(long, value_enum, value_name = "BITS")]
    quantize_activation: Option<ActivationBits>,
    /// One scale for each: tensor, row, or this many columns of a row (a multiple of 32)
    #[arg(long, default_value = "tensor", value_name = "tensor|row|N", value_parser = scale_mode)]
    weight_scales: ScaleMode,
    /// Bits of the rows of embedding and head: 16, 8 or 4; default: 8 if trained so and on microcontrollers, else 16
    #[arg(long, value_name = "BITS", value_parser = ["16", "8", "4"])]
    embedding_bits: Option<String>,
    /// Rows of the head, where they are to differ from the embedding's; planes4 is int4 as bit planes, for tables, with 8-bit activations
    #[arg(long, value_enum, value_name = "ROWS")]
    head: Option<HeadRows>,
    /// How a device computes binary and ternary matrices; auto takes for each the cheapest that the target allows. Never changes a result
    #[arg(long, value_enum, default_value = "auto")]
    kernel: KernelChoice,
    /// Slots of the key/value window; default: 32 on a microcontroller, the model's context on the host
    #[arg(long, value_name = "N")]
    kv_window: Option<usize>,
    /// First tokens that stay visible when the window rolls; default: 4
    #[arg(long, value_name = "N")]
    kv_sinks: Option<usize>,
    /// Bits of cached keys and values: 16, 8 or 4; default: 16
    #[arg(long, value_name = "BITS", value_parser = ["16", "8", "4"])]
    kv_bits: Option<String>,
    /// Text whose activations set the fixed-point ranges (default: a built-in paragraph)
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Leave the tokenizer out of the device build
    #[arg(long)]
    no_tokenizer: bool,
    /// Compile the part of the runtime that loads adapters (`bitnet-convert adapter`)
    #[arg(long)]
    adapters: bool,
    /// A prompt that the example firmware answers after its self-test; may be repeated
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Rules that the firmware answers with when the model cannot (docs/fallback.md): one a line, `turn on [the] (light|lamp) * -> light on`
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// How the C folder holds the model: as an included binary or as a C array
    #[arg(long, value_enum, default_value = "incbin")]
    embed: c::Embed,
    #[command(flatten)]
    gguf: GgufArgs,
    #[command(flatten)]
    pub(super) onnx: Onnx,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Format {
    /// One file, mapped by hosts
    Packed,
    /// C99 sources around that file, for microcontrollers and boards with Linux
    C,
    /// A no_std crate without unsafe code, for microcontrollers and hosts
    Rust,
    /// A module with its ES module, for browsers and Node
    Wasm,
    /// A file for llama.cpp or bitnet.cpp
    Gguf,
    /// A graph with its weights beside it, for ONNX runtimes
    Onnx,
}

#[derive(Clone, Copy, ValueEnum)]
enum HeadRows {
    Int16,
    Int8,
    Int4,
    Planes4,
}

#[derive(Clone, Copy, ValueEnum)]
enum KernelChoice {
    Auto,
    Tables,
    Planes,
    Select,
}

#[derive(Clone, Copy, ValueEnum)]
enum WeightBits {
    #[value(name = "1")]
    One,
    #[value(name = "1.58")]
    Ternary,
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

#[derive(Clone, Copy, ValueEnum)]
enum ActivationBits {
    #[value(name = "2")]
    Two,
    #[value(name = "4")]
    Four,
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

fn scale_mode(text: &str) -> std::result::Result<ScaleMode, String> {
    match text {
        "tensor" => Ok(ScaleMode::One),
        "row" => Ok(ScaleMode::Row),
        n => match n.parse::<usize>() {
            Ok(g) if g > 0 && g % 32 == 0 && g <= 65_536 => Ok(ScaleMode::Group(g)),
            _ => Err("expected `tensor`, `row` or a multiple of 32".into()),
        },
    }
}

#[derive(Serialize)]
struct Output<'a> {
    plan: &'a Plan,
    written: Option<WrittenOutput>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct WrittenOutput {
    path: String,
    bytes: u64,
    residual_frac_bits: u32,
    saturated: u64,
    weights_seconds: f64,
}

impl Export {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let target = target::find(&self.target)?;
        let format = self.format.unwrap_or(match target.kind {
            Kind::Host => Format::Packed,
            Kind::Wasm => Format::Wasm,
            Kind::Mcu | Kind::Linux => Format::C,
        });
        if format == Format::Wasm && target.kind != Kind::Wasm {
            return Err(Error::usage(format!("a WebAssembly module is not for the target `{}`", target.name))
                .hint("say `--target wasm32`; `--format` follows from it"));
        }
        if format == Format::C && !target.takes_c() {
            let e = Error::usage(format!(
                "the C export needs a board or another processor as target, not `{}`",
                target.name
            ));
            return Err(e.hint("add `--target cortex-m7`; `bitnet-convert targets list` has more"));
        }
        self.refuse_what_has_no_effect(format)?;
        if format == Format::Gguf {
            return self.gguf(&target, printer);
        }
        if format == Format::Onnx {
            return super::export_onnx::run(self, printer);
        }
        let calibration = self.calibration()?;
        let rules = self.rules.as_deref().map(Rules::open).transpose()?;
        let model = import::open(&self.model, &printer.progress())?;
        self.refuse_to_replace_the_source(&model)?;
        let device = (target.kind != Kind::Host || format == Format::Rust) && !self.no_tokenizer;
        let blob = if device { device_tokenizer(&model)? } else { None };
        let (tokenizer, notes) = blob.map_or((None, Vec::new()), |b| with_chat(&model, b));
        let request = packed::Request {
            model: &model,
            options: self.options(&target),
            target: &target,
            calibration: calibration.as_deref(),
            tokenizer,
            adapters: self.adapters,
        };
        let mut prepared = packed::prepare(request)?;
        let mut warnings = prepared.warnings().to_vec();
        warnings.extend(notes);
        for w in &warnings {
            printer.warn(w);
        }
        let fits = plan::refuse(&prepared.plan, prepared.program());
        if !printer.json {
            // The plan is talk when something is written, and the result of a dry run.
            let text = |out: &mut dyn std::io::Write| report::plan(out, &prepared.plan);
            if self.dry_run || fits.is_err() {
                printer.result(&(), text)?;
            } else if !printer.quiet {
                // stderr that cannot be written to is no reason to stop the export.
                let _ = text(&mut std::io::stderr());
            }
        }
        fits?;
        let Some(out) = self.output.as_ref().filter(|_| !self.dry_run) else {
            if printer.json {
                printer.result(&Output { plan: &prepared.plan, written: None, warnings }, |_| Ok(()))?;
            } else {
                printer.note("nothing written (--dry-run)");
            }
            return Ok(0);
        };
        let bar = printer.progress();
        let written = match format {
            Format::Packed => prepared.write(out, &bar)?,
            Format::C => c::write(&mut prepared, &target, self.embed, &self.prompt, rules.as_ref(), out, &bar)?,
            Format::Rust => rust::write(&mut prepared, &target, &self.prompt, out, &bar)?,
            Format::Wasm => wasm::write(&mut prepared, &target, out, &bar)?,
            Format::Onnx | Format::Gguf => unreachable!("written above"),
        };
        if written.saturated > 0 {
            let what = format!(
                "{} residual values reached the limit while the golden prompts ran; results are still the same everywhere, but far from the float model",
                written.saturated
            );
            printer.warn(&what);
            warnings.push(what);
        }
        let path = out.display().to_string();
        let done = WrittenOutput {
            path,
            bytes: written.bytes,
            residual_frac_bits: written.residual_frac,
            saturated: written.saturated,
            weights_seconds: written.weights_seconds,
        };
        let line = match format {
            Format::Packed => format!("wrote {} ({} bytes)", done.path, plan::group(done.bytes)),
            Format::C | Format::Rust | Format::Wasm | Format::Onnx | Format::Gguf => format!(
                "wrote {} (model.bin {} bytes); next: `bitnet-convert verify {}`",
                done.path,
                plan::group(done.bytes),
                done.path
            ),
        };
        if printer.json {
            printer.result(&Output { plan: &prepared.plan, written: Some(done), warnings }, |_| Ok(()))?;
        } else {
            printer.note(&line);
        }
        Ok(0)
    }

    fn gguf(&self, target: &Target, printer: &Printer) -> Result<u8> {
        export_gguf::refuse(&[
            ("--target", target.kind != Kind::Host),
            ("--quantize-activation", self.quantize_activation.is_some()),
            ("--head", self.head.is_some()),
            ("--kv-window", self.kv_window.is_some()),
            ("--kv-sinks", self.kv_sinks.is_some()),
            ("--kv-bits", self.kv_bits.is_some()),
            ("--calibrate", self.calibrate.is_some()),
        ])?;
        let options = self.options(target);
        let weight = match options.weight {
            Some(WeightChoice::LowBit(rule)) => Some((rule, self.weight_scales)),
            Some(WeightChoice::Rows(_)) => {
                return Err(Error::usage("weights of 8 or 16 bits are a type of a GGUF file")
                    .hint("say `--type q8_0` or `--type f16` instead of `--quantize-weight`"))
            }
            None => None,
        };
        if options.embedding_bits == Some(4) {
            return Err(Error::usage("embedding and head of a GGUF file have 16 or 8 bits"));
        }
        let (embedding_bits, no_tokenizer) = (options.embedding_bits, self.no_tokenizer);
        let settings = gguf::Settings { weight, embedding_bits, no_tokenizer, ..gguf::Settings::default() };
        let out = self.output.as_deref().filter(|_| !self.dry_run);
        // Weights that are to be rounded go the way of a checkpoint.
        if settings.weight.is_none() && embedding_bits.is_none() && !no_tokenizer && self.gguf.converts(&self.model)? {
            return self.gguf.convert(&self.model, out, printer);
        }
        self.gguf.run(&self.model, settings, out, |m| self.refuse_to_replace_the_source(m), printer)
    }

    /// A flag that would do nothing is a mistake that its user should hear of.
    fn refuse_what_has_no_effect(&self, format: Format) -> Result<()> {
        if format != Format::Onnx {
            self.onnx.refuse()?;
        }
        let c_only = !self.prompt.is_empty() || self.rules.is_some() || self.embed == c::Embed::Array || self.adapters;
        if format != Format::Gguf && self.gguf.is_set() {
            return Err(Error::usage("`--type` and `--force-arch` belong to GGUF files").hint("add `--format gguf`"));
        }
        if matches!(format, Format::Packed | Format::Wasm | Format::Onnx | Format::Gguf) && c_only {
            let what = match format {
                Format::Wasm => "WebAssembly",
                Format::Onnx => "ONNX",
                Format::Gguf => "a GGUF file",
                _ => "a packed file",
            };
            let options = "`--prompt`, `--rules`, `--embed` and `--adapters`";
            return Err(Error::usage(format!("{options} belong to the C folder, this is {what}"))
                .hint("leave them out, or add `--format c --target cortex-m7`"));
        }
        if format == Format::Rust && self.rules.is_some() {
            return Err(Error::usage("`--rules` belongs to the C folder, this is a Rust crate").hint("leave it out"));
        }
        if format == Format::Rust && self.embed == c::Embed::Array {
            return Err(Error::usage("`--embed` belongs to the C folder; a Rust crate always includes the file")
                .hint("leave it out"));
        }
        match self.prompt.iter().find(|p| p.len() > c::MAX_PROMPT) {
            Some(p) => Err(Error::usage(format!(
                "a prompt of {} bytes, the example firmware takes {}",
                p.len(),
                c::MAX_PROMPT
            ))),
            None => Ok(()),
        }
    }

    /// A text that sets the fixed-point ranges.
    fn calibration(&self) -> Result<Option<String>> {
        let text = self.calibrate.as_ref().map(|f| read_capped(f, MAX_CALIBRATION_BYTES)).transpose()?;
        Ok(text.map(|t| String::from_utf8_lossy(&t).into_owned()))
    }

    /// The checkpoint as a packed file for this machine, with what there is to tell about it.
    pub(super) fn pack(&self, out: &Path, printer: &Printer) -> Result<Vec<String>> {
        let target = target::find("host")?;
        let calibration = self.calibration()?;
        let model = import::open(&self.model, &printer.progress())?;
        self.refuse_to_replace_the_source(&model)?;
        let request = packed::Request {
            model: &model,
            options: self.options(&target),
            target: &target,
            calibration: calibration.as_deref(),
            tokenizer: None,
            adapters: false,
        };
        let mut prepared = packed::prepare(request)?;
        let warnings = prepared.warnings().to_vec();
        prepared.write(out, &printer.progress())?;
        Ok(warnings)
    }

    /// The first option that says how a checkpoint becomes integers, which a packed file already is.
    pub(super) fn says_how_to_lower(&self) -> Option<&'static str> {
        let given = [
            (self.quantize_weight.is_some(), "--quantize-weight"),
            (self.quantize_activation.is_some(), "--quantize-activation"),
            (self.weight_scales != ScaleMode::One, "--weight-scales"),
            (self.embedding_bits.is_some(), "--embedding-bits"),
            (self.head.is_some(), "--head"),
            (self.kv_window.is_some(), "--kv-window"),
            (self.kv_sinks.is_some(), "--kv-sinks"),
            (self.kv_bits.is_some(), "--kv-bits"),
            (self.calibrate.is_some(), "--calibrate"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// The first option that only concerns devices.
    pub(super) fn is_for_devices(&self) -> Option<&'static str> {
        let given = [
            (!matches!(self.kernel, KernelChoice::Auto), "--kernel"),
            (self.no_tokenizer, "--no-tokenizer"),
            (self.target != "host", "--target"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// An output under the name of a source file would replace the checkpoint.
    fn refuse_to_replace_the_source(&self, model: &Model) -> Result<()> {
        let Some(out) = self.output.as_ref().and_then(|o| o.canonicalize().ok()) else { return Ok(()) };
        let beside = |(name, ..): &(String, u64, [u8; 32])| model.files[0].path.with_file_name(name);
        let mut sources = model.files.iter().map(|f| f.path.clone()).chain(model.sources.iter().map(beside));
        if sources.any(|s| s.canonicalize().is_ok_and(|s| s == out)) {
            return Err(Error::usage("the output is a file of the checkpoint")
                .at_file(&out)
                .hint("choose another name"));
        }
        Ok(())
    }

    fn options(&self, target: &Target) -> Options {
        let (d, own) = (&target.defaults, own_options(target));
        let bits = |s: &str| s.parse::<u32>().unwrap_or(8); // clap let only numbers pass
        let window = self.kv_window.or(d.window);
        let sinks = self.kv_sinks.unwrap_or(d.sinks.min(window.unwrap_or(usize::MAX).saturating_sub(1)));
        Options {
            weight: self.quantize_weight.map(|w| match w {
                WeightBits::One => WeightChoice::LowBit(WeightRule::BinaryMean),
                WeightBits::Ternary => WeightChoice::LowBit(WeightRule::TernaryAbsmean),
                WeightBits::Eight => WeightChoice::Rows(8),
                WeightBits::Sixteen => WeightChoice::Rows(16),
            }),
            weight_scales: self.weight_scales,
            activation: self.quantize_activation.map(|a| match a {
                ActivationBits::Two => ActivationRule::Absmax2,
                ActivationBits::Four => ActivationRule::Absmax4,
                ActivationBits::Eight => ActivationRule::Absmax8,
                ActivationBits::Sixteen => ActivationRule::Absmax16,
            }),
            embedding_bits: self.embedding_bits.as_deref().map(bits),
            window,
            sinks,
            kv_bits: self.kv_bits.as_deref().map_or(d.kv_bits, bits),
            head: self.head.map(|h| match h {
                HeadRows::Int16 => Head::Int16,
                HeadRows::Int8 => Head::Int8,
                HeadRows::Int4 => Head::Int4,
                HeadRows::Planes4 => Head::Planes4,
            }),
            kernels: Kernels {
                forced: match self.kernel {
                    KernelChoice::Auto => None,
                    KernelChoice::Tables => Some(Kernel::Tables),
                    KernelChoice::Planes => Some(Kernel::Planes),
                    KernelChoice::Select => Some(Kernel::Select),
                },
                ..own.kernels
            },
            ..own
        }
    }
}

/// What a checkpoint is lowered with where nothing was asked for.
pub(super) fn own_options(target: &Target) -> Options {
    let d = &target.defaults;
    Options {
        embedding_default: d.embedding_bits,
        window: d.window,
        sinks: d.sinks.min(d.window.unwrap_or(usize::MAX).saturating_sub(1)),
        kv_bits: d.kv_bits,
        kernels: Kernels {
            allowed: target.kernels.allowed.clone(),
            costs: target::costs(&target.kernels.cost),
            table_bytes: d.table_bytes,
            forced: None,
        },
        ..Options::default()
    }
}

/// The compact form of the checkpoint's tokenizer; a checkpoint without one is exported without.
fn device_tokenizer(model: &Model) -> Result<Option<Vec<u8>>> {
    let Some(json) = &model.tokenizer_json else { return Ok(None) };
    let blob = tokenizer::compile(json)?;
    let device = DeviceTokenizer::from_bytes(&blob)?;
    if device.vocab_size() as usize > model.vocab {
        return Err(Error::input(format!(
            "tokenizer.json has {} entries, the model {}",
            device.vocab_size(),
            model.vocab
        ))
        .hint("the tokenizer belongs to another model"));
    }
    Ok(Some(blob))
}

/// With the form in which a device writes conversations, if the checkpoint has a chat template, and what to tell about that.
fn with_chat(model: &Model, blob: Vec<u8>) -> (Option<Vec<u8>>, Vec<String>) {
    let json = model.tokenizer_json.as_deref().unwrap_or_default();
    let (blob, notes) = chat::with_template(blob, &chat_source(model), json);
    (Some(blob), notes)
}

/// The chat template of a checkpoint.
pub fn chat_source(model: &Model) -> Source {
    let json = model.tokenizer_json.as_deref().unwrap_or_default();
    let bos = model.bos.map(|id| ("bos_token", id));
    let eos = model.eos.first().map(|id| ("eos_token", *id));
    let ids: Vec<(&str, u32)> = bos.into_iter().chain(eos).collect();
    Source::of_parts(&model.chat_template, &model.chat_tokens, json, &ids)
}
