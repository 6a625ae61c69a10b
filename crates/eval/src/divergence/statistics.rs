//! From the losses of single predictions to figures.
//!
//! Means, percentiles and standard errors are those of `llama-perplexity --kl-divergence`: a standard error is that of a
//! mean of independent predictions, `sqrt(variance / (n − 1))` with the variance divided by n, and is carried through
//! exp and quotients to first order. Neighbouring predictions are not independent, so that the true error is larger;
//! [`Summary::kl_blocked_se`] is taken over the means of 64 predictions in a row instead.

use serde::{Deserialize, Serialize};

use super::TokenLoss;

/// Predictions in a row whose mean counts as one observation for [`Summary::kl_blocked_se`].
const PREDICTIONS_PER_BLOCK: usize = 64;

/// A figure and its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// the figure
    pub value: f64,
    /// its standard error; 0 where a single observation allows none
    pub se: f64,
}

impl Estimate {
    /// The mean of observations; 0 ± 0 of none.
    pub fn mean(values: impl Iterator<Item = f64> + Clone) -> Estimate {
        let n = values.clone().count() as f64;
        if n == 0.0 {
            return Estimate::default();
        }
        let value = values.clone().sum::<f64>() / n;
        let variance = values.map(|x| (x - value).powi(2)).sum::<f64>() / n;
        Estimate { value, se: if n > 1.0 { (variance / (n - 1.0)).sqrt() } else { 0.0 } }
    }

    /// exp of it.
    pub fn exp(self) -> Estimate {
        let value = self.value.exp();
        Estimate { value, se: value * self.se }
    }

    /// The square root of it.
    pub fn sqrt(self) -> Estimate {
        let value = self.value.sqrt();
        Estimate { value, se: if value > 0.0 { self.se / (2.0 * value) } else { 0.0 } }
    }
}

/// How a quantity is spread over the predictions. A percentile between two observations is interpolated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// with its standard error
    pub mean: Estimate,
    /// largest
    pub max: f64,
    /// 99.9 %
    pub p99_9: f64,
    /// 99 %
    pub p99: f64,
    /// 95 %
    pub p95: f64,
    /// 90 %
    pub p90: f64,
    /// 75 %
    pub p75: f64,
    /// 50 %
    pub median: f64,
    /// 25 %
    pub p25: f64,
    /// 10 %
    pub p10: f64,
    /// 5 %
    pub p5: f64,
    /// 1 %
    pub p1: f64,
    /// 0.1 %
    pub p0_1: f64,
    /// smallest
    pub min: f64,
}

impl Distribution {
    /// Of observations; all 0 of none.
    pub fn of(mut values: Vec<f64>) -> Distribution {
        let mean = Estimate::mean(values.iter().copied());
        values.sort_by(f64::total_cmp);
        let at = |share| percentile(&values, share);
        Distribution {
            mean,
            max: at(1.0),
            p99_9: at(0.999),
            p99: at(0.99),
            p95: at(0.95),
            p90: at(0.9),
            p75: at(0.75),
            median: at(0.5),
            p25: at(0.25),
            p10: at(0.1),
            p5: at(0.05),
            p1: at(0.01),
            p0_1: at(0.001),
            min: at(0.0),
        }
    }
}

/// Of sorted values; 0 of none.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let part = position - below as f64;
    // Without the branch an infinite neighbour would make a percentile that is met exactly not a number.
    if part == 0.0 { sorted[below] } else { sorted[below] * (1.0 - part) + sorted[above] * part }
}

/// The figures of one setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// predictions
    pub n_scored: usize,
    /// perplexity of the setting
    pub ppl: Estimate,
    /// perplexity of the reference
    pub ppl_reference: Estimate,
    /// correlation of ln p of the token that follows, setting and reference
    pub ln_ppl_correlation: f64,
    /// ln(perplexity of the setting / of the reference)
    pub ln_ppl_ratio: Estimate,
    /// perplexity of the setting / of the reference
    pub ppl_ratio: Estimate,
    /// perplexity of the setting − of the reference
    pub ppl_difference: Estimate,
    /// KL(reference ‖ setting), nats
    pub kl: Distribution,
    /// standard error of the mean KL that allows for neighbours which are alike; 0 for fewer than 128 predictions
    pub kl_blocked_se: f64,
    /// part of the error of the mean KL that comes from a reference of which not everything was kept; 0: it was run
    pub kl_kept_se: f64,
    /// what the mean KL is not below, whatever was not kept
    pub kl_at_least: f64,
    /// change of the probability of the token that follows
    pub delta_p: Distribution,
    /// its root mean square
    pub delta_p_rms: Estimate,
    /// share of the predictions whose most likely token is the reference's
    pub same_top: Estimate,
    /// the same figures by the length of the context
    pub depths: Vec<DepthSummary>,
}

