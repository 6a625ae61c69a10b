//! `--reference`: the reference's predictions in a file.

use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use lossy_eval::divergence::{Origin, SavedReference};
use lossy_formats::AtomicFile;

use crate::saved_file;

/// Fails if what is there cannot be read, or if nothing is and it could not be written later.
pub fn check(path: &Path) -> Result<()> {
    let option = || format!("--reference {}", path.display());
    match saved_file::open(path).with_context(option)? {
        Some(_) => Ok(()),
        None => AtomicFile::check(path).with_context(option),
    }
}

/// What the file holds; `None` if there is none yet, or nothing in it.
///
/// # Errors
/// The file cannot be read, is damaged, or is of another reference.
pub fn load(path: &Path, origin: &Origin) -> Result<Option<SavedReference>> {
    let option = || format!("--reference {}", path.display());
    let Some(file) = saved_file::open(path).with_context(option)? else { return Ok(None) };
    SavedReference::load(file, &origin.what).with_context(option).map(Some)
}

/// Writes the file, whole or not at all.
///
/// # Errors
/// The disk fails.
pub fn save(reference: &SavedReference, path: &Path) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, AtomicFile::create(path)?);
    reference.save(&mut out).with_context(|| format!("--reference {}", path.display()))?;
    // Whoever reads it verifies its checksum.
    Ok(out.into_inner().map_err(|error| error.into_error())?.commit_unsynced()?)
}
