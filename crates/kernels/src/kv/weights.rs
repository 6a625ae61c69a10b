//! From scores to the integers that codes of values are multiplied with.
//!
//! ```text
//! p[t] = 2^(s[t] − max)       within 1.1e-4: `exp2`
//! w[t] = p[t]·gain[t]
//! n[t] = round(w[t]·255/m)    m: the largest of 64 neighbouring w
//! ```
//! The exponential need not be better than the integers that it becomes, nor the sum of `p` than an output that is lossy
//! anyway. This is the specification; `avx2::weights` does the same operations eight lanes at a time.

use crate::math::across;
use crate::page::{LANES, PAGE_TOKENS};

/// Tokens whose weights share a scale.
pub(super) const WEIGHT_TOKENS: usize = 64;
/// Scales of a page.
pub(super) const WEIGHT_UNITS: usize = PAGE_TOKENS / WEIGHT_TOKENS;
/// The largest integer that a weight becomes.
pub(super) const WEIGHT_TOP: f32 = 255.0;

/// Scores farther than this below the maximum, masked ones too, weigh as much as one there: 5e-20, which changes no sum
/// and becomes no integer beside a weight of 1.
pub(super) const LOWEST: f32 = -64.0;
/// Adding it rounds to an integer.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Coefficients of the polynomial, highest power first, without the constant 1: `2^f` within 1.02e-4 for |f| ≤ ½.
#[allow(clippy::approx_constant, reason = "the fit's value, which is close to ln 2 but not equal")]
pub(super) const P: [f32; 3] = [0.055_008_93, 0.242_210_96, 0.693_282_9];

/// `2^x` for `x ≤ 0`, and not below 2^−64.
fn exp2(x: f32) -> f32 {
    let x = larger(x, LOWEST);
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    let p = P[0].mul_add(f, P[1]).mul_add(f, P[2]).mul_add(f, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// The larger, the second if one is NaN.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Turns scores into weights; returns the maximum and the sum of the weights.
pub(super) fn softmax(scores: &mut [f32; PAGE_TOKENS]) -> (f32, f32) {
    let groups = scores.as_chunks_mut::<LANES>().0;
    let mut max = [f32::NEG_INFINITY; LANES];
    for group in groups.iter() {
        max = std::array::from_fn(|l| larger(max[l], group[l]));
    }
    let max = across(max, larger);
    let mut sum = [0.0; LANES];
    for group in groups {
        *group = group.map(|s| exp2(s - max));
        sum = std::array::from_fn(|l| sum[l] + group[l]);
    }
    (max, across(sum, |a, b| a + b))
}

/// Integers of the weights of one head.
pub(super) struct Integers {
    pub integers: [u8; PAGE_TOKENS],
    /// values of an integer of 1
    pub units: [f32; WEIGHT_UNITS],
}

/// Weights times gains as integers.
pub(super) fn integers(weights: &[f32; PAGE_TOKENS], gain: impl Fn(usize) -> f32) -> Integers {
    let mut out = Integers { integers: [0; PAGE_TOKENS], units: [0.0; WEIGHT_UNITS] };
    for (index, unit) in out.units.iter_mut().enumerate() {
        let tokens = index * WEIGHT_TOKENS..(index + 1) * WEIGHT_TOKENS;
        let product = |token: usize| weights[token] * gain(token);
        let largest = tokens.clone().map(product).fold(0.0, f32::max);
        let per_unit = if largest > 0.0 { WEIGHT_TOP / largest } else { 0.0 };
        for token in tokens {
            out.integers[token] = (product(token) * per_unit).round_ties_even() as u8;
        }
        *unit = largest / WEIGHT_TOP;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_1_1e_4_and_next_to_nothing_far_below() {
        for x in (0..64_000).map(|i| -(i as f32) * 1e-3) {
            let error = (f64::from(exp2(x)) / f64::from(x).exp2() - 1.0).abs();
            assert!(error < 1.1e-4, "exp2({x}) is off by {error:e}");
        }
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(f32::NEG_INFINITY), exp2(-64.0));
        assert_eq!(1.0 + 128.0 * exp2(f32::NEG_INFINITY), 1.0);
    }

    #[test]
    fn the_largest_of_64_becomes_255_and_the_others_in_proportion() {
        let weights = std::array::from_fn(|t| if t < WEIGHT_TOKENS { (t + 1) as f32 } else { 0.0 });
        let Integers { integers, units } = integers(&weights, |_| 0.5);
        assert_eq!(integers[WEIGHT_TOKENS - 1], 255);
        assert_eq!(integers[31], 128, "127.5 to even");
        assert!((units[0] * 255.0 - 32.0).abs() < 1e-5);
        assert_eq!((integers[WEIGHT_TOKENS], units[1]), (0, 0.0));
    }
}
