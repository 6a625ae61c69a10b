//! Pages that outlive their process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lossy_engine::RequestErrorKind;
use lossy_engine::prefix_cache::{PrefixCache, PrefixCacheOptions};
use tempfile::TempDir;

use crate::reader::{PAGE, Reader, SCHEMES, scope};

pub fn open(directory: &Path, disk: u64) -> PrefixCache {
    let options = PrefixCacheOptions { ram: None, directory: Some(directory.to_path_buf()), disk };
    PrefixCache::new(options).unwrap()
}

/// All files of pages.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().is_some_and(|name| name != "lock") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_new_process_goes_on_from_files_with_the_same_bits() {
    for scheme in SCHEMES {
        let directory = TempDir::new().unwrap();
        let mut reader = Reader::tiny(scheme);
        let mut store = open(directory.path(), u64::MAX);
        let texts: Vec<Vec<u32>> = [650, 257, 90].map(|n| reader.text(100 + n, n)).into();
        for text in &texts {
            assert_eq!(reader.warm(&mut store, text, 128).n_found(), 0);
        }
        let ram = texts.iter().map(|text| reader.warm(&mut store, text, 128).n_ram).collect::<Vec<_>>();
        drop(store);

        let mut reader = Reader::tiny(scheme);
        let mut store = open(directory.path(), u64::MAX);
        assert_eq!(store.bytes(), 0);
        for (text, n_ram) in texts.iter().zip(ram) {
            let prompt = [&text[..], &reader.text(7, 50)].concat();
            let answer = reader.warm(&mut store, &prompt, 128);
            assert_eq!((answer.n_ram, answer.n_damaged), (0, 0), "{scheme}");
            assert!(answer.n_disk >= n_ram, "{scheme}: {} tokens of {n_ram}", answer.n_disk);
            assert!(answer.logits == reader.cold(&prompt, 128), "{scheme}, {}", text.len());
        }
        let stats = store.stats();
        assert!(stats.n_hit_disk > 0 && stats.n_damaged == 0);
    }
}

#[test]
fn what_is_on_disk_comes_back_when_memory_had_to_go() {
    let directory = TempDir::new().unwrap();
    let mut reader = Reader::tiny("k2v2:calibration=none");
    let mut store = open(directory.path(), u64::MAX);
    let text = reader.text(110, 900);
    reader.warm(&mut store, &text, 128);
    store.flush();
    assert!(store.make_room(usize::MAX) > 0);
    let answer = reader.warm(&mut store, &text, 128);
    assert_eq!((answer.n_ram, answer.n_disk), (0, 899));
    assert!(answer.logits == reader.cold(&text, 128));
    assert_eq!(reader.warm(&mut store, &text, 128).n_ram, 899, "now it is in memory again");
}

#[test]
fn a_budget_that_does_not_hold_all_of_a_text_takes_what_it_holds() {
    for scheme in SCHEMES {
        let directory = TempDir::new().unwrap();
        let mut reader = Reader::tiny(scheme);
        let mut store = open(directory.path(), u64::MAX);
        let text = reader.text(111, 1500);
        let mut generation = reader.generation(reader.cache.sequence(), &text);
        let mut cursor = store.cursor(&reader.cache, &reader.scope);
        while generation.n_read() < text.len() {
            reader.engine.forward(&mut [generation.item(128)]).unwrap();
            store.keep(&mut cursor, generation.sequence(), generation.n_read(), true);
        }
        let all = generation.sequence().kv_bytes();
        drop((generation, store));
        for share in [1, 2, 5, 9, 20] {
            let mut reader = Reader::tiny_within(scheme, Some(all * share / 10));
            let mut store = open(directory.path(), u64::MAX);
            let found = store.find(&reader.cache, &reader.scope, &text);
            assert!(found.damaged.is_empty());
            assert!(reader.engine.budget().bytes_in_use() <= all * share / 10);
            let n_found = found.sequence.len();
            let is_as_much_as_fits = match share {
                20 => n_found >= 1498,
                5 | 9 => (1..1498).contains(&n_found),
                _ => n_found < 1498,
            };
            assert!(is_as_much_as_fits, "{scheme}: {n_found} in {share} tenths");
            drop(found);
            // What it holds is gone on from as far as there is room; make some.
            let prompt = &text[..(n_found / 2).max(1)];
            store.make_room(usize::MAX);
            match reader.try_warm(&mut store, prompt, 128) {
                Ok((answer, _)) => {
                    assert!(answer.logits == Reader::tiny(scheme).cold(prompt, 128), "{scheme}, {share}");
                }
                // Too little for the new pages beside those that the prompt goes on from.
                Err(error) => {
                    assert!(share < 20, "{scheme}: no room in twice the bytes: {error}");
                    assert_eq!(error.kind(), RequestErrorKind::OutOfMemory, "{scheme}, {share}: {error}");
                }
            }
        }
    }
}

