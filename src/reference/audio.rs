//! The encoder of a speech model: mel frames to states.

use super::attention::Context;
use super::block::Block;
use super::linear::{self, Norm};
use super::rows::{activate, failed, Rows};
use super::Array;
use crate::error::{Error, Result};
use crate::model::{self, Activation, Model};
use candle_core::{Device, Tensor};

struct Conv {
    weight: Tensor,
    bias: Vec<f32>,
    stride: usize,
}

pub struct Audio {
    mels: usize,
    frames: usize,
    conv: [Conv; 2],
    /// `[frames / 2 * d_model]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    final_norm: Norm,
}

impl Audio {
    /// # Errors
    /// `Input` for weights that cannot be read or do not fit together.
    pub fn load(m: &Model, a: &model::Audio) -> Result<Audio> {
        let conv = |i: usize, stride| -> Result<Conv> {
            let (weight, bias) = &a.conv[i];
            let view = m.tensor(weight);
            let data = m.values(weight)?;
            let weight = Tensor::from_vec(data, view.shape, &Device::Cpu).map_err(failed)?;
            Ok(Conv { weight, bias: m.values(bias)?, stride })
        };
        let positions = linear::weights(m, &a.positions)?.flatten_all().and_then(|t| t.to_vec1()).map_err(failed)?;
        Ok(Audio {
            mels: a.mels,
            frames: a.frames,
            conv: [conv(0, 1)?, conv(1, 2)?],
            positions,
            blocks: a.layers.iter().map(|l| Block::load(m, l)).collect::<Result<_>>()?,
            final_norm: Norm::load(m, &a.final_norm, m.d_model)?,
        })
    }

    /// States `[texts * frames / 2, d_model]` of mel frames `[texts, mels, frames]`.
    ///
    /// # Errors
    /// `Usage` for frames of another shape.
    pub fn run(&self, features: &Array, head_dim: usize, width: usize) -> Result<Rows> {
        let texts = match features.shape[..] {
            [n, mels, frames] if mels == self.mels && frames == self.frames => n,
            _ => {
                let (got, mels, frames) = (&features.shape, self.mels, self.frames);
                let what = format!("the audio features have shape {got:?}, [n, {mels}, {frames}] is needed");
                return Err(Error::usage(what).hint("pad or cut the recording to the length that the encoder takes"));
            }
        };
        let mut x = Tensor::from_slice(&features.data, &features.shape[..], &Device::Cpu).map_err(failed)?;
        for c in &self.conv {
            x = x.conv1d(&c.weight, 1, c.stride, 1, 1).map_err(failed)?;
            let shape = x.dims().to_vec();
            let mut data: Vec<f32> = x.flatten_all().and_then(|t| t.to_vec1()).map_err(failed)?;
            let channels = data.chunks_exact_mut(shape.last().copied().unwrap_or(1).max(1));
            for (channel, bias) in channels.zip(c.bias.iter().cycle()) {
                channel.iter_mut().for_each(|v| *v = activate(Activation::Gelu, *v + bias));
            }
            x = Tensor::from_vec(data, shape, &Device::Cpu).map_err(failed)?;
        }
        let data = x.transpose(1, 2).and_then(|t| t.flatten_all()?.to_vec1()).map_err(failed)?;
        let mut x = Rows::new(width, data);
        let positions = self.positions.iter().copied().cycle().take(x.data.len()).collect();
        x.add(&Rows::new(width, positions), 1.0)?;
        let context = Context {
            texts,
            len: x.len() / texts.max(1),
            past: 0,
            mask: None,
            causal: false,
            head_dim,
            rotations: Vec::new(),
            alibi: None,
            memory: None,
        };
        for block in &self.blocks {
            block.run(&mut x, &context, 1.0, None)?;
        }
        self.final_norm.apply(&mut x);
        Ok(x)
    }
}
