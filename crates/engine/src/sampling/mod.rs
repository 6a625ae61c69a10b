//! From logits to the next token.
//!
//! The steps, in llama.cpp's order: logit bias, penalties, top-k, top-p, min-p, temperature, draw. Every step is
//! deterministic: equal logits are ordered by token id, sums run in that order, and the random numbers come from
//! ChaCha8, whose stream is fixed by its seed on every machine.

mod error;
mod filter;
mod history;
mod mask;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub use error::SampleError;
pub use mask::{Mask, MaskError};

use filter::Candidates;
use history::History;

/// How the next token is chosen. `temperature: 0.0` is greedy.
#[derive(Clone, Debug)]
pub struct SamplingOptions {
    /// divides the logits; 0 is greedy
    pub temperature: f32,
    /// keeps the k most probable tokens; 0 is off
    pub top_k: usize,
    /// keeps the most probable tokens whose probabilities sum to this; 1 is off
    pub top_p: f32,
    /// keeps the tokens at least this fraction as probable as the most probable one; 0 is off
    pub min_p: f32,
    /// divides positive logits of recent tokens and multiplies negative ones; 1 is off
    pub repeat_penalty: f32,
    /// how many recent tokens the three penalties look at; 0 is off
    pub repeat_last_n: usize,
    /// subtracted from a logit for every recent occurrence; 0 is off
    pub frequency_penalty: f32,
    /// subtracted once from the logit of a recent token; 0 is off
    pub presence_penalty: f32,
    /// added to the logits of these tokens
    pub logit_bias: Vec<(u32, f32)>,
    /// same seed, same choices
    pub seed: u64,
    /// how many alternatives to report for a token; `None`: no log-probabilities but those of `logprobs_of`
    pub n_logprobs: Option<usize>,
    /// tokens whose log-probabilities are reported at every position; all of them are in the vocabulary
    pub logprobs_of: Vec<u32>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            n_logprobs: None,
            logprobs_of: Vec::new(),
        }
    }
}

impl SamplingOptions {
    /// Always the most probable token.
    pub fn greedy() -> SamplingOptions {
        SamplingOptions { temperature: 0.0, ..SamplingOptions::default() }
    }

    /// Whether bias or penalties can change a logit.
    fn adjust(&self) -> bool {
        let penalties = (self.repeat_penalty, self.frequency_penalty, self.presence_penalty);
        !self.logit_bias.is_empty() || penalties != (1.0, 0.0, 0.0)
    }
}

/// A token and the natural logarithm of its probability under the model, before any option changes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// token id
    pub id: u32,
    /// nats
    pub logprob: f32,
}

/// The choice for one position.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// token id
    pub id: u32,
    /// of the chosen token; `None` unless asked for
    pub logprob: Option<f32>,
    /// the most probable tokens, best first; empty unless asked for
    pub top: Vec<TokenLogprob>,
    /// those of [`SamplingOptions::logprobs_of`], nats, in its order
    pub logprobs_of: Vec<f32>,
}

/// Chooses tokens; keeps the random state and the recent tokens.
pub struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
    history: History,
    /// logits after bias and penalties, `[n_vocab]`
    adjusted: Vec<f32>,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler at the start of its random sequence, with no recent tokens.
    pub fn new(options: SamplingOptions) -> Sampler {
        Sampler {
            random: ChaCha8Rng::seed_from_u64(options.seed),
            history: History::new(options.repeat_last_n),
            adjusted: Vec::new(),
            candidates: Candidates::default(),
            options,
        }
    }

    /// Tells the penalties about a token of the prompt. Chosen tokens are remembered without it.
    pub fn accept(&mut self, id: u32) {
        self.history.push(id);
    }

    /// Chooses from the logits `[n_vocab]` of one position, among the tokens that `mask` allows, and remembers the choice.
    /// Log-probabilities are those without the mask.
    ///
    /// # Errors
    /// No logit is a number, bias and mask together allow no token, or the mask fails. Nothing is remembered then.
    ///
    /// # Panics
    /// If `logits` is empty.
    pub fn sample(
        &mut self,
        logits: &[f32],
        mut mask: Option<&mut (dyn Mask + '_)>,
    ) -> Result<Sampled, SampleError> {
        assert!(!logits.is_empty(), "no logits to sample from");
        let adjusted = if self.options.adjust() || mask.is_some() {
            self.adjusted.clear();
            self.adjusted.extend_from_slice(logits);
            adjust(&mut self.adjusted, &self.options, &self.history);
            if let Some(mask) = &mut mask {
                mask.apply(&mut self.adjusted)?;
            }
            &self.adjusted
        } else {
            logits
        };
        if !has_choice(adjusted) {
            return Err(SampleError::of(logits, mask.is_some()));
        }
        let id = if self.options.temperature > 0.0 {
            let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            self.candidates.choose(adjusted, &self.options, uniform)
        } else {
            argmax(adjusted)
        };
        if let Some(mask) = mask {
            mask.accept(id)?;
        }
        self.history.push(id);
        Ok(self.report(logits, id))
    }
}

