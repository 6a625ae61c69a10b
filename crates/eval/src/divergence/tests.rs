//! Runs over toy lanes whose distributions are known.

use std::ops::ControlFlow;

use lossy_engine::{EngineError, Logits};

use super::*;
use crate::{EvalError, Lanes, Window};

const N_VOCAB: usize = 3;

/// Lane 0 says (1/2, 1/4, 1/4) after every token, lane 1 the same, lane 2 (1/4, 1/2, 1/4), and lane 3 loses its numbers.
struct Toy {
    n_lanes: usize,
    breaks_at: usize,
    reference: usize,
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
    Toy { n_lanes: 4, breaks_at: 9, reference: 0 }
}

fn windows() -> Vec<Window> {
    vec![Window { tokens: vec![0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], first_scored: 5 }; 2]
}

fn go(chunk: usize, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Divergence {
    run(&mut toy(), &windows(), &RunOptions { chunk, n_threads: 2 }, progress).unwrap()
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
    let mut toy = Toy { n_lanes: 1, breaks_at: 0, reference: 3 };
    let result =
        run(&mut toy, &windows(), &RunOptions { chunk: 4, n_threads: 1 }, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(EvalError::NotFinite { position: 5 })));
}