#[test]
fn the_disk_keeps_to_its_limit_and_the_least_recently_used_files_go() {
    let directory = TempDir::new().unwrap();
    let mut reader = Reader::tiny("q8");
    let texts: Vec<Vec<u32>> = (0..6).map(|n| reader.text(120 + n, 500)).collect();
    let of_one = {
        let other = TempDir::new().unwrap();
        let mut store = open(other.path(), u64::MAX);
        reader.warm(&mut store, &texts[0], 128);
        store.stats().disk_bytes
    };
    let limit = 3 * of_one;
    let mut store = open(directory.path(), limit);
    for text in &texts {
        reader.warm(&mut store, text, 128);
        reader.warm(&mut store, &texts[0], 128);
        assert!(store.stats().disk_bytes <= limit);
    }
    store.flush();
    assert!(store.stats().n_disk_evicted > 0);
    let on_disk: u64 = files(directory.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(on_disk, store.stats().disk_bytes);
    store.make_room(usize::MAX);
    let mut found = |n: usize| store.find(&reader.cache, &reader.scope, &texts[n]).n_disk;
    assert_eq!((found(0), found(5)), (498, 498), "used last");
    assert_eq!((found(1), found(2)), (0, 0), "not used for longest");
}

#[test]
fn a_disk_that_holds_nothing_and_one_that_cannot_be_written_serve_all_the_same() {
    let directory = TempDir::new().unwrap();
    let mut reader = Reader::tiny("q8");
    let text = reader.text(130, 400);
    let mut store = open(directory.path(), 1000);
    reader.warm(&mut store, &text, 128);
    store.flush();
    assert_eq!((files(directory.path()).len(), store.stats().disk_bytes), (0, 0));
    assert_eq!(reader.warm(&mut store, &text, 128).n_ram, 398);
    drop(store);

    // A file where the folder of the scope would be.
    fs::write(directory.path().join(reader.scope.to_string()), "in the way").unwrap();
    let mut store = open(directory.path(), u64::MAX);
    reader.warm(&mut store, &text, 128);
    store.flush();
    let notes = store.take_notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].to_string().starts_with("pages are not kept on disk for now: "), "{}", notes[0]);
    assert!(store.stats().n_write_errors >= 4);
    assert_eq!(store.stats().disk_bytes, 0);
    assert_eq!(reader.warm(&mut store, &text, 128).n_ram, 398);
    store.flush();
    assert!(store.take_notes().is_empty(), "said once");
    // When the way is free, what is used is written.
    fs::remove_file(directory.path().join(reader.scope.to_string())).unwrap();
    reader.warm(&mut store, &text, 128);
    store.flush();
    assert_eq!(files(directory.path()).len(), 4);
}

