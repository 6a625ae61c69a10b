//! A sequence in a file, so that a long document is read once.
//!
//! ```text
//! magic    "lossykv" and a byte for the version
//! [32]     SHA-256 of the key
//! u64      tokens; their ids, u32 each
//! u64      bytes of the key; the key: all that the bytes below depend on, a line each
//! per page u8: 1 as it is, 2 packed, 3 both; then the bytes of those, as long as the scheme says
//! [32]     SHA-256 of everything before; nothing follows
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

const MAGIC: &[u8; 8] = b"lossykv\x02";
/// Longest key that is read: a scheme may name every layer.
const MAX_KEY_BYTES: u64 = 1 << 16;
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
    /// made with something else
    #[error("the saved KV cache is of another setting: its {what} is {found}, but {wanted} is in use")]
    Other {
        /// which line of the key
        what: String,
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

/// What the bytes of a saved sequence depend on: names and values, of which none may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedKey {
    lines: Vec<(&'static str, String)>,
}

impl SavedKey {
    /// From names and values in a fixed order; an error tells the first that differs. Neither has line ends or tabs.
    pub fn new(lines: Vec<(&'static str, String)>) -> SavedKey {
        debug_assert!(lines.iter().all(|(what, value)| !format!("{what}{value}").contains(['\n', '\t'])));
        SavedKey { lines }
    }

    fn text(&self) -> String {
        self.lines.iter().map(|(what, value)| format!("{what}\t{value}\n")).collect()
    }

    /// Tells it from other keys.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text()).into()
    }

    /// What a file with another key has instead.
    fn difference(&self, found: &str) -> SavedError {
        let found: Vec<(&str, &str)> = found.lines().filter_map(|line| line.split_once('\t')).collect();
        let value_of = |what: &str| found.iter().find(|(name, _)| *name == what).map(|(_, value)| *value);
        for (what, wanted) in &self.lines {
            let found = value_of(what);
            if found != Some(wanted) {
                let found = found.unwrap_or("not stated").to_string();
                return SavedError::Other { what: (*what).to_string(), found, wanted: wanted.clone() };
            }
        }
        SavedError::Damaged("its key is of no use")
    }
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

    /// The key's text.
    fn take_key(&mut self) -> Result<Vec<u8>, SavedError> {
        let n_bytes = self.take_u64()?;
        if n_bytes > MAX_KEY_BYTES {
            return Err(SavedError::Damaged("its key is too long"));
        }
        let mut text = vec![0; n_bytes as usize];
        self.take(&mut text)?;
        Ok(text)
    }

    /// Passes over the ids of a file that is not of `key`, and tells by its own key why.
    fn other(mut self, key: &SavedKey, digest: [u8; 32], n_tokens: u64) -> SavedError {
        let n_bytes = n_tokens.saturating_mul(4);
        match io::copy(&mut (&mut self.inner).take(n_bytes), &mut io::sink()) {
            Ok(n) if n == n_bytes => {}
            Ok(_) => return SavedError::Damaged("it ends too early"),
            Err(error) => return SavedError::Io(error),
        }
        let text = match self.take_key() {
            Ok(text) => text,
            Err(error) => return error,
        };
        match String::from_utf8(text) {
            Ok(text) if Sha256::digest(&text).as_slice() == digest => key.difference(&text),
            _ => SavedError::Damaged("its key is not the one that it was saved with"),
        }
    }
}

impl KvSequence {
    /// Writes the sequence, whose tokens are `ids`. `key` names what the bytes depend on.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// # Panics
    /// There are not as many ids as tokens.
    pub fn save(&self, key: &SavedKey, ids: &[u32], out: impl Write) -> io::Result<()> {
        assert_eq!(ids.len(), self.len(), "ids of the tokens");
        let mut out = Hashing { inner: out, hash: Sha256::new() };
        out.put(MAGIC)?;
        let key = key.text();
        out.put(&Sha256::digest(&key))?;
        out.put(&(ids.len() as u64).to_le_bytes())?;
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        out.put(&bytes)?;
        out.put(&(key.len() as u64).to_le_bytes())?;
        out.put(key.as_bytes())?;
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
        key: &SavedKey,
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
        let n_tokens = input.take_u64()?;
        let text = key.text();
        if Sha256::digest(&text).as_slice() != found {
            return Err(input.other(key, found, n_tokens));
        }
        let len = usize::try_from(n_tokens).ok().filter(|len| *len <= n_ctx);
        let len = len.ok_or(SavedError::TooLong { n_tokens, n_ctx })?;
        let mut ids = vec![0; 4 * len];
        input.take(&mut ids)?;
        let ids = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        if input.take_key()? != text.as_bytes() {
            return Err(SavedError::Damaged("its key is not the one that it was saved with"));
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
        if io::copy(&mut input.inner.by_ref().take(1), &mut io::sink())? > 0 {
            return Err(SavedError::Damaged("something follows its end"));
        }
        Ok((KvSequence::of_slots(self.clone(), slots, len), ids))
    }
}
