//! Checksums: what a file must hash to, and reading files through a hash.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lossy_engine::Hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What the content of a file is known to hash to. The hub names its blobs by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256 of the content: large files
    Sha256(String),
    /// Git's own: SHA-1 of `blob LENGTH\0` and the content: small files
    Git(String),
}

impl Checksum {
    /// A checksum in hexadecimal, which is also safe as a file name.
    pub fn sha256(hex: &str) -> Option<Checksum> {
        is_hex(hex, 64).then(|| Checksum::Sha256(hex.to_ascii_lowercase()))
    }

    /// A checksum in hexadecimal, which is also safe as a file name.
    pub fn git(hex: &str) -> Option<Checksum> {
        is_hex(hex, 40).then(|| Checksum::Git(hex.to_ascii_lowercase()))
    }

    /// In hexadecimal: the blob's name in the cache.
    pub fn hex(&self) -> &str {
        match self {
            Checksum::Sha256(hex) | Checksum::Git(hex) => hex,
        }
    }

    /// A hash to feed the content of a file of `bytes` bytes to.
    pub fn hasher(&self, bytes: u64) -> Hasher {
        match self {
            Checksum::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Checksum::Git(_) => {
                let mut hash = Sha1::new();
                hash.update(format!("blob {bytes}\0"));
                Hasher::Git(hash)
            }
        }
    }
}

/// The hash of what has been read so far.
#[derive(Clone)]
pub enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Git(hash) => hash.update(bytes),
        }
    }

    /// In hexadecimal.
    pub fn finish(self) -> String {
        match self {
            Hasher::Sha256(hash) => Hex(&hash.finalize()).to_string(),
            Hasher::Git(hash) => Hex(&hash.finalize()).to_string(),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// Feeds a file to a hash; returns its length.
pub fn hash_file(path: &Path, hasher: &mut Hasher) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..n]);
        length += n as u64;
    }
}

fn is_hex(text: &str, n_digits: usize) -> bool {
    text.len() == n_digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(checksum: &Checksum, content: &[u8]) -> String {
        let mut hasher = checksum.hasher(content.len() as u64);
        content.chunks(3).for_each(|part| hasher.update(part));
        hasher.finish()
    }

    #[test]
    fn the_two_hashes_are_those_of_sha256sum_and_git_hash_object() {
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hash(&Checksum::sha256(sha256).unwrap(), b"hello"), sha256);
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        assert_eq!(hash(&Checksum::git(git).unwrap(), b"hello"), git);
    }

    #[test]
    fn only_hexadecimal_of_the_right_length_is_a_checksum() {
        assert_eq!(Checksum::git("../../../../../../../../../../../etc/pass"), None);
        assert_eq!(Checksum::sha256("abc"), None);
    }
}
