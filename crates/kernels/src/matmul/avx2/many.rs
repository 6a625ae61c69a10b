//! More tokens: strips are unpacked to a panel that stays in L1 while all tokens meet it.
//!
//! A panel holds one or two strips over some columns. For each block: the codes quad by quad, the strips side by side (wide
//! formats: high nibbles, then low ones), then each strip's scales, then minima, then both halves' integer scales, their pairs
//! and the pairs of minima, as far as the format has them.

use super::block::{Scales, Tokens, add_block, integers, spread};
use super::{ROWS, TILE_TOKENS, Unpack};
use crate::activations::Operand;
use crate::matmul::formats::{Min, group_bytes};
use crate::matmul::tile::COLS;
use std::arch::x86_64::*;
use std::cell::RefCell;

/// Bytes of a panel: it shares a 32 KiB L1 with four tokens' activations.
const PANEL_BYTES: usize = 24 * 1024;
const VECTOR: usize = size_of::<__m256i>();

thread_local! {
    /// A panel, and room to align it.
    static PANEL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the vectors of a block of a panel are, counted in vectors of one strip.
struct Layout;

impl Layout {
    const fn codes<F: Unpack>() -> usize {
        if F::WIDE { 16 } else { 8 }
    }
    const fn has_min<F: Unpack>() -> usize {
        !matches!(F::MIN, Min::None) as usize
    }
    const fn n_halves<F: Unpack>() -> usize {
        match (F::HALVES, F::MIN) {
            (false, _) => 0,
            (true, Min::Halves) => 4,
            (true, _) => 3,
        }
    }
    /// Vectors of a strip in a block.
    const fn total<F: Unpack>() -> usize {
        Self::codes::<F>() + 1 + Self::has_min::<F>() + Self::n_halves::<F>()
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot<F: Unpack>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    for (index, pair) in strips.chunks(2).enumerate() {
        let place = Place { first: 2 * index, n_strips: strips.len() };
        match pair {
            [a, b] => pass::<F, 2>([a, b], x, place, sums),
            [a] => pass::<F, 1>([a], x, place, sums),
            _ => {}
        }
    }
}

/// Where the sums of a pair of strips are.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    n_strips: usize,
}

#[target_feature(enable = "avx2,fma,f16c")]
fn pass<F: Unpack, const R: usize>(strips: [&[u8]; R], x: Operand, place: Place, sums: &mut [f32]) {
    let n_blocks = x.n_cols / COLS;
    let block_bytes = Layout::total::<F>() * R * VECTOR;
    let step = (PANEL_BYTES / block_bytes / F::TILES).max(1) * F::TILES;
    // Passes of equal length rather than a short last one.
    let n_passes = n_blocks.div_ceil(step);
    let step = n_blocks.div_ceil(n_passes).next_multiple_of(F::TILES);
    PANEL.with_borrow_mut(|buffer| {
        buffer.resize(step * block_bytes + VECTOR, 0);
        let shift = buffer.as_ptr().align_offset(VECTOR);
        let panel = &mut buffer[shift..][..step * block_bytes];
        for start in (0..n_blocks).step_by(step) {
            let end = n_blocks.min(start + step);
            let groups = start / F::TILES..end / F::TILES;
            // SAFETY: the strips have these groups, and the panel is aligned and long enough for them.
            unsafe { fill::<F, R>(strips, groups, panel) };
            let mut first = 0;
            while first < x.n_tokens {
                let n = (x.n_tokens - first).min(TILE_TOKENS);
                // SAFETY: `fill` wrote these blocks, and the tokens are some of the operand's.
                unsafe {
                    match n {
                        1 => tile::<F, R, 1>(panel, start..end, &x, first, place, sums),
                        2 => tile::<F, R, 2>(panel, start..end, &x, first, place, sums),
                        3 => tile::<F, R, 3>(panel, start..end, &x, first, place, sums),
                        _ => tile::<F, R, 4>(panel, start..end, &x, first, place, sums),
                    }
                }
                first += n;
            }
        }
    });
}

/// Unpacks groups of strips to a panel.
///
/// # Safety
/// The strips have the groups; the panel is aligned to vectors and has room for them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill<F: Unpack, const R: usize>(
    strips: [&[u8]; R],
    groups: std::ops::Range<usize>,
    panel: &mut [u8],
) {
    let mut out = panel.as_mut_ptr();
    for group in groups {
        let at = strips.map(|strip| strip[group * group_bytes::<F>()..].as_ptr());
        for tile in 0..F::TILES {
            for (r, group) in at.into_iter().enumerate() {
                let tile = group.wrapping_add(F::HEADER_BYTES + tile * F::TILE_BYTES);
                let put = |place: usize, v: __m256i| {
                    // SAFETY: the caller's promise, `place < Layout::total()`.
                    unsafe { _mm256_store_si256(out.add((place * R + r) * VECTOR).cast(), v) }
                };
                // SAFETY: a whole group is at `group`.
                let (codes, scales) = unsafe { (F::codes(tile), Scales::read::<F>(F::header(group), tile)) };
                for (j, quad) in codes.into_iter().enumerate() {
                    if F::WIDE {
                        // SAFETY: AVX2 is available.
                        let (high, low) = unsafe { F::nibbles(quad) };
                        put(2 * j, high);
                        put(2 * j + 1, low);
                    } else {
                        put(j, quad);
                    }
                }
                let mut place = Layout::codes::<F>();
                put(place, _mm256_castps_si256(scales.scale));
                place += 1;
                if Layout::has_min::<F>() > 0 {
                    put(place, _mm256_castps_si256(scales.min));
                    place += 1;
                }
                if F::HALVES {
                    let [a, b] = spread(scales.half_scales);
                    put(place, a);
                    put(place + 1, b);
                    put(place + 2, scales.half_scales);
                    if F::MIN == Min::Halves {
                        put(place + 3, scales.half_mins);
                    }
                }
            }
            out = out.wrapping_add(Layout::total::<F>() * R * VECTOR);
        }
    }
}

