//! The rows of a block of tokens against one packed page, which all of them see: a prompt.
//!
//! ```text
//! take all codes of the page apart, keys and values
//! per 192 rows
//!     per 16 rows            keys, scores and weights of these rows stay in L1
//!         per frame          turn and round all rows                                      `turn`
//!         per block          per tile of up to 4 rows: sums, scores                       `scores`
//!         softmax            of all rows, step by step; weights become integers           `weights`
//!     per 32 rows            values, integers and outputs of these rows stay in L1
//!         per 32 channels    per tile of up to 4 rows: sums, outputs, merged with states  `values`
//! ```
//! A row goes through the operations of `rows`, which reads a page for the heads of one token, and the merge is that of
//! `page::merge`. So it has the same bits, whatever is computed beside it.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::head::HeadCode;
use super::super::layout::{self, Parts, TOKEN_QUADS, value_rows};
use super::super::stored::Stored;
use super::super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS};
use super::query::FrameQueries;
use super::rows::{MAX_TILES, PartCodes, Tiles, for_rows, score_tile, weighted_sums};
use super::scores::{self, QuadCodes};
use super::turn::{BlockQueries, Turn};
use super::values::{self, TokenCodes};
use super::weights::{self, Integers, MAX_ROWS, Softmax};
use super::{Ahead, MAX_DIM, MAX_HEADS, block_wide, gains};
use crate::isa::Extension;
use crate::math::avx2::{load, splat, store};
use crate::math::exp2_avx2;
use crate::page::{FRAMES, PAGE_TOKENS, PageFrames, QueryRows, RowStates};

