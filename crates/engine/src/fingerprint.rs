//! What tells a model from others: SHA-256 of its files, piece by piece, so that all cores take part.
//!
//! ```text
//! fingerprint = SHA-256(for each file: its length u64; SHA-256 of each 4 MiB of it)
//! ```
//!
//! All of a file counts. A fine-tune changes every tensor, but a file can be patched anywhere, and what is kept of a model
//! (calibration, certificates, prompt caches) is not to be used for another one.

use std::fmt;
use std::thread;

use sha2::{Digest, Sha256};

use crate::Hex;

/// Bytes that are hashed by one thread.
const PIECE: usize = 4 << 20;
/// Pieces of a thread before the next threads are started.
const PIECES_PER_THREAD: usize = 8;

/// What tells a model from others. Printed as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl AsRef<[u8]> for Fingerprint {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl Fingerprint {
    /// Of files. `release` is called now and then: what was read so far is not needed any more.
    pub(crate) fn of<'a>(files: impl Iterator<Item = &'a [u8]>, release: &dyn Fn()) -> Fingerprint {
        let n_threads = thread::available_parallelism().map_or(1, usize::from);
        let mut hash = Sha256::new();
        for file in files {
            hash.update((file.len() as u64).to_le_bytes());
            for wave in file.chunks(PIECE * PIECES_PER_THREAD * n_threads) {
                let digests = |own: &[u8]| own.chunks(PIECE).map(Sha256::digest).collect::<Vec<_>>();
                thread::scope(|scope| {
                    let threads: Vec<_> = wave
                        .chunks(PIECE * PIECES_PER_THREAD)
                        .map(|own| scope.spawn(move || digests(own)))
                        .collect();
                    for thread in threads {
                        thread
                            .join()
                            .expect("a hash does not panic")
                            .iter()
                            .for_each(|digest| hash.update(digest));
                    }
                });
                release();
            }
        }
        Fingerprint(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&[u8]]) -> Fingerprint {
        Fingerprint::of(files.iter().copied(), &|| ())
    }

    #[test]
    fn every_byte_counts_and_so_does_where_a_file_ends() {
        let file: Vec<u8> = (0..2 * PIECE + 5).map(|at| (at % 251) as u8).collect();
        let found = of(&[&file]);
        assert_eq!(found, of(&[&file]));
        for at in [0, 4096, PIECE - 1, PIECE, PIECE + 7, file.len() - 1] {
            let mut patched = file.clone();
            patched[at] ^= 1;
            assert_ne!(found, of(&[&patched]), "byte {at}");
        }
        assert_ne!(found, of(&[&file[..file.len() - 1]]));
        assert_ne!(found, of(&[&file, &[]]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    }

    #[test]
    fn the_layout_is_the_one_that_is_documented() {
        let mut wanted = Sha256::new();
        wanted.update([3, 0, 0, 0, 0, 0, 0, 0]);
        wanted.update(Sha256::digest(b"abc"));
        assert_eq!(of(&[b"abc"]).as_ref(), wanted.finalize().as_slice());
    }
}
