//! What lies in the directory: names of files, and who owns them.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache::PAGE_TOKENS;
use crate::prefix_cache::key::{Key, Scope};
use crate::prefix_cache::tree::{Part, Place};

/// A file of one part of a page.
pub(super) struct Entry {
    /// of unknown depth
    pub place: Place,
    pub part: Part,
    pub bytes: u64,
    pub used: SystemTime,
}

/// What is done with temporary files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// nobody writes, so they are of a process that was killed
    Removed,
    /// somebody may be writing
    Left,
}

/// What one scope has on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeUsage {
    /// whose
    pub scope: Scope,
    /// pages and tails
    pub n_pages: usize,
    /// tokens of both
    pub n_tokens: usize,
    /// bytes of all files
    pub bytes: u64,
    /// when one of them was last used
    pub last_used: SystemTime,
}

/// What is there, by scope, the most recently used first.
pub fn list_directory(directory: &Path) -> io::Result<Vec<ScopeUsage>> {
    let mut scopes: BTreeMap<Scope, ScopeUsage> = BTreeMap::new();
    for Entry { place, part, bytes, used } in scan(directory, Leftovers::Left)? {
        let scope = place.scope;
        let empty = ScopeUsage { scope, n_pages: 0, n_tokens: 0, bytes: 0, last_used: used };
        let usage = scopes.entry(scope).or_insert(empty);
        if part == Part::Page {
            usage.n_pages += 1;
            usage.n_tokens += place.n_tokens as usize;
        }
        usage.bytes += bytes;
        usage.last_used = usage.last_used.max(used);
    }
    let mut scopes: Vec<ScopeUsage> = scopes.into_values().collect();
    scopes.sort_by_key(|usage| std::cmp::Reverse(usage.last_used));
    Ok(scopes)
}

/// Deletes all files of a scope, or of all, from a directory that no process uses.
pub fn purge_directory(directory: &Path, scope: Option<&Scope>) -> io::Result<()> {
    let _lock = lock(directory)?;
    purge(directory, scope)
}

/// Deletes all files of a scope, or of all.
pub(super) fn purge(directory: &Path, scope: Option<&Scope>) -> io::Result<()> {
    let found = folders(directory)?.into_iter().filter_map(|folder| Some((scope_of(&folder)?, folder)));
    for (_, folder) in found.filter(|(of, _)| scope.is_none_or(|scope| scope == of)) {
        fs::remove_dir_all(folder.path())?;
    }
    Ok(())
}

/// Makes a directory that only its owner may look into, unless it is there.
pub(super) fn create(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Makes this process the only one that uses a directory, until the file is closed.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).open(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let text = format!("another process keeps its pages in {}", directory.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The file of a part.
pub(super) fn path(directory: &Path, place: &Place, part: Part) -> PathBuf {
    let Place { key, parent, scope, n_tokens, .. } = place;
    let digits = key.to_string();
    let end = match part {
        Part::Twin => "twin".to_string(),
        Part::Page if place.is_tail() => format!("{n_tokens}.tail"),
        Part::Page => "page".to_string(),
    };
    directory.join(scope.to_string()).join(&digits[..2]).join(format!("{digits}-{parent}.{end}"))
}

/// All files of pages. Other files are passed over.
pub(super) fn scan(directory: &Path, leftovers: Leftovers) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for folder in folders(directory)? {
        let Some(scope) = scope_of(&folder) else { continue };
        for part in folders(&folder.path())? {
            for file in fs::read_dir(part.path())? {
                let file = file?;
                let Some(name) = file.file_name().to_str().map(str::to_string) else { continue };
                if leftovers == Leftovers::Removed && name.starts_with('.') && name.ends_with(".part") {
                    fs::remove_file(file.path())?;
                }
                // A file may go while it is looked at.
                if let Some((place, part)) = parse(scope, &name)
                    && let Ok(data) = file.metadata()
                    && data.is_file()
                {
                    let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    entries.push(Entry { place, part, bytes: data.len(), used });
                }
            }
        }
    }
    Ok(entries)
}

/// The folders in a directory.
fn folders(directory: &Path) -> io::Result<Vec<DirEntry>> {
    let entries: Vec<DirEntry> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    Ok(entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).collect())
}

fn scope_of(folder: &DirEntry) -> Option<Scope> {
    folder.file_name().to_str()?.parse().ok()
}

/// What a file's name says.
fn parse(scope: Scope, name: &str) -> Option<(Place, Part)> {
    let (names, end) = name.split_once('.')?;
    let (key, parent) = names.split_once('-')?;
    let whole = PAGE_TOKENS as u32;
    let (n_tokens, part) = match end.split_once('.') {
        None if end == "page" => (whole, Part::Page),
        None if end == "twin" => (whole, Part::Twin),
        Some((n, "tail")) => (n.parse().ok().filter(|n| (1..whole).contains(n))?, Part::Page),
        _ => return None,
    };
    let place = Place { key: Key::parse(key)?, parent: Key::parse(parent)?, scope, depth: 0, n_tokens };
    Some((place, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_and_others_are_none() {
        let scope = Scope::new(&[b"somebody"]);
        let root = Key::root(&[0; 32], &scope);
        for (n_tokens, part) in [(128, Part::Page), (128, Part::Twin), (57, Part::Page)] {
            let place = Place { key: root.child(&[1]), parent: root, scope, depth: 0, n_tokens };
            let path = path(Path::new("pages"), &place, part);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            assert_eq!(parse(scope, name), Some((place, part)), "{name}");
            assert_eq!(parse(scope, &name[1..]), None);
            assert_eq!(parse(scope, &format!("{name}x")), None);
        }
        let names = format!("{root}-{root}");
        for end in ["", ".", ".0.tail", ".128.tail", ".x.tail", ".tail", ".5.page", ".page.part"] {
            assert_eq!(parse(scope, &format!("{names}{end}")), None, "{end}");
        }
    }
}
