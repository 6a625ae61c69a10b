//! Softmax states of query rows, and their merge.

use crate::Isa;
use crate::math::exp2;

/// Values in front of the outputs of a record: maximum, sum, and what keeps the outputs aligned.
const HEADER: usize = 8;

/// Values of the record of one query row: `[max, sum, 0 × 6, out[head_dim]]`.
pub(crate) fn record_len(head_dim: usize) -> usize {
    HEADER + head_dim
}

/// The softmax of some query rows over some tokens, before the division by the sum: records of
/// maximum (log₂), sum and output `[n_rows][8 + head_dim]`.
#[derive(Debug)]
pub struct Partial<'a> {
    records: &'a mut [f32],
    head_dim: usize,
}

impl<'a> Partial<'a> {
    pub(crate) fn new(records: &'a mut [f32], head_dim: usize) -> Partial<'a> {
        assert!(records.len().is_multiple_of(record_len(head_dim)));
        Partial { records, head_dim }
    }

    /// Merges the softmax over other tokens, which `fill` writes into `room`, into this one.
    pub(crate) fn merge_with(&mut self, isa: Isa, room: &mut Vec<f32>, fill: impl FnOnce(&mut Partial<'_>)) {
        room.resize(self.records.len(), 0.0);
        fill(&mut Partial::new(room, self.head_dim));
        merge(isa, self.records, room, self.head_dim);
    }

    /// Query rows.
    pub fn n_rows(&self) -> usize {
        self.records.len() / record_len(self.head_dim)
    }

    /// Channels of a row.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The output `[head_dim]` of row `row`.
    ///
    /// # Panics
    /// There is no such row.
    pub fn out_mut(&mut self, row: usize) -> &mut [f32] {
        let len = record_len(self.head_dim);
        &mut self.records[row * len..][HEADER..len]
    }

    /// Sets maximum (log₂) and sum of row `row`, and returns its output `[head_dim]` to be filled.
    ///
    /// # Panics
    /// There is no such row.
    pub fn set(&mut self, row: usize, max: f32, sum: f32) -> &mut [f32] {
        let len = record_len(self.head_dim);
        let record = &mut self.records[row * len..][..len];
        record[0] = max;
        record[1] = sum;
        &mut record[HEADER..]
    }
}

/// Softmax states of the rows of a block, one part of them beside the other.
#[derive(Debug)]
pub struct RowStates<'a> {
    /// maxima (log₂); −∞ for a row that has seen no token
    pub max: &'a mut [f32],
    /// sums of weights
    pub sum: &'a mut [f32],
    /// `[n_rows, head_dim]`
    pub out: &'a mut [f32],
}

impl RowStates<'_> {
    /// Merges some rows' records of a later page; there are `records` of all.
    pub(crate) fn merge_records(&mut self, records: &[f32], rows: &[u16], head_dim: usize) {
        for row in rows.iter().map(|row| usize::from(*row)) {
            let record = &records[row * record_len(head_dim)..][..record_len(head_dim)];
            let (max, sum) = (&mut self.max[row], &mut self.sum[row]);
            let out = &mut self.out[row * head_dim..][..head_dim];
            let (keep, take);
            (keep, take, *max, *sum) = merge_sums((*max, *sum), (record[0], record[1]));
            merge_outputs(out, keep, &record[HEADER..], take);
        }
    }
}

/// The state of no tokens.
pub(crate) fn clear(records: &mut [f32], head_dim: usize) {
    for record in records.chunks_exact_mut(record_len(head_dim)) {
        record.fill(0.0);
        record[0] = f32::NEG_INFINITY;
    }
}

/// Factors with which a state (first) and a partial (second) enter their merge, and the new maximum and sum.
#[inline(always)]
pub(crate) fn merge_sums(state: (f32, f32), partial: (f32, f32)) -> (f32, f32, f32, f32) {
    let max = if state.0 > partial.0 { state.0 } else { partial.0 };
    let keep = exp2(state.0 - max);
    let take = exp2(partial.0 - max);
    (keep, take, max, state.1.mul_add(keep, partial.1 * take))
}

/// Merges the records of a later page into the states.
pub(crate) fn merge(isa: Isa, states: &mut [f32], partials: &[f32], head_dim: usize) {
    match isa {
        Isa::Scalar => merge_records(states, partials, head_dim, merge_outputs),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { merge_avx2(states, partials, head_dim) },
    }
}

/// [`merge`] with a way to merge outputs. Inlined where fused operations are instructions and no calls.
#[inline(always)]
fn merge_records(
    states: &mut [f32],
    partials: &[f32],
    head_dim: usize,
    merge_outputs: impl Fn(&mut [f32], f32, &[f32], f32),
) {
    let len = record_len(head_dim);
    assert_eq!(states.len(), partials.len());
    for (state, partial) in states.chunks_exact_mut(len).zip(partials.chunks_exact(len)) {
        if partial[1] == 0.0 {
            // No tokens, whose maximum cannot be subtracted from.
            continue;
        }
        let (keep, take, max, sum) = merge_sums((state[0], state[1]), (partial[0], partial[1]));
        state[0] = max;
        state[1] = sum;
        merge_outputs(&mut state[HEADER..], keep, &partial[HEADER..], take);
    }
}

fn merge_outputs(state: &mut [f32], keep: f32, partial: &[f32], take: f32) {
    for (o, x) in state.iter_mut().zip(partial) {
        *o = o.mul_add(keep, x * take);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn merge_avx2(states: &mut [f32], partials: &[f32], head_dim: usize) {
    merge_records(states, partials, head_dim, |state, keep, partial, take| {
        merge_outputs_avx2(state, keep, partial, take);
    });
}

/// `state = state · keep + partial · take`; lengths are equal and a multiple of 8.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn merge_outputs_avx2(state: &mut [f32], keep: f32, partial: &[f32], take: f32) {
    use crate::math::avx2::{load, splat, store};
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_mul_ps};
    let (keep, take) = (splat(keep), splat(take));
    let (state, partial) = (state.as_chunks_mut().0, partial.as_chunks().0);
    for (o, x) in state.iter_mut().zip(partial) {
        store(o, _mm256_fmadd_ps(load(o), keep, _mm256_mul_ps(load(x), take)));
    }
}

/// Divides the states by their sums: `out` is `[n_rows, head_dim]`.
pub(crate) fn finish(states: &[f32], head_dim: usize, out: &mut [f32]) {
    for (state, out) in states.chunks_exact(record_len(head_dim)).zip(out.chunks_exact_mut(head_dim)) {
        finish_row(state[1], &state[HEADER..], out);
    }
}

/// Divides one row by its sum, and turns −0 into +0.
pub(crate) fn finish_row(sum: f32, state: &[f32], out: &mut [f32]) {
    let inverse = 1.0 / sum;
    for (o, x) in out.iter_mut().zip(state) {
        // An addition of 0, since a fused one would be a library call where the target has none.
        *o = x * inverse + 0.0;
    }
}
