//! A short measurement where none is kept: what a setting costs on this model, and which setting a budget allows.
//!
//! Two windows of bundled text; after a minute one is enough. What comes of it is kept as certificates in the user's cache
//! directory, by model and version, beside those that `lossy measure` makes.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lossy_engine::{ActivationKind, Engine, EngineOptions, KvScheme, ModelSource};
use lossy_eval::divergence::{self, RunOptions};
use lossy_eval::{
    Budget, Certificate, Certificates, Measurement, ReferenceFigures, Report, SettingFigures, WindowOptions,
    cheapest, today, windows,
};

use super::progress::Bar;
use super::settings::{self, Loaded, Settings};
use super::texts;
use crate::args::Activations;
use crate::loaded::{self, in_file, open};
use crate::terminal::{self, note};
use crate::{directories, interrupt, version};

/// Tokens of a window.
const N_CTX: usize = 1024;
const N_WINDOWS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// How many candidates are tried before the cheapest within the budget is taken.
const BATCHES: [usize; 3] = [1, 3, usize::MAX];

/// Certificates of this user, if there is a place for them.
pub fn certificates() -> Option<Certificates> {
    Some(Certificates::new(directories::cache_home()?.join("lossy").join("certificates")))
}

/// The fingerprint of a model as certificates have it.
pub fn model_hash(source: &ModelSource) -> String {
    source.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `q8` or `f32`, as certificates have it.
pub fn activations_name(activations: Activations) -> &'static str {
    match activations {
        Activations::F32 => "f32",
        Activations::Q8 => "q8",
    }
}

/// The scheme of fewest bits that stays within a budget on the model at `path`; what is not known yet is measured.
///
/// # Errors
/// None does; or the model cannot be measured.
pub fn within(path: &Path, options: &EngineOptions, budget: &Budget) -> Result<KvScheme> {
    let source = open(path)?;
    let activations = activations(options.activations);
    interrupt::listen(interrupt::Second::Ends);
    let mut known = kept(&source, activations);
    // The cheapest first, since it is usually within; then more at once, so that the reference is not run for each.
    for n_candidates in BATCHES {
        let candidates = &settings::CANDIDATES[..n_candidates.min(settings::CANDIDATES.len())];
        let is_known = |name: &&&str| known.iter().any(|certificate| certificate.setting == **name);
        let missing: Vec<&str> = candidates.iter().filter(|name| !is_known(name)).copied().collect();
        if !missing.is_empty() {
            if !terminal::is_drawn() {
                note(&format!("measuring what {} costs on this model (once)", missing.join(", ")));
            }
            let n_ctx = N_CTX.min(source.info().n_ctx_train);
            let options = EngineOptions { kv: None, n_ctx: Some(n_ctx), ..options.clone() };
            let settings = Settings::candidates(&missing, activations)?;
            let mut loaded = settings.load(&source, &options).map_err(in_file(path))?;
            known.extend(measure(&mut loaded, &source, path, activations)?);
            if interrupt::is_asked() {
                bail!("stopped before a KV scheme within {budget} was found");
            }
        }
        let among = |certificate: &&Certificate| candidates.contains(&certificate.setting.as_str());
        let tried: Vec<Certificate> = known.iter().filter(among).cloned().collect();
        if cheapest(&tried, budget).is_some() {
            known = tried;
            break;
        }
    }
    match cheapest(&known, budget) {
        Some(certificate) => {
            note(&format!("{} (within {budget})", certificate.line()));
            certificate.setting.parse().map_err(|error| anyhow::anyhow!("{}: {error}", certificate.setting))
        }
        None => {
            let best = known.iter().min_by(|a, b| a.loss.kl.value.total_cmp(&b.loss.kl.value));
            let best = best.map(|best| format!("; the best is {}", best.line())).unwrap_or_default();
            bail!("no KV scheme stays within {budget} on this model{best}")
        }
    }
}

