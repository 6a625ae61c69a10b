//! Standard output: what the program was asked for, and nothing else. A reader that has gone away (`| head`) ends the
//! program quietly.

use std::io::{self, StdoutLock, Write, stdout};

/// The reader of standard output is gone.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// Standard output, whose errors of a closed pipe carry [`OutputClosed`].
pub struct Output {
    lock: StdoutLock<'static>,
}

impl Output {
    /// Locks standard output.
    pub fn lock() -> Output {
        Output { lock: stdout().lock() }
    }

    /// Writes and flushes: a token is seen when it is there.
    pub fn write_now(&mut self, text: &str) -> io::Result<()> {
        self.write_all(text.as_bytes())?;
        self.flush()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock.write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock.flush().map_err(mark_closed)
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

    #[test]
    fn only_a_closed_output_is_quiet() {
        let closed = anyhow::Error::from(mark_closed(io::ErrorKind::BrokenPipe.into())).context("printing");
        assert!(is_closed(&closed));
        assert!(!is_closed(&anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe))));
    }
}