/// Contexts of `from` to `to − 1` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DepthRange {
    /// fewest tokens
    pub from: usize,
    /// one more than the most tokens
    pub to: usize,
}

impl DepthRange {
    /// 0 to 511, then from each power of two to the next.
    pub fn of(depth: usize) -> DepthRange {
        const FIRST: usize = 512;
        if depth < FIRST {
            return DepthRange { from: 0, to: FIRST };
        }
        let from = 1 << depth.ilog2();
        DepthRange { from, to: 2 * from }
    }
}

/// The figures of the predictions in one range of depths.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DepthSummary {
    /// which
    #[serde(flatten)]
    pub range: DepthRange,
    /// predictions
    pub n_scored: usize,
    /// mean KL, nats
    pub kl: Estimate,
    /// share with the same most likely token
    pub same_top: Estimate,
    /// perplexity of the reference
    pub ppl_reference: Estimate,
    /// ln(perplexity of the setting / of the reference)
    pub ln_ppl_ratio: Estimate,
}

impl Summary {
    /// Of the losses of one setting.
    pub fn of(losses: &[TokenLoss]) -> Summary {
        let nll = Estimate::mean(losses.iter().map(|loss| loss.nll));
        let reference_nll = Estimate::mean(losses.iter().map(|loss| loss.reference_nll));
        let ln_ppl_ratio = Estimate::mean(losses.iter().map(|loss| loss.nll - loss.reference_nll));
        let (ppl, ppl_reference) = (nll.exp(), reference_nll.exp());
        // Of the means: cov / (n − 1), from var(x − y) = var(x) + var(y) − 2 cov(x, y).
        let covariance = (nll.se.powi(2) + reference_nll.se.powi(2) - ln_ppl_ratio.se.powi(2)) / 2.0;
        let spread = nll.se * reference_nll.se;
        let difference_variance =
            ppl.se.powi(2) + ppl_reference.se.powi(2) - 2.0 * ppl.value * ppl_reference.value * covariance;
        let delta_p: Vec<f64> = losses.iter().map(TokenLoss::delta_p).collect();
        Summary {
            n_scored: losses.len(),
            ppl,
            ppl_reference,
            ln_ppl_correlation: if spread > 0.0 { covariance / spread } else { 1.0 },
            ln_ppl_ratio,
            ppl_ratio: ln_ppl_ratio.exp(),
            ppl_difference: Estimate {
                value: ppl.value - ppl_reference.value,
                se: difference_variance.max(0.0).sqrt(),
            },
            kl: Distribution::of(losses.iter().map(|loss| loss.kl).collect()),
            kl_blocked_se: blocked_se(losses),
            kl_kept_se: losses.iter().map(|loss| loss.kl_variance).sum::<f64>().sqrt()
                / losses.len().max(1) as f64,
            kl_at_least: Estimate::mean(losses.iter().map(|loss| loss.kl_at_least)).value,
            delta_p_rms: Estimate::mean(delta_p.iter().map(|x| x * x)).sqrt(),
            delta_p: Distribution::of(delta_p),
            same_top: same_top(losses.iter()),
            depths: by_depth(losses),
        }
    }
}

fn same_top<'a>(losses: impl Iterator<Item = &'a TokenLoss> + Clone) -> Estimate {
    Estimate::mean(losses.map(|loss| f64::from(u8::from(loss.is_same_top))))
}

fn blocked_se(losses: &[TokenLoss]) -> f64 {
    let blocks = losses.chunks_exact(PREDICTIONS_PER_BLOCK);
    let means = blocks.map(|block| Estimate::mean(block.iter().map(|loss| loss.kl)).value);
    Estimate::mean(means).se
}

