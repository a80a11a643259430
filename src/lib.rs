//! Takes a 1-bit language model from a checkpoint to any machine it must run on, and proves that it computes the same there.
//!
//! The rooms of this crate, from the ground up; a room uses only what stands before it in this list (`tests/docs.rs` holds that):
//!
//! | floor | rooms | know |
//! |---|---|---|
//! | 0 | [`error`], [`limits`], [`bytes`], [`digest`], [`fsio`], [`parallel`], [`process`], [`progress`], [`calibration`] | bytes and offsets |
//! | 1 | [`tensor`], [`encoding`], [`kernels`], [`http`] | arrays and integer arithmetic; requests |
//! | 2 | [`format`] | one wire format each |
//! | 3 | [`model`], [`program`] | what a network is |
//! | 4 | [`import`], [`transform`], [`lower`], [`target`], [`tokenizer`], [`engine`] | a step of the way in |
//! | 5 | [`plan`], [`reference`], [`runtime`], [`delta`], [`export`] | a step of the way out |
//! | 6 | [`adapter`], [`verify`], [`eval`], [`prune`], [`report`], [`update`] | all below |
//! | 7 | [`cli`] | the terminal |

pub mod error;
pub mod limits;
pub mod progress;

pub mod bytes;
pub mod calibration;
pub mod digest;
pub mod fsio;
pub mod parallel;
pub mod process;

pub mod encoding;
#[cfg(feature = "hub")]
pub mod http;
pub mod kernels;
pub mod tensor;

pub mod format;

pub mod model;
pub mod program;
pub mod target;

pub mod engine;
pub mod import;
pub mod lower;
pub mod tokenizer;
pub mod transform;

pub mod delta;
pub mod export;
pub mod plan;
#[cfg(feature = "reference")]
pub mod reference;
pub mod runtime;

pub mod adapter;
pub mod eval;
pub mod prune;
pub mod report;
#[cfg(feature = "hub")]
pub mod update;
pub mod verify;

pub mod cli;

pub use error::{Error, Result};
