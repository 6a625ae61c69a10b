//! The program `lossy`: what is typed becomes a call of one subcommand; what goes wrong becomes one line and an exit
//! code. 0: done. 1: it failed. 2: it was called wrongly. 130: Ctrl-C. 143: SIGTERM.
//!
//! It is a library only so that a fuzzer reaches [what reads a hub's answers](read_hub_answer).
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chat;
mod commands;
mod completion;
mod directories;
mod estimated;
mod hint;
mod hub;
mod instructions;
mod interrupt;
mod loaded;
mod loss;
mod new_model;
mod observer;
mod outcome;
mod output;
mod prompt_cache;
mod saved_file;
mod terminal;
mod text_file;
mod training;
mod units;
mod version;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use commands::Command;
pub use hub::read_hub_answer;
use outcome::Outcome;

/// Runs language models on the machine you have
///
/// MODEL is a GGUF file, a Hugging Face directory, user/repo:quant of the Hugging Face hub, or the alias smollm2.
#[derive(Parser, Debug)]
#[command(name = "lossy", version = version::short(), long_version = version::long(), max_term_width = 110,
          arg_required_else_help = true, after_help = "Example:
  lossy run -p \"What is photosynthesis? Answer in one sentence.\"

`lossy COMMAND --help` has examples of each command.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let result = match Cli::try_parse_from(args::with_long_spellings(std::env::args_os())) {
        Ok(cli) => cli.command.run(),
        Err(usage) if usage.use_stderr() => terminal::exit_with_usage(&usage),
        Err(help) => output::print(&help).map(|()| Outcome::Done).map_err(Into::into),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::exit_code()),
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => terminal::exit_with_usage(&usage),
            Err(error) => {
                terminal::error(&error);
                ExitCode::FAILURE
            }
        },
    }
}

/// A combination of options that cannot work, found after they were read.
fn usage_error(message: impl std::fmt::Display) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(|help| help.to_string()).unwrap_or_default();
            assert!(help.contains(&format!("lossy {}", command.get_name())), "{}", command.get_name());
        }
    }
}
