//! Attention over codes with 256-bit vectors. The operations on integers are exact, those on floats the same as in
//! `scalar`, in the same order.
//!
//! What makes it fast:
//! 1. A load of 32 bytes is 128 codes. Table look-ups (`vpshufb`) take them apart into four vectors, each of which meets
//!    all query heads: the bytes are read and taken apart once, and not by the units that multiply.
//! 2. Two of the four vectors at a time, so that the sums of four rows, the codes and the operands fit the registers. Codes
//!    are taken apart once for up to sixteen rows (`rows`), which go through softmax together.
//! 3. `maddubs` multiplies 32 codes with four int8 query channels (keys) or four token weights (values) at once, and adds
//!    pairs; sums stay in 16 bits as long as they cannot overflow, which is known from the bits alone. CPUs with AVX-VNNI
//!    add all four to a sum of 32 bits at once.
//! 4. Per frame and head one vector of int8 is made; per token there is one multiplication by its gain.
//! 5. Exponentials are as precise as the integers that they become.
//! 6. While a head is read, the one that comes next is fetched, line by line.

mod block;
mod block_lanes;
mod block_tiles;
mod block_wide;
mod estimate;
mod estimate_wide;
mod grouped;
mod hadamard;
mod q8;
mod query;
mod rows;
mod scores;
mod softmax_wide;
mod turn;
mod unpack;
mod values;
mod weights;
mod wide;

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::gain;
use super::head::{HeadCode, HeadF32};
use super::keys::KeyCode;
use super::layout::{self, ROW};
use super::query::PreparedQueries;
use super::stored::Stored;
use crate::isa::{Avx512, Extension};
use crate::math::avx2::prefetch;
use crate::page::{PageFrames, Partial, TokenQueries};
pub(super) use block::attend_rows;
pub(super) use estimate::estimate_rows;
pub(super) use grouped::attend_grouped;
pub(super) use hadamard::hadamard;
pub(super) use q8::attend_q8;
use query::FrameQueries;
use scores::{Pair, QuadCodes};
pub(super) use unpack::{unpack, unpack_grouped, unpack_q8};

/// Most heads whose sums are in registers at once; [`end_step_of_heads`] names them one by one.
const MAX_HEADS: usize = 4;
/// Most channels of a head.
const MAX_DIM: usize = 256;
/// Lines that are fetched for each head's softmax, and for each 16 channels of values.
const LINES_OF_STEP: usize = 6;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack(code: &HeadCode, frames: PageFrames<'_>, exact: &HeadF32, packed: &mut [u8]) {
    super::head::pack(code, frames, exact, packed);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_row(row: &[u8; ROW]) -> __m256i {
    // SAFETY: `row` has 32 bytes.
    unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
}

/// The sum of eight integers, of each of four.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sums_of_lanes([a, b, c, d]: [__m256i; 4]) -> __m128i {
    let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

/// Gains of eight codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn gains(codes: &[u8; 8]) -> __m256 {
    // SAFETY: `codes` has eight bytes.
    let bytes = unsafe { _mm_loadl_epi64(codes.as_ptr().cast()) };
    let shifted = _mm256_slli_epi32::<19>(_mm256_cvtepu8_epi32(bytes));
    _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(gain::BIAS as i32)))
}

/// The low four bits of each byte.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn low_nibbles(x: __m256i) -> __m256i {
    _mm256_and_si256(x, _mm256_set1_epi8(15))
}

/// Looks up each byte, which is below 16.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn look_up(table: &[u8; 32], at: __m256i) -> __m256i {
    _mm256_shuffle_epi8(load_row(table), at)
}

/// A table of `(index >> shift & mask) << up`, twice.
const fn table(shift: usize, mask: usize, up: usize) -> [u8; 32] {
    let mut table = [0; 32];
    let mut index = 0;
    while index < 32 {
        table[index] = (((index % 16) >> shift & mask) << up) as u8;
        index += 1;
    }
    table
}

/// The low and the high two bits of nibbles, times 2^UP.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn two_bits<const UP: usize>(nibbles: __m256i) -> [__m256i; 2] {
    [look_up(const { &table(0, 3, UP) }, nibbles), look_up(const { &table(2, 3, UP) }, nibbles)]
}

/// Bits `2·P` and `2·P + 1` of nibbles, times 2^UP.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn one_bit<const P: usize, const UP: usize>(nibbles: __m256i) -> [__m256i; 2] {
    [look_up(const { &table(2 * P, 1, UP) }, nibbles), look_up(const { &table(2 * P + 1, 1, UP) }, nibbles)]
}

/// Ends a step: the compiler computes all of these before anything that uses one of them. Otherwise it orders each chain
/// of operations in one piece, and a CPU that looks only a few instructions ahead waits for every one of them. On Zen 1
/// products and additions in turns take a fifth longer than six and six; on Zen 3 the order makes no difference
/// (docs/LOG.md, k2v2 by attention_bench).
macro_rules! end_step {
    ($($x:expr),* ; $($format:literal),*) => {
        // SAFETY: a comment is no instruction.
        unsafe {
            std::arch::asm!(concat!("/*", $($format,)* "*/"), $(inout(ymm_reg) $x,)*
                options(pure, nomem, nostack, preserves_flags))
        }
    };
}
use end_step;

