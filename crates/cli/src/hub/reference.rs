//! What a user may write where a MODEL is asked for.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::address;
use super::alias::{self, Alias};

/// A MODEL argument, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelReference {
    /// a GGUF file or a Hugging Face directory
    Path(PathBuf),
    /// a name that this program knows
    Alias(&'static Alias),
    /// a repository of the hub
    Repo(RepoReference),
}

/// `user/repo[@revision][:quant]`, or an address of the hub that says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoReference {
    /// the repository
    pub repo: RepoId,
    /// which state of it
    pub revision: Revision,
    /// what follows the colon: a quantization as file names spell it, or a file name
    pub tag: Option<String>,
}

/// A branch, a tag or a commit, checked to be usable in an address and as a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Default for Revision {
    fn default() -> Revision {
        Revision("main".to_string())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Revision {
    /// `main`, `v1.0`, `refs/pr/1`, forty hexadecimal digits; `None` if it is none of these.
    pub fn parse(text: &str) -> Option<Revision> {
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && !part.ends_with('.')
                && !part.contains("..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        (text.len() <= 200 && text.split('/').all(is_part)).then(|| Revision(text.to_string()))
    }

    /// As the user writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The repository at this revision: `user/repo`, or `user/repo@v1.0`.
    pub fn named(&self, repo: &RepoId) -> String {
        if *self == Revision::default() { repo.to_string() } else { format!("{repo}@{self}") }
    }

    /// As one part of an address.
    pub fn encoded(&self) -> String {
        self.0.replace('/', "%2F")
    }
}

/// `user/repo`, checked to be usable in an address and as a directory name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoId {
    owner: String,
    name: String,
}

impl RepoId {
    /// Reads `user/repo`; `None` if it is not one.
    pub fn parse(text: &str) -> Option<RepoId> {
        let (owner, name) = text.split_once('/')?;
        let is_part = |part: &str| {
            !part.is_empty()
                && part.len() <= 96
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        (is_part(owner) && is_part(name)).then(|| RepoId { owner: owner.to_string(), name: name.to_string() })
    }

    /// The repository of a cache folder `models--user--repo`.
    pub fn from_folder_name(folder: &str) -> Option<RepoId> {
        let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
        RepoId::parse(&format!("{owner}/{name}"))
    }

    /// Its folder in the cache: `models--user--repo`.
    pub fn folder_name(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl ModelReference {
    /// Understands a MODEL argument: an alias first, then what exists on the disk, then a name or an address of the hub,
    /// which is at `host` too.
    ///
    /// # Errors
    /// It is none of these; the message says what would be.
    pub fn parse(text: &str, host: Option<&str>) -> Result<ModelReference> {
        if let Some(alias) = alias::find(text) {
            return Ok(ModelReference::Alias(alias));
        }
        let path = Path::new(text);
        if path.is_file() || path.is_dir() {
            return Ok(ModelReference::Path(path.to_path_buf()));
        }
        if path.exists() {
            bail!("{text} is neither a file nor a directory");
        }
        if let Some(found) = address::parse(text, host)? {
            return Ok(ModelReference::Repo(found));
        }
        let is_file_name =
            path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf") || ext == "safetensors");
        if is_file_name && !text.contains(':') {
            bail!("no such file: {text}");
        }
        match RepoReference::parse(text)? {
            Some(found) => Ok(ModelReference::Repo(found)),
            None if path.is_absolute() || text.starts_with('.') => bail!("no such file: {text}"),
            None => bail!(
                "`{text}` is not a model: give a GGUF file, a Hugging Face directory, user/repo[:quant], or {}",
                alias::names()
            ),
        }
    }
}

impl RepoReference {
    /// Reads `user/repo[@revision][:quant]`; `None` if it does not begin with a repository.
    ///
    /// # Errors
    /// It does, and what follows cannot be.
    pub fn parse(text: &str) -> Result<Option<RepoReference>> {
        let (name, tag) = match text.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (text, None),
        };
        let (repo, revision) = match name.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (name, None),
        };
        let Some(repo) = RepoId::parse(repo) else { return Ok(None) };
        if tag.is_some_and(|tag| tag.is_empty() || tag.contains(['\\', ':']) || tag.contains("..")) {
            bail!("`{text}`: after the colon comes a quantization such as Q4_K_M, or a file name");
        }
        let revision = match revision.map(Revision::parse) {
            None => Revision::default(),
            Some(Some(revision)) => revision,
            Some(None) => bail!("`{text}`: after the @ comes a branch, a tag or a commit"),
        };
        Ok(Some(RepoReference { repo, revision, tag: tag.map(str::to_string) }))
    }
}

/// Fails if a path on the disk is a part of a model only, and says what to give.
pub fn check_path(path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.is_file() && (name.ends_with(".safetensors") || name.ends_with(".json")) {
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        bail!(
            "{} is one file of a Hugging Face model: give the directory, {}",
            path.display(),
            directory.display()
        );
    }
    if path.is_dir() && !path.join("config.json").exists() {
        let names = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut files: Vec<String> = names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.to_ascii_lowercase().ends_with(".gguf"))
            .collect();
        files.sort();
        let shown = files.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        match files.len() {
            0 => {
                bail!("{} is a directory without config.json, so it is no Hugging Face model", path.display())
            }
            1..=3 => bail!(
                "{} is a directory without config.json: give a GGUF file in it ({shown})",
                path.display()
            ),
            _ => bail!(
                "{} is a directory without config.json: give a GGUF file in it ({shown}, …)",
                path.display()
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelReference> {
        ModelReference::parse(text, None)
    }

    fn repo(text: &str) -> (String, String, Option<String>) {
        match parse(text).unwrap() {
            ModelReference::Repo(found) => (found.repo.to_string(), found.revision.to_string(), found.tag),
            other => panic!("{text} became {other:?}"),
        }
    }

    #[test]
    fn an_alias_is_found_whatever_its_case() {
        assert!(matches!(parse("SmolLM2").unwrap(), ModelReference::Alias(_)));
    }

    #[test]
    fn a_repository_may_carry_a_quantization_or_a_file_name() {
        let main = || "main".to_string();
        assert_eq!(repo("Qwen/Qwen3-0.6B-GGUF"), ("Qwen/Qwen3-0.6B-GGUF".into(), main(), None));
        assert_eq!(repo("a/b:q8_0"), ("a/b".into(), main(), Some("q8_0".into())));
        assert_eq!(repo("a/b:sub/x.gguf"), ("a/b".into(), main(), Some("sub/x.gguf".into())));
    }

    #[test]
    fn a_repository_may_carry_a_revision() {
        assert_eq!(repo("a/b@v1.0"), ("a/b".into(), "v1.0".into(), None));
        assert_eq!(repo("a/b@refs/pr/1:q8_0"), ("a/b".into(), "refs/pr/1".into(), Some("q8_0".into())));
        assert_eq!(Revision::parse("refs/pr/1").unwrap().encoded(), "refs%2Fpr%2F1");
        for wrong in ["a/b@", "a/b@../x", "a/b@/x", "a/b@x/", "a/b@.x", "a/b@x y", "a/b@-x", "a/b@x//y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_of_a_model_names_what_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        let message = |path: &Path| check_path(path).unwrap_err().to_string();
        let name = folder.path().display().to_string();
        assert_eq!(
            message(folder.path()),
            format!("{name} is a directory without config.json, so it is no Hugging Face model")
        );
        fs::write(inside("a.gguf"), "").unwrap();
        assert_eq!(
            message(folder.path()),
            format!("{name} is a directory without config.json: give a GGUF file in it (a.gguf)")
        );
        assert!(check_path(&inside("a.gguf")).is_ok());
        fs::write(inside("config.json"), "{}").unwrap();
        assert!(check_path(folder.path()).is_ok());
        fs::write(inside("model.safetensors"), "").unwrap();
        for part in ["model.safetensors", "config.json"] {
            assert!(message(&inside(part)).ends_with(&format!("give the directory, {name}")));
        }
    }

    #[test]
    fn an_existing_path_is_a_path_even_without_a_known_extension() {
        let reference = parse("/").unwrap();
        assert_eq!(reference, ModelReference::Path(PathBuf::from("/")));
    }

    #[test]
    fn a_missing_file_is_not_taken_for_a_repository() {
        for text in ["models/x.gguf", "/no/such", "./a/b", "../x", "x.gguf"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("no such file"), "{text}: {error}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "",
            "a",
            "a/b/c",
            "a/..",
            "../b",
            "a/b:",
            "a/b:../../x",
            "a/b:x\\y",
            "-x/y",
            "a--b/c",
            "a/b\0",
            "a b/c",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_folder_name_leads_back_to_its_repository() {
        let repo = RepoId::parse("some-org/Some_Model-1.5B").unwrap();
        assert_eq!(repo.folder_name(), "models--some-org--Some_Model-1.5B");
        assert_eq!(RepoId::from_folder_name(&repo.folder_name()), Some(repo));
        assert_eq!(RepoId::from_folder_name("datasets--a--b"), None);
    }
}
