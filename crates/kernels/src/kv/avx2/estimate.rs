//! See `super::super::estimate`, the specification.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::estimate::{BIAS, LEAST, MOST, OCTAVE};
use super::super::head::HeadCode;
use super::super::keys::{EstimateCode, KeyCode, QUAD};
use super::super::layout;
use super::super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS};
use super::rows::for_rows;
use super::scores::{self, QuadCodes};
use super::{MAX_DIM, MAX_HEADS, estimate_wide, gains, turn};
use crate::isa::Extension;
use crate::math::avx2::{load, load4, splat, store4, sums_across};
use crate::page::{FRAMES, Frame, PageFrames, QueryRows};

/// See [`HeadCode::estimate_rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn estimate_rows(
    extension: Extension,
    code: &HeadCode,
    frames: PageFrames<'_>,
    packed: &[u8],
    queries: &mut QueryRows,
    shifts: &[f32],
    weights: &mut [f32],
) {
    let head_dim = code.head_dim();
    assert!(head_dim.is_multiple_of(32) && head_dim <= MAX_DIM, "channels of a packed head");
    let job = Job { code, frames, packed, extension };
    match head_dim / 16 {
        2 => job.estimate::<2>(queries, shifts, weights),
        4 => job.estimate::<4>(queries, shifts, weights),
        6 => job.estimate::<6>(queries, shifts, weights),
        8 => job.estimate::<8>(queries, shifts, weights),
        10 => job.estimate::<10>(queries, shifts, weights),
        12 => job.estimate::<12>(queries, shifts, weights),
        14 => job.estimate::<14>(queries, shifts, weights),
        _ => job.estimate::<16>(queries, shifts, weights),
    }
}

/// A page whose weights are estimated.
struct Job<'a> {
    code: &'a HeadCode,
    frames: PageFrames<'a>,
    packed: &'a [u8],
    extension: Extension,
}

/// What is read of a block of tokens.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub codes: &'a [QuadCodes],
    /// of each half, and eight tokens of it
    pub gains: [[__m256; 2]; 2],
}

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn estimate<const V: usize>(&self, queries: &mut QueryRows, shifts: &[f32], weights: &mut [f32]) {
        let keys = &self.code.keys;
        let parts = layout::parts(self.code, self.packed);
        let n_rows = keys.planes.rows();
        // A quarter of the quads, of which a head has four for each 16 channels.
        let mut room = [[MaybeUninit::<QuadCodes>::uninit(); V]; BLOCKS];
        let mut blocks = [Block { codes: &[], gains: [[_mm256_setzero_ps(); 2]; 2] }; BLOCKS];
        for (index, (block, room)) in blocks.iter_mut().zip(&mut room).enumerate() {
            let rows = &parts.keys[index * n_rows..][..n_rows];
            block.codes = scores::unpack_first(keys, keys.estimate.n_quads, rows, room);
            let gain_codes = parts.key_gains[index * BLOCK_TOKENS..].as_chunks::<8>().0;
            for (to, codes) in block.gains.as_flattened_mut().iter_mut().zip(gain_codes) {
                *to = gains(codes);
            }
        }
        let queries = EstimateQueries::<V>::of(keys, queries);
        let turns: [EstimateTurn<V>; FRAMES] =
            std::array::from_fn(|frame| EstimateTurn::new(keys, self.frames.frame(frame)));
        if let Extension::Avx512(_) = self.extension {
            // SAFETY: an `Avx512` exists only if detection saw all that is used.
            return unsafe {
                estimate_wide::estimate(&keys.estimate, &blocks, &turns, queries, shifts, weights)
            };
        }
        let mut in_frame = RowsInFrame::EMPTY;
        for (tile, weights) in queries.tiles(shifts).zip(weights.chunks_mut(MAX_HEADS)) {
            let levels = tile.levels();
            let mut sums = [[_mm256_setzero_ps(); 2]; MAX_HEADS];
            for (turn, blocks) in turns.iter().zip(blocks.chunks(FRAME_TOKENS / BLOCK_TOKENS)) {
                in_frame.set(&keys.estimate, tile, levels, turn);
                for block in blocks {
                    for_rows!(tile.len(), add_block(block, &in_frame, &mut sums));
                }
            }
            let mut of_rows = [0.0; MAX_HEADS];
            let mut eights = [_mm256_setzero_ps(); MAX_HEADS];
            for (eight, [even, odd]) in eights.iter_mut().zip(sums) {
                *eight = _mm256_add_ps(even, odd);
            }
            store4(&mut of_rows, sums_across(eights));
            weights.copy_from_slice(&of_rows[..weights.len()]);
        }
    }
}

