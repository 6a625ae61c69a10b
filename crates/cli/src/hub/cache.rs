//! The cache of the Hugging Face libraries on the disk.
//!
//! ```text
//! HF_HUB_CACHE/
//!   models--ORG--NAME/
//!     blobs/CHECKSUM                   a file's content; CHECKSUM.incomplete while it is fetched
//!     refs/main                        the commit that was fetched last
//!     snapshots/COMMIT/model.gguf  ->  ../../blobs/CHECKSUM
//!   .locks/models--ORG--NAME/CHECKSUM.lock
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lossy_formats::AtomicFile;

use super::checksum::{Checksum, hash_file};
use super::reference::{RepoId, Revision};

/// One repository's folder in the cache.
#[derive(Clone, Debug)]
pub struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The folder of `repo`, which need not exist yet.
    pub fn new(cache: &Path, repo: &RepoId) -> RepoCache {
        let name = repo.folder_name();
        RepoCache { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// Where the content with that checksum lies.
    pub fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(checksum.hex())
    }

    /// Where it lies until all of it is there.
    pub fn incomplete_blob(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", checksum.hex()))
    }

    /// Waits until no other process fetches the same blob. `waiting` is called once if there is one.
    pub fn lock(&self, checksum: &Checksum, waiting: impl FnOnce()) -> io::Result<BlobLock> {
        fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{}.lock", checksum.hex()));
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                waiting();
                file.lock()?;
            }
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        Ok(BlobLock { _file: file })
    }

    /// The folder of one commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Makes a blob appear under its name in a snapshot: a relative link, or a copy where there are no links.
    pub fn link(&self, commit: &str, path: &str, checksum: &Checksum) -> Result<PathBuf> {
        let link = self.snapshot(commit).join(path);
        let parent = link.parent().context("a snapshot's file has a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let n_up = 2 + path.matches('/').count();
        let target: PathBuf = std::iter::repeat_n("..", n_up).chain(["blobs", checksum.hex()]).collect();
        if fs::read_link(&link).is_ok_and(|existing| existing == target) {
            return Ok(link);
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("replacing {}", link.display()));
            }
            _ => {}
        }
        match symlink(&target, &link) {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => {
                let blob = self.blob(checksum);
                fs::hard_link(&blob, &link)
                    .or_else(|_| fs::copy(&blob, &link).map(drop))
                    .with_context(|| format!("creating {}", link.display()))?;
            }
        }
        Ok(link)
    }

    /// Remembers the newest commit of a branch; the file appears whole or not at all.
    pub fn set_commit(&self, revision: &Revision, commit: &str) -> Result<()> {
        if revision.as_str() == commit {
            return Ok(());
        }
        let file = self.folder.join("refs").join(revision.as_str());
        let folder = file.parent().context("a reference has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let context = || format!("writing {}", file.display());
        let mut out = AtomicFile::create(&file)?;
        out.write_all(commit.as_bytes()).with_context(context)?;
        Ok(out.commit()?)
    }

    /// The newest commit of a branch that was fetched, or the commit that is named, and its files. `None` if there is none.
    pub fn newest_snapshot(&self, revision: &Revision) -> Option<Snapshot> {
        let commit = match fs::read_to_string(self.folder.join("refs").join(revision.as_str())) {
            Ok(commit) => commit.trim().to_string(),
            Err(_) => revision.as_str().to_string(),
        };
        if commit.is_empty() || !commit.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let folder = self.snapshot(&commit);
        let mut files = Vec::new();
        collect_files(&folder, "", 0, &mut files);
        files.sort();
        (!files.is_empty()).then_some(Snapshot { folder, files })
    }
}

/// Held while a blob is fetched; freed when dropped, and by the system if the process dies.
pub struct BlobLock {
    _file: File,
}

/// A commit's files on the disk.
#[derive(Debug)]
pub struct Snapshot {
    /// of the commit
    pub folder: PathBuf,
    /// paths with slashes, relative to the folder; only files whose content is there
    pub files: Vec<String>,
}

impl Snapshot {
    /// Bytes of the files named.
    pub fn bytes(&self, files: &[String]) -> u64 {
        files.iter().filter_map(|file| fs::metadata(self.folder.join(file)).ok()).map(|data| data.len()).sum()
    }

    /// The safetensors files, if this is a Hugging Face model: a configuration with weights.
    pub fn safetensors(&self) -> Option<Vec<String>> {
        let files: Vec<String> =
            self.files.iter().filter(|file| file.ends_with(".safetensors")).cloned().collect();
        (!files.is_empty() && self.files.iter().any(|file| file == "config.json")).then_some(files)
    }
}

fn collect_files(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        // Follows links: a link whose blob is gone is no file.
        match fs::metadata(entry.path()) {
            Ok(data) if data.is_file() => files.push(path),
            Ok(data) if data.is_dir() && depth < 8 => collect_files(&entry.path(), &path, depth + 1, files),
            _ => {}
        }
    }
}

