//! `--min-speed`: what the smallest types make of all layers, and which layers go where that is not enough.
//!
//! ```text
//! all layers, smallest types ── fast enough ──► types are planned for the speed
//!          │ too slow
//!          ▼
//! as many layers go as take the time that is too much, one after another, each the one without which predictions move least
//!          │
//!          ▼
//! what is left in the smallest types ── too slow: more layers go
//!          │ fast enough
//!          ▼
//! what is left is the source of a plan of its own, and all losses are still measured beside MODEL
//! ```
//!
//! Bits go first, since they are far cheaper. A file of zeros is as fast as the real one, so nothing is rounded to know that.

use std::path::Path;

use anyhow::{Result, bail};
use lossy_compress::calibration::Split;
use lossy_compress::kept::{Kept, short_hash};
use lossy_compress::pace::{Pace, layers_to_remove};
use lossy_compress::prices::priced_matrices;
use lossy_compress::prune::steps::{Texts, remove_layers};
use lossy_compress::prune::write::{Plan, Provenance};
use lossy_compress::prune::{PruneError, Pruned};
use lossy_engine::ModelSource;
use lossy_kernels::{Compute, Isa};
use serde::{Deserialize, Serialize};

use super::CompressArgs;
use super::budget::{Allowance, Choices};
use super::outputs::first;
use super::speed::{Clock, Speed, Times};
use crate::args::NamedTokens;
use crate::commands::prune;
use crate::loaded::{in_file, open};
use crate::new_model;
use crate::observer::Bar;
use crate::terminal::note;

/// A speed that is wanted, and what was measured before anything was rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// tokens a second
    pub wanted: f64,
    /// what there is in the smallest types
    pub fast: Pace,
    /// the same in its own types
    pub slow: Pace,
    /// of all layers in the smallest types, tokens a second
    pub of_smallest: f64,
    /// layers that were left out
    pub gone: Option<Gone>,
}

/// Layers that were left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    /// MODEL's numbers of them, in the order in which they went
    pub layers: Vec<usize>,
    /// layers of MODEL
    pub n_layers: usize,
    /// divergence without them on text that chose nothing, nats a token
    pub kl: f64,
}

impl Goal {
    /// With what a file was measured to be.
    pub fn reached(&self, times: Times, n_threads: usize) -> Speed {
        Speed {
            wanted: self.wanted,
            measured: 1.0 / times.file,
            of_original: 1.0 / times.original,
            of_smallest: self.of_smallest,
            n_threads,
            gone: self.gone.clone(),
        }
    }
}

impl Gone {
    /// `3, 25`
    pub fn listed(&self) -> String {
        prune::listed(&self.layers)
    }
}

/// What is open before anything is computed.
pub struct Look<'a> {
    pub args: &'a CompressArgs,
    pub path: &'a Path,
    pub source: &'a ModelSource,
    pub choices: &'a Choices<'a>,
    pub kept: &'a Kept,
    pub text: &'a NamedTokens,
    pub clock: &'a Clock,
}

/// What comes of it: a goal, and the model without some layers if they had to go.
pub struct Found {
    pub goal: Goal,
    pub pruned: Option<ModelSource>,
}

