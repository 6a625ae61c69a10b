//! Panels that meet sixteen tokens at once with tiles of AMX.
//!
//! A panel of two strips side by side is what a tile wants as its second factor: a row is a quad of sixteen rows of weights. One
//! instruction gives the sums of integers of sixteen rows and sixteen tokens over a block. They go through memory, which is L1, to vectors
//! of 512 bits, where the operations on floats are those of [`add_block`](super::block::add_block) in the same order. So results have
//! the same bits. These operations are what takes the time: three or four for sixteen sums of a block.
//!
//! Codes are signed here, with their offset subtracted. Halves with scales of their own are two products over half of the columns, and
//! `Σ half_scale · sum` is computed in float32, which is exact: it is below 2²⁴ in every format.

use super::many::{Kernel, Layout};
use super::wide::Kept;
use super::{Format, ROWS};
use crate::activations::{Operand, TILE_TOKENS, TileQ8};
use crate::isa::Amx;
use crate::matmul::formats::Min;
use crate::matmul::tile::COLS;
use crate::simd::{Vector256, Vector512, load_512, load_integers, load_some_floats, store_some_floats};
use crate::tiles::{ROW_BYTES, Shape, TILE_ROWS, TileIntegers, Tiles};
use std::arch::x86_64::*;
use std::ops::Range;

/// Codes of eight bits are used as they are.
type Whole = Layout<true>;

/// `2 · P` strips and tiles.
#[derive(Clone, Copy)]
pub(super) struct TilePanel<const P: usize> {
    pub amx: Amx,
    pub kept: Kept,
}

/// Most tokens of a last tile whose other half is left out.
const HALF: usize = TILE_TOKENS / 2;
/// Blocks whose sums of integers are computed ahead of the floats, so that neither unit waits.
const AHEAD: usize = 2;
/// Sums of integers that are kept: those ahead and those in use.
const SLOTS: usize = 4;

/// Sums of integers, a row of a tile in each line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lines(TileIntegers);

/// Products over a block: one, or one for each half.
const fn n_parts<F: Format>() -> usize {
    if F::HALVES { 2 } else { 1 }
}

impl<F: Format, const R: usize, const P: usize> Kernel<F, R> for TilePanel<P> {
    const TOKENS: usize = TILE_TOKENS;
    const WHOLE: bool = true;
    const SIGNED: bool = true;
    type Unit = Tiles;

    fn start(self) -> Tiles {
        let columns = COLS / n_parts::<F>();
        let sums = Shape { rows: TILE_ROWS, bytes: ROW_BYTES };
        let x = Shape { rows: TILE_ROWS, bytes: columns };
        let codes = Shape { rows: columns / 4, bytes: ROW_BYTES };
        let none = Shape { rows: 0, bytes: 0 };
        Tiles::new(self.amx, [sums, sums, x, x, codes, codes, none, none])
    }

    fn add(
        self,
        unit: &mut Tiles,
        panel: &[Vector256],
        block: usize,
        x: &Operand,
        tokens: Range<usize>,
        sums: &mut [[f32; ROWS]],
    ) {
        const { assert!(R == 2 * P && TILE_TOKENS == TILE_ROWS) };
        let panel: &[Vector512] = bytemuck::cast_slice(panel);
        let n_blocks = panel.len() / (Whole::total::<F>() * P);
        let x = &x.tiles[tokens.start / TILE_TOKENS * x.n_blocks() + block..][..n_blocks];
        // SAFETY: tiles are there beside an `Avx512` only, which exists only if detection saw these features.
        unsafe {
            if tokens.len() > HALF {
                add::<F, P, TILE_TOKENS>(unit, self.kept, panel, x, tokens, block == 0, sums);
            } else {
                add::<F, P, HALF>(unit, self.kept, panel, x, tokens, block == 0, sums);
            }
        }
    }
}

