//! The rows of a block as they meet one frame: `query`, for many rows.
//!
//! A row comes in the order in which codes are stored, and so does each frame's rotation, once for all rows. Then turning is
//! a product and a sum per channel, and packing to bytes gives quads in their place. With `c` the channel of a stored
//! position, `i` its pair and `(a, b)`, `u` as in `super::super::query`:
//!
//! ```text
//! integer    x·cos[i] + y·sin[i]      (x, y) = (a, b)·step[c]/u for the first channel of a pair, (b, −a)·step[c]/u for the second
//! row        x [D] · y [D] · mean_cos [D/2] · mean_sin [D/2]; x and y at `place` of their positions
//! ```

use std::arch::x86_64::*;

use super::super::keys::KeyCode;
use super::super::query::QUERY_TOP;
use super::query::{FrameQueries, reduced};
use super::{MAX_DIM, MAX_HEADS, load_row};
use crate::math::avx2::{load, max_across, splat, store};
use crate::page::{Frame, QueryRows};

/// Where stored position `position` lies among 32: packing takes four channels of each of four vectors, first from their lower
/// halves, then from the upper ones.
fn place(position: usize) -> usize {
    let (group, quad, channel) = (position / 32, position % 32 / 4, position % 4);
    32 * group + 8 * (quad % 4) + 4 * (quad / 4) + channel
}

/// Rows of `16 · V` channels that are prepared for all frames of a code.
#[derive(Clone, Copy)]
pub(super) struct BlockQueries<'a, const V: usize> {
    rows: &'a [Row<V>],
    /// of each row: value of an integer of 1
    units: &'a [f32],
}

/// Eights of x, of y, and of both factors of the product with the mean key.
type Row<const V: usize> = [[[[f32; 8]; V]; 2]; 3];

impl<'a, const V: usize> BlockQueries<'a, V> {
    /// Those of `queries` for `code`, which are made once.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn of(code: &KeyCode, queries: &'a mut QueryRows) -> BlockQueries<'a, V> {
        let (n_rows, head_dim) = (queries.n_rows(), queries.head_dim());
        assert!(head_dim == 16 * V && code.head_dim() == head_dim, "channels of a row");
        let prepared = queries.prepared_rows(code.id, n_rows * (3 * head_dim + 1), |queries, prepared| {
            let (rows, units) = prepared.split_at_mut(n_rows * 3 * head_dim);
            let rows = rows.chunks_exact_mut(3 * head_dim);
            for ((query, row), unit) in queries.chunks_exact(head_dim).zip(rows).zip(units) {
                *unit = prepare::<V>(code, query, row);
            }
        });
        let (rows, units) = prepared.split_at(n_rows * 3 * head_dim);
        BlockQueries { rows: rows.as_chunks().0.as_chunks().0.as_chunks().0.as_chunks().0, units }
    }

    /// A row, and the value of an integer of 1.
    #[inline]
    pub(super) fn row(&self, row: u16) -> (&'a Row<V>, &'a f32) {
        (&self.rows[usize::from(row)], &self.units[usize::from(row)])
    }
}

/// Prepares one row; returns the value of an integer of 1.
#[target_feature(enable = "avx2,fma,f16c")]
fn prepare<const V: usize>(code: &KeyCode, query: &[f32], row: &mut [f32]) -> f32 {
    let half = 8 * V;
    let (xy, mean) = row.split_at_mut(4 * half);
    let parts = parts::<V>(code, query, mean);
    let (to_x, to_y) = xy.split_at_mut(2 * half);
    for (position, channel) in code.order.iter().enumerate() {
        to_x[place(position)] = parts.x.as_flattened()[usize::from(*channel)];
        to_y[place(position)] = parts.y.as_flattened()[usize::from(*channel)];
    }
    parts.unit
}

/// What [`prepare`] brings into the order of codes.
pub(super) struct RowParts {
    /// by channel
    pub x: [[f32; 8]; MAX_DIM / 8],
    pub y: [[f32; 8]; MAX_DIM / 8],
    /// value of an integer of 1
    pub unit: f32,
}

/// x and y of one row, and `[mean_cos, mean_sin]`, `[D/2]` each.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn parts<const V: usize>(code: &KeyCode, query: &[f32], mean: &mut [f32]) -> RowParts {
    let (a, b) = query.as_chunks::<8>().0.split_at(V);
    let (first, second) = code.step.as_chunks::<8>().0.split_at(V);
    let mut largest = _mm256_setzero_ps();
    for i in 0..V {
        let (a, b) = (load(&a[i]), load(&b[i]));
        let size = _mm256_sqrt_ps(_mm256_add_ps(_mm256_mul_ps(a, a), _mm256_mul_ps(b, b)));
        let step = _mm256_max_ps(load(&first[i]), load(&second[i]));
        largest = _mm256_max_ps(largest, _mm256_mul_ps(size, step));
    }
    let largest = max_across(largest);
    let per_unit = splat(if largest > 0.0 { QUERY_TOP / largest } else { 0.0 });
    let (means, more_means) = code.mean.as_chunks::<8>().0.split_at(V);
    let (mean_cos, mean_sin) = mean.as_chunks_mut::<8>().0.split_at_mut(V);
    let sign = splat(-0.0);
    // By channel.
    let (mut x, mut y) = ([[0.0; 8]; MAX_DIM / 8], [[0.0; 8]; MAX_DIM / 8]);
    for i in 0..V {
        let (a, b) = (load(&a[i]), load(&b[i]));
        let (low, high) =
            (_mm256_mul_ps(load(&first[i]), per_unit), _mm256_mul_ps(load(&second[i]), per_unit));
        store(&mut x[i], _mm256_mul_ps(a, low));
        store(&mut y[i], _mm256_mul_ps(b, low));
        store(&mut x[V + i], _mm256_mul_ps(b, high));
        store(&mut y[V + i], _mm256_xor_ps(sign, _mm256_mul_ps(a, high)));
        let (m, n) = (load(&means[i]), load(&more_means[i]));
        store(&mut mean_cos[i], _mm256_add_ps(_mm256_mul_ps(a, m), _mm256_mul_ps(b, n)));
        store(&mut mean_sin[i], _mm256_sub_ps(_mm256_mul_ps(b, m), _mm256_mul_ps(a, n)));
    }
    RowParts { x, y, unit: largest / QUERY_TOP }
}

