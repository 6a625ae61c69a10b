//! What the environment says about the hub and about where models lie.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::directories;

/// The hub that `user/repo` names when `HF_ENDPOINT` says nothing.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, where its files are kept, and whether it may be asked; the variables are those of the Hugging Face
/// libraries, so that a model fetched by one program is found by the others.
#[derive(Clone, Debug)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`, or `HF_HOME/hub`, or `~/.cache/huggingface/hub`
    pub cache: PathBuf,
    /// `HF_ENDPOINT` without a slash at its end
    pub endpoint: String,
    /// `HF_TOKEN`, or the file that `hf auth login` writes
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: only what is on the disk
    pub offline: bool,
    /// our own models, which no hub knows: `$XDG_CACHE_HOME/lossy/models`
    pub own_models: PathBuf,
}

impl HubEnvironment {
    /// Reads the variables.
    ///
    /// # Errors
    /// No cache directory is named and there is no home directory to derive one from.
    pub fn from_env() -> Result<HubEnvironment> {
        let cache_home = directories::cache_home();
        let hf_home = match variable("HF_HOME") {
            Some(home) => Some(PathBuf::from(home)),
            None => cache_home.as_ref().map(|home| home.join("huggingface")),
        };
        let cache = variable("HF_HUB_CACHE")
            .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
            .map(PathBuf::from)
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
            endpoint: endpoint.trim_end_matches('/').to_string(),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            own_models,
        })
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn is_on(name: &str) -> bool {
    variable(name)
        .is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

fn token(hf_home: Option<&Path>) -> Option<String> {
    if let Some(token) = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")) {
        return Some(token.trim().to_string());
    }
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let file = match variable("HF_TOKEN_PATH") {
        Some(path) => PathBuf::from(path),
        None => hf_home?.join("token"),
    };
    let token = std::fs::read_to_string(file).ok()?;
    Some(token.trim().to_string()).filter(|token| !token.is_empty())
}
