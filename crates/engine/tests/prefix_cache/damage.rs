//! Files that are not what was written are never served.

use std::fs;
use std::path::{Path, PathBuf};

use lossy_engine::prefix_cache::Damage;
use tempfile::TempDir;

use crate::reader::Reader;
use crate::restart::{files, open};

const N_PROMPT: usize = 300;
/// Of a page: the head without ids, and with them.
const HEAD: usize = 152;
const HEAD_AND_IDS: usize = HEAD + 4 * 128;

/// A directory with the pages of one text, and what is in its files.
struct Saved {
    directory: TempDir,
    scheme: &'static str,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Saved {
    fn new(scheme: &'static str) -> Saved {
        let directory = TempDir::new().unwrap();
        let mut reader = Reader::tiny(scheme);
        let mut store = open(directory.path(), u64::MAX);
        let text = reader.text(300, N_PROMPT);
        reader.warm(&mut store, &text, 128);
        drop(store);
        let files: Vec<_> = files(directory.path())
            .into_iter()
            .map(|file| (file.clone(), fs::read(&file).unwrap()))
            .collect();
        Saved { directory, scheme, files }
    }

    /// Brings everything back as it was.
    fn restore(&self) {
        for file in files(self.directory.path()) {
            fs::remove_file(file).unwrap();
        }
        for (file, bytes) in &self.files {
            fs::write(file, bytes).unwrap();
        }
    }

    /// Reads the text from files one of which was changed; what that did, and how much was found.
    fn read_changed(&self, file: &Path, bytes: &[u8], what: &str) -> (Vec<Damage>, usize) {
        fs::write(file, bytes).unwrap();
        let mut reader = Reader::tiny(self.scheme);
        let mut store = open(self.directory.path(), u64::MAX);
        let text = reader.text(300, N_PROMPT);
        let found = store.find(&reader.cache, &reader.scope, &text);
        let (n_found, damaged) = (found.n_disk, found.damaged);
        drop(found.sequence);
        assert!(damaged.iter().all(|damaged| damaged.file == file), "{what}: {damaged:?}");
        assert_eq!(store.stats().n_damaged, damaged.len() as u64);
        let answer = reader.warm(&mut store, &text, 128);
        assert!(answer.logits == reader.cold(&text, 128), "{what}");
        drop(store);
        let after = files(self.directory.path());
        assert!(after.contains(&file.to_path_buf()), "{what}: what was read anew is kept again");
        self.restore();
        (damaged.into_iter().map(|damaged| damaged.damage).collect(), n_found)
    }
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    for scheme in ["f16", "k2v2:calibration=none"] {
        let saved = Saved::new(scheme);
        let kinds: Vec<_> =
            saved.files.iter().map(|(file, _)| file.extension().unwrap().to_str().unwrap()).collect();
        assert!(kinds.contains(&"page") && kinds.contains(&"tail"), "{kinds:?}");
        for (file, bytes) in &saved.files {
            let is_tail = file.extension().is_some_and(|end| end == "tail");
            let head_and_ids = if is_tail { HEAD + 4 * (N_PROMPT % 128) } else { HEAD_AND_IDS };
            let places = [8, 12, 16, 24, 56, 88, 120, HEAD, head_and_ids - 1, head_and_ids];
            let ends =
                [(head_and_ids + bytes.len()) / 2, bytes.len() - 33, bytes.len() - 32, bytes.len() - 1];
            for place in places.into_iter().chain(ends) {
                let mut changed = bytes.clone();
                changed[place] ^= 0x40;
                let what = format!("{}, byte {place}", file.display());
                let (damage, n_found) = saved.read_changed(file, &changed, &what);
                assert!(matches!(damage[..], [Damage::Damaged(_)]), "{what}: {damage:?}");
                assert!(n_found < N_PROMPT - 2, "{what}");
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_off_or_goes_on_is_damaged() {
    let saved = Saved::new("k2v2:calibration=none");
    for (file, bytes) in &saved.files {
        for n in [0, 1, 7, 8, 20, HEAD - 1, HEAD, HEAD + 3, HEAD_AND_IDS, bytes.len() / 2, bytes.len() - 1] {
            let what = format!("{}, {n} bytes", file.display());
            let (damage, _) = saved.read_changed(file, &bytes[..n], &what);
            assert!(matches!(damage[..], [Damage::Damaged(_)]), "{what}: {damage:?}");
        }
        let (damage, _) = saved.read_changed(file, &[&bytes[..], &[0]].concat(), "a byte more");
        assert!(matches!(damage[..], [Damage::Damaged(_)]), "{damage:?}");
    }
}

#[test]
fn files_of_others_are_left_alone_and_not_used() {
    let saved = Saved::new("q8");
    let (file, bytes) = &saved.files[0];
    for (what, other) in [
        ("another version", [b"lossypg\x02", &bytes[8..]].concat()),
        ("another program", b"something that somebody else has put there".to_vec()),
    ] {
        fs::write(file, &other).unwrap();
        let reader = Reader::tiny("q8");
        let mut store = open(saved.directory.path(), u64::MAX);
        let found = store.find(&reader.cache, &reader.scope, &reader.text(300, N_PROMPT));
        assert!(matches!(found.damaged[..], [ref one] if matches!(one.damage, Damage::NotOurs)), "{what}");
        drop((found, store));
        assert_eq!(fs::read(file).unwrap(), other, "{what}");
        saved.restore();
    }
    let root = saved.directory.path();
    for stranger in ["readme", "ab", &"0".repeat(64)] {
        fs::write(root.join(stranger), "not a page").unwrap();
    }
    let folder = file.parent().unwrap();
    fs::write(folder.join("notes.txt"), "not a page").unwrap();
    fs::write(folder.join(".abc.part"), "half a page").unwrap();
    fs::create_dir(folder.join("folder.page")).unwrap();
    let mut reader = Reader::tiny("q8");
    let mut store = open(root, u64::MAX);
    let text = reader.text(300, N_PROMPT);
    assert_eq!(reader.warm(&mut store, &text, 128).n_disk, 298);
    assert!(folder.join("notes.txt").exists() && !folder.join(".abc.part").exists());
}

#[test]
fn pages_that_changed_places_are_damaged() {
    let saved = Saved::new("q8");
    let pages: Vec<_> =
        saved.files.iter().filter(|(file, _)| file.extension().is_some_and(|end| end == "page")).collect();
    let [(one, _), (_, bytes)] = pages[..] else { panic!("two pages") };
    let (damage, _) = saved.read_changed(one, bytes, "the other page");
    assert!(matches!(damage[..], [Damage::Damaged("its head is not that of the page it is named after")]));
}

#[test]
fn a_file_that_somebody_deleted_is_no_damage() {
    let saved = Saved::new("q8");
    let mut reader = Reader::tiny("q8");
    let text = reader.text(300, N_PROMPT);
    for (file, _) in &saved.files {
        let mut store = open(saved.directory.path(), u64::MAX);
        fs::remove_file(file).unwrap();
        let answer = reader.warm(&mut store, &text, 128);
        assert_eq!(answer.n_damaged, 0);
        assert!(answer.n_disk < 298 && answer.logits == reader.cold(&text, 128));
        store.flush();
        assert!(file.exists(), "it is written again");
        drop(store);
        saved.restore();
    }
}
