//! The search for the steps of a few values that share one, by weighted least squares.
//!
//! Given the codes q, the best step is a quotient of sums; given the step, the best codes are the nearest ones. So each
//! candidate is a first guess of the step: codes are rounded on it, the best step for these codes is computed, and what the
//! two explain of the values is compared. The winner is then improved by turns until its codes stay what they are.
//!
//! ```text
//! scale    x ≈ s · level(q)          s = Σ w x l / Σ w l²               explained: (Σ w x l)² / Σ w l²
//! line     x ≈ s · q + m             the 2 × 2 system of the same
//! ```
//!
//! Sums have eight fixed lanes, so that they are fast, and the same everywhere.

use super::levels::Levels;
use crate::f16;

const LANES: usize = 8;
/// Turns of codes and step; the codes of most blocks stand still after two or three.
const MAX_TURNS: usize = 8;

/// Values and how much the square of the error of each counts; both of the same length, which eight divides.
#[derive(Clone, Copy)]
pub(crate) struct Weighted<'a> {
    pub values: &'a [f32],
    pub weights: &'a [f32],
}

impl<'a> Weighted<'a> {
    /// The part at `range`.
    pub(crate) fn slice(self, range: std::ops::Range<usize>) -> Weighted<'a> {
        Weighted { values: &self.values[range.clone()], weights: &self.weights[range] }
    }

    /// `N` sums over all values, each of what `terms` gives for a value and its weight.
    #[inline(always)]
    pub(crate) fn sums<const N: usize>(self, terms: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
        let mut lanes = [[0.0f32; LANES]; N];
        let (values, weights) = (self.values.as_chunks::<LANES>(), self.weights.as_chunks::<LANES>());
        debug_assert!(values.1.is_empty() && values.0.len() == weights.0.len());
        for (x, w) in values.0.iter().zip(weights.0) {
            for lane in 0..LANES {
                let terms = terms(x[lane], w[lane]);
                for n in 0..N {
                    lanes[n][lane] += terms[n];
                }
            }
        }
        lanes.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (b + f)) + ((c + g) + (d + h)))
    }

    /// The weighted square of what the grid `step · level + offset` leaves.
    #[inline(always)]
    pub(crate) fn error(self, levels: impl Levels, step: f32, offset: f32) -> f32 {
        let inverse = reciprocal(step);
        let [error] = self.sums(|x, w| {
            let rest = x - offset - step * levels.nearest((x - offset) * inverse);
            [w * rest * rest]
        });
        error
    }
}

/// `1 / x`, and 0 for 0.
#[inline(always)]
pub(crate) fn reciprocal(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The value of the largest magnitude, with its sign; the first of several; 0 when there is none.
pub(crate) fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &x| if x.abs() > most.abs() { x } else { most })
}

/// A step and how much of the weighted squares it explains.
#[derive(Clone, Copy, Default)]
struct Scale {
    step: f32,
    explained: f32,
}

impl Scale {
    /// The best step for the codes that `inverse` gives.
    #[inline(always)]
    fn of_codes(of: Weighted<'_>, levels: impl Levels, inverse: f32) -> Scale {
        let [xl, ll] = of.sums(|x, w| {
            let level = levels.nearest(x * inverse);
            [w * x * level, w * level * level]
        });
        if ll > 0.0 { Scale { step: xl / ll, explained: xl / ll * xl } } else { Scale::default() }
    }
}

/// The step with the least weighted squared error. `targets` are the levels, whole or not, that the largest magnitude may
/// fall on.
pub(crate) fn best_scale(of: Weighted<'_>, levels: impl Levels, targets: &[f32]) -> f32 {
    let extreme = extreme(of.values);
    if extreme == 0.0 {
        return 0.0;
    }
    let mut best = Scale::default();
    for target in targets {
        let found = Scale::of_codes(of, levels, target / extreme);
        if found.explained > best.explained {
            best = found;
        }
    }
    for _ in 0..MAX_TURNS {
        let next = Scale::of_codes(of, levels, reciprocal(best.step));
        if next.explained <= best.explained {
            break;
        }
        best = next;
    }
    best.step
}

/// The best step in half precision. Where one value outweighs all others, what rounding the step costs is more than what the
/// search gains; so the step that puts the largest magnitude on `end` takes part in the comparison.
pub(crate) fn best_half(of: Weighted<'_>, levels: impl Levels, targets: &[f32], end: f32) -> f16 {
    let found = f16::from_f32(best_scale(of, levels, targets));
    let plain = f16::from_f32(extreme(of.values) / end);
    let error = |step: f16| of.error(levels, step.to_f32(), 0.0);
    if error(plain) < error(found) { plain } else { found }
}

/// The half-precision step on whose grid all values lie exactly, with levels from `low` to `high`, if there is one.
pub(crate) fn exact_scale(values: &[f32], low: i16, high: i16) -> Option<f16> {
    let extreme = extreme(values);
    let levels = (low..=high).rev().filter(|&level| level != 0);
    levels.map(f32::from).find_map(|level| {
        let step = f16::from_f32(extreme / level);
        let wide = step.to_f32();
        if wide * level != extreme || wide == 0.0 {
            return None;
        }
        let lies_on = |&x: &f32| {
            let code = (x / wide).round();
            code * wide == x && (f32::from(low)..=f32::from(high)).contains(&code)
        };
        values.iter().all(lies_on).then_some(step)
    })
}

/// `step · q + offset` for codes from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub step: f32,
    pub offset: f32,
}

/// The line with the least weighted squared error for codes `0..=max_code`. `slack` are the numbers, about 0, by which the
/// range of the values may be taken for more or fewer steps. With `through_zero` the offset is not above 0.
pub(crate) fn best_line(of: Weighted<'_>, levels: impl Levels, slack: &[f32], through_zero: bool) -> Line {
    let (low, high) = of
        .values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    let low = if through_zero { low.min(0.0) } else { low };
    let high = if through_zero { high.max(0.0) } else { high };
    if high <= low {
        return Line { step: 0.0, offset: low };
    }
    // Sums of values above their smallest: those of large values that hardly differ would lose the difference.
    let [w_sum, w_y] = of.sums(|x, w| [w, w * (x - low)]);
    let solve = |inverse: f32, start: f32| -> (Line, f32) {
        let [q1, qq, yq] = of.sums(|x, w| {
            let y = x - low;
            let q = levels.nearest((y - start) * inverse);
            [w * q, w * q * q, w * y * q]
        });
        let determinant = w_sum * qq - q1 * q1;
        let (mut step, mut offset) = if determinant > 1e-6 * w_sum * qq {
            ((w_sum * yq - q1 * w_y) / determinant, (qq * w_y - q1 * yq) / determinant)
        } else {
            (0.0, w_y / w_sum)
        };
        if through_zero && low + offset > 0.0 {
            // y + low = x: through zero means an offset of −low above the smallest.
            offset = -low;
            step = if qq > 0.0 { (yq - offset * q1) / qq } else { 0.0 };
        }
        let explained = 2.0 * (step * yq + offset * w_y)
            - step * step * qq
            - 2.0 * step * offset * q1
            - offset * offset * w_sum;
        (Line { step, offset }, explained)
    };
    let mut best = (Line::default(), f32::NEG_INFINITY);
    for slack in slack {
        let found = solve((levels.last() + slack) / (high - low), 0.0);
        if found.1 > best.1 {
            best = found;
        }
    }
    for _ in 0..MAX_TURNS {
        let next = solve(reciprocal(best.0.step), best.0.offset);
        if next.1 <= best.1 {
            break;
        }
        best = next;
    }
    Line { step: best.0.step, offset: best.0.offset + low }
}
