//! The line in which a message is written: editing, history, several lines.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Helper};

use crate::directories;
use crate::terminal::note;

const PROMPT: &str = "> ";

/// What the user typed.
pub enum Input {
    /// a message or a command
    Text(String),
    /// an empty line, or Ctrl-C
    Nothing,
    /// Ctrl-D
    End,
}

/// Reads messages and remembers them from one chat to the next.
pub struct Editor {
    line: rustyline::Editor<Several, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor with the history of earlier chats, `$XDG_STATE_HOME/lossy/chat_history`.
    pub fn new() -> Result<Editor> {
        let config = Config::builder().max_history_size(1000)?.history_ignore_space(true).build();
        let mut line = rustyline::Editor::with_config(config).context("opening the terminal")?;
        line.set_helper(Some(Several));
        // A chat without a history is still a chat.
        let history = directories::state().filter(|folder| fs::create_dir_all(folder).is_ok());
        let history = history.map(|folder| folder.join("chat_history"));
        if let Some(path) = &history {
            let _ = line.load_history(path);
        }
        Ok(Editor { line, history })
    }

    /// Reads one message.
    pub fn read(&mut self) -> Result<Input> {
        match self.line.readline(PROMPT) {
            Ok(typed) => {
                let text = message(&typed);
                if text.trim().is_empty() {
                    return Ok(Input::Nothing);
                }
                if self.line.add_history_entry(&typed)?
                    && let Some(path) = &self.history
                {
                    let _ = self.line.append_history(path);
                }
                Ok(Input::Text(text))
            }
            Err(ReadlineError::Interrupted) => {
                note("(Ctrl-D ends the chat)");
                Ok(Input::Nothing)
            }
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                forget_typed();
                note(
                    "this line was not sent: it has bytes that are not UTF-8; set the terminal's encoding to UTF-8",
                );
                Ok(Input::Nothing)
            }
            Err(error) => Err(error).context("reading from the terminal"),
        }
    }
}

/// Drops what was typed or pasted after a wrong byte: half a message is none.
fn forget_typed() {
    // Without a terminal there is nothing to drop.
    #[cfg(unix)]
    let _ = rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush);
}

/// A message may have several lines.
struct Several;

impl Validator for Several {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Completer for Several {
    type Candidate = String;
}

impl Hinter for Several {
    type Hint = String;
}

impl Highlighter for Several {}

impl Helper for Several {}

const QUOTES: &str = "\"\"\"";

fn is_complete(typed: &str) -> bool {
    match typed.trim_start().strip_prefix(QUOTES) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => !typed.ends_with('\\'),
    }
}

/// The message that was typed: without the quotes around it, or the backslashes at the ends of its lines.
fn message(typed: &str) -> String {
    match typed.trim().strip_prefix(QUOTES) {
        Some(rest) => {
            let inner = rest.strip_suffix(QUOTES).unwrap_or(rest);
            inner.strip_prefix('\n').unwrap_or(inner).trim_end_matches('\n').to_string()
        }
        None => typed.replace("\\\n", "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_several_lines() {
        assert!(!is_complete("\"\"\"a"));
        assert!(!is_complete("\"\"\""));
        assert!(is_complete("\"\"\"a\nb\"\"\""));
        assert_eq!(message("\"\"\"\na\n\\\nb\n\"\"\""), "a\n\\\nb");
        assert_eq!(message("\"\"\"a\"\"\""), "a");
    }

    #[test]
    fn a_backslash_continues_a_line() {
        assert!(!is_complete("a\\"));
        assert!(is_complete("a\\\nb"));
        assert_eq!(message("a\\\nb"), "a\nb");
        assert_eq!(message("C:\\x"), "C:\\x");
    }
}
