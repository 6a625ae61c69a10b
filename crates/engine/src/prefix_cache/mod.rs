//! Documents stay loaded: pages outlive the sequences that read them, in memory and on disk.
//!
//! ```text
//! scope, setting ─► root ─► page ─► page ─► page ─► page ─► tail          a name is a hash of all that is before it
//!                              │      └──► page ─► …        (+ twin)
//!                              └──► page ─► …
//! find(prompt)    the longest beginning that is here and can be gone on from with the bits of a prompt read anew
//! keep(sequence)  what it has read becomes part of the tree; a call costs what is new
//! make_room       pages that no sequence holds go, least recently used first, leaves before what they follow
//! ```
//!
//! - A page of a packed scheme can be gone on from only where the pages that new tokens see as they are have their *twins*,
//!   the exact form. Twins are kept at the points that the caller calls resumable, and may go before the pages do.
//! - The last, incomplete page of a prompt is kept too, as a *tail*. A new prompt takes of it, or of any page that begins
//!   like its own, as many tokens as both have in common.
//! - A token that is computed alone is rounded in another way than one of several of its page, unless
//!   [`Cache::computes_alike`](crate::Cache::computes_alike). So a prompt that goes on inside a page leaves at least two of
//!   that page's tokens to be read, and a tail of one token is not kept.
//! - With a directory every page is also a file (see `disk`), and a process that starts finds what the last one kept.

mod disk;
mod find;
mod keep;
mod key;
mod note;
mod seen;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

pub use disk::ScopeUsage;
pub use find::{Found, Known};
pub use keep::Cursor;
pub use key::{NoScope, Scope};
pub use note::{Damage, Damaged, Note};

use crate::cache::HeldPage;
use disk::Disk;
use key::Key;
use seen::Seen;
use tree::{Part, Tree};

/// Where pages are kept, and how many.
#[derive(Clone, Debug, Default)]
pub struct PrefixCacheOptions {
    /// most bytes of pages in memory that no sequence holds; `None`: only the engine's budget limits them
    pub ram: Option<usize>,
    /// where pages are kept beyond the life of the process; `None`: nowhere
    pub directory: Option<PathBuf>,
    /// most bytes of files there
    pub disk: u64,
}

/// What a [`PrefixCache`] has and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixCacheStats {
    /// pages and tails in memory
    pub n_pages: usize,
    /// their bytes, twins included, those that sequences share too
    pub bytes: usize,
    /// bytes of those that no sequence holds
    pub bytes_idle: usize,
    /// pages and tails on disk
    pub n_disk_pages: usize,
    /// their bytes, twins included
    pub disk_bytes: u64,
    /// tokens of prompts that were found in memory
    pub n_hit_ram: u64,
    /// tokens of prompts that were found on disk
    pub n_hit_disk: u64,
    /// tokens of prompts that were not found
    pub n_missed: u64,
    /// pages, tails and twins that had to go from memory
    pub n_evicted: u64,
    /// files that had to go from the disk
    pub n_disk_evicted: u64,
    /// pages that were not written because the disk did not keep up
    pub n_not_written: u64,
    /// pages that the system did not let us write
    pub n_write_errors: u64,
    /// files that were damaged
    pub n_damaged: u64,
}

/// Pages of all sequences that were read, so that nobody reads the same beginning twice. It serves several caches of one
/// engine, and lives on the thread that runs it; only files are written by another.
///
/// What is kept counts against the engine's budget. When a forward pass finds no room,
/// [`make_room`](PrefixCache::make_room) gives pages back.
#[derive(Debug)]
pub struct PrefixCache {
    ram_limit: Option<usize>,
    ram: Tree<HeldPage>,
    disk: Option<Disk>,
    seen: Seen,
    /// counts calls: what is used now is more recent than what was used before
    clock: u64,
    counts: PrefixCacheStats,
    notes: Vec<Note>,
}

impl PrefixCache {
    /// An empty one, or with a directory one that has what is there. Temporary files of a process that was killed are
    /// removed.
    ///
    /// # Errors
    /// The directory cannot be made, read or written, or another process uses it.
    pub fn new(options: PrefixCacheOptions) -> io::Result<PrefixCache> {
        let disk = options.directory.map(|directory| Disk::open(directory, options.disk)).transpose()?;
        Ok(PrefixCache {
            ram_limit: options.ram,
            ram: Tree::default(),
            clock: disk.as_ref().map_or(0, Disk::n_stamps),
            disk,
            seen: Seen::default(),
            counts: PrefixCacheStats::default(),
            notes: Vec::new(),
        })
    }

    /// Gives pages back until `bytes` are free, or nothing is left that no sequence holds; returns the bytes that came free.
    /// What is on disk stays there.
    pub fn make_room(&mut self, bytes: usize) -> usize {
        let n_free = self.evict_idle(bytes);
        if n_free >= bytes || self.disk.is_none() {
            return n_free;
        }
        // A page that waits to be written is held until then.
        self.flush();
        n_free + self.evict_idle(bytes - n_free)
    }

