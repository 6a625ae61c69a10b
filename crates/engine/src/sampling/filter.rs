//! The tokens that may still be drawn.

use std::cmp::Ordering;

/// Falling logit, then rising id; NaN last.
fn by_rank(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    let key = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { logit };
    key(b.1).total_cmp(&key(a.1)).then(a.0.cmp(&b.0))
}

/// The ids of the `n` largest logits, best first.
pub(super) fn largest(logits: &[f32], n: usize) -> Vec<u32> {
    let mut candidates = Candidates::default();
    if n == 0 {
        return Vec::new();
    }
    candidates.collect(logits, n);
    candidates.ranked.into_iter().map(|(id, _)| id).collect()
}

/// Tokens with their logits, best first. Never empty after [`Candidates::collect`].
#[derive(Default)]
pub(super) struct Candidates {
    ranked: Vec<(u32, f32)>,
}

impl Candidates {
    /// The `top_k` best of all logits (0: all of them).
    pub(super) fn collect(&mut self, logits: &[f32], top_k: usize) {
        self.ranked.clear();
        self.ranked.extend(logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit)));
        if top_k > 0 && top_k < self.ranked.len() {
            self.ranked.select_nth_unstable_by(top_k - 1, by_rank);
            self.ranked.truncate(top_k);
        }
        self.ranked.sort_unstable_by(by_rank);
    }

    /// Keeps the shortest prefix whose probability reaches `top_p`, at least one token.
    pub(super) fn keep_top_p(&mut self, top_p: f32) {
        if top_p >= 1.0 {
            return;
        }
        let weights = self.weights(1.0);
        let limit = f64::from(top_p) * weights.iter().sum::<f64>();
        let mut cumulative = 0.0;
        let n_kept = weights.iter().take_while(|&weight| {
            let below = cumulative < limit;
            cumulative += weight;
            below
        });
        let n_kept = n_kept.count().max(1);
        self.ranked.truncate(n_kept);
    }

    /// Keeps the tokens at least `min_p` times as probable as the first.
    pub(super) fn keep_min_p(&mut self, min_p: f32) {
        if min_p <= 0.0 {
            return;
        }
        let threshold = self.ranked[0].1 + min_p.ln();
        let n_kept = self.ranked.iter().take_while(|(_, logit)| *logit >= threshold).count().max(1);
        self.ranked.truncate(n_kept);
    }

    /// The token at `uniform` in [0, 1) of the cumulative distribution at `temperature`.
    pub(super) fn draw(&self, temperature: f32, uniform: f64) -> u32 {
        let weights = self.weights(temperature);
        let mut remaining = uniform * weights.iter().sum::<f64>();
        for (&(id, _), weight) in self.ranked.iter().zip(&weights) {
            if remaining < *weight {
                return id;
            }
            remaining -= weight;
        }
        self.ranked[0].0
    }

    /// exp((logit − best) / temperature); a NaN logit weighs nothing.
    fn weights(&self, temperature: f32) -> Vec<f64> {
        let best = f64::from(self.ranked[0].1);
        let weight = |&(_, logit): &(u32, f32)| ((f64::from(logit) - best) / f64::from(temperature)).exp();
        self.ranked.iter().map(weight).map(|weight| if weight.is_nan() { 0.0 } else { weight }).collect()
    }
}