/// The name of a model of the hub whose file, or one of whose files, is not what it was when it came; `None` if all are,
/// or if they are not of the hub. Blobs are named after their content, so nobody has to be asked; but all is read.
pub fn damaged(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    let at = parts.iter().rposition(|part| *part == "snapshots")?;
    let repo = RepoId::from_folder_name(parts.get(at.checked_sub(1)?)?)?;
    let file = parts.get(at + 2..).unwrap_or_default().join("/");
    if !path.is_dir() {
        return is_damaged(path).then(|| format!("{repo}:{file}"));
    }
    let mut files = Vec::new();
    collect_files(path, "", 0, &mut files);
    files.iter().any(|file| is_damaged(&path.join(file))).then(|| repo.to_string())
}

fn is_damaged(link: &Path) -> bool {
    let is_other = || {
        let blob = fs::canonicalize(link).ok()?;
        let name = blob.file_name()?.to_str()?;
        let checksum = Checksum::sha256(name).or_else(|| Checksum::git(name))?;
        let mut hasher = checksum.hasher(fs::metadata(&blob).ok()?.len());
        hash_file(&blob, &mut hasher).ok()?;
        Some(hasher.finish() != checksum.hex())
    };
    is_other().unwrap_or(false)
}

/// Fails if fewer than `needed` bytes are free where `folder` lies.
pub fn check_space(folder: &Path, needed: u64) -> Result<()> {
    // A file system that does not tell is not a reason to refuse.
    let Ok(free) = fs4::available_space(folder) else { return Ok(()) };
    if free < needed {
        let (needed, free) = (crate::units::bytes(needed), crate::units::bytes(free));
        bail!("{} has {free} free, but {needed} are needed; HF_HOME moves the cache", folder.display());
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_subfolder_links_to_its_blob() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(cache.path(), &RepoId::parse("a/b").unwrap());
        let checksum = Checksum::git(&"ab".repeat(20)).unwrap();
        fs::create_dir_all(repo.blob(&checksum).parent().unwrap()).unwrap();
        fs::write(repo.blob(&checksum), "content").unwrap();
        let commit = "cd".repeat(20);
        let link = repo.link(&commit, "sub/folder/x.gguf", &checksum).unwrap();
        assert_eq!(fs::read_to_string(link).unwrap(), "content");
        repo.link(&commit, "sub/folder/x.gguf", &checksum).unwrap();
        repo.set_commit(&Revision::default(), &commit).unwrap();
        assert_eq!(repo.newest_snapshot(&Revision::default()).unwrap().files, ["sub/folder/x.gguf"]);
    }

    #[test]
    fn a_link_without_its_blob_is_no_file() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(cache.path(), &RepoId::parse("a/b").unwrap());
        let commit = "cd".repeat(20);
        fs::create_dir_all(repo.snapshot(&commit)).unwrap();
        symlink(Path::new("../../blobs/gone"), &repo.snapshot(&commit).join("x.gguf")).unwrap();
        repo.set_commit(&Revision::default(), &commit).unwrap();
        assert!(repo.newest_snapshot(&Revision::default()).is_none());
    }

    #[test]
    fn a_branch_and_a_commit_are_found_under_their_names() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(cache.path(), &RepoId::parse("a/b").unwrap());
        let commit = "cd".repeat(20);
        fs::create_dir_all(repo.snapshot(&commit)).unwrap();
        fs::write(repo.snapshot(&commit).join("x.gguf"), "content").unwrap();
        let branch = Revision::parse("refs/pr/1").unwrap();
        assert!(repo.newest_snapshot(&branch).is_none());
        repo.set_commit(&branch, &commit).unwrap();
        for revision in [branch, Revision::parse(&commit).unwrap()] {
            assert_eq!(repo.newest_snapshot(&revision).unwrap().files, ["x.gguf"]);
        }
        assert!(repo.newest_snapshot(&Revision::default()).is_none());
    }

    #[test]
    fn a_file_of_the_cache_that_is_not_what_its_name_says_is_damaged() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(cache.path(), &RepoId::parse("a/b").unwrap());
        let checksum =
            Checksum::sha256("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824").unwrap();
        fs::create_dir_all(repo.blob(&checksum).parent().unwrap()).unwrap();
        fs::write(repo.blob(&checksum), "hello").unwrap();
        let link = repo.link(&"cd".repeat(20), "sub/x.gguf", &checksum).unwrap();
        assert_eq!(damaged(&link), None);
        fs::write(repo.blob(&checksum), "hel").unwrap();
        let name = "a/b:sub/x.gguf".to_string();
        assert_eq!(damaged(&link), Some(name));
        assert_eq!(damaged(&repo.snapshot(&"cd".repeat(20))), Some("a/b".to_string()));
        assert_eq!(damaged(cache.path()), None);
    }

    #[test]
    fn a_reference_to_something_else_than_a_commit_is_ignored() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(cache.path(), &RepoId::parse("a/b").unwrap());
        repo.set_commit(&Revision::default(), "../../..").unwrap();
        assert!(repo.newest_snapshot(&Revision::default()).is_none());
    }

    #[test]
    fn a_full_disk_is_noticed_before_the_first_byte() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_space(folder.path(), 1).is_ok());
        let error = check_space(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("are needed"), "{error}");
    }
}
