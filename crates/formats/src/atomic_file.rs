//! Files that appear whole or not at all: the only way in which this project replaces a file.
//!
//! ```text
//! create(path) ──► follow links ──► regular, or nothing there ──► .RANDOM.part beside it ── commit ──► rename
//!                                   device, pipe, /proc/N/fd/M ─► the thing itself       ── commit ──► nothing
//! ```
//!
//! - A link stays a link: what it points to is replaced, or created if the link dangles.
//! - A file that is there keeps its permissions, and one that may not be written to is not replaced.
//! - Temporary names are random and opened exclusively, so that neither threads nor processes share one. A file that is
//!   dropped before [`commit`](AtomicFile::commit) leaves nothing behind; only a killed process leaves its `.part`.
//! - Nothing can take the place of a device or a pipe: they are written to directly. A pipe without a reader is an error;
//!   opening it does not wait for one.

use std::fs::{self, File, FileType, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Links that are followed before they are taken for a circle, as Linux counts.
const MAX_LINKS: usize = 40;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A directory has that name.
    #[error("{} is a directory, not a file", path.display())]
    Directory {
        /// The name.
        path: PathBuf,
    },
    /// The directory of the file is not there.
    #[error("writing to {}: there is no directory {}", path.display(), directory.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// A named pipe that nobody has opened for reading.
    #[error("{} is a pipe that nobody reads from", path.display())]
    NoReader {
        /// The pipe.
        path: PathBuf,
    },
    /// A socket has that name.
    #[error("{} is a socket, not a file", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("writing to {}: {error}", path.display())]
    Io {
        /// The file, as the caller named it.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        let kind = match &error {
            WriteError::Io { error, .. } => error.kind(),
            WriteError::Directory { .. } => ErrorKind::IsADirectory,
            WriteError::NoDirectory { .. } => ErrorKind::NotFound,
            WriteError::NoReader { .. } | WriteError::Socket { .. } => ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// A file that takes its place when it is [committed](AtomicFile::commit), and is gone if it is not.
#[derive(Debug)]
pub struct AtomicFile {
    place: Place,
    /// as the caller named it
    path: PathBuf,
}

#[derive(Debug)]
enum Place {
    /// what is written, and where it will be
    Part { part: NamedTempFile, target: PathBuf },
    /// a device or a pipe
    Stream(File),
}

/// What a path leads to.
enum Target {
    /// a file that is to be replaced, or nothing yet, at the end of all links
    File { path: PathBuf, existing: Option<Metadata> },
    /// what is written to directly
    Stream,
}

impl AtomicFile {
    /// Begins a file at `path`. A new one gets the permissions of any new file.
    ///
    /// # Errors
    /// `path` is a directory, a socket, or a pipe without a reader; its directory is not there; the system does not let
    /// us write.
    pub fn create(path: &Path) -> Result<AtomicFile, WriteError> {
        AtomicFile::begin(path, for_all())
    }

    /// The same for a file that only its owner may read. One that is there keeps its permissions.
    ///
    /// # Errors
    /// As [`create`](AtomicFile::create).
    pub fn create_private(path: &Path) -> Result<AtomicFile, WriteError> {
        AtomicFile::begin(path, None)
    }

    /// Fails if `path` could not be written to now, and changes nothing.
    ///
    /// # Errors
    /// As [`create`](AtomicFile::create), but a pipe is not opened, since closing it would end its reader.
    pub fn check(path: &Path) -> Result<(), WriteError> {
        match Target::find(path)? {
            Target::File { .. } => AtomicFile::create(path).map(drop),
            Target::Stream => Ok(()),
        }
    }

    fn begin(path: &Path, permissions: Option<Permissions>) -> Result<AtomicFile, WriteError> {
        let failed = |error| WriteError::Io { path: path.to_path_buf(), error };
        let (target, existing) = match Target::find(path)? {
            Target::File { path, existing } => (path, existing),
            Target::Stream => {
                return Ok(AtomicFile { place: Place::Stream(open_stream(path)?), path: path.to_path_buf() });
            }
        };
        let directory = directory_of(&target);
        if !directory.is_dir() {
            let directory = directory.to_path_buf();
            return Err(WriteError::NoDirectory { path: path.to_path_buf(), directory });
        }
        if existing.is_some() {
            // The directory decides about renames; the file's own permissions are asked here.
            File::options().write(true).open(&target).map_err(failed)?;
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".part");
        if let Some(permissions) = permissions {
            builder.permissions(permissions);
        }
        // The error's own text names a file that nobody asked for.
        let part = builder.tempfile_in(directory).map_err(|error| failed(error.kind().into()))?;
        if let Some(existing) = existing {
            part.as_file().set_permissions(existing.permissions()).map_err(failed)?;
        }
        Ok(AtomicFile { place: Place::Part { part, target }, path: path.to_path_buf() })
    }

    /// Puts the file in its place, once the disk has it: after a power failure it is there whole, or the old one is.
    ///
    /// # Errors
    /// The disk fails.
    pub fn commit(self) -> Result<(), WriteError> {
        self.finish(true)
    }

    /// The same without waiting for the disk: for large files whose readers verify a checksum.
    ///
    /// # Errors
    /// The disk fails.
    pub fn commit_unsynced(self) -> Result<(), WriteError> {
        self.finish(false)
    }

    /// Puts several files that belong together in their places, the first one last. If one of them cannot be placed, none is left.
    ///
    /// # Errors
    /// The disk fails.
    pub fn commit_all(files: Vec<AtomicFile>) -> Result<(), WriteError> {
        let mut placed = Vec::new();
        for file in files.into_iter().rev() {
            let target = match &file.place {
                Place::Part { target, .. } => Some(target.clone()),
                Place::Stream(_) => None,
            };
            if let Err(error) = file.commit() {
                // What is left of a set is good for nothing.
                placed.iter().for_each(|path| drop(fs::remove_file(path)));
                return Err(error);
            }
            placed.extend(target);
        }
        Ok(())
    }

    fn finish(mut self, is_synced: bool) -> Result<(), WriteError> {
        let path = self.path;
        let failed = |error| WriteError::Io { path: path.clone(), error };
        match &mut self.place {
            Place::Part { part, .. } => part.flush(),
            Place::Stream(file) => file.flush(),
        }
        .map_err(failed)?;
        let Place::Part { part, target } = self.place else { return Ok(()) };
        if is_synced {
            part.as_file().sync_all().map_err(failed)?;
        }
        part.persist(&target).map_err(|error| failed(error.error))?;
        #[cfg(unix)]
        if is_synced && let Ok(directory) = File::open(directory_of(&target)) {
            // The new name is in the directory. Some file systems cannot sync one, and the file itself is safe.
            let _ = directory.sync_all();
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.place {
            Place::Part { part, .. } => part.write(bytes),
            Place::Stream(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.place {
            Place::Part { part, .. } => part.flush(),
            Place::Stream(file) => file.flush(),
        }
    }
}

impl Target {
    fn find(path: &Path) -> Result<Target, WriteError> {
        let failed = |error| WriteError::Io { path: path.to_path_buf(), error };
        let existing = match fs::metadata(path) {
            Ok(data) => Some(data),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(kind) = existing.as_ref().map(Metadata::file_type) {
            if kind.is_dir() {
                return Err(WriteError::Directory { path: path.to_path_buf() });
            }
            if is_socket(kind) {
                return Err(WriteError::Socket { path: path.to_path_buf() });
            }
            if !kind.is_file() {
                return Ok(Target::Stream);
            }
        }
        let mut end = path.to_path_buf();
        for _ in 0..MAX_LINKS {
            let Ok(next) = fs::read_link(&end) else {
                return Ok(Target::File { path: end, existing });
            };
            // `/dev/stdout` of a program whose output goes to a file: the shell has opened it, perhaps to append.
            if fs::canonicalize(directory_of(&end)).is_ok_and(|directory| directory.starts_with("/proc")) {
                return Ok(Target::Stream);
            }
            end = directory_of(&end).join(next);
        }
        Err(failed(io::Error::other("it is a link that leads to itself")))
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Opens what is not to be replaced. Without `NONBLOCK` a pipe would be waited for until somebody reads from it.
#[cfg(unix)]
fn open_stream(path: &Path) -> Result<File, WriteError> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error| WriteError::Io { path: path.to_path_buf(), error };
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = File::options().append(true).custom_flags(flags.bits() as i32).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => {
            WriteError::NoReader { path: path.to_path_buf() }
        }
        _ => failed(error),
    })?;
    let flags = fcntl_getfl(&file).map_err(|error| failed(error.into()))?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_stream(path: &Path) -> Result<File, WriteError> {
    let failed = |error| WriteError::Io { path: path.to_path_buf(), error };
    File::options().append(true).open(path).map_err(failed)
}

#[cfg(unix)]
fn is_socket(kind: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&kind)
}

#[cfg(not(unix))]
fn is_socket(_kind: FileType) -> bool {
    false
}

/// Temporary files are their owner's alone; these are anybody's, as far as the umask lets them.
fn for_all() -> Option<Permissions> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    #[cfg(not(unix))]
    return None;
}
