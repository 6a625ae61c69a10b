//! Up to four tokens: tiles are unpacked in registers and used at once.

use super::block::{Scales, Tokens, add_block, spread};
use super::{ROWS, Unpack};
use crate::activations::Operand;
use crate::isa::Extension;
use crate::matmul::tile::COLS;
use std::arch::x86_64::*;

/// Bytes ahead of the tile in work that are fetched from memory.
const AHEAD: usize = 2048;

pub(super) fn dot<F: Unpack>(extension: Extension, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    // SAFETY: an `Extension` exists only beside the proof of AVX2, and with what it says.
    unsafe {
        match extension {
            Extension::None => pairs::dot::<F>(strips, x, sums),
            Extension::Vnni(_) => vnni::dot::<F>(strips, x, sums),
            Extension::Avx512(_) => avx512::dot::<F>(strips, x, sums),
        }
    }
}

/// The kernel with sums of integers by `$integers`, of whole codes or of those that [`Unpack::codes`] gives.
macro_rules! few {
    ($name:ident, $features:literal, $integers:ident, whole: $whole:literal) => {
        mod $name {
            use super::*;
            use crate::matmul::avx2::block::$integers;

            #[target_feature(enable = $features)]
            pub(super) fn dot<F: Unpack>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
                match x.n_tokens {
                    1 => tokens::<F, 1>(strips, x, sums),
                    2 => tokens::<F, 2>(strips, x, sums),
                    3 => tokens::<F, 3>(strips, x, sums),
                    _ => tokens::<F, 4>(strips, x, sums),
                }
            }

            #[target_feature(enable = $features)]
            fn tokens<F: Unpack, const T: usize>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
                let start = Tokens::<T>::new(&x, 0);
                for (index, strip) in strips.iter().enumerate() {
                    // SAFETY: the strip has whole groups, for exactly the operand's columns.
                    let acc = unsafe { strip_sums::<F, T>(strip, x.n_cols / COLS, start) };
                    for (t, acc) in acc.into_iter().enumerate() {
                        let out = &mut sums[(t * strips.len() + index) * ROWS..][..ROWS];
                        // SAFETY: eight values.
                        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), acc) };
                    }
                }
            }

            /// # Safety
            /// `strip` has whole groups for `n_blocks` tiles, and the tokens have as many blocks.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn strip_sums<F: Unpack, const T: usize>(
                strip: &[u8],
                n_blocks: usize,
                mut x: Tokens<T>,
            ) -> [__m256; T] {
                let mut acc = [_mm256_setzero_ps(); T];
                let mut at = strip.as_ptr();
                for _ in 0..n_blocks / F::TILES {
                    // SAFETY: `at` is at the start of a group.
                    let header = unsafe { F::header(at) };
                    at = at.wrapping_add(F::HEADER_BYTES);
                    for _ in 0..F::TILES {
                        for line in (0..F::TILE_BYTES).step_by(64) {
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
                        }
                        // SAFETY: `at` is at the start of a tile of this group, and `x` at its block.
                        unsafe {
                            let codes = F::codes(at);
                            let scales = Scales::read::<F>(header, at);
                            let halves = if F::HALVES {
                                spread(scales.half_scales)
                            } else {
                                [_mm256_setzero_si256(); 2]
                            };
                            let code = |j: usize, _: usize| {
                                if !F::WIDE {
                                    return codes[j];
                                }
                                if $whole {
                                    return F::bytes(codes[j]);
                                }
                                let (high, low) = F::nibbles(codes[j / 2]);
                                if j.is_multiple_of(2) { high } else { low }
                            };
                            let [integers] = $integers::<F, 1, T>(code, |h, _| halves[h], x);
                            for t in 0..T {
                                acc[t] = add_block::<F, T>(acc[t], integers[t], &scales, x, t);
                            }
                        }
                        at = at.wrapping_add(F::TILE_BYTES);
                        x.advance(1);
                    }
                }
                acc
            }
        }
    };
}
few!(pairs, "avx2,fma,f16c", integers, whole: false);
few!(vnni, "avx2,fma,f16c,avxvnni", dots_vnni, whole: true);
few!(avx512, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni", dots_avx512, whole: true);
