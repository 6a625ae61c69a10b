//! Files as memory. The only `unsafe` of this crate.
//!
//! A map is read-only and private to nobody: another program that rewrites or truncates the file while it is open
//! changes what is read, or ends this program with SIGBUS. Model files are written once, under another name, and moved
//! into place; whoever shortens an open one takes the consequences, as with every other program that maps it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Seek};
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
        Source::of_file(&mut File::open(path)?)
    }

    /// Maps an open file, which may have no name any more.
    pub(crate) fn of_file(file: &mut File) -> std::io::Result<Source> {
        if file.metadata()?.len() == 0 {
            return Ok(Source::Bytes(Vec::new()));
        }
        if cfg!(miri) {
            // Miri cannot map files.
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            return Ok(Source::Bytes(bytes));
        }
        // SAFETY: the map is read-only and lives as long as `self`; see the module text for writers of the same file.
        let map = unsafe { memmap2::Mmap::map(&*file)? };
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

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::Source;

    /// Kilobytes of the file's map that are in memory, by the system's own account.
    fn resident_kb(path: &str) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut after = maps.lines().skip_while(|line| !line.ends_with(path));
        let rss = after.find_map(|line| line.strip_prefix("Rss:"));
        rss.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn released_pages_leave_memory_and_come_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pages");
        std::fs::write(&path, vec![7; 4 << 20]).unwrap();
        let name = path.to_str().unwrap();
        let source = Source::open(&path).unwrap();
        let sum = |source: &Source| source.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        assert_eq!(sum(&source), 7 << 22);
        assert_eq!(resident_kb(name), 4 << 10);
        source.release_pages();
        assert_eq!(resident_kb(name), 0);
        assert_eq!(sum(&source), 7 << 22);
    }
}
