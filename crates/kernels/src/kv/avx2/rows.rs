//! Rows of queries against one packed page: the heads of a token, or of several.
//!
//! ```text
//! per group of up to 16 rows
//!     per frame          turn and round all rows            `query`
//!     per block          take the codes of keys apart once; per tile of up to 4 rows: sums, scores
//!     softmax            of all rows, step by step          `weights`
//!     per 32 channels    take the codes of values apart once; per tile: sums, outputs
//! ```

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::head::HeadCode;
use super::super::layout::{Parts, TOKEN_QUADS, value_rows};
use super::super::query::PreparedQueries;
use super::super::values::ValueCode;
use super::super::weights::WEIGHT_UNITS;
use super::super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS};
use super::query::FrameQueries;
use super::scores::{self, QuadCodes};
use super::values::{self, TokenCodes};
use super::weights::{self, Integers, MAX_ROWS};
use super::{Ahead, LINES_OF_STEP, MAX_HEADS, gains};
use crate::isa::Extension;
use crate::math::avx2::{load, store};
use crate::page::{PAGE_TOKENS, PageFrames, Partial, TokenQueries};

/// Most tiles of a group of rows.
pub(super) const MAX_TILES: usize = MAX_ROWS / MAX_HEADS;

/// A page that rows attend to.
pub(super) struct Job<'a> {
    pub code: &'a HeadCode,
    pub frames: PageFrames<'a>,
    pub parts: &'a Parts<'a>,
    /// tokens before it are left out
    pub first_token: usize,
    pub extension: Extension,
    pub ahead: &'a mut Ahead,
}

/// Rows in tiles of at most [`MAX_HEADS`], of about the same size.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub n: usize,
    /// tile `i` has rows `bounds[i]..bounds[i + 1]`
    bounds: [usize; MAX_TILES + 1],
}

impl Tiles {
    pub fn new(n_rows: usize) -> Tiles {
        let n = n_rows.div_ceil(MAX_HEADS);
        let mut bounds = [0; MAX_TILES + 1];
        for (tile, bound) in bounds[..=n].iter_mut().enumerate() {
            *bound = tile * n_rows / n;
        }
        Tiles { n, bounds }
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.bounds[..=self.n].windows(2).map(|bounds| bounds[0]..bounds[1])
    }
}

/// Calls a function whose first parameter is the number of rows.
macro_rules! for_rows {
    ($n:expr, $function:ident $(::<$($other:ident),+>)?($($argument:expr),* $(,)?)) => {
        match $n {
            1 => $function::<1 $($(, $other)+)?>($($argument),*),
            2 => $function::<2 $($(, $other)+)?>($($argument),*),
            3 => $function::<3 $($(, $other)+)?>($($argument),*),
            _ => $function::<4 $($(, $other)+)?>($($argument),*),
        }
    };
}
pub(super) use for_rows;

