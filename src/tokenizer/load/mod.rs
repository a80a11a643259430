//! Files of every kind → `tokenizer.json`.

/// A source as the bytes of a `tokenizer.json`.
pub fn load(path: &std::path::Path) -> crate::error::Result<Vec<u8>> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
    crate::fsio::read_capped(&file, 1 << 28)
}
