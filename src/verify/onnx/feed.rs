//! A model behind an engine, fed with tokens: the inputs that it asks for, and the cache from one call to the next.

use crate::engine::{elements, Data, Engine, Port, Tensor};
use crate::error::{Error, Result};
use crate::format::onnx::Elem;

/// Elements that a cache of fixed length may have at most.
const MOST: usize = 1 << 28;
const PAST: &str = "past_key_values.";

/// The length of a cache that does not grow; None: it grows, or there is none.
pub fn fixed_length(engine: &dyn Engine) -> Result<Option<usize>> {
    let inputs = engine.inputs();
    let Some(past) = inputs.iter().find(|p| p.name.starts_with(PAST)) else { return Ok(None) };
    match past.dims[..] {
        [_, _, length, _] => Ok(length),
        _ => Err(Error::input(format!("its input `{}` has {} dimensions instead of 4", past.name, past.dims.len()))),
    }
}

pub struct Feed<'e> {
    engine: &'e mut dyn Engine,
    inputs: Vec<Port>,
    /// Name of an input of the cache, of the output that continues it, what it held when nothing was fed, and what it holds now.
    cache: Vec<(String, String, Tensor, Tensor)>,
    fixed: bool,
    /// Tokens so far.
    seen: usize,
}

impl<'e> Feed<'e> {
    /// # Errors
    /// `Input` if the model asks for something that a language model does not.
    pub fn new(engine: &'e mut dyn Engine) -> Result<Feed<'e>> {
        let fixed = fixed_length(engine)?.is_some();
        let (inputs, outputs) = (engine.inputs(), engine.outputs());
        let mut cache = Vec::new();
        for port in &inputs {
            match &port.name[..] {
                "input_ids" | "attention_mask" | "position_ids" if port.elem == Elem::I64 => {}
                name if name.starts_with(PAST) => {
                    let output = format!("present.{}", &name[PAST.len()..]);
                    if !outputs.iter().any(|o| o.name == output) {
                        return Err(Error::input(format!("its input `{name}` has no output `{output}`")));
                    }
                    let empty = empty(port)?;
                    cache.push((name.to_string(), output, empty.clone(), empty));
                }
                name => {
                    return Err(Error::input(format!("its input `{name}` is none that a language model has")));
                }
            }
        }
        Ok(Feed { engine, inputs, cache, fixed, seen: 0 })
    }

    /// Whether tokens go in one at a time.
    pub fn one_at_a_time(&self) -> bool {
        self.fixed
    }

    /// Whether there is a cache, so that tokens can follow tokens.
    pub fn has_cache(&self) -> bool {
        !self.cache.is_empty()
    }

    /// Feeds tokens behind those that were; gives the values that are wanted.
    pub fn feed(&mut self, ids: &[u32], wanted: &[&str]) -> Result<Vec<Tensor>> {
        let n = ids.len();
        let all = self.seen + n;
        let wide = |v: Vec<i64>| Tensor { dims: vec![1, v.len()], data: Data::I64(v) };
        let ids = wide(ids.iter().map(|id| i64::from(*id)).collect());
        let mask = wide(vec![1; all]);
        let positions = wide((self.seen..all).map(|p| p as i64).collect());
        let mut given: Vec<(&str, &Tensor)> = Vec::new();
        for port in &self.inputs {
            match &port.name[..] {
                "input_ids" => given.push(("input_ids", &ids)),
                "attention_mask" => given.push(("attention_mask", &mask)),
                "position_ids" => given.push(("position_ids", &positions)),
                _ => {}
            }
        }
        given.extend(self.cache.iter().map(|(name, _, _, now)| (&name[..], now)));
        let mut names: Vec<&str> = wanted.to_vec();
        names.extend(self.cache.iter().map(|(_, output, ..)| &output[..]));
        let mut values = self.engine.run(&given, &names)?;
        if values.len() != names.len() {
            return Err(Error::tool(format!("the engine gave {} values instead of {}", values.len(), names.len())));
        }
        for ((_, _, _, now), value) in self.cache.iter_mut().zip(values.drain(wanted.len()..)) {
            *now = value;
        }
        self.seen = all;
        Ok(values)
    }

    /// Several texts at once, the shorter ones with padding before them; nothing of it stays.
    pub fn batch(&mut self, texts: &[&[u32]], wanted: &[&str]) -> Result<Vec<Tensor>> {
        let (rows, longest) = (texts.len(), texts.iter().map(|t| t.len()).max().unwrap_or(0));
        let table = |of: &dyn Fn(Option<u32>) -> i64| {
            let row = |text: &&[u32]| {
                let padding = std::iter::repeat_n(None, longest - text.len());
                padding.chain(text.iter().copied().map(Some)).map(of).collect::<Vec<i64>>()
            };
            Tensor { dims: vec![rows, longest], data: Data::I64(texts.iter().flat_map(row).collect()) }
        };
        let ids = table(&|id| id.map_or(0, i64::from));
        let mask = table(&|id| i64::from(id.is_some()));
        let empty: Vec<(&str, Tensor)> = self
            .cache
            .iter()
            .map(|(name, _, empty, _)| {
                let mut dims = empty.dims.clone();
                dims[0] = rows;
                (&name[..], Tensor { dims, data: empty.data.clone() })
            })
            .collect();
        let mut given: Vec<(&str, &Tensor)> = Vec::new();
        for port in &self.inputs {
            match &port.name[..] {
                "input_ids" => given.push(("input_ids", &ids)),
                "attention_mask" => given.push(("attention_mask", &mask)),
                _ => {}
            }
        }
        given.extend(empty.iter().map(|(name, t)| (*name, t)));
        self.engine.run(&given, wanted)
    }
}

/// A cache in which nothing is yet: no slots, or the fixed number of them with zeros.
fn empty(port: &Port) -> Result<Tensor> {
    let bad = |what: &str| Error::input(format!("its input `{}` {what}", port.name));
    let [batch, heads, slots, width] = port.dims[..] else { return Err(bad("has no 4 dimensions")) };
    let (Some(heads), Some(width)) = (heads, width) else { return Err(bad("does not say how wide it is")) };
    let dims = vec![batch.unwrap_or(1), heads, slots.unwrap_or(0), width];
    if elements(&dims).is_none_or(|n| n > MOST) {
        return Err(bad("is larger than any cache"));
    }
    if !matches!(port.elem, Elem::F32 | Elem::I8 | Elem::I16 | Elem::I32) {
        return Err(bad("has a type that no cache has"));
    }
    Tensor::zeros(port.elem, &dims)
}
