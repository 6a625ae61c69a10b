//! The models on this machine.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use super::alias::ALIASES;
use super::cache::RepoCache;
use super::environment::HubEnvironment;
use super::quant;
use super::reference::{RepoId, Revision};

/// A model that `run` finds without fetching anything.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct InstalledModel {
    /// what to write for MODEL
    pub name: String,
    /// `Q4_K_M`, or `safetensors`
    pub quant: String,
    /// all its files
    pub bytes: u64,
    /// of the (first) file, or of the directory
    pub path: PathBuf,
}

/// Aliases first, then the hub's cache by name. What cannot be read is not listed.
pub fn installed(environment: &HubEnvironment) -> Vec<InstalledModel> {
    let aliases = ALIASES.iter().filter_map(|alias| {
        let path = super::find_alias(environment, alias)?;
        let quant = quant::variants([alias.file]).pop()?.label;
        Some(InstalledModel { name: alias.name.to_string(), quant, bytes: alias.bytes, path })
    });
    let mut models: Vec<InstalledModel> = aliases.collect();
    let entries = fs::read_dir(&environment.cache).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut repos: Vec<RepoId> = names.filter_map(|name| RepoId::from_folder_name(&name)).collect();
    repos.sort();
    for repo in repos {
        models.extend(models_of(environment, &repo));
    }
    models
}

fn models_of(environment: &HubEnvironment, repo: &RepoId) -> Vec<InstalledModel> {
    let Some(snapshot) = RepoCache::new(&environment.cache, repo).newest_snapshot(&Revision::default())
    else {
        return Vec::new();
    };
    let variants = quant::variants(snapshot.files.iter().map(String::as_str));
    let complete = variants.into_iter().filter(quant::Variant::is_complete);
    let mut models: Vec<InstalledModel> = complete
        .map(|variant| InstalledModel {
            name: format!("{repo}:{}", variant.label),
            bytes: snapshot.bytes(&variant.files),
            path: snapshot.folder.join(&variant.files[0]),
            quant: variant.label,
        })
        .collect();
    if let (true, Some(files)) = (models.is_empty(), snapshot.safetensors()) {
        models.push(InstalledModel {
            name: repo.to_string(),
            quant: "safetensors".to_string(),
            bytes: snapshot.bytes(&files),
            path: snapshot.folder,
        });
    }
    models
}