/// Adds products pairwise.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn add_products<const H: usize>(words: &mut [[__m256i; 2]; H], products: [[__m256i; 2]; H]) {
    let mut p = products;
    match H {
        1 => end_step!(p[0][0], p[0][1]; "{}", "{}"),
        2 => end_step!(p[0][0], p[0][1], p[1][0], p[1][1]; "{}", "{}", "{}", "{}"),
        3 => {
            end_step!(p[0][0], p[0][1], p[1][0], p[1][1], p[2][0], p[2][1]; "{}", "{}", "{}", "{}", "{}", "{}")
        }
        // They would not fit the registers.
        _ => {}
    }
    for v in 0..2 {
        for h in 0..H {
            words[h][v] = _mm256_add_epi16(words[h][v], p[h][v]);
        }
    }
}

/// Bytes that will be read next, fetched little by little.
struct Ahead {
    at: *const u8,
    n_lines: usize,
}

impl Ahead {
    fn new(next: Option<&[u8]>) -> Ahead {
        next.map_or(Ahead { at: std::ptr::null(), n_lines: 0 }, |next| Ahead {
            at: next.as_ptr(),
            n_lines: next.len() / 64,
        })
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn fetch(&mut self, n_lines: usize) {
        let n_lines = n_lines.min(self.n_lines);
        for _ in 0..n_lines {
            prefetch(self.at);
            self.at = self.at.wrapping_add(64);
        }
        self.n_lines -= n_lines;
    }
}

/// See [`HeadCode::attend_token`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend_token(
    extension: Extension,
    code: &HeadCode,
    frames: PageFrames<'_>,
    stored: Stored<'_>,
    token: &mut TokenQueries,
    partial: &mut Partial<'_>,
) {
    let head_dim = code.head_dim();
    assert!(head_dim.is_multiple_of(32) && head_dim <= MAX_DIM, "channels of a packed head");
    let parts = layout::parts(code, stored.bytes);
    let first_token = stored.first_token();
    let mut ahead = Ahead::new(stored.next);
    let Extension::Avx512(avx512) = extension else {
        let mut job = rows::Job { code, frames, parts: &parts, first_token, extension, ahead: &mut ahead };
        return match head_dim / 16 {
            2 => job.attend::<2>(token, partial),
            4 => job.attend::<4>(token, partial),
            6 => job.attend::<6>(token, partial),
            8 => job.attend::<8>(token, partial),
            10 => job.attend::<10>(token, partial),
            12 => job.attend::<12>(token, partial),
            14 => job.attend::<14>(token, partial),
            _ => job.attend::<16>(token, partial),
        };
    };
    let n_parts = token.n_heads().div_ceil(wide::HEADS);
    let part_len = token.n_heads().div_ceil(n_parts);
    for row in (0..token.n_heads()).step_by(part_len) {
        Job { code, frames, parts: &parts, first_token, row, _avx512: avx512, ahead: &mut ahead }
            .attend_some(token, part_len, partial);
    }
}

/// Some heads against one page, with vectors of 512 bits.
struct Job<'a> {
    code: &'a HeadCode,
    frames: PageFrames<'a>,
    parts: &'a layout::Parts<'a>,
    /// tokens before it are left out
    first_token: usize,
    /// first of the heads
    row: usize,
    /// the proof that `wide` may run
    _avx512: Avx512,
    ahead: &'a mut Ahead,
}

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn attend_some(&mut self, token: &mut TokenQueries, part_len: usize, partial: &mut Partial<'_>) {
        let (queries, weights) = token.queries_and_weights();
        let queries = PreparedQueries::of(&self.code.keys, queries);
        let end = (self.row + part_len).min(weights.len());
        let weights = &mut weights[self.row..end];
        // SAFETY: a job holds an `Avx512`, which exists only if detection saw all that is used.
        unsafe {
            match weights.len() {
                1 => wide::attend::<1>(self, queries, weights, partial),
                2 => wide::attend::<2>(self, queries, weights, partial),
                3 => wide::attend::<3>(self, queries, weights, partial),
                4 => wide::attend::<4>(self, queries, weights, partial),
                5 => wide::attend::<5>(self, queries, weights, partial),
                6 => wide::attend::<6>(self, queries, weights, partial),
                7 => wide::attend::<7>(self, queries, weights, partial),
                _ => wide::attend::<8>(self, queries, weights, partial),
            }
        }
    }
}

/// Sums of codes times query integers of `H` heads with the two halves of a block, whose codes are taken apart into `codes`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn block_sums<const V: usize, const H: usize>(
    extension: Extension,
    code: &KeyCode,
    rows: &[[u8; ROW]],
    queries: &FrameQueries<H>,
    codes: &mut [[MaybeUninit<QuadCodes>; 4]; V],
) -> [Pair<H>; 2] {
    if let Extension::Avx512(_) = extension {
        let mut quads: [&[i32]; H] = [&[]; H];
        for (quads, of_head) in quads.iter_mut().zip(&queries.quads) {
            *quads = of_head;
        }
        // SAFETY: an `Avx512` exists only if detection saw all that is used.
        return unsafe { wide::sum_keys::<H>(code, rows, &quads) };
    }
    let codes = scores::unpack(code, rows, codes.as_flattened_mut());
    let mut out = [[[_mm256_setzero_si256(); 2]; H]; 2];
    for (half, out) in out.iter_mut().enumerate() {
        *out = scores::sum_codes::<H, H>(extension, codes, half, &code.sums, &queries.quads);
    }
    out
}
