//! Runs the program for tokens or for a text; the self-test.

use crate::arena::{parts, shape, Config, Memory, Parts, Register, Shape};
use crate::follow::{self, POOL_FIRST, POOL_MEAN};
use crate::generated::parts as with;
use crate::golden::Prompt;
use crate::math::{Crc, Scale};
use crate::model::{Model, Op, MAX_REGISTERS, NONE, NO_LAYER};
use crate::sample::argmax;
use crate::status::{Result, Status};

/// Called after each operation: position of the token, operation, its layer (0xFFFFFF outside of the layers), checksum of the result.
pub type Trace<'t> = dyn FnMut(u32, usize, u32, u32) + 't;

/// Where the self-test found a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Golden prompt.
    pub prompt: usize,
    /// Token of the prompt.
    pub token: usize,
    /// 0 before the layers, 1 + l for layer l, layers + 1 the head, layers + 2 the greedy choice.
    pub part: usize,
}

/// Why a self-test did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelftestError {
    /// It could not be run.
    NotRun(Status),
    /// It ran and found a difference.
    Differs(Failure),
}

/// The state of a conversation, over a model and memory of the caller. Several may share one model.
pub struct Ctx<'a> {
    pub(crate) m: Model<'a>,
    pub(crate) shape: Shape,
    streaming: bool,
    pub(crate) p: Parts<'a>,
    pub(crate) reg: [Register; MAX_REGISTERS],
    pub(crate) position: u32,
    pub(crate) slot: usize,
    /// Tokens of the text, in an encoder.
    pub(crate) tokens: usize,
    pub(crate) saturated: u32,
    /// Whose angles, planes and tables are in memory.
    pub(crate) angles_of: [(u32, u32); 2],
    pub(crate) planes_of: u32,
    pub(crate) tables_of: (u32, bool),
}

/// What is compared or reported while operations run.
struct Watch<'w, 't, 'a> {
    trace: Option<&'w mut Trace<'t>>,
    golden: Option<&'w Prompt<'a>>,
    /// The token whose checksums are compared, the part that is open, its checksum so far.
    token: usize,
    part: usize,
    chain: Crc,
    failed: Option<(usize, usize)>,
}

impl<'w, 't, 'a> Watch<'w, 't, 'a> {
    fn new(trace: Option<&'w mut Trace<'t>>, golden: Option<&'w Prompt<'a>>) -> Self {
        Watch { trace, golden, token: 0, part: 0, chain: Crc::START, failed: None }
    }

    fn active(&self) -> bool {
        self.trace.is_some() || self.golden.is_some()
    }

    fn start(&mut self, token: usize, part: usize, chain: Crc) {
        (self.token, self.part, self.chain) = (token, part, chain);
    }

    /// The chain of one part of a token is complete.
    fn end(&mut self) {
        if let Some(g) = self.golden {
            if self.failed.is_none() && self.chain.end() != g.sum(self.token, self.part) {
                self.failed = Some((self.token, self.part));
            }
        }
    }

    fn note(&mut self, c: &Ctx, index: usize, op: &Op, crc: u32) {
        if let Some(trace) = &mut self.trace {
            trace(c.position, index, op.layer, crc);
        }
        if self.golden.is_some() {
            let part = match op.layer {
                _ if index >= c.m.h.head_op => c.m.h.layers + 1,
                NO_LAYER => 0,
                l => l as usize + 1,
            };
            if part != self.part {
                self.end();
                (self.part, self.chain) = (part, Crc::START);
            }
            self.chain = self.chain.word(crc);
        }
    }
}

