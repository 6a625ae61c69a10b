//! The files that are made.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lossy_formats::AtomicFile;
use lossy_formats::gguf::Layout;

/// The file of a layout that stands for all: the first.
pub fn first(layout: &Layout, out: &Path) -> PathBuf {
    layout.paths(out).into_iter().next().unwrap_or_else(|| out.to_owned())
}

/// `small-00001-of-00002.gguf and 1 more`.
pub fn told(outs: &[PathBuf]) -> String {
    let first = outs.first().map_or(String::new(), |out| out.display().to_string());
    match outs.len() {
        0 | 1 => first,
        n => format!("{first} and {} more", n - 1),
    }
}

/// Writes a text file, whole or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(file.commit()?)
}
