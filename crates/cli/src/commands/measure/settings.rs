//! The settings that are compared.

use anyhow::{Result, anyhow};
use lossy_engine::{KvScheme, KvType};
use lossy_eval::Setting;

use crate::args::Activations;

/// Settings that a budget chooses from unless others are named, by rising bits. The last is the reference itself.
const CANDIDATES: [&str; 7] = ["k2v2", "k3v2", "k3v3", "k4v3", "k4v4", "q8", "f16"];

/// What others are compared with.
pub fn reference(activations: Activations) -> Setting {
    KvScheme::exact(if activations == Activations::F32 { KvType::F32 } else { KvType::F16 }).into()
}

/// The settings of `--kv`.
///
/// # Errors
/// One does not exist; the error names it.
pub fn parse(names: &[String]) -> Result<Vec<Setting>> {
    names.iter().map(|name| name.parse().map_err(|error| anyhow!("--kv {name}: {error}"))).collect()
}

/// What a budget chooses from.
pub fn candidates() -> Vec<Setting> {
    CANDIDATES.iter().filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_candidates_are_settings() {
        let names: Vec<String> = candidates().iter().map(Setting::to_string).collect();
        assert_eq!(names, CANDIDATES);
        assert_eq!(candidates().last(), Some(&reference(Activations::Q8)));
    }

    #[test]
    fn a_setting_that_does_not_exist_is_named() {
        let error = parse(&["k2v2".to_string(), "x9".to_string()]).unwrap_err().to_string();
        assert!(error.starts_with("--kv x9: "), "{error}");
    }
}
