//! Products in f32: strips of floats, and quantized strips with exact activations.
//!
//! `sum = fma(weight, x, sum)` over columns in order; eight rows are a vector. A register tile is several strips by several
//! tokens, since one sum by itself waits for the latency of its multiply-adds. Quantized strips are dequantized to a panel of
//! f32 that stays in L1 while all tokens meet it.

use super::unpack::{codes, factors, scales, whole};
use super::{Format, Place, ROWS, TILE_TOKENS};
use crate::activations::Operand;
use crate::matmul::float::{Column, Element, Floats, columns};
use crate::matmul::formats::{Group, Min, groups};
use crate::matmul::tile::COLS;
use crate::simd::{load_128, load_256, load_floats, store_floats, with_const};
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// Eight values.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load<E: Element>(column: &Column<E>) -> __m256 {
    match E::column(column) {
        Floats::F32(bytes) => _mm256_castsi256_ps(load_256(bytes)),
        Floats::F16(bytes) => _mm256_cvtph_ps(load_128(bytes)),
        Floats::BF16(bytes) => {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_128(bytes))))
        }
    }
}

/// Adds the products of strips of floats to `sums`, `[n_tokens, strips, 8]`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot<E: Element>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let sums = sums.as_chunks_mut::<ROWS>().0;
    let at = |first| Place { first, n_strips: strips.len() };
    // With few tokens more strips give as many independent sums.
    let width = if x.n_tokens <= 2 { 4 } else { 2 };
    let mut first = 0;
    while first < strips.len() {
        let cols = 0..x.n_cols;
        match &strips[first..] {
            [a, b, c, d, ..] if width == 4 => {
                tokens::<E, 4>([a, b, c, d].map(|strip| columns::<E>(strip)), cols, x, at(first), sums);
                first += 4;
            }
            [a, b, ..] => {
                tokens::<E, 2>([a, b].map(|strip| columns::<E>(strip)), cols, x, at(first), sums);
                first += 2;
            }
            rest => {
                tokens::<E, 1>([columns::<E>(rest[0])], cols, x, at(first), sums);
                first += 1;
            }
        }
    }
}

/// The strips hold the columns `cols`, from the first one on.
#[target_feature(enable = "avx2,fma,f16c")]
fn tokens<E: Element, const R: usize>(
    strips: [&[Column<E>]; R],
    cols: Range<usize>,
    x: Operand,
    place: Place,
    sums: &mut [[f32; ROWS]],
) {
    for first in (0..x.n_tokens).step_by(TILE_TOKENS) {
        let n = (x.n_tokens - first).min(TILE_TOKENS);
        with_const!(T = n, in [1, 2, 3, 4], tile::<E, R, T>(strips, cols.clone(), &x, first, place, sums));
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn tile<E: Element, const R: usize, const T: usize>(
    strips: [&[Column<E>]; R],
    cols: Range<usize>,
    x: &Operand,
    first: usize,
    place: Place,
    sums: &mut [[f32; ROWS]],
) {
    let n_cols = cols.len();
    // All as long as the loop, which the compiler sees.
    let (mut strips, mut rows) = (strips, [x.rows; T]);
    for strip in &mut strips {
        *strip = &strip[..n_cols];
    }
    for t in 0..T {
        rows[t] = &x.rows[(first + t) * x.n_cols + cols.start..][..n_cols];
    }
    let mut acc = [[_mm256_setzero_ps(); T]; R];
    for r in 0..R {
        for t in 0..T {
            acc[r][t] = load_floats(&sums[place.at(r, first + t)]);
        }
    }
    for col in 0..n_cols {
        let mut weights = [_mm256_setzero_ps(); R];
        for r in 0..R {
            weights[r] = load::<E>(&strips[r][col]);
        }
        for t in 0..T {
            let x = _mm256_set1_ps(rows[t][col]);
            for r in 0..R {
                acc[r][t] = _mm256_fmadd_ps(weights[r], x, acc[r][t]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            store_floats(&mut sums[place.at(r, first + t)], acc[r][t]);
        }
    }
}

/// Blocks of a panel of two strips: 16 KiB.
const PANEL_BLOCKS: usize = 8;
const PANEL_VALUES: usize = PANEL_BLOCKS * COLS * ROWS;

thread_local! {
    static PANEL: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Writes the products of quantized strips and f32 activations to `sums`, `[n_tokens, strips, 8]`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot_dequantized<F: Format>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    sums.fill(0.0);
    let sums = sums.as_chunks_mut::<ROWS>().0;
    let group_cols = F::Group::TILES * COLS;
    let (n_groups, step) = (x.n_cols / group_cols, PANEL_BLOCKS / F::Group::TILES);
    PANEL.with_borrow_mut(|[a, b]| {
        a.resize(PANEL_VALUES, 0.0);
        b.resize(PANEL_VALUES, 0.0);
        for (index, pair) in strips.chunks(2).enumerate() {
            let place = Place { first: 2 * index, n_strips: strips.len() };
            for start in (0..n_groups).step_by(step) {
                let some = start..n_groups.min(start + step);
                let cols = some.start * group_cols..some.end * group_cols;
                fill::<F>(&groups::<F>(pair[0])[some.clone()], a);
                if let [_, other] = pair {
                    fill::<F>(&groups::<F>(other)[some], b);
                    let strips = [bytemuck::cast_slice(a), bytemuck::cast_slice(b)];
                    tokens::<f32, 2>(strips, cols, x, place, sums);
                } else {
                    tokens::<f32, 1>([bytemuck::cast_slice(a)], cols, x, place, sums);
                }
            }
        }
    });
}

/// Dequantizes groups of a strip, `[columns, 8]`, with the operations that the scalar form has.
#[target_feature(enable = "avx2,fma,f16c")]
fn fill<F: Format>(groups: &[F::Group], panel: &mut [f32]) {
    let mut out = panel.as_chunks_mut::<ROWS>().0.iter_mut();
    for group in groups {
        let factors = factors(group.factors());
        for tile in group.tiles() {
            let (quads, scales) = (codes::<F>(tile), scales::<F>(factors, tile));
            let halves = |pairs: __m256i, half: usize| {
                let low = if half == 0 { _mm256_slli_epi32::<16>(pairs) } else { pairs };
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<16>(low))
            };
            let (mut scale, mut min) = (scales.scale, scales.min);
            for (j, quad) in quads.into_iter().enumerate() {
                if F::HALVES && j % 4 == 0 {
                    scale = _mm256_mul_ps(scales.scale, halves(scales.half_scales, j / 4));
                }
                if F::MIN == Min::Halves && j % 4 == 0 {
                    min = _mm256_mul_ps(scales.min, halves(scales.half_mins, j / 4));
                }
                let mut bytes = whole::<F>(quad);
                for _ in 0..4 {
                    let code = _mm256_and_si256(bytes, _mm256_set1_epi32(255));
                    let code = _mm256_sub_epi32(code, _mm256_set1_epi32(i32::from(F::OFFSET)));
                    let mut value = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(code));
                    if F::MIN != Min::None {
                        value = _mm256_add_ps(value, min);
                    }
                    if let Some(out) = out.next() {
                        store_floats(out, value);
                    }
                    bytes = _mm256_srli_epi32::<8>(bytes);
                }
            }
        }
    }
}
