//! One row of logits: its log-sum-exp, and how far another row is from it.
//!
//! With `a` the reference's logits, `b` the setting's, `p = softmax(a)` and `q = softmax(b)`,
//!
//! ```text
//! KL(p ‖ q) = Σ p_i (ln p_i − ln q_i) = Σ p_i (a_i − b_i) − lse(a) + lse(b)
//! ```
//!
//! Terms are float32 and are summed in lanes over blocks of [`BLOCK`] values, blocks in float64. `Σ p_i (a_i − b_i)` is
//! divided by the sum of the very same `p_i`, so that a constant added to all logits changes nothing. What rounding
//! leaves is about 1e-7 nats, and exactly 0 between equal rows.

/// Values that are summed in float32 before they are added in float64.
const BLOCK: usize = 512;
/// Independent float32 sums, for the compiler to make vectors of.
const LANES: usize = 16;

/// What a row's normalization needs, and its most likely token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSummary {
    /// the largest logit
    pub max: f32,
    /// ln Σ exp(logit)
    pub log_sum_exp: f64,
    /// the first token with the largest logit
    pub top: u32,
}

impl RowSummary {
    /// Of `[n_vocab]` logits; `None` if one is not a number, or none is finite.
    pub fn of(logits: &[f32]) -> Option<RowSummary> {
        let max = max(logits);
        if !max.is_finite() {
            return None;
        }
        let sum: f64 = logits.chunks(BLOCK).map(|block| f64::from(sum_exp(block, max))).sum();
        // A logit that is not a number makes the sum one that is not.
        if !sum.is_finite() {
            return None;
        }
        let top = logits.iter().position(|&logit| logit == max)? as u32;
        Some(RowSummary { max, log_sum_exp: f64::from(max) + sum.ln(), top })
    }

    /// −ln of the probability of `token`, nats.
    ///
    /// # Panics
    /// If `token` is not in the row.
    pub fn nll(&self, logits: &[f32], token: u32) -> f64 {
        self.log_sum_exp - f64::from(logits[token as usize])
    }
}

/// KL(softmax(reference) ‖ softmax(found)) in nats.
///
/// # Panics
/// If the rows have different lengths.
pub fn kl_divergence(
    reference: &[f32],
    reference_summary: &RowSummary,
    found: &[f32],
    found_summary: &RowSummary,
) -> f64 {
    assert_eq!(reference.len(), found.len(), "rows of logits of different lengths");
    let (mut weighted, mut total) = (0.0, 0.0);
    for (a, b) in reference.chunks(BLOCK).zip(found.chunks(BLOCK)) {
        let (block_weighted, block_total) = weighted_difference(a, b, reference_summary.max);
        weighted += f64::from(block_weighted);
        total += f64::from(block_total);
    }
    weighted / total + found_summary.log_sum_exp - reference_summary.log_sum_exp
}

