//! The index: what is refused.
