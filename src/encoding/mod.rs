//! How numbers are held: fixed point and scales ([`fixed`]), low-bit weights ([`lowbit`]) and their planes from floats ([`planes`]), blocks of
//! quantized values ([`blocks`]).

pub mod blocks;
pub mod fixed;
pub mod lowbit;
pub mod planes;
