//! What a user may write where a MODEL is asked for.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::alias::{self, Alias};

/// A MODEL argument, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelReference {
    /// a GGUF file or a Hugging Face directory
    Path(PathBuf),
    /// a name that this program knows
    Alias(&'static Alias),
    /// `user/repo[:quant]` on the hub
    Repo {
        /// the repository
        repo: RepoId,
        /// what follows the colon: a quantization as file names spell it, or a file name
        tag: Option<String>,
    },
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
    /// Understands a MODEL argument: an alias first, then what exists on the disk, then `user/repo[:quant]`.
    ///
    /// # Errors
    /// It is none of the three; the message says what would be.
    pub fn parse(text: &str) -> Result<ModelReference> {
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
        let (repo, tag) = match text.split_once(':') {
            Some((repo, tag)) => (repo, Some(tag)),
            None => (text, None),
        };
        let looks_like_file = tag.is_none()
            && path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf") || ext == "safetensors");
        match RepoId::parse(repo) {
            Some(repo) if !looks_like_file => {
                if tag.is_some_and(|tag| tag.is_empty() || tag.contains(['\\', ':']) || tag.contains("..")) {
                    bail!("`{text}`: after the colon comes a quantization such as Q4_K_M, or a file name");
                }
                Ok(ModelReference::Repo { repo, tag: tag.map(str::to_string) })
            }
            _ if looks_like_file || path.is_absolute() || text.starts_with('.') => {
                bail!("no such file: {text}")
            }
            _ => bail!(
                "`{text}` is not a model: give a GGUF file, a Hugging Face directory, user/repo[:quant], or {}",
                alias::names()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(text: &str) -> (String, Option<String>) {
        match ModelReference::parse(text).unwrap() {
            ModelReference::Repo { repo, tag } => (repo.to_string(), tag),
            other => panic!("{text} became {other:?}"),
        }
    }

    #[test]
    fn an_alias_is_found_whatever_its_case() {
        assert!(matches!(ModelReference::parse("SmolLM2").unwrap(), ModelReference::Alias(_)));
    }

    #[test]
    fn a_repository_may_carry_a_quantization_or_a_file_name() {
        assert_eq!(repo("Qwen/Qwen3-0.6B-GGUF"), ("Qwen/Qwen3-0.6B-GGUF".into(), None));
        assert_eq!(repo("a/b:q8_0"), ("a/b".into(), Some("q8_0".into())));
        assert_eq!(repo("a/b:sub/x.gguf"), ("a/b".into(), Some("sub/x.gguf".into())));
    }

    #[test]
    fn an_existing_path_is_a_path_even_without_a_known_extension() {
        let reference = ModelReference::parse("/").unwrap();
        assert_eq!(reference, ModelReference::Path(PathBuf::from("/")));
    }

    #[test]
    fn a_missing_file_is_not_taken_for_a_repository() {
        for text in ["models/x.gguf", "/no/such", "./a/b", "../x", "x.gguf"] {
            let error = ModelReference::parse(text).unwrap_err().to_string();
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
            assert!(ModelReference::parse(text).is_err(), "{text:?} was accepted");
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
