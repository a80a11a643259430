//! Operations on whole vectors that came with version 2 of the semantics: norms with bias, activations, sums with constants, the result of an
//! embedding model. docs/semantics.md section 5.

use super::scalar::{inverse_rms, max_abs};
use super::tables::tables;
use crate::encoding::fixed::{bitlen, limit, recip, rhe, rsr, sat, shift, Scale, LOG2E};

/// A non-linearity of ACT and GATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Relu,
    Relu2,
    Silu,
    GeluTanh,
    Gelu,
    Tanh,
}

impl Act {
    pub const ALL: [Act; 6] = [Act::Relu, Act::Relu2, Act::Silu, Act::GeluTanh, Act::Gelu, Act::Tanh];

    /// Its number in a program, counted from 1.
    pub fn number(self) -> u32 {
        self as u32 + 1
    }
}

/// How the tokens of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    Mean,
    First,
    Last,
}

impl Pool {
    pub const ALL: [Pool; 3] = [Pool::Mean, Pool::First, Pool::Last];

    /// Its number in a program, counted from 1.
    pub fn number(self) -> u32 {
        self as u32 + 1
    }
}

/// A vector of constants: values and their common scale, a power of two.
#[derive(Debug, Clone, Copy)]
pub struct Constants<'a> {
    pub values: &'a [i32],
    pub scale: Scale,
}

/// What NORM needs besides its input.
#[derive(Debug, Clone, Copy)]
pub struct NormRule<'a> {
    pub gamma: Option<Constants<'a>>,
    pub beta: Option<Constants<'a>>,
    pub eps: Scale,
    pub group: usize,
    pub centred: bool,
}

/// NORM; returns the scale of dst.
pub fn norm(src: &[i32], s: Scale, rule: &NormRule, dst: &mut [i32]) -> Scale {
    let g = rule.group;
    let mut wide = vec![0i64; src.len()];
    let mut scales = Vec::with_capacity(src.len() / g);
    let mut x = rule.beta.map(|b| b.scale.e + 60);
    for (k, (group, v)) in src.chunks(g).zip(wide.chunks_mut(g)).enumerate() {
        let mu = match rule.centred {
            true => rhe(group.iter().map(|x| i64::from(*x)).sum(), g as i64),
            false => 0,
        };
        let centred = |x: &i32| if rule.centred { i64::from(sat(i64::from(*x) - mu)) } else { i64::from(*x) };
        let mut t = s.mul(inverse_rms(group.iter().map(centred), s, rule.eps));
        if let Some(gamma) = rule.gamma {
            t = t.mul(gamma.scale);
            let n = gamma.values.len();
            for (i, (v, x)) in v.iter_mut().zip(group).enumerate() {
                *v = centred(x) * i64::from(gamma.values[(k * g + i) % n]);
            }
        } else {
            v.iter_mut().zip(group).for_each(|(v, x)| *v = centred(x));
        }
        let bits = bitlen(v.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0));
        let down = bits.saturating_sub(30);
        if bits > 0 {
            let top = bits as i32 + t.e + 31;
            x = Some(x.map_or(top, |x: i32| x.max(top)));
        }
        scales.push((t.shl(down as i32), down));
    }
    let x = x.unwrap_or(0);
    let f = 29 - x;
    for (i, (d, v)) in dst.iter_mut().zip(&wide).enumerate() {
        let (t, down) = scales[i / g];
        *d = t.apply(rsr(*v, down) as i32, f);
        if let Some(b) = rule.beta {
            *d = sat(i64::from(*d) + i64::from(b.scale.apply(b.values[i % b.values.len()], f)));
        }
    }
    Scale { m: 1 << 30, e: limit(x - 59) }
}

/// BIAS, in place; returns the scale.
pub fn bias(x: &mut [i32], s: Scale, b: Constants) -> Scale {
    let n = bitlen(u64::from(max_abs(x))) as i32;
    let of_b = b.scale.e + 60;
    let top = if n > 0 { of_b.max(n + s.e + 31) } else { of_b };
    let f = 29 - top;
    for (x, b_i) in x.iter_mut().zip(b.values) {
        *x = sat(i64::from(s.apply(*x, f)) + i64::from(b.scale.apply(*b_i, f)));
    }
    Scale { m: 1 << 30, e: limit(top - 59) }
}

/// GAIN, in place; returns the scale.
pub fn gain(x: &mut [i32], s: Scale, g: Constants) -> Scale {
    let product = |x: i32, g: i32| i64::from(x) * i64::from(g);
    let most = x.iter().zip(g.values).map(|(x, g)| product(*x, *g).unsigned_abs()).max().unwrap_or(0);
    let t = bitlen(most).saturating_sub(30);
    for (x, g) in x.iter_mut().zip(g.values) {
        *x = rsr(product(*x, *g), t) as i32;
    }
    s.mul(g.scale).shl(t as i32)
}

/// STORE: the residual with `frac` fraction bits.
pub fn store(src: &[i32], s: Scale, frac: i32, dst: &mut [i32]) {
    dst.iter_mut().zip(src).for_each(|(d, x)| *d = s.apply(*x, frac));
}

