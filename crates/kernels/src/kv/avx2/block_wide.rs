//! `block` with vectors of 512 bits:
//!
//! ```text
//! per 192 rows
//!     per 16 rows    turn and round                                          `block_lanes`
//!     with tiles     sums with all keys                                      `block_tiles`
//!     per 16 rows    sums, unless they are there; scores, softmax, integers  `block_lanes`
//!     all rows       sums with values, outputs, merged with states           here, or `block_tiles`
//! ```
//! The operations on floats are the same, so results have the same bits.

use std::arch::{asm, x86_64::*};
use std::cell::RefCell;

use super::super::head::HeadCode;
use super::super::weights::WEIGHT_UNITS;
use super::block::{Codes, MANY_ROWS, Outputs, VALUE_ROWS, merge_sums};
use super::block_lanes::{self, FrameRows, LaneWeights, OfTokens, UnitFactors, add_unit, merge};
use super::block_tiles::{self, KeyTiles, PageTiles};
use super::rows::PartCodes;
use super::turn::{BlockQueries, Turn};
use super::values::UNIT_QUADS;
use super::weights::{MAX_ROWS, Softmax};
use crate::isa::Avx512;
use crate::math::avx512::load;
use crate::page::{FRAMES, PAGE_TOKENS, RowStates};

/// A page whose codes are taken apart.
pub(super) struct Page<'a> {
    pub code: &'a HeadCode,
    pub codes: &'a Codes<'a>,
    pub key_gains: &'a [[f32; 8]; PAGE_TOKENS / 8],
    pub value_gains: &'a [[f32; 8]; PAGE_TOKENS / 8],
    /// tokens before it are left out
    pub first_token: usize,
}

/// Sixteens of rows whose integers are kept between keys and values.
const SIXTEENS: usize = MANY_ROWS / MAX_ROWS;

/// What a thread needs room for.
struct Room {
    in_frames: [[FrameRows; FRAMES]; SIXTEENS],
    keys: KeyTiles,
    sums: [OfTokens<i32>; SIXTEENS],
    scores: OfTokens<f32>,
    weights: [LaneWeights; SIXTEENS],
}

thread_local! {
    static ROOM: RefCell<Option<Box<Room>>> = const { RefCell::new(None) };
}

impl Room {
    fn new() -> Box<Room> {
        Box::new(Room {
            in_frames: [[FrameRows::EMPTY; FRAMES]; SIXTEENS],
            keys: KeyTiles::EMPTY,
            sums: [OfTokens([[0; MAX_ROWS]; PAGE_TOKENS]); SIXTEENS],
            scores: OfTokens([[0.0; MAX_ROWS]; PAGE_TOKENS]),
            weights: [LaneWeights::EMPTY; SIXTEENS],
        })
    }
}

/// See `block::attend_rows`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn attend<const V: usize>(
    proof: Avx512,
    page: &Page<'_>,
    queries: BlockQueries<'_, V>,
    turns: &[Turn<'_, V>; FRAMES],
    rows: &[u16],
    states: &mut RowStates<'_>,
) {
    let mut tiles = proof.amx().map(|amx| PageTiles::new(amx, &page.code.keys));
    // A closure would not have the features of this function.
    let mut room = ROOM.take().unwrap_or_else(Room::new);
    if tiles.is_some() {
        room.keys.set(&page.codes.keys);
    }
    for rows in rows.chunks(MANY_ROWS) {
        weights::<V>(&mut tiles, page, queries, turns, rows, &mut room, states);
        let (values, weights) = (&page.code.values, &room.weights);
        let out = states.out.as_chunks_mut::<16>().0.as_chunks_mut::<V>().0;
        if let Some(tiles) = &mut tiles {
            block_tiles::weigh(tiles, values, page.codes.values, weights, rows, out);
            continue;
        }
        // Integers and outputs of these rows stay in L1.
        for (weights, rows) in weights.chunks(VALUE_ROWS / MAX_ROWS).zip(rows.chunks(VALUE_ROWS)) {
            for (part, codes) in page.codes.values.iter().enumerate() {
                let part = PartCodes::new(values, part, codes);
                for (weights, rows) in weights.iter().zip(rows.chunks(MAX_ROWS)) {
                    let factors = weights.factors(values);
                    for (index, rows) in rows.chunks(TILE).enumerate() {
                        weigh_tile::<V>(&part, weights, &factors, index * TILE, rows, out);
                    }
                }
            }
        }
    }
    ROOM.set(Some(room));
}

