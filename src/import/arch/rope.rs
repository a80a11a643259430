//! Rotary embeddings of all kinds, in both dialects of the configuration.

use crate::error::{Error, Result};
use crate::import::config::Config;
use crate::import::dims::Dims;
use crate::model::{frequencies, Beyond, Rope};
use std::f64::consts::{PI, TAU};

/// What an architecture does if its configuration is silent, and how it calls things.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    head_dim: usize,
    context: usize,
    theta: (&'a str, f64),
    partial: (&'a str, f64),
    /// Layers of this type have settings of their own inside `rope_parameters`.
    layer_type: Option<&'a str>,
    /// `rope_scaling` is not for this rope.
    unscaled: bool,
}

impl<'a> Ask<'a> {
    pub fn new(d: &Dims) -> Ask<'a> {
        Ask {
            head_dim: d.head_dim,
            context: d.context,
            theta: ("rope_theta", 10_000.0),
            partial: ("partial_rotary_factor", 1.0),
            layer_type: None,
            unscaled: false,
        }
    }

    /// Key and default of the base.
    pub fn theta(self, key: &'a str, default: f64) -> Ask<'a> {
        Ask { theta: (key, default), ..self }
    }

    /// Key and default of the part of a head that is rotated.
    pub fn partial(self, key: &'a str, default: f64) -> Ask<'a> {
        Ask { partial: (key, default), ..self }
    }

    pub fn layer_type(self, name: &'a str) -> Ask<'a> {
        Ask { layer_type: Some(name), ..self }
    }

    pub fn unscaled(self) -> Ask<'a> {
        Ask { unscaled: true, ..self }
    }

    /// # Errors
    /// `Input` for numbers that are missing or make no sense, `Unsupported` for types that are not known.
    pub fn read(self, cfg: &Config) -> Result<Rope> {
        let mut at = ["rope_parameters", "rope_scaling"].into_iter().find(|k| cfg.get(k).is_some()).map(String::from);
        let own = self.layer_type.map(|t| format!("rope_parameters.{t}")).filter(|k| cfg.get(k).is_some());
        let scaled = !self.unscaled || own.is_some();
        at = own.or(at).filter(|_| scaled);
        let s = Settings { cfg, at, ask: self };
        let theta = match s.f64("rope_theta")? {
            Some(t) => t,
            None => cfg.f64(self.theta.0)?.unwrap_or(self.theta.1),
        };
        if !(1.0..=1e12).contains(&theta) {
            return Err(cfg.error(format!("{} is {theta}", self.theta.0)));
        }
        let partial = match s.f64("partial_rotary_factor")? {
            Some(p) => p,
            None => cfg.f64(self.partial.0)?.unwrap_or(self.partial.1),
        };
        let dim = if partial > 0.0 && partial <= 1.0 { (self.head_dim as f64 * partial) as usize } else { 0 };
        if dim < 2 || dim % 2 != 0 {
            let (key, d) = (self.partial.0, self.head_dim);
            return Err(
                cfg.error(format!("`{key}` is {partial}: of {d} channels a head an even number must be rotated"))
            );
        }
        s.rope(theta, dim, partial)
    }
}

struct Settings<'a> {
    cfg: &'a Config,
    /// Key of the object with the settings.
    at: Option<String>,
    ask: Ask<'a>,
}

impl Settings<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.at.as_deref().unwrap_or_default())
    }

    fn f64(&self, name: &str) -> Result<Option<f64>> {
        match &self.at {
            Some(_) => self.cfg.f64(&self.key(name)),
            None => Ok(None),
        }
    }

    fn kind(&self) -> &str {
        let text = |name| self.cfg.str(&self.key(name));
        match &self.at {
            None => "default",
            Some(_) if self.cfg.get(&self.key("factors")).is_some() => "factors",
            Some(_) => text("rope_type").or_else(|| text("type")).unwrap_or("default"),
        }
    }

    fn need(&self, name: &str) -> Result<f64> {
        match self.f64(name)? {
            Some(v) if v > 0.0 => Ok(v),
            _ => Err(self.cfg.error(format!("rope type `{}` needs a positive `{name}`", self.kind()))),
        }
    }

    /// A divisor for each pair of channels.
    fn divisors(&self, name: &str, pairs: usize) -> Result<Vec<f64>> {
        let key = self.key(name);
        let list = self.cfg.numbers(&key)?.unwrap_or_default();
        if list.len() != pairs || list.iter().any(|f| *f <= 0.0) {
            let what = format!("`{key}` holds {} numbers, {pairs} positive ones are expected", list.len());
            return Err(self.cfg.error(what));
        }
        Ok(list)
    }

    /// Length of the texts before the context was extended.
    fn original(&self) -> Result<Option<f64>> {
        const KEY: &str = "original_max_position_embeddings";
        let v = match self.f64(KEY)? {
            Some(v) => Some(v),
            None => self.cfg.f64(KEY)?,
        };
        match v {
            Some(v) if v < 1.0 || v > (1 << 24) as f64 => Err(self.cfg.error(format!("`{KEY}` is {v}"))),
            v => Ok(v),
        }
    }

    fn rope(&self, theta: f64, dim: usize, partial: f64) -> Result<Rope> {
        let (cfg, kind, pairs) = (self.cfg, self.kind(), dim / 2);
        let base = frequencies(theta, pairs);
        let scaled = |by: &[f64]| base.iter().zip(by).map(|(f, d)| f / d).collect();
        match kind {
            // What "mrope" adds is for pictures; positions of text are the same in all its sections.
            "default" | "mrope" => Ok(Rope::plain(base)),
            "linear" => Ok(Rope::plain(scaled(&vec![self.need("factor")?; pairs]))),
            "factors" => Ok(Rope::plain(scaled(&self.divisors("factors", pairs)?))),
            "dynamic" => self.dynamic(theta, dim, base),
            "llama3" => self.llama3(base),
            "yarn" => self.yarn(theta, dim, &base),
            "longrope" | "su" => {
                let original = match self.original()? {
                    Some(o) => o,
                    None => self.ask.context as f64,
                };
                let stretch = (self.ask.context as f64 / original).max(1.0);
                let factor = match self.f64("attention_factor")? {
                    Some(f) => f,
                    None if stretch <= 1.0 => 1.0,
                    None => libm::sqrt(1.0 + libm::log(stretch) / libm::log(original)),
                };
                let inv_freq = scaled(&self.divisors("short_factor", pairs)?);
                let long = scaled(&self.divisors("long_factor", pairs)?);
                let beyond = Beyond::Long { from: original as usize, inv_freq: long };
                self.checked(Rope { inv_freq, factor, beyond })
            }
            "proportional" => {
                // Pairs are those of the whole head; the last of them stand still.
                let (all, rotated) = (self.ask.head_dim / 2, (partial * self.ask.head_dim as f64 / 2.0) as usize);
                let factor = match self.f64("factor")? {
                    Some(_) => self.need("factor")?,
                    None => 1.0,
                };
                let whole = frequencies(theta, all).into_iter().enumerate();
                Ok(Rope::plain(whole.map(|(k, f)| if k < rotated { f / factor } else { 0.0 }).collect()))
            }
            other => {
                let known = "default, linear, dynamic, llama3, yarn, longrope, su, proportional, mrope and factors";
                let what = format!("rope type `{other}` is not supported, supported are {known}");
                Err(Error::unsupported(what).at_file(&cfg.path))
            }
        }
    }

    /// Base that grows with the text (NTK-aware scaling), or once for all with `alpha`.
    fn dynamic(&self, theta: f64, dim: usize, base: Vec<f64>) -> Result<Rope> {
        if dim <= 2 {
            return Err(self.cfg.error("rope type `dynamic` needs more than 2 rotated channels a head"));
        }
        let alpha = self.f64("alpha")?.filter(|a| *a != 0.0);
        if alpha.is_some() {
            let d = dim as f64;
            let grown = theta * libm::pow(self.need("alpha")?, d / (d - 2.0));
            return self.checked(Rope::plain(frequencies(grown, dim / 2)));
        }
        let factor = self.need("factor")?;
        if factor < 1.0 {
            return Err(self.cfg.error(format!("rope type `dynamic` has the factor {factor}, at least 1 is expected")));
        }
        Ok(Rope { inv_freq: base, factor: 1.0, beyond: Beyond::Dynamic { from: self.ask.context, theta, factor } })
    }

    /// Long wavelengths are divided, short ones kept, with a ramp between.
    fn llama3(&self, base: Vec<f64>) -> Result<Rope> {
        let (factor, low, high) = (self.need("factor")?, self.need("low_freq_factor")?, self.need("high_freq_factor")?);
        let orig = self.need("original_max_position_embeddings")?;
        if high <= low {
            return Err(self.cfg.error("high_freq_factor must be above low_freq_factor"));
        }
        let bend = |f: f64| {
            let wavelength = TAU / f;
            if wavelength < orig / high {
                f
            } else if wavelength > orig / low {
                f / factor
            } else {
                let t = (orig / wavelength - low) / (high - low);
                (1.0 - t) * f / factor + t * f
            }
        };
        Ok(Rope::plain(base.into_iter().map(bend).collect()))
    }

    /// YaRN (Peng et al. 2023): a ramp over the channels between divided and kept frequencies, and a factor on the scores.
    fn yarn(&self, theta: f64, dim: usize, base: &[f64]) -> Result<Rope> {
        let context = self.ask.context as f64;
        let original = self.original()?.unwrap_or(context);
        let factor = match self.f64("factor")? {
            Some(_) => self.need("factor")?,
            None => context / original,
        };
        if theta <= 1.0 {
            return Err(self.cfg.error("rope type `yarn` needs a base above 1"));
        }
        let or = |name: &str, default: f64| self.f64(name).map(|v| v.unwrap_or(default));
        let (fast, slow) = (or("beta_fast", 32.0)?, or("beta_slow", 1.0)?);
        if fast <= 0.0 || slow <= 0.0 {
            return Err(self
                .cfg
                .error(format!("beta_fast is {fast} and beta_slow {slow}, positive numbers are expected")));
        }
        let channel = |turns: f64| dim as f64 * libm::log(original / (turns * 2.0 * PI)) / (2.0 * libm::log(theta));
        let truncate = self.cfg.bool(&self.key("truncate"))?.unwrap_or(true);
        let (mut low, mut high) = (channel(fast), channel(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let bend = |(k, f): (usize, &f64)| {
            let ramp = ((k as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f / factor * ramp + f * (1.0 - ramp)
        };
        let inv_freq = base.iter().enumerate().map(bend).collect();
        let mscale = |m: f64| if factor > 1.0 { 0.1 * m * libm::log(factor) + 1.0 } else { 1.0 };
        let pair = (self.f64("mscale")?.filter(|m| *m != 0.0), self.f64("mscale_all_dim")?.filter(|m| *m != 0.0));
        let scores = match (self.f64("attention_factor")?, pair) {
            (Some(f), _) => f,
            (None, (Some(a), Some(b))) => mscale(a) / mscale(b),
            _ => mscale(1.0),
        };
        self.checked(Rope { inv_freq, factor: scores, beyond: Beyond::Same })
    }

    /// Refuses what hostile numbers can make of a rope.
    fn checked(&self, rope: Rope) -> Result<Rope> {
        let sane = |f: &f64| f.is_finite() && *f >= 0.0;
        if rope.factor > 0.0 && rope.factor.is_finite() && rope.inv_freq.iter().all(sane) {
            return Ok(rope);
        }
        Err(self.cfg.error(format!("the numbers of rope type `{}` give no usable frequencies", self.kind())))
    }
}