/// The rotation of one frame.
pub(super) struct Turn<'a, const V: usize> {
    /// by pair
    pub cos: &'a [[f32; 8]; V],
    pub sin: &'a [[f32; 8]; V],
    /// at `place` of each stored position
    pub cos_at: [[[f32; 8]; 2]; V],
    pub sin_at: [[[f32; 8]; 2]; V],
}

impl<'a, const V: usize> Turn<'a, V> {
    pub(super) fn new(code: &KeyCode, frame: Frame<'a>) -> Turn<'a, V> {
        let angles = |values: &'a [f32]| values.as_chunks().0.first_chunk().expect("angles of 8 · V pairs");
        let zero = [[[0.0; 8]; 2]; V];
        let mut turn = Turn { cos: angles(frame.cos), sin: angles(frame.sin), cos_at: zero, sin_at: zero };
        let cos_at = turn.cos_at.as_flattened_mut().as_flattened_mut();
        let sin_at = turn.sin_at.as_flattened_mut().as_flattened_mut();
        for (position, channel) in code.order.iter().enumerate() {
            let pair = usize::from(*channel) % (8 * V);
            cos_at[place(position)] = frame.cos[pair];
            sin_at[place(position)] = frame.sin[pair];
        }
        turn
    }
}

impl FrameQueries<MAX_HEADS> {
    /// Takes some of the rows, [`MAX_HEADS`] at most, as they meet a frame.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn set_rows<const V: usize>(
        &mut self,
        code: &KeyCode,
        queries: BlockQueries<'_, V>,
        rows: &[u16],
        turn: &Turn<'_, V>,
    ) {
        let mut means = [_mm256_setzero_ps(); MAX_HEADS];
        let mut twice = [_mm256_setzero_si256(); MAX_HEADS];
        let tops = &code.top_at.as_chunks::<32>().0[..code.planes.n_stored.div_ceil(8)];
        let (cos_at, sin_at) = (fours(&turn.cos_at), fours(&turn.sin_at));
        let out = self.quads.iter_mut().zip(&mut self.unit).zip(means.iter_mut().zip(&mut twice));
        for (row, ((quads, unit), (mean, twice))) in rows.iter().zip(out) {
            let ([x, y, [mean_cos, mean_sin]], from_unit) = queries.row(*row);
            *mean = mean_product(mean_cos, mean_sin, turn.cos, turn.sin);
            *unit = *from_unit;
            let x = x.as_flattened().as_chunks::<4>().0.iter().zip(cos_at);
            let y = y.as_flattened().as_chunks::<4>().0.iter().zip(sin_at);
            let quads = quads.as_chunks_mut::<8>().0.iter_mut().zip(tops);
            for ((quads, top), ((x, cos), (y, sin))) in quads.zip(x.zip(y)) {
                let mut integers = [_mm256_setzero_si256(); 4];
                for (j, integers) in integers.iter_mut().enumerate() {
                    let product = _mm256_mul_ps(load(&x[j]), load(&cos[j]));
                    *integers = _mm256_cvtps_epi32(_mm256_fmadd_ps(load(&y[j]), load(&sin[j]), product));
                }
                let [a, b, c, d] = integers;
                let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
                // SAFETY: `quads` has 32 bytes.
                unsafe { _mm256_storeu_si256(quads.as_mut_ptr().cast(), bytes) };
                let words = _mm256_maddubs_epi16(load_row(top), bytes);
                *twice = _mm256_add_epi32(*twice, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
            }
        }
        self.set_sums(reduced(means, twice));
    }
}

/// The lanes of the product of a row with the mean key in a frame, of both factors and the frame's rotation.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn mean_product<const V: usize>(
    mean_cos: &[[f32; 8]; V],
    mean_sin: &[[f32; 8]; V],
    cos: &[[f32; 8]; V],
    sin: &[[f32; 8]; V],
) -> __m256 {
    let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
    for i in 0..V {
        low = _mm256_fmadd_ps(load(&mean_cos[i]), load(&cos[i]), low);
        high = _mm256_fmadd_ps(load(&mean_sin[i]), load(&sin[i]), high);
    }
    _mm256_add_ps(low, high)
}

/// Eights by fours: those of 32 positions.
fn fours<const V: usize>(eights: &[[[f32; 8]; 2]; V]) -> &[[[f32; 8]; 4]] {
    eights.as_flattened().as_chunks().0
}
