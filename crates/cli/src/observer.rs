//! What is seen of a measurement: a bar with the time that is left, on a terminal, and notes. Ctrl-C ends it.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lossy_engine::Progress;
use lossy_eval::{Note, Observer, Stage};

use crate::{interrupt, terminal};

/// Gone when it is dropped.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// For `what`, whose length is told with its progress; `hint`: what Ctrl-C does.
    pub fn start(what: &str, hint: &str) -> Bar {
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
    pub fn set(&self, progress: Progress) -> ControlFlow<()> {
        self.bar.set_length(progress.n_total as u64);
        self.bar.set_position(progress.n_done as u64);
        interrupt::go_on()
    }

    /// Prints a line beside it.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| terminal::note(text));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Draws a bar for each stage of a measurement, and prints its notes.
pub struct Watcher {
    /// what Ctrl-C does
    hint: &'static str,
    /// whether a line says that a probe begins, where no bar does
    announces: bool,
    bar: Option<(String, Bar)>,
}

impl Watcher {
    /// `hint`: what Ctrl-C does.
    pub fn new(hint: &'static str) -> Watcher {
        Watcher { hint, announces: false, bar: None }
    }

    /// Says in a line that a probe begins, where no bar is drawn.
    pub fn announcing(self) -> Watcher {
        Watcher { announces: true, ..self }
    }
}

impl Observer for Watcher {
    fn progress(&mut self, stage: &Stage<'_>, progress: Progress) -> ControlFlow<()> {
        let what = stage.to_string();
        if self.bar.as_ref().is_none_or(|(drawn, _)| *drawn != what) {
            // The old one is cleared first: two would share a line.
            self.bar = None;
            self.bar = Some((what.clone(), Bar::start(&what, self.hint)));
        }
        let next = self.bar.as_ref().map_or(ControlFlow::Continue(()), |(_, bar)| bar.set(progress));
        if progress.n_done == progress.n_total {
            self.bar = None;
        }
        next
    }

    fn note(&mut self, note: &Note<'_>) {
        if matches!(note, Note::Probing(_)) {
            // From here on there is something that Ctrl-C can end, and a program that goes on.
            interrupt::listen(interrupt::Second::Ends);
            if terminal::is_drawn() || !self.announces {
                return;
            }
        }
        match &self.bar {
            Some((_, bar)) => bar.note(&note.to_string()),
            None => terminal::note(&note.to_string()),
        }
    }
}
