//! docs/semantics.md is the specification; here its examples are read out of the text and computed, and its definitions are held against the
//! crate with exact arithmetic in 128 bits.

mod common;

use bitnet_convert::encoding::fixed::{self, Scale, LOG2E};
use bitnet_convert::kernels::tables::tables;
use bitnet_convert::limits;
use common::root;
use proptest::prelude::*;

/// An argument or a result in a worked line.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Int(i128),
    List(Vec<Value>),
}

use Value::{Int, List};

/// Reads one value and returns what is left of the text.
fn parse(text: &str) -> Option<(Value, &str)> {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('(') {
        let mut items = Vec::new();
        loop {
            let (item, after) = parse(rest)?;
            items.push(item);
            rest = after.trim_start();
            match rest.split_at_checked(1)? {
                (",", r) => rest = r,
                (")", r) => return Some((List(items), r)),
                _ => return None,
            }
        }
    }
    let end = text.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(text.len());
    Some((Int(text[..end].parse().ok()?), &text[end..]))
}

fn scale(m: &Value, e: &Value) -> Option<Scale> {
    match (m, e) {
        (Int(m), Int(e)) => Some(Scale { m: u32::try_from(*m).ok()?, e: i32::try_from(*e).ok()? }),
        _ => None,
    }
}

fn pair(s: Scale) -> Value {
    List(vec![Int(s.m.into()), Int(s.e.into())])
}

/// A worked call computed by the crate; None if the function is not known with these arguments.
fn evaluate(name: &str, args: &[Value]) -> Option<Value> {
    let t = tables();
    let int = |v: i128| Some(Int(v));
    let s = |v: &Value| if let List(l) = v { scale(l.first()?, l.get(1)?) } else { None };
    match (name, args) {
        ("bitlen", [Int(v)]) => int(fixed::bitlen(u64::try_from(*v).ok()?).into()),
        ("rsr", [Int(v), Int(k)]) => int(fixed::rsr(i64::try_from(*v).ok()?, u32::try_from(*k).ok()?).into()),
        ("sat", [Int(v)]) => int(fixed::sat(i64::try_from(*v).ok()?).into()),
        ("shift", [Int(v), Int(k)]) => int(fixed::shift(i64::try_from(*v).ok()?, i32::try_from(*k).ok()?).into()),
        ("rhe", [Int(a), Int(b)]) => int(fixed::rhe(i64::try_from(*a).ok()?, i64::try_from(*b).ok()?).into()),
        ("recip", [Int(m)]) => int(fixed::recip(u32::try_from(*m).ok()?).into()),
        ("isqrt", [Int(v)]) => int(fixed::isqrt(u64::try_from(*v).ok()?).into()),
        ("norm", [Int(v), Int(e)]) => Some(pair(Scale::norm(u64::try_from(*v).ok()?, i32::try_from(*e).ok()?))),
        ("mul", [a, b]) => Some(pair(s(a)?.mul(s(b)?))),
        ("add", [a, b]) => Some(pair(s(a)?.add(s(b)?))),
        ("less", [a, b]) => int(s(a)?.less(s(b)?).into()),
        ("inv", [a]) => Some(pair(s(a)?.inv())),
        ("sqrt", [a]) => Some(pair(s(a)?.sqrt())),
        ("apply", [Int(x), a, Int(f)]) => int(s(a)?.apply(i32::try_from(*x).ok()?, i32::try_from(*f).ok()?).into()),
        ("exp2n", [Int(d)]) => int(t.exp2n(u32::try_from(*d).ok()?).into()),
        ("sin", [Int(p)]) => int(t.sin(u32::try_from(*p).ok()?).into()),
        ("cos", [Int(p)]) => int(t.cos(u32::try_from(*p).ok()?).into()),
        _ => None,
    }
}

