//! An integer-only runtime and one language model, written by bitnet-convert.
//!
//! No heap, no floating point, no dependencies, no unsafe code. The model is read in place, e.g. from flash; all state is in a [`Ctx`] and in
//! an [`Arena`] of the caller. Every integer is that of the semantics of the packed format, on every machine, which [`Ctx::selftest`] proves
//! against the checksums that the model carries.
//!
//! ```
//! use bitnet_model::{argmax, generated, Config, Ctx, Model};
//!
//! # fn main() -> Result<(), bitnet_model::Status> {
//! let model = Model::new(generated::IMAGE)?;
//! let mut arena = generated::ModelArena::new(); // a static on a microcontroller
//! let mut ctx = Ctx::new(&model, Config::default(), arena.memory())?;
//! let mut results = [0; generated::RESULTS];
//! ctx.selftest(&mut results).expect("equal");
//! if !model.gives_embedding() {
//!     ctx.run(&[1, 2, 3], Some(&mut results))?;
//!     let next = argmax(&results);
//!     # let _ = next;
//! }
//! # Ok(())
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod act;
mod arena;
mod attend;
pub mod commands;
mod ctx;
pub mod device;
mod follow;
pub mod generated;
mod golden;
mod linear;
mod math;
mod model;
mod norm;
mod ops;
mod planes;
mod sample;
mod status;
mod sums;
mod tables;
mod tensor;
mod tokenizer;

pub use arena::{Arena, ArenaSize, Config, Memory};
pub use ctx::{Ctx, Failure, SelftestError, Trace};
pub use golden::Prompt;
pub use math::Scale;
pub use model::Model;
pub use sample::{argmax, Sampler, MAX_TOP_K};
pub use status::Status;
pub use tokenizer::{Decoder, Tokenizer};
