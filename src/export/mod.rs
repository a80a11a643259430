//! Renderings of a program: the packed file, and the C folder built around one.

pub mod c;
pub mod packed;
pub mod rules;
pub mod rust;
