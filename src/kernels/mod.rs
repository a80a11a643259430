//! Integer kernels. [`scalar`] is the definition (docs/semantics.md section 5); every other kernel must equal it.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod adapter;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod dot;
pub mod scalar;
pub mod tables;
pub mod vector;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use dot::DotKernel;
