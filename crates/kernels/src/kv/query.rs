//! Queries as codes of keys meet them.
//!
//! A query meets a frame turned back by the frame's angle, and times the steps of the codes, as int8. What does not depend
//! on the frame is done once for all frames of a token ([`PreparedQueries`]). With the query's channel pair `(a, b)`, the
//! steps `(s, t)` and means `(μ, ν)` of its two channels, and `u` the value of an integer of 1:
//!
//! ```text
//! integers       (a·s/u)·cos + (b·s/u)·sin    and    (b·t/u)·cos − (a·t/u)·sin
//! mean           Σ (a·μ + b·ν)·cos + (b·μ − a·ν)·sin
//! u              the largest √(a² + b²)·max(s, t) of all pairs, over 127: no angle makes an integer larger
//! ```

use super::keys::{KeyCode, KeyOperand};
use crate::math::across;
use crate::page::{Frame, QueryRows};

/// The largest integer that a query channel becomes.
pub(super) const QUERY_TOP: f32 = 127.0;

/// Values of [`PreparedQueries`] for each channel pair.
const PARTS: usize = 6;

/// What is prepared of one head of `8 · V` channel pairs, in the order of [`PreparedHead`].
#[cfg(target_arch = "x86_64")]
pub(super) type PreparedRow<const V: usize> = [[[f32; 8]; V]; PARTS];

/// What all frames of a code have in common for query rows.
#[derive(Clone, Copy)]
pub(super) struct PreparedQueries<'a> {
    n_pairs: usize,
    /// `[n_rows][PARTS][n_pairs]`
    values: &'a [f32],
    /// `[n_rows]`: value of an integer of 1
    pub(super) units: &'a [f32],
}

/// What is prepared of one head, `[head_dim / 2]` each.
#[derive(Clone, Copy)]
pub(super) struct PreparedHead<'a> {
    /// of the first channel of a pair
    pub low_cos: &'a [f32],
    pub low_sin: &'a [f32],
    /// of the second one
    pub high_cos: &'a [f32],
    pub high_sin: &'a [f32],
    pub mean_cos: &'a [f32],
    pub mean_sin: &'a [f32],
    /// value of an integer of 1
    pub unit: f32,
}

impl<'a> PreparedQueries<'a> {
    /// Those of `queries` for `code`, which are made once.
    #[inline]
    pub(super) fn of(code: &KeyCode, queries: &'a mut QueryRows) -> PreparedQueries<'a> {
        let n_rows = queries.n_rows();
        let n_values = n_rows * (PARTS * queries.head_dim() / 2 + 1);
        let prepared =
            queries.prepared(code.id, n_values, |queries, prepared| prepare(code, queries, prepared));
        let (values, units) = prepared.split_at(prepared.len() - n_rows);
        PreparedQueries { n_pairs: code.head_dim() / 2, values, units }
    }

    /// The same by rows and parts, of `8 · V` channel pairs.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn rows<const V: usize>(&self) -> (&'a [PreparedRow<V>], &'a [f32]) {
        assert_eq!(self.n_pairs, 8 * V, "channel pairs");
        (self.values.as_chunks().0.as_chunks().0.as_chunks().0, self.units)
    }

    /// What is prepared of head `head`.
    #[inline]
    pub(super) fn head(&self, head: usize) -> PreparedHead<'a> {
        let values: &'a [f32] = &self.values[head * PARTS * self.n_pairs..][..PARTS * self.n_pairs];
        let part = |index: usize| -> &'a [f32] { &values[index * self.n_pairs..][..self.n_pairs] };
        PreparedHead {
            low_cos: part(0),
            low_sin: part(1),
            high_cos: part(2),
            high_sin: part(3),
            mean_cos: part(4),
            mean_sin: part(5),
            unit: self.units[head],
        }
    }
}

