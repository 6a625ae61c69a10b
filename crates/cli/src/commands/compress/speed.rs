//! How fast files decode on this machine: measured, in turns, in some seconds.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use lossy_engine::{BatchItem, Cache, CacheOptions, Engine, EngineOptions, Logits};
use serde::Serialize;

use super::faster::Gone;
use crate::commands::bench::statistics::Statistics;
use crate::loaded::{in_file, open};
use crate::terminal::Spinner;
use crate::{instructions, interrupt};

/// Turns of each file.
const N_TURNS: usize = 7;
/// A turn takes about so many seconds, and decodes so many tokens at least and at most.
const TURN: f64 = 0.2;
const TOKENS: (usize, usize) = (2, 48);

/// Seconds that a token takes with a file, and with the model that it is made of, which comes first; with so many threads. `None`: Ctrl-C.
pub type Clock = dyn Fn(&Path, &Path, usize) -> Result<Option<Times>>;

/// Seconds for a token: medians over turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    pub file: f64,
    pub original: f64,
}

/// How fast the new file is, as the card and the JSON tell it: tokens a second, one after another, with an empty cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// that was asked for
    pub wanted: f64,
    /// of the file
    pub measured: f64,
    /// of the model that it is made of, in turns with it
    pub of_original: f64,
    /// of all layers in the smallest types, before anything was rounded
    pub of_smallest: f64,
    /// threads
    pub n_threads: usize,
    /// layers that were left out
    pub gone: Option<Gone>,
}

/// A loaded file.
struct Lane {
    engine: Engine,
    cache: Arc<Cache>,
}

/// The [`Clock`] of this machine: decodes with both, in turns.
pub fn times(original: &Path, file: &Path, n_threads: usize) -> Result<Option<Times>> {
    let spinner = Spinner::start("measuring speed");
    let mut lanes = [Lane::load(file, n_threads)?, Lane::load(original, n_threads)?];
    let mut n_tokens = [0; 2];
    for (lane, n_tokens) in lanes.iter_mut().zip(&mut n_tokens) {
        // The first pass touches memory for the first time, the second shows how many tokens a turn has.
        lane.seconds(1)?;
        let fit = (TURN / lane.seconds(TOKENS.0)?) as usize;
        *n_tokens = fit.clamp(TOKENS.0, TOKENS.1);
    }
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..N_TURNS {
        for ((lane, n_tokens), seconds) in lanes.iter_mut().zip(n_tokens).zip(&mut seconds) {
            if interrupt::is_asked() {
                return Ok(None);
            }
            seconds.push(lane.seconds(n_tokens)?);
        }
    }
    drop(spinner);
    let [file, original] = seconds.map(|seconds| Statistics::of(&seconds).median);
    Ok(Some(Times { file, original }))
}

impl Lane {
    fn load(path: &Path, n_threads: usize) -> Result<Lane> {
        let options = EngineOptions {
            n_threads: Some(n_threads),
            isa: instructions::isa()?,
            ..EngineOptions::default()
        };
        let source = open(path)?;
        let mut engine = Engine::load(&source, &options).map_err(in_file(path))?;
        let n_ctx = TOKENS.1.min(source.info().n_ctx_train);
        let cache = engine.cache(&CacheOptions { n_ctx: Some(n_ctx), ..CacheOptions::default() })?;
        Ok(Lane { engine, cache })
    }

    /// What a token takes, of so many behind an empty cache.
    fn seconds(&mut self, n_tokens: usize) -> Result<f64> {
        let n_tokens = n_tokens.min(self.cache.n_ctx());
        let n_vocab = self.engine.n_vocab();
        let mut sequence = self.cache.sequence();
        let start = Instant::now();
        for at in 0..n_tokens {
            // Any tokens do.
            let tokens = [(at * 7919 % n_vocab) as u32];
            let item = BatchItem { sequence: &mut sequence, tokens: &tokens, logits: Logits::Last };
            self.engine.forward(&mut [item])?;
        }
        Ok(start.elapsed().as_secs_f64() / n_tokens as f64)
    }
}

impl Speed {
    /// A paragraph of the model card.
    pub fn told(&self, original: &str) -> String {
        let Speed { wanted, measured, of_original, of_smallest, n_threads, gone } = self;
        let what = format!(
            "{measured:.1} tokens a second, one after another with an empty cache, on the machine that it was made on with {n_threads} \
             threads; {original} in turns with it: {of_original:.1}. Asked for were {wanted}."
        );
        let how = match gone {
            None => format!(
                "No layer was left out: fewer bits are enough, with the smallest types {of_smallest:.1} tokens a second."
            ),
            Some(gone) => format!(
                "{} of {} layers were left out (of {original}: {}), since all of them in the smallest types decode only {of_smallest:.1} \
                 tokens a second. Layers go one after another, each the one that costs least. Without them the KL is {:.4} on text \
                 that chose nothing, before any weight has fewer bits.",
                gone.layers.len(),
                gone.n_layers,
                gone.listed(),
                gone.kl
            ),
        };
        format!("{what} {how}")
    }
}
