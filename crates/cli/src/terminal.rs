//! What goes to stderr: errors, notes, and progress bars on a terminal only.
//!
//! Names of files and words of a hub, a model or a template are in all of them, so this is where they are
//! [escaped](lossy_formats::Escaped).

use std::fmt;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lossy_formats::{Escaped, EscapedLines, Escaping};

use crate::hint::with_hint;
use crate::units;

/// Whether progress may be drawn.
pub fn is_drawn() -> bool {
    stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// One line on stderr, whatever is in the text. A stderr that is closed is not a reason to stop.
pub fn note(text: &str) {
    let line = text.replace(['\n', '\r'], " ");
    let _ = writeln!(stderr(), "{}", Escaped(line));
}

/// A text on stderr that has lines of its own.
pub fn note_lines(text: &str) {
    let _ = writeln!(stderr(), "{}", EscapedLines(text));
}

/// What went wrong, why, and what can be done, in one line on stderr.
pub fn error(error: &anyhow::Error) {
    note(&format!("error: {}", with_hint(error)));
}

/// Says how the program was called wrongly, and ends it. What was typed is quoted, so a hostile name could be in it: then
/// there are no colours.
pub fn exit_with_usage(usage: &clap::Error) -> ! {
    let text = usage.render().to_string();
    if !Escaping::Lines.is_needed(&text) {
        usage.exit();
    }
    let _ = write!(stderr(), "{}", EscapedLines(text));
    std::process::exit(usage.exit_code());
}

/// The progress of a file: a bar on a terminal, else one line when it starts.
pub struct Transfer {
    bar: ProgressBar,
}

impl Transfer {
    /// `total` and `done` in bytes.
    pub fn start(name: &str, total: u64, done: u64) -> Transfer {
        if !is_drawn() {
            let from = if done > 0 { format!(" from {}", units::bytes(done)) } else { String::new() };
            note(&format!("{name}: {}{from}", units::bytes(total)));
            return Transfer { bar: ProgressBar::hidden() };
        }
        let bar = bar(
            total,
            "{msg}  {bar:24}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
        );
        bar.set_message(Escaped(name).to_string());
        bar.set_position(done);
        bar.reset_eta();
        Transfer { bar }
    }

    /// Bytes that are there.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Leaves the full bar where it is.
    pub fn finish(&self) {
        self.bar.finish();
    }
}

/// The progress of a prefill, with tokens per second; gone when it is dropped.
pub struct Prefill {
    bar: Option<ProgressBar>,
}

impl Prefill {
    /// For a prompt of `n_tokens`.
    pub fn start(n_tokens: usize) -> Prefill {
        if !is_drawn() {
            return Prefill { bar: None };
        }
        let bar = bar(
            n_tokens as u64,
            "reading the prompt  {bar:24}  {pos} of {len} tokens  {tokens_per_s}{prefix}  {eta} left",
        );
        Prefill { bar: Some(bar) }
    }

    /// Prints a line beside it.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Tokens that are done, and the share of pages that they read, if they may skip some.
    pub fn set(&self, n_done: usize, share_of_pages_read: Option<f64>) {
        if let Some(bar) = &self.bar {
            if let Some(share) = share_of_pages_read {
                bar.set_prefix(format!("  {}", pages_read(share)));
            }
            bar.set_position(n_done as u64);
        }
    }
}

/// The share of pages that were read, in words.
pub fn pages_read(share: f64) -> String {
    format!("{:.0} % of pages read", 100.0 * share)
}

impl Drop for Prefill {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A spinner for something of unknown length; gone when it is dropped.
pub struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// Shows `what` until dropped.
    pub fn start(what: &str) -> Spinner {
        if !is_drawn() {
            return Spinner { bar: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(Escaped(what).to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Spinner { bar: Some(bar) }
    }

    /// Shows something else.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(Escaped(what).to_string());
        }
    }

    /// Shows how much of it is done, as a bar with the time that is left.
    pub fn measured(&self, what: &str, n_done: usize, n_total: usize) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != Some(n_total as u64) {
            bar.set_style(style("{msg}  {bar:24}  {percent} %  {eta} left"));
            bar.set_length(n_total as u64);
            bar.set_message(Escaped(what).to_string());
            bar.reset_eta();
        }
        bar.set_position(n_done as u64);
    }

    /// Does something that prints.
    pub fn hide<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style(template));
    bar
}

fn style(template: &str) -> ProgressStyle {
    let tokens_per_s = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // A number that cannot be drawn is left out.
        let _ = write!(out, "{:.0} t/s", state.per_sec());
    };
    ProgressStyle::with_template(template)
        .expect("the template is a constant")
        .with_key("tokens_per_s", tokens_per_s)
        .progress_chars("=> ")
}