/// tanh of a magnitude with 30 fraction bits; `z` holds 2 log2(e) abs(x) with 20.
pub fn tanh30(z: u32) -> i32 {
    let e = i64::from(tables().exp2n(z));
    rsr(((1 << 30) - e) * i64::from(recip(((1 << 30) + e) as u32)), 31) as i32
}

/// c tanh(t / c) with `f` fraction bits; `t` has 20, `cap` is c.
pub fn softcap(t: i32, cap: Scale, f: i32) -> i32 {
    let z = cap.inv().mul(LOG2E).shl(1).apply(t.saturating_abs(), 0);
    let y = tanh30(z.unsigned_abs());
    cap.shl(-30).apply(if t < 0 { -y } else { y }, f)
}

/// The logistic function of a log2 argument: 1 / (1 + 2^-z) with 31 fraction bits, z with 20.
fn logistic(z: i32, negative: bool) -> i64 {
    let p = i64::from(recip((1 << 30) + tables().exp2n(z.unsigned_abs())));
    if negative {
        (1 << 31) - p
    } else {
        p
    }
}

/// Kind 4: log2(e) * 2 sqrt(2/pi) * (x + 0.044715 x^3) with 20 fraction bits.
fn gelu_argument(x: i32, s: Scale) -> i32 {
    let a = i64::from(s.apply(x, 24)).clamp(-(1 << 28), 1 << 28);
    let w = 38_624_644 + rsr(1_727_101 * rsr(a * a, 24), 24);
    rsr(a * w, 28) as i32
}

/// Kind 5: the normal distribution function of x with 31 fraction bits.
fn normal(x: i32, s: Scale) -> i64 {
    let a = i64::from(s.apply(x, 24).unsigned_abs()).min(1 << 27);
    let d = (1i64 << 30) + rsr(248_723_596 * a, 24);
    let t = if d <= 1 << 31 { rsr(i64::from(recip(d as u32)), 1) } else { rsr(i64::from(recip(rsr(d, 1) as u32)), 2) };
    let mut h = 1_428_371_292i64;
    for c in [-1_955_558_716, 1_912_847_369, -382_857_446, 342_933_307] {
        h = c + rsr(h * t, 30);
    }
    h = rsr(h * t, 30);
    let z = rsr(rsr(a * a, 24) * 774_541_002, 34);
    let p = rsr(rsr(h * i64::from(tables().exp2n(z as u32)), 30) * 428_361_012, 29);
    if x < 0 {
        p
    } else {
        (1 << 31) - p
    }
}

/// ACT, in place; returns the scale.
pub fn act(x: &mut [i32], s: Scale, kind: Act) -> Scale {
    let n = bitlen(u64::from(max_abs(x))) as i32;
    let left = 30 - n;
    let wide = |v: i32| if left >= 0 { i64::from(v) << left } else { rsr(i64::from(v), 1) };
    let log2 = s.mul(LOG2E);
    match kind {
        Act::Relu => {
            x.iter_mut().for_each(|v| *v = (*v).max(0));
            s
        }
        Act::Relu2 => {
            let n = bitlen(u64::from(x.iter().map(|&v| v.max(0) as u32).max().unwrap_or(0)));
            let s2 = (2 * n).saturating_sub(30);
            for v in x.iter_mut() {
                let r = i64::from((*v).max(0));
                *v = rsr(r * r, s2) as i32;
            }
            s.mul(s).shl(s2 as i32)
        }
        Act::Silu | Act::GeluTanh | Act::Gelu => {
            let share = |v: i32| match kind {
                Act::Silu => logistic(log2.apply(v, 20), v < 0),
                Act::GeluTanh => logistic(gelu_argument(v, s), v < 0),
                _ => normal(v, s),
            };
            x.iter_mut().for_each(|v| *v = rsr(wide(*v) * share(*v), 31) as i32);
            s.shl(-left)
        }
        Act::Tanh => {
            let twice = log2.shl(1);
            for v in x.iter_mut() {
                let y = tanh30(twice.apply(v.saturating_abs(), 20).unsigned_abs());
                *v = if *v < 0 { -y } else { y };
            }
            Scale { m: 1 << 30, e: -60 }
        }
    }
}

/// GATE, in place of `g`; returns the scale.
pub fn gate(g: &mut [i32], gs: Scale, u: &[i32], us: Scale, kind: Act) -> Scale {
    let s = act(g, gs, kind);
    let k = bitlen(u64::from(max_abs(u)));
    for (g, u) in g.iter_mut().zip(u) {
        *g = rsr(i64::from(*g) * i64::from(*u), k) as i32;
    }
    s.mul(us).shl(k as i32)
}

