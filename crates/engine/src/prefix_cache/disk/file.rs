//! One part of one page in a file.
//!
//! ```text
//! magic    "lossypg" and a byte for the version
//! u32      part: 0 page, 1 twin; u32 tokens; u64 bytes of the page
//! [32] × 4 key, parent, scope, SHA-256 of the saved key of the cache
//! u32 …    ids of the tokens
//! …        bytes of the page, as its KV scheme lays them out
//! [32]     SHA-256 of everything before; nothing follows
//! ```
//! All integers are little-endian. Whoever reads a page knows everything before its bytes, so it must be equal; only the
//! tokens of a tail are looked up. Nothing in a file decides how much memory is taken.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use lossy_formats::AtomicFile;
use sha2::{Digest, Sha256};

use super::Damaged;
use crate::cache::{CacheError, HeldPage, PAGE_TOKENS};
use crate::prefix_cache::note::Damage;
use crate::prefix_cache::tree::{Part, Place};

const MAGIC: &[u8; 8] = b"lossypg\x01";
/// Bytes of the magic that all versions share.
const N_OURS: usize = 7;
/// Bytes before the ids.
const HEAD_BYTES: usize = 8 + 4 + 4 + 8 + 4 * 32;
const DIGEST_BYTES: usize = 32;

/// Why a page cannot be had from the disk.
pub(in crate::prefix_cache) enum ReadError {
    /// it is not there any more: somebody deleted the file, or it was damaged
    Gone(Option<Damaged>),
    /// there is no room in memory
    Cache(CacheError),
}

/// Why a file was not read.
pub(super) enum Failure {
    Damage(Damage),
    Cache(CacheError),
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Failure {
        Failure::Cache(error)
    }
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Failure {
        Failure::Damage(damage)
    }
}

/// What stands before the bytes of a page.
pub(super) struct Head<'a> {
    pub place: &'a Place,
    pub part: Part,
    pub setting: &'a [u8; 32],
    pub tokens: &'a [u32],
    pub n_bytes: usize,
}

impl Head<'_> {
    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        (HEAD_BYTES + 4 * self.tokens.len() + self.n_bytes + DIGEST_BYTES) as u64
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 4 * self.tokens.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u32::from(self.part == Part::Twin).to_le_bytes());
        bytes.extend_from_slice(&(self.tokens.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.n_bytes as u64).to_le_bytes());
        bytes.extend_from_slice(self.place.key.bytes());
        bytes.extend_from_slice(self.place.parent.bytes());
        bytes.extend_from_slice(self.place.scope.bytes());
        bytes.extend_from_slice(self.setting);
        bytes.extend(self.tokens.iter().flat_map(|id| id.to_le_bytes()));
        bytes
    }
}

/// Writes a file that appears whole or not at all.
pub(super) fn write(path: &Path, head: &[u8], page: &[u8]) -> io::Result<()> {
    let digest = Sha256::new_with_prefix(head).chain_update(page).finalize();
    let mut file = AtomicFile::create_private(path)?;
    file.write_all(head)?;
    file.write_all(page)?;
    file.write_all(&digest)?;
    // A reader verifies the checksum, so a power failure does no harm.
    Ok(file.commit_unsynced()?)
}

/// Reads a page that must have the given head. `fill` makes the page, and calls back for its bytes.
pub(super) fn read_page(
    path: &Path,
    head: &Head<'_>,
    fill: impl FnOnce(&mut dyn FnMut(&mut [u8]) -> Result<(), Failure>) -> Result<HeldPage, Failure>,
) -> Result<HeldPage, Failure> {
    let mut file = File::open(path).map_err(Damage::Io)?;
    let wanted = head.bytes();
    let mut found = vec![0; wanted.len()];
    read_ours(&mut file, &mut found)?;
    if found != wanted {
        return Err(Damage::Damaged("its head is not that of the page it is named after").into());
    }
    let length = file.metadata().map_err(Damage::Io)?.len();
    if length != head.file_bytes() {
        return Err(Damage::Damaged("it has another length than its head says").into());
    }
    fill(&mut |bytes| {
        let mut digest = [0; DIGEST_BYTES];
        file.read_exact(bytes).and_then(|()| file.read_exact(&mut digest)).map_err(damage_of)?;
        let sum = Sha256::new_with_prefix(&found).chain_update(&*bytes).finalize();
        match sum.as_slice() == digest {
            true => Ok(()),
            false => Err(Damage::Damaged("its checksum is wrong").into()),
        }
    })
}

/// The tokens of the tail in a file.
pub(super) fn read_tokens(path: &Path, place: &Place) -> Result<Vec<u32>, Damage> {
    let mut file = File::open(path).map_err(Damage::Io)?;
    let mut head = [0; HEAD_BYTES];
    read_ours(&mut file, &mut head)?;
    let n_tokens = (place.n_tokens as usize).min(PAGE_TOKENS);
    let mut ids = vec![0; 4 * n_tokens];
    file.read_exact(&mut ids).map_err(damage_of)?;
    let tokens: Vec<u32> = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    match place.parent.child(&tokens) == place.key {
        true => Ok(tokens),
        false => Err(Damage::Damaged("its tokens are not those that it is named after")),
    }
}

/// Reads the beginning of a file, if it is one of ours.
fn read_ours(file: &mut File, head: &mut [u8]) -> Result<(), Damage> {
    let (magic, rest) = head.split_at_mut(MAGIC.len());
    let mut n_read = 0;
    while n_read < magic.len() {
        match file.read(&mut magic[n_read..]) {
            Ok(0) => break,
            Ok(n) => n_read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Damage::Io(error)),
        }
    }
    let n_ours = n_read.min(N_OURS);
    if magic[..n_ours] != MAGIC[..n_ours] || n_read == MAGIC.len() && magic != MAGIC {
        return Err(Damage::NotOurs);
    }
    if n_read < MAGIC.len() {
        return Err(Damage::Damaged("it ends too early"));
    }
    file.read_exact(rest).map_err(damage_of)
}

fn damage_of(error: io::Error) -> Damage {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Damage::Damaged("it ends too early"),
        _ => Damage::Io(error),
    }
}
