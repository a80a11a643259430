use crate::error::{Error, Result};
use clap::Args;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Print a shell completion script
///
/// Example: `bitnet-convert completions bash > /etc/bash_completion.d/bitnet-convert`
#[derive(Args)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(&self) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "bitnet-convert", &mut script);
        match std::io::stdout().write_all(&script) {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => {
                Err(Error::io("write the script", Path::new("<stdout>"), &e))
            }
            _ => Ok(0),
        }
    }
}
