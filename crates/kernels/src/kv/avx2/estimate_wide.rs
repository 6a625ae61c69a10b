//! `estimate` with vectors of 512 bits and dot products of bytes. The operations on floats are the same, so results have the same
//! bits.
//!
//! 1. Four rows meet the 64 tokens of a frame at once: sixteen sums in registers, and each load of codes or of a query
//!    serves four products.
//! 2. Codes are doubled, once for all rows, and sums begin at what they are for codes in the middle: then they are whole numbers
//!    that need no further correction, twice as large as in the specification, and times half of the factor.
//! 3. A product with the mean key has its cosines in one half of a vector and its sines in the other.

use std::arch::x86_64::*;

use super::super::estimate::{LEAST, MOST, OCTAVE};
use super::super::keys::EstimateCode;
use super::super::{BLOCKS, FRAME_TOKENS};
use super::estimate::{Block, EstimateQueries, EstimateTurn, FIT, MAX_SETS, RowTile, bases};
use super::rows::for_rows;
use super::{MAX_DIM, MAX_HEADS};
use crate::math::avx2::{load4, store4, sums_across};
use crate::math::avx512::{join, load};
use crate::page::FRAMES;

/// Vectors of sixteen tokens in a frame.
const VECTORS: usize = FRAME_TOKENS / 16;
/// Most quads that are read.
const MAX_QUADS: usize = FIT * MAX_SETS;

const _: () = assert!(MAX_QUADS == MAX_DIM / 16);

/// What is read of the tokens of a frame.
struct FrameCodes<const V: usize> {
    /// of each quad, doubled
    codes: [[__m512i; VECTORS]; V],
    gains: [__m512; VECTORS],
}

impl<const V: usize> FrameCodes<V> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    #[inline]
    fn new(blocks: &[Block<'_>]) -> FrameCodes<V> {
        const OF_BLOCK: usize = VECTORS * FRAMES / BLOCKS;
        let mut frame = FrameCodes {
            codes: [[_mm512_setzero_si512(); VECTORS]; V],
            gains: [_mm512_setzero_ps(); VECTORS],
        };
        for (block, gains) in blocks.iter().zip(frame.gains.as_chunks_mut::<OF_BLOCK>().0) {
            for (to, [low, high]) in gains.iter_mut().zip(block.gains) {
                *to = join(low, high);
            }
        }
        for (index, block) in blocks.iter().enumerate() {
            for (to, codes) in frame.codes.iter_mut().zip(block.codes) {
                let to = &mut to[index * OF_BLOCK..][..OF_BLOCK];
                for (to, codes) in to.iter_mut().zip(codes.as_chunks::<2>().0) {
                    let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(codes[0]), codes[1]);
                    *to = _mm512_add_epi8(codes, codes);
                }
            }
        }
        frame
    }
}

/// Rows as they meet a frame.
struct RowsInFrame {
    quads: [[i32; MAX_QUADS]; MAX_HEADS],
    /// what sums begin with: less the integers times the largest codes
    begin: [i32; MAX_HEADS],
    /// of half a unit, in octaves
    factor: [f32; MAX_HEADS],
    /// of a score of 0
    base: [f32; MAX_HEADS],
}

impl RowsInFrame {
    const EMPTY: Self = RowsInFrame {
        quads: [[0; MAX_QUADS]; MAX_HEADS],
        begin: [0; MAX_HEADS],
        factor: [0.0; MAX_HEADS],
        base: [0.0; MAX_HEADS],
    };