    fn evict_idle(&mut self, bytes: usize) -> usize {
        let mut n_free = 0;
        let mut last = None;
        while n_free < bytes
            && let Some(rank) = self.ram.oldest(last)
        {
            last = Some(rank);
            if self.ram.get(&rank.key, rank.part).is_none_or(HeldPage::is_idle) {
                n_free += self.evict(&rank.key, rank.part);
            }
        }
        n_free
    }

    /// Bytes of pages in memory that no sequence holds. Looks at every page.
    pub fn bytes_idle(&self) -> usize {
        self.ram.values().filter(|(page, _)| page.is_idle()).map(|(_, bytes)| bytes as usize).sum()
    }

    /// Bytes of all pages in memory, those that sequences share too.
    pub fn bytes(&self) -> usize {
        self.ram.bytes() as usize
    }

    /// What it has and has done.
    pub fn stats(&self) -> PrefixCacheStats {
        PrefixCacheStats {
            n_pages: self.ram.len(),
            bytes: self.bytes(),
            bytes_idle: self.bytes_idle(),
            n_disk_pages: self.disk.as_ref().map_or(0, Disk::len),
            disk_bytes: self.disk.as_ref().map_or(0, Disk::bytes),
            n_disk_evicted: self.disk.as_ref().map_or(0, Disk::n_evicted),
            ..self.counts
        }
    }

    /// What happened since the last call that somebody should be told: a file that was damaged, a disk that is full.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.settle();
        std::mem::take(&mut self.notes)
    }

    /// Waits until everything that was kept is in files, as far as the disk takes it.
    pub fn flush(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.flush();
        }
        self.settle();
    }

    /// Erases one scope or all, in memory and on disk. Pages that a sequence holds live on with it alone.
    ///
    /// # Errors
    /// Files cannot be deleted.
    pub fn purge(&mut self, scope: Option<&Scope>) -> io::Result<()> {
        for key in self.ram.keys(scope) {
            self.ram.remove(&key, Part::Page);
            self.ram.remove(&key, Part::Twin);
        }
        self.seen.forget(scope);
        match &mut self.disk {
            Some(disk) => disk.purge(scope),
            None => Ok(()),
        }
    }

    /// What a directory has, by scope, the most recently used first. A process may be using it.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list_directory(directory: &Path) -> io::Result<Vec<ScopeUsage>> {
        disk::list_directory(directory)
    }

    /// Erases one scope or all from a directory that no process uses.
    ///
    /// # Errors
    /// A process uses it, which should be told to [purge](PrefixCache::purge) instead; or a file cannot be deleted.
    pub fn purge_directory(directory: &Path, scope: Option<&Scope>) -> io::Result<()> {
        disk::purge_directory(directory, scope)
    }

    /// What is on disk, by scope.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&mut self) -> io::Result<Vec<ScopeUsage>> {
        match &mut self.disk {
            Some(disk) => disk.list(),
            None => Ok(Vec::new()),
        }
    }

    fn tick(&mut self) -> u64 {
        self.settle();
        self.clock += 1;
        self.clock
    }

    /// Takes notice of what the disk has done meanwhile.
    fn settle(&mut self) {
        if let Some(disk) = &mut self.disk {
            let failed = disk.settle();
            self.counts.n_write_errors += failed.n_failed;
            self.notes.extend(failed.note);
        }
    }

    /// Whether a part is in memory or on disk.
    fn has(&self, key: &Key, part: Part) -> bool {
        self.ram.get(key, part).is_some() || self.disk.as_ref().is_some_and(|disk| disk.has(key, part))
    }

    fn touch(&mut self, key: &Key, part: Part, stamp: u64) {
        self.ram.touch(key, part, stamp);
        if let Some(disk) = &mut self.disk {
            disk.touch(key, part, stamp);
        }
    }

    /// Removes a part from memory; returns the bytes that came free.
    fn evict(&mut self, key: &Key, part: Part) -> usize {
        if part == Part::Page
            && let Some(place) = self.ram.place(key)
        {
            self.seen.add(place.scope, key);
        }
        let (removed, _) = self.ram.remove(key, part);
        self.counts.n_evicted += removed.len() as u64;
        removed.iter().filter(|(_, page)| page.is_idle()).map(|(_, page)| page.n_bytes()).sum()
    }

    /// Evicts what is beyond the limit of memory.
    fn limit_ram(&mut self) {
        if let Some(limit) = self.ram_limit
            && self.bytes() > limit
        {
            let beyond = self.bytes_idle().saturating_sub(limit);
            self.make_room(beyond);
        }
    }
}
