//! A prediction of the reference, saved in two kilobytes: so that the reference need not be run again for another setting.
//!
//! Of `p = softmax(reference)` the log-probabilities of a set `T` of the [`N_TOP`] most likely tokens are saved, the sum
//! `ε` of all others, and [`N_SAMPLE`] of the others, drawn with the probabilities `p_i / ε`. The setting's `q` is known
//! whole when it is compared. With `d_i = ln(p_i / q_i)` and `δ = 1 − Σ_T q_i`,
//!
//! ```text
//! KL(p ‖ q)  =  Σ_T p_i d_i  +  Σ_rest p_i d_i          the first sum is exact
//! estimate   =  Σ_T p_i d_i  +  ε · mean of d over the sample
//! at least   =  Σ_T p_i d_i  +  ε ln(ε / δ)
//! ```
//!
//! **The estimate has no bias**: the expectation of `d` under `p_i / ε` is `Σ_rest p_i d_i / ε`. One token is drawn from
//! each of [`N_SAMPLE`] parts of equal probability, so the variance of the estimate is at most that of independent draws,
//! `ε² · variance(d) / N_SAMPLE`. With one draw from each part the sample variance is, on average, no smaller than the
//! mean variance within the parts; so `ε² s² / N_SAMPLE`, which is what [`KlEstimate::variance`] has, is not an
//! underestimate. Over `n` predictions the errors are independent and the standard error falls with `√n`.
//!
//! **The KL divergence is never below `at least`**: by the log-sum inequality the rest loses at least what it loses as one
//! token (data processing). No bound from above follows from a few tokens: a setting could forbid one that was not saved.

use crate::row::exp_of_negative;
use crate::{Random, RowSummary};

/// Tokens whose probabilities are saved.
pub const N_TOP: usize = 256;
/// Of the other tokens so many are drawn.
pub const N_SAMPLE: usize = 32;
/// What float32 sums over a vocabulary may be wrong by.
const ROUNDING: f64 = 1e-6;

/// A token and the logarithm of its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogProb {
    /// id
    pub token: u32,
    /// ln p
    pub log_prob: f32,
}

/// What is saved of one row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedPrediction {
    /// the first token with the largest logit
    pub top: u32,
    /// −ln of the probability of the token that follows
    pub nll: f64,
    /// the most likely tokens, by rising id
    pub head: Vec<LogProb>,
    /// probability of all other tokens together
    pub rest: f64,
    /// some of them
    pub sample: Vec<LogProb>,
}

/// The KL divergence of a setting from a saved prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlEstimate {
    /// the estimate, nats
    pub value: f64,
    /// of the estimate
    pub variance: f64,
    /// what it cannot be below
    pub at_least: f64,
}

impl SavedPrediction {
    /// Of `[n_vocab]` logits, followed by the token `next`.
    ///
    /// # Panics
    /// If `next` is not in the row.
    pub fn of(logits: &[f32], summary: &RowSummary, next: u32, random: &mut Random) -> SavedPrediction {
        let log_prob = |token: usize| LogProb {
            token: token as u32,
            log_prob: (f64::from(logits[token]) - summary.log_sum_exp) as f32,
        };
        let is_head = most_likely(logits);
        let weight = |token: usize| match is_head[token] {
            true => 0.0,
            false => f64::from(exp_of_negative(logits[token] - summary.max)),
        };
        let total: f64 = (0..logits.len()).map(weight).sum();
        let mut sample = Vec::new();
        if total > 0.0 {
            let mut until = 0.0;
            let place =
                |part: usize, random: &mut Random| (part as f64 + random.unit()) / N_SAMPLE as f64 * total;
            let mut next_place = place(0, random);
            for token in 0..logits.len() {
                until += weight(token);
                while sample.len() < N_SAMPLE && next_place < until {
                    sample.push(log_prob(token));
                    next_place = place(sample.len(), random);
                }
            }
        }
        SavedPrediction {
            top: summary.top,
            nll: summary.nll(logits, next),
            head: (0..logits.len()).filter(|token| is_head[*token]).map(log_prob).collect(),
            rest: total * (f64::from(summary.max) - summary.log_sum_exp).exp(),
            sample,
        }
    }

