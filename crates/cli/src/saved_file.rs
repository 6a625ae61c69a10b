//! Files that one run writes and the next one reads: prompt caches, predictions of a reference.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Result, bail};

/// Opens what an earlier run has left; `None` if there is nothing yet, or an empty file such as `mktemp` makes.
///
/// # Errors
/// It cannot be read. A pipe or a device is not opened, since reading from one could wait without end.
pub fn open(path: &Path) -> Result<Option<File>> {
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => bail!("{} is a directory, not a file", path.display()),
        Ok(data) if !data.is_file() => {
            bail!("{} is no regular file, and it would be written once and read later", path.display())
        }
        Ok(data) if data.len() == 0 => Ok(None),
        Ok(_) => Ok(Some(File::open(path)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
