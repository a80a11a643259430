//! `llama`: plain, and with BitLinear layers (HF1BitLLM, Falcon-E and the like). Also the base that `bitnet` builds on.

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::import::config::Config;
use crate::import::lowbit::{LowBit, Role, Wanted};
use crate::limits::{MAX_HEAD_DIM, MAX_LAYERS, MAX_VECTOR, MAX_VOCAB};
use crate::model::{
    frequencies, Activation, Attention, Generation, Kind, Layer, Linear, Matrix, Mlp, Model, Norm, NormKind, Rope,
    Source, TensorRef,
};
use std::collections::BTreeSet;

pub fn read(c: Checkpoint) -> Result<Model> {
    let dialect =
        Dialect { attn_sub_norm: None, ffn_sub_norm: None, activation: Activation::Silu, assume_native: false };
    read_as(c, &dialect)
}

/// In what the members of the family differ.
pub struct Dialect {
    /// Name of the norm on the attention result inside `self_attn`, if the block has one.
    pub attn_sub_norm: Option<&'static str>,
    /// Name of the norm before `down_proj` inside `mlp`.
    pub ffn_sub_norm: Option<&'static str>,
    /// When `hidden_act` is absent.
    pub activation: Activation,
    /// Without any quantization entry the checkpoint still holds W1.58A8 master weights.
    pub assume_native: bool,
}