#[test]
fn every_worked_line_is_right() {
    let doc = std::fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let (mut inside, mut checked) = (false, 0);
    for (i, line) in doc.lines().map(str::trim).enumerate() {
        if line.starts_with("```") {
            inside = line == "```worked";
        } else if inside && !line.is_empty() {
            let at = format!("docs/semantics.md:{}: {line}", i + 1);
            let (call, stated) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("{at}: no ` = `"));
            let open = call.find('(').unwrap_or_else(|| panic!("{at}: no call"));
            let (Some((List(args), "")), Some((stated, ""))) = (parse(&call[open..]), parse(stated)) else {
                panic!("{at}: not understood")
            };
            let value = evaluate(&call[..open], &args).unwrap_or_else(|| panic!("{at}: unknown function or arguments"));
            assert_eq!(value, stated, "{at}");
            checked += 1;
        }
    }
    assert!(checked >= 45, "only {checked} worked lines were found");
}

/// Numbers that the prose gives, where the code has a name for them.
#[test]
fn constants_of_the_text_are_those_of_the_code() {
    let doc = std::fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let t = tables();
    let claims = [
        (format!("LOG2E = ({}, {})", LOG2E.m, LOG2E.e), true),
        ("`EXP2[0] = 2^30`, `EXP2[512] = 2^29`".to_string(), t.exp2[0] == 1 << 30 && t.exp2[512] == 1 << 29),
        ("`SIN[0] = 0`, `SIN[1024] = 2^30`".to_string(), t.sin[0] == 0 && t.sin[1024] == 1 << 30),
        ("n ≤ 32,768 for a vector that is normalised".to_string(), limits::MAX_VECTOR == 32_768),
        ("cols ≤ 2^20".to_string(), limits::MAX_COLS == 1 << 20),
        ("D ≤ 256".to_string(), limits::MAX_HEAD_DIM == 256),
        ("Qmax ≤ 32,767".to_string(), limits::MAX_QMAX == 32_767),
        ("vocabulary ≤ 2^20".to_string(), limits::MAX_VOCAB == 1 << 20),
        ("W ≤ 2^17".to_string(), limits::MAX_WINDOW == 1 << 17),
        ("`-2^20 ..= 2^20` after every operation".to_string(), limits::MAX_EXPONENT == 1 << 20),
    ];
    for (text, true_here) in claims {
        assert!(doc.contains(&text), "the text no longer says: {text}");
        assert!(true_here, "{text}");
    }
}

const LIMIT: i128 = (1 << 31) - 1;

fn floor_div(a: i128, b: i128) -> i128 {
    a.div_euclid(b)
}

/// The definition of `rsr`.
fn rsr(v: i128, s: i32) -> i128 {
    match s {
        0 => v,
        1..=62 => floor_div(v + (1 << (s - 1)), 1 << s),
        _ => 0,
    }
}

/// The definition of `shift`, with the product held in 128 bits.
fn shift(v: i128, s: i32) -> i128 {
    let r = if s >= 0 { rsr(v, s) } else { v << (-s).min(64) };
    r.clamp(-LIMIT, LIMIT)
}

/// The definition of `norm`.
fn norm(v: u128, e: i64) -> (u128, i64) {
    let n = i64::from(128 - v.leading_zeros());
    let (mut m, mut e) = (if n <= 31 { v << (31 - n) } else { (v + (1 << (n - 32))) >> (n - 31) }, e + n - 31);
    if m == 1 << 31 {
        (m, e) = (1 << 30, e + 1);
    }
    (m, e.clamp(-(1 << 20), 1 << 20))
}

fn wide(s: Scale) -> (u128, i64) {
    (s.m.into(), s.e.into())
}

/// Values of every magnitude, not mostly large ones.
fn magnitude(bits: u32) -> impl Strategy<Value = u64> {
    (0..=bits, any::<u64>()).prop_map(|(n, v)| if n == 0 { 0 } else { v >> (64 - n) })
}

fn signed(bits: u32) -> impl Strategy<Value = i64> {
    (magnitude(bits), any::<bool>()).prop_map(|(v, minus)| if minus { -(v as i64) } else { v as i64 })
}

