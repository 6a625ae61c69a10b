//! Pages in files, so that a process that starts anew has what the last one read.
//!
//! ```text
//! DIRECTORY/lock                                  held by the process that uses it
//! DIRECTORY/SCOPE/ab/KEY-PARENT.page              one part of one page: see `file`
//!                    KEY-PARENT.twin              "ab" are the first two digits of KEY
//!                    KEY-PARENT.57.tail           of 57 tokens
//! ```
//! Names say all that is needed to know what is there, so a start reads no file. A thread writes; whoever keeps a page never
//! waits for it. Files appear whole: what a killed process leaves behind is a temporary file, which the next start removes.
//! The time of a file's last change says when its page was last used.

mod directory;
mod file;
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use directory::ScopeUsage;
pub(super) use directory::{list_directory, purge_directory};
pub(super) use file::ReadError;

use super::key::{Key, Scope};
use super::note::{Damage, Damaged, Note};
use super::tree::{Part, Place, Tree};
use crate::cache::{HeldKind, HeldPage, KvPool};
use directory::Entry;
use file::Head;
use writer::{Job, Writer};

/// Tails whose tokens are looked up for one prompt at most.
const MOST_TAILS: usize = 64;
/// How exactly the disk knows when a page was last used.
const TOUCH_EVERY: Duration = Duration::from_secs(300);

/// The files of one directory.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    /// locked as long as it is open
    _lock: File,
    limit: u64,
    /// of each file when it was last touched
    files: Tree<SystemTime>,
    writer: Writer,
    n_evicted: u64,
    /// whether the last file could not be written
    is_failing: bool,
}

/// What has become of writes.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub n_failed: u64,
    pub note: Option<Note>,
}

/// A page that was read.
pub(super) struct Read {
    pub page: HeldPage,
    pub place: Place,
    pub tokens: Vec<u32>,
}

impl Disk {
    /// Uses a directory, which is made if it is not there, for at most `limit` bytes.
    pub fn open(directory: PathBuf, limit: u64) -> io::Result<Disk> {
        directory::create(&directory)?;
        let lock = directory::lock(&directory)?;
        let mut entries = directory::scan(&directory, directory::Leftovers::Removed)?;
        entries.sort_by_key(|entry| entry.used);
        let mut files = Tree::default();
        for (stamp, Entry { place, part, bytes, used }) in (1..).zip(entries) {
            files.insert(place, part, used, bytes, stamp);
        }
        let writer = Writer::start()?;
        let mut disk = Disk { directory, _lock: lock, limit, files, writer, n_evicted: 0, is_failing: false };
        disk.keep_within(limit);
        Ok(disk)
    }

