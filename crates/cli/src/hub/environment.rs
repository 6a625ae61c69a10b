//! What the environment says about the hub and about where models lie.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::directories;

/// The hub that `user/repo` names when `HF_ENDPOINT` says nothing.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, where its files are kept, and whether it may be asked; the variables are those of the Hugging Face
/// libraries, so that a model fetched by one program is found by the others.
#[derive(Clone, Debug)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`, or `HF_HOME/hub`, or `~/.cache/huggingface/hub`
    pub cache: PathBuf,
    /// `HF_ENDPOINT`, as it is set
    endpoint: String,
    /// `HF_TOKEN`, or the file that `hf auth login` writes
    token: Option<Token>,
    /// `HF_HUB_OFFLINE`: only what is on the disk
    pub offline: bool,
    /// our own models, which no hub knows: `$XDG_CACHE_HOME/lossy/models`
    pub own_models: PathBuf,
}

/// A token as it was found.
#[derive(Clone)]
struct Token {
    value: String,
    /// the variable or the file
    source: String,
}

/// It is a secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token of {}", self.source)
    }
}

/// What a connection needs.
pub struct Access {
    /// scheme and host, without a slash at the end
    pub endpoint: String,
    /// who asks
    pub token: Option<String>,
}

impl HubEnvironment {
    /// Reads the variables.
    ///
    /// # Errors
    /// No cache directory is named and there is no home directory to derive one from.
    pub fn from_env() -> Result<HubEnvironment> {
        let cache_home = directories::cache_home();
        let hf_home = match path_variable("HF_HOME") {
            Some(home) => Some(home),
            None => cache_home.as_ref().map(|home| home.join("huggingface")),
        };
        let cache = path_variable("HF_HUB_CACHE")
            .or_else(|| path_variable("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_ref().map(|home| home.join("hub")))
            .context("no home directory: set HF_HOME to say where models are kept")?;
        let own_models = match cache_home {
            Some(home) => home.join("lossy").join("models"),
            None => cache.join("lossy"),
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_string());
        Ok(HubEnvironment {
            token: token(hf_home.as_deref()),
            cache,
            endpoint,
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            own_models,
        })
    }

    /// Where to ask, and as whom. Checked when a hub is to be asked: a model on the disk needs neither.
    ///
    /// # Errors
    /// `HF_ENDPOINT` is no address, or the token has characters that no token has.
    pub fn access(&self) -> Result<Access> {
        let endpoint = endpoint(&self.endpoint)?.to_string();
        let token = self.token.as_ref().map(Token::checked).transpose()?;
        Ok(Access { endpoint, token })
    }

    /// Host of the hub, for names that are addresses; `None` if `HF_ENDPOINT` is none.
    pub fn host(&self) -> Option<&str> {
        host_of(endpoint(&self.endpoint).ok()?)
    }
}

impl Token {
    /// # Errors
    /// A header cannot hold it. The message does not show it.
    fn checked(&self) -> Result<String> {
        let token = self.value.trim();
        match token.chars().position(|c| !c.is_ascii_graphic()) {
            None => Ok(token.to_string()),
            Some(at) => bail!(
                "{}: character {} of the token is {:?}, which no token has; is it more than one line?",
                self.source,
                at + 1,
                token.chars().nth(at).unwrap_or_default()
            ),
        }
    }
}

/// Without slashes at the end.
fn endpoint(text: &str) -> Result<&str> {
    let text = text.trim();
    let endpoint = text.trim_end_matches('/');
    let Some((scheme, _)) = endpoint.split_once("://") else {
        bail!("HF_ENDPOINT is `{text}`, which has no scheme: write https://{endpoint}");
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        bail!("HF_ENDPOINT is `{text}`: only http:// and https:// can be asked");
    }
    if host_of(endpoint).is_none() || endpoint.contains(|c: char| c.is_whitespace() || c.is_control()) {
        bail!("HF_ENDPOINT is `{text}`, which is no address such as https://huggingface.co");
    }
    Ok(endpoint)
}

/// `localhost:8080` of `http://localhost:8080/path`.
pub fn host_of(address: &str) -> Option<&str> {
    let host = address.split_once("://")?.1.split(['/', '?', '#']).next()?;
    (!host.is_empty()).then_some(host)
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    // What is not UTF-8 is found to be wrong where it is used, and not taken for unset.
    let value = env::var_os(name)?.to_string_lossy().into_owned();
    Some(value).filter(|value| !value.trim().is_empty())
}

/// The same for a path, which may be any bytes.
fn path_variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_on(name: &str) -> bool {
    variable(name)
        .is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

fn token(hf_home: Option<&Path>) -> Option<Token> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = variable(name) {
            return Some(Token { value, source: name.to_string() });
        }
    }
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let file = match path_variable("HF_TOKEN_PATH") {
        Some(path) => path,
        None => hf_home?.join("token"),
    };
    let value = String::from_utf8_lossy(&std::fs::read(&file).ok()?).into_owned();
    Some(Token { value, source: file.display().to_string() }).filter(|token| !token.value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_with_a_scheme() {
        assert_eq!(endpoint(" http://localhost:8080/hub// ").unwrap(), "http://localhost:8080/hub");
        assert_eq!(host_of("http://localhost:8080/hub"), Some("localhost:8080"));
        for (text, expected) in [
            ("hf-mirror.com/", "has no scheme: write https://hf-mirror.com"),
            ("localhost:8080", "has no scheme: write https://localhost:8080"),
            ("file:///tmp", "only http:// and https://"),
            ("https://", "has no scheme"),
            ("https:///x", "no address"),
            ("https://a b", "no address"),
            ("https://a\nb", "no address"),
        ] {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_of_two_lines_is_named_and_not_shown() {
        let token = |value: &str| Token { value: value.to_string(), source: "HF_TOKEN".to_string() };
        assert_eq!(token(" hf_abc\n").checked().unwrap(), "hf_abc");
        for wrong in ["hf_abc\nhf_def", "hf_abc def", "hf_\u{fffd}"] {
            let error = token(wrong).checked().unwrap_err().to_string();
            assert!(error.starts_with("HF_TOKEN: character ") && !error.contains("hf_"), "{error}");
        }
        assert!(!format!("{:?}", token("hf_abc")).contains("hf_abc"));
    }
}
