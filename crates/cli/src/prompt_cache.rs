//! The KV cache of a prompt in a file.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use lossy_engine::{Cache, Sequence};
use lossy_formats::AtomicFile;

/// What the file holds; an empty sequence if there is none yet.
///
/// # Errors
/// The file cannot be read, is damaged, or was made with another model, scheme or calibration.
pub fn open(cache: &Arc<Cache>, path: &Path) -> Result<Sequence> {
    let context = || format!("--prompt-cache {}: delete it, or name another file", path.display());
    match File::open(path) {
        Ok(file) => cache.restore(BufReader::with_capacity(1 << 20, file)).with_context(context),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(cache.sequence()),
        Err(error) => Err(error).with_context(|| format!("--prompt-cache {}", path.display())),
    }
}

/// Writes the file anew: its owner's alone, and whole or not at all.
///
/// # Errors
/// The disk fails.
pub fn keep(sequence: &Sequence, path: &Path) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, AtomicFile::create_private(path)?);
    sequence.save(&mut out).with_context(|| format!("--prompt-cache {}", path.display()))?;
    // Whoever reads it verifies its checksum.
    Ok(out.into_inner().map_err(|error| error.into_error())?.commit_unsynced()?)
}
