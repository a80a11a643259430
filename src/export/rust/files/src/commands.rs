//! The commands of the example programs: the same on a microcontroller and on a host, and the same output as those of the C runtime.
//!
//! ```text
//! (nothing)          self-test, then the prompts of the export
//! selftest           compare the golden trace of the model
//! trace [n]          every golden prompt (its first n tokens), a checksum for each operation run; texts as ids, the prompts as text
//! count n            run n tokens, each with logits, without output, for counting instructions
//! info               sizes
//! ids 1,2,3 [n]      run ids, continue greedily for n tokens (1), print their ids
//! logits 1,2,3       all logits after the last id
//! embed 1,2,3        all values of the embedding
//! sample S P Q K 1,2,3 [n]  as ids, but drawn with seed S, temperature P / Q and top K
//! encode TEXT        ids of a text
//! prompt TEXT [n]    continue a text for at most n tokens (32)
//! ```
//! Options before the command: `window=N`, `kvbits=N`, `nostream`.

use crate::arena::{Config, Memory};
use crate::ctx::{Ctx, Failure, SelftestError};
use crate::generated;
use crate::math::Crc;
use crate::model::Model;
use crate::sample::{argmax, Sampler};
use crate::status::{Result, Status};
use crate::tokenizer::Decoder;

/// Longest prompt, in ids.
pub const MAX_IDS: usize = 512;
/// Most bytes of a token that `prompt` prints.
const MAX_PIECE: usize = 1024;
const PROMPT_TOKENS: u32 = 32;

/// What a program is given to work with.
pub struct Bench<'a> {
    /// For the context.
    pub memory: Memory<'a>,
    /// At least [`Model::result_len`] elements.
    pub results: &'a mut [i32],
    /// Room for the ids of a prompt; [`MAX_IDS`] are usual.
    pub ids: &'a mut [u32],
    /// Scratch of the tokenizer: [`generated::TOKENIZER_WORK`] words.
    pub work: &'a mut [u32],
}

/// Runs a command; the exit code: 0, or 10 + a status.
pub fn run(command: &str, model: &[u8], bench: Bench, out: &mut dyn FnMut(&[u8])) -> i32 {
    let mut o = Out(out);
    match start(command, model, bench, &mut o) {
        Ok(()) => 0,
        Err((place, status)) => {
            if !place.is_empty() {
                o.line(&[place, ": ", status.text()]);
            }
            10 + status as i32
        }
    }
}

/// The place is empty if all has been said.
type Outcome = core::result::Result<(), (&'static str, Status)>;

fn at<T>(place: &'static str, r: Result<T>) -> core::result::Result<T, (&'static str, Status)> {
    r.map_err(|s| (place, s))
}

struct Out<'o>(&'o mut dyn FnMut(&[u8]));

impl Out<'_> {
    fn text(&mut self, text: &str) {
        (self.0)(text.as_bytes());
    }

    fn line(&mut self, parts: &[&str]) {
        parts.iter().for_each(|p| self.text(p));
        self.text("\n");
    }

    fn number(&mut self, mut v: u32) {
        let mut digits = [b'0'; 10];
        let mut first = digits.len();
        loop {
            first -= 1;
            // 10 is a constant: a multiplication.
            digits[first] = b'0' + (v % 10) as u8;
            v /= 10;
            if v == 0 {
                break;
            }
        }
        (self.0)(&digits[first..]);
    }

    fn signed(&mut self, v: i32) {
        if v < 0 {
            self.text("-");
        }
        self.number(v.unsigned_abs());
    }

    fn hex(&mut self, v: u32) {
        let digits: [u8; 8] = core::array::from_fn(|i| b"0123456789abcdef"[(v >> (28 - 4 * i) & 15) as usize]);
        (self.0)(&digits);
    }

    /// Two digits each.
    fn bytes(&mut self, bytes: &[u8]) {
        for b in bytes {
            (self.0)(&[b >> 4, b & 15].map(|d| b"0123456789abcdef"[usize::from(d)]));
        }
    }

    fn item(&mut self, name: &str, v: usize) {
        self.text(name);
        self.text(" ");
        self.number(v as u32);
        self.text("\n");
    }
}

