//! Files as memory. The only `unsafe` of this crate.
//!
//! A map is read-only and private to nobody: another program that rewrites or truncates the file while it is open
//! changes what is read, or ends this program with SIGBUS. Model files are written once, under another name, and moved
//! into place; whoever shortens an open one takes the consequences, as with every other program that maps it.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, mapped, or bytes that were never in one.
#[derive(Debug)]
pub(crate) enum Source {
    /// A mapped file.
    Map(memmap2::Mmap),
    /// Bytes in memory, for tests and for tools that make files.
    Bytes(Vec<u8>),
}

impl Source {
    /// Maps the file. An empty file has no map and gives no bytes.
    pub(crate) fn open(path: &Path) -> std::io::Result<Source> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Source::Bytes(Vec::new()));
        }
        // SAFETY: the map is read-only and lives as long as `self`; see the module text for writers of the same file.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Source::Map(map))
    }

    /// Tells the system that the pages are not needed for now. They are read from the file again when they are.
    pub(crate) fn release_pages(&self) {
        #[cfg(unix)]
        if let Source::Map(map) = self {
            // SAFETY: the map is shared and read-only, so no page has content that is not in the file; dropped pages
            // come back with the same bytes. The advice may be refused, which changes nothing.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Source::Map(map) => map,
            Source::Bytes(bytes) => bytes,
        }
    }
}
