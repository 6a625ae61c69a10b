//! Products in f32: strips of floats, and quantized strips with exact activations.
//!
//! `sum = fma(weight, x, sum)` over columns in order; eight rows are a vector. A register tile is several strips by several
//! tokens, since one sum by itself waits for the latency of its multiply-adds. Quantized strips are dequantized to a panel of
//! f32 that stays in L1 while all tokens meet it.

use super::block::Scales;
use super::{ROWS, TILE_TOKENS, Unpack};
use crate::activations::Operand;
use crate::matmul::formats::{Min, group_bytes};
use crate::matmul::tile::COLS;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// A float that strips are made of.
pub(crate) trait Element: Sized {
    /// Eight values.
    ///
    /// # Safety
    /// AVX2 and F16C are available, and `at` has eight values.
    unsafe fn load(at: *const u8) -> __m256;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
}

impl Element for half::f16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }
}

impl Element for half::bf16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
}

/// Adds the products of strips of floats to `sums`, `[n_tokens, strips, 8]`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot<E: Element>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let at = |first| Place { first, n_strips: strips.len() };
    // With few tokens more strips give as many independent sums.
    let width = if x.n_tokens <= 2 { 4 } else { 2 };
    let mut first = 0;
    while first < strips.len() {
        let cols = 0..x.n_cols;
        match &strips[first..] {
            [a, b, c, d, ..] if width == 4 => {
                tokens::<E, 4>([a, b, c, d], cols, x, at(first), sums);
                first += 4;
            }
            [a, b, ..] => {
                tokens::<E, 2>([a, b], cols, x, at(first), sums);
                first += 2;
            }
            rest => {
                tokens::<E, 1>([rest[0]], cols, x, at(first), sums);
                first += 1;
            }
        }
    }
}

/// Where the sums of the strips of a register tile are.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    n_strips: usize,
}

/// The strips hold the columns `cols`, and nothing else.
#[target_feature(enable = "avx2,fma,f16c")]
fn tokens<E: Element, const R: usize>(
    strips: [&[u8]; R],
    cols: Range<usize>,
    x: Operand,
    place: Place,
    sums: &mut [f32],
) {
    assert!(strips.iter().all(|strip| strip.len() >= cols.len() * ROWS * size_of::<E>()));
    let mut first = 0;
    while first < x.n_tokens {
        let n = (x.n_tokens - first).min(TILE_TOKENS);
        match n {
            1 => tile::<E, R, 1>(strips, cols.clone(), &x, first, place, sums),
            2 => tile::<E, R, 2>(strips, cols.clone(), &x, first, place, sums),
            3 => tile::<E, R, 3>(strips, cols.clone(), &x, first, place, sums),
            _ => tile::<E, R, 4>(strips, cols.clone(), &x, first, place, sums),
        }
        first += n;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn tile<E: Element, const R: usize, const T: usize>(
    strips: [&[u8]; R],
    cols: Range<usize>,
    x: &Operand,
    first: usize,
    place: Place,
    sums: &mut [f32],
) {
    let n_cols = cols.len();
    let rows: [&[f32]; T] = std::array::from_fn(|t| &x.rows[(first + t) * x.n_cols..][cols.clone()]);
    let at = |r: usize, t: usize| ((first + t) * place.n_strips + place.first + r) * ROWS;
    let mut acc = [[_mm256_setzero_ps(); T]; R];
    for r in 0..R {
        for t in 0..T {
            // SAFETY: eight values.
            acc[r][t] = unsafe { _mm256_loadu_ps(sums[at(r, t)..][..ROWS].as_ptr()) };
        }
    }
    let starts = strips.map(<[u8]>::as_ptr);
    for col in 0..n_cols {
        let mut weights = [_mm256_setzero_ps(); R];
        for r in 0..R {
            // SAFETY: `tokens` asserted that strips have these columns.
            weights[r] = unsafe { E::load(starts[r].add(col * ROWS * size_of::<E>())) };
        }
        for t in 0..T {
            // SAFETY: rows have `n_cols` values.
            let x = _mm256_set1_ps(unsafe { *rows[t].get_unchecked(col) });
            for r in 0..R {
                acc[r][t] = _mm256_fmadd_ps(weights[r], x, acc[r][t]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            // SAFETY: eight values.
            unsafe { _mm256_storeu_ps(sums[at(r, t)..][..ROWS].as_mut_ptr(), acc[r][t]) };
        }
    }
}

/// Blocks of a panel of two strips: 16 KiB.
const PANEL_BLOCKS: usize = 8;
const PANEL_VALUES: usize = PANEL_BLOCKS * COLS * ROWS;

thread_local! {
    static PANEL: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Adds the products of quantized strips and f32 activations to `sums`, `[n_tokens, strips, 8]`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot_dequantized<F: Unpack>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let n_groups = x.n_cols / COLS / F::TILES;
    let step = PANEL_BLOCKS / F::TILES;
    PANEL.with_borrow_mut(|[a, b]| {
        a.resize(PANEL_VALUES, 0.0);
        b.resize(PANEL_VALUES, 0.0);
        for (index, pair) in strips.chunks(2).enumerate() {
            let place = Place { first: 2 * index, n_strips: strips.len() };
            for start in (0..n_groups).step_by(step) {
                let groups = start..n_groups.min(start + step);
                let cols = groups.start * F::TILES * COLS..groups.end * F::TILES * COLS;
                fill::<F>(pair[0], groups.clone(), a);
                if let [_, other] = pair {
                    fill::<F>(other, groups, b);
                    let strips = [bytemuck::cast_slice(a), bytemuck::cast_slice(b)];
                    tokens::<f32, 2>(strips, cols, x, place, sums);
                } else {
                    tokens::<f32, 1>([bytemuck::cast_slice(a)], cols, x, place, sums);
                }
            }
        }
    });
}

/// Dequantizes groups of a strip, `[columns, 8]`, with the operations of `Tile::value`.
#[target_feature(enable = "avx2,fma,f16c")]
fn fill<F: Unpack>(strip: &[u8], groups: Range<usize>, panel: &mut [f32]) {
    let strip = &strip[groups.start * group_bytes::<F>()..groups.end * group_bytes::<F>()];
    let mut out = panel[..groups.len() * F::TILES * COLS * ROWS].as_chunks_mut::<ROWS>().0.iter_mut();
    for group in strip.chunks_exact(group_bytes::<F>()) {
        // SAFETY: a whole group.
        let header = unsafe { F::header(group.as_ptr()) };
        for tile in group[F::HEADER_BYTES..].chunks_exact(F::TILE_BYTES) {
            // SAFETY: a whole tile.
            let (quads, scales) =
                unsafe { (F::codes(tile.as_ptr()), Scales::read::<F>(header, tile.as_ptr())) };
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
                let mut bytes = quad;
                if F::WIDE {
                    // SAFETY: AVX2 is available.
                    let (high, low) = unsafe { F::nibbles(quad) };
                    bytes = _mm256_or_si256(_mm256_slli_epi16::<4>(high), low);
                }
                for _ in 0..4 {
                    let code = _mm256_and_si256(bytes, _mm256_set1_epi32(255));
                    let code = _mm256_sub_epi32(code, _mm256_set1_epi32(i32::from(F::OFFSET)));
                    let mut value = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(code));
                    if F::MIN != Min::None {
                        value = _mm256_add_ps(value, min);
                    }
                    if let Some(out) = out.next() {
                        // SAFETY: eight values.
                        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), value) };
                    }
                    bytes = _mm256_srli_epi32::<8>(bytes);
                }
            }
        }
    }
}
