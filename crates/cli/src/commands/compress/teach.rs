//! Training of the file that was planned, inside its types: what `lossy distill` does, with MODEL as the teacher.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lossy_compress::calibration::{Split, WINDOW};
use lossy_compress::distill::{self, Provenance};
use lossy_compress::kept::short_hash;
use lossy_compress::student::Student;
use lossy_compress::train::{Next, Piece, TrainOptions, Trained, train_kept};
use lossy_eval::{Budget, Loss, Report};
use lossy_formats::AtomicFile;
use serde::Serialize;

use super::budget::Types;
use super::job::Job;
use super::measured::{Measuring, figures};
use super::outputs::first;
use crate::args::NamedTokens;
use crate::loaded::{in_file, open};
use crate::loss::file_name;
use crate::terminal::note;
use crate::training::{Amount, Clock};
use crate::units::grouped;
use crate::{interrupt, new_model};

/// What training came to, as the card and the JSON tell it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// the step whose numbers were measured; 0: none was better than the beginning
    pub best_step: usize,
    /// steps that were done
    pub n_steps: usize,
    /// tokens of each
    pub step_tokens: usize,
    /// tokens that were held out
    pub n_held_out: usize,
    /// KL on these before, nats a token
    pub held_out_before: f64,
    /// and after
    pub held_out_after: f64,
    /// KL on the measured text without training, the cache included where there is one
    pub measured_before: f64,
    /// and with it
    pub measured_after: Option<f64>,
    /// whether OUT is the trained file
    pub is_kept: bool,
}

/// A training's end.
pub struct Taught {
    pub training: Training,
    /// the trained files and their report, where it is better
    pub better: Option<(Vec<PathBuf>, Report)>,
}

impl Job<'_> {
    /// Trains the file of these types, which lies in `file`, and loses `before`. `None`: Ctrl-C.
    pub(super) fn teach(
        &self,
        file: &Path,
        types: &Types,
        before: &Loss,
        amount: Amount,
        measuring: &Measuring<'_>,
        text: &NamedTokens,
    ) -> Result<Option<Taught>> {
        let source = open(file)?;
        let mut student = Student::of_file(&source).map_err(in_file(file))?;
        let mut split = Split::of(&text.tokens)?;
        // The order that `lossy distill` has.
        split.shuffle(0);
        let options = TrainOptions {
            n_steps: amount.steps(),
            n_threads: self.args.threads.count(),
            ..TrainOptions::default()
        };
        let name = format!("training.{}", short_hash(&format!("{types:?} {amount:?}")));
        let hint = "Ctrl-C ends; --resume goes on";
        let mut clock = Clock::start(amount, &options, Next::Pause, hint);
        let piece = Piece { kept: self.kept, name: &name };
        let mut see = |progress| clock.see(progress);
        let trained = train_kept(&mut student, self.original, &split, &options, piece, &mut see)?;
        for line in clock.told(trained) {
            note(&line);
        }
        drop(clock);
        if interrupt::is_asked() {
            return Ok(None);
        }
        let Trained { before: held_out_before, after: held_out_after, n_steps, best_step } = trained;
        let mut training = Training {
            best_step,
            n_steps,
            step_tokens: options.batch * WINDOW,
            n_held_out: split.held_out.len() * WINDOW,
            held_out_before,
            held_out_after,
            measured_before: before.kl.value,
            measured_after: None,
            is_kept: false,
        };
        if best_step == 0 {
            note(&format!(
                "training made nothing better on {} tokens that were held out",
                grouped(training.n_held_out as u64)
            ));
            return Ok(Some(Taught { training, better: None }));
        }
        let teacher = self.original.info().name.clone().unwrap_or_else(|| file_name(self.path));
        let provenance = Provenance { teacher, trained: "scales", result: trained };
        let new = self.kept.path("trained.gguf");
        let keeps_split = self.args.keep_split;
        distill::write(&student, &provenance, keeps_split, &new)?;
        let layout = distill::layout(new_model::gguf_of(&source), None, keeps_split)?;
        let name = file_name(&first(&layout, &self.args.output));
        let Some(report) = measuring.model(&first(&layout, &new), &name)? else { return Ok(None) };
        let after = figures(&report).last().map(|figures| Loss::of(&figures.summary)).unwrap_or_default();
        training.measured_after = Some(after.kl.value);
        training.is_kept = is_better(before, &after, self.args.max_loss.as_ref());
        note(&format!(
            "trained for {best_step} of {n_steps} steps: KL {held_out_before:.4} → {held_out_after:.4} on text that was held out, \
             {:.4} → {:.4} ± {:.4} measured{}",
            before.kl.value,
            after.kl.value,
            after.kl.se,
            if training.is_kept { "" } else { ": that is worse, so OUT is the file without training" }
        ));
        let better = training.is_kept.then(|| (layout.paths(&new), report));
        Ok(Some(Taught { training, better }))
    }
}

/// Whether a trained file takes the place of the other: it loses less where nothing was trained, and what was promised is kept.
fn is_better(before: &Loss, after: &Loss, budget: Option<&Budget>) -> bool {
    after.kl.value < before.kl.value && budget.is_none_or(|budget| budget.allows_loss(after))
}

/// Files in other places, whole or not at all.
pub fn copy(from: &[PathBuf], to: &[PathBuf]) -> Result<()> {
    let copied = from.iter().zip(to).map(|(from, to)| {
        let mut new = AtomicFile::create(to)?;
        let mut old = File::open(from).with_context(|| format!("{}", from.display()))?;
        io::copy(&mut old, &mut new).with_context(|| format!("writing {}", to.display()))?;
        Ok(new)
    });
    Ok(AtomicFile::commit_all(copied.collect::<Result<_>>()?)?)
}

impl Training {
    /// A paragraph of the model card.
    pub fn told(&self, original: &str) -> String {
        let Training { best_step, n_steps, held_out_before, held_out_after, measured_before, .. } = self;
        let (step_tokens, n_held_out) = (grouped(self.step_tokens as u64), grouped(self.n_held_out as u64));
        let what = format!(
            "Norms, biases and the half-precision scales of blocks were trained to predict what {original} predicts, {n_steps} steps \
             of {step_tokens} tokens"
        );
        match (self.measured_after, self.is_kept) {
            (None, _) => format!(
                "{what}. No step was better on {n_held_out} tokens that were held out, so the file is without training."
            ),
            (Some(after), false) => format!(
                "{what}. The measured KL was {after:.5} after that and {measured_before:.5} before, so the file is without training."
            ),
            (Some(after), true) => format!(
                "{what}; step {best_step} is kept. KL on {n_held_out} tokens that were held out: {held_out_before:.5} before, \
                 {held_out_after:.5} after. Measured KL: {measured_before:.5} before, {after:.5} after."
            ),
        }
    }
}
