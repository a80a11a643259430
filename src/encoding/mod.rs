//! How numbers are held: fixed point and scales ([`fixed`]), low-bit weights ([`lowbit`]), the order of their rows ([`order`]) and their
//! planes from floats ([`planes`]), blocks of quantized values ([`blocks`]).

pub mod blocks;
pub mod fixed;
pub mod lowbit;
pub mod order;
pub mod planes;
