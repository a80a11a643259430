//! Model to packed file, in one pass over the weights: lower, quantize row by row into the file, calibrate and record the golden trace on the
//! mapped result, write the small sections, then the header. A tensor lives from its read to its write.

use crate::calibration::{scattered_ids, PARAGRAPH};
use crate::digest;
use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, SamplingDefaults, SourceFile, Transform};
use crate::format::packed::{Kind, Writer};
use crate::kernels::dot::DotKernel;
use crate::kernels::tables::tables;
use crate::lower::{self, Lowered, Options};
use crate::model::Model;
use crate::plan::{self, Extras, Heading, Plan};
use crate::program::golden::Golden;
use crate::program::identity::{self, Identity};
use crate::program::{codec, OpKind, Program, ScaleMode, TensorKind};
use crate::progress::Progress;
use crate::runtime::{record, Session};
use crate::target::{Kernel, Kind as TargetKind, Target};
use crate::tokenizer::host::HostTokenizer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

/// Greedy tokens recorded after each golden prompt.
const GOLDEN_CONTINUATION: usize = 8;
/// Tokens of the long golden prompt, where the window is not the limit.
const GOLDEN_LONG: usize = 48;
/// What the first golden prompts say, if the model has a tokenizer.
pub const GOLDEN_TEXTS: [&str; 3] = [
    "Once upon a time there was a",
    "What is the temperature in the kitchen?",
    "Turn off the lights, please. It is 7:45 p.m.",
];
/// More texts that a device encodes when it is verified: spaces, case, marks, scripts, and what no normalizer leaves alone.
pub const MORE_TEXTS: [&str; 2] = [
    "  Two  spaces,\tTABS\r\nand LINES \n\n it's 1234567 ",
    "E\u{301}te\u{301} \u{e9}t\u{e9} \u{fb01}n \u{bd} \u{6f22}\u{5b57}\u{3002} \u{1f469}\u{200d}\u{1f4bb} <s></s>",
];

/// Everything that an export needs to know.
pub struct Request<'a> {
    pub model: &'a Model,
    pub options: Options,
    pub target: &'a Target,
    /// Text whose activations set the fixed-point ranges; None: a built-in paragraph.
    pub calibration: Option<&'a str>,
    /// The device form of the tokenizer, if there is to be one.
    pub tokenizer: Option<Vec<u8>>,
    /// Whether a C folder can load adapters.
    pub adapters: bool,
}

/// A planned export: all sizes are known, nothing is written.
pub struct Prepared<'a> {
    request: Request<'a>,
    lowered: Lowered,
    golden_prompts: Vec<Vec<u32>>,
    /// Greedy tokens after each of them.
    continuation: usize,
    calibration_ids: Vec<u32>,
    manifest: Manifest,
    /// Whether host-only sections (manifest, tokenizer.json) are written.
    full: bool,
    extras: Extras,
    pub plan: Plan,
}

/// What an export did.
pub struct Written {
    pub bytes: u64,
    pub residual_frac: u32,
    /// Residual elements that reached the limit while the golden trace was recorded.
    pub saturated: u64,
    /// How long converting the weights took, without calibration and trace.
    pub weights_seconds: f64,
}