impl Sampler {
    /// A token and its log-probabilities, as many as the options say, under logits `[n_vocab]`.
    pub(crate) fn report(&self, logits: &[f32], id: u32) -> Sampled {
        let SamplingOptions { n_logprobs, logprobs_of, .. } = &self.options;
        if n_logprobs.is_none() && logprobs_of.is_empty() {
            return Sampled { id, logprob: None, top: Vec::new(), logprobs_of: Vec::new() };
        }
        let normalizer = log_sum_exp(logits);
        let logprob_of = |id: u32| (f64::from(logits[id as usize]) - normalizer) as f32;
        let top = match n_logprobs {
            Some(n_top) => filter::largest(logits, *n_top),
            None => Vec::new(),
        };
        Sampled {
            id,
            logprob: n_logprobs.map(|_| logprob_of(id)),
            top: top.into_iter().map(|id| TokenLogprob { id, logprob: logprob_of(id) }).collect(),
            logprobs_of: logprobs_of.iter().map(|id| logprob_of(*id)).collect(),
        }
    }
}

/// Bias and penalties, in place.
fn adjust(logits: &mut [f32], options: &SamplingOptions, history: &History) {
    for &(id, bias) in &options.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    for (id, n_occurrences) in history.counts() {
        if let Some(logit) = logits.get_mut(id as usize) {
            let repeat = options.repeat_penalty;
            *logit = if *logit > 0.0 { *logit / repeat } else { *logit * repeat };
            *logit -= n_occurrences as f32 * options.frequency_penalty + options.presence_penalty;
        }
    }
}

/// Whether a logit is above −∞.
fn has_choice(logits: &[f32]) -> bool {
    logits.chunks(RUN).any(|run| any_above(run, f32::NEG_INFINITY))
}

/// The index of the largest logit; the smallest index among equals; NaN is never chosen over a number.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = logits.iter().position(|logit| !logit.is_nan()).unwrap_or(0);
    for (index, run) in logits.chunks(RUN).enumerate() {
        if any_above(run, logits[best]) {
            let rising = run.iter().enumerate().map(|(offset, logit)| (index * RUN + offset, *logit));
            best = rising.fold(best, |best, (id, logit)| if logit > logits[best] { id } else { best });
        }
    }
    best as u32
}

/// Logits that are looked at together, in a few vector instructions.
const RUN: usize = 64;

/// Whether a logit of the run is larger than `bound`.
fn any_above(run: &[f32], bound: f32) -> bool {
    run.iter().fold(false, |any, &logit| any | (logit > bound))
}