/// Rows that are prepared for all frames of a code, as in `turn`: x and y of the channels that are read, in their order, both
/// factors of the product with the mean key by eight pairs, the value of an integer of 1, and what `EstimateCode::spread` says.
#[derive(Clone, Copy)]
pub(super) struct EstimateQueries<'a, const V: usize> {
    /// `[x [16 · sets], y [16 · sets], means [V][mean_cos [8], mean_sin [8]]]` each
    values: &'a [f32],
    /// by [`MAX_HEADS`] rows, zeros behind the last: values of an integer of 1
    units: &'a [[f32; MAX_HEADS]],
    /// the same, what `EstimateCode::spread` says
    spreads: &'a [[f32; MAX_HEADS]],
}

/// The parts of a prepared row.
pub(super) struct RowParts<'a, const V: usize> {
    /// of each set of quads
    pub x: &'a [[f32; 16]],
    pub y: &'a [[f32; 16]],
    /// of eight pairs, the factors of their cosines and of their sines
    pub means: &'a [[f32; 16]; V],
}

impl<'a, const V: usize> EstimateQueries<'a, V> {
    /// Sets of [`FIT`] quads.
    pub const SETS: usize = V.div_ceil(FIT);
    const LEN: usize = 32 * Self::SETS + 16 * V;

    /// Those of `queries` for `code`, which are made once.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn of(code: &KeyCode, queries: &'a mut QueryRows) -> EstimateQueries<'a, V> {
        let (n_rows, head_dim) = (queries.n_rows(), queries.head_dim());
        assert!(head_dim == 16 * V && code.head_dim() == head_dim, "channels of a row");
        let n_read = QUAD * code.estimate.n_quads;
        let (n_values, n_numbers) = (n_rows * Self::LEN, n_rows.next_multiple_of(MAX_HEADS));
        let n_prepared = n_values + 2 * n_numbers;
        let prepared = queries.prepared_estimates(code.id, n_prepared, |queries, prepared| {
            let (values, numbers) = prepared.split_at_mut(n_values);
            numbers.fill(0.0);
            let (units, spreads) = numbers.split_at_mut(n_numbers);
            let rows = queries.chunks_exact(head_dim).zip(values.chunks_exact_mut(Self::LEN));
            for ((query, row), (unit, spread)) in rows.zip(units.iter_mut().zip(spreads)) {
                let (xy, to_means) = row.split_at_mut(32 * Self::SETS);
                let mut means = [[[0.0; 8]; V]; 2];
                let parts = turn::parts::<V>(code, query, means.as_flattened_mut().as_flattened_mut());
                for (to, means) in to_means.as_chunks_mut::<16>().0.iter_mut().zip(interleaved(&means)) {
                    *to = means;
                }
                xy.fill(0.0);
                for (position, channel) in code.order[..n_read].iter().enumerate() {
                    xy[position] = parts.x.as_flattened()[usize::from(*channel)];
                    xy[16 * Self::SETS + position] = parts.y.as_flattened()[usize::from(*channel)];
                }
                (*unit, *spread) = (parts.unit, code.estimate.spread(query));
            }
        });
        let (values, numbers) = prepared.split_at(n_values);
        let (units, spreads) = numbers.split_at(n_numbers);
        EstimateQueries { values, units: units.as_chunks().0, spreads: spreads.as_chunks().0 }
    }

    /// Rows by [`MAX_HEADS`], with their `shifts`.
    pub fn tiles(self, shifts: &'a [f32]) -> impl Iterator<Item = RowTile<'a, V>> {
        let numbers = self.units.iter().zip(self.spreads);
        let tiles = self.values.chunks(MAX_HEADS * Self::LEN).zip(shifts.chunks(MAX_HEADS)).zip(numbers);
        tiles.map(|((values, shifts), (units, spreads))| RowTile { values, shifts, units, spreads })
    }
}

/// At most [`MAX_HEADS`] rows.
#[derive(Clone, Copy)]
pub(super) struct RowTile<'a, const V: usize> {
    values: &'a [f32],
    pub shifts: &'a [f32],
    /// zeros behind the last row
    pub units: &'a [f32; MAX_HEADS],
    pub spreads: &'a [f32; MAX_HEADS],
}

impl<'a, const V: usize> RowTile<'a, V> {
    /// Rows.
    pub fn len(&self) -> usize {
        self.shifts.len()
    }

