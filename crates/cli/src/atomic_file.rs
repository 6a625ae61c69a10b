//! Files that appear whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

/// A file that takes its place when it is [kept](AtomicFile::keep), and is gone if it is not.
pub struct AtomicFile {
    inner: Inner,
}

enum Inner {
    /// what is written, and where it will be
    Part(NamedTempFile, PathBuf),
    /// a device or a pipe: nothing can take its place
    Stream(File),
}

impl AtomicFile {
    /// Begins a file in the folder of `path`, with the permissions of any new file. A link stays a link, and a device
    /// such as `/dev/stdout` a device.
    ///
    /// # Errors
    /// The folder is not there or cannot be written to, or `path` is a folder.
    pub fn create(path: &Path) -> Result<AtomicFile> {
        let context = || format!("writing to {}", path.display());
        let kind = fs::metadata(path).map(|data| data.file_type());
        if kind.as_ref().is_ok_and(|kind| kind.is_dir()) {
            bail!("{} is a folder", path.display());
        }
        if kind.is_ok_and(|kind| !kind.is_file()) {
            let file = File::options().write(true).open(path).with_context(context)?;
            return Ok(AtomicFile { inner: Inner::Stream(file) });
        }
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            bail!("writing to {}: there is no folder {}", path.display(), folder.display());
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".part");
        if let Some(permissions) = for_all() {
            builder.permissions(permissions);
        }
        // The error's own text names a file that nobody asked for.
        let part = builder
            .tempfile_in(folder)
            .map_err(|error| io::Error::from(error.kind()))
            .with_context(context)?;
        Ok(AtomicFile { inner: Inner::Part(part, target) })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// The disk fails.
    pub fn keep(self) -> Result<()> {
        match self.inner {
            Inner::Part(part, target) => {
                let kept = part.persist(&target).map_err(|error| error.error);
                kept.with_context(|| format!("creating {}", target.display())).map(drop)
            }
            Inner::Stream(_) => Ok(()),
        }
    }

    /// Waits until the disk has it.
    pub fn sync(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Part(part, _) => part.as_file().sync_all(),
            Inner::Stream(_) => Ok(()),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Part(part, _) => part.write(bytes),
            Inner::Stream(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Part(part, _) => part.flush(),
            Inner::Stream(file) => file.flush(),
        }
    }
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
    use super::*;

    #[test]
    fn a_kept_file_has_the_permissions_of_any_new_file_and_a_dropped_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"text").unwrap();
        drop(AtomicFile::create(&path).unwrap());
        file.keep().unwrap();
        let other = folder.path().join("b");
        fs::write(&other, "").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions(), fs::metadata(&other).unwrap().permissions());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let message = |path: &Path| AtomicFile::create(path).err().unwrap().to_string();
        let nowhere = Path::new("no/such/folder/file");
        assert_eq!(message(nowhere), "writing to no/such/folder/file: there is no folder no/such/folder");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(message(folder.path()), format!("{} is a folder", folder.path().display()));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, "old").unwrap();
        symlink("target", &link).unwrap();
        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.keep().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");

        // Through a link, so that a mistake here costs the link and not the device.
        let null = folder.path().join("null");
        symlink("/dev/null", &null).unwrap();
        let mut file = AtomicFile::create(&null).unwrap();
        file.write_all(b"gone").unwrap();
        file.keep().unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
}
