//! Properties of the elementary functions against wide integers, and round trips of encodings, over generated values.

use bitnet_convert::encoding::fixed::{bitlen, isqrt, recip, rhe, rsr, shift, Scale, I32_LIMIT};
use bitnet_convert::encoding::lowbit::Encoding;
use bitnet_convert::kernels::scalar::{quantize, QuantRule};
use proptest::prelude::*;

fn scales() -> impl Strategy<Value = Scale> {
    (1u32 << 30..1 << 31, -4000i32..4000).prop_map(|(m, e)| Scale { m, e })
}

/// An order-preserving integer of a scale, for exponents that fit.
fn exact(s: Scale, e: i32) -> Option<u128> {
    u32::try_from(s.e - e).ok().filter(|k| *k < 90).map(|k| u128::from(s.m) << k)
}

proptest! {
    #[test]
    fn rsr_is_the_floor_of_a_half_more(v in -(1i64 << 62)..=1 << 62, s in 0u32..80) {
        let wide = i128::from(v);
        let want = match s {
            0 => wide,
            1..=62 => (wide + (1 << (s - 1))).div_euclid(1 << s),
            _ => 0,
        };
        prop_assert_eq!(i128::from(rsr(v, s)), want);
    }

    #[test]
    fn shift_saturates_symmetrically(v in -(1i64 << 62)..=1 << 62, s in -70i32..70) {
        let got = i64::from(shift(v, s));
        prop_assert!((-I32_LIMIT..=I32_LIMIT).contains(&got));
        if s < 0 && s > -60 {
            let want = (i128::from(v) << s.unsigned_abs()).clamp(i128::from(-I32_LIMIT), i128::from(I32_LIMIT));
            prop_assert_eq!(i128::from(got), want);
        }
    }

    #[test]
    fn rhe_is_nearest_with_halves_to_even(a in -(1i64 << 61)..1 << 61, b in 1i64..1 << 31) {
        let q = i128::from(rhe(a, b));
        let rest = 2 * (i128::from(a) - q * i128::from(b));
        let b = i128::from(b);
        prop_assert!(rest.abs() <= b);
        prop_assert!(rest.abs() < b || q % 2 == 0);
    }

    #[test]
    fn reciprocal_and_root_are_floors(m in 1u32 << 30..=1 << 31, v in any::<u64>()) {
        let r = u128::from(recip(m));
        prop_assert!(r * u128::from(m) <= 1 << 61 && (r + 1) * u128::from(m) > 1 << 61);
        let q = u128::from(isqrt(v));
        prop_assert!(q * q <= u128::from(v) && (q + 1) * (q + 1) > u128::from(v));
        prop_assert_eq!(bitlen(v), 64 - v.leading_zeros());
    }

    #[test]
    fn scales_stay_normalised_and_ordered(a in scales(), b in scales()) {
        for s in [a.mul(b), a.add(b), a.inv(), a.sqrt()] {
            prop_assert!(s.is_valid());
        }
        prop_assert!(!a.add(b).less(a));
        prop_assert_eq!(a.add(b), b.add(a));
        prop_assert_eq!(a.mul(b), b.mul(a));
        if let (Some(x), Some(y)) = (exact(a, a.e.min(b.e)), exact(b, a.e.min(b.e))) {
            prop_assert_eq!(a.less(b), x < y);
        }
        // Rounded once each: the product is within 2^-30 of the reals.
        let ratio = Scale { m: a.m, e: 0 }.mul(Scale { m: b.m, e: 0 }).to_f64() / (f64::from(a.m) * f64::from(b.m));
        prop_assert!((ratio - 1.0).abs() < 2f64.powi(-30));
    }

    #[test]
    fn codes_never_leave_qmax(x in prop::collection::vec(-(i32::MAX)..=i32::MAX, 1..80), q in 1u32..=32_767, s in scales()) {
        let floor = Scale::from_f64(1e-5).expect("a scale");
        let rule = QuantRule { qmax: q, lo: (-(q as i32) - 1).max(-32_768), hi: q as i32, floor };
        let mut codes = vec![0; x.len()];
        let scale = quantize(&x, s, &rule, &mut codes);
        prop_assert!(scale.is_valid());
        prop_assert!(codes.iter().all(|c| c.unsigned_abs() <= q));
        // A larger value never has a smaller code.
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by_key(|i| x[*i]);
        prop_assert!(order.windows(2).all(|w| codes[w[0]] <= codes[w[1]]));
    }

    #[test]
    fn rows_round_trip(codes in prop::collection::vec(-1i32..=1, 1..300)) {
        for enc in [
            Encoding::Ternary2,
            Encoding::Ternary5,
            Encoding::Int4,
            Encoding::Planes4,
            Encoding::Int8,
            Encoding::Int16,
        ] {
            let mut row = vec![0; enc.stride(codes.len())];
            enc.pack_row(&codes, &mut row);
            prop_assert_eq!(enc.first_invalid(&row, codes.len()), None);
            for (i, c) in codes.iter().enumerate() {
                prop_assert_eq!(enc.get(&row, codes.len(), i), *c);
            }
        }
    }
}
