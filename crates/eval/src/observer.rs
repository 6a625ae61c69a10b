//! Who watches a measurement: sees how far it is, reads notes, and may end it.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use lossy_engine::{KvScheme, Progress};

use crate::Setting;

/// What a measurement is busy with; it prints as a few words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage<'a> {
    /// the model is calibrated for a scheme
    Calibration(&'a KvScheme),
    /// all settings are compared with the reference on windows of so many tokens
    Divergence {
        /// tokens of a window
        n_ctx: usize,
    },
    /// every layer is measured alone in this setting, all others exact
    Layers(&'a Setting),
    /// layers of one setting are replaced by those of a better one
    Mixtures {
        /// the setting of most layers
        cheap: &'a Setting,
        /// the setting of the layers that lose most
        better: &'a Setting,
    },
    /// a task with known answers
    Task {
        /// its name
        name: &'static str,
        /// tokens of a prompt
        n_tokens: usize,
    },
    /// the [short measurement](crate::Probe) of a setting
    Probe(&'a Setting),
}

impl fmt::Display for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Calibration(scheme) => write!(f, "calibrating {scheme}"),
            Stage::Divergence { n_ctx } => write!(f, "measuring at {n_ctx} tokens"),
            Stage::Layers(setting) => write!(f, "each layer of {setting} alone"),
            Stage::Mixtures { cheap, better } => write!(f, "mixtures of {cheap} and {better}"),
            Stage::Task { name, n_tokens } => write!(f, "{name} at {n_tokens} tokens"),
            Stage::Probe(setting) => write!(f, "measuring what {setting} costs on this model, once"),
        }
    }
}

/// Something that a user should know and that is no error; it prints as a line.
#[derive(Debug)]
pub enum Note<'a> {
    /// A [probe](crate::Probe) begins to measure a setting.
    Probing(&'a Setting),
    /// A search leaves a setting out, since the model cannot have it.
    LeftOut {
        /// the setting
        setting: &'a Setting,
        /// why
        reason: String,
    },
    /// Statistics of the model could not be saved, so the next start computes them again.
    CalibrationNotSaved,
    /// Certificates could not be saved, so the next start measures again.
    CertificatesNotSaved {
        /// where they would lie
        folder: &'a Path,
        /// why
        error: &'a io::Error,
    },
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Probing(setting) => write!(f, "measuring what {setting} costs on this model (once)"),
            Note::LeftOut { setting, reason } => write!(f, "{setting} is left out: {reason}"),
            Note::CalibrationNotSaved => write!(
                f,
                "the calibration could not be saved, so the next start repeats it: is the cache directory writable?"
            ),
            Note::CertificatesNotSaved { folder, error } => {
                write!(f, "{}: what was measured could not be saved: {error}", folder.display())
            }
        }
    }
}

/// Watches a measurement.
pub trait Observer {
    /// Called before every forward pass, and once at the end of a stage: then `n_done` is `n_total`. The counts are tokens of
    /// all forward passes of the stage. `Break` ends the measurement with what was measured so far.
    fn progress(&mut self, stage: &Stage<'_>, progress: Progress) -> ControlFlow<()>;

    /// Called for every note.
    fn note(&mut self, note: &Note<'_>);
}

/// Sees nothing, and ends nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn progress(&mut self, _: &Stage<'_>, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn note(&mut self, _: &Note<'_>) {}
}
