//! What the hub says about a repository: its commit and its files with sizes and checksums.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::checksum::Checksum;
use super::client::Client;
use super::reference::RepoId;

/// Longest answer that is read: a repository of 100,000 files takes about 30 MB.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The files of a repository at one commit.
#[derive(Debug)]
pub struct Listing {
    /// the commit's hash in hexadecimal
    pub commit: String,
    /// all files, with names that stay inside their folder
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// with slashes
    pub path: String,
    /// of the content
    pub bytes: u64,
    /// of the content
    pub checksum: Checksum,
}

#[derive(Deserialize)]
struct ModelAnswer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: String,
    size: u64,
}

/// Asks the hub for the files of the newest commit.
///
/// # Errors
/// The hub cannot be reached or refuses, or its answer names files that would land outside their folder.
pub fn list(client: &Client, repo: &RepoId) -> Result<Listing> {
    let path = format!("/api/models/{repo}/revision/main?blobs=true");
    let mut response = client.get(&path, 0, repo)?;
    let text = response.body_mut().with_config().limit(MAX_LISTING_BYTES).read_to_string();
    let text = text.with_context(|| format!("{repo}: reading its list of files"))?;
    parse(&text).with_context(|| format!("{repo}: its list of files is not as expected"))
}

fn parse(text: &str) -> Result<Listing> {
    let answer: ModelAnswer = serde_json::from_str(text)?;
    if answer.sha.len() != 40 || !answer.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("`{}` is not a commit", answer.sha);
    }
    let files = answer.siblings.into_iter().map(|sibling| {
        let path = sibling.rfilename;
        if !stays_inside(&path) {
            bail!("a file is named `{}`", path.escape_debug());
        }
        let (bytes, checksum) = match sibling.lfs {
            Some(large) => (Some(large.size), Checksum::sha256(&large.sha256)),
            None => (sibling.size, sibling.blob_id.as_deref().and_then(Checksum::git)),
        };
        let bytes = bytes.with_context(|| format!("no size for {path}"))?;
        let checksum = checksum.with_context(|| format!("no checksum for {path}"))?;
        Ok(RemoteFile { path, bytes, checksum })
    });
    Ok(Listing { commit: answer.sha.to_ascii_lowercase(), files: files.collect::<Result<_>>()? })
}

/// The name can be joined to a folder on any system without leaving it.
pub fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && !path.contains(['\\', ':', '\0'])
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn one_file(name: &str) -> Result<Listing> {
        let file = serde_json::json!({"rfilename": name, "size": 3, "blobId": SHA});
        parse(&serde_json::json!({"sha": SHA, "siblings": [file]}).to_string())
    }

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "C:x", "a\\..\\b", "a\0", "a\nb"] {
            assert!(one_file(name).is_err(), "{name:?} was accepted");
        }
        assert_eq!(one_file("a/..b/c.gguf").unwrap().files[0].path, "a/..b/c.gguf");
    }

    #[test]
    fn a_commit_that_is_not_one_is_refused() {
        let error = parse(r#"{"sha": "../../x", "siblings": []}"#).unwrap_err();
        assert_eq!(error.to_string(), "`../../x` is not a commit");
    }

    #[test]
    fn a_large_file_is_known_by_sha256_and_a_small_one_by_git() {
        let sha256 = "ab".repeat(32);
        let large = serde_json::json!({"rfilename": "m.gguf", "size": 130, "blobId": SHA, "lfs": {"sha256": sha256, "size": 7, "pointerSize": 130}});
        let listing = parse(&serde_json::json!({"sha": SHA, "siblings": [large]}).to_string()).unwrap();
        assert_eq!(listing.files[0].bytes, 7);
        assert_eq!(listing.files[0].checksum, Checksum::Sha256(sha256));
        assert_eq!(one_file("config.json").unwrap().files[0].checksum, Checksum::Git(SHA.into()));
    }
}