pub fn read_as(c: Checkpoint, dialect: &Dialect) -> Result<Model> {
    let cfg = &c.config;
    for key in ["attention_bias", "mlp_bias"] {
        if cfg.bool(key)? == Some(true) {
            return Err(Error::unsupported(format!("`{key}` is true; layers with bias are not supported yet"))
                .at_file(&cfg.path));
        }
    }
    let vocab = cfg.need("vocab_size", 1..=MAX_VOCAB)?;
    let d_model = cfg.need("hidden_size", 2..=MAX_VECTOR)?;
    let ffn = cfg.need("intermediate_size", 1..=MAX_VECTOR)?;
    let n_layers = cfg.need("num_hidden_layers", 1..=MAX_LAYERS)?;
    let heads = cfg.need("num_attention_heads", 1..=MAX_VECTOR)?;
    let kv_heads = cfg.usize("num_key_value_heads", 1..=MAX_VECTOR)?.unwrap_or(heads);
    let head_dim = match cfg.usize("head_dim", 2..=MAX_HEAD_DIM)? {
        Some(d) => d,
        None if d_model % heads == 0 => d_model / heads,
        None => {
            return Err(
                cfg.error(format!("hidden_size {d_model} is no multiple of {heads} heads and `head_dim` is absent"))
            )
        }
    };
    if heads % kv_heads != 0 {
        return Err(cfg.error(format!("num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")));
    }
    if head_dim % 2 != 0 || head_dim > MAX_HEAD_DIM || heads * head_dim > MAX_VECTOR {
        return Err(cfg.error(format!("{heads} heads of {head_dim}: head_dim must be even and at most {MAX_HEAD_DIM}, the product at most {MAX_VECTOR}")));
    }
    let eps = cfg.f64("rms_norm_eps")?.unwrap_or(1e-6);
    if !(1e-30..=1.0).contains(&eps) {
        return Err(cfg.error(format!("rms_norm_eps is {eps}, a small positive number is expected")));
    }
    let activation = match cfg.str("hidden_act") {
        None => dialect.activation,
        Some("relu2") => Activation::Relu2,
        Some("silu" | "swish") => Activation::Silu,
        Some(a) => {
            return Err(Error::unsupported(format!(
                "hidden_act `{a}` is not supported yet, supported are relu2 and silu"
            ))
            .at_file(&cfg.path))
        }
    };
    let inv_freq = rope(cfg, head_dim)?;
    let lowbit = LowBit::of(&c, dialect.assume_native)?;
    let native = lowbit.native;

    let mut used = BTreeSet::new();
    let mut float = |name: String, shape: &[usize]| -> Result<TensorRef> {
        let r = c.need_float(&name, shape)?;
        used.insert(r.name.clone());
        Ok(r)
    };
    let embedding = float("model.embed_tokens.weight".into(), &[vocab, d_model])?;
    let final_norm = float("model.norm.weight".into(), &[d_model])?;
    let mut norms = Vec::new();
    for i in 0..n_layers {
        let p = format!("model.layers.{i}");
        norms.push((
            float(format!("{p}.input_layernorm.weight"), &[d_model])?,
            float(format!("{p}.post_attention_layernorm.weight"), &[d_model])?,
            dialect
                .attn_sub_norm
                .map(|n| float(format!("{p}.self_attn.{n}.weight"), &[heads * head_dim]))
                .transpose()?,
            dialect.ffn_sub_norm.map(|n| float(format!("{p}.mlp.{n}.weight"), &[ffn])).transpose()?,
        ));
    }
    let mut linear = |module: String, name: String, rows: usize, cols: usize| -> Result<Linear> {
        let role = if name == "head" { Role::Head } else { Role::Projection };
        let f = lowbit.matrix(&c, &Wanted::whole(&module, role, rows, cols))?;
        used.extend(f.used.into_iter().map(|r| r.name));
        Ok(Linear {
            name,
            weight: f.matrix,
            bias: None,
            input_norm: f.input_norm,
            input_factor: f.input_factor,
            activation: f.activation,
            output_norm: f.output_norm,
        })
    };
    let (qd, kvd) = (heads * head_dim, kv_heads * head_dim);
    let rms =
        |r: TensorRef, len: usize| Norm { kind: NormKind::Rms, len, weight: vec![r], bias: None, eps, plus_one: false };
    let mut layers = Vec::new();
    for (i, (attn_norm, ffn_norm, attn_sub_norm, ffn_sub_norm)) in norms.into_iter().enumerate() {
        let mut attn = |p: &str, rows, cols| {
            linear(format!("model.layers.{i}.self_attn.{p}_proj"), format!("layers.{i}.attn.{p}"), rows, cols)
        };
        let (q, k, v, o) =
            (attn("q", qd, d_model)?, attn("k", kvd, d_model)?, attn("v", kvd, d_model)?, attn("o", d_model, qd)?);
        let mut mlp = |p: &str, rows, cols| {
            linear(format!("model.layers.{i}.mlp.{p}_proj"), format!("layers.{i}.ffn.{p}"), rows, cols)
        };
        let (gate, up, down) = (mlp("gate", ffn, d_model)?, mlp("up", ffn, d_model)?, mlp("down", d_model, ffn)?);
        let attn = Attention {
            q,
            k,
            v,
            o,
            q_norm: None,
            k_norm: None,
            norm_after_rope: false,
            rope: Some(0),
            window: None,
            scale: 1.0 / libm::sqrt(head_dim as f64),
            softcap: None,
            sub_norm: attn_sub_norm.map(|r| rms(r, qd)),
        };
        let mlp = Mlp { gate: Some(gate), up, down, activation, sub_norm: ffn_sub_norm.map(|r| rms(r, ffn)) };
        layers.push(Layer {
            attn_norm: Some(rms(attn_norm, d_model)),
            attn,
            attn_post_norm: None,
            after_attn: None,
            cross: None,
            ffn_norm: Some(rms(ffn_norm, d_model)),
            mlp,
            ffn_post_norm: None,
            after_ffn: None,
            parallel: false,
        });
    }
    let mut warnings = Vec::new();
    let tied = cfg.bool("tie_word_embeddings")?.unwrap_or(false);
    let stored = c.find("lm_head.weight");
    let same = stored.is_some_and(|r| c.view(r).data == c.view(&embedding).data);
    let stored_head = match stored {
        Some(_) if tied && !same => {
            let what = "`tie_word_embeddings` is true, but `lm_head.weight` differs from the embedding";
            return Err(cfg.error(what).at_tensor("lm_head.weight"));
        }
        Some(_) if !same => Some(linear("lm_head".into(), "head".into(), vocab, d_model)?),
        Some(_) => None,
        None => {
            if !tied {
                let what = "the file has no `lm_head.weight` though the configuration does not tie it; the embedding is used as head";
                warnings.push(what.to_string());
            }
            None
        }
    };
    let int8 = native.is_some_and(|n| n.int8_embedding);
    let source = if int8 { Source::Int8Rows } else { Source::Float };
    let embedding = Matrix { source, ..Matrix::float(embedding, vocab, d_model) };
    let mut head = stored_head.unwrap_or_else(|| Linear {
        name: "head".into(),
        weight: embedding.clone(),
        bias: None,
        input_norm: None,
        input_factor: None,
        activation: None,
        output_norm: None,
    });
    if int8 {
        head.activation = native.and_then(|n| n.activation);
        head.weight.source = Source::Int8Rows;
    }
    used.extend(stored.map(|r| r.name.clone()));
    let unused = c.unused(&used);
    if let Some(name) = unused.first() {
        return Err(Error::unsupported(format!(
            "{} tensors of the checkpoint have no place in this architecture, e.g. `{name}`",
            unused.len()
        ))
        .at_tensor(name)
        .at_file(&c.files[0].path)
        .hint("silently dropping them would give another model; this variant is not supported yet"));
    }
    let context = cfg.usize("max_position_embeddings", 1..=1 << 24)?.unwrap_or(2048);
    let mut eos = match &c.generation {
        Some(g) => g.ids("eos_token_id", vocab)?,
        None => Vec::new(),
    };
    if eos.is_empty() {
        eos = cfg.ids("eos_token_id", vocab)?;
    }
    if eos.len() > 4 {
        return Err(Error::unsupported(format!("{} end ids, at most 4 are supported", eos.len())).at_file(&cfg.path));
    }
    let generation = match &c.generation {
        None => Generation::default(),
        Some(g) => Generation {
            sample: g.bool("do_sample")?.unwrap_or(false),
            temperature: g.f64("temperature")?,
            top_k: g.usize("top_k", 0..=1 << 20)?.map(|k| k as u32),
        },
    };
    let bos = cfg.ids("bos_token_id", vocab)?.first().copied();
    let architecture = cfg.str("model_type").unwrap_or("llama").to_string();
    Ok(Model {
        name: c.name,
        architecture,
        kind: Kind::Decoder,
        vocab,
        d_model,
        heads,
        kv_heads,
        head_dim,
        context,
        ropes: vec![Rope::plain(inv_freq)],
        alibi: None,
        native,
        embedding,
        embedding_scale: 1.0,
        positions: None,
        token_types: None,
        embedding_norm: None,
        residual_scale: 1.0,
        layers,
        final_norm: Some(rms(final_norm, d_model)),
        head_transform: None,
        head: Some(head),
        logits_scale: 1.0,
        logits_softcap: None,
        pooler: None,
        pooling: None,
        audio: None,
        bos,
        eos,
        generation,
        tokenizer_json: c.tokenizer_json,
        chat_template: c.chat_template,
        sources: c.sources,
        files: c.files,
        warnings,
    })
}

