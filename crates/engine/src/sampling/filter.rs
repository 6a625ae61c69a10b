//! The tokens that may still be drawn.

use std::cmp::Ordering;

use super::{RUN, SamplingOptions, any_above, argmax};

/// Falling logit, then rising id; NaN last, and the two zeros are equal.
fn by_rank(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    let key = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { logit + 0.0 };
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

/// Tokens with their logits, best first. Never empty while a token is chosen.
#[derive(Default)]
pub(super) struct Candidates {
    ranked: Vec<(u32, f32)>,
}

impl Candidates {
    /// The token at `uniform` in [0, 1) among those that the options leave over.
    pub(super) fn choose(&mut self, logits: &[f32], options: &SamplingOptions, uniform: f64) -> u32 {
        // Both top-p and min-p keep a prefix of the ranking. Where min-p is the shorter way to a short list, it goes first,
        // and top-p counts the others' weight without ranking them.
        let others = if options.top_k == 0 && options.min_p > 0.0 {
            self.collect_probable(logits, options.min_p, options.top_p < 1.0)
        } else {
            self.collect(logits, options.top_k);
            0.0
        };
        self.keep_top_p(options.top_p, others);
        self.keep_min_p(options.min_p);
        self.draw(options.temperature, uniform)
    }

    /// The `top_k` best of all logits (0: all of them).
    fn collect(&mut self, logits: &[f32], top_k: usize) {
        self.ranked.clear();
        if top_k == 0 || top_k >= logits.len() {
            self.ranked.extend(logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit)));
        } else {
            self.collect_best(logits, top_k);
        }
        self.ranked.sort_unstable_by(by_rank);
    }

    /// The `top_k` best, in any order. Ids rise, so a logit that only equals the worst of `top_k` better ones is out.
    fn collect_best(&mut self, logits: &[f32], top_k: usize) {
        // Nearly all runs of a real vocabulary end at the first `if`.
        let mut worst = None;
        for (index, run) in logits.chunks(RUN).enumerate() {
            if worst.is_some_and(|worst| !any_above(run, worst)) {
                continue;
            }
            let first = index * RUN;
            let new = run.iter().enumerate().map(|(offset, &logit)| ((first + offset) as u32, logit));
            self.ranked.extend(new.filter(|&(_, logit)| worst.is_none_or(|worst| logit > worst)));
            if self.ranked.len() >= 2 * top_k + RUN {
                worst = self.keep_best(top_k);
            }
        }
        self.keep_best(top_k);
    }

    /// Those of at least `min_p` times the probability of the best. Returns the weight of all others, if it is wanted.
    fn collect_probable(&mut self, logits: &[f32], min_p: f32, with_others: bool) -> f64 {
        let best = logits[argmax(logits) as usize];
        let threshold = best + min_p.ln();
        let all = logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit));
        self.ranked.clear();
        self.ranked.extend(all.filter(|&(_, logit)| logit >= threshold));
        if self.ranked.is_empty() {
            // All are NaN.
            self.ranked.push((0, best));
        }
        self.ranked.sort_unstable_by(by_rank);
        let others = logits.iter().filter(|&&logit| with_others && logit < threshold);
        others.map(|&logit| (f64::from(logit) - f64::from(best)).exp()).sum()
    }

    /// Keeps the `top_k` best and returns the logit of the worst of them, unless it is NaN.
    fn keep_best(&mut self, top_k: usize) -> Option<f32> {
        if top_k < self.ranked.len() {
            self.ranked.select_nth_unstable_by(top_k - 1, by_rank);
            self.ranked.truncate(top_k);
        }
        let (_, worst) = self.ranked[self.ranked.len() - 1];
        (!worst.is_nan()).then_some(worst)
    }

    /// Keeps the shortest prefix whose probability reaches `top_p`, at least one token; `others` is the weight of the
    /// tokens that are not ranked.
    fn keep_top_p(&mut self, top_p: f32, others: f64) {
        if top_p >= 1.0 {
            return;
        }
        let weights = self.weights(1.0);
        let limit = f64::from(top_p) * (weights.iter().sum::<f64>() + others);
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
    fn keep_min_p(&mut self, min_p: f32) {
        if min_p <= 0.0 {
            return;
        }
        let threshold = self.ranked[0].1 + min_p.ln();
        let n_kept = self.ranked.iter().take_while(|(_, logit)| *logit >= threshold).count().max(1);
        self.ranked.truncate(n_kept);
    }

    /// The token at `uniform` in [0, 1) of the cumulative distribution at `temperature`.
    fn draw(&self, temperature: f32, uniform: f64) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, in -8 … 8 with steps of `step`.
    fn logits(n: usize, step: f32, seed: u64) -> Vec<f32> {
        let scrambled = (0..n as u64).map(|i| (i + seed * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let unit = scrambled
            .map(|x| ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / 16_777_216.0);
        unit.map(|x| ((x * 16.0 - 8.0) / step).round() * step).collect()
    }

    /// What is left over when everything is ranked first and filtered then, in the documented order.
    fn by_the_book(logits: &[f32], options: &SamplingOptions) -> Vec<u32> {
        let mut all = Candidates::default();
        all.ranked.extend(logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit)));
        all.ranked.sort_by(by_rank);
        if options.top_k > 0 {
            all.ranked.truncate(options.top_k);
        }
        all.keep_top_p(options.top_p, 0.0);
        all.keep_min_p(options.min_p);
        all.ranked.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn the_short_ways_leave_the_same_tokens_as_ranking_all() {
        let mut candidates = Candidates::default();
        for (seed, n) in [1, 2, 63, 64, 65, 200, 1000, 5000].into_iter().enumerate() {
            for step in [1e-3, 0.5, 4.0] {
                let mut logits = logits(n, step, seed as u64);
                for (id, odd) in
                    [(3, f32::NAN), (5, f32::NEG_INFINITY), (70, -0.0), (71, 0.0), (130, f32::NAN)]
                {
                    if let Some(logit) = logits.get_mut(id) {
                        *logit = odd;
                    }
                }
                for top_k in [0, 1, 2, 40, 64, 999, 100_000] {
                    for (top_p, min_p) in
                        [(1.0, 0.0), (0.95, 0.05), (0.5, 0.0), (1.0, 0.3), (0.9, 1e-6), (0.0, 1.0)]
                    {
                        let options = SamplingOptions { top_k, top_p, min_p, ..SamplingOptions::default() };
                        candidates.choose(&logits, &options, 0.5);
                        let ids: Vec<u32> = candidates.ranked.iter().map(|&(id, _)| id).collect();
                        let expected = by_the_book(&logits, &options);
                        assert_eq!(
                            ids, expected,
                            "n {n}, step {step}, top_k {top_k}, top_p {top_p}, min_p {min_p}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn logits_without_a_number_choose_a_token_all_the_same() {
        for logit in [f32::NAN, f32::NEG_INFINITY] {
            for top_k in [0, 2] {
                let options = SamplingOptions { top_k, ..SamplingOptions::default() };
                assert_eq!(Candidates::default().choose(&[logit; 100], &options, 0.5), 0);
            }
        }
    }
}