fn by_depth(losses: &[TokenLoss]) -> Vec<DepthSummary> {
    let mut ranges: Vec<DepthRange> = losses.iter().map(|loss| DepthRange::of(loss.depth)).collect();
    ranges.sort_by_key(|range| range.from);
    ranges.dedup();
    let summary = |range: DepthRange| {
        let here = losses.iter().filter(move |loss| DepthRange::of(loss.depth) == range);
        DepthSummary {
            range,
            n_scored: here.clone().count(),
            kl: Estimate::mean(here.clone().map(|loss| loss.kl)),
            same_top: same_top(here.clone()),
            ppl_reference: Estimate::mean(here.clone().map(|loss| loss.reference_nll)).exp(),
            ln_ppl_ratio: Estimate::mean(here.map(|loss| loss.nll - loss.reference_nll)),
        }
    };
    ranges.into_iter().map(summary).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_the_standard_error_of_its_sample() {
        // Variance 4 over 8 numbers: 4 / 7.
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let mean = Estimate::mean(values.iter().copied());
        assert_eq!(mean, Estimate { value: 5.0, se: (4.0f64 / 7.0).sqrt() });
        assert_eq!(Estimate::mean([3.0].into_iter()), Estimate { value: 3.0, se: 0.0 });
        assert_eq!(Estimate::mean(std::iter::empty()), Estimate::default());
    }

    #[test]
    fn percentiles_are_interpolated() {
        let spread = Distribution::of((0..=1000).rev().map(f64::from).collect());
        assert_eq!((spread.min, spread.median, spread.max), (0.0, 500.0, 1000.0));
        assert_eq!((spread.p99_9, spread.p99, spread.p1, spread.p0_1), (999.0, 990.0, 10.0, 1.0));
        assert_eq!(Distribution::of(vec![1.0, 2.0]).median, 1.5);
        assert_eq!(Distribution::of(vec![1.0, f64::INFINITY, 0.0]).median, 1.0);
    }

    #[test]
    fn depths_are_powers_of_two() {
        let ranges = [0, 511, 512, 1023, 1024, 8191].map(DepthRange::of).map(|range| (range.from, range.to));
        assert_eq!(ranges, [(0, 512), (0, 512), (512, 1024), (512, 1024), (1024, 2048), (4096, 8192)]);
    }

    /// Two predictions: p 1/2 → 1/4 and 1/8 → 1/8. ln ratio (ln 2 + 0) / 2; perplexities 4 and √32.
    #[test]
    fn figures_of_two_predictions_by_hand() {
        let loss = |depth, reference_p: f64, p: f64, kl, is_same_top| TokenLoss {
            depth,
            reference_nll: -reference_p.ln(),
            nll: -p.ln(),
            kl,
            kl_at_least: kl,
            kl_variance: 0.0,
            is_same_top,
        };
        let summary = Summary::of(&[loss(10, 0.5, 0.25, 0.3, false), loss(600, 0.125, 0.125, 0.1, true)]);
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-12, "{found}, not {wanted}");
        near(summary.ppl_reference.value, 4.0);
        near(summary.ppl.value, 32f64.sqrt());
        near(summary.ln_ppl_ratio.value, 2f64.ln() / 2.0);
        near(summary.ln_ppl_ratio.se, 2f64.ln() / 2.0);
        near(summary.ppl_ratio.value, 2f64.sqrt());
        near(summary.ppl_difference.value, 32f64.sqrt() - 4.0);
        // nll: ln 4, ln 8 (se ln 2 / 2); reference: ln 2, ln 8 (se ln 2): exactly proportional.
        near(summary.ln_ppl_correlation, 1.0);
        near(summary.ppl_difference.se, (4.0 * 2f64.ln() - 32f64.sqrt() * 2f64.ln() / 2.0).abs());
        near(summary.kl.mean.value, 0.2);
        near(summary.kl.mean.se, 0.1);
        near(summary.delta_p.mean.value, -0.125);
        near(summary.delta_p_rms.value, (0.0625f64 / 2.0).sqrt());
        near(summary.same_top.value, 0.5);
        let depths: Vec<(usize, usize)> =
            summary.depths.iter().map(|depth| (depth.range.from, depth.n_scored)).collect();
        assert_eq!(depths, [(0, 1), (512, 1)]);
    }

    #[test]
    fn neighbours_that_are_alike_widen_the_error() {
        let losses: Vec<TokenLoss> = (0..640)
            .map(|i| TokenLoss {
                depth: i,
                reference_nll: 1.0,
                nll: 1.0,
                kl: f64::from(u8::from(i / 64 % 2 == 0)),
                kl_at_least: 0.0,
                kl_variance: 0.0,
                is_same_top: true,
            })
            .collect();
        let summary = Summary::of(&losses);
        assert!((summary.kl_blocked_se - 0.5 / 3.0).abs() < 1e-12, "{}", summary.kl_blocked_se);
        assert!(summary.kl.mean.se < 0.02);
    }
}
