//! What the hub says about a repository: its commit and its files with sizes and checksums.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::answer::Substitute;
use super::checksum::Checksum;

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
    /// of the content; some hubs do not state it of every file
    bytes: Option<u64>,
    /// of the content
    checksum: Option<Checksum>,
}

/// What a file is known to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// length
    pub bytes: u64,
    /// hash
    pub checksum: Checksum,
}

impl RemoteFile {
    /// What the hub states of the file.
    ///
    /// # Errors
    /// It states no size or no checksum: nobody could tell whether what comes is the file.
    pub fn content(&self) -> Result<Content> {
        let missing =
            |what: &str| format!("the hub states no {what} of {}, so that it cannot be verified", self.path);
        let bytes = self.bytes.with_context(|| missing("size"))?;
        let checksum = self.checksum.clone().with_context(|| missing("checksum"))?;
        Ok(Content { bytes, checksum })
    }
}

#[derive(Deserialize)]
struct ModelAnswer {
    sha: String,
    /// One by one, so that a file that nobody asked for may be described in any way.
    #[serde(default)]
    siblings: Vec<Value>,
}

impl Listing {
    /// Reads the answer to `GET /api/models/USER/REPO/revision/REVISION?blobs=true`.
    ///
    /// # Errors
    /// It is not JSON, has no commit, or names a model's file that would land outside its folder.
    pub fn parse(text: &str) -> Result<Listing> {
        if let Some(substitute) = Substitute::of(text.as_bytes()) {
            bail!("{substitute}");
        }
        let answer: ModelAnswer = serde_json::from_str(text)?;
        if answer.sha.len() != 40 || !answer.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("`{}` is not a commit", answer.sha);
        }
        let files = answer.siblings.iter().filter_map(|sibling| remote_file(sibling).transpose());
        Ok(Listing { commit: answer.sha.to_ascii_lowercase(), files: files.collect::<Result<_>>()? })
    }
}

/// `None`: a file that no model needs, under a name that cannot be used.
fn remote_file(sibling: &Value) -> Result<Option<RemoteFile>> {
    let Some(path) = sibling["rfilename"].as_str() else { return Ok(None) };
    if !stays_inside(path) {
        let end = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        if matches!(end.as_str(), "gguf" | "safetensors" | "json" | "jinja") {
            bail!("a file is named `{path}`");
        }
        return Ok(None);
    }
    let (bytes, checksum) = match &sibling["lfs"] {
        Value::Object(large) => {
            let sha256 = large.get("sha256").or(large.get("oid")).and_then(Value::as_str);
            let bytes = large.get("size").and_then(Value::as_u64);
            (bytes, sha256.and_then(|hex| Checksum::sha256(hex.trim_start_matches("sha256:"))))
        }
        _ => (sibling["size"].as_u64(), sibling["blobId"].as_str().and_then(Checksum::git)),
    };
    Ok(Some(RemoteFile { path: path.to_string(), bytes, checksum }))
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

    fn parse(siblings: Value) -> Result<Listing> {
        Listing::parse(&serde_json::json!({"sha": SHA, "siblings": siblings}).to_string())
    }

    fn one_file(name: &str) -> Result<Listing> {
        parse(serde_json::json!([{"rfilename": name, "size": 3, "blobId": SHA}]))
    }

    #[test]
    fn models_whose_names_leave_their_folder_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "C:x", "a\\..\\b", "a\0", "a\nb"] {
            assert!(!stays_inside(name), "{name:?} was accepted");
            assert!(one_file(&format!("{name}/../m.gguf")).is_err(), "{name:?} was accepted");
        }
        assert_eq!(one_file("a/..b/c.gguf").unwrap().files[0].path, "a/..b/c.gguf");
    }

    #[test]
    fn a_commit_that_is_not_one_is_refused() {
        let error = Listing::parse(r#"{"sha": "../../x", "siblings": []}"#).unwrap_err();
        assert_eq!(error.to_string(), "`../../x` is not a commit");
    }

    #[test]
    fn a_large_file_is_known_by_sha256_and_a_small_one_by_git() {
        let sha256 = "ab".repeat(32);
        let large = serde_json::json!([{"rfilename": "m.gguf", "size": 130, "blobId": SHA, "lfs": {"sha256": sha256, "size": 7, "pointerSize": 130}}]);
        let content = parse(large).unwrap().files[0].content().unwrap();
        assert_eq!(content, Content { bytes: 7, checksum: Checksum::Sha256(sha256) });
        let content = one_file("config.json").unwrap().files[0].content().unwrap();
        assert_eq!(content.checksum, Checksum::Git(SHA.into()));
    }

    #[test]
    fn files_that_nobody_asks_for_may_be_described_in_any_way() {
        let listing = parse(serde_json::json!([
            {"rfilename": "README.md"},
            {"rfilename": "picture: a.png", "size": 3},
            {"rfilename": "old.bin", "size": -1, "blobId": 7, "lfs": "no"},
            {"name": "?"},
            null,
            {"rfilename": "m.gguf", "size": 3, "blobId": SHA},
        ]))
        .unwrap();
        let paths: Vec<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["README.md", "old.bin", "m.gguf"]);
        assert!(listing.files[2].content().is_ok());
        let error = listing.files[0].content().unwrap_err().to_string();
        assert!(error.contains("states no size of README.md"), "{error}");
        let error =
            parse(serde_json::json!([{"rfilename": "m.gguf", "size": 3}])).unwrap().files[0].content();
        assert!(error.unwrap_err().to_string().contains("no checksum of m.gguf"));
    }

    #[test]
    fn a_page_for_people_is_no_list() {
        let error = Listing::parse("<html>log in</html>").unwrap_err().to_string();
        assert!(error.contains("an HTML page"), "{error}");
    }
}
