//! One file from the hub into the cache: resumed, checked, and there either whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::cache::{RepoCache, check_space};
use super::client::{Client, encode_path};
use super::listing::RemoteFile;
use super::partial::{Partial, ReadError};
use super::reference::RepoId;
use crate::terminal::{Transfer, note};

/// Connections that may break one after another without a single byte between them.
const MAX_EMPTY_TRIES: u32 = 5;

/// A repository at a commit, and where its files go.
pub struct Source<'a> {
    /// the hub
    pub client: &'a Client,
    /// the repository
    pub repo: &'a RepoId,
    /// its commit
    pub commit: &'a str,
    /// its folder on the disk
    pub cache: &'a RepoCache,
}

impl Source<'_> {
    /// Makes `file` appear in the snapshot; returns its path there. What is already on the disk is not fetched again.
    pub fn fetch(&self, file: &RemoteFile) -> Result<PathBuf> {
        let blob = self.cache.blob(&file.checksum);
        if !is_there(&blob, file.bytes) {
            let folder = blob.parent().context("a blob has a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
            let waiting = || note(&format!("another process is fetching {}; waiting for it", file.path));
            let _lock = self.cache.lock(&file.checksum, waiting).context("locking the cache")?;
            if !is_there(&blob, file.bytes) {
                self.fetch_blob(file, &blob).with_context(|| format!("fetching {}", file.path))?;
            }
        }
        self.cache.link(self.commit, &file.path, &file.checksum)
    }

    fn fetch_blob(&self, file: &RemoteFile, blob: &Path) -> Result<()> {
        let incomplete = self.cache.incomplete_blob(&file.checksum);
        let (mut found, was_resumed) = self.fill(file, &incomplete)?;
        if found != file.checksum.hex() && was_resumed {
            note(&format!("{}: the part that was there does not fit; starting again", file.path));
            fs::remove_file(&incomplete)?;
            (found, _) = self.fill(file, &incomplete)?;
        }
        if found != file.checksum.hex() {
            fs::remove_file(&incomplete)?;
            bail!("its checksum is {found}, but the hub states {}; it was deleted", file.checksum.hex());
        }
        fs::rename(&incomplete, blob).with_context(|| format!("creating {}", blob.display()))
    }

    /// Reads what is missing of a file, over as many connections as it takes. Returns its checksum, and whether a part
    /// of it had been there before.
    fn fill(&self, file: &RemoteFile, incomplete: &Path) -> Result<(String, bool)> {
        let mut partial = Partial::open(incomplete, file.bytes, &file.checksum)?;
        let was_resumed = partial.bytes() > 0;
        check_space(incomplete.parent().context("a blob has a folder")?, file.bytes - partial.bytes())?;
        let path = format!("/{}/resolve/{}/{}", self.repo, self.commit, encode_path(&file.path));
        let transfer = Transfer::start(&file.path, file.bytes, partial.bytes());
        let mut n_empty = 0;
        while partial.bytes() < file.bytes {
            let before = partial.bytes();
            let response = self.client.get(&path, before, &file.path)?;
            match first_byte(&response) {
                Some(start) if start == before => {}
                Some(0) => partial.clear()?,
                _ => bail!("the hub was asked for byte {before} and answers with other ones"),
            }
            let start = partial.bytes();
            match partial.read_from(&mut response.into_body().into_reader(), &transfer) {
                Ok(()) => {}
                Err(ReadError::Disk(error)) => return Err(error).context("writing it to the disk"),
                Err(error @ ReadError::TooLong { .. }) => return Err(error.into()),
                Err(ReadError::Network(error)) => {
                    n_empty = if partial.bytes() > start { 0 } else { n_empty + 1 };
                    if n_empty == MAX_EMPTY_TRIES {
                        let (have, all) = (partial.bytes(), file.bytes);
                        return Err(error)
                            .context(format!("{have} of {all} bytes came; try again to go on from there"));
                    }
                }
            }
        }
        transfer.finish();
        Ok((partial.finish()?, was_resumed))
    }
}

fn is_there(blob: &Path, bytes: u64) -> bool {
    fs::metadata(blob).is_ok_and(|data| data.is_file() && data.len() == bytes)
}

/// Where in the file the body of a response starts; `None` if it is not a part of the file.
fn first_byte(response: &Response<Body>) -> Option<u64> {
    match response.status() {
        StatusCode::OK => Some(0),
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
            range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
        }
        _ => None,
    }
}