fn max(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let pieces = logits.chunks_exact(LANES);
    let rest = pieces.remainder();
    for piece in pieces {
        for (lane, &value) in lanes.iter_mut().zip(piece) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Σ exp(logit − max) over a block.
fn sum_exp(block: &[f32], max: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let pieces = block.chunks_exact(LANES);
    let rest = pieces.remainder();
    for piece in pieces {
        for (lane, &value) in lanes.iter_mut().zip(piece) {
            *lane += exp_of_negative(value - max);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&value| exp_of_negative(value - max)).sum::<f32>()
}

/// Σ e_i (a_i − b_i) and Σ e_i with e_i = exp(a_i − max) over a block. A token that the reference excludes (−∞)
/// counts nothing, whatever the other row says.
fn weighted_difference(a: &[f32], b: &[f32], max: f32) -> (f32, f32) {
    let (mut weighted, mut total) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (a_pieces, b_pieces) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_pieces.remainder().iter().zip(b_pieces.remainder());
    for (a, b) in a_pieces.zip(b_pieces) {
        for lane in 0..LANES {
            let e = exp_of_negative(a[lane] - max);
            weighted[lane] += if e > 0.0 { e * (a[lane] - b[lane]) } else { 0.0 };
            total[lane] += e;
        }
    }
    for (lane, (&a, &b)) in rest.enumerate() {
        let e = exp_of_negative(a - max);
        weighted[lane] += if e > 0.0 { e * (a - b) } else { 0.0 };
        total[lane] += e;
    }
    (weighted.iter().sum(), total.iter().sum())
}

/// exp(x) for x ≤ 0 within 2 units in the last place; 0 below −87, where float32 ends. Without branches or calls, so
/// that loops over it become vector code.
///
/// `exp(x) = 2^n · exp(r)` with n = round(x / ln 2), |r| ≤ ln 2 / 2, and exp(r) by its series up to r⁷.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    /// Adding this leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
    /// ln 2 in two parts, the first of which has few bits: n · LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let is_zero = x < -87.0;
    // Written so that what is not a number stays none.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let power = f32::from_bits(((exponent + 127) << 23) as u32);
    if is_zero { 0.0 } else { series * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kl(reference: &[f32], found: &[f32]) -> f64 {
        let summary = |row| RowSummary::of(row).unwrap();
        kl_divergence(reference, &summary(reference), found, &summary(found))
    }

    /// Numbers between −12 and 12 without a pattern that a sum could profit from.
    fn row(seed: u64, n_vocab: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 8.0
        };
        (0..n_vocab).map(|_| next() + next() + next()).collect()
    }

    #[test]
    fn exp_is_that_of_float64() {
        for i in 0..200_000 {
            let x = -(i as f32) * 87.0 / 200_000.0;
            let (found, wanted) = (f64::from(exp_of_negative(x)), f64::from(x).exp());
            assert!((found / wanted - 1.0).abs() < 2.5e-7, "exp({x}) = {wanted}, not {found}");
        }
        assert_eq!([0.0, -0.0].map(exp_of_negative), [1.0, 1.0]);
        assert_eq!([-87.5, -1e30, f32::NEG_INFINITY].map(exp_of_negative), [0.0; 3]);
    }

    #[test]
    fn a_row_is_at_no_distance_from_itself_also_shifted() {
        for n_vocab in [1, 15, 16, 17, 511, 513, 49_152] {
            let reference = row(7, n_vocab);
            assert_eq!(kl(&reference, &reference), 0.0, "{n_vocab}");
            let shifted: Vec<f32> = reference.iter().map(|logit| logit + 4.0).collect();
            assert!(kl(&reference, &shifted).abs() < 1e-6, "{n_vocab}: {}", kl(&reference, &shifted));
        }
    }

    /// p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 − 1/4 ln 2 = ln 2 / 4.
    #[test]
    fn three_tokens_by_hand() {
        let logits = |p: [f32; 3]| p.map(f32::ln);
        let (p, q) = (logits([0.5, 0.25, 0.25]), logits([0.25, 0.5, 0.25]));
        assert!((kl(&p, &q) - std::f64::consts::LN_2 / 4.0).abs() < 1e-7, "{}", kl(&p, &q));
        let summary = RowSummary::of(&p).unwrap();
        assert_eq!(summary.top, 0);
        assert!(summary.log_sum_exp.abs() < 1e-7);
        assert!((summary.nll(&p, 1) - 4f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn large_rows_agree_with_float64() {
        for (n_vocab, scale) in [(49_152, 1.0), (151_936, 0.01), (1000, 0.001)] {
            let reference = row(1, n_vocab);
            let noise = row(2, n_vocab);
            let found: Vec<f32> = reference.iter().zip(&noise).map(|(a, n)| a + scale * n).collect();
            let wanted = lossy_testkit::kl_divergence(&reference, &found);
            let error = (kl(&reference, &found) - wanted).abs();
            assert!(error < 2e-7 + 2e-6 * wanted, "{n_vocab}: {wanted}, off by {error}");
        }
    }

    #[test]
    fn rows_that_are_not_numbers_are_refused() {
        let with = |value| RowSummary::of(&[1.0, value, 2.0]);
        assert_eq!(with(f32::NAN), None);
        assert_eq!(with(f32::INFINITY), None);
        assert_eq!(RowSummary::of(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(RowSummary::of(&[]), None);
        assert_eq!(with(f32::NEG_INFINITY).unwrap().top, 2);
    }
}