    /// More than any stamp so far.
    pub fn n_stamps(&self) -> u64 {
        2 * self.files.len() as u64
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    pub fn n_evicted(&self) -> u64 {
        self.n_evicted
    }

    pub fn has(&self, key: &Key, part: Part) -> bool {
        self.files.get(key, part).is_some()
    }

    pub fn is_tail(&self, key: &Key) -> bool {
        self.files.place(key).is_some_and(|place| place.is_tail())
    }

    /// The pages that follow one, as far as their tokens are known.
    pub fn children(&self, parent: &Key) -> impl Iterator<Item = (Key, &[u32])> {
        self.files.children(parent).filter_map(|key| Some((*key, self.files.tokens(key)?)))
    }

    /// A page is used now.
    pub fn touch(&mut self, key: &Key, part: Part, stamp: u64) {
        self.files.touch(key, part, stamp);
        let Some(place) = self.files.place(key) else { return };
        let now = SystemTime::now();
        if let Some(touched) = self.files.get_mut(key, part)
            && now.duration_since(*touched).is_ok_and(|age| age > TOUCH_EVERY)
        {
            *touched = now;
            self.writer.send(Job::Touch(directory::path(&self.directory, &place, part)));
        }
    }

    /// Finds out the tokens of tails that follow a page. Returns files that are damaged.
    pub fn learn_tails(&mut self, parent: &Key) -> Vec<Damaged> {
        let is_unknown = |key: &&Key| self.is_tail(key) && self.files.tokens(key).is_none();
        let unknown: Vec<Key> =
            self.files.children(parent).filter(is_unknown).take(MOST_TAILS).copied().collect();
        let mut damaged = Vec::new();
        for key in unknown {
            let Some(place) = self.files.place(&key) else { continue };
            let path = directory::path(&self.directory, &place, Part::Page);
            match file::read_tokens(&path, &place) {
                Ok(tokens) => self.files.set_tokens(&key, &tokens),
                Err(damage) => damaged.extend(self.give_up(&key, Part::Page, damage)),
            }
        }
        damaged
    }

    /// Puts a part in a file, unless it is in one already or no file may be so large. Returns `false` if there are too many
    /// that wait to be written.
    pub fn write(
        &mut self,
        setting: &[u8; 32],
        place: Place,
        part: Part,
        tokens: &[u32],
        page: &HeldPage,
        stamp: u64,
    ) -> bool {
        if self.has(&place.key, part) {
            self.touch(&place.key, part, stamp);
            return true;
        }
        let head = Head { place: &place, part, setting, tokens, n_bytes: page.n_bytes() };
        let bytes = head.file_bytes();
        if bytes > self.limit {
            return true;
        }
        if !self.writer.has_room() {
            return false;
        }
        // What goes is deleted before what comes is written.
        self.keep_within(self.limit - bytes);
        self.files.insert(place, part, SystemTime::now(), bytes, stamp);
        self.files.set_tokens(&place.key, tokens);
        self.writer.send(Job::Write {
            key: place.key,
            part,
            path: directory::path(&self.directory, &place, part),
            head: head.bytes(),
            page: page.clone(),
        });
        true
    }

    /// Reads a part of the page at place `index` of a text. `tokens` are those that it must have; a tail has those that it
    /// was learnt to have.
    pub fn read(
        &mut self,
        key: &Key,
        part: Part,
        (index, kind): (usize, HeldKind),
        tokens: Option<&[u32]>,
        setting: &[u8; 32],
        pool: &Arc<KvPool>,
    ) -> Result<Read, ReadError> {
        let tokens = tokens.or_else(|| self.files.tokens(key)).map(<[u32]>::to_vec);
        let Some((place, tokens)) = self.files.place(key).filter(|_| self.has(key, part)).zip(tokens) else {
            self.files.remove(key, part);
            return Err(ReadError::Gone(None));
        };
        let place = Place { depth: index as u32, ..place };
        let n_bytes = pool.bytes_of_page(index, kind);
        let head = Head { place: &place, part, setting, tokens: &tokens, n_bytes };
        let path = directory::path(&self.directory, &place, part);
        match file::read_page(&path, &head, |fill| pool.fill_page(index, kind, fill)) {
            Ok(page) => {
                self.files.set_tokens(key, &tokens);
                Ok(Read { page, place, tokens })
            }
            Err(file::Failure::Cache(error)) => Err(ReadError::Cache(error)),
            Err(file::Failure::Damage(damage)) => Err(ReadError::Gone(self.give_up(key, part, damage))),
        }
    }

    /// Forgets a file that is of no use, and deletes it if it is ours.
    fn give_up(&mut self, key: &Key, part: Part, damage: Damage) -> Option<Damaged> {
        let place = self.files.place(key)?;
        let file = directory::path(&self.directory, &place, part);
        match damage {
            Damage::Damaged(_) => self.delete(key, part),
            Damage::NotOurs | Damage::Io(_) => {
                self.files.remove(key, part);
            }
        }
        // Somebody deleted it: no damage.
        let is_gone = matches!(&damage, Damage::Io(error) if error.kind() == io::ErrorKind::NotFound);
        (!is_gone).then_some(Damaged { file, damage })
    }

    /// Deletes a part, and the twin with its page.
    pub fn delete(&mut self, key: &Key, part: Part) {
        let Some(place) = self.files.place(key) else { return };
        for (part, _) in self.files.remove(key, part).0 {
            self.writer.send(Job::Delete(directory::path(&self.directory, &place, part)));
        }
    }

    /// Deletes what was not used for longest until at most `limit` bytes are left.
    fn keep_within(&mut self, limit: u64) {
        while self.files.bytes() > limit
            && let Some(rank) = self.files.oldest(None)
        {
            self.delete(&rank.key, rank.part);
            self.n_evicted += 1;
        }
    }

    /// Takes notice of what was written and what was not.
    pub fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        for outcome in self.writer.outcomes() {
            match outcome.result {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    self.files.remove(&outcome.key, outcome.part);
                    settled.n_failed += 1;
                    if !std::mem::replace(&mut self.is_failing, true) {
                        settled.note = Some(Note::NotWritten(error));
                    }
                }
            }
        }
        settled
    }

    /// Waits for the writer.
    pub fn flush(&mut self) {
        self.writer.wait();
    }

    /// Deletes all files of a scope, or of all.
    pub fn purge(&mut self, scope: Option<&Scope>) -> io::Result<()> {
        for key in self.files.keys(scope) {
            self.files.remove(&key, Part::Page);
            self.files.remove(&key, Part::Twin);
        }
        self.writer.wait();
        directory::purge(&self.directory, scope)
    }

    /// What is there, by scope.
    pub fn list(&mut self) -> io::Result<Vec<ScopeUsage>> {
        self.writer.wait();
        list_directory(&self.directory)
    }
}

/// Makes a file's page the most recent one for the next process.
fn touch(path: &std::path::Path) -> io::Result<()> {
    fs::File::open(path)?.set_modified(SystemTime::now())
}