pub fn prepare(request: Request<'_>) -> Result<Prepared<'_>> {
    let model = request.model;
    let lowered = lower_to_fit(&request)?;
    let p = &lowered.program;
    let at_tokenizer = |e: Error| e.at_file(&model.files[0].path.with_file_name("tokenizer.json"));
    let host = model.tokenizer_json.as_deref().map(HostTokenizer::from_json).transpose().map_err(at_tokenizer)?;
    if request.calibration.is_some() && host.is_none() {
        return Err(Error::usage("a calibration text needs a tokenizer, the checkpoint has none")
            .hint("leave `--calibrate` out"));
    }
    let encode = |text: &str| -> Result<Vec<u32>> {
        let ids = host.as_ref().map(|t| t.encode(text)).transpose().map_err(at_tokenizer)?.unwrap_or_default();
        if let Some(id) = ids.iter().find(|id| **id as usize >= p.vocab) {
            let e = Error::input(format!("tokenizer.json gives id {id}, the model has {} entries", p.vocab));
            return Err(at_tokenizer(e).hint("the tokenizer belongs to another model"));
        }
        Ok(ids)
    };
    let window = p.attention.window;
    let long = if window <= 64 { window + window / 2 + 1 } else { GOLDEN_LONG };
    let continuation = if p.embedding().is_some() { 0 } else { GOLDEN_CONTINUATION };
    let most = p.longest().map_or(usize::MAX, |l| l.saturating_sub(continuation).max(1));
    let continuation = continuation.min(p.longest().map_or(usize::MAX, |l| l - most));
    let mut golden_prompts = Vec::new();
    for text in GOLDEN_TEXTS {
        let mut ids = encode(text)?;
        ids.truncate(most);
        if !ids.is_empty() {
            golden_prompts.push(ids);
        }
    }
    golden_prompts.push(scattered_ids(long.min(most), p.vocab));
    let mut calibration_ids = encode(request.calibration.unwrap_or(PARAGRAPH))?;
    calibration_ids.truncate(p.longest().unwrap_or(4096).min(4096));
    let full = request.target.kind == TargetKind::Host;
    let manifest = manifest(&request, &lowered);
    let extras = Extras {
        golden_totals: golden_prompts.iter().map(|g| g.len() + continuation).collect(),
        tokenizer: request.tokenizer.as_ref().map(|t| t.len() as u64),
        tokenizer_more: super::c::needs_more_code(request.tokenizer.as_deref()),
        tokenizer_scratch: request.tokenizer.as_deref().map_or(0, super::c::tokenizer_scratch),
        tokenizer_json: model.tokenizer_json.as_ref().filter(|_| full).map(|t| t.len() as u64),
        manifest: full.then(|| manifest.to_bytes().len() as u64),
    };
    let heading = Heading {
        model: &model.name,
        weight_rule: &lowered.weight_rule,
        activation_rule: lowered.activation_rule.name(),
    };
    let plan = plan::plan(p, &extras, request.target, &heading);
    Ok(Prepared { golden_prompts, continuation, calibration_ids, manifest, full, extras, plan, lowered, request })
}

/// The program, with tables as large as the target's RAM has room for: what they may take at most says the target, and other parts go first.
fn lower_to_fit(request: &Request) -> Result<Lowered> {
    let mut options = request.options.clone();
    let heading = Heading { model: "", weight_rule: "", activation_rule: "" };
    loop {
        let lowered = lower::lower(request.model, &options)?;
        let tables = lowered.program.lut_bytes;
        let plan = plan::plan(&lowered.program, &Extras::default(), request.target, &heading);
        let over = plan.usage.iter().any(|u| u.memory == "ram" && u.over() > 0);
        let least = if options.kernels.forced == Some(Kernel::Tables) { 512 } else { 0 };
        if !over || tables <= least {
            return Ok(lowered);
        }
        options.kernels.table_bytes = (tables / 2 / 512 * 512).max(least);
    }
}

impl Prepared<'_> {
    pub fn program(&self) -> &Program {
        &self.lowered.program
    }

    /// The device form of the tokenizer, if the file has one.
    pub fn tokenizer(&self) -> Option<&[u8]> {
        self.request.tokenizer.as_deref()
    }

    /// Whether a C folder can load adapters.
    pub fn adapters(&self) -> bool {
        self.request.adapters
    }

    pub fn warnings(&self) -> &[String] {
        &self.lowered.warnings
    }

    /// Writes the packed file.
    ///
    /// # Errors
    /// `Input` from the weights, `Io` from the output; nothing is left behind then.
    pub fn write(&mut self, out: &Path, progress: &dyn Progress) -> Result<Written> {
        let model = self.request.model;
        let count = self.extras.section_lengths(&self.lowered.program).len();
        let mut w = Writer::create(out, count)?;
        w.begin(Kind::Weights)?;
        progress.stage("converting weights", self.lowered.program.weights_len());
        let mut at = 0;
        let started = Instant::now();
        let (mut identity, covered) = (Identity::default(), identity::covered(&self.lowered.program));
        for (i, covered) in covered.into_iter().enumerate() {
            if calibrated(self.lowered.program.tensors[i].kind) {
                continue;
            }
            let t = self.lowered.program.tensors[i].clone();
            pad(&mut w, &mut at, t.data.start)?;
            let mut sink = |b: &[u8]| {
                progress.advance(b.len() as u64);
                w.write(b)
            };
            let made = lower::produce(model, &self.lowered, i, &mut sink, covered.then_some(&mut identity))?;
            at = t.data.end;
            if !made.scales.is_empty() {
                pad(&mut w, &mut at, t.scales.start)?;
                w.write(&made.scales)?;
                at = t.scales.end;
            }
            self.lowered.program.tensors[i].scale = made.scale;
        }
        self.lowered.program.model_id = identity.finish();
        progress.done();
        let weights_seconds = started.elapsed().as_secs_f64();
        // Digests of the source are computed beside the stages that need one core only.
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let digests = self.full.then(|| scope.spawn(|| source_digests(model, &stop)));
            let done = self.finish(w, at, digests, out, progress);
            stop.store(true, Ordering::Relaxed);
            done.map(|w| Written { weights_seconds, ..w })
        })
    }

    /// Everything after the weights.
    fn finish(
        &mut self,
        mut w: Writer,
        mut at: u64,
        digests: Option<ScopedJoinHandle<Vec<[u8; 32]>>>,
        out: &Path,
        progress: &dyn Progress,
    ) -> Result<Written> {
        let model = self.request.model;
        progress.stage("calibrating", 0);
        let part = w.map_open_section()?;
        let ranges = calibrate(&mut self.lowered.program, &part, &self.calibration_ids)?;
        drop(part);
        for i in 0..self.lowered.program.tensors.len() {
            let t = self.lowered.program.tensors[i].clone();
            if calibrated(t.kind) {
                let layer = self.layer_of_keys(i);
                let (bytes, scale) = lower::static_keys_bytes(&ranges[layer], self.lowered.program.key_frac);
                pad(&mut w, &mut at, t.data.start)?;
                w.write(&bytes)?;
                at = t.data.end;
                self.lowered.program.tensors[i].scale = scale;
            }
        }
        progress.done();
        progress.stage("recording the golden trace", 0);
        let part = w.map_open_section()?;
        let p = &self.lowered.program;
        let mut session = Session::new(p, &part, DotKernel::best());
        let mut golden = Golden { layers: p.layers, prompts: Vec::new() };
        for prompt in &self.golden_prompts {
            let total = prompt.len() + self.continuation;
            golden.prompts.push(record(&mut session, prompt, total, &mut |_, _, _| {})?);
        }
        let saturated = session.saturated();
        drop(part);
        progress.done();
        w.section(Kind::Program, &codec::encode(p))?;
        w.section(Kind::Tables, &tables().to_bytes())?;
        if let Some(t) = &self.request.tokenizer {
            w.section(Kind::Tokenizer, t)?;
        }
        w.section(Kind::Golden, &golden.encode())?;
        if let Some(digests) = digests {
            progress.stage("hashing the source", 0);
            let digests = digests.join().map_err(|_| Error::tool("the digests of the source were not computed"))?;
            let first = self.manifest.sources.len() - model.files.len();
            for (s, sha) in self.manifest.sources[first..].iter_mut().zip(digests) {
                s.sha256 = sha.to_vec();
            }
            progress.done();
            w.section(Kind::Manifest, &self.manifest.to_bytes())?;
            if let Some(t) = &model.tokenizer_json {
                w.section(Kind::TokenizerJson, t)?;
            }
        }
        let residual_frac = p.residual_frac;
        let bytes = w.finish()?;
        if bytes != self.plan.file_bytes {
            return Err(
                Error::input(format!("{bytes} bytes were written, {} were planned", self.plan.file_bytes)).at_file(out)
            );
        }
        Ok(Written { bytes, residual_frac, saturated, weights_seconds: 0.0 })
    }

    fn layer_of_keys(&self, tensor: usize) -> usize {
        let uses = |op: &&crate::program::Op| matches!(op.kind, OpKind::KvWrite { keys: Some(k), .. } if k == tensor);
        self.lowered.program.ops.iter().find(uses).and_then(|o| o.layer).unwrap_or(0)
    }
}

