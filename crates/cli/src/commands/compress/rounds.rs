//! Files that are built and measured until one is within what is allowed: bytes, a loss, a speed.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lossy_compress::pace::{Pace, bytes_within};
use lossy_compress::plan::{Assignment, Item};
use lossy_compress::prices::Priced;
use lossy_eval::divergence::Estimate;
use lossy_eval::{Budget, Loss, Report, SettingFigures};

use super::budget::{Allowance, Types, Within, types};
use super::faster::Goal;
use super::job::Job;
use super::kl_of;
use super::measured::{Measuring, figures};
use super::outputs::first;
use super::speed::Speed;
use crate::loss::file_name;
use crate::terminal::note;
use crate::units::bytes;

/// What is built to be measured.
const CANDIDATE: &str = "candidate.gguf";
/// Times that a file is built and measured until it is within the budget.
const N_ROUNDS: usize = 3;
/// A loss of so much of the budget, or a token that takes so much of its time, is near enough.
const NEAR: f64 = 0.95;
/// A plan aims at so much of a token's time, since measurements of time differ.
const AIM: f64 = 0.98;
/// Nats measured for a nat predicted, at least and at most.
const SLOPES: (f64, f64) = (0.3, 3.0);

/// What a plan needs.
pub(super) struct Ground<'a> {
    pub items: Vec<Item>,
    pub priced: &'a Priced,
    pub measuring: &'a Measuring<'a>,
    /// what the cache alone loses
    pub cache: Option<Loss>,
}

/// A file that was built and measured.
pub(super) struct Round {
    pub types: Types,
    pub assignment: Assignment,
    pub report: Report,
    /// what the layers that were left out lose, nats
    pub of_layers: f64,
}

impl Round {
    /// With the exact cache.
    pub fn weights(&self) -> Loss {
        figures(&self.report).first().map(of).unwrap_or_default()
    }

    /// With the cache that will be used.
    pub fn total(&self) -> Loss {
        figures(&self.report).last().map(of).unwrap_or_default()
    }

    /// Of types, and of layers that were left out.
    pub fn predicted(&self) -> f64 {
        self.assignment.loss() + self.of_layers
    }

    /// What was measured over what was predicted.
    pub fn scale(&self) -> f64 {
        let predicted = self.predicted();
        if predicted > 0.0 { self.weights().kl.value / predicted } else { 1.0 }
    }
}

/// A file whose speed was measured, and nothing else yet.
struct Fast {
    assignment: Assignment,
    speed: Speed,
    pace: Pace,
}

/// The loss of a setting.
pub(super) fn of(figures: &SettingFigures) -> Loss {
    Loss::of(&figures.summary)
}

