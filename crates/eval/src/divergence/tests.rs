//! Runs over toy lanes whose distributions are known.

use std::ops::ControlFlow;

use lossy_engine::{EngineError, Logits, Progress};

use super::*;
use crate::{EvalError, Lanes, Window};

const N_VOCAB: usize = 3;

/// Lane 0 says (1/2, 1/4, 1/4) after every token, lane 1 the same, lane 2 (1/4, 1/2, 1/4), and lane 3 loses its numbers.
struct Toy {
    n_lanes: usize,
    breaks_at: usize,
    reference: usize,
    fails_in_lane_0: bool,
}

impl Lanes for Toy {
    type Sequence = usize;

    fn n_lanes(&self) -> usize {
        self.n_lanes
    }

    fn n_vocab(&self) -> usize {
        N_VOCAB
    }

    fn start(&mut self, _: usize) -> Result<usize, EngineError> {
        Ok(0)
    }

    fn fork(&self, sequence: &usize) -> usize {
        *sequence
    }

    fn forward(
        &mut self,
        lane: usize,
        sequence: &mut usize,
        tokens: &[u32],
        logits: Logits,
    ) -> Result<Vec<f32>, EngineError> {
        assert!(lane > 0 || !self.fails_in_lane_0, "the reference is run");
        let start = *sequence;
        *sequence += tokens.len();
        if logits == Logits::None {
            return Ok(Vec::new());
        }
        let row = |position| match lane + self.reference {
            0 | 1 => [0.5f32, 0.25, 0.25].map(f32::ln),
            3 if position >= self.breaks_at => [f32::NAN; N_VOCAB],
            _ => [0.25f32, 0.5, 0.25].map(f32::ln),
        };
        Ok((start..*sequence).flat_map(row).collect())
    }
}

fn toy() -> Toy {
    Toy { n_lanes: 4, breaks_at: 9, reference: 0, fails_in_lane_0: false }
}

fn windows() -> Vec<Window> {
    vec![Window { tokens: vec![0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], first_scored: 5 }; 2]
}

fn go(chunk: usize, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Divergence {
    run(&mut toy(), &windows(), ReferenceRun::Run, &RunOptions { chunk, n_threads: 2 }, progress).unwrap()
}

/// The tokens after positions 5 … 10 are 0, 1, 2, 0, 1, 2.
#[test]
fn known_distributions_give_the_figures_of_hand_computation() {
    for chunk in [1, 4, 5, 100] {
        let divergence = go(chunk, &mut |_| ControlFlow::Continue(()));
        assert!(divergence.is_complete);
        let losses = &divergence.settings[1].losses;
        let depths: Vec<usize> = losses.iter().map(|loss| loss.depth).collect();
        assert_eq!(depths, [6, 7, 8, 9, 10, 11, 6, 7, 8, 9, 10, 11], "chunks of {chunk}");
        let summary = Summary::of(losses);
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found}, not {wanted}");
        near(summary.kl.mean.value, 2f64.ln() / 4.0);
        near(summary.kl.max, 2f64.ln() / 4.0);
        near(summary.same_top.value, 0.0);
        // One token of three halves, one doubles, one keeps its probability.
        near(summary.ln_ppl_ratio.value, 0.0);
        near(summary.ppl.value, 32f64.cbrt());
        near(summary.delta_p.mean.value, 0.0);
        near(summary.delta_p.max, 0.25);
        near(summary.delta_p_rms.value, (2.0f64 / 3.0 / 16.0).sqrt());
    }
}

#[test]
fn a_setting_that_changes_nothing_costs_nothing() {
    let divergence = go(4, &mut |_| ControlFlow::Continue(()));
    let summary = Summary::of(&divergence.settings[0].losses);
    assert_eq!((summary.kl.max, summary.kl.min), (0.0, 0.0));
    assert_eq!((summary.same_top.value, summary.ppl_ratio.value), (1.0, 1.0));
    assert_eq!(summary.ppl, summary.ppl_reference);
}

#[test]
fn a_setting_that_fails_keeps_what_came_before_and_the_others_go_on() {
    let divergence = go(4, &mut |_| ControlFlow::Continue(()));
    assert_eq!(divergence.settings[2].failure.as_deref(), Some("the logits after token 9 are not numbers"));
    assert_eq!(divergence.settings[2].losses.len(), 3);
    assert_eq!(divergence.settings[1].losses.len(), 12);
}

#[test]
fn whoever_stops_has_compared_all_settings_on_the_same_tokens() {
    let mut n_calls = 0;
    let divergence = go(4, &mut |progress| {
        assert_eq!(progress.n_total, 4 * 24);
        n_calls += 1;
        if n_calls == 11 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(!divergence.is_complete);
    let counts: Vec<usize> = divergence.settings.iter().map(|setting| setting.losses.len()).collect();
    assert_eq!(counts, [3, 3, 3]);
}

#[test]
fn a_reference_that_fails_is_an_error() {
    let mut toy = Toy { n_lanes: 1, breaks_at: 0, reference: 3, fails_in_lane_0: false };
    let options = RunOptions { chunk: 4, n_threads: 1 };
    let result = run(&mut toy, &windows(), ReferenceRun::Run, &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(EvalError::NotFinite { position: 5 })));
}

#[test]
fn a_reference_that_was_saved_gives_the_figures_of_one_that_is_run() {
    let options = RunOptions { chunk: 5, n_threads: 2 };
    let go_on = &mut |_| ControlFlow::Continue(());
    let mut rows = Vec::new();
    let first = run(&mut toy(), &windows(), ReferenceRun::Save(&mut rows), &options, go_on).unwrap();
    assert_eq!(rows.len(), 12);
    // In other chunks, and with a reference that would fail.
    let mut broken = Toy { fails_in_lane_0: true, ..toy() };
    let options = RunOptions { chunk: 7, n_threads: 1 };
    let mut n_total = 0;
    let second = run(&mut broken, &windows(), ReferenceRun::Saved(&rows), &options, &mut |progress| {
        n_total = progress.n_total;
        ControlFlow::Continue(())
    });
    let second = second.unwrap();
    assert_eq!((n_total, second.reference_tokens), (3 * 24, 0));
    let (first, second) = (Summary::of(&first.settings[1].losses), Summary::of(&second.settings[1].losses));
    assert!((first.kl.mean.value - second.kl.mean.value).abs() < 1e-6);
    assert_eq!(
        (first.ppl_reference, first.ppl, first.same_top),
        (second.ppl_reference, second.ppl, second.same_top)
    );
    let too_few = run(&mut toy(), &windows(), ReferenceRun::Saved(&rows[..11]), &options, go_on);
    assert!(matches!(too_few, Err(EvalError::TooFewSaved { n_saved: 11 })));
}