#[test]
fn one_directory_serves_one_process_and_is_its_owners_alone() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("new").join("pages");
    let mut reader = Reader::tiny("f16");
    let mut store = open(&directory, u64::MAX);
    let text = reader.text(140, 300);
    reader.warm(&mut store, &text, 128);
    store.flush();
    let options = PrefixCacheOptions { directory: Some(directory.clone()), disk: 1, ram: None };
    let error = PrefixCache::new(options).unwrap_err();
    assert!(error.to_string().starts_with("another process keeps its pages in "), "{error}");
    assert!(PrefixCache::purge_directory(&directory, None).is_err());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        for file in files(&directory) {
            assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        }
    }
}

#[test]
fn scopes_are_listed_and_purged_with_and_without_a_process() {
    let directory = TempDir::new().unwrap();
    let mut reader = Reader::tiny("q8");
    let mut store = open(directory.path(), u64::MAX);
    for (name, n_tokens) in [("one", 300), ("other", 500), ("third", 100)] {
        reader.scope = scope(name);
        let text = reader.text(150, n_tokens);
        reader.warm(&mut store, &text, 128);
    }
    let mut listed = store.list().unwrap();
    listed.sort_by_key(|usage| usage.n_tokens);
    let figures: Vec<_> = listed.iter().map(|usage| (usage.scope, usage.n_pages, usage.n_tokens)).collect();
    assert_eq!(figures, [(scope("third"), 1, 100), (scope("one"), 3, 300), (scope("other"), 4, 500)]);
    assert_eq!(listed.iter().map(|usage| usage.bytes).sum::<u64>(), store.stats().disk_bytes);
    store.purge(Some(&scope("one"))).unwrap();
    assert_eq!(store.list().unwrap().len(), 2);
    drop(store);
    PrefixCache::purge_directory(directory.path(), Some(&scope("other"))).unwrap();
    let listed = PrefixCache::list_directory(directory.path()).unwrap();
    assert_eq!(listed.iter().map(|usage| usage.scope).collect::<Vec<_>>(), [scope("third")]);
    let mut store = open(directory.path(), u64::MAX);
    reader.scope = scope("other");
    let text = reader.text(150, 500);
    assert_eq!(reader.warm(&mut store, &text, 128).n_found(), 0);
    store.purge(None).unwrap();
    assert!(files(directory.path()).is_empty());
    assert_eq!(
        PrefixCache::list_directory(&directory.path().join("nothing")).unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
}

/// Names the directory for the process that is killed.
const KILLED: &str = "LOSSY_TEST_PAGES";

/// Reads one text after another and keeps them, until it is killed.
fn write_for_ever(directory: &Path) -> ! {
    let mut reader = Reader::tiny("q8");
    let mut store = open(directory, 20 << 20);
    let mut n = 0;
    loop {
        let text = reader.text(200 + n % 50, 400);
        reader.warm(&mut store, &text, 128);
        n += 1;
    }
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_whole_pages_only() {
    if let Some(directory) = std::env::var_os(KILLED) {
        write_for_ever(Path::new(&directory));
    }
    let name = "restart::a_process_that_is_killed_while_it_writes_leaves_whole_pages_only";
    for round in 0..6 {
        let directory = TempDir::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(KILLED, directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while files_or_none(directory.path()) < 5 && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut reader = Reader::tiny("q8");
        let mut store = open(directory.path(), 20 << 20);
        assert!(files(directory.path()).iter().all(|file| file.extension().is_some_and(|end| end != "part")));
        let mut n_found = 0;
        for n in 0..50 {
            let text = reader.text(200 + n, 400);
            let found = store.find(&reader.cache, &reader.scope, &text);
            assert!(found.damaged.is_empty(), "{:?}", found.damaged);
            n_found += found.n_disk;
            if n < 3 {
                drop(found);
                let answer = reader.warm(&mut store, &text, 128);
                assert!(answer.logits == reader.cold(&text, 128));
            }
        }
        assert!(n_found >= PAGE, "round {round}");
    }
}

/// How many files of pages are there, while somebody writes.
fn files_or_none(directory: &Path) -> usize {
    PrefixCache::list_directory(directory).map_or(0, |scopes| scopes.iter().map(|usage| usage.n_pages).sum())
}
