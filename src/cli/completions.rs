use crate::error::Result;
use clap::Args;

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
        clap_complete::generate(self.shell, &mut super::command(), "bitnet-convert", &mut std::io::stdout());
        Ok(0)
    }
}
