//! The KV cache of a prompt in a file.

use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use lossy_engine::{Cache, Sequence};
use lossy_formats::AtomicFile;

use crate::saved_file;

/// What the file holds; an empty sequence if there is none yet, or nothing in it.
///
/// # Errors
/// The file cannot be read or written, is damaged, or was made with another model or in another way.
pub fn open(cache: &Arc<Cache>, path: &Path) -> Result<Sequence> {
    let option = || format!("--prompt-cache {}", path.display());
    // Now, and not after a long prompt has been read.
    AtomicFile::check(path).with_context(option)?;
    match saved_file::open(path).with_context(option)? {
        Some(file) => cache.restore(BufReader::with_capacity(1 << 20, file)).with_context(option),
        None => Ok(cache.sequence()),
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