/// A decimal number at the start and the rest; larger ones than 2^32 - 1 become that.
fn number(s: &str) -> (Option<u32>, &str) {
    let digits = s.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = s.split_at(digits);
    let value = number.bytes().fold(0u32, |n, d| n.saturating_mul(10).saturating_add(u32::from(d - b'0')));
    ((digits > 0).then_some(value), rest)
}

/// `1,2,3` at the start: their count, and the rest.
fn id_list<'s>(s: &'s str, ids: &mut [u32]) -> (usize, &'s str) {
    let (mut rest, mut n) = (s.trim_start_matches(' '), 0);
    for id in ids {
        let (Some(v), more) = number(rest) else { break };
        *id = v;
        n += 1;
        rest = more;
        match more.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    (n, rest.trim_start_matches(' '))
}

fn start(command: &str, bytes: &[u8], bench: Bench, o: &mut Out) -> Outcome {
    let mut config = Config::default();
    let mut rest = command.trim_start_matches(' ');
    loop {
        let more = if let Some(r) = rest.strip_prefix("window=") {
            let (n, more) = number(r);
            config.max_cache_len = n.unwrap_or(0) as usize;
            more
        } else if let Some(r) = rest.strip_prefix("kvbits=") {
            let (n, more) = number(r);
            config.kv_quant_bits = n.unwrap_or(0);
            more
        } else if let Some(more) = rest.strip_prefix("nostream") {
            config.use_streaming = false;
            more
        } else {
            break;
        };
        rest = more.trim_start_matches(' ');
    }
    let model = at("init", Model::new(bytes))?;
    let size = at("init", model.arena(&config))?;
    let mut ctx = at("init", Ctx::new(&model, config, bench.memory))?;
    let results = at("results", bench.results.get_mut(..model.result_len()).ok_or(Status::Capacity))?;
    let (ids, work) = (bench.ids, bench.work);
    let (name, args) = rest.split_once(' ').unwrap_or((rest, ""));
    match name {
        "" => {
            selftest(&mut ctx, results, o)?;
            for text in generated::PROMPTS {
                o.line(&["> ", text]);
                answer(&mut ctx, text, PROMPT_TOKENS, (ids, work), results, o)?;
            }
            Ok(())
        }
        "selftest" => selftest(&mut ctx, results, o),
        "trace" => {
            let most = number(args).0.map_or(usize::MAX, |n| n as usize);
            trace(&mut ctx, most, (ids, work), results, o)
        }
        "count" => count(&mut ctx, number(args).0.unwrap_or(1) as usize, ids, results),
        "info" => {
            o.item("model_bytes", bytes.len());
            o.item("arena_words", size.words);
            o.item("arena_halves", size.halves);
            o.item("arena_bytes", size.bytes);
            o.item("context_bytes", size_of::<Ctx>());
            o.item("vocabulary", model.vocab());
            o.item("most_tokens", ctx.max_tokens().unwrap_or(0));
            o.item("layers", model.layers());
            o.item("golden_prompts", model.golden_count());
            Ok(())
        }
        "ids" | "logits" => {
            let (n, rest) = id_list(args, ids);
            at("run", ctx.run(&ids[..n], Some(&mut *results)))?;
            if name == "logits" {
                values(results, o);
                return Ok(());
            }
            continue_with(&mut ctx, number(rest).0.unwrap_or(1), results, o, |_, logits| argmax(logits))
        }
        "sample" => {
            let mut v = [0; 4];
            let mut rest = args;
            for v in &mut v {
                let (n, more) = number(rest.trim_start_matches(' '));
                *v = n.unwrap_or(0);
                rest = more;
            }
            let (n, rest) = id_list(rest, ids);
            let mut sampler = at("sample", Sampler::new(v[1], v[2], v[3] as usize, v[0]))?;
            at("run", ctx.run(&ids[..n], Some(&mut *results)))?;
            continue_with(&mut ctx, number(rest).0.unwrap_or(1), results, o, |m, logits| sampler.sample(m, logits))
        }
        "embed" => {
            let (n, _) = id_list(args, ids);
            at("embed", ctx.embed(&ids[..n], results))?;
            values(results, o);
            Ok(())
        }
        "encode" => {
            let n = at("tokenizer", tokens(&model, args, ids, work))?;
            list(&ids[..n], o);
            Ok(())
        }
        "prompt" => {
            let cut =
                args.rfind(' ').filter(|c| args[c + 1..].bytes().all(|b| b.is_ascii_digit()) && c + 1 < args.len());
            let (text, n) = match cut {
                Some(c) => (&args[..c], number(&args[c + 1..]).0.unwrap_or(PROMPT_TOKENS)),
                None => (args, PROMPT_TOKENS),
            };
            answer(&mut ctx, text, n, (ids, work), results, o)
        }
        _ => {
            o.line(&["unknown command: ", name]);
            Err(("", Status::Config))
        }
    }
}

fn values(results: &[i32], o: &mut Out) {
    for v in results {
        o.signed(*v);
        o.text("\n");
    }
}

fn list(ids: &[u32], o: &mut Out) {
    for (i, id) in ids.iter().enumerate() {
        o.text(if i == 0 { "" } else { "," });
        o.number(*id);
    }
    o.text("\n");
}

fn selftest(ctx: &mut Ctx, results: &mut [i32], o: &mut Out) -> Outcome {
    match ctx.selftest(results) {
        Ok(()) => {
            o.line(&["selftest: equal"]);
            Ok(())
        }
        Err(SelftestError::NotRun(status)) => Err(("selftest", status)),
        Err(SelftestError::Differs(Failure { prompt, token, part })) => {
            for (name, v) in [("selftest: prompt ", prompt), (" token ", token), (" part ", part)] {
                o.text(name);
                o.number(v as u32);
            }
            o.line(&[" differs"]);
            Err(("", Status::Selftest))
        }
    }
}

/// The line of a token: opened by its first operation.
struct Lines<'l, 'o> {
    o: &'l mut Out<'o>,
    prompt: u32,
    open: Option<u32>,
}

impl Lines<'_, '_> {
    fn operation(&mut self, position: u32, id: u32, crc: u32) {
        if self.open != Some(position) {
            self.o.text(if self.open.is_some() { "\nT " } else { "T " });
            for v in [self.prompt, position] {
                self.o.number(v);
                self.o.text(" ");
            }
            self.o.number(id);
            self.open = Some(position);
        }
        self.o.text(" ");
        self.o.hex(crc);
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.o.text("\n");
        }
    }
}

