//! A file while it is fetched: its bytes on the disk and the hash of them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::checksum::{Checksum, Hasher, hash_file};
use crate::terminal::Transfer;

/// A file of which a part is there.
pub struct Partial {
    file: File,
    checksum: Checksum,
    hasher: Hasher,
    bytes: u64,
    total: u64,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection broke, or ended too early.
    #[error("the connection broke: {0}")]
    Network(io::Error),
    /// The disk is full, or so.
    #[error(transparent)]
    Disk(io::Error),
    /// More bytes than the hub announced.
    #[error("the hub announces {total} bytes and sends more")]
    TooLong {
        /// bytes announced
        total: u64,
    },
}

impl Partial {
    /// Opens what an earlier attempt left, or an empty file. `total`: bytes of the whole.
    pub fn open(path: &Path, total: u64, checksum: &Checksum) -> Result<Partial> {
        let context = || format!("opening {}", path.display());
        let file = File::options().append(true).create(true).open(path).with_context(context)?;
        let mut partial =
            Partial { file, checksum: checksum.clone(), hasher: checksum.hasher(total), bytes: 0, total };
        let existing = fs::metadata(path).with_context(context)?.len();
        if existing > total {
            partial.clear()?;
        } else if existing > 0 {
            partial.bytes = hash_file(path, &mut partial.hasher).with_context(context)?;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets them.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = self.checksum.hasher(self.total);
        self.bytes = 0;
        Ok(())
    }

    /// Appends a body until the whole is there.
    pub fn read_from(&mut self, body: &mut dyn Read, transfer: &Transfer) -> Result<(), ReadError> {
        transfer.set(self.bytes);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) if self.bytes < self.total => {
                    return Err(ReadError::Network(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ReadError::Network(error)),
            };
            if n as u64 > self.total - self.bytes {
                return Err(ReadError::TooLong { total: self.total });
            }
            self.file.write_all(&buffer[..n]).map_err(ReadError::Disk)?;
            self.hasher.update(&buffer[..n]);
            self.bytes += n as u64;
            transfer.set(self.bytes);
        }
    }

    /// Makes sure that the bytes are on the disk; returns their checksum in hexadecimal.
    pub fn finish(self) -> Result<String> {
        self.file.sync_all().context("writing it to the disk")?;
        Ok(self.hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn what_an_earlier_attempt_left_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.incomplete");
        let checksum = Checksum::sha256(HELLO).unwrap();
        let transfer = Transfer::start("x", 5, 0);
        let mut partial = Partial::open(&path, 5, &checksum).unwrap();
        let cut = partial.read_from(&mut &b"hel"[..], &transfer);
        assert!(matches!(cut, Err(ReadError::Network(_))), "{cut:?}");
        drop(partial);
        let mut partial = Partial::open(&path, 5, &checksum).unwrap();
        assert_eq!(partial.bytes(), 3);
        partial.read_from(&mut &b"lo"[..], &transfer).unwrap();
        assert_eq!(partial.finish().unwrap(), HELLO);
    }

    #[test]
    fn more_bytes_than_announced_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.incomplete");
        let mut partial = Partial::open(&path, 4, &Checksum::sha256(HELLO).unwrap()).unwrap();
        let result = partial.read_from(&mut &b"hello"[..], &Transfer::start("x", 4, 0));
        assert!(matches!(result, Err(ReadError::TooLong { total: 4 })), "{result:?}");
    }

    #[test]
    fn a_part_longer_than_the_whole_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.incomplete");
        fs::write(&path, "too long").unwrap();
        let mut partial = Partial::open(&path, 5, &Checksum::sha256(HELLO).unwrap()).unwrap();
        assert_eq!(partial.bytes(), 0);
        partial.read_from(&mut &b"hello"[..], &Transfer::start("x", 5, 0)).unwrap();
        assert_eq!(partial.finish().unwrap(), HELLO);
    }
}
