//! The tensors of a file in their order, and where in the model each comes from.

use super::arch::{Arch, Branches, Has, Head, Rotation};
use super::keys::{Scaling, Turn};
use crate::model::{Layer, Linear, Matrix, Model, Norm, TensorRef, Vector};

/// What a matrix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Embedding,
    Head,
    Projection,
    /// A table of positions.
    Positions,
}

/// A tensor of the file.
pub struct Item<'a> {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub from: From<'a>,
}

impl Item<'_> {
    /// Whether it is a matrix of a block.
    pub fn is_projection(&self) -> bool {
        matches!(self.from, From::Matrix { role: Role::Projection, .. })
    }
}

/// Where its values come from.
pub enum From<'a> {
    /// The rows of one or more matrices, one after the other.
    Matrix {
        parts: Vec<&'a Matrix>,
        role: Role,
        order: Order,
    },
    /// Gains of a norm for this many elements; ones if it has none.
    Gains(&'a Norm, usize),
    Values(&'a TensorRef),
    /// Biases one after the other; zeros in place of those that are not there.
    Biases {
        parts: Vec<(Option<&'a Vector>, usize)>,
        order: Order,
    },
    Numbers(Vec<f32>),
}

/// Order of the rows in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    AsTheyAre,
    /// The halves of each head of this many rows lie side by side.
    Pairs(usize),
}

impl Order {
    /// The row of the model that is row `f` of the file.
    pub fn row(self, f: usize) -> usize {
        match self {
            Order::AsTheyAre => f,
            Order::Pairs(d) => {
                let (head, within) = (f / d * d, f % d);
                head + within % 2 * (d / 2) + within / 2
            }
        }
    }
}

/// All tensors of a file.
pub fn items<'a>(arch: &Arch, model: &'a Model, turn: Option<&Turn>) -> Vec<Item<'a>> {
    let mut out = List { items: Vec::new(), prefix: String::new() };
    out.matrix("token_embd", &[&model.embedding], Role::Embedding, Order::AsTheyAre);
    if let Some(p) = &model.positions {
        out.matrix("position_embd", &[&p.table], Role::Positions, Order::AsTheyAre);
    }
    if let Some(turn) = turn {
        for (name, factors) in turn.tensors() {
            let (shape, from) = (vec![factors.len()], From::Numbers(factors.to_vec()));
            out.items.push(Item { name: name.into(), shape, from });
        }
    }
    for (i, layer) in model.layers.iter().enumerate() {
        out.prefix = format!("blk.{i}.");
        block(arch, model, layer, &mut out);
    }
    out.prefix.clear();
    out.norm("output_norm", model.final_norm.as_ref(), model.d_model);
    if let Some(head) = &model.head {
        if !model.tied() || arch.head == Head::Own {
            out.matrix("output", &[&head.weight], Role::Head, Order::AsTheyAre);
        }
        out.biases("output", arch.head_bias, &[head], Order::AsTheyAre);
    }
    out.items
}

fn block<'a>(arch: &Arch, model: &'a Model, l: &'a Layer, out: &mut List<'a>) {
    let (a, d) = (&l.attn, model.d_model);
    let pairs = if arch.rotation == Rotation::Neighbours { Order::Pairs(model.head_dim) } else { Order::AsTheyAre };
    // Of two norms side by side the first name is that before the feed-forward part.
    let each = arch.branches == Branches::BesideEach && l.ffn_norm.is_some();
    out.norm(if each { "attn_norm_2" } else { "attn_norm" }, l.attn_norm.as_ref(), d);
    if arch.fused_qkv {
        let all = [&a.q, &a.k, &a.v];
        out.matrix("attn_qkv", &all.map(|p| &p.weight), Role::Projection, Order::AsTheyAre);
        out.biases("attn_qkv", arch.qkv_bias, &all, Order::AsTheyAre);
    } else {
        out.linear("attn_q", &a.q, arch.qkv_bias, pairs);
        out.linear("attn_k", &a.k, arch.qkv_bias, pairs);
        out.linear("attn_v", &a.v, arch.qkv_bias, Order::AsTheyAre);
    }
    out.head_norm("attn_q_norm", a.q_norm.as_ref(), model.heads);
    out.head_norm("attn_k_norm", a.k_norm.as_ref(), model.kv_heads);
    out.norm("attn_sub_norm", a.sub_norm.as_ref(), a.o.weight.cols);
    out.linear("attn_output", &a.o, arch.o_bias, Order::AsTheyAre);
    out.norm("post_attention_norm", l.attn_post_norm.as_ref(), d);
    out.norm(if each { "attn_norm" } else { "ffn_norm" }, l.ffn_norm.as_ref(), d);
    let m = &l.mlp;
    match &m.gate {
        Some(gate) if arch.fused_gate => {
            out.matrix("ffn_up", &[&gate.weight, &m.up.weight], Role::Projection, Order::AsTheyAre);
        }
        gate => {
            if let Some(gate) = gate {
                out.linear("ffn_gate", gate, arch.mlp_bias, Order::AsTheyAre);
            }
            out.linear("ffn_up", &m.up, arch.mlp_bias, Order::AsTheyAre);
        }
    }
    out.norm("ffn_sub_norm", m.sub_norm.as_ref(), m.down.weight.cols);
    out.linear("ffn_down", &m.down, arch.mlp_bias, Order::AsTheyAre);
    out.norm("post_ffw_norm", l.ffn_post_norm.as_ref(), d);
}

