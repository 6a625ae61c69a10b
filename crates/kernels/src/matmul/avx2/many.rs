//! More tokens: strips are unpacked to a panel that stays in L1 while all tokens meet it.
//!
//! A panel holds one to four strips over some columns. For each block: the codes quad by quad, the strips side by side (wide
//! formats: high nibbles, then low ones, unless whole bytes are asked for), then each strip's scales, then minima, then both halves' integer scales, their pairs
//! and the pairs of minima, as far as the format has them.

use super::block::{Scales, Tokens, add_block, spread};
use super::wide::Wide;
use super::{ROWS, TILE_TOKENS, Unpack};
use crate::activations::Operand;
use crate::isa::Extension;
use crate::matmul::formats::{Min, group_bytes};
use crate::matmul::tile::COLS;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of a panel: it shares a 32 KiB L1 with four tokens' activations.
const PANEL_BYTES: usize = 24 * 1024;
pub(super) const VECTOR: usize = size_of::<__m256i>();

thread_local! {
    /// A panel, and room to align it.
    static PANEL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the vectors of a block of a panel are, counted in vectors of one strip. What a format does not have is where the first
/// codes are. `WHOLE`: codes of eight bits are not taken apart.
pub(super) struct Layout<const WHOLE: bool>;

impl<const WHOLE: bool> Layout<WHOLE> {
    /// Of the scales, behind the codes.
    pub(super) const fn scale<F: Unpack>() -> usize {
        if F::WIDE && !WHOLE { 16 } else { 8 }
    }
    const fn has_min<F: Unpack>() -> usize {
        !matches!(F::MIN, Min::None) as usize
    }
    /// Of the minima.
    pub(super) const fn min<F: Unpack>() -> usize {
        Self::has_min::<F>() * (Self::scale::<F>() + 1)
    }
    const fn n_halves<F: Unpack>() -> usize {
        match (F::HALVES, F::MIN) {
            (false, _) => 0,
            (true, Min::Halves) => 4,
            (true, _) => 3,
        }
    }
    /// Of the integer scales of either half (0, 1), of both as pairs (2), and of pairs of minima (3).
    pub(super) const fn half<F: Unpack>(index: usize) -> usize {
        if index < Self::n_halves::<F>() { Self::scale::<F>() + 1 + Self::has_min::<F>() + index } else { 0 }
    }
    /// Vectors of a strip in a block.
    pub(super) const fn total<F: Unpack>() -> usize {
        Self::scale::<F>() + 1 + Self::has_min::<F>() + Self::n_halves::<F>()
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot<F: Unpack>(extension: Extension, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let place = |first: usize| Place { first, n_strips: strips.len() };
    if let Extension::Avx512(_) = extension {
        for (index, some) in strips.chunks(4).enumerate() {
            let place = place(4 * index);
            // Those that are missing are the last one again, and not kept.
            if some.len() > 2 {
                let strips = std::array::from_fn(|r| some[r.min(some.len() - 1)]);
                pass::<F, 4, _>(strips, x, Wide::<2> { place, n_kept: some.len() }, sums);
            } else {
                let strips = [some[0], some[some.len() - 1]];
                pass::<F, 2, _>(strips, x, Wide::<1> { place, n_kept: some.len() }, sums);
            }
        }
        return;
    }
    for (index, pair) in strips.chunks(2).enumerate() {
        let place = place(2 * index);
        match (pair, extension) {
            ([a, b], Extension::Vnni(_)) => pass::<F, 2, _>([*a, *b], x, vnni::Strips::<2>(place), sums),
            ([a, b], _) => pass::<F, 2, _>([*a, *b], x, pairs::Strips::<2>(place), sums),
            ([a], Extension::Vnni(_)) => pass::<F, 1, _>([*a], x, vnni::Strips::<1>(place), sums),
            ([a], _) => pass::<F, 1, _>([*a], x, pairs::Strips::<1>(place), sums),
            _ => {}
        }
    }
}

/// Where the sums of some strips are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub first: usize,
    pub n_strips: usize,
}

impl Place {
    /// Where those of strip `r` and token `t` begin.
    #[inline(always)]
    pub(super) fn at(self, r: usize, t: usize) -> usize {
        (t * self.n_strips + self.first + r) * ROWS
    }
}

/// How a panel of `R` strips meets a few tokens.
pub(super) trait Tile<F: Unpack, const R: usize>: Copy {
    /// Most tokens at once.
    const TOKENS: usize;
    /// See [`Layout`].
    const WHOLE: bool;

    /// Adds what some blocks, which the panel holds, contribute to the sums of some tokens.
    ///
    /// # Safety
    /// The CPU has what the kernel needs; the panel, aligned to twice a vector, holds the blocks; and the operand has the tokens,
    /// [`TOKENS`](Tile::TOKENS) at most.
    unsafe fn add(
        self,
        panel: &[u8],
        blocks: Range<usize>,
        x: &Operand,
        tokens: Range<usize>,
        sums: &mut [f32],
    );
}

#[target_feature(enable = "avx2,fma,f16c")]
fn pass<F: Unpack, const R: usize, T: Tile<F, R>>(strips: [&[u8]; R], x: Operand, tile: T, sums: &mut [f32]) {
    let n_blocks = x.n_cols / COLS;
    let block_bytes =
        R * VECTOR * if T::WHOLE { Layout::<true>::total::<F>() } else { Layout::<false>::total::<F>() };
    let step = (PANEL_BYTES / block_bytes / F::TILES).max(1) * F::TILES;
    // Passes of equal length rather than a short last one.
    let n_passes = n_blocks.div_ceil(step);
    let step = n_blocks.div_ceil(n_passes).next_multiple_of(F::TILES);
    PANEL.with_borrow_mut(|buffer| {
        buffer.resize(step * block_bytes + 2 * VECTOR, 0);
        let shift = buffer.as_ptr().align_offset(2 * VECTOR);
        let panel = &mut buffer[shift..][..step * block_bytes];
        for start in (0..n_blocks).step_by(step) {
            let end = n_blocks.min(start + step);
            let groups = start / F::TILES..end / F::TILES;
            // SAFETY: the strips have these groups, and the panel is aligned and long enough for them.
            unsafe {
                if T::WHOLE {
                    fill::<F, R, true>(strips, groups, panel);
                } else {
                    fill::<F, R, false>(strips, groups, panel);
                }
            }
            for first in (0..x.n_tokens).step_by(T::TOKENS) {
                let tokens = first..x.n_tokens.min(first + T::TOKENS);
                // SAFETY: the kernel is one of this CPU, `fill` wrote these blocks, and the tokens are some of the operand's.
                unsafe { tile.add(panel, start..end, &x, tokens, sums) }
            }
        }
    });
}

/// Unpacks groups of strips to a panel.
///
/// # Safety
/// The strips have the groups; the panel is aligned to vectors and has room for them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fill<F: Unpack, const R: usize, const WHOLE: bool>(
    strips: [&[u8]; R],
    groups: Range<usize>,
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
                    if F::WIDE && WHOLE {
                        // SAFETY: AVX2 is available.
                        put(j, unsafe { F::bytes(quad) });
                    } else if F::WIDE {
                        // SAFETY: AVX2 is available.
                        let (high, low) = unsafe { F::nibbles(quad) };
                        put(2 * j, high);
                        put(2 * j + 1, low);
                    } else {
                        put(j, quad);
                    }
                }
                put(Layout::<WHOLE>::scale::<F>(), _mm256_castps_si256(scales.scale));
                if F::MIN != Min::None {
                    put(Layout::<WHOLE>::min::<F>(), _mm256_castps_si256(scales.min));
                }
                if F::HALVES {
                    let [a, b] = spread(scales.half_scales);
                    for (index, v) in [a, b, scales.half_scales].into_iter().enumerate() {
                        put(Layout::<WHOLE>::half::<F>(index), v);
                    }
                }
                if F::MIN == Min::Halves {
                    put(Layout::<WHOLE>::half::<F>(3), scales.half_mins);
                }
            }
            out = out.wrapping_add(Layout::<WHOLE>::total::<F>() * R * VECTOR);
        }
    }
}