/// Whether a tensor is made by calibration, not from weights.
fn calibrated(k: TensorKind) -> bool {
    k == TensorKind::StaticKeys
}

/// SHA-256 of every weight file; zeros if it was told to stop.
fn source_digests(model: &Model, stop: &AtomicBool) -> Vec<[u8; 32]> {
    let digest = |f: &crate::format::File| {
        let mut sha = digest::Sha::default();
        for part in f.bytes().chunks(4 << 20) {
            if stop.load(Ordering::Relaxed) {
                return [0; 32];
            }
            sha.update(part);
            f.release(part);
        }
        sha.finish()
    };
    model.files.iter().map(digest).collect()
}

fn pad(w: &mut Writer, at: &mut u64, to: u64) -> Result<()> {
    w.write(&vec![0; (to - *at) as usize])?;
    *at = to;
    Ok(())
}

/// Per layer, the range of each rotated key channel.
type KeyRanges = Vec<Vec<(f64, f64)>>;

/// Sets the fraction bits of the residual from its largest value on the calibration text and on scattered ids, with room for four times
/// that; and for static keys the ranges of the key channels on the text.
fn calibrate(p: &mut Program, weights: &[u8], text: &[u32]) -> Result<KeyRanges> {
    let mut free = p.clone();
    free.static_keys = false;
    // They are the last ones, so the other ids stay; their bytes are what is being found out here.
    free.tensors.retain(|t| t.kind != TensorKind::StaticKeys);
    free.attention.k_bits = 16;
    free.attention.v_bits = 16;
    // What a longer context does to keys should be seen, too; the cache grows only with the tokens fed.
    if p.longest().is_none() {
        free.attention.window = free.attention.window.max(text.len() + 1);
    }
    for op in &mut free.ops {
        if let OpKind::KvWrite { keys, .. } | OpKind::Attend { keys, .. } = &mut op.kind {
            *keys = None;
        }
    }
    let scattered = scattered_ids(64.min(p.longest().unwrap_or(64)), p.vocab);
    let run = |program: &Program, ids: &[&[u32]]| -> Result<crate::runtime::Observed> {
        let mut s = Session::new(program, weights, DotKernel::best());
        s.observe();
        for ids in ids {
            s.reset();
            s.run(ids)?;
        }
        Ok(s.observed().cloned().unwrap_or_default())
    };
    let seen = run(&free, &[text, &scattered])?;
    // |x| ≤ residual / 2^12; four times that must stay below 2^30.
    let bits = crate::encoding::fixed::bitlen(u64::from(seen.residual)) as i32;
    p.residual_frac = (12 + 28 - bits).clamp(0, 26) as u32;
    free.residual_frac = p.residual_frac;
    if !p.static_keys {
        return Ok(Vec::new());
    }
    let ids: &[u32] = if text.is_empty() { &scattered } else { text };
    let keys = run(&free, &[ids])?.keys;
    let most = keys.iter().flatten().fold(0f64, |m, (lo, hi)| m.max(lo.abs()).max(hi.abs()));
    // Twice the largest key stays below 2^23, so that a centre stays below 2^24.
    p.key_frac = (22 - libm::ceil(libm::log2(most.max(1e-9))) as i32).clamp(0, 28) as u32;
    Ok(keys)
}

