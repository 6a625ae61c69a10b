//! `lossy completions`

use std::io::Write;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::outcome::Outcome;
use crate::output::Output;

/// Prints a script with which the shell completes this program's options
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy completions bash > ~/.local/share/bash-completion/completions/lossy
  lossy completions zsh > \"${fpath[1]}/_lossy\"")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints.
pub fn run(args: CompletionsArgs) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "lossy", &mut script);
    Output::raw().write_all(&script)?;
    Ok(Outcome::Done)
}