fn trace(ctx: &mut Ctx, most: usize, room: Room, results: &mut [i32], o: &mut Out) -> Outcome {
    let (ids, work) = room;
    let model = *ctx.model();
    for prompt in 0..model.golden_count() {
        let Some(g) = model.golden(prompt) else { break };
        ctx.reset();
        let mut lines = Lines { o, prompt: prompt as u32, open: None };
        if model.gives_embedding() {
            // An encoder's tokens come once for each pass.
            let n = g.total.min(most);
            let text = at("trace", ids.get_mut(..n).ok_or(Status::Capacity))?;
            text.iter_mut().enumerate().for_each(|(i, id)| *id = g.id(i));
            let mut each = |p: u32, _: usize, _: u32, crc: u32| lines.operation(p, g.id(p as usize), crc);
            at("trace", ctx.embed_traced(text, results, &mut each))?;
            lines.close();
            continue;
        }
        for t in 0..g.total.min(most) {
            let head = t + 1 >= g.prompt_len;
            let mut each = |p: u32, _: usize, _: u32, crc: u32| lines.operation(p, g.id(t), crc);
            let logits = if head { Some(&mut *results) } else { None };
            at("trace", ctx.run_traced(&[g.id(t)], logits, &mut each))?;
            lines.close();
            if head {
                lines.o.text("G ");
                for v in [prompt as u32, t as u32] {
                    lines.o.number(v);
                    lines.o.text(" ");
                }
                lines.o.number(argmax(results));
                lines.o.text("\n");
            }
        }
    }
    ctx.reset();
    if !matches!(model.tokenizer(), Err(Status::State)) {
        spell(&model, ids, work, o)?;
    }
    o.line(&["OK"]);
    Ok(())
}

