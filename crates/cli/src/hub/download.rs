//! One file from the hub into the cache: resumed, checked, and there either whole or not at all.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::answer::{ContentRange, Substitute};
use super::cache::{RepoCache, check_space};
use super::checksum::hash_file;
use super::client::{Client, encode_path};
use super::listing::{Content, RemoteFile};
use super::partial::{Partial, ReadError};
use super::reference::RepoId;
use crate::terminal::{Spinner, Transfer, note};

/// Answers in a row that bring less than [`WORTHWHILE`] bytes.
const MAX_TRIES: u32 = 5;
/// An answer that brings so many bytes is worth another one, even if it breaks off.
const WORTHWHILE: u64 = 1 << 20;

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
    /// what to do with a file that is on the disk
    pub existing: Existing,
}

/// What is done with a file of the right length that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// it was verified when it came
    Trusted,
    /// it is read and verified again
    Verified,
}

/// Why an answer did not bring what was asked for. It is asked again, a few times.
#[derive(Debug, thiserror::Error)]
enum BadAnswer {
    #[error("the connection broke: {0}")]
    Network(io::Error),
    #[error("the hub announces {wanted} bytes and sends {found}")]
    Length { found: u64, wanted: u64 },
    #[error("the hub announces {wanted} bytes and sends more")]
    TooLong { wanted: u64 },
    #[error("the hub was asked for byte {asked} and answers with {found}")]
    Part { asked: u64, found: String },
    #[error(transparent)]
    Substitute(#[from] Substitute),
}

/// An answer that did not bring all.
enum Failure {
    /// another one may
    Passing(BadAnswer),
    /// no other one will
    Final(anyhow::Error),
}

impl From<BadAnswer> for Failure {
    fn from(answer: BadAnswer) -> Failure {
        Failure::Passing(answer)
    }
}

/// Counts answers that bring nothing or little. A server that always starts again must get further than before.
struct Tries {
    /// bytes that were there at the best of times
    most: u64,
    /// since something worthwhile came
    n: u32,
}

impl Tries {
    /// After an answer that left `bytes` on the disk: how long to wait before the next; `None`: it is enough.
    fn next_pause(&mut self, bytes: u64) -> Option<Duration> {
        if bytes >= self.most + WORTHWHILE {
            self.n = 0;
        }
        self.most = self.most.max(bytes);
        self.n += 1;
        (self.n < MAX_TRIES).then(|| Duration::from_millis(100 << self.n))
    }
}

impl Source<'_> {
    /// Makes `file` appear in the snapshot; returns its path there. What is already on the disk is not fetched again.
    pub fn fetch(&self, file: &RemoteFile) -> Result<PathBuf> {
        let content = file.content()?;
        let blob = self.cache.blob(&content.checksum);
        if !self.is_there(file, &content, &blob)? {
            let folder = blob.parent().context("a blob has a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
            let waiting = || note(&format!("another process is fetching {}; waiting for it", file.path));
            let _lock = self.cache.lock(&content.checksum, waiting).context("locking the cache")?;
            if !self.is_there(file, &content, &blob)? {
                self.fetch_blob(file, &content, &blob).with_context(|| format!("fetching {}", file.path))?;
            }
        }
        self.cache.link(self.commit, &file.path, &content.checksum)
    }

    /// Whether the blob need not be fetched.
    fn is_there(&self, file: &RemoteFile, content: &Content, blob: &Path) -> Result<bool> {
        let Some(data) = fs::metadata(blob).ok().filter(|data| data.is_file()) else { return Ok(false) };
        let is_whole = data.len() == content.bytes;
        if is_whole && self.existing == Existing::Trusted {
            return Ok(true);
        }
        let is_same = is_whole && {
            let _spinner = Spinner::start(&format!("verifying {}", file.path));
            let mut hasher = content.checksum.hasher(content.bytes);
            hash_file(blob, &mut hasher).with_context(|| format!("reading {}", blob.display()))?;
            hasher.finish() == content.checksum.hex()
        };
        if !is_same {
            note(&format!("{}: the file on the disk is damaged; fetching it again", file.path));
        }
        Ok(is_same)
    }

    fn fetch_blob(&self, file: &RemoteFile, content: &Content, blob: &Path) -> Result<()> {
        let incomplete = self.cache.incomplete_blob(&content.checksum);
        let (mut found, was_resumed) = self.fill(file, content, &incomplete)?;
        if found != content.checksum.hex() && was_resumed {
            note(&format!("{}: the part that was there does not fit; starting again", file.path));
            fs::remove_file(&incomplete)?;
            (found, _) = self.fill(file, content, &incomplete)?;
        }
        if found != content.checksum.hex() {
            fs::remove_file(&incomplete)?;
            bail!("its checksum is {found}, but the hub states {}; it was deleted", content.checksum.hex());
        }
        fs::rename(&incomplete, blob).with_context(|| format!("creating {}", blob.display()))
    }

    /// Reads what is missing of a file, over as many connections as it takes. Returns its checksum, and whether a part
    /// of it had been there before.
    fn fill(&self, file: &RemoteFile, content: &Content, incomplete: &Path) -> Result<(String, bool)> {
        let mut partial = Partial::open(incomplete, content.bytes, &content.checksum)?;
        let was_resumed = partial.bytes() > 0;
        check_space(incomplete.parent().context("a blob has a folder")?, content.bytes - partial.bytes())?;
        let transfer = Transfer::start(&file.path, content.bytes, partial.bytes());
        let mut tries = Tries { most: partial.bytes(), n: 0 };
        while partial.bytes() < content.bytes {
            let bad = match self.append(file, content, &mut partial, &transfer) {
                Ok(()) => continue,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(bad)) => bad,
            };
            let (have, all) = (partial.bytes(), content.bytes);
            match tries.next_pause(have) {
                Some(pause) => thread::sleep(pause),
                None => bail!(
                    "{bad} ({MAX_TRIES} tries; {have} of {all} bytes are there, from which the next goes on)"
                ),
            }
        }
        transfer.finish();
        Ok((partial.finish()?, was_resumed))
    }