/// Adds what the blocks of a panel contribute to the sums of `T` tokens, or fewer; what the first blocks contribute are the sums.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn add<F: Format, const P: usize, const T: usize>(
    tiles: &mut Tiles,
    kept: Kept,
    panel: &[Vector512],
    x: &[TileQ8],
    tokens: Range<usize>,
    is_first: bool,
    sums: &mut [[f32; ROWS]],
) {
    let block_len = Whole::total::<F>() * P;
    let mut integers = [[Lines([[0; 16]; TILE_ROWS]); 2]; SLOTS];
    for p in 0..P {
        let mut acc = [_mm512_setzero_ps(); T];
        for t in 0..T {
            if !is_first && t < tokens.len() {
                acc[t] = load_some_floats(sums[kept.sums(p, tokens.start + t)].as_flattened());
            }
        }
        for (index, x) in x[..AHEAD.min(x.len())].iter().enumerate() {
            multiply::<F, P>(tiles, &panel[index * block_len..][..block_len], p, x, &mut integers[index]);
        }
        for (index, (block, of_tokens)) in panel.chunks_exact(block_len).zip(x).enumerate() {
            if let Some(x) = x.get(index + AHEAD) {
                let block = &panel[(index + AHEAD) * block_len..][..block_len];
                multiply::<F, P>(tiles, block, p, x, &mut integers[(index + AHEAD) % SLOTS]);
            }
            add_floats::<F, P, T>(&mut acc, block, p, of_tokens, &integers[index % SLOTS]);
        }
        for t in 0..T {
            if t < tokens.len() {
                store_some_floats(sums[kept.sums(p, tokens.start + t)].as_flattened_mut(), acc[t]);
            }
        }
    }
}

/// `Σ code · x` of a block of the panel and sixteen tokens, of each part.
#[inline(always)]
fn multiply<F: Format, const P: usize>(
    tiles: &mut Tiles,
    block: &[Vector512],
    p: usize,
    x: &TileQ8,
    integers: &mut [Lines; 2],
) {
    let stride = P * ROW_BYTES;
    assert!(block.len() == Whole::total::<F>() * P && p < P);
    let codes = block[p..].as_ptr().cast::<u8>();
    let x_codes = x.codes.as_ptr().cast::<u8>();
    // SAFETY: eight rows of codes, `P` vectors apart, of which the first is at `p`; sixteen rows of 32 columns.
    unsafe {
        tiles.load::<2>(x_codes, 32);
        tiles.load::<4>(codes, stride);
    }
    tiles.zero::<0>();
    tiles.dot_signed::<0, 2, 4>();
    tiles.store::<0>(&mut integers[0].0);
    if F::HALVES {
        // SAFETY: as above, of which these are the last half.
        unsafe {
            tiles.load::<3>(x_codes.add(16), 32);
            tiles.load::<5>(codes.add(4 * stride), stride);
        }
        tiles.zero::<1>();
        tiles.dot_signed::<1, 3, 5>();
        tiles.store::<1>(&mut integers[1].0);
    }
}

/// The operations on floats of a block and `T` tokens.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn add_floats<F: Format, const P: usize, const T: usize>(
    acc: &mut [__m512; T],
    block: &[Vector512],
    p: usize,
    x: &TileQ8,
    integers: &[Lines; 2],
) {
    let vector = |place: usize| load_512(&block[place * P + p]);
    let scale = _mm512_castsi512_ps(vector(Whole::scale::<F>()));
    let min = _mm512_castsi512_ps(vector(Whole::min::<F>()));
    // Both 16-bit halves of a lane are the scale.
    let factor = |half| _mm512_cvtepi32_ps(_mm512_srai_epi32::<16>(vector(Whole::half::<F>(half))));
    let factors = if F::HALVES { [factor(0), factor(1)] } else { [scale; 2] };
    let half_mins = vector(Whole::half::<F>(3));
    for t in 0..T {
        let float = |sums: &Lines| _mm512_cvtepi32_ps(load_integers(&sums.0[t]));
        let mut integer = float(&integers[0]);
        if F::HALVES {
            integer = _mm512_fmadd_ps(float(&integers[1]), factors[1], _mm512_mul_ps(integer, factors[0]));
        }
        let x_scale = _mm512_set1_ps(x.scale[t]);
        acc[t] = _mm512_fmadd_ps(integer, _mm512_mul_ps(scale, x_scale), acc[t]);
        match F::MIN {
            Min::None => {}
            Min::Block => acc[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(x.scaled_sum[t]), acc[t]),
            Min::Halves => {
                let half_sums = _mm512_set1_epi32(bytemuck::cast(x.half_sums[t]));
                let integer = _mm512_cvtepi32_ps(_mm512_madd_epi16(half_mins, half_sums));
                acc[t] = _mm512_fmadd_ps(integer, _mm512_mul_ps(min, x_scale), acc[t]);
            }
        }
    }
}