impl Look<'_> {
    /// Measures, and leaves layers out if need be. `None`: Ctrl-C.
    pub fn find(&self, wanted: f64, allowed: Option<&Allowance>) -> Result<Option<Found>> {
        let Some((fast, times)) = self.smallest(self.choices)? else { return Ok(None) };
        let slow = Pace { bytes: self.choices.own_bytes()?, seconds: times.original };
        let goal = Goal { wanted, fast, slow, of_smallest: fast.speed(), gone: None };
        note(&format!(
            "MODEL decodes {:.1} tokens a second, and in the smallest types {:.1}",
            slow.speed(),
            fast.speed()
        ));
        if allowed.is_none() && slow.speed() >= wanted {
            bail!(
                "MODEL is as fast as --min-speed {wanted} already: it decodes {:.1} tokens a second",
                slow.speed()
            );
        }
        if fast.speed() >= wanted {
            return Ok(Some(Found { goal, pruned: None }));
        }
        let refused = |option: &str, why: &str| {
            format!(
                "in the smallest types MODEL decodes {:.1} tokens a second: --min-speed {wanted} needs fewer layers, but {option} {why}",
                fast.speed()
            )
        };
        if let Some(allowed @ Allowance::Loss(_)) = allowed {
            bail!(refused(&allowed.option(), "is for types alone: leave one of the two out"));
        }
        if self.args.keep_split {
            bail!(refused("--keep-split", "keeps all tensors: leave it out"));
        }
        self.without_layers(goal)
    }

    /// The model in the smallest types, and its time. `None`: Ctrl-C.
    fn smallest(&self, choices: &Choices<'_>) -> Result<Option<(Pace, Times)>> {
        let plan = choices.plan(&choices.smallest())?;
        let file = self.kept.path("smallest.gguf");
        plan.write_blank(&file)?;
        let times = (self.clock)(self.path, &first(plan.layout(), &file), self.args.threads.count())?;
        for path in plan.layout().paths(&file) {
            let _ = std::fs::remove_file(path);
        }
        Ok(times.map(|times| (Pace { bytes: plan.layout().file_bytes(), seconds: times.file }, times)))
    }

    /// Leaves out layers until the smallest types are fast enough. What an ended run has decided stays.
    fn without_layers(&self, goal: Goal) -> Result<Option<Found>> {
        let n_layers = self.source.info().n_layers;
        let piece = format!("layers.{}.json", short_hash(&goal.wanted.to_string()));
        let decided = self.kept.get(&piece).and_then(|bytes| serde_json::from_slice::<Gone>(&bytes).ok());
        let split = Split::of(&self.text.tokens)?;
        let mut texts = Texts::new(self.source, &split);
        let mut model = Pruned::new(self.source);
        let mut gone = Gone { layers: Vec::new(), n_layers, kl: 0.0 };
        if let Some(decided) = &decided {
            model.remove(&decided.layers)?;
            gone = decided.clone();
        }
        let mut pace = goal.fast;
        loop {
            if decided.is_none() {
                let n = self.n_to_remove(pace, &model, &goal)?;
                let Some(()) = self.remove(n, &mut model, &mut texts, &mut gone)? else { return Ok(None) };
            }
            let file = self.kept.path("pruned.gguf");
            Plan::new(&model, Provenance { kl: Some(gone.kl) })?.write(&file)?;
            let pruned = open(&file)?;
            let choices = Choices {
                source: new_model::gguf_of(&pruned),
                keeps_split: false,
                types: priced_matrices(&pruned).map_err(in_file(&file))?,
            };
            let Some((fast, _)) = self.smallest(&choices)? else { return Ok(None) };
            note(&format!("without {} of {n_layers} layers: {:.1}", gone.layers.len(), fast.speed()));
            if fast.speed() < goal.wanted && decided.is_none() {
                pace = fast;
                continue;
            }
            self.kept.put(&piece, &serde_json::to_vec(&gone)?)?;
            // Own types were not measured without these layers; a guess is where a plan begins.
            let bytes = choices.own_bytes()?;
            let seconds = goal.slow.seconds * bytes as f64 / goal.slow.bytes as f64;
            let goal = Goal {
                fast,
                slow: Pace { bytes, seconds: seconds.max(fast.seconds) },
                gone: Some(gone),
                ..goal
            };
            drop(choices);
            return Ok(Some(Found { goal, pruned: Some(pruned) }));
        }
    }

    /// How many layers more have to go.
    fn n_to_remove(&self, pace: Pace, model: &Pruned<'_>, goal: &Goal) -> Result<usize> {
        let smallest = self.choices.smallest();
        let of_layers = smallest.iter().filter(|(name, _)| name.starts_with("blk."));
        let bytes: u64 = of_layers.map(|(name, dtype)| self.choices.bytes(name, *dtype)).sum();
        let layer_bytes = bytes / self.source.info().n_layers as u64;
        layers_to_remove(pace, model.layers().len(), layer_bytes, 1.0 / goal.wanted).or_else(|least| {
            bail!(
                "--min-speed {} is out of reach: all layers in the smallest types decode {:.1} tokens a second, and one layer alone \
                 would some {:.1}",
                goal.wanted,
                goal.of_smallest,
                1.0 / least
            )
        })
    }

    /// `None`: Ctrl-C.
    fn remove(
        &self,
        n: usize,
        model: &mut Pruned<'_>,
        texts: &mut Texts<'_>,
        gone: &mut Gone,
    ) -> Result<Option<()>> {
        let cx = Compute::with_isa(self.args.threads.count(), Isa::best());
        let bar = Bar::start("looking for the layer that costs least", "Ctrl-C ends");
        let removed = remove_layers(&cx, model, n, None, texts, &mut |event| prune::see(&bar, event));
        let removed = match removed {
            Err(PruneError::Stopped) => return Ok(None),
            removed => removed.map_err(in_file(self.path))?,
        };
        gone.layers.extend(removed.iter().map(|removal| removal.layer));
        gone.kl = removed.last().map_or(gone.kl, |removal| removal.held_out);
        Ok(Some(()))
    }
}
