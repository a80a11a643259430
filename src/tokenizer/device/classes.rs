//! Classes of characters.

/// Part of the class table around one character.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    pub first: u32,
    pub end: u32,
    pub class: u8,
}