/// ln Σ exp(logit), in float64.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(options: SamplingOptions, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(options);
        (0..n).map(|_| sampler.sample(logits, None).expect("a token").id).collect()
    }

    #[test]
    fn greedy_takes_the_smallest_id_among_equals() {
        assert_eq!(chosen(SamplingOptions::greedy(), &[1.0, 3.0, 3.0, f32::NAN], 2), [1, 1]);
        assert_eq!(chosen(SamplingOptions::greedy(), &[f32::NAN, -1.0], 1), [1]);
    }

    /// Allows one id, then the next, and so on.
    struct InOrder(u32);

    impl Mask for InOrder {
        fn apply(&mut self, logits: &mut [f32]) -> Result<(), MaskError> {
            let allowed = self.0;
            let banned = logits.iter_mut().zip(0u32..).filter(|(_, id)| *id != allowed);
            banned.for_each(|(logit, _)| *logit = f32::NEG_INFINITY);
            Ok(())
        }

        fn accept(&mut self, id: u32) -> Result<(), MaskError> {
            assert_eq!(id, self.0);
            self.0 += 1;
            Ok(())
        }
    }

    #[test]
    fn a_mask_decides_what_may_be_chosen_and_not_what_is_reported() {
        for temperature in [0.0, 1.0] {
            let options = SamplingOptions { temperature, n_logprobs: Some(1), ..SamplingOptions::default() };
            let (mut sampler, mut mask) = (Sampler::new(options), InOrder(0));
            let logits = [-5.0, 0.0, 7.0];
            let chosen = [(); 3].map(|()| sampler.sample(&logits, Some(&mut mask)).unwrap());
            assert_eq!(chosen.each_ref().map(|sampled| sampled.id), [0, 1, 2]);
            assert!(chosen.iter().all(|sampled| sampled.top[0].id == 2));
            assert!(chosen[0].logprob.unwrap() < -12.0, "the model's own probability");
            let error = sampler.sample(&logits, Some(&mut mask)).unwrap_err();
            assert!(matches!(error, SampleError::NothingAllowed { n_vocab: 3, masked: true }), "{error}");
        }
    }

    #[test]
    fn where_nothing_can_be_chosen_there_is_an_error_and_no_token() {
        for temperature in [0.0, 1.0] {
            let banned = SamplingOptions {
                temperature,
                logit_bias: vec![(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)],
                ..SamplingOptions::default()
            };
            let error = Sampler::new(banned).sample(&[1.0, 2.0], None).unwrap_err();
            assert!(matches!(error, SampleError::NothingAllowed { n_vocab: 2, masked: false }), "{error}");
            let options = SamplingOptions { temperature, ..SamplingOptions::default() };
            for logits in [[f32::NAN, f32::NAN], [f32::NAN, f32::NEG_INFINITY]] {
                let error = Sampler::new(options.clone()).sample(&logits, None).unwrap_err();
                assert!(matches!(error, SampleError::NotFinite { .. }), "{error}");
            }
        }
    }

    #[test]
    fn the_seed_fixes_the_choices() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32).collect();
        let options = |seed| SamplingOptions { seed, ..SamplingOptions::default() };
        assert_eq!(chosen(options(1), &logits, 50), chosen(options(1), &logits, 50));
        assert_ne!(chosen(options(1), &logits, 50), chosen(options(2), &logits, 50));
    }

    #[test]
    fn frequencies_follow_the_softmax_at_the_temperature() {
        let logits = [0.0, 1.0, 2.0];
        let options = SamplingOptions {
            temperature: 0.5,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            ..SamplingOptions::default()
        };
        let n = 20_000;
        let mut counts = [0.0f64; 3];
        for id in chosen(options, &logits, n) {
            counts[id as usize] += 1.0;
        }
        let weights = logits.map(|logit| f64::from(logit * 2.0f32).exp());
        for (count, weight) in counts.iter().zip(weights) {
            let p = weight / weights.iter().sum::<f64>();
            let five_sigma = 5.0 * (p * (1.0 - p) / n as f64).sqrt();
            assert!((count / n as f64 - p).abs() < five_sigma, "{count} of {n}, expected {p}");
        }
    }

    #[test]
    fn top_k_top_p_and_min_p_exclude_the_tail() {
        let logits = [5.0, 4.9, 0.0, -1.0, 4.8];
        let all =
            SamplingOptions { temperature: 5.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Default::default() };
        let seen = |options| {
            let mut ids = chosen(options, &logits, 500);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        assert_eq!(seen(all.clone()), [0, 1, 2, 3, 4]);
        assert_eq!(seen(SamplingOptions { top_k: 2, ..all.clone() }), [0, 1]);
        assert_eq!(seen(SamplingOptions { top_p: 0.9, ..all.clone() }), [0, 1, 4]);
        assert_eq!(seen(SamplingOptions { top_p: 0.0, ..all.clone() }), [0]);
        assert_eq!(seen(SamplingOptions { min_p: 0.85, ..all }), [0, 1]);
    }

    #[test]
    fn penalties_act_on_the_tokens_inside_the_window_only() {
        let options =
            SamplingOptions { presence_penalty: 10.0, repeat_last_n: 2, ..SamplingOptions::greedy() };
        assert_eq!(chosen(options, &[3.0, 2.0, 1.0, 0.0], 5), [0, 1, 2, 0, 1]);
        let options = SamplingOptions { repeat_penalty: 2.0, ..SamplingOptions::greedy() };
        assert_eq!(chosen(options, &[3.0, 2.0, -1.0], 3), [0, 1, 0]);
        let options = SamplingOptions { frequency_penalty: 1.0, ..SamplingOptions::greedy() };
        assert_eq!(chosen(options, &[2.5, 1.0, 0.0], 5), [0, 0, 1, 0, 1]);
    }

    #[test]
    fn bias_can_force_and_forbid_and_ignores_unknown_ids() {
        let options = SamplingOptions {
            logit_bias: vec![(0, f32::NEG_INFINITY), (2, 100.0), (9, 1.0)],
            ..SamplingOptions::default()
        };
        assert_eq!(chosen(options, &[5.0, 4.0, 0.0], 3), [2, 2, 2]);
    }

    #[test]
    fn logprobs_are_those_of_the_model_before_any_option() {
        let options = SamplingOptions {
            n_logprobs: Some(2),
            logprobs_of: vec![2, 0],
            logit_bias: vec![(0, f32::NEG_INFINITY)],
            ..SamplingOptions::greedy()
        };
        let sampled = Sampler::new(options).sample(&[1.0, 0.0, -1.0], None).unwrap();
        let normalizer = (1f64.exp() + 1.0 + (-1f64).exp()).ln();
        assert_eq!(sampled.id, 1);
        assert!((f64::from(sampled.logprob.unwrap()) + normalizer).abs() < 1e-6);
        let ids: Vec<u32> = sampled.top.iter().map(|top| top.id).collect();
        assert_eq!(ids, [0, 1]);
        assert!((f64::from(sampled.top[0].logprob) - (1.0 - normalizer)).abs() < 1e-6);
        let of: Vec<f64> =
            sampled.logprobs_of.iter().map(|logprob| f64::from(*logprob) + normalizer).collect();
        assert!((of[0] + 1.0).abs() < 1e-6 && (of[1] - 1.0).abs() < 1e-6, "{of:?}");
    }
}