    /// KL(this ‖ softmax(found)).
    ///
    /// # Panics
    /// If a token that was saved is not in the row.
    pub fn kl_divergence(&self, found: &[f32], found_summary: &RowSummary) -> KlEstimate {
        let log_prob = |saved: &LogProb| f64::from(found[saved.token as usize]) - found_summary.log_sum_exp;
        let (mut head, mut found_head) = (0.0, 0.0);
        for saved in &self.head {
            let (p, ln_q) = (f64::from(saved.log_prob).exp(), log_prob(saved));
            // A token that the reference excludes counts nothing, whatever the other row says.
            head += if p > 0.0 { p * (f64::from(saved.log_prob) - ln_q) } else { 0.0 };
            found_head += ln_q.exp();
        }
        if self.sample.is_empty() {
            return KlEstimate { value: head, variance: 0.0, at_least: head };
        }
        let n = self.sample.len() as f64;
        let differences = || self.sample.iter().map(|saved| f64::from(saved.log_prob) - log_prob(saved));
        let mean = differences().sum::<f64>() / n;
        let square = differences().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let found_rest = (1.0 - found_head).max(0.0) + ROUNDING;
        KlEstimate {
            value: head + self.rest * mean,
            variance: self.rest.powi(2) * square / n,
            // No KL divergence is below 0.
            at_least: (head + self.rest * (self.rest / found_rest).ln()).max(0.0),
        }
    }
}

