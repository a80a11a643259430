//! What changes a model on its way to integers.

pub mod prune;
pub mod quantize;