/// A module with the kernel of register tiles whose sums of integers are by `$integers`, of codes that are whole or not.
macro_rules! tiles {
    ($name:ident, $features:literal, $integers:ident, whole: $whole:literal) => {
        mod $name {
            use super::*;
            use crate::matmul::avx2::block::$integers;

            /// `R` strips.
            #[derive(Clone, Copy)]
            pub(super) struct Strips<const R: usize>(pub Place);

            impl<F: Unpack, const R: usize> Tile<F, R> for Strips<R> {
                const TOKENS: usize = TILE_TOKENS;
                const WHOLE: bool = $whole;

                unsafe fn add(
                    self,
                    panel: &[u8],
                    blocks: Range<usize>,
                    x: &Operand,
                    tokens: Range<usize>,
                    sums: &mut [f32],
                ) {
                    let first = tokens.start;
                    // SAFETY: the caller's promise.
                    unsafe {
                        match tokens.len() {
                            1 => tile::<F, R, 1>(panel, blocks, x, first, self.0, sums),
                            2 => tile::<F, R, 2>(panel, blocks, x, first, self.0, sums),
                            3 => tile::<F, R, 3>(panel, blocks, x, first, self.0, sums),
                            _ => tile::<F, R, 4>(panel, blocks, x, first, self.0, sums),
                        }
                    }
                }
            }

            /// Adds what the blocks of a panel contribute to the sums of `T` tokens.
            ///
            /// # Safety
            /// The panel holds the blocks, and the operand has the tokens.
            #[target_feature(enable = $features)]
            unsafe fn tile<F: Unpack, const R: usize, const T: usize>(
                panel: &[u8],
                blocks: Range<usize>,
                x: &Operand,
                first: usize,
                place: Place,
                sums: &mut [f32],
            ) {
                let mut x = Tokens::<T>::new(x, first);
                x.advance(blocks.start);
                let mut acc = [[_mm256_setzero_ps(); T]; R];
                let at = |r: usize, t: usize| place.at(r, first + t);
                for r in 0..R {
                    for t in 0..T {
                        // SAFETY: eight values.
                        acc[r][t] = unsafe { _mm256_loadu_ps(sums[at(r, t)..][..ROWS].as_ptr()) };
                    }
                }
                let mut block = panel.as_ptr();
                for _ in blocks {
                    let vector = |place: usize, r: usize| {
                        // SAFETY: `place < Layout::<$whole>::total()`, and the panel is aligned.
                        unsafe { _mm256_load_si256(block.add((place * R + r) * VECTOR).cast()) }
                    };
                    let half = |index: usize, r: usize| vector(Layout::<$whole>::half::<F>(index), r);
                    // SAFETY: `x` is at one of its blocks.
                    let integers = unsafe { $integers::<F, R, T>(vector, half, x) };
                    for r in 0..R {
                        let scales = Scales {
                            scale: _mm256_castsi256_ps(vector(Layout::<$whole>::scale::<F>(), r)),
                            min: _mm256_castsi256_ps(vector(Layout::<$whole>::min::<F>(), r)),
                            half_scales: half(2, r),
                            half_mins: half(3, r),
                        };
                        for t in 0..T {
                            // SAFETY: as above.
                            let sum = unsafe { add_block::<F, T>(acc[r][t], integers[r][t], &scales, x, t) };
                            acc[r][t] = sum;
                        }
                    }
                    block = block.wrapping_add(Layout::<$whole>::total::<F>() * R * VECTOR);
                    x.advance(1);
                }
                for r in 0..R {
                    for t in 0..T {
                        // SAFETY: eight values.
                        unsafe { _mm256_storeu_ps(sums[at(r, t)..][..ROWS].as_mut_ptr(), acc[r][t]) };
                    }
                }
            }
        }
    };
}
tiles!(pairs, "avx2,fma,f16c", integers, whole: false);
tiles!(vnni, "avx2,fma,f16c,avxvnni", dots_vnni, whole: true);