    /// The parts of each row.
    #[inline(always)]
    pub fn rows(&self) -> impl Iterator<Item = RowParts<'a, V>> {
        let sets = EstimateQueries::<V>::SETS;
        self.values.chunks_exact(EstimateQueries::<V>::LEN).map(move |row| {
            let (xy, means) = row.split_at(32 * sets);
            let (x, y) = xy.as_chunks().0.split_at(sets);
            RowParts { x, y, means: means.as_chunks().0.first_chunk().expect("factors of 8 · V pairs") }
        })
    }

    /// What is subtracted from a row's score.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub fn levels(&self) -> __m128 {
        let mut shifts = [0.0; MAX_HEADS];
        shifts[..self.shifts.len()].copy_from_slice(self.shifts);
        _mm_sub_ps(load4(&shifts), load4(self.spreads))
    }
}

/// Of scores of 0, in octaves; `means` are products with the mean key.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn bases(means: __m128, levels: __m128) -> __m128 {
    let above = _mm_add_ps(_mm_sub_ps(means, levels), _mm_set1_ps(BIAS));
    _mm_mul_ps(above, _mm_set1_ps(OCTAVE))
}

/// Eights of the first beside those of the second.
fn interleaved<const V: usize>([first, second]: &[[[f32; 8]; V]; 2]) -> [[f32; 16]; V] {
    let mut out = [[0.0; 16]; V];
    for (to, (a, b)) in out.iter_mut().zip(first.iter().zip(second)) {
        to[..8].copy_from_slice(a);
        to[8..].copy_from_slice(b);
    }
    out
}

/// The rotation of one frame, for the channels that are read and for the mean key.
pub(super) struct EstimateTurn<const V: usize> {
    /// of eight pairs, their cosines and their sines
    pub angles: [[f32; 16]; V],
    /// in the order of x and y
    pub cos_at: [[f32; 16]; MAX_SETS],
    pub sin_at: [[f32; 16]; MAX_SETS],
}

impl<const V: usize> EstimateTurn<V> {
    fn new(code: &KeyCode, frame: Frame<'_>) -> Self {
        let eights = |values: &[f32]| *values.as_chunks().0.first_chunk().expect("angles of 8 · V pairs");
        let (mut cos_at, mut sin_at) = ([[0.0; 16]; MAX_SETS], [[0.0; 16]; MAX_SETS]);
        let to = cos_at.as_flattened_mut().iter_mut().zip(sin_at.as_flattened_mut());
        for ((cos, sin), channel) in to.zip(&code.order[..QUAD * code.estimate.n_quads]) {
            let pair = usize::from(*channel) % (8 * V);
            (*cos, *sin) = (frame.cos[pair], frame.sin[pair]);
        }
        EstimateTurn { angles: interleaved(&[eights(frame.cos), eights(frame.sin)]), cos_at, sin_at }
    }
}

/// Quads whose products fit 16 bits together once the middles of codes are subtracted: 4 · 2 · 32 · 127 = 32,512.
pub(super) const FIT: usize = 4;
/// Sets of so many quads, at most.
pub(super) const MAX_SETS: usize = MAX_DIM / 16 / FIT;

/// Rows as they meet a frame. A quarter of `16 · V` channels are read: `V` quads.
struct RowsInFrame {
    quads: [[[i32; FIT]; MAX_SETS]; MAX_HEADS],
    /// Of each set of quads, what the two 16-bit sums of a lane begin with: less the integers times the upper middles of codes.
    begin: [[i32; MAX_SETS]; MAX_HEADS],
    /// what is left to add: half of the integers, since an upper middle is half a code too large
    half: [f32; MAX_HEADS],
    /// of one unit, in octaves
    factor: [f32; MAX_HEADS],
    /// of a score of 0
    base: [f32; MAX_HEADS],
}

impl RowsInFrame {
    const EMPTY: Self = RowsInFrame {
        quads: [[[0; FIT]; MAX_SETS]; MAX_HEADS],
        begin: [[0; MAX_SETS]; MAX_HEADS],
        half: [0.0; MAX_HEADS],
        factor: [0.0; MAX_HEADS],
        base: [0.0; MAX_HEADS],
    };