/// Says what the lossy scheme of a loaded model costs: from what is kept, or on a terminal from a measurement.
///
/// # Errors
/// The model cannot be measured.
pub fn warn(
    mut model: loaded::Loaded,
    path: &Path,
    activations_kind: ActivationKind,
) -> Result<loaded::Loaded> {
    let scheme = model.engine.kv().clone();
    if scheme.is_exact() {
        return Ok(model);
    }
    let source = open(path)?;
    let activations = activations(activations_kind);
    let name = scheme.to_string();
    let mut known = kept(&source, activations);
    known.retain(|certificate| certificate.setting == name);
    if known.is_empty() && terminal::is_drawn() {
        let (engine, certificates) = measure_loaded(model.engine, &scheme, &source, path, activations)?;
        model.engine = engine;
        known = certificates;
    }
    if let Some(certificate) = known.first() {
        match certificate.is_bad() {
            true => note(&format!(
                "WARNING: {}: answers will be others. Try --max-loss kl=0.02",
                certificate.line()
            )),
            false => note(&certificate.line()),
        }
    }
    Ok(model)
}

fn activations(kind: ActivationKind) -> Activations {
    match kind {
        ActivationKind::F32 => Activations::F32,
        ActivationKind::Q8 => Activations::Q8,
    }
}

fn kept(source: &ModelSource, activations: Activations) -> Vec<Certificate> {
    let find = |certificates: Certificates| {
        certificates.find(&model_hash(source), version::short(), activations_name(activations))
    };
    certificates().map(find).unwrap_or_default()
}

/// Measures the scheme that `engine` has, and gives the engine back.
fn measure_loaded(
    engine: Engine,
    scheme: &KvScheme,
    source: &ModelSource,
    path: &Path,
    activations: Activations,
) -> Result<(Engine, Vec<Certificate>)> {
    let mut loaded = Settings::of_engine(engine, scheme, activations).map_err(in_file(path))?;
    let certificates = measure(&mut loaded, source, path, activations)?;
    Ok((loaded.lanes.into_engine(), certificates))
}

/// Certificates of all settings, which are kept too.
fn measure(
    loaded: &mut Loaded,
    source: &ModelSource,
    path: &Path,
    activations: Activations,
) -> Result<Vec<Certificate>> {
    if loaded.settings.is_empty() {
        return Ok(Vec::new());
    }
    let engine = loaded.lanes.engine();
    let (n_ctx, n_threads) = (N_CTX.min(engine.n_ctx()), engine.n_threads());
    let tokenizer = source.tokenizer().map_err(in_file(path))?;
    let texts = texts::read(&[], &tokenizer)?;
    let mut windows = windows(&texts, &WindowOptions::new(n_ctx))?;
    windows.truncate(N_WINDOWS);
    let run_options = RunOptions { chunk: 256, n_threads };
    let bar = Bar::start("measuring what it costs on this model (once)");
    let began = Instant::now();
    let divergence = divergence::run(&mut loaded.lanes, &windows, &run_options, &mut |progress| match began
        .elapsed()
        > PATIENCE
    {
        true => ControlFlow::Break(()),
        false => bar.set(progress.n_done, progress.n_total),
    })?;
    drop(bar);
    let model = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let measurement = Measurement {
        version: version::short().to_string(),
        command: super::command_line(),
        model: model.clone(),
        texts: texts.iter().take(windows.len()).map(|text| text.name.clone()).collect(),
        n_ctx,
        n_windows: windows.len(),
        n_scored_per_window: windows.first().map_or(0, |window| window.n_scored()),
        chunk: run_options.chunk,
        activations: activations_name(activations).to_string(),
        n_threads,
        is_complete: divergence.is_complete,
        reference: ReferenceFigures::new(&loaded.reference, &divergence),
        settings: SettingFigures::all(&loaded.settings, &divergence),
    };
    let report = Report {
        version: version::short().to_string(),
        command: super::command_line(),
        date: today(),
        model,
        model_hash: model_hash(source),
        is_complete: measurement.is_complete,
        divergence: vec![measurement],
        tasks: Vec::new(),
        choice: None,
    };
    Ok(keep(&report).into_iter().map(|(certificate, _)| certificate).collect())
}

/// Keeps a certificate of each setting of a report; with its file, where it could be written.
pub fn keep(report: &Report) -> Vec<(Certificate, Option<std::path::PathBuf>)> {
    let folder = certificates();
    let kept = |certificate: Certificate| {
        let file = folder.as_ref().and_then(|folder| folder.keep(&certificate).ok());
        (certificate, file)
    };
    Certificate::all(report).into_iter().map(kept).collect()
}