    /// Takes prepared rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
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
            let mut mean = _mm512_setzero_ps();
            for (factors, angles) in row.means.iter().zip(&frame.angles) {
                mean = _mm512_fmadd_ps(load(factors), load(angles), mean);
            }
            means[h] = _mm256_add_ps(_mm512_castps512_ps256(mean), _mm512_extractf32x8_ps::<1>(mean));
            // Only of sets that store something.
            let tops = code.top_at.as_chunks::<16>().0;
            for (set, ((x, y), tops)) in row.x.iter().zip(row.y).zip(tops).enumerate() {
                let product = _mm512_mul_ps(load(x), load(&frame.cos_at[set]));
                let turned = _mm512_fmadd_ps(load(y), load(&frame.sin_at[set]), product);
                let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(turned));
                // SAFETY: four quads have 16 bytes, as have the largest codes of a set.
                let tops = unsafe {
                    _mm_storeu_si128(self.quads[h][FIT * set..][..FIT].as_mut_ptr().cast(), bytes);
                    _mm_loadu_si128(tops.as_ptr().cast())
                };
                totals[h] = _mm_dpbusd_epi32(totals[h], tops, bytes);
            }
        }
        let [a, b, c, d] = totals;
        let totals = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
        let begin = _mm_sub_epi32(_mm_setzero_si128(), totals);
        // SAFETY: `begin` has four integers.
        unsafe { _mm_storeu_si128(self.begin.as_mut_ptr().cast(), begin) };
        store4(&mut self.factor, _mm_mul_ps(load4(tile.units), _mm_set1_ps(0.5 * OCTAVE)));
        store4(&mut self.base, bases(sums_across(means), levels));
    }
}

/// Adds the estimated weights of a frame to the lanes of `H` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn add_frame<const H: usize, const V: usize>(
    frame: &FrameCodes<V>,
    n_quads: usize,
    rows: &RowsInFrame,
    lanes: &mut [__m512; MAX_HEADS],
) {
    assert!(H <= MAX_HEADS && V <= MAX_QUADS);
    let mut sums = [[_mm512_setzero_si512(); VECTORS]; H];
    for h in 0..H {
        sums[h] = [_mm512_set1_epi32(rows.begin[h]); VECTORS];
    }
    for (quad, codes) in frame.codes.iter().enumerate().take(n_quads) {
        for h in 0..H {
            let query = _mm512_set1_epi32(rows.quads[h][quad]);
            for v in 0..VECTORS {
                sums[h][v] = _mm512_dpbusd_epi32(sums[h][v], codes[v], query);
            }
        }
    }
    for h in 0..H {
        let (factor, base) = (_mm512_set1_ps(rows.factor[h]), _mm512_set1_ps(rows.base[h]));
        for v in 0..VECTORS {
            let factor = _mm512_mul_ps(frame.gains[v], factor);
            let scaled = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[h][v]), factor, base);
            // The second of two if one is NaN, as in the specification.
            let above = _mm512_max_ps(scaled, _mm512_set1_ps(LEAST));
            let bits = _mm512_min_ps(above, _mm512_set1_ps(MOST));
            lanes[h] = _mm512_add_ps(lanes[h], _mm512_castsi512_ps(_mm512_cvtps_epi32(bits)));
        }
    }
}

/// See [`estimate_rows`](super::estimate_rows); `blocks` and `turns` are those of a page.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn estimate<const V: usize>(
    code: &EstimateCode,
    blocks: &[Block<'_>; BLOCKS],
    turns: &[EstimateTurn<V>; FRAMES],
    queries: EstimateQueries<'_, V>,
    shifts: &[f32],
    weights: &mut [f32],
) {
    let of_frames = blocks.as_chunks::<{ BLOCKS / FRAMES }>().0;
    let frames = [FrameCodes::<V>::new(&of_frames[0]), FrameCodes::<V>::new(&of_frames[1])];
    let mut in_frame = RowsInFrame::EMPTY;
    for (tile, weights) in queries.tiles(shifts).zip(weights.chunks_mut(MAX_HEADS)) {
        let levels = tile.levels();
        let mut lanes = [_mm512_setzero_ps(); MAX_HEADS];
        for (turn, frame) in turns.iter().zip(&frames) {
            in_frame.set(code, tile, levels, turn);
            for_rows!(tile.len(), add_frame::<V>(frame, code.n_quads, &in_frame, &mut lanes));
        }
        let mut eights = [_mm256_setzero_ps(); MAX_HEADS];
        for (eight, lanes) in eights.iter_mut().zip(lanes) {
            *eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
        }
        let mut of_rows = [0.0; MAX_HEADS];
        store4(&mut of_rows, sums_across(eights));
        weights.copy_from_slice(&of_rows[..weights.len()]);
    }
}
