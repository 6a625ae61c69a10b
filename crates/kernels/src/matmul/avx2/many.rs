//! More tokens: strips are unpacked to a panel that stays in L1 while all tokens meet it.
//!
//! A panel holds one to four strips over some columns. For each block: the codes quad by quad, the strips side by side (codes of
//! eight bits: magnitudes, then signed codes, unless whole bytes are asked for), then each strip's scales, then minima, then both
//! halves' integer scales, their pairs and the pairs of minima, as far as the format has them.

use super::block::{Tokens, add_block, is_wide, spread};
use super::tiles::TilePanel;
use super::unpack::{ScaleVectors, codes, factors, magnitudes, scales, whole};
use super::wide::{Kept, Wide};
use super::{Format, Place, ROWS, TILE_TOKENS};
use crate::Avx2;
use crate::activations::Operand;
use crate::isa::{Extension, Vnni};
use crate::matmul::formats::{Group, Min, groups};
use crate::matmul::tile::COLS;
use crate::simd::{
    Vector256, Vector512, load_256, load_floats, prefetch_l2, store_256, store_floats, with_const,
};
use bytemuck::Zeroable;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of a panel: it shares a 32 KiB L1 with four tokens' activations.
const PANEL_BYTES: usize = 24 * 1024;

thread_local! {
    static PANEL: RefCell<Vec<Vector512>> = const { RefCell::new(Vec::new()) };
}

/// Where the vectors of a block of a panel are, counted in vectors of one strip. What a format does not have is where the first
/// codes are. `WHOLE`: codes of eight bits are not taken apart.
pub(super) struct Layout<const WHOLE: bool>;

