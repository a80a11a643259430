//! `falcon`: one fused matrix for q, k and v in three layouts, branches beside each other or not, rotary or slopes.

use super::block::named;
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::{attention, block, plain_mlp, Builder, Draft, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::limits::MAX_VECTOR;
use crate::model::{Activation, Layer, Model, RowOrder};
use half::bf16;

const KEYS: Keys = Keys {
    ffn: ("ffn_hidden_size", None),
    ffn_times_four: true,
    // The number of key heads depends on the layout.
    kv_heads: ("", None),
    ..Keys::USUAL
};
const HEAD: Head = Head { embedding: "transformer.word_embeddings", tied: true, ..Head::USUAL };

pub fn read(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let flag = |key: &str, default: bool| cfg.bool(key).map(|v| v.unwrap_or(default));
    let newer = flag("new_decoder_architecture", false)?;
    let (one_kv, beside) = (flag("multi_query", true)?, flag("parallel_attn", true)?);
    let (bias, alibi) = (flag("bias", false)?, flag("alibi", false)?);
    let all = Dims::read(cfg, &KEYS)?;
    let kv_heads = match (newer, one_kv) {
        (true, _) => cfg.usize("num_kv_heads", 1..=MAX_VECTOR)?.unwrap_or(all.heads),
        (false, true) => 1,
        (false, false) => all.heads,
    };
    if all.heads % kv_heads != 0 {
        let what = format!("num_attention_heads {} is no multiple of num_kv_heads {kv_heads}", all.heads);
        return Err(cfg.error(what));
    }
    let d = Dims { kv_heads, ..all };
    let norms = match cfg.usize("num_ln_in_parallel_attn", 1..=2)? {
        Some(n) => n,
        None if newer => 2,
        None => 1,
    };
    let (parallel, two_norms) = (newer || beside, newer && norms == 2);
    let norm = NormStyle::layer(cfg.eps("layer_norm_epsilon", 1e-5)?);
    let activation = cfg.activation("activation", Activation::Gelu)?;
    let ropes = if alibi { Vec::new() } else { vec![Ask::new(&d).read(cfg)?] };
    let orders = fused(&d, newer, one_kv);
    let embedding = b.embedding("transformer.word_embeddings", &d)?;
    let n = d.d_model;
    let mut layers = Vec::new();
    for i in 0..d.layers {
        let p = format!("transformer.h.{i}");
        let mut part = |which: usize, name: &str, rows: usize| {
            let l = named(i, &p, "self_attention.query_key_value", name, rows, n).bias(bias);
            b.linear(l.part(orders[which], d.q() + 2 * d.kv()))
        };
        let (q, k, v) = (part(0, "attn.q", d.q())?, part(1, "attn.k", d.kv())?, part(2, "attn.v", d.kv())?);
        let o = b.linear(named(i, &p, "self_attention.dense", "attn.o", n, d.q()).bias(bias))?;
        let up = b.linear(named(i, &p, "mlp.dense_h_to_4h", "ffn.up", d.ffn, n).bias(bias))?;
        let down = b.linear(named(i, &p, "mlp.dense_4h_to_h", "ffn.down", n, d.ffn).bias(bias))?;
        let mut attn = attention(q, k, v, o, d.scale());
        attn.rope = (!alibi).then_some(0);
        let first = if two_norms { "ln_attn" } else { "input_layernorm" };
        let second = match (two_norms, parallel) {
            (true, _) => Some("ln_mlp"),
            (false, true) => None,
            (false, false) => Some("post_attention_layernorm"),
        };
        layers.push(Layer {
            attn_norm: Some(b.norm(norm, &format!("{p}.{first}"), n)?),
            ffn_norm: second.map(|s| b.norm(norm, &format!("{p}.{s}"), n)).transpose()?,
            parallel,
            ..block(attn, plain_mlp(up, down, activation))
        });
    }
    let final_norm = Some(b.norm(norm, "transformer.ln_f", n)?);
    let head = b.head(&HEAD, &embedding, &d)?;
    let mut draft = Draft { ropes, final_norm, head, ..Draft::new(embedding, layers) };
    if alibi {
        let slope = |s: f64| f64::from(bf16::from_f64(s).to_f32());
        draft.alibi = Some(slopes(d.heads).into_iter().map(slope).collect());
    }
    b.finish(&d, draft)
}

/// Which rows of the fused matrix are q, k and v.
fn fused(d: &Dims, newer: bool, one_kv: bool) -> [RowOrder; 3] {
    let hd = d.head_dim;
    if !newer && one_kv {
        return [RowOrder::range(0, d.q()), RowOrder::range(d.q(), hd), RowOrder::range(d.q() + hd, hd)];
    }
    // The queries that share a key head, then that key and its value; without sharing each head has its own three.
    let queries = d.heads / d.kv_heads * hd;
    let of = queries + 2 * hd;
    let strided = |block, offset| RowOrder::Strided { block, of, offset };
    [strided(queries, 0), strided(hd, queries), strided(hd, queries + hd)]
}

/// Slopes of the heads (Press et al. 2022): a geometric series for the largest power of two, the rest from between.
fn slopes(heads: usize) -> Vec<f64> {
    let power = 1usize << heads.ilog2();
    let step = |n: usize| libm::pow(2.0, -8.0 / n as f64);
    let mut all: Vec<f64> = (1..=power).map(|k| libm::pow(step(power), k as f64)).collect();
    all.extend((0..heads - power).map(|k| libm::pow(step(2 * power), (2 * k + 1) as f64)));
    all
}

#[cfg(test)]
mod tests {
    use super::slopes;

    #[test]
    fn slopes_of_powers_of_two_and_between() {
        assert_eq!(slopes(1), [1.0 / 256.0]);
        let eight: Vec<f64> = (1..=8).map(|k| 0.5f64.powi(k)).collect();
        assert!(slopes(8).iter().zip(&eight).all(|(a, b)| (a - b).abs() < 1e-15));
        let twelve = slopes(12);
        assert!(twelve[..8].iter().zip(&eight).all(|(a, b)| (a - b).abs() < 1e-15));
        for (k, s) in twelve[8..].iter().enumerate() {
            assert!((s - 0.5f64.powf((2 * k + 1) as f64 / 2.0)).abs() < 1e-15);
        }
    }
}
