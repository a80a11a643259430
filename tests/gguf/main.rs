//! GGUF files: the container on literal bytes, block layouts against another decoder, models under their checkpoint's names, tokenizers
//! against the original ones.

mod bad;
mod blocks;
mod models;
mod tokenizers;
mod writer;
