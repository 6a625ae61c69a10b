//! Where the prompt comes from.

use std::fs;
use std::io::{IsTerminal, Read, stdin};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::escape::unescaped;
use crate::terminal::note;
use crate::text_file;

/// How long an open pipe that sends nothing is waited for when there is another prompt.
const PIPE_PATIENCE: Duration = Duration::from_secs(3);

/// The prompt: files, then standard input, then the text of -p, in this order and separated by an empty line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// Text of the prompt; comes after files and standard input
    #[arg(short = 'p', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,

    /// File with text of the prompt, `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Reads \n, \t, \r, \", \', \\, \xNN and \uNNNN in the text of -p and --system as what they stand for
    #[arg(short = 'e', long, overrides_with = "no_escape")]
    pub escape: bool,

    /// Leaves them as they are (the default)
    #[arg(long, overrides_with = "escape")]
    pub no_escape: bool,

    /// Leaves standard input alone, as in the body of a `while read` loop
    #[arg(long)]
    pub no_stdin: bool,
}

impl PromptArgs {
    /// The whole prompt, unchanged; `None` if there is none and somebody sits at a terminal.
    ///
    /// Standard input is read if it is a file or a pipe, unless `--no-stdin` is given. A pipe that stays open and silent for three seconds although
    /// there is a prompt already is left alone, with a note.
    ///
    /// # Errors
    /// A file cannot be read or is not UTF-8, or all of the prompt is empty.
    pub fn read(&self) -> Result<Option<String>> {
        let mut parts = Vec::new();
        let mut names_stdin = false;
        for file in &self.files {
            if file.as_os_str() == "-" {
                if self.no_stdin {
                    bail!("-f - reads standard input, and --no-stdin forbids it");
                }
                if std::mem::replace(&mut names_stdin, true) {
                    bail!("-f - can be given only once");
                }
                parts.push(read_stdin(None)?.unwrap_or_default());
            } else {
                parts.push(text_file::read(file)?);
            }
        }
        let is_enough = self.prompt.is_some() || !parts.is_empty();
        if !names_stdin && !self.no_stdin && stdin_has_text(is_enough) {
            parts.extend(
                read_stdin(is_enough.then_some(PIPE_PATIENCE))?.filter(|text| !is_enough || !text.is_empty()),
            );
        }
        parts.extend(self.prompt.as_deref().map(|text| self.unescaped(text)).transpose()?);
        if parts.is_empty() {
            if self.no_stdin && !stdin().is_terminal() {
                bail!("there is no prompt: --no-stdin leaves -p and -f");
            }
            return Ok(None);
        }
        let prompt = join(&parts);
        if prompt.is_empty() {
            bail!("the prompt is empty");
        }
        Ok(Some(prompt))
    }

    /// A text of the command line, with its escapes read if -e asks for it.
    ///
    /// # Errors
    /// An escape that is none.
    pub fn unescaped(&self, text: &str) -> Result<String> {
        if !self.escape {
            return Ok(text.to_string());
        }
        unescaped(text).map_err(|error| crate::usage_error(error).into())
    }
}

/// Parts are separated by an empty line; a single part stays as it is.
fn join(parts: &[String]) -> String {
    let mut prompt = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !prompt.is_empty() {
            let n_newlines = prompt.bytes().rev().take_while(|&b| b == b'\n').count();
            prompt.extend(std::iter::repeat_n('\n', 2usize.saturating_sub(n_newlines)));
        }
        prompt.push_str(part);
    }
    prompt
}

/// Without another prompt everything but a terminal is read; with one only what can hold text.
fn stdin_has_text(is_enough: bool) -> bool {
    if stdin().is_terminal() {
        return false;
    }
    !is_enough || stdin_is_file_or_pipe()
}

#[cfg(unix)]
fn stdin_is_file_or_pipe() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    let Ok(fd) = stdin().as_fd().try_clone_to_owned() else { return false };
    let Ok(data) = fs::File::from(fd).metadata() else { return false };
    let kind = data.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_file()
}

#[cfg(not(unix))]
fn stdin_is_file_or_pipe() -> bool {
    true
}

/// All of standard input; `None` if nothing comes for `patience`.
fn read_stdin(patience: Option<Duration>) -> Result<Option<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        let mut read = || -> std::io::Result<Vec<u8>> {
            let n = stdin().read(&mut bytes)?;
            bytes.truncate(n);
            let _ = sender.send(None);
            if n > 0 {
                stdin().read_to_end(&mut bytes)?;
            }
            Ok(std::mem::take(&mut bytes))
        };
        let result = read();
        let _ = sender.send(Some(result));
    });
    if let Some(patience) = patience
        && receiver.recv_timeout(patience).is_err()
    {
        note("standard input is an open pipe that sends nothing; going on without it (-f - waits for it)");
        return Ok(None);
    }
    let result = receiver.iter().flatten().next().context("reading standard input")?;
    let bytes = result.context("reading standard input")?;
    text_file::decode(bytes, "standard input").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &[&str]) -> String {
        join(&parts.iter().map(|part| part.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn a_single_part_is_not_changed() {
        assert_eq!(joined(&["  a\n\n\n"]), "  a\n\n\n");
    }

    #[test]
    fn an_empty_line_separates_file_and_question() {
        assert_eq!(joined(&["book", "question"]), "book\n\nquestion");
        assert_eq!(joined(&["book\n", "question"]), "book\n\nquestion");
        assert_eq!(joined(&["book\n\n\n", "", "question"]), "book\n\n\nquestion");
    }
}
