//! ONNX files, from the command line on: what is in them, and that they compute what the program does.

#[path = "../common/mod.rs"]
mod common;

mod bad;
mod equal;
mod genai;
mod graph;
mod options;
mod python;
mod support;
mod traps;
