//! Addresses of the hub, as a browser, `hf://` and other programs write them.
//!
//! ```text
//! https://huggingface.co/USER/REPO                                hf.co/USER/REPO[:QUANT]
//! https://huggingface.co/USER/REPO/tree/REVISION                  hf://USER/REPO[@REVISION][:QUANT]
//! https://huggingface.co/USER/REPO/{blob,resolve,raw}/REVISION/FILE   hf://USER/REPO[@REVISION]/FILE
//! ```

use anyhow::{Context, Result, bail};

use super::listing::stays_inside;
use super::reference::{RepoReference, Revision};

/// Names under which the hub is known besides that of `HF_ENDPOINT`.
const HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];

/// Reads an address; `None` if the text is none. `host`: where the hub is besides.
///
/// # Errors
/// It is one of another server, or of something that is no model.
pub fn parse(text: &str, host: Option<&str>) -> Result<Option<RepoReference>> {
    let context = || format!("`{text}`");
    if let Some(path) = strip_prefix(text, "hf://") {
        return named(path).with_context(context).map(Some);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let is_web = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let (found, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_hub = HOSTS.into_iter().chain(host).any(|known| found.eq_ignore_ascii_case(known));
        if !is_web || !is_hub {
            bail!(
                "`{text}` is no address of the Hugging Face hub; fetch the file with another program and give its path"
            );
        }
        return browsed(path).with_context(context).map(Some);
    }
    match HOSTS.iter().find_map(|host| strip_prefix(text, host)?.strip_prefix('/')) {
        Some(path) => browsed(path).with_context(context).map(Some),
        None => Ok(None),
    }
}

/// `USER/REPO[@REVISION][:QUANT]` or `USER/REPO[@REVISION]/FILE`.
fn named(path: &str) -> Result<RepoReference> {
    let parts: Vec<String> = path.trim_end_matches('/').split('/').map(decoded).collect::<Result<_>>()?;
    let [user, repo, file @ ..] = &parts[..] else { bail!("a model of the hub is named user/repo") };
    let mut found = repository(user, repo)?;
    if !file.is_empty() {
        found.tag = Some(file_tag(file, &found)?);
    }
    Ok(found)
}

/// The path of a page: `USER/REPO[:QUANT]`, or `USER/REPO/KIND/REVISION[/FILE]`.
fn browsed(path: &str) -> Result<RepoReference> {
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let parts: Vec<String> = path.split('/').map(decoded).collect::<Result<_>>()?;
    let [user, repo, page @ ..] = &parts[..] else { bail!("a model of the hub is named user/repo") };
    let mut found = repository(user, repo)?;
    match page {
        [] => return Ok(found),
        [kind, revision, file @ ..] if matches!(kind.as_str(), "resolve" | "blob" | "raw" | "tree") => {
            found.revision = Revision::parse(revision).context("its revision cannot be one")?;
            match (kind.as_str(), file) {
                ("tree", []) => {}
                ("tree", _) | (_, []) => {
                    bail!("it names no file; give the address of one, or {}", found.repo)
                }
                (_, file) => found.tag = Some(file_tag(file, &found)?),
            }
        }
        _ => bail!("it is no file of the hub; give the address of one, or {}", found.repo),
    }
    Ok(found)
}

fn repository(user: &str, repo: &str) -> Result<RepoReference> {
    if matches!(user, "datasets" | "spaces") {
        bail!("it is one of the {user}, not a model");
    }
    RepoReference::parse(&format!("{user}/{repo}"))?.context("a model of the hub is named user/repo")
}

/// A file's path as a tag.
fn file_tag(parts: &[String], found: &RepoReference) -> Result<String> {
    let file = parts.join("/");
    if found.tag.is_some() {
        bail!("it has a quantization and a file");
    }
    if !stays_inside(&file) {
        bail!("its file cannot have that name");
    }
    if !file.to_ascii_lowercase().ends_with(".gguf") {
        bail!("it is one file of a model; give {}, which has all of them", found.repo);
    }
    Ok(file)
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `%20` is a space.
fn decoded(part: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(hex) => {
                bytes.push(u8::from_str_radix(hex, 16).context("two hexadecimal digits")?);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).context("it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, Option<String>)> {
        let found = parse(text, Some("mirror.example:8080")).unwrap()?;
        Some((found.repo.to_string(), found.revision.to_string(), found.tag))
    }

    #[test]
    fn addresses_of_every_kind_name_a_repository() {
        let found = |revision: &str, tag: Option<&str>| {
            Some(("User/Re.po".to_string(), revision.to_string(), tag.map(str::to_string)))
        };
        for (text, revision, tag) in [
            ("hf://User/Re.po", "main", None),
            ("hf://User/Re.po@v1:Q8_0", "v1", Some("Q8_0")),
            ("hf://User/Re.po/sub/m%20x.gguf", "main", Some("sub/m x.gguf")),
            ("hf://User/Re.po@refs%2Fpr%2F1/m.gguf", "refs/pr/1", Some("m.gguf")),
            ("hf.co/User/Re.po:Q8_0", "main", Some("Q8_0")),
            ("HuggingFace.co/User/Re.po/", "main", None),
            ("https://huggingface.co/User/Re.po", "main", None),
            ("https://huggingface.co/User/Re.po/tree/v1", "v1", None),
            ("https://hf.co/User/Re.po/blob/main/m-Q8_0.gguf", "main", Some("m-Q8_0.gguf")),
            (
                "https://huggingface.co/User/Re.po/resolve/refs%2Fpr%2F1/sub/m.gguf?download=true",
                "refs/pr/1",
                Some("sub/m.gguf"),
            ),
            ("http://mirror.example:8080/User/Re.po/resolve/main/m.gguf#top", "main", Some("m.gguf")),
        ] {
            assert_eq!(read(text), found(revision, tag), "{text}");
        }
        for text in ["User/Re.po", "m.gguf", "hf.company/x", "hf.coal/x", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_model_says_what_would_be() {
        for (text, expected) in [
            ("https://example.com/m.gguf", "no address of the Hugging Face hub"),
            ("ftp://huggingface.co/a/b", "no address of the Hugging Face hub"),
            ("https://huggingface.co/datasets/a/b", "one of the datasets"),
            ("https://huggingface.co/a", "user/repo"),
            ("hf://a", "user/repo"),
            ("hf.co/", "user/repo"),
            ("https://huggingface.co/a/b/discussions/1", "give the address of one, or a/b"),
            ("https://huggingface.co/a/b/tree/main/sub", "names no file"),
            ("https://huggingface.co/a/b/blob/main", "names no file"),
            ("https://huggingface.co/a/b/blob/main/model.safetensors", "give a/b, which has all"),
            ("https://huggingface.co/a/b/blob/main/..%2F..%2Fx.gguf", "cannot have that name"),
            ("hf://a/b/../x.gguf", "cannot have that name"),
            ("hf://a/b:Q8_0/x.gguf", "a quantization and a file"),
            ("hf://a/b@%00/x.gguf", "after the @"),
        ] {
            let error = format!("{:#}", parse(text, None).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
