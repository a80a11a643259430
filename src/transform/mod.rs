//! What changes a model on its way to integers.

pub mod quantize;