    /// Asks for what is missing and appends what comes. A page or a pointer in place of the file changes nothing.
    fn append(
        &self,
        file: &RemoteFile,
        content: &Content,
        partial: &mut Partial,
        transfer: &Transfer,
    ) -> Result<(), Failure> {
        let asked = partial.bytes();
        let path = format!("/{}/resolve/{}/{}", self.repo, self.commit, encode_path(&file.path));
        let response =
            self.client.get(&path, asked, &file.path).map_err(|error| Failure::Final(error.into()))?;
        let first = match first_byte(&response, content.bytes, asked) {
            Ok(first) => first,
            Err(bad) => {
                // A hub that does not know how to resume is asked for the whole file.
                partial.clear().context("writing it to the disk").map_err(Failure::Final)?;
                return Err(bad.into());
            }
        };
        let length = response.body().content_length();
        let is_whole = response.status() == StatusCode::OK;
        let mut body = response.into_body().into_reader();
        let (head, failure) = read_head(&mut body);
        if first == 0
            && let Some(substitute) = Substitute::of(&head)
        {
            return Err(BadAnswer::from(substitute).into());
        }
        if let Some(found) = length.filter(|&found| is_whole && found != content.bytes) {
            let wanted = content.bytes;
            let is_longer = found > wanted;
            let bad =
                if is_longer { BadAnswer::TooLong { wanted } } else { BadAnswer::Length { found, wanted } };
            return Err(bad.into());
        }
        if first != asked {
            partial.clear().context("writing it to the disk").map_err(Failure::Final)?;
        }
        let result = partial.read_from(&mut head.as_slice().chain(&mut body), transfer);
        match (result, failure) {
            (Err(ReadError::Disk(error)), _) => {
                Err(Failure::Final(anyhow::Error::from(error).context("writing it to the disk")))
            }
            (Err(ReadError::TooLong { total }), _) => {
                // What came is not the file, and neither is its beginning.
                partial.clear().context("writing it to the disk").map_err(Failure::Final)?;
                Err(BadAnswer::TooLong { wanted: total }.into())
            }
            (Err(ReadError::Network(_)), Some(error)) | (Err(ReadError::Network(error)), None) => {
                Err(BadAnswer::Network(error).into())
            }
            (Ok(()), _) => Ok(()),
        }
    }
}

/// Where in the file the body of a response starts: at the byte that was asked for, or at 0.
fn first_byte(response: &Response<Body>, total: u64, asked: u64) -> Result<u64, BadAnswer> {
    let text = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    match (response.status(), text.and_then(ContentRange::parse)) {
        (StatusCode::OK, _) => Ok(0),
        (StatusCode::PARTIAL_CONTENT, Some(range)) if range.total.is_some_and(|found| found != total) => {
            Err(BadAnswer::Length { found: range.total.unwrap_or(0), wanted: total })
        }
        (StatusCode::PARTIAL_CONTENT, Some(range)) if range.first == asked || range.first == 0 => {
            Ok(range.first)
        }
        (status, _) => {
            let found = match text {
                Some(range) => format!("`{range}`"),
                None => format!("status {} and no range", status.as_u16()),
            };
            Err(BadAnswer::Part { asked, found })
        }
    }
}

/// The first bytes of a body, and what broke it if it broke within them.
fn read_head(body: &mut dyn Read) -> (Vec<u8>, Option<io::Error>) {
    let mut head = Vec::with_capacity(Substitute::HEAD_BYTES);
    let failure = body.take(Substitute::HEAD_BYTES as u64).read_to_end(&mut head).err();
    (head, failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_bring_little_are_counted_and_those_that_bring_much_are_not() {
        let mut tries = Tries { most: 0, n: 0 };
        let enough = (1u64..).find(|&bytes| tries.next_pause(bytes).is_none());
        assert_eq!(enough, Some(u64::from(MAX_TRIES)));
        let mut tries = Tries { most: 0, n: 0 };
        assert!((1..100).all(|n| tries.next_pause(n * WORTHWHILE).is_some()));
        // One that starts again and always breaks at the same place gets no further.
        let enough = (1..100u32).find(|_| tries.next_pause(7 * WORTHWHILE).is_none());
        assert_eq!(enough, Some(MAX_TRIES - 1), "the last one of before counts too");
    }
}
