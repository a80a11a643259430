//! GGUF files: the container on literal bytes, block layouts against another decoder, models under their checkpoint's names, tokenizers
//! against the original ones.

mod bad;
mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod convert;
mod convert_bad;
mod convert_files;
mod export;
mod inspect;
mod models;
mod python;
mod tokenizers;
mod writer;