/// Adds what the blocks of a panel contribute to the sums of `T` tokens.
///
/// # Safety
/// The panel holds the blocks, and the operand has the tokens.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<F: Unpack, const R: usize, const T: usize>(
    panel: &[u8],
    blocks: std::ops::Range<usize>,
    x: &Operand,
    first: usize,
    place: Place,
    sums: &mut [f32],
) {
    let mut x = Tokens::<T>::new(x, first);
    x.advance(blocks.start);
    let mut acc = [[_mm256_setzero_ps(); T]; R];
    let at = |r: usize, t: usize| ((first + t) * place.n_strips + place.first + r) * ROWS;
    for r in 0..R {
        for t in 0..T {
            // SAFETY: eight values.
            acc[r][t] = unsafe { _mm256_loadu_ps(sums[at(r, t)..][..ROWS].as_ptr()) };
        }
    }
    let mut block = panel.as_ptr();
    for _ in blocks {
        let vector = |place: usize, r: usize| {
            // SAFETY: `place < Layout::total()`, and the panel is aligned.
            unsafe { _mm256_load_si256(block.add((place * R + r) * VECTOR).cast()) }
        };
        let after_codes = Layout::codes::<F>();
        let after_min = after_codes + 1 + Layout::has_min::<F>();
        // SAFETY: `x` is at one of its blocks.
        let integers = unsafe { integers::<F, R, T>(vector, |h, r| vector(after_min + h, r), x) };
        for r in 0..R {
            let scales = Scales {
                scale: _mm256_castsi256_ps(vector(after_codes, r)),
                min: _mm256_castsi256_ps(vector(
                    if Layout::has_min::<F>() > 0 { after_codes + 1 } else { 0 },
                    r,
                )),
                half_scales: vector(if F::HALVES { after_min + 2 } else { 0 }, r),
                half_mins: vector(if F::MIN == Min::Halves { after_min + 3 } else { 0 }, r),
            };
            for t in 0..T {
                // SAFETY: as above.
                acc[r][t] = unsafe { add_block::<F, T>(acc[r][t], integers[r][t], &scales, x, t) };
            }
        }
        block = block.wrapping_add(Layout::total::<F>() * R * VECTOR);
        x.advance(1);
    }
    for r in 0..R {
        for t in 0..T {
            // SAFETY: eight values.
            unsafe { _mm256_storeu_ps(sums[at(r, t)..][..ROWS].as_mut_ptr(), acc[r][t]) };
        }
    }
}
