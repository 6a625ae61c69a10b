//! The search for the numbers of a block of 256 whose sub-blocks have scales of a few bits.
//!
//! First every sub-block by itself, as [`search`](super::search) does it. Then the unit of the scales (and that of the
//! minima), which makes the largest of them the largest number that fits. Each sub-block then takes the integer, among the
//! nearest and its neighbours, that leaves the least error with codes rounded on it; and the units become the best ones for
//! these integers and codes, by least squares. That is done in turns, and the best turn is what counts.
//!
//! What has been quantized before is found again: its steps are multiples of a common unit, and that is tried too.

use super::levels::Levels;
use super::search::{Line, Weighted, best_line, best_scale, extreme, reciprocal};
use crate::f16;

const MAX_TURNS: usize = 4;

/// What Q3_K, Q6_K and IQ4_XS store of their `N` sub-blocks: `x = (d · scale) · level`.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<const N: usize> {
    pub d: f16,
    pub scales: [i8; N],
}

impl<const N: usize> Scaled<N> {
    /// Scales are `min_scale ..= −1 − min_scale`.
    pub(crate) fn fit(of: Weighted<'_>, levels: impl Levels, targets: &[f32], min_scale: i8) -> Scaled<N> {
        let len = of.values.len() / N;
        let parts: [Weighted<'_>; N] = std::array::from_fn(|s| of.slice(len * s..len * (s + 1)));
        let wanted = parts.map(|part| best_scale(part, levels, targets));
        let largest = extreme(&wanted);
        // The largest scale may take either sign's end of the range.
        let starts = [f32::from(min_scale), -1.0 - f32::from(min_scale)];
        let mut best = (Scaled { d: f16::from_f32(largest / starts[0]), scales: [1; N] }, f32::INFINITY);
        let common = common_unit(&wanted, starts[0].abs());
        for start in starts.map(|end| largest / end).into_iter().chain(common) {
            let mut unit = start;
            for _ in 0..MAX_TURNS {
                let (found, error, better) = Scaled::round(parts, levels, &wanted, unit, min_scale);
                if !is_better(error, best.1) {
                    break;
                }
                best = (found, error);
                unit = better;
            }
        }
        best.0
    }

    /// The integers for a unit, the error with them, and the best unit for them.
    fn round(
        parts: [Weighted<'_>; N],
        levels: impl Levels,
        wanted: &[f32; N],
        unit: f32,
        min_scale: i8,
    ) -> (Scaled<N>, f32, f32) {
        let d = f16::from_f32(unit);
        let wide = d.to_f32();
        let (mut scales, mut total, mut xl, mut ll) = ([0; N], 0.0, 0.0, 0.0);
        for (s, part) in parts.into_iter().enumerate() {
            let middle = (wanted[s] * reciprocal(wide)).round();
            let (low, high) = (f32::from(min_scale), -1.0 - f32::from(min_scale));
            let mut best = (0.0, f32::INFINITY);
            for scale in [middle, middle - 1.0, middle + 1.0].map(|scale| scale.clamp(low, high)) {
                let error = part.error(levels, wide * scale, 0.0);
                if error < best.1 {
                    best = (scale, error);
                }
            }
            let inverse = reciprocal(wide * best.0);
            let [x_times, times_itself] = part.sums(|x, w| {
                let times = best.0 * levels.nearest(x * inverse);
                [w * x * times, w * times * times]
            });
            scales[s] = best.0 as i8;
            total += best.1;
            xl += x_times;
            ll += times_itself;
        }
        (Scaled { d, scales }, total, if ll > 0.0 { xl / ll } else { unit })
    }
}

/// What Q2_K, Q4_K and Q5_K store of their `N` sub-blocks: `x = (d · scale) · q − dmin · min`.
#[derive(Clone, Copy)]
pub(crate) struct Lines<const N: usize> {
    pub d: f16,
    pub dmin: f16,
    pub scales: [u8; N],
    pub mins: [u8; N],
}

/// The units of scales and minima.
#[derive(Clone, Copy)]
struct Units {
    d: f32,
    dmin: f32,
}

impl<const N: usize> Lines<N> {
    /// Scales and minima are `0 ..= max_scale`.
    pub(crate) fn fit(of: Weighted<'_>, levels: impl Levels, slack: &[f32], max_scale: u8) -> Lines<N> {
        let len = of.values.len() / N;
        let parts: [Weighted<'_>; N] = std::array::from_fn(|s| of.slice(len * s..len * (s + 1)));
        let wanted = parts.map(|part| best_line(part, levels, slack, true));
        let largest = |of: fn(&Line) -> f32| wanted.iter().map(of).fold(0.0, f32::max) / f32::from(max_scale);
        let units = Units { d: largest(|line| line.step), dmin: largest(|line| -line.offset) };
        let common = (
            common_unit(&wanted.map(|line| line.step), f32::from(max_scale)),
            common_unit(&wanted.map(|line| line.offset), f32::from(max_scale)),
        );
        let again = match common {
            (None, None) => None,
            (d, dmin) => Some(Units { d: d.unwrap_or(units.d), dmin: dmin.unwrap_or(units.dmin) }),
        };
        let first = (f16::from_f32(units.d), f16::from_f32(units.dmin));
        let nothing = Lines { d: first.0, dmin: first.1, scales: [1; N], mins: [1; N] };
        let mut best = (nothing, f32::INFINITY);
        for start in std::iter::once(units).chain(again) {
            let mut units = start;
            for _ in 0..MAX_TURNS {
                let (found, error, better) = Lines::round(parts, levels, &wanted, units, max_scale);
                if !is_better(error, best.1) {
                    break;
                }
                best = (found, error);
                units = better;
            }
        }
        best.0
    }

    /// The integers for two units, the error with them, and the best units for them.
    fn round(
        parts: [Weighted<'_>; N],
        levels: impl Levels,
        wanted: &[Line; N],
        units: Units,
        max_scale: u8,
    ) -> (Lines<N>, f32, Units) {
        let (d, dmin) = (f16::from_f32(units.d), f16::from_f32(units.dmin));
        let mut found = Lines { d, dmin, scales: [0; N], mins: [0; N] };
        let (d, dmin) = (d.to_f32(), dmin.to_f32());
        let (mut total, mut sums) = (0.0, [0.0; 5]);
        for (s, part) in parts.into_iter().enumerate() {
            let limited = |x: f32| x.round().clamp(0.0, f32::from(max_scale));
            let middle = limited(wanted[s].step * reciprocal(d));
            let mut best = (0.0, 0.0, f32::INFINITY);
            for scale in [middle, middle - 1.0, middle + 1.0] {
                if !(0.0..=f32::from(max_scale)).contains(&scale) {
                    continue;
                }
                let mut min = limited(-wanted[s].offset * reciprocal(dmin));
                for _ in 0..2 {
                    let (step, offset) = (d * scale, dmin * min);
                    let inverse = reciprocal(step);
                    let [error, rest, w] = part.sums(|x, w| {
                        let rest = step * levels.nearest((x + offset) * inverse) - x;
                        [w * (rest - offset) * (rest - offset), w * rest, w]
                    });
                    if error < best.2 {
                        best = (scale, min, error);
                    }
                    let better = limited(rest / w * reciprocal(dmin));
                    if better == min {
                        break;
                    }
                    min = better;
                }
            }
            let (scale, min, error) = best;
            found.scales[s] = scale as u8;
            found.mins[s] = min as u8;
            total += error;
            let (offset, inverse) = (dmin * min, reciprocal(d * scale));
            let of_part = part.sums(|x, w| {
                let times = scale * levels.nearest((x + offset) * inverse);
                [w * times * times, w * times * min, w * min * min, w * x * times, w * x * min]
            });
            sums = std::array::from_fn(|i| sums[i] + of_part[i]);
        }
        (found, total, better_units(sums, units))
    }
}

/// The largest number, above 0, of which all steps are multiples up to `most` times, nearly: a chance of steps on no grid that
/// can be neglected.
fn common_unit(steps: &[f32], most: f32) -> Option<f32> {
    const NEARLY: f32 = 0.02;
    let largest = extreme(steps).abs();
    let is_multiple = |unit: f32| move |step: &f32| (step / unit - (step / unit).round()).abs() < NEARLY;
    let units = (1..=most as u32).map(|times| largest / times as f32);
    units.filter(|unit| *unit > 0.0).find(|&unit| steps.iter().all(is_multiple(unit)))
}

/// False for errors that are no number, which units beyond half precision give: then the first units stay, which say so.
fn is_better(error: f32, best: f32) -> bool {
    error < best
}

/// Minimizes Σ w (x − d·a + dmin·b)², with the sums of `w a a`, `w a b`, `w b b`, `w x a` and `w x b`.
fn better_units([aa, ab, bb, xa, xb]: [f32; 5], units: Units) -> Units {
    let determinant = aa * bb - ab * ab;
    if determinant > 1e-6 * aa * bb {
        let (d, dmin) = ((bb * xa - ab * xb) / determinant, (ab * xa - aa * xb) / determinant);
        if d >= 0.0 && dmin >= 0.0 {
            return Units { d, dmin };
        }
    }
    if aa > 0.0 && bb == 0.0 {
        return Units { d: (xa / aa).max(0.0), dmin: 0.0 };
    }
    units
}
