//! Blocks: attention and feed-forward with their norms, in every order that an architecture knows.

use super::attention::{Attention, Context, Cross, Past};
use super::linear::{Linear, Norm};
use super::rows::{activate, Rows};
use crate::error::Result;
use crate::model::{self, Activation, Model};

struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    activation: Activation,
    sub_norm: Option<Norm>,
}

impl Mlp {
    fn load(m: &Model, l: &model::Mlp) -> Result<Mlp> {
        Ok(Mlp {
            gate: l.gate.as_ref().map(|g| Linear::load(m, g)).transpose()?,
            up: Linear::load(m, &l.up)?,
            down: Linear::load(m, &l.down)?,
            activation: l.activation,
            sub_norm: l.sub_norm.as_ref().map(|n| Norm::load(m, n, l.down.weight.cols)).transpose()?,
        })
    }

    fn run(&self, x: &Rows) -> Result<Rows> {
        let mut h = self.up.apply(x)?;
        match &self.gate {
            Some(gate) => h.combine(&gate.apply(x)?, |up, gate| activate(self.activation, gate) * up)?,
            None => h.data.iter_mut().for_each(|v| *v = activate(self.activation, *v)),
        }
        if let Some(n) = &self.sub_norm {
            n.apply(&mut h);
        }
        self.down.apply(&h)
    }
}

pub struct Block {
    attn_norm: Option<Norm>,
    attn: Attention,
    attn_post_norm: Option<Norm>,
    after_attn: Option<Norm>,
    cross: Option<Cross>,
    ffn_norm: Option<Norm>,
    mlp: Mlp,
    ffn_post_norm: Option<Norm>,
    after_ffn: Option<Norm>,
    parallel: bool,
}

impl Block {
    /// # Errors
    /// `Input` for weights that cannot be read or do not fit together.
    pub fn load(m: &Model, l: &model::Layer) -> Result<Block> {
        let norm = |n: &Option<model::Norm>| n.as_ref().map(|n| Norm::load(m, n, m.d_model)).transpose();
        Ok(Block {
            attn_norm: norm(&l.attn_norm)?,
            attn: Attention::load(m, &l.attn)?,
            attn_post_norm: norm(&l.attn_post_norm)?,
            after_attn: norm(&l.after_attn)?,
            cross: l.cross.as_ref().map(|c| Cross::load(m, c)).transpose()?,
            ffn_norm: norm(&l.ffn_norm)?,
            mlp: Mlp::load(m, &l.mlp)?,
            ffn_post_norm: norm(&l.ffn_post_norm)?,
            after_ffn: norm(&l.after_ffn)?,
            parallel: l.parallel,
        })
    }

    /// Changes the residual `x`, `[texts * len, d_model]`; every branch is multiplied with `scale`.
    ///
    /// # Errors
    /// `Input` if shapes do not fit.
    pub fn run(&self, x: &mut Rows, c: &Context, scale: f32, past: Option<&mut Past>) -> Result<()> {
        let normed = |n: &Option<Norm>, x: &Rows| n.as_ref().map_or_else(|| x.clone(), |n| n.of(x));
        let h = normed(&self.attn_norm, x);
        let attn = normed(&self.attn_post_norm, &self.attn.run(&h, c, past)?);
        if self.parallel {
            let h = match &self.ffn_norm {
                Some(n) => n.of(x),
                None => h,
            };
            let ffn = normed(&self.ffn_post_norm, &self.mlp.run(&h)?);
            x.add(&attn, scale)?;
            return x.add(&ffn, scale);
        }
        x.add(&attn, scale)?;
        if let Some(n) = &self.after_attn {
            n.apply(x);
        }
        if let Some(cross) = &self.cross {
            let seen = cross.run(x, c)?;
            x.add(&seen, scale)?;
        }
        let ffn = self.mlp.run(&normed(&self.ffn_norm, x))?;
        x.add(&normed(&self.ffn_post_norm, &ffn), scale)?;
        if let Some(n) = &self.after_ffn {
            n.apply(x);
        }
        Ok(())
    }
}
