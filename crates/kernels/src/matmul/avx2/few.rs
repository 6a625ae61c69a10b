//! Up to four tokens: tiles are unpacked in registers and used at once. With vectors of 512 bits see [`few_wide`](super::few_wide).

use super::block::{Tokens, add_block, is_wide, spread};
use super::unpack::{codes, factors, magnitudes, scales, whole};
use super::{Format, ROWS};
use crate::activations::{BlockQ8, Operand};
use crate::isa::Vnni;
use crate::matmul::formats::{Group, Tile, groups};
use crate::simd::{prefetch_l2, store_floats, with_const};
use std::arch::x86_64::*;

/// Bytes ahead of the tile in work that are fetched from memory to the second level of the cache. So far ahead memory is up to 1.3
/// times as fast as with lines that are fetched to the first level, of which a core awaits only some at a time.
pub(super) const FAR_AHEAD: usize = 16 * 1024;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot<F: Format>(vnni: Option<Vnni>, strips: &[&[u8]], x: Operand, sums: &mut [[f32; ROWS]]) {
    match vnni {
        None => pairs::dot::<F>(strips, x, sums),
        // SAFETY: a `Vnni` exists only if detection saw avxvnni.
        Some(_) => unsafe { vnni::dot::<F>(strips, x, sums) },
    }
}

/// Fetches what lies `ahead` bytes behind a tile, as much as `n_tiles` have.
#[inline(always)]
pub(super) fn fetch_far<F: Format>(tile: &Tile<F>, ahead: usize, n_tiles: usize) {
    for line in (0..n_tiles * size_of::<Tile<F>>()).step_by(64) {
        prefetch_l2(tile, ahead + line);
    }
}

/// The kernel with sums of integers by `$integers`, of whole codes or of those that [`codes`] gives.
macro_rules! few {
    ($name:ident, $features:literal, $integers:ident, whole: $whole:literal) => {
        mod $name {
            use super::*;
            use crate::matmul::avx2::block::$integers;

            #[target_feature(enable = $features)]
            pub(super) fn dot<F: Format>(strips: &[&[u8]], x: Operand, sums: &mut [[f32; ROWS]]) {
                with_const!(T = x.n_tokens, in [1, 2, 3, 4], tokens::<F, T>(strips, x, sums));
            }

            #[target_feature(enable = $features)]
            fn tokens<F: Format, const T: usize>(strips: &[&[u8]], x: Operand, sums: &mut [[f32; ROWS]]) {
                for (index, strip) in strips.iter().enumerate() {
                    let acc = strip_sums::<F, T>(groups::<F>(strip), &x);
                    for (t, acc) in acc.into_iter().enumerate() {
                        store_floats(&mut sums[t * strips.len() + index], acc);
                    }
                }
            }

            #[target_feature(enable = $features)]
            #[inline]
            fn strip_sums<F: Format, const T: usize>(strip: &[F::Group], x: &Operand) -> [__m256; T] {
                let mut x = Tokens::<T>::new(x, 0, 0, strip.len() * F::Group::TILES);
                let mut acc = [_mm256_setzero_ps(); T];
                for group in strip {
                    let factors = factors(group.factors());
                    for tile in &group.tiles()[..F::Group::TILES] {
                        // SAFETY: once for each tile.
                        let x = unsafe { x.next() };
                        acc = add_tile::<F, T>(acc, factors, tile, x);
                    }
                }
                acc
            }

            /// The sums with what a tile contributes.
            #[target_feature(enable = $features)]
            #[inline]
            fn add_tile<F: Format, const T: usize>(
                mut acc: [__m256; T],
                factors: [__m256; 2],
                tile: &Tile<F>,
                x: [&BlockQ8; T],
            ) -> [__m256; T] {
                fetch_far::<F>(tile, FAR_AHEAD, 1);
                let codes = codes::<F>(tile);
                let scales = scales::<F>(factors, tile);
                let [first, last] =
                    if F::HALVES { spread(scales.half_scales) } else { [_mm256_setzero_si256(); 2] };
                let halves = [first, last, scales.half_scales];
                let code = |j: usize, _: usize| match (is_wide::<F>(), $whole) {
                    (false, _) => codes[j],
                    (true, true) => whole::<F>(codes[j]),
                    (true, false) => magnitudes::<F>(codes[j / 2])[j % 2],
                };
                let [integers] = $integers::<F, 1, T>(code, |h, _| halves[h], x);
                for t in 0..T {
                    acc[t] = add_block::<F>(acc[t], integers[t], &scales, x[t]);
                }
                acc
            }
        }
    };
}
few!(pairs, "avx2,fma,f16c", integers, whole: false);
few!(vnni, "avx2,fma,f16c,avxvnni", dots, whole: true);
