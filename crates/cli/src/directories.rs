//! The XDG base directories: what is ours on the disk, apart from models of the hub.

use std::env;
use std::path::PathBuf;

use lossy_eval::Certificates;

/// `$XDG_CACHE_HOME`, or `~/.cache` (on Windows `%LOCALAPPDATA%`).
pub fn cache_home() -> Option<PathBuf> {
    base("XDG_CACHE_HOME", ".cache")
}

/// `$XDG_STATE_HOME/lossy`, or `~/.local/state/lossy`: the chat's history.
pub fn state() -> Option<PathBuf> {
    base("XDG_STATE_HOME", ".local/state").map(|home| home.join("lossy"))
}

/// Certificates of what settings cost.
pub fn certificates() -> Certificates {
    Certificates::new(cache_home().map(|home| home.join("lossy").join("certificates")))
}

/// XDG says that a relative path in such a variable is invalid and ignored.
fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Some(path);
    }
    if cfg!(windows)
        && let Some(path) = env::var_os("LOCALAPPDATA").map(PathBuf::from)
    {
        return Some(path);
    }
    env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(below_home))
}
