//! What somebody should be told.

use std::io;
use std::path::PathBuf;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// not what was written: it has been deleted
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// a file of another program, or of another version of this one: it is left alone
    #[error("it is no page of this version of lossy")]
    NotOurs,
    /// the system does not let us read it
    #[error(transparent)]
    Io(io::Error),
}

/// A file that should have had a page of a prompt. The prompt is read from there on instead.
#[derive(Debug, thiserror::Error)]
#[error("{}: {damage}", file.display())]
pub struct Damaged {
    /// the file
    pub file: PathBuf,
    /// what is wrong with it
    pub damage: Damage,
}

/// Something that happened beside what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Note {
    /// a file cannot be written; said once until one can be again
    #[error("pages are not kept on disk for now: {0}")]
    NotWritten(io::Error),
    /// the disk is slower than prompts are read; said once
    #[error("some pages are not kept on disk, since it does not keep up")]
    TooSlow,
}
