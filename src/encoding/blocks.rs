//! Blocks of quantized values, as GGUF files hold them: decoding to f32, and to codes with a scale where they are binary or ternary.

/// A block layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    Q8_0,
}

impl Block {
    pub fn name(self) -> &'static str {
        match self {
            Block::Q8_0 => "Q8_0",
        }
    }

    /// Decodes values `start .. start + out.len()` of a tensor; `data` is the whole tensor, which holds them.
    pub fn read(self, data: &[u8], start: usize, out: &mut [f32]) {
        match self {
            Block::Q8_0 => {
                for (i, o) in (start..).zip(out) {
                    let block = &data[i / 32 * 34..][..34];
                    let d = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
                    *o = d * f32::from(block[2 + i % 32] as i8);
                }
            }
        }
    }
}