impl Job<'_> {
    /// Attends from all rows of `token`.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn attend<const V: usize>(&mut self, token: &mut TokenQueries, partial: &mut Partial<'_>) {
        let (queries, weights) = token.queries_and_weights();
        let queries = PreparedQueries::of(&self.code.keys, queries);
        let gains = weights::decode_gains(self.parts.value_gains);
        let (mut first_row, n_rows) = (0, weights.len());
        let group_len = n_rows.div_ceil(n_rows.div_ceil(MAX_ROWS));
        for weights in weights.chunks_mut(group_len) {
            let tiles = Tiles::new(weights.len());
            self.score::<V>(queries, first_row, &tiles, weights);
            let mut integers = [const { MaybeUninit::<Integers>::uninit() }; MAX_ROWS];
            let integers = &mut integers[..weights.len()];
            integers.fill_with(|| MaybeUninit::new(Integers::EMPTY));
            // SAFETY: all of them were just written.
            let integers = unsafe { &mut *(std::ptr::from_mut(integers) as *mut [Integers]) };
            for weights in weights.iter_mut() {
                weights[..self.first_token].fill(f32::NEG_INFINITY);
            }
            let softmax = weights::softmax(weights, &gains, integers);
            for (row, (max, sum)) in softmax.max.iter().zip(&softmax.sum).take(weights.len()).enumerate() {
                partial.set(first_row + row, *max, *sum);
            }
            self.ahead.fetch(weights.len() * LINES_OF_STEP);
            let sums = softmax.sum;
            match self.code.values.bits {
                2 => self.weigh::<2, { values::n_fit(2) }>(first_row, &tiles, integers, &sums, partial),
                3 => self.weigh::<3, { values::n_fit(3) }>(first_row, &tiles, integers, &sums, partial),
                _ => self.weigh::<4, { values::n_fit(4) }>(first_row, &tiles, integers, &sums, partial),
            }
            first_row += weights.len();
        }
        self.ahead.fetch(usize::MAX);
    }

    /// Scores of some rows, of which the first one is `first_row`, with the page.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn score<const V: usize>(
        &mut self,
        queries: PreparedQueries<'_>,
        first_row: usize,
        tiles: &Tiles,
        scores: &mut [[f32; PAGE_TOKENS]],
    ) {
        let code = &self.code.keys;
        let n_rows = code.planes.rows();
        let mut in_frame = [const { MaybeUninit::<FrameQueries<MAX_HEADS>>::uninit() }; MAX_TILES];
        let in_frame = &mut in_frame[..tiles.n];
        in_frame.fill(MaybeUninit::new(FrameQueries::EMPTY));
        // SAFETY: all of them were just written.
        let in_frame = unsafe { &mut *(std::ptr::from_mut(in_frame) as *mut [FrameQueries<MAX_HEADS>]) };
        let mut codes = [[MaybeUninit::<QuadCodes>::uninit(); 4]; V];
        for block in 0..BLOCKS {
            if (block * BLOCK_TOKENS).is_multiple_of(FRAME_TOKENS) {
                let frame = self.frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
                for (queries_of, rows) in in_frame.iter_mut().zip(tiles.iter()) {
                    let rows = first_row + rows.start..first_row + rows.end;
                    queries_of.set_turned::<V>(code.operand(), queries, rows, frame);
                }
            }
            self.ahead.fetch(LINES_OF_STEP);
            let rows = &self.parts.keys[block * n_rows..][..n_rows];
            let codes = scores::unpack(code, rows, codes.as_flattened_mut());
            let of_block = block * BLOCK_TOKENS..(block + 1) * BLOCK_TOKENS;
            let gain_codes = self.parts.key_gains[of_block.clone()].as_chunks::<8>().0;
            let mut gains_of_eight = [[_mm256_setzero_ps(); 2]; 2];
            for (to, codes) in gains_of_eight.as_flattened_mut().iter_mut().zip(gain_codes) {
                *to = gains(codes);
            }
            for (queries, rows) in in_frame.iter().zip(tiles.iter()) {
                let scores = &mut scores[rows];
                for_rows!(
                    scores.len(),
                    score_tile(
                        self.extension,
                        codes,
                        &code.sums,
                        queries,
                        &gains_of_eight,
                        of_block.start,
                        scores
                    )
                );
            }
        }
    }

    /// Weighted sums of the values of the page.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn weigh<const BITS: u8, const FIT: usize>(
        &mut self,
        first_row: usize,
        tiles: &Tiles,
        integers: &[Integers],
        sums: &[f32; MAX_ROWS],
        partial: &mut Partial<'_>,
    ) {
        let code = &self.code.values;
        let mut codes = [MaybeUninit::<TokenCodes>::uninit(); TOKEN_QUADS];
        for (part, rows) in self.parts.values.chunks_exact(value_rows(BITS)).enumerate() {
            let codes = values::unpack::<BITS>(rows, &mut codes);
            self.ahead.fetch(2 * LINES_OF_STEP);
            let part = PartCodes::new(code, part, codes);
            for rows in tiles.iter() {
                let (integers, sums) = (&integers[rows.clone()], &sums[rows.clone()]);
                let first = first_row + rows.start;
                for_rows!(
                    rows.len(),
                    weigh_tile::<FIT>(self.extension, &part, integers, sums, first, partial)
                );
            }
        }
    }
}

