//! A model file that is to be written: never in the place of a model that it is made of, and only where there is room.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use lossy_engine::ModelSource;
use lossy_formats::AtomicFile;
use lossy_formats::gguf::{Gguf, Layout};

use crate::loaded::in_file;
use crate::units::bytes;

/// The model as a GGUF, which the new file will be. Of a Hugging Face directory, rows that lie in another order go into a file without a
/// name beside `out`; without `out` only names, types and shapes are right.
///
/// # Errors
/// `path` is a directory that no GGUF can say everything of, or the folder of `out` cannot be written to.
pub fn as_gguf(model: ModelSource, path: &Path, out: Option<&PathBuf>) -> Result<ModelSource> {
    if model.gguf().is_some() {
        return Ok(model);
    }
    if let Some(out) = out {
        AtomicFile::check(out)?;
    }
    model.to_gguf(out.map(|out| folder_of(out))).map_err(in_file(path))
}

/// The GGUF of a model that [`as_gguf`] gave.
///
/// # Panics
/// It is a Hugging Face directory.
pub fn gguf_of(model: &ModelSource) -> &Gguf {
    model.gguf().expect("a directory was made a GGUF")
}

fn folder_of(out: &Path) -> &Path {
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Fails before the first byte is written if the new files would take the place of `source`, which the usage calls `role`, or cannot be
/// written, or do not fit on the disk. `more`: bytes that are needed beside them.
///
/// # Errors
/// So it is.
pub fn check(out: &Path, layout: &Layout, source: &Gguf, role: &str, more: u64) -> Result<()> {
    let folder = folder_of(out);
    for new in layout.paths(out) {
        if let Some(same) = source.paths().iter().find(|old| is_same_file(old, &new)) {
            bail!("OUT {} is {role} {}: name another file", new.display(), same.display());
        }
        AtomicFile::check(&new)?;
    }
    let needed = layout.file_bytes() + more;
    match fs4::available_space(folder) {
        Ok(free) if free < needed => {
            let (free, needed) = (bytes(free), bytes(needed));
            bail!("{} has {free} free, but up to {needed} are needed", folder.display())
        }
        // A file system that does not tell is not a reason to refuse.
        _ => Ok(()),
    }
}

/// Also under another name, or by a link of either kind.
fn is_same_file(a: &Path, b: &Path) -> bool {
    let (Ok(a), Ok(b)) = (std::fs::canonicalize(a), std::fs::canonicalize(b)) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if let (Ok(a), Ok(b)) = (std::fs::metadata(&a), std::fs::metadata(&b)) {
            return (a.dev(), a.ino()) == (b.dev(), b.ino());
        }
    }
    a == b
}