struct List<'a> {
    items: Vec<Item<'a>>,
    prefix: String,
}

impl<'a> List<'a> {
    fn push(&mut self, name: &str, suffix: &str, shape: Vec<usize>, from: From<'a>) {
        self.items.push(Item { name: format!("{}{name}.{suffix}", self.prefix), shape, from });
    }

    fn matrix(&mut self, name: &str, parts: &[&'a Matrix], role: Role, order: Order) {
        let (rows, cols) = (parts.iter().map(|p| p.rows).sum(), parts[0].cols);
        self.push(name, "weight", vec![rows, cols], From::Matrix { parts: parts.to_vec(), role, order });
    }

    fn linear(&mut self, name: &str, l: &'a Linear, bias: Has, order: Order) {
        if l.input_norm.is_some() {
            self.norm(&format!("{name}_norm_in"), l.input_norm.as_ref(), l.weight.cols);
        }
        self.matrix(name, &[&l.weight], Role::Projection, order);
        self.biases(name, bias, &[l], order);
    }

    fn norm(&mut self, name: &str, norm: Option<&'a Norm>, n: usize) {
        let Some(norm) = norm else { return };
        self.push(name, "weight", vec![n], From::Gains(norm, n));
        if let Some(bias) = &norm.bias {
            self.push(name, "bias", vec![n], From::Values(bias));
        }
    }

    /// A norm on queries or keys: one for all heads, or gains for each.
    fn head_norm(&mut self, name: &str, norm: Option<&'a Norm>, heads: usize) {
        match norm {
            Some(n) if n.weight.len() > 1 => {
                self.push(name, "weight", vec![heads, n.len], From::Gains(n, heads * n.len))
            }
            n => self.norm(name, n, n.map_or(0, |n| n.len)),
        }
    }

    fn biases(&mut self, name: &str, has: Has, of: &[&'a Linear], order: Order) {
        if has == Has::Must || of.iter().any(|l| l.bias.is_some()) {
            let parts: Vec<_> = of.iter().map(|l| (l.bias.as_ref(), l.weight.rows)).collect();
            let n = parts.iter().map(|p| p.1).sum();
            self.push(name, "bias", vec![n], From::Biases { parts, order });
        }
    }
}

impl Turn {
    fn tensors(&self) -> Vec<(&'static str, &[f32])> {
        match &self.scaling {
            Scaling::None | Scaling::Linear(_) => Vec::new(),
            Scaling::Factors(f) => vec![("rope_freqs.weight", f)],
            Scaling::Long { long, short, .. } => {
                vec![("rope_factors_long.weight", long), ("rope_factors_short.weight", short)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use crate::tensor::RowOrder;

    #[test]
    fn rows_come_back_as_they_went() {
        for d in [2, 4, 12, 64] {
            for r in 0..3 * d {
                assert_eq!(Order::Pairs(d).row(RowOrder::Interleaved { head_dim: d }.stored(r)), r);
            }
        }
        assert_eq!((0..4).map(|f| Order::Pairs(4).row(f)).collect::<Vec<_>>(), [0, 2, 1, 3]);
    }
}