/// See [`HeadCode::attend_rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_rows(
    extension: Extension,
    code: &HeadCode,
    frames: PageFrames<'_>,
    stored: Stored<'_>,
    queries: &mut QueryRows,
    rows: &[u16],
    states: &mut RowStates<'_>,
) {
    let head_dim = code.head_dim();
    assert!(head_dim.is_multiple_of(32) && head_dim <= MAX_DIM, "channels of a packed head");
    let parts = layout::parts(code, stored.bytes);
    let job = Job { code, frames, parts: &parts, first_token: stored.first_token(), extension };
    match head_dim / 16 {
        2 => job.attend::<2>(queries, rows, states),
        4 => job.attend::<4>(queries, rows, states),
        6 => job.attend::<6>(queries, rows, states),
        8 => job.attend::<8>(queries, rows, states),
        10 => job.attend::<10>(queries, rows, states),
        12 => job.attend::<12>(queries, rows, states),
        14 => job.attend::<14>(queries, rows, states),
        _ => job.attend::<16>(queries, rows, states),
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
pub(super) struct Codes<'a> {
    /// of each block
    pub keys: [&'a [QuadCodes]; BLOCKS],
    /// of each 32 channels
    pub values: &'a [[TokenCodes; TOKEN_QUADS]],
    /// of keys, of each block
    gains: [[[__m256; 2]; 2]; BLOCKS],
}

/// What is known of a row after softmax.
#[derive(Clone, Copy)]
pub(super) struct Weighed {
    pub integers: Integers,
    /// of all weights
    pub sum: f32,
    /// factors of the state and of the page in their merge
    pub keep: f32,
    pub take: f32,
}

/// Factors of states and of a page in their merge.
pub(super) struct Merge {
    pub keep: [f32; MAX_ROWS],
    pub take: [f32; MAX_ROWS],
}

/// Rows whose integers are kept between keys and values: those of a block of tokens.
pub(super) const MANY_ROWS: usize = 192;
/// Rows that meet values together.
pub(super) const VALUE_ROWS: usize = 32;

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn attend<const V: usize>(&self, queries: &mut QueryRows, rows: &[u16], states: &mut RowStates<'_>) {
        let mut keys = [[[MaybeUninit::<QuadCodes>::uninit(); 4]; V]; BLOCKS];
        // Two of them are 32 channels.
        let mut values = [[MaybeUninit::<TokenCodes>::uninit(); TOKEN_QUADS / 2]; V];
        let codes = self.unpack(&mut keys, &mut values);
        let queries = BlockQueries::<V>::of(&self.code.keys, queries);
        let turns: [Turn<'_, V>; FRAMES] =
            std::array::from_fn(|frame| Turn::new(&self.code.keys, self.frames.frame(frame)));
        let value_gains = weights::decode_gains(self.parts.value_gains);
        if let Extension::Avx512(proof) = self.extension {
            let page = block_wide::Page {
                code: self.code,
                codes: &codes,
                key_gains: &weights::decode_gains(self.parts.key_gains),
                value_gains: &value_gains,
                first_token: self.first_token,
            };
            // SAFETY: an `Avx512` exists only if detection saw all that is used.
            return unsafe { block_wide::attend(proof, &page, queries, &turns, rows, states) };
        }
        let mut weighed = [const { MaybeUninit::<Weighed>::uninit() }; MANY_ROWS];
        let mut scores = [[0.0; PAGE_TOKENS]; MAX_ROWS];
        let mut integers = [Integers::EMPTY; MAX_ROWS];
        for rows in rows.chunks(MANY_ROWS) {
            let n = rows.len();
            for (weighed, rows) in weighed[..n].chunks_mut(MAX_ROWS).zip(rows.chunks(MAX_ROWS)) {
                let n = rows.len();
                let (scores, integers) = (&mut scores[..n], &mut integers[..n]);
                self.score(queries, &turns, rows, &codes, scores);
                for scores in scores.iter_mut() {
                    scores[..self.first_token].fill(f32::NEG_INFINITY);
                }
                let softmax = weights::softmax(scores, &value_gains, integers);
                let merge = merge_sums(&softmax, rows, states.max, states.sum);
                for (row, (weighed, integers)) in weighed.iter_mut().zip(integers).enumerate() {
                    let (sum, keep, take) = (softmax.sum[row], merge.keep[row], merge.take[row]);
                    weighed.write(Weighed { integers: *integers, sum, keep, take });
                }
            }
            // SAFETY: the first `n` were just written.
            let weighed = unsafe { &*(std::ptr::from_ref(&weighed[..n]) as *const [Weighed]) };
            let out = states.out.as_chunks_mut::<16>().0.as_chunks_mut::<V>().0;
            for (weighed, rows) in weighed.chunks(VALUE_ROWS).zip(rows.chunks(VALUE_ROWS)) {
                match self.code.values.bits {
                    2 => self.weigh::<V, { values::n_fit(2) }>(&codes, weighed, rows, out),
                    3 => self.weigh::<V, { values::n_fit(3) }>(&codes, weighed, rows, out),
                    _ => self.weigh::<V, { values::n_fit(4) }>(&codes, weighed, rows, out),
                }
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

    /// Scores of some rows with the page.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn score<const V: usize>(
        &self,
        queries: BlockQueries<'_, V>,
        turns: &[Turn<'_, V>; FRAMES],
        rows: &[u16],
        codes: &Codes<'_>,
        scores: &mut [[f32; PAGE_TOKENS]],
    ) {
        let code = &self.code.keys;
        let tiles = Tiles::new(scores.len());
        let mut in_frame = [FrameQueries::<MAX_HEADS>::EMPTY; MAX_TILES];
        let in_frame = &mut in_frame[..tiles.n];
        for (block, keys) in codes.keys.iter().enumerate() {
            if (block * BLOCK_TOKENS).is_multiple_of(FRAME_TOKENS) {
                let turn = &turns[block * BLOCK_TOKENS / FRAME_TOKENS];
                for (queries_of, tile) in in_frame.iter_mut().zip(tiles.iter()) {
                    queries_of.set_rows(code, queries, &rows[tile], turn);
                }
            }
            for (queries, rows) in in_frame.iter().zip(tiles.iter()) {
                let (scores, gains, first) = (&mut scores[rows], &codes.gains[block], block * BLOCK_TOKENS);
                for_rows!(
                    scores.len(),
                    score_tile(self.extension, keys, &code.sums, queries, gains, first, scores)
                );
            }
        }
    }

    /// Weighted sums of the values of the page, merged with the rows' outputs.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn weigh<const V: usize, const FIT: usize>(
        &self,
        codes: &Codes<'_>,
        weighed: &[Weighed],
        rows: &[u16],
        out: &mut [Outputs<V>],
    ) {
        for (part, codes) in codes.values.iter().enumerate() {
            let part = PartCodes::new(&self.code.values, part, codes);
            for (weighed, rows) in weighed.chunks(MAX_HEADS).zip(rows.chunks(MAX_HEADS)) {
                for_rows!(weighed.len(), weigh_tile::<FIT, V>(self.extension, &part, weighed, rows, out));
            }
        }
    }
}

/// Merges the sums of some rows' weights with their states; see `page::merge_sums`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn merge_sums(page: &Softmax, rows: &[u16], max: &mut [f32], sum: &mut [f32]) -> Merge {
    let mut of_state = [[0.0; MAX_ROWS]; 2];
    for (at, row) in rows.iter().map(|row| usize::from(*row)).enumerate() {
        (of_state[0][at], of_state[1][at]) = (max[row], sum[row]);
    }
    let mut merge = Merge { keep: [0.0; MAX_ROWS], take: [0.0; MAX_ROWS] };
    for at in 0..MAX_ROWS / 8 {
        let eight = |values: &[f32; MAX_ROWS]| values.as_chunks::<8>().0[at];
        let put = |to: &mut [f32; MAX_ROWS], values| store(&mut to.as_chunks_mut::<8>().0[at], values);
        let (old, new) = (load(&eight(&of_state[0])), load(&eight(&page.max)));
        let larger = _mm256_max_ps(old, new);
        let of_old = exp2_avx2(_mm256_sub_ps(old, larger));
        let of_new = exp2_avx2(_mm256_sub_ps(new, larger));
        let taken = _mm256_mul_ps(load(&eight(&page.sum)), of_new);
        let total = _mm256_fmadd_ps(load(&eight(&of_state[1])), of_old, taken);
        put(&mut of_state[0], larger);
        put(&mut of_state[1], total);
        put(&mut merge.keep, of_old);
        put(&mut merge.take, of_new);
    }
    for (at, row) in rows.iter().map(|row| usize::from(*row)).enumerate() {
        (max[row], sum[row]) = (of_state[0][at], of_state[1][at]);
    }
    merge
}

/// Outputs of a row.
pub(super) type Outputs<const V: usize> = [[f32; 16]; V];

/// Weighted sums of `H` rows with 32 channels, merged with their outputs among those of all.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh_tile<const H: usize, const FIT: usize, const V: usize>(
    extension: Extension,
    part: &PartCodes<'_>,
    weighed: &[Weighed],
    rows: &[u16],
    out: &mut [Outputs<V>],
) {
    let weighed: &[Weighed; H] = weighed.try_into().expect("H rows");
    let integers = weighed.each_ref().map(|weighed| &weighed.integers);
    let sums = weighed.each_ref().map(|weighed| weighed.sum);
    for half in 0..2 {
        let of_page = weighted_sums::<H, FIT>(extension, part, half, integers, &sums);
        for ((of_page, weighed), row) in of_page.iter().zip(weighed).zip(rows) {
            let (keep, take) = (splat(weighed.keep), splat(weighed.take));
            let to = out[usize::from(*row)][2 * part.part + half].as_chunks_mut::<8>().0;
            for (to, of_page) in to.iter_mut().zip(of_page) {
                store(to, _mm256_fmadd_ps(load(to), keep, _mm256_mul_ps(*of_page, take)));
            }
        }
    }
}
