//! Files that appear whole or not at all.

use std::fs::Permissions;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// A file that becomes `path` when it is [kept](keep), and is gone if it is not.
///
/// # Errors
/// The folder of `path` cannot be written to.
pub fn create(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".part");
    if let Some(permissions) = for_all() {
        builder.permissions(permissions);
    }
    builder.tempfile_in(folder).with_context(|| format!("writing to {}", folder.display()))
}

/// Puts the file in its place.
///
/// # Errors
/// There is a folder of that name, or the disk fails.
pub fn keep(file: NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path)
        .map_err(|error| error.error)
        .with_context(|| format!("creating {}", path.display()))?;
    Ok(())
}

/// Temporary files are their owner's alone; these are anybody's, as far as the umask lets them.
fn for_all() -> Option<Permissions> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    #[cfg(not(unix))]
    return None;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_kept_file_has_the_permissions_of_any_new_file_and_a_dropped_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = create(&path).unwrap();
        file.write_all(b"text").unwrap();
        drop(create(&path).unwrap());
        keep(file, &path).unwrap();
        let other = folder.path().join("b");
        fs::write(&other, "").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions(), fs::metadata(&other).unwrap().permissions());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = create(Path::new("no/such/folder/file")).unwrap_err();
        assert_eq!(error.to_string(), "writing to no/such/folder");
    }
}
