//! How numbers are held: fixed point and scales ([`fixed`]), low-bit weights ([`lowbit`]), their planes from floats ([`planes`]).

pub mod blocks;
pub mod fixed;
pub mod lowbit;
pub mod planes;
