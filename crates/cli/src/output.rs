//! Standard output: what the program was asked for, and nothing else. A reader that has gone away (`| head`) ends the
//! program quietly.
//!
//! Names and values of files come out here, so this is where they are [escaped](lossy_formats::Escaped). An answer goes to
//! a file or a pipe byte by byte as the model said it; on a terminal its control characters are shown and not obeyed.

use std::borrow::Cow;
use std::io::{self, IsTerminal, StdoutLock, Write, stdout};

use lossy_formats::Escaping;

/// The reader of standard output is gone.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// Standard output, whose errors of a closed pipe carry [`OutputClosed`].
pub struct Output {
    lock: StdoutLock<'static>,
    filter: Filter,
}

impl Output {
    /// For lines that people read.
    pub fn text() -> Output {
        Output::new(Form::Escaped(Escaping::Lines))
    }

    /// For JSON, in which such characters can stand in strings only.
    pub fn json() -> Output {
        Output::new(Form::Json)
    }

    /// For what a model says.
    pub fn answer() -> Output {
        let is_raw = !stdout().is_terminal();
        Output::new(if is_raw { Form::Raw } else { Form::Escaped(Escaping::Prose) })
    }

    /// For what this program has made itself.
    pub fn raw() -> Output {
        Output::new(Form::Raw)
    }

    fn new(form: Form) -> Output {
        Output { lock: stdout().lock(), filter: Filter { form, pending: Vec::new() } }
    }

    /// Writes and flushes: a token is seen when it is there.
    pub fn write_now(&mut self, text: &str) -> io::Result<()> {
        self.write_all(text.as_bytes())?;
        self.flush()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock.write_all(&self.filter.apply(bytes)).map_err(mark_closed)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock.flush().map_err(mark_closed)
    }
}

/// What is made of a character that [does something](Escaping::applies_to) instead of being seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// left
    Raw,
    /// `\u{1b}`
    Escaped(Escaping),
    /// `\u001b`
    Json,
}

/// Escapes a stream of UTF-8 that comes in pieces.
#[derive(Debug)]
struct Filter {
    form: Form,
    /// the beginning of a character whose end has not come yet
    pending: Vec<u8>,
}

impl Filter {
    fn apply<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let escaping = match self.form {
            Form::Raw => return Cow::Borrowed(bytes),
            Form::Escaped(escaping) => escaping,
            Form::Json => Escaping::Lines,
        };
        if self.pending.is_empty() && std::str::from_utf8(bytes).is_ok_and(|text| !escaping.is_needed(text)) {
            return Cow::Borrowed(bytes);
        }
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        let end = all.len() - n_unfinished(&all);
        let mut shown = String::with_capacity(all.len());
        for c in String::from_utf8_lossy(&all[..end]).chars() {
            match self.form {
                _ if !escaping.applies_to(c) => shown.push(c),
                Form::Json => {
                    shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")))
                }
                Form::Escaped(_) | Form::Raw => shown.extend(c.escape_unicode()),
            }
        }
        self.pending = all.split_off(end);
        Cow::Owned(shown.into_bytes())
    }
}

/// Bytes at the end that begin a character and are not all of it.
fn n_unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) => match std::str::from_utf8(last.invalid()) {
            Err(error) if error.error_len().is_none() => last.invalid().len(),
            _ => 0,
        },
        None => 0,
    }
}

/// Prints help or the version, with colours on a terminal.
///
/// # Errors
/// As those of [`Output`].
pub fn print(help: &clap::Error) -> io::Result<()> {
    help.print().and_then(|()| stdout().flush()).map_err(mark_closed)
}

fn mark_closed(error: io::Error) -> io::Error {
    match error.kind() {
        // Asks to be tried again.
        io::ErrorKind::Interrupted => error,
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, OutputClosed),
        kind => io::Error::new(kind, format!("writing to standard output: {error}")),
    }
}

/// Whether a program failed only because nobody reads its output any more.
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<OutputClosed>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of a text that comes in pieces of `n` bytes.
    fn filtered(form: Form, bytes: &[u8], n: usize) -> String {
        let mut filter = Filter { form, pending: Vec::new() };
        let shown: Vec<u8> = bytes.chunks(n).flat_map(|part| filter.apply(part).into_owned()).collect();
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn only_a_closed_output_is_quiet() {
        let closed = anyhow::Error::from(mark_closed(io::ErrorKind::BrokenPipe.into())).context("printing");
        assert!(is_closed(&closed));
        assert!(!is_closed(&anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe))));
    }

    #[test]
    fn however_a_text_is_cut_the_same_is_shown() {
        let text = "é\x1b[2J 👍 \u{202e}\u{9b}\n\tend";
        for n in 1..=text.len() {
            let lines = filtered(Form::Escaped(Escaping::Lines), text.as_bytes(), n);
            assert_eq!(lines, "é\\u{1b}[2J 👍 \\u{202e}\\u{9b}\n\tend", "pieces of {n} bytes");
        }
        assert_eq!(filtered(Form::Raw, text.as_bytes(), text.len()), text);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_come_out() {
        let lines = filtered(Form::Escaped(Escaping::Lines), b"a\x9b31m\xffb", 1);
        assert_eq!(lines, "a\u{fffd}31m\u{fffd}b");
    }

    #[test]
    fn json_stays_json_with_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}": "\u{7f}\u{202e}\u{e0041}\x1b👍" });
        let text = filtered(Form::Json, serde_json::to_string_pretty(&value).unwrap().as_bytes(), 3);
        assert!(!Escaping::Lines.is_needed(&text), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
