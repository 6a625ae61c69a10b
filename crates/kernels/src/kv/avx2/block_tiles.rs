//! `block` with tiles of AMX, where the sums of integers of sixteen rows are formed at once. They go through memory, which is L1, to
//! vectors of 512 bits. The operations on floats are the same, so results have the same bits.
//!
//! Codes that are taken apart lie as a tile wants its second factor: a row is a quad of channels of sixteen tokens, or a quad of tokens
//! of sixteen channels.
//!
//! The unit that multiplies tiles sleeps when it was idle for some 400 ns, and needs as long to wake. So the tiles of many rows follow
//! each other.

use std::arch::x86_64::*;

use super::super::keys::{KeyCode, QUAD};
use super::super::layout::TOKEN_QUADS;
use super::super::values::ValueCode;
use super::super::weights::{WEIGHT_TOKENS, WEIGHT_UNITS};
use super::super::{BLOCKS, FRAME_TOKENS};
use super::MAX_DIM;
use super::block::Outputs;
use super::block_lanes::{FrameRows, LaneWeights, OfTokens, add_unit, merge, transposed};
use super::rows::PartCodes;
use super::scores::QuadCodes;
use super::values::{TokenCodes, UNIT_QUADS};
use super::weights::MAX_ROWS;
use crate::isa::Amx;
use crate::math::avx512::load;
use crate::page::{FRAMES, PAGE_TOKENS};
use crate::simd::{load_integers, store_integers};
use crate::tiles::{ROW_BYTES, Shape, TILE_ROWS, TileIntegers, Tiles};

/// Tiles of sums of a frame, or of 32 channels.
const SUMS: usize = 4;
/// What is between neighbouring quads of codes that are taken apart.
const QUAD_BYTES: usize = 2 * ROW_BYTES;

const _: () = assert!(MAX_ROWS == TILE_ROWS && SUMS * TILE_ROWS == FRAME_TOKENS && 2 * WEIGHT_UNITS == SUMS);
const _: () = assert!(size_of::<QuadCodes>() == QUAD_BYTES && size_of::<TokenCodes>() == QUAD_BYTES);
const _: () = assert!(UNIT_QUADS == TILE_ROWS && WEIGHT_TOKENS == ROW_BYTES);

/// The tiles that meet a page, 0 to 3 of them sums.
pub(super) struct PageTiles {
    tiles: Tiles,
    /// tiles over the quads of keys that are stored
    n_parts: usize,
}

/// Codes of the keys of a page as first factors: of each 16 quads, of each 16 tokens, a row for each token. Quads behind the last one are
/// 0.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct KeyTiles {
    parts: [[TileIntegers; PAGE_TOKENS / TILE_ROWS]; MAX_DIM / (QUAD * TILE_ROWS)],
}

impl KeyTiles {
    pub const EMPTY: KeyTiles =
        KeyTiles { parts: [[[[0; 16]; TILE_ROWS]; PAGE_TOKENS / TILE_ROWS]; MAX_DIM / (QUAD * TILE_ROWS)] };

    /// Takes codes that are taken apart, of each block.
    #[target_feature(enable = "avx512f")]
    pub fn set(&mut self, keys: &[&[QuadCodes]; BLOCKS]) {
        for (block, keys) in keys.iter().enumerate() {
            for (part, quads) in keys.chunks(TILE_ROWS).enumerate() {
                for half in 0..2 {
                    let mut codes = [_mm512_setzero_si512(); TILE_ROWS];
                    for (codes, quad) in codes.iter_mut().zip(quads) {
                        // SAFETY: a half has 64 bytes.
                        *codes = unsafe { _mm512_loadu_si512(quad[2 * half..].as_ptr().cast()) };
                    }
                    let tile = &mut self.parts[part][2 * block + half];
                    for (to, token) in tile.iter_mut().zip(transposed(codes)) {
                        store_integers(to, token);
                    }
                }
            }
        }
    }
}

impl PageTiles {
    pub fn new(amx: Amx, code: &KeyCode) -> PageTiles {
        let tiles = Tiles::new(amx, [Shape { rows: TILE_ROWS, bytes: ROW_BYTES }; 8]);
        PageTiles { tiles, n_parts: code.planes.n_stored.div_ceil(TILE_ROWS) }
    }
}