impl Job<'_> {
    /// The best file within what is allowed, and how fast it is where that was asked for. `None`: Ctrl-C.
    pub(super) fn found(
        &self,
        allowed: Option<&Allowance>,
        ground: &Ground<'_>,
    ) -> Result<Option<(Round, Option<Speed>)>> {
        let most = match allowed {
            Some(allowed) => self.choices.most_bytes(allowed)?,
            None => None,
        };
        match (allowed, &self.goal) {
            (Some(Allowance::Loss(budget)), goal) => {
                let Some(round) = self.within_loss(ground, budget)? else { return Ok(None) };
                let Some(goal) = goal else { return Ok(Some((round, None))) };
                let Some(speed) = self.speed(&round.types, ground, goal)? else { return Ok(None) };
                if speed.measured < goal.wanted {
                    bail!(
                        "the smallest file within {budget} decodes {:.1} tokens a second, which is less than --min-speed {}: allow \
                         more loss, or take its speed",
                        speed.measured,
                        goal.wanted
                    );
                }
                Ok(Some((round, Some(speed))))
            }
            (_, Some(goal)) => {
                let Some((assignment, speed)) = self.within_speed(ground, goal, most)? else {
                    return Ok(None);
                };
                Ok(self.round(assignment, ground)?.map(|round| (round, Some(speed))))
            }
            (_, None) => {
                let within = Within::FileBytes(most.unwrap_or(u64::MAX));
                let assignment = self.choices.assign(&ground.items, within)?;
                Ok(self.round(assignment, ground)?.map(|round| (round, None)))
            }
        }
    }

    /// Builds the file of these types. `None`: Ctrl-C.
    pub(super) fn candidate(&self, types: &Types, ground: &Ground<'_>) -> Result<Option<PathBuf>> {
        let plan = self.choices.plan(types)?;
        let file = self.kept.path(CANDIDATE);
        Ok(self.write(&plan, &file, ground.priced)?.map(|()| first(plan.layout(), &file)))
    }

    /// Builds and measures. `None`: Ctrl-C.
    fn round(&self, assignment: Assignment, ground: &Ground<'_>) -> Result<Option<Round>> {
        let types = types(&ground.items, &assignment);
        let plan = self.choices.plan(&types)?;
        let Some(file) = self.candidate(&types, ground)? else { return Ok(None) };
        let name = file_name(&first(plan.layout(), &self.args.output));
        let Some(report) = ground.measuring.model(&file, &name)? else { return Ok(None) };
        let gone = self.goal.as_ref().and_then(|goal| goal.gone.as_ref());
        let round = Round { types, assignment, report, of_layers: gone.map_or(0.0, |gone| gone.kl) };
        let kl = round.weights().kl;
        note(&format!(
            "{}, {:.2} bits a weight: KL {:.4} predicted, {:.4} ± {:.4} measured",
            bytes(plan.layout().file_bytes()),
            plan.bits_per_weight(),
            round.predicted(),
            kl.value,
            kl.se
        ));
        Ok(Some(round))
    }

    /// How fast the file of these types is. `None`: Ctrl-C.
    fn speed(&self, types: &Types, ground: &Ground<'_>, goal: &Goal) -> Result<Option<Speed>> {
        let Some(file) = self.candidate(types, ground)? else { return Ok(None) };
        let n_threads = self.args.threads.count();
        let Some(times) = (self.clock)(self.path, &file, n_threads)? else { return Ok(None) };
        Ok(Some(goal.reached(times, n_threads)))
    }

    /// The types that lose least within bytes, built, and how fast that is. `None`: Ctrl-C.
    fn fast(&self, n_bytes: u64, ground: &Ground<'_>, goal: &Goal) -> Result<Option<Fast>> {
        let assignment = self.choices.assign(&ground.items, Within::FileBytes(n_bytes))?;
        let types = types(&ground.items, &assignment);
        let Some(speed) = self.speed(&types, ground, goal)? else { return Ok(None) };
        let n_bytes = self.choices.plan(&types)?.layout().file_bytes();
        note(&format!("{}: {:.1} tokens a second", bytes(n_bytes), speed.measured));
        let pace = Pace { bytes: n_bytes, seconds: 1.0 / speed.measured };
        Ok(Some(Fast { assignment, speed, pace }))
    }

    /// The types that lose least in a file that decodes fast enough, within `most` bytes if that is given. A line through the smallest
    /// types and MODEL's own says how many bytes; the file is built and its speed measured, and the next line goes through it. `None`:
    /// Ctrl-C.
    pub(super) fn within_speed(
        &self,
        ground: &Ground<'_>,
        goal: &Goal,
        most: Option<u64>,
    ) -> Result<Option<(Assignment, Speed)>> {
        let (mut fast, mut slow) = (goal.fast, goal.slow);
        let limit = 1.0 / goal.wanted;
        let target_of = |fast: Pace, slow: Pace| {
            let target = bytes_within(fast, slow, AIM * limit);
            most.map_or(target, |most| target.min(most))
        };
        let mut target = target_of(fast, slow);
        let mut best: Option<Fast> = None;
        let mut fastest = 0.0f64;
        for round in 0..=N_ROUNDS {
            if round == N_ROUNDS {
                // Where nothing was fast enough, the smallest types are what is left.
                if best.is_some() || target <= goal.fast.bytes {
                    break;
                }
                target = goal.fast.bytes;
            }
            let Some(found) = self.fast(target, ground, goal)? else { return Ok(None) };
            fastest = fastest.max(found.speed.measured);
            let is_within = found.speed.measured >= goal.wanted;
            let is_near = is_within && found.pace.seconds >= NEAR * limit;
            match is_within {
                true => fast = found.pace,
                false => slow = found.pace,
            }
            if is_within && best.as_ref().is_none_or(|best| best.pace.bytes < found.pace.bytes) {
                best = Some(found);
            }
            let next = target_of(fast, slow);
            if is_near || (is_within && next == target) {
                break;
            }
            target = next;
        }
        let best = best.with_context(|| {
            format!(
                "no file was found that decodes {} tokens a second: the fastest made {fastest:.1}. Ask for that, or try again when \
                 nothing else runs on this machine",
                goal.wanted
            )
        })?;
        Ok(Some((best.assignment, best.speed)))
    }

    /// The smallest file within a loss, in a few rounds. What is measured is nearly a line in what is predicted: a floor, since
    /// rounded weights also meet other roundings of activations, and a slope. The first round takes the floor for 0.
    fn within_loss(&self, ground: &Ground<'_>, budget: &Budget) -> Result<Option<Round>> {
        let most = kl_of(budget).unwrap_or_default();
        let of_cache = ground.cache.as_ref().map_or(0.0, |loss| loss.kl.value);
        if let Some(loss) = &ground.cache
            && !budget.allows_loss(loss)
        {
            let kv = self.args.kv.as_ref().map(ToString::to_string).unwrap_or_default();
            bail!(
                "--kv {kv} alone loses {:.4} ± {:.4} on this model, which is not within {budget}: nothing is left for the weights",
                loss.kl.value,
                loss.kl.se
            );
        }
        let mut best: Option<Round> = None;
        let mut target = most - of_cache;
        // Predicted for the weights, and measured with everything.
        let mut last: Option<(f64, Estimate)> = None;
        for _ in 0..N_ROUNDS {
            let assignment = self.choices.assign(&ground.items, Within::Nats(target))?;
            let Some(round) = self.round(assignment, ground)? else { return Ok(None) };
            let (predicted, kl) = (round.assignment.loss(), round.total().kl);
            let is_within = budget.allows_loss(&round.total());
            let is_near = is_within && kl.value + kl.se >= NEAR * most;
            let slope = match last {
                Some((before, measured)) if (before - predicted).abs() > 0.01 * predicted => {
                    ((measured.value - kl.value) / (before - predicted)).clamp(SLOPES.0, SLOPES.1)
                }
                _ => round.scale(),
            };
            last = Some((predicted, kl));
            // One that was not within is to end a little below.
            let aim = most * if is_within { 1.0 } else { 0.99 };
            let next = predicted + (aim - kl.se - kl.value) / slope;
            let is_smaller = |old: &Round| old.assignment.bytes() > round.assignment.bytes();
            let is_done = is_near || next <= 0.0 || (next - target).abs() < 1e-3 * target;
            if is_within && best.as_ref().is_none_or(is_smaller) {
                best = Some(round);
            }
            if is_done {
                break;
            }
            target = next;
        }
        let kl = last.map(|(_, kl)| kl).unwrap_or_default();
        best.map(Some).with_context(|| {
            format!(
                "no file within {budget} was found in {N_ROUNDS} rounds: the last one loses {:.4} ± {:.4}. Allow a little more, \
                 or name a size (--max-size)",
                kl.value, kl.se
            )
        })
    }
}