/// What is prepared of `queries` `[n_heads, head_dim]` for `code`: `[n_heads][PARTS][n_pairs]`, then `[n_heads]` units.
fn prepare(code: &KeyCode, queries: &[f32], prepared: &mut [f32]) {
    let half = code.head_dim() / 2;
    let (values, units) = prepared.split_at_mut(queries.len() * PARTS / 2);
    let (step, mean) = (code.step.split_at(half), code.mean.split_at(half));
    let heads = queries.chunks_exact(2 * half).zip(values.chunks_exact_mut(PARTS * half));
    for ((query, out), unit) in heads.zip(units) {
        let (a, b) = query.split_at(half);
        let mut largest = 0.0f32;
        for i in 0..half {
            largest = largest.max((a[i] * a[i] + b[i] * b[i]).sqrt() * step.0[i].max(step.1[i]));
        }
        let per_unit = if largest > 0.0 { QUERY_TOP / largest } else { 0.0 };
        *unit = largest / QUERY_TOP;
        for i in 0..half {
            let (low, high) = (step.0[i] * per_unit, step.1[i] * per_unit);
            let means = (a[i] * mean.0[i] + b[i] * mean.1[i], b[i] * mean.0[i] - a[i] * mean.1[i]);
            let values = [a[i] * low, b[i] * low, b[i] * high, a[i] * high, means.0, means.1];
            for (part, value) in values.into_iter().enumerate() {
                out[part * half + i] = value;
            }
        }
    }
}

/// One query head as it meets the keys of one frame or group: the specification of `avx2::query`.
pub(super) struct FrameQuery {
    /// `[head_dim]` by stored position
    pub integers: Vec<i8>,
    /// value of an integer of 1
    pub unit: f32,
    /// what the sum of integers times codes is for codes in the middle
    pub middle: f32,
    /// product with the mean key
    pub mean: f32,
}

impl FrameQuery {
    /// A query that meets a frame.
    pub(super) fn turned(code: KeyOperand<'_>, query: PreparedHead<'_>, frame: Frame<'_>) -> FrameQuery {
        let angles = || frame.cos.iter().zip(frame.sin);
        let low = query.low_cos.iter().zip(query.low_sin).zip(angles());
        let high = query.high_cos.iter().zip(query.high_sin).zip(angles());
        let scaled: Vec<f32> = low
            .map(|((a, b), (cos, sin))| b.mul_add(*sin, a * cos))
            .chain(high.map(|((b, a), (cos, sin))| (-a).mul_add(*sin, b * cos)))
            .collect();
        let mean = [(query.mean_cos, frame.cos), (query.mean_sin, frame.sin)];
        FrameQuery::new(code, &scaled, query.unit, mean)
    }

    /// A query that meets keys as they come.
    pub(super) fn still(code: KeyOperand<'_>, query: &[f32]) -> FrameQuery {
        let scaled: Vec<f32> = query.iter().zip(code.step).map(|(q, step)| q * step).collect();
        let largest = scaled.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let per_unit = if largest > 0.0 { QUERY_TOP / largest } else { 0.0 };
        let scaled: Vec<f32> = scaled.iter().map(|x| x * per_unit).collect();
        let half = query.len() / 2;
        let mean = [(&query[..half], &code.mean[..half]), (&query[half..], &code.mean[half..])];
        FrameQuery::new(code, &scaled, largest / QUERY_TOP, mean)
    }

    /// From channels in units, and the factors of the mean product's two halves, which are summed in eight lanes each.
    fn new(code: KeyOperand<'_>, scaled: &[f32], unit: f32, mean: [(&[f32], &[f32]); 2]) -> FrameQuery {
        let by_channel: Vec<i8> = scaled.iter().map(|x| x.round_ties_even() as i8).collect();
        let integers: Vec<i8> = code.order.iter().map(|channel| by_channel[usize::from(*channel)]).collect();
        let twice: i32 =
            integers.iter().zip(code.top_at).map(|(q, top)| i32::from(*q) * i32::from(*top)).sum();
        let [low, high] = mean.map(|(x, y)| {
            let eights = x.as_chunks::<8>().0.iter().zip(y.as_chunks::<8>().0);
            eights.fold([0.0f32; 8], |sum, (x, y)| std::array::from_fn(|l| x[l].mul_add(y[l], sum[l])))
        });
        let sum: [f32; 8] = std::array::from_fn(|l| low[l] + high[l]);
        FrameQuery { integers, unit, middle: twice as f32 * 0.5, mean: across(sum, |a, b| a + b) }
    }
}