impl PageTiles {
    /// Sums of the codes of a page times integers of sixteen rows in both frames.
    #[inline(always)]
    pub fn multiply_keys(
        &mut self,
        keys: &KeyTiles,
        in_frames: &[FrameRows; FRAMES],
        sums: &mut OfTokens<i32>,
    ) {
        let tiles = &mut self.tiles;
        let of_frames = sums.0.as_chunks_mut::<TILE_ROWS>().0.as_chunks_mut::<SUMS>().0;
        for (frame, (rows, sums)) in in_frames.iter().zip(of_frames).enumerate() {
            zero_sums(tiles);
            let quads = rows.quads.as_chunks::<TILE_ROWS>().0;
            for (keys, quads) in keys.parts[..self.n_parts].iter().zip(quads) {
                let [a, b, c, d] = &keys.as_chunks::<SUMS>().0[frame];
                tiles.load_rows::<4>(quads);
                tiles.load_rows::<5>(a);
                tiles.dot_unsigned_signed::<0, 5, 4>();
                tiles.load_rows::<6>(b);
                tiles.dot_unsigned_signed::<1, 6, 4>();
                tiles.load_rows::<5>(c);
                tiles.dot_unsigned_signed::<2, 5, 4>();
                tiles.load_rows::<6>(d);
                tiles.dot_unsigned_signed::<3, 6, 4>();
            }
            store_sums(tiles, sums);
        }
    }

    /// Sums of the codes of 32 channels times weights of sixteen rows: of the first tokens that share a scale both sixteen channels, then
    /// of the others.
    #[inline(always)]
    fn multiply_values(
        &mut self,
        weights: &LaneWeights,
        codes: &[TokenCodes; TOKEN_QUADS],
        sums: &mut [TileIntegers; SUMS],
    ) {
        let quads = |unit: usize, half: usize| {
            codes[UNIT_QUADS * unit..].as_ptr().cast::<u8>().wrapping_add(ROW_BYTES * half)
        };
        let tiles = &mut self.tiles;
        zero_sums(tiles);
        // SAFETY: sixteen quads of a unit.
        unsafe {
            tiles.load_rows::<4>(&weights.integers[0]);
            tiles.load::<5>(quads(0, 0), QUAD_BYTES);
            tiles.dot_unsigned::<0, 4, 5>();
            tiles.load::<5>(quads(0, 1), QUAD_BYTES);
            tiles.dot_unsigned::<1, 4, 5>();
            tiles.load_rows::<4>(&weights.integers[1]);
            tiles.load::<5>(quads(1, 0), QUAD_BYTES);
            tiles.dot_unsigned::<2, 4, 5>();
            tiles.load::<5>(quads(1, 1), QUAD_BYTES);
            tiles.dot_unsigned::<3, 4, 5>();
        }
        store_sums(tiles, sums);
    }
}

/// Tiles 0 to 3 become 0.
#[inline(always)]
fn zero_sums(tiles: &mut Tiles) {
    tiles.zero::<0>();
    tiles.zero::<1>();
    tiles.zero::<2>();
    tiles.zero::<3>();
}

/// Writes tiles 0 to 3.
#[inline(always)]
fn store_sums(tiles: &mut Tiles, [a, b, c, d]: &mut [TileIntegers; SUMS]) {
    tiles.store::<0>(a);
    tiles.store::<1>(b);
    tiles.store::<2>(c);
    tiles.store::<3>(d);
}

/// Weighted sums of some rows with all channels, merged with their outputs among those of all.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn weigh<const V: usize>(
    tiles: &mut PageTiles,
    code: &ValueCode,
    codes: &[[TokenCodes; TOKEN_QUADS]],
    weights: &[LaneWeights],
    rows: &[u16],
    out: &mut [Outputs<V>],
) {
    for (weights, rows) in weights.iter().zip(rows.chunks(MAX_ROWS)) {
        let factors = weights.factors(code);
        let mut integers = [[[[0; 16]; TILE_ROWS]; SUMS]; 2];
        tiles.multiply_values(weights, &codes[0], &mut integers[0]);
        for (part, of_part) in codes.iter().enumerate() {
            if let Some(next) = codes.get(part + 1) {
                tiles.multiply_values(weights, next, &mut integers[(part + 1) % 2]);
            }
            let (of_part, integers) = (PartCodes::new(code, part, of_part), &integers[part % 2]);
            let means = [load(&of_part.means[0]), load(&of_part.means[1])];
            for (h, row) in rows.iter().enumerate() {
                let to = &mut out[usize::from(*row)][2 * part..][..2];
                for v in 0..2 {
                    let mut of_page = _mm512_setzero_ps();
                    for unit in 0..WEIGHT_UNITS {
                        let sums = load_integers(&integers[2 * unit + v][h]);
                        of_page = add_unit(of_page, sums, &factors[unit], h);
                    }
                    merge(&mut to[v], of_page, means[v], weights, h);
                }
            }
        }
    }
}
