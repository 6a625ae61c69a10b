//! `--reference`: the reference's predictions in a file.

use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::Path;

use anyhow::{Context, Result};
use lossy_eval::divergence::{Origin, SavedReference};
use lossy_formats::AtomicFile;

/// Fails if the file is not there and could not be written later.
pub fn check(path: &Path) -> Result<()> {
    let context = || format!("--reference {}", path.display());
    if path.exists() { Ok(()) } else { AtomicFile::check(path).with_context(context) }
}

/// What the file holds; `None` if there is none yet.
///
/// # Errors
/// The file cannot be read, is damaged, or is of another reference.
pub fn load(path: &Path, origin: &Origin) -> Result<Option<SavedReference>> {
    let context = || format!("--reference {}: delete it, or name another file", path.display());
    match File::open(path) {
        Ok(file) => SavedReference::load(file, &origin.what).with_context(context).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("--reference {}", path.display())),
    }
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
