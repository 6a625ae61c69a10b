//! The rows of a block of tokens against one packed page, which all of them see: a prompt.
//!
//! ```text
//! take all codes of the page apart, keys and values: they stay in L1
//! per group of up to 16 rows
//!     per frame          turn and round all rows                                      `query`
//!     per block          per tile of up to 4 rows: sums, scores                       `scores`
//!     softmax            of all rows, step by step                                    `weights`
//!     per 32 channels    per tile of up to 4 rows: sums, outputs, merged with states  `values`
//! ```
//! The operations are those of `rows`, which reads a page for the heads of one token; the merge is that of `page::merge`.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::head::HeadCode;
use super::super::layout::{self, Parts, TOKEN_QUADS, value_rows};
use super::super::query::PreparedQueries;
use super::super::stored::Stored;
use super::super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS};
use super::query::FrameQueries;
use super::rows::{MAX_TILES, PartCodes, Tiles, for_rows, score_tile, weighted_sums};
use super::scores::{self, QuadCodes};
use super::values::{self, TokenCodes};
use super::weights::{self, Integers, MAX_ROWS, Softmax};
use super::{Ahead, MAX_DIM, MAX_HEADS, gains};
use crate::isa::Extension;
use crate::math::avx2::{load, splat, store};
use crate::math::exp2_avx2;
use crate::page::{PAGE_TOKENS, PageFrames, QueryRows, RowStates};

/// See [`HeadCode::attend_rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_rows(
    extension: Extension,
    code: &HeadCode,
    frames: PageFrames<'_>,
    stored: Stored<'_>,
    queries: &mut QueryRows,
    states: &mut RowStates<'_>,
) {
    let head_dim = code.head_dim();
    assert!(head_dim.is_multiple_of(32) && head_dim <= MAX_DIM, "channels of a packed head");
    let parts = layout::parts(code, stored.bytes);
    let queries = PreparedQueries::of(&code.keys, queries);
    let job = Job { code, frames, parts: &parts, first_token: stored.first_token(), extension };
    match head_dim / 16 {
        2 => job.attend::<2>(queries, states),
        4 => job.attend::<4>(queries, states),
        6 => job.attend::<6>(queries, states),
        8 => job.attend::<8>(queries, states),
        10 => job.attend::<10>(queries, states),
        12 => job.attend::<12>(queries, states),
        14 => job.attend::<14>(queries, states),
        _ => job.attend::<16>(queries, states),
    }
    Ahead::new(stored.next).fetch(usize::MAX);
}

/// A page that rows attend to.
struct Job<'a> {
    code: &'a HeadCode,
    frames: PageFrames<'a>,
    parts: &'a Parts<'a>,
    /// tokens before it are left out
    first_token: usize,
    extension: Extension,
}

/// Codes of a page, taken apart.
struct Codes<'a> {
    /// of each block
    keys: [&'a [QuadCodes]; BLOCKS],
    /// of each 32 channels
    values: &'a [[TokenCodes; TOKEN_QUADS]],
    /// of keys, of each block
    gains: [[[__m256; 2]; 2]; BLOCKS],
}