impl<const WHOLE: bool> Layout<WHOLE> {
    /// Of the scales, behind the codes.
    pub(super) const fn scale<F: Format>() -> usize {
        if is_wide::<F>() && !WHOLE { 16 } else { 8 }
    }
    const fn has_min<F: Format>() -> usize {
        !matches!(F::MIN, Min::None) as usize
    }
    /// Of the minima.
    pub(super) const fn min<F: Format>() -> usize {
        Self::has_min::<F>() * (Self::scale::<F>() + 1)
    }
    const fn n_halves<F: Format>() -> usize {
        match (F::HALVES, F::MIN) {
            (false, _) => 0,
            (true, Min::Halves) => 4,
            (true, _) => 3,
        }
    }
    /// Of the integer scales of either half (0, 1), of both as pairs (2), and of pairs of minima (3).
    pub(super) const fn half<F: Format>(index: usize) -> usize {
        if index < Self::n_halves::<F>() { Self::scale::<F>() + 1 + Self::has_min::<F>() + index } else { 0 }
    }
    /// Vectors of a strip in a block.
    pub(super) const fn total<F: Format>() -> usize {
        Self::scale::<F>() + 1 + Self::has_min::<F>() + Self::n_halves::<F>()
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot<F: Format>(avx2: Avx2, strips: &[&[u8]], x: Operand, sums: &mut [[f32; ROWS]]) {
    let place = |first: usize| Place { first, n_strips: strips.len() };
    if let Extension::Avx512(proof) = avx2.extension() {
        for (index, some) in strips.chunks(4).enumerate() {
            let kept = Kept { place: place(4 * index), n_kept: some.len() };
            // Those that are missing are the last one again, and not kept.
            let four = || std::array::from_fn(|r| some[r.min(some.len() - 1)]);
            let two = [some[0], some[some.len() - 1]];
            match proof.amx().filter(|_| !x.tiles.is_empty()) {
                Some(amx) if some.len() > 2 => {
                    pass::<F, 4, _>(four(), x, TilePanel::<2> { amx, kept }, sums);
                }
                Some(amx) => pass::<F, 2, _>(two, x, TilePanel::<1> { amx, kept }, sums),
                None if some.len() > 2 => pass::<F, 4, _>(four(), x, Wide::<2> { proof, kept }, sums),
                None => pass::<F, 2, _>(two, x, Wide::<1> { proof, kept }, sums),
            }
        }
        return;
    }
    for (index, pair) in strips.chunks(2).enumerate() {
        let place = place(2 * index);
        match (pair, avx2.extension()) {
            ([a, b], Extension::Vnni(proof)) => {
                pass::<F, 2, _>([*a, *b], x, vnni::Panel { proof, place }, sums)
            }
            ([a, b], _) => pass::<F, 2, _>([*a, *b], x, pairs::Panel { proof: avx2, place }, sums),
            ([a], Extension::Vnni(proof)) => pass::<F, 1, _>([*a], x, vnni::Panel { proof, place }, sums),
            ([a], _) => pass::<F, 1, _>([*a], x, pairs::Panel { proof: avx2, place }, sums),
            _ => {}
        }
    }
}

/// How a panel of `R` strips meets a few tokens.
pub(super) trait Kernel<F: Format, const R: usize>: Copy {
    /// Most tokens at once.
    const TOKENS: usize;
    /// See [`Layout`].
    const WHOLE: bool;
    /// Whether codes are signed, with their offset subtracted, and tokens begin at multiples of [`TOKENS`](Kernel::TOKENS).
    const SIGNED: bool = false;
    /// What it holds while panels meet tokens.
    type Unit;

    fn start(self) -> Self::Unit;

    /// Adds what the blocks of the panel, from `block` of the operand on, contribute to the sums of some tokens,
    /// [`TOKENS`](Kernel::TOKENS) at most; what the first blocks contribute are the sums. The panel is aligned as a [`Vector512`].
    fn add(
        self,
        unit: &mut Self::Unit,
        panel: &[Vector256],
        block: usize,
        x: &Operand,
        tokens: Range<usize>,
        sums: &mut [[f32; ROWS]],
    );
}

#[target_feature(enable = "avx2,fma,f16c")]
fn pass<F: Format, const R: usize, K: Kernel<F, R>>(
    strips: [&[u8]; R],
    x: Operand,
    kernel: K,
    sums: &mut [[f32; ROWS]],
) {
    let tiles = F::Group::TILES;
    let n_blocks = x.n_cols / COLS;
    let block_len = R * if K::WHOLE { Layout::<true>::total::<F>() } else { Layout::<false>::total::<F>() };
    let step = (PANEL_BYTES / size_of::<Vector256>() / block_len / tiles).max(1) * tiles;
    // Passes of equal length rather than a short last one.
    let n_passes = n_blocks.div_ceil(step);
    let step = n_blocks.div_ceil(n_passes).next_multiple_of(tiles);
    let group_bytes = size_of::<F::Group>();
    let bytes = strips;
    let strips = strips.map(groups::<F>);
    let mut unit = kernel.start();
    PANEL.with_borrow_mut(|buffer| {
        buffer.resize((step * block_len).div_ceil(2), Vector512::zeroed());
        for start in (0..n_blocks).step_by(step) {
            let blocks = start..n_blocks.min(start + step);
            let panel = &mut bytemuck::cast_slice_mut(buffer)[..blocks.len() * block_len];
            match (K::WHOLE, K::SIGNED) {
                (true, true) => fill::<F, R, true, true>(strips, start, panel),
                (true, false) => fill::<F, R, true, false>(strips, start, panel),
                (false, _) => fill::<F, R, false, false>(strips, start, panel),
            }
            let offset =
                if blocks.end < n_blocks { blocks.end / tiles * group_bytes } else { R * bytes[0].len() };
            let ahead = Ahead { strips: bytes, offset, len: blocks.len() / tiles * group_bytes };
            let n_parts = x.n_tokens.div_ceil(K::TOKENS);
            for part in 0..n_parts {
                ahead.fetch(part, n_parts);
                let tokens = if K::SIGNED {
                    K::TOKENS * part..x.n_tokens.min(K::TOKENS * (part + 1))
                } else {
                    // Tiles of equal size rather than a small last one.
                    x.n_tokens * part / n_parts..x.n_tokens * (part + 1) / n_parts
                };
                kernel.add(&mut unit, panel, start, &x, tokens, sums);
            }
        }
    });
}

/// What the next panel is made of: `len` bytes of each strip from `offset` on. Behind the last block that is the beginning of the
/// strips that follow in memory, if any do.
struct Ahead<'a, const R: usize> {
    strips: [&'a [u8]; R],
    offset: usize,
    len: usize,
}

impl<const R: usize> Ahead<'_, R> {
    /// Fetches one of `n_parts` parts from memory, while this panel is in use.
    fn fetch(&self, part: usize, n_parts: usize) {
        let n_lines = self.len.div_ceil(64);
        for line in n_lines * part / n_parts..n_lines * (part + 1) / n_parts {
            for strip in self.strips {
                prefetch_l2(&strip[0], self.offset + 64 * line);
            }
        }
    }
}

/// Unpacks the blocks of strips from `first` on to a panel, as many as it holds.
#[target_feature(enable = "avx2,fma,f16c")]
fn fill<F: Format, const R: usize, const WHOLE: bool, const SIGNED: bool>(
    strips: [&[F::Group]; R],
    first: usize,
    panel: &mut [Vector256],
) {
    for (index, out) in panel.chunks_exact_mut(Layout::<WHOLE>::total::<F>() * R).enumerate() {
        let block = first + index;
        for r in 0..R {
            let group = &strips[r][block / F::Group::TILES];
            let tile = &group.tiles()[block % F::Group::TILES];
            let mut put = |place: usize, v: __m256i| store_256(&mut out[place * R + r], v);
            let (codes, scales) = (codes::<F>(tile), scales::<F>(factors(group.factors()), tile));
            for (j, quad) in codes.into_iter().enumerate() {
                if SIGNED {
                    let codes = if is_wide::<F>() { whole::<F>(quad) } else { quad };
                    put(j, _mm256_sub_epi8(codes, _mm256_set1_epi8(F::OFFSET as i8)));
                } else if is_wide::<F>() && WHOLE {
                    put(j, whole::<F>(quad));
                } else if is_wide::<F>() {
                    let [magnitudes, signed] = magnitudes::<F>(quad);
                    put(2 * j, magnitudes);
                    put(2 * j + 1, signed);
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
    }
}

/// A module with the kernel of register tiles whose sums of integers are by `$integers`, of codes that are whole or not.
macro_rules! tiles {
    ($name:ident, $features:literal, $proof:ty, $integers:ident, whole: $whole:literal) => {
        mod $name {
            use super::*;
            use crate::matmul::avx2::block::$integers;

            #[derive(Clone, Copy)]
            pub(super) struct Panel {
                pub proof: $proof,
                pub place: Place,
            }

            impl<F: Format, const R: usize> Kernel<F, R> for Panel {
                const TOKENS: usize = TILE_TOKENS;
                const WHOLE: bool = $whole;

                type Unit = ();

                fn start(self) {}

                fn add(
                    self,
                    _: &mut (),
                    panel: &[Vector256],
                    block: usize,
                    x: &Operand,
                    tokens: Range<usize>,
                    sums: &mut [[f32; ROWS]],
                ) {
                    let (Panel { proof, place }, first) = (self, tokens.start);
                    with_const!(
                        T = tokens.len(), in [1, 2, 3, 4],
                        // SAFETY: the proof exists only if detection saw these features.
                        unsafe { tile::<F, R, T>(proof, panel, block, x, first, place, sums) }
                    );
                }
            }

            /// Adds what the blocks of a panel, from `block` of the operand on, contribute to the sums of the `T` tokens from
            /// `first` on. What the first blocks contribute are the sums.
            #[target_feature(enable = $features)]
            fn tile<F: Format, const R: usize, const T: usize>(
                _: $proof,
                panel: &[Vector256],
                block: usize,
                x: &Operand,
                first: usize,
                place: Place,
                sums: &mut [[f32; ROWS]],
            ) {
                let mut acc = [[_mm256_setzero_ps(); T]; R];
                if block > 0 {
                    for r in 0..R {
                        for t in 0..T {
                            acc[r][t] = load_floats(&sums[place.at(r, first + t)]);
                        }
                    }
                }
                let block_len = Layout::<$whole>::total::<F>() * R;
                let mut x = Tokens::<T>::new(x, first, block, panel.len() / block_len);
                for block in panel.chunks_exact(block_len) {
                    // SAFETY: once for each block of the panel.
                    let x = unsafe { x.next() };
                    let vector = |place: usize, r: usize| load_256(&block[place * R + r]);
                    let half = |index: usize, r: usize| vector(Layout::<$whole>::half::<F>(index), r);
                    let integers = $integers::<F, R, T>(vector, half, x);
                    for r in 0..R {
                        let scales = ScaleVectors {
                            scale: _mm256_castsi256_ps(vector(Layout::<$whole>::scale::<F>(), r)),
                            min: _mm256_castsi256_ps(vector(Layout::<$whole>::min::<F>(), r)),
                            half_scales: half(2, r),
                            half_mins: half(3, r),
                        };
                        for t in 0..T {
                            acc[r][t] = add_block::<F>(acc[r][t], integers[r][t], &scales, x[t]);
                        }
                    }
                }
                for r in 0..R {
                    for t in 0..T {
                        store_floats(&mut sums[place.at(r, first + t)], acc[r][t]);
                    }
                }
            }
        }
    };
}
tiles!(pairs, "avx2,fma,f16c", Avx2, integers, whole: false);
tiles!(vnni, "avx2,fma,f16c,avxvnni", Vnni, dots, whole: true);