/// The [`N_TOP`] tokens with the largest logits; of equal ones the first.
fn most_likely(logits: &[f32]) -> Vec<bool> {
    if logits.len() <= N_TOP {
        return vec![true; logits.len()];
    }
    let mut sorted = logits.to_vec();
    let (_, least, _) = sorted.select_nth_unstable_by(N_TOP - 1, |a, b| b.total_cmp(a));
    let least = *least;
    let mut n_equal = N_TOP - logits.iter().filter(|logit| **logit > least).count();
    let is_head = |logit: &f32| {
        let is_equal = *logit == least && n_equal > 0;
        n_equal -= usize::from(is_equal);
        *logit > least || is_equal
    };
    logits.iter().map(is_head).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of a heavy tail, and others near them.
    fn rows(seed: u64, n_vocab: usize, change: f32) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random::new(seed, 0);
        let mut normal = || (0..6).map(|_| random.unit() - 0.5).sum::<f64>() as f32;
        let reference: Vec<f32> = (0..n_vocab).map(|_| 3.0 * normal()).collect();
        let found = reference.iter().map(|logit| logit + change * normal()).collect();
        (reference, found)
    }

    fn summary(row: &[f32]) -> RowSummary {
        RowSummary::of(row).unwrap()
    }

    fn saved(row: &[f32], seed: u64) -> SavedPrediction {
        SavedPrediction::of(row, &summary(row), 3, &mut Random::new(seed, 1))
    }

    #[test]
    fn most_likely_tokens_are_all_the_larger_ones_and_the_first_of_the_equal_ones() {
        let mut logits = vec![1.0; 1000];
        logits[900] = 2.0;
        logits[5] = 0.0;
        let is_head = most_likely(&logits);
        assert_eq!(is_head.iter().filter(|is| **is).count(), N_TOP);
        assert!(is_head[900] && !is_head[5] && is_head[N_TOP - 1] && !is_head[N_TOP]);
    }

    #[test]
    fn a_small_vocabulary_is_saved_whole_and_exact() {
        let (reference, found) = rows(1, N_TOP, 0.5);
        let row = saved(&reference, 1);
        assert_eq!((row.rest, row.sample.len()), (0.0, 0));
        let kl = row.kl_divergence(&found, &summary(&found));
        let wanted = lossy_testkit::kl_divergence(&reference, &found);
        assert!((kl.value - wanted).abs() < 1e-6, "{} of {wanted}", kl.value);
        assert_eq!((kl.at_least, kl.variance), (kl.value, 0.0));
        assert!((row.nll - summary(&reference).nll(&reference, 3)).abs() < 1e-12);
    }

    #[test]
    fn probabilities_add_up() {
        let (reference, _) = rows(2, 5000, 0.0);
        let row = saved(&reference, 2);
        let head: f64 = row.head.iter().map(|saved| f64::from(saved.log_prob).exp()).sum();
        assert_eq!((row.head.len(), row.sample.len()), (N_TOP, N_SAMPLE));
        assert!((head + row.rest - 1.0).abs() < 1e-6, "{head} + {}", row.rest);
        assert!(row.rest > 0.2);
        assert!(row.sample.iter().all(|drawn| !row.head.iter().any(|saved| saved.token == drawn.token)));
        let top = row.head.iter().max_by(|a, b| a.log_prob.total_cmp(&b.log_prob)).unwrap();
        assert_eq!(row.top, top.token);
    }

    /// The estimate is within four of its standard errors for single rows and for their mean, the bound always holds, and
    /// the standard error is not so wide that it says nothing.
    #[test]
    fn the_estimate_has_no_bias_and_the_error_that_it_states() {
        let (mut error, mut variance, mut total) = (0.0, 0.0, 0.0);
        let n = 200;
        for seed in 0..n {
            let (reference, found) = rows(seed, 8000, 0.4);
            let wanted = lossy_testkit::kl_divergence(&reference, &found);
            let kl = saved(&reference, seed).kl_divergence(&found, &summary(&found));
            assert!(kl.at_least <= wanted + 1e-6, "{} > {wanted}", kl.at_least);
            assert!((kl.value - wanted).abs() < 6.0 * kl.variance.sqrt(), "{} of {wanted}", kl.value);
            error += kl.value - wanted;
            variance += kl.variance;
            total += wanted;
        }
        assert!(error.abs() < 4.0 * variance.sqrt(), "{error} with {}", variance.sqrt());
        assert!(variance.sqrt() < 0.1 * total, "{} of {total}", variance.sqrt());
    }

    /// What a user reads: a mean over predictions and `kl_kept_se`, its standard error. The true mean is as often within one
    /// and two of them as it would be with a normal error, and neither much more often.
    #[test]
    fn the_true_mean_is_within_the_stated_error_as_often_as_that_says() {
        const N_MEASUREMENTS: u64 = 250;
        const N_PREDICTIONS: u64 = 12;
        let (mut within_one, mut within_two) = (0, 0);
        for measurement in 0..N_MEASUREMENTS {
            let (mut error, mut variance) = (0.0, 0.0);
            for prediction in 0..N_PREDICTIONS {
                let seed = 1000 + measurement * N_PREDICTIONS + prediction;
                let (reference, found) = rows(seed, 2000, 0.4);
                let kl = saved(&reference, seed).kl_divergence(&found, &summary(&found));
                error += kl.value - lossy_testkit::kl_divergence(&reference, &found);
                variance += kl.variance;
            }
            within_one += u64::from(error.abs() <= variance.sqrt());
            within_two += u64::from(error.abs() <= 2.0 * variance.sqrt());
        }
        let share = |n: u64| n as f64 / N_MEASUREMENTS as f64;
        // 68 and 95 of 100; a count of 250 has a standard deviation of 3 and 1.4 of 100.
        assert!((0.60..0.80).contains(&share(within_one)), "{}", share(within_one));
        assert!((0.92..=1.0).contains(&share(within_two)), "{}", share(within_two));
    }

    /// A setting may forbid one token that was not saved, and no estimate knows: so there is no bound from above.
    #[test]
    fn what_was_not_saved_can_lose_anything() {
        let (reference, _) = rows(5, 5000, 0.0);
        let row = saved(&reference, 5);
        let is_saved = |token: u32| row.head.iter().chain(&row.sample).any(|saved| saved.token == token);
        let forgotten = (0..5000).find(|token| !is_saved(*token)).unwrap() as usize;
        let mut found = reference.clone();
        found[forgotten] = -1e6;
        let kl = row.kl_divergence(&found, &summary(&found));
        let wanted = lossy_testkit::kl_divergence(&reference, &found);
        assert!(kl.at_least <= wanted && kl.value + 6.0 * kl.variance.sqrt() < wanted, "{kl:?} of {wanted}");
    }

    #[test]
    fn a_row_is_at_no_distance_from_itself() {
        let (reference, _) = rows(3, 5000, 0.0);
        let kl = saved(&reference, 3).kl_divergence(&reference, &summary(&reference));
        assert!(kl.value.abs() < 1e-6 && kl.at_least.abs() < 1e-5, "{kl:?}");
    }
}
