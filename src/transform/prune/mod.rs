//! Fewer layers and fewer tokens: which layers go, and what that does to names, configuration and ids. Nothing here reads weights or runs a
//! network.
//!
//! | file | does |
//! |---|---|
//! | `choice` | lists of layers, and which to remove by their scores |
//! | `names` | tensors and modules of a layer under its new number |
//! | `config` | the settings of `config.json` that depend on layers |
//! | `ids` | ids of tokens in configurations |

pub mod choice;
pub mod config;
pub mod ids;
mod names;

pub use names::Stack;
