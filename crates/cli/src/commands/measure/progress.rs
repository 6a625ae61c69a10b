//! A bar with the time that is left, on a terminal.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{interrupt, terminal};

/// Gone when it is dropped.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// For `what`, whose length is told with its progress, and which Ctrl-C ends with what there is.
    pub fn start(what: &str) -> Bar {
        Bar::with_hint(what, "Ctrl-C: what there is")
    }

    /// With what Ctrl-C does.
    pub fn with_hint(what: &str, hint: &str) -> Bar {
        if !terminal::is_drawn() {
            return Bar { bar: ProgressBar::hidden() };
        }
        let style = ProgressStyle::with_template("{msg}  {bar:24}  {percent} %  {eta} left  {prefix}")
            .expect("the template is a constant");
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what.to_string());
        bar.set_prefix(format!("({hint})"));
        Bar { bar }
    }

    /// Draws it; breaks after Ctrl-C.
    pub fn set(&self, n_done: usize, n_total: usize) -> ControlFlow<()> {
        self.bar.set_length(n_total as u64);
        self.bar.set_position(n_done as u64);
        interrupt::go_on()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