/// How the states of a group of rows and the page enter their merge.
struct Merge {
    keep: [f32; MAX_ROWS],
    take: [f32; MAX_ROWS],
}

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn attend<const V: usize>(&self, queries: PreparedQueries<'_>, states: &mut RowStates<'_>) {
        let mut keys = [[[MaybeUninit::<QuadCodes>::uninit(); 4]; V]; BLOCKS];
        // Two of them are 32 channels.
        let mut values = [[MaybeUninit::<TokenCodes>::uninit(); TOKEN_QUADS / 2]; V];
        let codes = self.unpack(&mut keys, &mut values);
        let value_gains = weights::decode_gains(self.parts.value_gains);
        let mut scores = [[0.0; PAGE_TOKENS]; MAX_ROWS];
        let mut integers = [Integers::EMPTY; MAX_ROWS];
        let n_rows = states.max.len();
        for first in (0..n_rows).step_by(MAX_ROWS) {
            let n = MAX_ROWS.min(n_rows - first);
            let (scores, integers) = (&mut scores[..n], &mut integers[..n]);
            let tiles = Tiles::new(n);
            self.score::<V>(queries, first, &tiles, &codes, scores);
            for scores in scores.iter_mut() {
                scores[..self.first_token].fill(f32::NEG_INFINITY);
            }
            let softmax = weights::softmax(scores, &value_gains, integers);
            let merge =
                merge_sums(&softmax, &mut states.max[first..first + n], &mut states.sum[first..first + n]);
            let out = &mut states.out[first * 16 * V..(first + n) * 16 * V];
            match self.code.values.bits {
                2 => self.weigh::<V, { values::n_fit(2) }>(&tiles, &codes, integers, &softmax, &merge, out),
                3 => self.weigh::<V, { values::n_fit(3) }>(&tiles, &codes, integers, &softmax, &merge, out),
                _ => self.weigh::<V, { values::n_fit(4) }>(&tiles, &codes, integers, &softmax, &merge, out),
            }
        }
    }

    /// Takes all codes apart.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn unpack<'a, const V: usize>(
        &self,
        keys: &'a mut [[[MaybeUninit<QuadCodes>; 4]; V]; BLOCKS],
        values: &'a mut [[MaybeUninit<TokenCodes>; TOKEN_QUADS / 2]; V],
    ) -> Codes<'a> {
        let code = &self.code.keys;
        let n_rows = code.planes.rows();
        let mut codes =
            Codes { keys: [&[]; BLOCKS], values: &[], gains: [[[_mm256_setzero_ps(); 2]; 2]; BLOCKS] };
        for (block, room) in keys.iter_mut().enumerate() {
            let rows = &self.parts.keys[block * n_rows..][..n_rows];
            codes.keys[block] = scores::unpack(code, rows, room.as_flattened_mut());
            let gain_codes = self.parts.key_gains[block * BLOCK_TOKENS..].as_chunks::<8>().0;
            for (to, codes) in codes.gains[block].as_flattened_mut().iter_mut().zip(gain_codes) {
                *to = gains(codes);
            }
        }
        let bits = self.code.values.bits;
        let room = values.as_flattened_mut().as_chunks_mut::<TOKEN_QUADS>().0;
        for (room, rows) in room.iter_mut().zip(self.parts.values.chunks_exact(value_rows(bits))) {
            match bits {
                2 => values::unpack::<2>(rows, room),
                3 => values::unpack::<3>(rows, room),
                _ => values::unpack::<4>(rows, room),
            };
        }
        // SAFETY: there are rows for each 32 channels, so all of them were written.
        codes.values = unsafe { &*(std::ptr::from_ref(room) as *const [[TokenCodes; TOKEN_QUADS]]) };
        codes
    }

    /// Scores of some rows, of which the first one is `first_row`, with the page.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn score<const V: usize>(
        &self,
        queries: PreparedQueries<'_>,
        first_row: usize,
        tiles: &Tiles,
        codes: &Codes<'_>,
        scores: &mut [[f32; PAGE_TOKENS]],
    ) {
        let code = &self.code.keys;
        let mut in_frame = [FrameQueries::<MAX_HEADS>::EMPTY; MAX_TILES];
        let in_frame = &mut in_frame[..tiles.n];
        for (block, keys) in codes.keys.iter().enumerate() {
            if (block * BLOCK_TOKENS).is_multiple_of(FRAME_TOKENS) {
                let frame = self.frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
                for (queries_of, rows) in in_frame.iter_mut().zip(tiles.iter()) {
                    let rows = first_row + rows.start..first_row + rows.end;
                    queries_of.set_turned::<V>(code.operand(), queries, rows, frame);
                }
            }
            for (queries, rows) in in_frame.iter().zip(tiles.iter()) {
                let scores = &mut scores[rows];
                for_rows!(
                    scores.len(),
                    score_tile(
                        self.extension,
                        keys,
                        &code.sums,
                        queries,
                        &codes.gains[block],
                        block * BLOCK_TOKENS,
                        scores
                    )
                );
            }
        }
    }

    /// Weighted sums of the values of the page, merged with the rows' outputs.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn weigh<const V: usize, const FIT: usize>(
        &self,
        tiles: &Tiles,
        codes: &Codes<'_>,
        integers: &[Integers],
        softmax: &Softmax,
        merge: &Merge,
        out: &mut [f32],
    ) {
        for (part, codes) in codes.values.iter().enumerate() {
            let part = PartCodes::new(&self.code.values, part, codes);
            for rows in tiles.iter() {
                let out = &mut out[rows.start * 16 * V..rows.end * 16 * V];
                for_rows!(
                    rows.len(),
                    weigh_tile::<FIT>(
                        self.extension,
                        &part,
                        &integers[rows.clone()],
                        &softmax.sum[rows.clone()],
                        &merge.keep[rows.clone()],
                        &merge.take[rows.clone()],
                        out
                    )
                );
            }
        }
    }
}