/// The texts of the export as ids, and the golden prompts as text.
fn spell(model: &Model, ids: &mut [u32], work: &mut [u32], o: &mut Out) -> Outcome {
    for (i, text) in generated::TEXTS.iter().enumerate() {
        let n = at("texts", tokens(model, text, ids, work))?;
        o.text("I ");
        o.number(i as u32);
        o.text(" ");
        list(ids.get(..n).unwrap_or_default(), o);
    }
    let t = at("texts", model.tokenizer())?;
    for prompt in 0..model.golden_count() {
        let Some(g) = model.golden(prompt) else { break };
        o.text("D ");
        o.number(prompt as u32);
        o.text(" ");
        let (mut decoder, mut piece) = (Decoder::new(), [0; MAX_PIECE]);
        for id in (0..g.total).map(|i| g.id(i)).filter(|id| !t.is_special(*id)) {
            match decoder.push(&t, id, &mut piece) {
                Ok(n) => o.bytes(&piece[..n]),
                // A vocabulary may be padded.
                Err(Status::Token) => {}
                Err(status) => return Err(("texts", status)),
            }
        }
        let n = at("texts", decoder.end(&t, &mut piece))?;
        o.bytes(&piece[..n]);
        o.text("\n");
    }
    Ok(())
}

/// The ids of golden prompt 0, repeated.
fn count(ctx: &mut Ctx, n: usize, ids: &mut [u32], results: &mut [i32]) -> Outcome {
    let g = at("count", ctx.model().golden(0).ok_or(Status::State))?;
    let ids = at("count", ids.get_mut(..n).ok_or(Status::Capacity))?;
    let mut i = 0;
    for id in ids.iter_mut() {
        *id = g.id(i);
        i = if i + 1 < g.prompt_len { i + 1 } else { 0 };
    }
    if ctx.model().gives_embedding() {
        return at("count", ctx.embed(ids, results));
    }
    for id in ids.chunks(1) {
        at("count", ctx.run(id, Some(&mut *results)))?;
    }
    Ok(())
}

fn continue_with(
    ctx: &mut Ctx,
    n: u32,
    logits: &mut [i32],
    o: &mut Out,
    mut choose: impl FnMut(&Model, &[i32]) -> u32,
) -> Outcome {
    for i in 0..n {
        let id = choose(ctx.model(), logits);
        o.number(id);
        if i + 1 == n {
            o.text("\n");
        } else {
            o.text(",");
            at("run", ctx.run(&[id], Some(&mut *logits)))?;
        }
    }
    Ok(())
}

/// For the ids of a text, and the scratch that making them takes.
type Room<'r> = (&'r mut [u32], &'r mut [u32]);

/// Ids of a text with what the model wants around it.
fn tokens(model: &Model, text: &str, ids: &mut [u32], work: &mut [u32]) -> Result<usize> {
    let t = model.tokenizer()?;
    let mut n = t.template(false, ids)?;
    n += t.encode(text.as_bytes(), &mut ids[n..], work)?;
    n += t.template(true, &mut ids[n..])?;
    Ok(n)
}

fn answer(ctx: &mut Ctx, text: &str, most: u32, room: Room, results: &mut [i32], o: &mut Out) -> Outcome {
    let (ids, work) = room;
    ctx.reset();
    let model = *ctx.model();
    let n = at("tokenizer", tokens(&model, text, ids, work))?;
    if model.gives_embedding() {
        at("embed", ctx.embed(&ids[..n], results))?;
        o.number(n as u32);
        o.text(" tokens, ");
        o.number(results.len() as u32);
        o.text(" values:");
        for v in results.iter().take(8) {
            o.text(" ");
            o.signed(*v);
        }
        o.text(", crc ");
        o.hex(results.iter().fold(Crc::START, |c, v| c.word(*v as u32)).end());
        o.text("\n");
        return Ok(());
    }
    let t = at("tokenizer", model.tokenizer())?;
    let mut decoder = Decoder::new();
    at("run", ctx.run(&ids[..n], Some(&mut *results)))?;
    for i in 0..most {
        let id = argmax(results);
        if model.is_eos(id) {
            break;
        }
        if !t.is_special(id) {
            let mut piece = [0; MAX_PIECE];
            let n = at("tokenizer", decoder.push(&t, id, &mut piece))?;
            (o.0)(&piece[..n]);
        }
        if i + 1 < most {
            at("run", ctx.run(&[id], Some(&mut *results)))?;
        }
    }
    let mut rest = [0; 9];
    let n = at("tokenizer", decoder.end(&t, &mut rest))?;
    (o.0)(&rest[..n]);
    o.text("\n");
    Ok(())
}