    /// Takes prepared rows.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn set<const V: usize>(
        &mut self,
        code: &EstimateCode,
        tile: RowTile<'_, V>,
        levels: __m128,
        frame: &EstimateTurn<V>,
    ) {
        let mut means = [_mm256_setzero_ps(); MAX_HEADS];
        let mut totals = [_mm_setzero_si128(); MAX_HEADS];
        for (h, row) in tile.rows().enumerate().take(MAX_HEADS) {
            means[h] = mean_product(row.means, &frame.angles);
            // Only of sets that store something.
            let tops = code.middles.iter().zip(&code.ones);
            for (set, ((x, y), (middles, ones))) in row.x.iter().zip(row.y).zip(tops).enumerate() {
                let (x, y) = (x.as_chunks::<8>().0, y.as_chunks::<8>().0);
                let (cos, sin) = (frame.cos_at[set].as_chunks::<8>().0, frame.sin_at[set].as_chunks::<8>().0);
                let integers = |i: usize| {
                    let product = _mm256_mul_ps(load(&x[i]), load(&cos[i]));
                    _mm256_cvtps_epi32(_mm256_fmadd_ps(load(&y[i]), load(&sin[i]), product))
                };
                let words = _mm256_packs_epi32(integers(0), integers(1));
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
                let bytes =
                    _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                // SAFETY: four quads have 16 bytes, as have the middles and ones of a set.
                let (middles, ones) = unsafe {
                    _mm_storeu_si128(self.quads[h][set].as_mut_ptr().cast(), bytes);
                    let load = |of: &[u8; 16]| _mm_loadu_si128(of.as_ptr().cast());
                    (load(middles), load(ones))
                };
                let products = _mm_maddubs_epi16(middles, bytes);
                let two = _mm_add_epi16(products, _mm_shuffle_epi32::<0b01_00_11_10>(products));
                let four = _mm_add_epi16(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
                self.begin[h][set] = _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), four));
                let sums = _mm_madd_epi16(_mm_maddubs_epi16(ones, bytes), _mm_set1_epi16(1));
                totals[h] = _mm_add_epi32(totals[h], sums);
            }
        }
        let [a, b, c, d] = totals;
        let totals = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
        store4(&mut self.half, _mm_mul_ps(_mm_cvtepi32_ps(totals), _mm_set1_ps(0.5)));
        store4(&mut self.factor, _mm_mul_ps(load4(tile.units), _mm_set1_ps(OCTAVE)));
        store4(&mut self.base, bases(sums_across(means), levels));
    }
}

/// The lanes of the product of a row with the mean key, of its factors and a frame's angles; see `turn::mean_product`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn mean_product<const V: usize>(factors: &[[f32; 16]; V], angles: &[[f32; 16]; V]) -> __m256 {
    let mut sums = [_mm256_setzero_ps(); 2];
    for (factors, angles) in factors.iter().zip(angles) {
        let (factors, angles) = (factors.as_chunks().0, angles.as_chunks().0);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_fmadd_ps(load(&factors[i]), load(&angles[i]), *sum);
        }
    }
    _mm256_add_ps(sums[0], sums[1])
}

/// Adds the estimated weights of a block of tokens to the lanes of `H` rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn add_block<const H: usize>(block: &Block<'_>, rows: &RowsInFrame, lanes: &mut [[__m256; 2]; MAX_HEADS]) {
    let ones = _mm256_set1_epi16(1);
    assert!(block.codes.len() <= FIT * MAX_SETS);
    for (half, gains) in block.gains.iter().enumerate() {
        let mut integers = [[_mm256_setzero_si256(); 2]; H];
        for (set, codes) in block.codes.chunks(FIT).enumerate() {
            let mut words = [[_mm256_setzero_si256(); 2]; H];
            for h in 0..H {
                words[h] = [_mm256_set1_epi32(rows.begin[h][set]); 2];
            }
            for (quad, codes) in codes.iter().enumerate() {
                let codes = &codes.as_chunks::<2>().0[half];
                for h in 0..H {
                    let query = _mm256_set1_epi32(rows.quads[h][set][quad]);
                    for v in 0..2 {
                        words[h][v] = _mm256_add_epi16(words[h][v], _mm256_maddubs_epi16(codes[v], query));
                    }
                }
            }
            for h in 0..H {
                for v in 0..2 {
                    let wide = _mm256_madd_epi16(words[h][v], ones);
                    integers[h][v] = if set == 0 { wide } else { _mm256_add_epi32(integers[h][v], wide) };
                }
            }
        }
        for h in 0..H {
            let (half, factor, base) = (splat(rows.half[h]), splat(rows.factor[h]), splat(rows.base[h]));
            for v in 0..2 {
                let centred = _mm256_add_ps(_mm256_cvtepi32_ps(integers[h][v]), half);
                let scaled = _mm256_fmadd_ps(centred, _mm256_mul_ps(gains[v], factor), base);
                // The second of two if one is NaN, as in the specification.
                let bits = _mm256_min_ps(_mm256_max_ps(scaled, splat(LEAST)), splat(MOST));
                let weights = _mm256_castsi256_ps(_mm256_cvtps_epi32(bits));
                lanes[h][v] = _mm256_add_ps(lanes[h][v], weights);
            }
        }
    }
}