/// Codes of 32 channels of values.
pub(super) struct PartCodes<'a> {
    pub codes: &'a [TokenCodes; TOKEN_QUADS],
    /// which 32 channels
    pub part: usize,
    pub step: f32,
    pub middle: f32,
    pub means: &'a [[f32; 16]; 2],
}

impl<'a> PartCodes<'a> {
    pub(super) fn new(
        code: &'a ValueCode,
        part: usize,
        codes: &'a [TokenCodes; TOKEN_QUADS],
    ) -> PartCodes<'a> {
        let means = code.mean[32 * part..].as_chunks().0.first_chunk().expect("32 channels");
        PartCodes { codes, part, step: code.step(), middle: code.middle(), means }
    }
}

/// Scores of `H` rows with a block of tokens, of which the first is token `first` of the page.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn score_tile<const H: usize>(
    extension: Extension,
    codes: &[QuadCodes],
    sums: &[Range<usize>],
    queries: &FrameQueries<MAX_HEADS>,
    gains: &[[__m256; 2]; 2],
    first: usize,
    scores: &mut [[f32; PAGE_TOKENS]],
) {
    let scores: &mut [[f32; PAGE_TOKENS]; H] = scores.try_into().expect("scores of H rows");
    for (half, gains) in gains.iter().enumerate() {
        let sums = scores::sum_codes::<H, MAX_HEADS>(extension, codes, half, sums, &queries.quads);
        for h in 0..H {
            let (unit, middle, mean) = (
                _mm256_set1_ps(queries.unit[h]),
                _mm256_set1_ps(queries.middle[h]),
                _mm256_set1_ps(queries.mean[h]),
            );
            let to = scores[h][first + 16 * half..][..16].as_chunks_mut::<8>().0;
            for v in 0..2 {
                let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(sums[h][v]), middle);
                store(&mut to[v], _mm256_fmadd_ps(centred, _mm256_mul_ps(gains[v], unit), mean));
            }
        }
    }
}

/// Weighted sums of `H` rows with 32 channels.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh_tile<const H: usize, const FIT: usize>(
    extension: Extension,
    part: &PartCodes<'_>,
    integers: &[Integers],
    sums: &[f32],
    first_row: usize,
    partial: &mut Partial<'_>,
) {
    let integers: &[Integers; H] = integers.try_into().expect("weights of H rows");
    let sums: &[f32; H] = sums.try_into().expect("sums of H rows");
    for half in 0..2 {
        let out = weighted_sums::<H, FIT>(extension, part, half, integers.each_ref(), sums);
        for (h, out) in out.iter().enumerate() {
            let to = &mut partial.out_mut(first_row + h)[32 * part.part + 16 * half..];
            let to = to.as_chunks_mut::<8>().0;
            store(&mut to[0], out[0]);
            store(&mut to[1], out[1]);
        }
    }
}

/// Weighted sums of `H` rows with channels `16·half..16·half + 16`, of 32; `sums` are those of their weights.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
pub(super) fn weighted_sums<const H: usize, const FIT: usize>(
    extension: Extension,
    part: &PartCodes<'_>,
    half: usize,
    integers: [&Integers; H],
    sums: &[f32; H],
) -> [[__m256; 2]; H] {
    let mut out = [[_mm256_setzero_ps(); 2]; H];
    for unit in 0..WEIGHT_UNITS {
        let products = values::sum_codes::<H, FIT>(extension, part.codes, integers, unit, half);
        for h in 0..H {
            let of_unit = &integers[h].units[unit];
            let factor = _mm256_set1_ps(of_unit.unit * part.step);
            let centre = _mm256_set1_ps(of_unit.total * part.middle);
            for v in 0..2 {
                let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(products[h][v]), centre);
                out[h][v] = _mm256_fmadd_ps(centred, factor, out[h][v]);
            }
        }
    }
    let means = part.means[half].as_chunks::<8>().0;
    for h in 0..H {
        let sum = _mm256_set1_ps(sums[h]);
        for v in 0..2 {
            out[h][v] = _mm256_fmadd_ps(sum, load(&means[v]), out[h][v]);
        }
    }
    out
}
