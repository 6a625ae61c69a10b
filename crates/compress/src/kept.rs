//! Finished pieces of a long computation in a folder, so that a killed process loses one piece and not hours.
//!
//! ```text
//! OUT.partial/job.json        what the pieces are of: model, text, program
//! OUT.partial/NAME            bytes of a piece, and their SHA-256
//! ```
//!
//! A piece appears whole or not at all. One that is damaged is not there. Pieces of another job are never used.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lossy_formats::{AtomicFile, WriteError};
use lossy_quant::DType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const JOB: &str = "job.json";
const DIGEST_BYTES: usize = 32;

/// What pieces depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobKey {
    /// what tells the model from others, in hexadecimal digits
    pub model: String,
    /// SHA-256 of the calibration text's tokens
    pub text: String,
    /// name and version of the program
    pub program: String,
}

/// The name of the piece that is a matrix in a type.
pub fn piece_name(tensor: &str, dtype: DType) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    let name: String = tensor.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    format!("{name}.{}", dtype.name())
}

/// A short name for whatever a piece depends on beside the job.
pub fn short_hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A folder of pieces.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// pieces of an earlier run
    #[error("{} is left of an earlier run: --resume goes on with it, or remove it", folder.display())]
    Left {
        /// the folder
        folder: PathBuf,
    },
    /// pieces of another job
    #[error("{} cannot be resumed: its {what} is {found}, and here it is {wanted}; remove it to begin anew", folder.display())]
    Other {
        /// the folder
        folder: PathBuf,
        /// which property
        what: &'static str,
        /// in the folder
        found: String,
        /// what is needed
        wanted: String,
    },
    /// something else is in its place
    #[error("{} is in the way: it holds no finished pieces of lossy's, so remove it or name another OUT", folder.display())]
    Foreign {
        /// the folder
        folder: PathBuf,
    },
    /// the disk
    #[error("{}: {error}", folder.display())]
    Io {
        /// the folder or a file in it
        folder: PathBuf,
        /// what went wrong
        error: io::Error,
    },
    /// a piece cannot be written
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl JobKey {
    /// Of a text's tokens.
    pub fn hash_of(tokens: &[u32]) -> String {
        let mut hash = Sha256::new();
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Kept {
    /// A folder without pieces; or, to go on with them, with those of the same job. Whether there are any.
    ///
    /// # Errors
    /// There are pieces and they are not wanted, or they are of another job; or the folder cannot be written.
    pub fn open(folder: &Path, key: &JobKey, goes_on: bool) -> Result<(Kept, bool), KeptError> {
        let path = folder.to_path_buf();
        let failed = |error| KeptError::Io { folder: folder.to_path_buf(), error };
        let kept = Kept { folder: path.clone() };
        match fs::read(folder.join(JOB)) {
            Ok(_) if !goes_on => return Err(KeptError::Left { folder: path }),
            Ok(bytes) => {
                let found: JobKey = serde_json::from_slice(&bytes)
                    .map_err(|_| KeptError::Foreign { folder: path.clone() })?;
                let short = |hash: &str| hash.chars().take(16).collect::<String>();
                let properties = [
                    ("model", short(&found.model), short(&key.model)),
                    ("calibration text", short(&found.text), short(&key.text)),
                    ("program", found.program.clone(), key.program.clone()),
                ];
                return match properties.into_iter().find(|(_, found, wanted)| found != wanted) {
                    Some((what, found, wanted)) => {
                        Err(KeptError::Other { folder: path, what, found, wanted })
                    }
                    None => Ok((kept, true)),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) if folder.exists() => return Err(KeptError::Foreign { folder: path }),
            Err(error) => return Err(failed(error)),
        }
        match fs::create_dir(folder) {
            // A process that was killed between the two steps leaves an empty folder.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
                if !is_empty {
                    return Err(KeptError::Foreign { folder: path });
                }
            }
            created => created.map_err(failed)?,
        }
        let mut file = AtomicFile::create(&folder.join(JOB))?;
        let written =
            serde_json::to_vec_pretty(key).map_err(io::Error::from).and_then(|json| file.write_all(&json));
        written.map_err(failed)?;
        file.commit()?;
        Ok((kept, false))
    }

    /// The bytes of a piece; `None`: it is not there, or not whole.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(name)).ok()?;
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if Sha256::digest(body).as_slice() != digest {
            return None;
        }
        bytes.truncate(bytes.len() - DIGEST_BYTES);
        Some(bytes)
    }

    /// Keeps a piece.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), KeptError> {
        let path = self.path(name);
        let mut file = AtomicFile::create(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.write_all(&Sha256::digest(bytes)));
        written.map_err(|error| KeptError::Io { folder: path, error })?;
        // Whoever reads it verifies its digest.
        file.commit_unsynced()?;
        Ok(())
    }

    /// A file of one's own in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether nothing is kept yet.
    pub fn is_empty(&self) -> bool {
        fs::read_dir(&self.folder)
            .is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == JOB))
    }

    /// Removes the folder and all pieces.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<(), KeptError> {
        fs::remove_dir_all(&self.folder).map_err(|error| KeptError::Io { folder: self.folder, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> JobKey {
        JobKey { model: "aa".into(), text: JobKey::hash_of(&[1, 2]), program: "lossy 1".into() }
    }

    #[test]
    fn pieces_are_found_again_by_the_same_job_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("small.gguf.partial");
        let (kept, is_resumed) = Kept::open(&folder, &key(), true).unwrap();
        assert!(!is_resumed && kept.get("a").is_none() && kept.is_empty());
        kept.put("a", b"bytes").unwrap();
        assert!(!kept.is_empty());
        let (kept, is_resumed) = Kept::open(&folder, &key(), true).unwrap();
        assert_eq!((is_resumed, kept.get("a").as_deref()), (true, Some(&b"bytes"[..])));
        let error = Kept::open(&folder, &key(), false).unwrap_err().to_string();
        assert!(error.contains("small.gguf.partial is left of an earlier run: --resume"), "{error}");
        let other = JobKey { text: JobKey::hash_of(&[1, 3]), ..key() };
        let error = Kept::open(&folder, &other, true).unwrap_err().to_string();
        assert!(error.contains("its calibration text is "), "{error}");
        kept.remove().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_piece_that_is_cut_or_changed_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let (kept, _) = Kept::open(&home.path().join("x"), &key(), false).unwrap();
        kept.put("a", b"some bytes").unwrap();
        let whole = fs::read(kept.path("a")).unwrap();
        for at in 0..whole.len() {
            fs::write(kept.path("a"), &whole[..at]).unwrap();
            assert!(kept.get("a").is_none(), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(kept.path("a"), changed).unwrap();
            assert!(kept.get("a").is_none(), "changed at {at}");
        }
    }

    #[test]
    fn what_is_no_folder_of_pieces_is_not_touched() {
        let home = tempfile::tempdir().unwrap();
        for (name, is_folder) in [("file", false), ("folder", true)] {
            let path = home.path().join(name);
            if is_folder {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("mine"), "mine").unwrap();
            } else {
                fs::write(&path, "mine").unwrap();
            }
            let error = Kept::open(&path, &key(), true).unwrap_err();
            assert!(matches!(error, KeptError::Foreign { .. }), "{error}");
            assert!(path.exists());
        }
    }
}