/// The files of the checkpoint, side files first; the digests of the weights are zeros until [`Prepared::write`] has read them.
fn sources(m: &Model) -> Vec<SourceFile> {
    let side = m.sources.iter().map(|(name, bytes, sha)| SourceFile {
        name: name.clone(),
        bytes: *bytes,
        sha256: sha.to_vec(),
    });
    let weights = m.files.iter().map(|f| {
        let name = f.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        SourceFile { name, bytes: f.len(), sha256: vec![0; 32] }
    });
    side.chain(weights).collect()
}

fn manifest(r: &Request, lowered: &Lowered) -> Manifest {
    let m = r.model;
    let o = &r.options;
    let mut parameters = BTreeMap::new();
    let mut set = |k: &str, v: String| parameters.insert(k.to_string(), v);
    set("weight", lowered.weight_rule.clone());
    set("activation", lowered.activation_rule.name().into());
    let scales = match o.weight_scales {
        ScaleMode::One => "tensor".to_string(),
        ScaleMode::Row => "row".to_string(),
        ScaleMode::Group(g) => g.to_string(),
    };
    set("weight-scales", scales);
    let a = &lowered.program.attention;
    set("kv-window", a.window.to_string());
    set("kv-sinks", a.sinks.to_string());
    set("kv-bits", a.k_bits.to_string());
    if let Some(text) = r.calibration {
        set("calibration-sha256", digest::hex(&digest::sha256(text.as_bytes())));
    }
    Manifest {
        generator: format!("bitnet-convert {}", env!("CARGO_PKG_VERSION")),
        model: m.name.clone(),
        architecture: m.architecture.clone(),
        sources: sources(m),
        transforms: vec![Transform { name: "lower".into(), parameters }],
        weight_rule: lowered.weight_rule.clone(),
        activation_rule: lowered.activation_rule.name().into(),
        hidden_activation: m.layers[0].mlp.activation.name().into(),
        tensor_names: lowered.program.tensors.iter().map(|t| t.name.clone()).collect(),
        native: lowered.native,
        target: r.target.name.clone(),
        chat_template: m.chat_template.clone(),
        sampling: Some(SamplingDefaults {
            sample: m.generation.sample,
            temperature: m.generation.temperature.map(|t| t.to_string()).unwrap_or_default(),
            top_k: m.generation.top_k.unwrap_or(0),
        }),
    }
}