/// Frequencies of the rotary embedding, radians per position, computed in f32 steps as the reference does.
fn rope(cfg: &Config, head_dim: usize) -> Result<Vec<f64>> {
    let scaling = ["rope_parameters", "rope_scaling"].into_iter().find(|k| cfg.get(k).is_some());
    let field = |name: &str| scaling.map(|s| format!("{s}.{name}"));
    let kind =
        field("rope_type").and_then(|k| cfg.str(&k)).or(field("type").and_then(|k| cfg.str(&k))).unwrap_or("default");
    let nested = match field("rope_theta") {
        Some(k) => cfg.f64(&k)?,
        None => None,
    };
    let theta = match nested {
        Some(t) => t,
        None => cfg.f64("rope_theta")?.unwrap_or(10_000.0),
    };
    if !(1.0..=1e12).contains(&theta) {
        return Err(cfg.error(format!("rope_theta is {theta}")));
    }
    if let Some(k) = cfg.has_any(&["partial_rotary_factor", "rope_parameters.partial_rotary_factor"]) {
        if cfg.f64(&k)? != Some(1.0) {
            return Err(Error::unsupported(format!("`{k}` is not supported yet")).at_file(&cfg.path));
        }
    }
    let base = frequencies(theta, head_dim / 2);
    let need = |name: &str| -> Result<f64> {
        let key = field(name).unwrap_or_default();
        match cfg.f64(&key)? {
            Some(v) if v > 0.0 => Ok(v),
            _ => Err(cfg.error(format!("rope type `{kind}` needs a positive `{name}`"))),
        }
    };
    match kind {
        "default" => Ok(base),
        "linear" => {
            let factor = need("factor")?;
            Ok(base.into_iter().map(|f| f / factor).collect())
        }
        "llama3" => {
            let (factor, low, high) = (need("factor")?, need("low_freq_factor")?, need("high_freq_factor")?);
            let orig = need("original_max_position_embeddings")?;
            if high <= low {
                return Err(cfg.error("high_freq_factor must be above low_freq_factor"));
            }
            Ok(base
                .into_iter()
                .map(|f| {
                    let wavelength = std::f64::consts::TAU / f;
                    if wavelength < orig / high {
                        f
                    } else if wavelength > orig / low {
                        f / factor
                    } else {
                        let t = (orig / wavelength - low) / (high - low);
                        (1.0 - t) * f / factor + t * f
                    }
                })
                .collect())
        }
        other => Err(Error::unsupported(format!(
            "rope type `{other}` is not supported yet, supported are default, linear and llama3"
        ))
        .at_file(&cfg.path)),
    }
}