/// EMBEDDING of `v`, the sum over tokens or the state of one, with scale `s`: 30 fraction bits if it gets unit length, else 16.
/// `tokens` is their number for a mean, 1 else.
pub fn embedding(v: &[i64], s: Scale, tokens: usize, unit: bool) -> Vec<i32> {
    let b = bitlen(v.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0)) as i32;
    if b == 0 {
        return vec![0; v.len()];
    }
    let t = b - 30;
    let u: Vec<i32> = v.iter().map(|v| if t >= 0 { rsr(*v, t as u32) as i32 } else { shift(*v, t) }).collect();
    let (scale, f) = if unit {
        let q: u64 = u.iter().map(|u| rsr(i64::from(*u), 6).unsigned_abs().pow(2)).sum();
        (Scale::norm(q, 12).sqrt().inv(), 30)
    } else {
        let s = if tokens > 1 { s.mul(Scale::norm(tokens as u64, 0).inv()) } else { s };
        (s.shl(t), 16)
    };
    u.iter().map(|u| scale.apply(*u, f)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Scale = Scale { m: 1 << 30, e: -54 }; // 24 fraction bits

    fn real(x: &[i32], s: Scale) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x) * s.to_f64()).collect()
    }

    #[test]
    fn activations_are_near_the_formulas() {
        let reals: Vec<f64> = (-400..=400).map(|i| f64::from(i) / 40.0).collect();
        let x: Vec<i32> = reals.iter().map(|r| (r * 2f64.powi(24)) as i32).collect();
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let formulas: [(Act, &dyn Fn(f64) -> f64); 6] = [
            (Act::Relu, &|x| x.max(0.0)),
            (Act::Relu2, &|x| x.max(0.0).powi(2)),
            (Act::Silu, &|x| x * sigma(x)),
            (Act::GeluTanh, &|x| x * sigma(1.595_769_121_605_730_7 * (x + 0.044715 * x.powi(3)))),
            (Act::Gelu, &|x| x * 0.5 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))),
            (Act::Tanh, &f64::tanh),
        ];
        for (kind, formula) in formulas {
            let mut y = x.clone();
            let s = act(&mut y, S, kind);
            for (y, r) in real(&y, s).iter().zip(&reals) {
                let bound = if kind == Act::Gelu { 1e-6 } else { 3e-6 };
                assert!((y - formula(*r)).abs() < bound, "{kind:?}({r}) is {y}, the formula gives {}", formula(*r));
            }
        }
    }

    #[test]
    fn a_layer_norm_is_near_the_formula() {
        let x: Vec<i32> = (0..48).map(|i: i32| (i * i * 7919 % 20011 - 9000) << 12).collect();
        let gamma: Vec<i32> = (0..48).map(|i| (1 << 28) + (i << 20)).collect();
        let beta: Vec<i32> = (0..48).map(|i| (i - 20) << 24).collect();
        let constants = |v| Constants { values: v, scale: Scale { m: 1 << 30, e: -59 } };
        for centred in [false, true] {
            for group in [48, 12] {
                let rule = NormRule {
                    gamma: Some(constants(&gamma)),
                    beta: Some(constants(&beta)),
                    eps: Scale::from_f64(1e-5).unwrap(),
                    group,
                    centred,
                };
                let mut y = vec![0; 48];
                let s = norm(&x, S, &rule, &mut y);
                let (xr, yr) = (real(&x, S), real(&y, s));
                for (k, g) in xr.chunks(group).enumerate() {
                    let mean = if centred { g.iter().sum::<f64>() / group as f64 } else { 0.0 };
                    let var = g.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / group as f64;
                    for (i, x) in g.iter().enumerate() {
                        let at = k * group + i;
                        let want = (x - mean) / (var + 1e-5).sqrt() * f64::from(gamma[at]) * 2f64.powi(-29)
                            + f64::from(beta[at]) * 2f64.powi(-29);
                        assert!((yr[at] - want).abs() < 1e-6, "{centred} {group} {at}: {} {want}", yr[at]);
                    }
                }
            }
        }
    }

    #[test]
    fn sums_and_products_with_constants() {
        let b = Constants { values: &[1 << 29, -(1 << 29), 3], scale: Scale { m: 1 << 30, e: -59 } };
        let mut x = [1 << 24, 1 << 24, 0];
        let s = bias(&mut x, S, b);
        assert_eq!(real(&x, s)[..2], [2.0, 0.0]);
        let mut x = [1 << 24, 1 << 23, 0];
        let s = gain(&mut x, S, b);
        assert_eq!(real(&x, s), [1.0, -0.5, 0.0]);
    }

    #[test]
    fn an_embedding_has_unit_length() {
        let v: Vec<i64> = (0..64).map(|i| (i * 977 % 331 - 160) << 9).collect();
        let e = embedding(&v, S, 3, true);
        let length: f64 = e.iter().map(|x| (f64::from(*x) * 2f64.powi(-30)).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-7, "{length}");
        let mean = embedding(&v, S, 4, false);
        let want = v[5] as f64 * S.to_f64() / 4.0;
        assert!((f64::from(mean[5]) / 65536.0 - want).abs() < 1e-4);
        assert_eq!(embedding(&[0, 0], S, 1, true), [0, 0]);
    }
}
