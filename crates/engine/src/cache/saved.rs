//! A sequence in a file, so that a long document is read once.
//!
//! ```text
//! magic    "lossykv" and a byte for the version
//! [32]     fingerprint: model, calibration
//! u64      tokens; their ids, u32 each
//! u64      bytes of the scheme's name; the name
//! per page u8: 1 as it is, 2 packed, 3 both; then the bytes of those, as long as the scheme says
//! [32]     SHA-256 of everything before
//! ```
//! All integers are little-endian. Nothing in the file decides how much memory is taken but the number of tokens, which
//! is checked first.

use std::io::{self, Read, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::layout::PageKind;
use super::page::Page;
use super::sequence::Slot;
use super::{CacheError, KvPool, KvSequence, PAGE_TOKENS};

const MAGIC: &[u8; 8] = b"lossykv\x01";
const EXACT: u8 = 1;
const PACKED: u8 = 2;

/// Why a saved sequence cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// the file cannot be read or written
    #[error(transparent)]
    Io(#[from] io::Error),
    /// no room for it
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// another file, or one of another version
    #[error("this is not a saved KV cache of this version of lossy")]
    NotOurs,
    /// another model or calibration
    #[error("the KV cache was saved with another model or another calibration")]
    OtherModel,
    /// another scheme
    #[error("the KV cache was saved in the scheme {found}, but {wanted} is in use")]
    OtherScheme {
        /// the file's
        found: String,
        /// the one in use
        wanted: String,
    },
    /// more tokens than the context holds
    #[error("the saved KV cache has {n_tokens} tokens, but the context holds {n_ctx}")]
    TooLong {
        /// tokens of the file
        n_tokens: u64,
        /// tokens that the context holds
        n_ctx: usize,
    },
    /// not what was written
    #[error("the saved KV cache is damaged: {0}")]
    Damaged(&'static str),
}

/// Passes bytes on and hashes them.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashing<R> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), SavedError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => SavedError::Damaged("it ends too early"),
            _ => SavedError::Io(error),
        })?;
        self.hash.update(&*bytes);
        Ok(())
    }

    fn take_u64(&mut self) -> Result<u64, SavedError> {
        let mut bytes = [0; 8];
        self.take(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl KvSequence {
    /// Writes the sequence, whose tokens are `ids`. `fingerprint` names what the bytes depend on besides the scheme.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// # Panics
    /// There are not as many ids as tokens.
    pub fn save(&self, fingerprint: &[u8; 32], ids: &[u32], out: impl Write) -> io::Result<()> {
        assert_eq!(ids.len(), self.len(), "ids of the tokens");
        let mut out = Hashing { inner: out, hash: Sha256::new() };
        out.put(MAGIC)?;
        out.put(fingerprint)?;
        out.put(&(ids.len() as u64).to_le_bytes())?;
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        out.put(&bytes)?;
        let name = &self.pool().layout().name;
        out.put(&(name.len() as u64).to_le_bytes())?;
        out.put(name.as_bytes())?;
        // A fork does not have pages that are only reserved, which hold nothing.
        for slot in self.fork().slots() {
            let flags = EXACT * u8::from(slot.exact.is_some()) + PACKED * u8::from(slot.packed.is_some());
            out.put(&[flags])?;
            for page in [&slot.exact, &slot.packed].into_iter().flatten() {
                out.put(page.bytes())?;
            }
        }
        let digest = out.hash.finalize();
        out.inner.write_all(&digest)?;
        out.inner.flush()
    }
}

impl KvPool {
    /// Reads a sequence that was [saved](KvSequence::save), and the ids of its tokens; at most `n_ctx` of them.
    ///
    /// # Errors
    /// See [`SavedError`]; nothing of the pool is taken then.
    pub fn restore(
        self: &Arc<Self>,
        fingerprint: &[u8; 32],
        n_ctx: usize,
        input: impl Read,
    ) -> Result<(KvSequence, Vec<u32>), SavedError> {
        let mut input = Hashing { inner: input, hash: Sha256::new() };
        let mut magic = [0; 8];
        input.take(&mut magic).map_err(|_| SavedError::NotOurs)?;
        if magic != *MAGIC {
            return Err(SavedError::NotOurs);
        }
        let mut found = [0; 32];
        input.take(&mut found)?;
        if found != *fingerprint {
            return Err(SavedError::OtherModel);
        }
        let n_tokens = input.take_u64()?;
        let len = usize::try_from(n_tokens).ok().filter(|len| *len <= n_ctx);
        let len = len.ok_or(SavedError::TooLong { n_tokens, n_ctx })?;
        let mut ids = vec![0; 4 * len];
        input.take(&mut ids)?;
        let ids = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        let wanted = &self.layout().name;
        let n_name = input.take_u64()?;
        if n_name > 1000 {
            return Err(SavedError::Damaged("its scheme has no name"));
        }
        let mut name = vec![0; n_name as usize];
        input.take(&mut name)?;
        if name != wanted.as_bytes() {
            let found = String::from_utf8_lossy(&name).into_owned();
            return Err(SavedError::OtherScheme { found, wanted: wanted.clone() });
        }
        let mut slots = Vec::new();
        for index in 0..len.div_ceil(PAGE_TOKENS) {
            let mut flags = [0];
            input.take(&mut flags)?;
            let mut page = |flag: u8, kind: PageKind| -> Result<Option<Arc<Page>>, SavedError> {
                if flags[0] & flag == 0 {
                    return Ok(None);
                }
                let mut page = self.take(&[kind])?.pop().ok_or(SavedError::Damaged("it has no page"))?;
                input.take(page.bytes_mut())?;
                Ok(Some(Arc::new(page)))
            };
            if flags[0] == 0 || flags[0] > EXACT + PACKED || flags[0] & PACKED != 0 && self.packed().is_none()
            {
                return Err(SavedError::Damaged("a page is of no known kind"));
            }
            let exact = page(EXACT, PageKind::Exact)?;
            let packed = page(PACKED, if index == 0 { PageKind::First } else { PageKind::Packed })?;
            slots.push(Slot { exact, packed });
        }
        let digest: [u8; 32] = input.hash.finalize_reset().into();
        let mut written = [0; 32];
        input.take(&mut written)?;
        if digest != written {
            return Err(SavedError::Damaged("its checksum is wrong"));
        }
        Ok((KvSequence::of_slots(self.clone(), slots, len), ids))
    }
}