/// Weights of some rows, [`MANY_ROWS`] at most, in the room.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn weights<const V: usize>(
    tiles: &mut Option<PageTiles>,
    page: &Page<'_>,
    queries: BlockQueries<'_, V>,
    turns: &[Turn<'_, V>; FRAMES],
    rows: &[u16],
    room: &mut Room,
    states: &mut RowStates<'_>,
) {
    for (in_frames, rows) in room.in_frames.iter_mut().zip(rows.chunks(MAX_ROWS)) {
        block_lanes::turn(&page.code.keys, queries, rows, turns, in_frames);
    }
    let n = rows.len().div_ceil(MAX_ROWS);
    if let Some(tiles) = tiles {
        for (in_frames, sums) in room.in_frames[..n].iter().zip(&mut room.sums) {
            tiles.multiply_keys(&room.keys, in_frames, sums);
        }
    }
    let (key_gains, value_gains) = (flat(page.key_gains), flat(page.value_gains));
    for (index, rows) in rows.chunks(MAX_ROWS).enumerate() {
        let (in_frames, scores) = (&room.in_frames[index], &mut room.scores);
        if tiles.is_some() {
            block_lanes::score_of_sums(key_gains, in_frames, &room.sums[index], scores);
        } else {
            block_lanes::score_by_vectors(&page.codes.keys, key_gains, in_frames, scores);
        }
        scores.0[..page.first_token].fill([f32::NEG_INFINITY; MAX_ROWS]);
        let weights = &mut room.weights[index];
        let max = block_lanes::softmax(scores, value_gains, weights);
        let merge = merge_sums(&Softmax { max, sum: weights.sum }, rows, states.max, states.sum);
        (weights.keep, weights.take) = (merge.keep, merge.take);
    }
}

/// The gains of all tokens.
fn flat(gains: &[[f32; 8]; PAGE_TOKENS / 8]) -> &[f32; PAGE_TOKENS] {
    gains.as_flattened().try_into().expect("gains of a page")
}

/// Rows whose sums with 32 channels are in registers.
const TILE: usize = 8;

/// Both halves of a quad of 32 tokens, or channels.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_codes(codes: &[__m256i; 4]) -> [__m512i; 2] {
    let halves: &[[__m256i; 2]] = codes.as_chunks().0;
    // SAFETY: each half has 64 bytes.
    unsafe { [_mm512_loadu_si512(halves[0].as_ptr().cast()), _mm512_loadu_si512(halves[1].as_ptr().cast())] }
}

/// `v` itself, computed at this place. Left alone, the compiler keeps the sums of the first unit in memory until those of the second are
/// there.
#[target_feature(enable = "avx512f")]
#[inline]
fn here(mut v: __m512) -> __m512 {
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(zmm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// Weighted sums of some rows, [`TILE`] at most, with 32 channels, merged with their outputs among those of all. The first is row
/// `first` of sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn weigh_tile<const V: usize>(
    part: &PartCodes<'_>,
    weights: &LaneWeights,
    factors: &[UnitFactors; WEIGHT_UNITS],
    first: usize,
    rows: &[u16],
    out: &mut [Outputs<V>],
) {
    let codes = part.codes.as_chunks::<UNIT_QUADS>().0;
    let mut of_page = [[_mm512_setzero_ps(); 2]; TILE];
    for unit in 0..WEIGHT_UNITS {
        let integers: &[_; TILE] =
            weights.integers[unit][first..].first_chunk().expect("half of sixteen rows");
        let mut sums = [[_mm512_setzero_si512(); 2]; TILE];
        for (j, codes) in codes[unit].iter().enumerate() {
            let codes = load_codes(codes);
            for h in 0..TILE {
                let weight = _mm512_set1_epi32(integers[h][j]);
                for v in 0..2 {
                    sums[h][v] = _mm512_dpbusd_epi32(sums[h][v], weight, codes[v]);
                }
            }
        }
        for h in 0..TILE {
            for v in 0..2 {
                of_page[h][v] = here(add_unit(of_page[h][v], sums[h][v], &factors[unit], first + h));
            }
        }
    }
    for (h, row) in rows.iter().enumerate().take(TILE) {
        let to = &mut out[usize::from(*row)][2 * part.part..][..2];
        for v in 0..2 {
            merge(&mut to[v], of_page[h][v], load(&part.means[v]), weights, first + h);
        }
    }
}