impl<'a> Ctx<'a> {
    /// A new conversation. The memory is that of [`crate::Arena`] or any other of the lengths of [`Model::arena`].
    ///
    /// # Errors
    /// `Config` if the configuration is not possible, `Arena` if the memory is too small.
    pub fn new(model: &Model<'a>, config: Config, memory: Memory<'a>) -> Result<Ctx<'a>> {
        let s = shape(model, &config)?;
        let (p, reg) = parts(model, &s, memory)?;
        Ok(Ctx {
            m: *model,
            shape: s,
            streaming: config.use_streaming,
            p,
            reg,
            position: 0,
            slot: 0,
            tokens: 0,
            saturated: 0,
            angles_of: [(NONE, 0); 2],
            planes_of: NONE,
            tables_of: (NONE, false),
        })
    }

    /// Forgets the conversation.
    pub fn reset(&mut self) {
        (self.position, self.slot, self.tokens, self.saturated) = (0, 0, 0, 0);
        self.angles_of = [(NONE, 0); 2];
        self.planes_of = NONE;
        self.tables_of = (NONE, false);
    }

    /// The model.
    pub fn model(&self) -> &Model<'a> {
        &self.m
    }

    /// Tokens so far; wraps.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Elements of the residual that reached the limit of an i32.
    pub fn saturated(&self) -> u32 {
        self.saturated
    }

    /// Most tokens of one text or conversation, if there is a limit.
    pub fn max_tokens(&self) -> Option<usize> {
        let window = (self.m.h.encoder || !self.streaming).then_some(self.shape.window);
        let positions = Some(self.m.h.positions).filter(|p| *p != 0);
        match (window, positions) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Runs tokens; `logits`, as long as the vocabulary, gets those after the last one (value * 65,536).
    ///
    /// # Errors
    /// `Token`, `Context`: nothing was run. `Result`: the model gives embeddings. `Capacity`: `logits` has another length.
    pub fn run(&mut self, ids: &[u32], logits: Option<&mut [i32]>) -> Result<()> {
        self.run_with(ids, logits, None)
    }

    /// As [`Ctx::run`], with a checksum of every operation.
    pub fn run_traced(&mut self, ids: &[u32], logits: Option<&mut [i32]>, trace: &mut Trace) -> Result<()> {
        self.run_with(ids, logits, Some(trace))
    }

    /// The embedding of a text, which starts a conversation of its own: 30 fraction bits if the model normalizes, else 16.
    ///
    /// # Errors
    /// As [`Ctx::run`]; `Context` if the text is longer than an encoder's window or the model's positions.
    pub fn embed(&mut self, ids: &[u32], out: &mut [i32]) -> Result<()> {
        self.embed_with(ids, out, None)
    }

    /// As [`Ctx::embed`], with a checksum of every operation.
    pub fn embed_traced(&mut self, ids: &[u32], out: &mut [i32], trace: &mut Trace) -> Result<()> {
        self.embed_with(ids, out, Some(trace))
    }

    fn run_with(&mut self, ids: &[u32], mut logits: Option<&mut [i32]>, trace: Option<&mut Trace>) -> Result<()> {
        if self.m.gives_embedding() {
            return Err(Status::Result);
        }
        if logits.as_ref().is_some_and(|l| l.len() != self.m.h.vocab) {
            return Err(Status::Capacity);
        }
        self.check_ids(ids, self.position)?;
        let mut w = Watch::new(trace, None);
        for (i, id) in ids.iter().enumerate() {
            let last = i + 1 == ids.len();
            self.token(*id, if last { logits.take() } else { None }, &mut w);
        }
        Ok(())
    }

    fn embed_with(&mut self, ids: &[u32], out: &mut [i32], trace: Option<&mut Trace>) -> Result<()> {
        if !self.m.gives_embedding() {
            return Err(Status::Result);
        }
        if out.len() != self.m.h.d_model {
            return Err(Status::Capacity);
        }
        self.check_ids(ids, 0)?;
        let mut w = Watch::new(trace, None);
        self.text(ids.len(), &|i: usize| ids.get(i).copied().unwrap_or(0), out, &mut w);
        Ok(())
    }

    fn check_ids(&self, ids: &[u32], position: u32) -> Result<()> {
        if ids.is_empty() || ids.iter().any(|id| *id as usize >= self.m.h.vocab) {
            return Err(Status::Token);
        }
        match self.max_tokens() {
            Some(most) if ids.len() > most.saturating_sub(position as usize) => Err(Status::Context),
            _ => Ok(()),
        }
    }

    fn step(&mut self, op: &Op, id: u32, out: Option<&mut [i32]>) {
        use follow::*;
        match op.code {
            EMBED => self.embed_row(op, id),
            RMSNORM if with::OP_RMSNORM => self.rmsnorm(op),
            QUANTIZE => self.quantize(op),
            LINEAR => self.linear(op),
            ADD => self.add(op),
            KVWRITE => self.kvwrite(op),
            ATTEND => self.attend(op),
            RELU2MUL if with::OP_RELU2MUL => self.gate(op, 2),
            SILUMUL if with::OP_SILUMUL => self.gate(op, 3),
            LOGITS if with::OP_LOGITS => self.logits(op, out),
            NORM if with::OP_NORM => self.norm(op),
            BIAS if with::OP_BIAS => self.bias(op),
            GAIN if with::OP_GAIN => self.gain(op),
            ACT if with::OP_ACT => self.act(op),
            GATE if with::OP_GATE => self.gate(op, op.p[0]),
            STORE if with::OP_STORE => self.store(op),
            POSITION if with::OP_POSITION => self.add_position(op),
            ROPE if with::OP_ROPE => self.rope(op),
            EMBEDDING if with::OP_EMBEDDING => self.embedding(op, out),
            // Refused when the model was opened.
            _ => {}
        }
    }

    fn steps(&mut self, from: usize, to: usize, id: u32, mut out: Option<&mut [i32]>, w: &mut Watch) {
        for i in from..to {
            let op = self.m.op(i);
            self.step(&op, id, out.as_deref_mut());
            if w.active() {
                let crc = self.checksum(&op, out.as_deref());
                w.note(self, i, &op, crc);
            }
        }
    }

    /// One token, from the first operation; up to the last one if there is room for a result.
    fn token(&mut self, id: u32, out: Option<&mut [i32]>, w: &mut Watch) {
        let end = if out.is_some() { self.m.h.ops } else { self.m.h.head_op };
        w.start(w.token, 0, Crc::START);
        self.steps(0, end, id, out, w);
        w.end();
        self.position = self.position.wrapping_add(1);
        self.slot += 1;
        if (self.position as usize) < self.shape.window {
            self.slot = self.position as usize;
        } else if self.slot >= self.shape.window {
            self.slot = self.m.h.sinks;
        }
    }

    /// A text for its embedding.
    fn text(&mut self, n: usize, id: &dyn Fn(usize) -> u32, out: &mut [i32], w: &mut Watch) {
        self.reset();
        if self.m.h.encoder {
            if with::WITH_ENCODER {
                self.passes(n, id, out, w);
            }
            return;
        }
        for i in 0..n {
            if w.failed.is_some() {
                return;
            }
            w.token = i;
            self.token(id(i), if i + 1 == n { Some(&mut *out) } else { None }, w);
        }
    }

    /// All tokens from one KVWRITE to the next, so that ATTEND finds every one of them in the cache. The residual register lies where the
    /// token has its residual.
    fn passes(&mut self, n: usize, id: &dyn Fn(usize) -> u32, out: &mut [i32], w: &mut Watch) {
        let residual = self.m.op(0).dst;
        let home = self.reg[residual].at;
        let (d, head_op) = (self.m.h.d_model, self.m.h.head_op);
        self.tokens = n;
        let (mut first, mut part) = (0, 0);
        while first < head_op && w.failed.is_none() {
            let (mut end, mut next) = (first, part);
            while end < head_op && next == part {
                let op = self.m.op(end);
                end += 1;
                if op.code == follow::KVWRITE {
                    next = op.layer as usize + 1;
                }
            }
            for p in 0..n {
                if w.failed.is_some() {
                    break;
                }
                (self.position, self.slot) = (p as u32, p);
                self.reg[residual].at = self.p.texts + p * d;
                let chain = if first == 0 { Crc::START } else { Crc::resumed(self.p.chains[p] as u32) };
                w.start(p, part, chain);
                self.steps(first, end, id(p), None, w);
                self.p.chains[p] = w.chain.state() as i32;
                if end == head_op {
                    if self.m.facts.pool == POOL_MEAN {
                        self.add_to_pool(residual);
                    }
                    w.end();
                }
            }
            (part, first) = (next, end);
        }
        if w.failed.is_none() {
            let of = if self.m.facts.pool == POOL_FIRST { 0 } else { n - 1 };
            self.reg[residual].at = self.p.texts + of * d;
            self.steps(first, self.m.h.ops, 0, Some(out), w);
            w.end();
        }
        self.reg[residual].at = home;
        (self.position, self.slot) = (n as u32, n);
    }

    fn checksum(&self, op: &Op, out: Option<&[i32]>) -> u32 {
        if op.code == follow::KVWRITE {
            return self.kv_checksum(op.layer as usize);
        }
        let words = |s: Scale, values: &[i32]| values.iter().fold(Crc::START.scale(s), |c, v| c.word(*v as u32)).end();
        if matches!(op.code, follow::LOGITS | follow::EMBEDDING) {
            return words(Scale::ONE, out.unwrap_or(&[]));
        }
        let r = &self.reg[op.dst];
        let range = r.at..r.at + r.len;
        match r.kind {
            0 => words(r.scale, &self.p.vectors[range]),
            1 => self.p.codes8[range].iter().fold(Crc::START.scale(r.scale), |c, v| c.word(*v as u32)).end(),
            _ => self.p.codes16[range].iter().fold(Crc::START.scale(r.scale), |c, v| c.word(*v as u32)).end(),
        }
    }

    /// Runs the golden trace of the model and compares every checksum and every greedy choice. Needs the exported window and widths.
    /// `results` is scratch of [`Model::result_len`] elements. Resets the context.
    ///
    /// # Errors
    /// Where the first difference is; `NotRun`: no golden trace (`State`), another configuration (`Config`), scratch of another length (`Capacity`).
    pub fn selftest(&mut self, results: &mut [i32]) -> core::result::Result<(), SelftestError> {
        let ready = match () {
            _ if self.m.golden.len() == 0 => Err(Status::State),
            _ if !self.shape.as_exported => Err(Status::Config),
            _ if results.len() != self.m.result_len() => Err(Status::Capacity),
            _ => Ok(()),
        };
        ready.map_err(SelftestError::NotRun)?;
        for prompt in 0..self.m.golden_count() {
            if let Some((token, part)) = self.m.golden(prompt).and_then(|g| self.test(&g, results)) {
                self.reset();
                return Err(SelftestError::Differs(Failure { prompt, token, part }));
            }
        }
        self.reset();
        Ok(())
    }

    /// One golden prompt; the token and part that differ.
    fn test(&mut self, g: &Prompt, results: &mut [i32]) -> Option<(usize, usize)> {
        let mut w = Watch::new(None, Some(g));
        if self.m.gives_embedding() {
            self.text(g.total, &|i| g.id(i), results, &mut w);
            return w.failed;
        }
        self.reset();
        for t in 0..g.total {
            let head = t + 1 >= g.prompt_len;
            w.token = t;
            self.token(g.id(t), if head { Some(&mut *results) } else { None }, &mut w);
            if w.failed.is_some() {
                return w.failed;
            }
            if head && t + 1 < g.total && argmax(results) != g.id(t + 1) {
                return Some((t, self.m.h.layers + 2));
            }
        }
        None
    }
}
