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
            "default" | "mrope" => Ok(Rope::plain(theta, base)),
            "linear" => Ok(Rope::plain(theta, scaled(&vec![self.need("factor")?; pairs]))),
            "factors" => Ok(Rope::plain(theta, scaled(&self.divisors("factors", pairs)?))),
            "dynamic" => self.dynamic(theta, dim, base),
            "llama3" => self.llama3(theta, base),
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
                self.checked(Rope { theta, inv_freq, factor, beyond })
            }
            "proportional" => {
                // Pairs are those of the whole head; the last of them stand still.
                let (all, rotated) = (self.ask.head_dim / 2, (partial * self.ask.head_dim as f64 / 2.0) as usize);
                let factor = match self.f64("factor")? {
                    Some(_) => self.need("factor")?,
                    None => 1.0,
                };
                let whole = frequencies(theta, all).into_iter().enumerate();
                let inv_freq = whole.map(|(k, f)| if k < rotated { f / factor } else { 0.0 }).collect();
                Ok(Rope::plain(theta, inv_freq))
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
            if !(1.0..=1e30).contains(&grown) {
                return Err(self.cfg.error(format!("`alpha` makes the base {grown}: no usable frequencies")));
            }
            return self.checked(Rope::plain(grown, frequencies(grown, dim / 2)));
        }
        let factor = self.need("factor")?;
        if factor < 1.0 {
            return Err(self.cfg.error(format!("rope type `dynamic` has the factor {factor}, at least 1 is expected")));
        }
        let beyond = Beyond::Dynamic { from: self.ask.context, theta, factor };
        Ok(Rope { theta, inv_freq: base, factor: 1.0, beyond })
    }

    /// Long wavelengths are divided, short ones kept, with a ramp between.
    fn llama3(&self, theta: f64, base: Vec<f64>) -> Result<Rope> {
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
        Ok(Rope::plain(theta, base.into_iter().map(bend).collect()))
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
        self.checked(Rope { theta, inv_freq, factor: scores, beyond: Beyond::Same })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::dims::Keys;
    use serde_json::{json, Value};

    /// A rope of 16 channels a head and a context of 128; `ask` changes what the architecture wants.
    fn read_as(edit: Value, ask: impl Fn(Ask<'static>) -> Ask<'static>) -> Result<Rope> {
        let mut config = json!({"vocab_size": 8, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 128});
        edit.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
        let cfg = Config::parse(std::path::Path::new("config.json"), config.to_string().as_bytes())?;
        ask(Ask::new(&Dims::read(&cfg, &Keys::USUAL)?)).read(&cfg)
    }

    fn read(scaling: Value) -> Result<Rope> {
        let old = read_as(json!({"rope_theta": 10000.0, "rope_scaling": scaling}), |a| a);
        let mut nested = scaling.clone();
        if nested.is_object() {
            nested["rope_theta"] = json!(10000.0);
            let new = read_as(json!({"rope_parameters": nested}), |a| a);
            match (&old, &new) {
                (Ok(a), Ok(b)) => assert_eq!(a, b, "the dialects differ"),
                (a, b) => assert_eq!(a.is_err(), b.is_err()),
            }
        }
        old
    }

    /// The expected numbers were computed with numpy from the formulas.
    #[track_caller]
    fn near(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        let off = got.iter().zip(want).any(|(g, w)| (g - w).abs() > 2e-7 * w.abs());
        assert!(!off, "{got:?} instead of {want:?}");
    }

    const PLAIN: [f64; 8] =
        [1.0, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.001, 0.000316227786];

    #[test]
    fn default_linear_factors_and_mrope() {
        near(&read(json!(null)).unwrap().inv_freq, &PLAIN);
        near(&read(json!({"type": "default"})).unwrap().inv_freq, &PLAIN);
        near(&read(json!({"type": "mrope", "mrope_section": [2, 3, 3]})).unwrap().inv_freq, &PLAIN);
        near(&read(json!({"type": "linear", "factor": 4})).unwrap().inv_freq, &PLAIN.map(|f| f / 4.0));
        let by = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0];
        let want: Vec<f64> = PLAIN.iter().zip(by).map(|(f, d)| f / d).collect();
        near(&read(json!({"factors": by})).unwrap().inv_freq, &want);
    }

    #[test]
    fn llama3_bends_the_long_waves() {
        let scaling = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 64});
        let mut want = PLAIN.map(|f| f / 8.0);
        (want[0], want[1], want[2]) = (1.0, 0.244384596, 0.0130422567);
        near(&read(scaling).unwrap().inv_freq, &want);
    }

    #[test]
    fn yarn_ramps_and_scales_the_scores() {
        let scaling = |more: Value| {
            let mut s = json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64});
            more.as_object().unwrap().iter().for_each(|(k, v)| s[k] = v.clone());
            read(s).unwrap()
        };
        let mut want = PLAIN.map(|f| f / 4.0);
        (want[0], want[1], want[2]) = (1.0, 0.237170823, 0.05);
        let rope = scaling(json!({}));
        near(&rope.inv_freq, &want);
        near(&[rope.factor], &[1.138629436111989]);
        (want[1], want[2]) = (0.198583519, 0.0255952463);
        near(&scaling(json!({"truncate": false})).inv_freq, &want);
        near(&[scaling(json!({"mscale": 0.707, "mscale_all_dim": 1.0})).factor], &[0.964326914892074]);
        near(&[scaling(json!({"attention_factor": 0.5, "mscale": 0.7, "mscale_all_dim": 1})).factor], &[0.5]);
        // Without a factor: how much longer the context is, here 128 / 32.
        let implied = read(json!({"type": "yarn", "original_max_position_embeddings": 32})).unwrap();
        near(&[implied.factor], &[1.138629436111989]);
    }

    #[test]
    fn longrope_switches_and_scales() {
        let (short, long) = ([1.0; 8], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        for name in ["longrope", "su"] {
            let rope = read(json!({"type": name, "short_factor": short, "long_factor": long,
                "original_max_position_embeddings": 32}))
            .unwrap();
            near(&rope.at(32), &PLAIN);
            let want: Vec<f64> = PLAIN.iter().zip(long).map(|(f, d)| f / d).collect();
            near(&rope.at(33), &want);
            near(&[rope.factor], &[1.1832159566199232]);
        }
        // The original length on the top level, as phi3 has it; and none: nothing was extended.
        let s = json!({"type": "longrope", "short_factor": short, "long_factor": long});
        let top = read_as(json!({"rope_scaling": s, "original_max_position_embeddings": 32}), |a| a).unwrap();
        near(&[top.factor], &[1.1832159566199232]);
        near(&[read(s).unwrap().factor], &[1.0]);
    }

    #[test]
    fn dynamic_grows_with_the_text_or_by_alpha() {
        let rope = read(json!({"type": "dynamic", "factor": 2})).unwrap();
        near(&rope.at(128), &PLAIN);
        let want = [
            1.0,
            0.270296127,
            0.0730599985,
            0.0197478328,
            0.00533776265,
            0.00144277664,
            0.000389976951,
            0.000105409257,
        ];
        near(&rope.at(256), &want);
        let rope = read(json!({"type": "dynamic", "alpha": 1000.0, "factor": 1.0})).unwrap();
        let want = [
            1.0,
            0.117876865,
            0.0138949547,
            0.00163789373,
            0.000193069776,
            2.27584587e-05,
            2.68269582e-06,
            3.16227755e-07,
        ];
        near(&rope.at(4096), &want);
    }

    #[test]
    fn a_part_of_the_head() {
        let half = [1.0, 0.100000001, 0.00999999978, 0.00100000005];
        near(&read_as(json!({"partial_rotary_factor": 0.5}), |a| a).unwrap().inv_freq, &half);
        near(&read_as(json!({}), |a| a.partial("rotary_pct", 0.5)).unwrap().inv_freq, &half);
        near(&read_as(json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), |a| a).unwrap().inv_freq, &half);
        let still = read(json!({"type": "proportional", "partial_rotary_factor": 0.25})).unwrap();
        near(&still.inv_freq, &[1.0, 0.316227764, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn layer_types_with_settings_of_their_own() {
        let full = |a: Ask<'static>| a.theta("rope_theta", 1e6).layer_type("full_attention");
        let local = |a: Ask<'static>| a.theta("rope_local_base_freq", 1e4).layer_type("sliding_attention").unscaled();
        let old = json!({"rope_theta": 1e4, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8}});
        let new = json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 1e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}});
        for config in [old, new] {
            near(&read_as(config.clone(), full).unwrap().inv_freq, &PLAIN.map(|f| f / 8.0));
            near(&read_as(config, local).unwrap().inv_freq, &PLAIN);
        }
    }

    #[test]
    fn numbers_that_make_no_rope() {
        for (scaling, reason) in [
            (json!({"type": "linear"}), "factor"),
            (json!({"type": "linear", "factor": 0}), "factor"),
            (json!({"type": "dynamic", "factor": 0.5}), "at least 1"),
            (json!({"type": "dynamic", "alpha": -1}), "alpha"),
            (json!({"type": "dynamic", "alpha": 1e300}), "no usable frequencies"),
            (json!({"type": "yarn", "factor": -4}), "factor"),
            (json!({"type": "yarn", "factor": 4, "beta_fast": 0}), "beta_fast"),
            (json!({"type": "yarn", "factor": 4, "attention_factor": -1}), "no usable frequencies"),
            (json!({"type": "yarn", "original_max_position_embeddings": 0}), "original_max_position_embeddings"),
            (json!({"type": "longrope", "short_factor": [1, 1], "long_factor": [1]}), "8 positive ones"),
            (json!({"type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 0]}), "8 positive ones"),
            (json!({"type": "longrope", "short_factor": "x"}), "list of numbers"),
            (json!({"factors": [1.0]}), "8 positive ones"),
            (json!({"type": "spiral"}), "is not supported, supported are default, linear"),
            (json!({"type": "default", "partial_rotary_factor": 2}), "an even number must be rotated"),
        ] {
            let said = read(scaling.clone()).expect_err("a rope").to_string();
            assert!(said.contains(reason), "{scaling}: {said}");
        }
        assert!(read_as(json!({"rope_theta": 1.0, "rope_scaling": {"type": "yarn", "factor": 2}}), |a| a).is_err());
    }
}
