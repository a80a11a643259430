use crate::error::{Error, Result};
use std::fmt;

/// A token and where it came from. It is never printed.
#[derive(Clone)]
pub struct Token {
    value: String,
    /// The variable or file, for messages.
    pub source: String,
}

impl Token {
    /// # Errors
    /// `Usage` if it has characters that no header may hold; the message does not repeat it.
    pub fn new(value: &str, source: impl Into<String>) -> Result<Option<Token>> {
        let (value, source) = (value.trim(), source.into());
        if value.is_empty() {
            return Ok(None);
        }
        if !value.bytes().all(|b| b.is_ascii_graphic()) || value.len() > 4096 {
            return Err(Error::usage(format!("the token in {source} has characters that no token has"))
                .hint("copy it again, or log in again"));
        }
        Ok(Some(Token { value: value.into(), source }))
    }

    /// The secret itself, for the one header that carries it.
    pub(crate) fn secret(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.source)
    }
}