/// Merges the sums of some rows' weights with their states; see `page::merge_sums`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn merge_sums(page: &Softmax, max: &mut [f32], sum: &mut [f32]) -> Merge {
    let mut of_state = [[0.0; MAX_ROWS]; 2];
    of_state[0][..max.len()].copy_from_slice(max);
    of_state[1][..sum.len()].copy_from_slice(sum);
    let mut merge = Merge { keep: [0.0; MAX_ROWS], take: [0.0; MAX_ROWS] };
    for at in 0..MAX_ROWS / 8 {
        let eight = |values: &[f32; MAX_ROWS]| values.as_chunks::<8>().0[at];
        let (old, new) = (load(&eight(&of_state[0])), load(&eight(&page.max)));
        let larger = _mm256_max_ps(old, new);
        let (keep, take) = (exp2_avx2(_mm256_sub_ps(old, larger)), exp2_avx2(_mm256_sub_ps(new, larger)));
        let taken = _mm256_mul_ps(load(&eight(&page.sum)), take);
        let total = _mm256_fmadd_ps(load(&eight(&of_state[1])), keep, taken);
        let put = |to: &mut [f32; MAX_ROWS], values| store(&mut to.as_chunks_mut::<8>().0[at], values);
        put(&mut of_state[0], larger);
        put(&mut of_state[1], total);
        put(&mut merge.keep, keep);
        put(&mut merge.take, take);
    }
    max.copy_from_slice(&of_state[0][..max.len()]);
    sum.copy_from_slice(&of_state[1][..sum.len()]);
    merge
}

/// Weighted sums of `H` rows with 32 channels, merged with their outputs `[H, head_dim]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh_tile<const H: usize, const FIT: usize>(
    extension: Extension,
    part: &PartCodes<'_>,
    integers: &[Integers],
    sums: &[f32],
    keep: &[f32],
    take: &[f32],
    out: &mut [f32],
) {
    let integers: &[Integers; H] = integers.try_into().expect("weights of H rows");
    let sums: &[f32; H] = sums.try_into().expect("sums of H rows");
    let head_dim = out.len() / H;
    for half in 0..2 {
        let of_page = weighted_sums::<H, FIT>(extension, part, half, integers, sums);
        for (h, (of_page, out)) in of_page.iter().zip(out.chunks_exact_mut(head_dim)).enumerate() {
            let to = out[32 * part.part + 16 * half..].as_chunks_mut::<8>().0;
            for (to, of_page) in to.iter_mut().zip(of_page) {
                let taken = _mm256_mul_ps(*of_page, splat(take[h]));
                store(to, _mm256_fmadd_ps(load(to), splat(keep[h]), taken));
            }
        }
    }
}