fn any_scale() -> impl Strategy<Value = Scale> {
    let e = prop_oneof![-80..80i32, -4096..4096i32, Just(-(1 << 20)), Just(1 << 20), -(1 << 20)..(1 << 20)];
    let m = prop_oneof![(1u32 << 30)..(1 << 31), Just(1 << 30), Just((1 << 31) - 1)];
    (m, e).prop_map(|(m, e)| Scale { m, e })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shifts(v in signed(62), s in 0..70i32, k in -70..70i32) {
        prop_assert_eq!(i128::from(fixed::rsr(v, s as u32)), rsr(v.into(), s));
        prop_assert_eq!(i128::from(fixed::shift(v, k)), shift(v.into(), k));
        prop_assert_eq!(i128::from(fixed::sat(v)), i128::from(v).clamp(-LIMIT, LIMIT));
    }

    #[test]
    fn quotients(a in signed(62), b in magnitude(47).prop_map(|b| b as i64 + 1), m in (1u32 << 30)..=(1 << 31), v in magnitude(64)) {
        let q = i128::from(fixed::rhe(a, b));
        let twice = 2 * (i128::from(a) - q * i128::from(b)).abs();
        prop_assert!(twice < b.into() || (twice == b.into() && q % 2 == 0), "{} / {} = {}", a, b, q);
        prop_assert_eq!(u128::from(fixed::recip(m)), (1 << 61) / u128::from(m));
        let r = u128::from(fixed::isqrt(v));
        prop_assert!(r * r <= v.into() && (r + 1) * (r + 1) > v.into());
        prop_assert_eq!(fixed::bitlen(v), (0..64).rev().find(|b| v >> b & 1 == 1).map_or(0, |b| b + 1));
    }

    #[test]
    fn scales(a in any_scale(), b in any_scale(), v in magnitude(64).prop_map(|v| v.max(1)), e in -(1 << 20)..(1 << 20), k in -200..200i32) {
        prop_assert_eq!(wide(Scale::norm(v, e)), norm(v.into(), e.into()));
        let ((am, ae), (bm, be)) = (wide(a), wide(b));
        prop_assert_eq!(wide(a.mul(b)), norm(am * bm, ae + be));
        prop_assert_eq!(wide(a.inv()), norm((1 << 61) / am, -61 - ae));
        let (high, low) = if be > ae { ((bm, be), (am, ae)) } else { ((am, ae), (bm, be)) };
        let shifted = rsr(low.0 as i128, (high.1 - low.1).min(63) as i32) as u128;
        prop_assert_eq!(wide(a.add(b)), norm(high.0 + shifted, high.1));
        let odd = ae.rem_euclid(2);
        prop_assert_eq!(wide(a.sqrt()), norm((am << (30 + odd)).isqrt(), (ae - 30 - odd) / 2));
        prop_assert_eq!(a.less(b), (ae, am) < (be, bm));
        prop_assert_eq!(wide(a.shl(k)), (am, (ae + i64::from(k)).clamp(-(1 << 20), 1 << 20)));
        for s in [a.mul(b), a.inv(), a.add(b), a.sqrt()] {
            prop_assert!(s.is_valid(), "{:?}", s);
        }
    }

    #[test]
    fn applied(x in -(LIMIT as i32)..=LIMIT as i32, a in any_scale(), f in -1..32i32) {
        prop_assert_eq!(i128::from(a.apply(x, f)), shift(i128::from(x) * i128::from(a.m), -(a.e + f)));
    }

    /// The error bounds that section 4 states, against f64.
    #[test]
    fn interpolated(d in any::<u32>(), p in any::<u32>()) {
        let (e, exact) = (f64::from(tables().exp2n(d)), (-f64::from(d) / 2f64.powi(20)).exp2() * 2f64.powi(30));
        let half = if d >> 20 == 0 { 0.0 } else { 0.5 };
        prop_assert!((e - exact).abs() <= 2.31e-7 * exact + half, "exp2n({}) = {}, {} is right", d, e, exact);
        let phase = std::f64::consts::TAU * f64::from(p) / 2f64.powi(32);
        prop_assert!((f64::from(tables().sin(p)) / 2f64.powi(30) - phase.sin()).abs() < 3.1e-7);
        prop_assert!((f64::from(tables().cos(p)) / 2f64.powi(30) - phase.cos()).abs() < 3.1e-7);
    }
}
