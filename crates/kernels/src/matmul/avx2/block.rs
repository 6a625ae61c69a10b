//! One block of 32 columns: integer sums of rows and tokens, then the float operations of the specification.

use super::Unpack;
use crate::activations::BlockInfo;
use crate::matmul::formats::Min;
use std::arch::{asm, x86_64::*};

/// What is beside the codes of a tile, in registers.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub scale: __m256,
    pub min: __m256,
    /// i16 pairs
    pub half_scales: __m256i,
    /// i16 pairs
    pub half_mins: __m256i,
}

impl Scales {
    /// # Safety
    /// As the methods of [`Unpack`] demand.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub unsafe fn read<F: Unpack>(header: F::Header, tile: *const u8) -> Scales {
        // SAFETY: the caller's promise.
        unsafe {
            Scales {
                scale: F::scale(header, tile),
                min: F::min(header, tile),
                half_scales: F::half_scales(tile),
                half_mins: F::half_mins(tile),
            }
        }
    }
}

/// The tokens of a register tile at one block.
#[derive(Clone, Copy)]
pub(super) struct Tokens<const T: usize> {
    /// 32 codes each
    codes: [*const i8; T],
    infos: [*const BlockInfo; T],
}

impl<const T: usize> Tokens<T> {
    /// Tokens from `first` on, at their first block.
    pub fn new(x: &crate::activations::Operand, first: usize) -> Self {
        let n_blocks = x.n_blocks();
        assert!((first + T) * n_blocks <= x.infos.len() && x.codes.len() == x.infos.len() * 32);
        let at = |t: usize| (first + t) * n_blocks;
        Tokens {
            codes: std::array::from_fn(|t| x.codes[32 * at(t)..].as_ptr()),
            infos: std::array::from_fn(|t| x.infos[at(t)..].as_ptr()),
        }
    }

    /// Moves on by some blocks.
    #[inline(always)]
    pub fn advance(&mut self, n_blocks: usize) {
        for t in 0..T {
            self.codes[t] = self.codes[t].wrapping_add(32 * n_blocks);
            self.infos[t] = self.infos[t].wrapping_add(n_blocks);
        }
    }

    /// Four codes of a token, in all lanes.
    ///
    /// # Safety
    /// The block is one of the operand's.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn quad(&self, t: usize, j: usize) -> __m256i {
        // SAFETY: the caller's promise.
        _mm256_set1_epi32(unsafe { self.four(t, j) })
    }

    /// Codes `4j..4j + 4` of a token, `j < 8`.
    ///
    /// # Safety
    /// The block is one of the operand's.
    #[inline(always)]
    pub unsafe fn four(&self, t: usize, j: usize) -> i32 {
        // SAFETY: a block has 32 codes.
        unsafe { self.codes[t].add(4 * j).cast::<i32>().read_unaligned() }
    }

    /// # Safety
    /// The block is one of the operand's.
    #[inline(always)]
    pub unsafe fn info(&self, t: usize) -> &BlockInfo {
        // SAFETY: the caller's promise.
        unsafe { &*self.infos[t] }
    }
}

/// `Σ half_scale · code · x` for each strip and token. `code(j, r)` is quad `j` of strip `r`; of wide formats quad `2j` holds
/// the high nibbles of quad `j`, `2j + 1` the low ones. `half(h, r)` is the scale of half `h`, both i16 of each lane.
///
/// # Safety
/// The block is one of the operand's.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn integers<F: Unpack, const R: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m256i,
    half: impl Fn(usize, usize) -> __m256i,
    x: Tokens<T>,
) -> [[__m256i; T]; R] {
    let mut total = [[_mm256_setzero_si256(); T]; R];
    if F::WIDE {
        // High nibbles first: one plane's sums are all that lives in registers.
        for plane in 0..2 {
            // SAFETY: the caller's promise.
            let sums = unsafe { sums16::<R, T>(|j, r| code(2 * j + plane, r), x, 0, 8) };
            let factor = _mm256_set1_epi16(if plane == 0 { 16 } else { 1 });
            widen(&mut total, sums, plane == 0, |_| factor);
        }
        return total;
    }
    for first in (0..8).step_by(F::QUADS) {
        // SAFETY: the caller's promise.
        let sums = unsafe { sums16::<R, T>(&code, x, first, F::QUADS) };
        let one = _mm256_set1_epi16(1);
        widen(&mut total, sums, first == 0, |r| if F::HALVES { half(first / 4, r) } else { one });
    }
    total
}

/// [`integers`] with dot products of bytes: codes are whole.
macro_rules! dots {
    ($name:ident, $features:literal, $dot:ident) => {
        /// `Σ half_scale · code · x` for each strip and token, as [`integers`], of whole codes.
        ///
        /// # Safety
        /// The block is one of the operand's.
        #[target_feature(enable = $features)]
        #[inline]
        pub(super) unsafe fn $name<F: Unpack, const R: usize, const T: usize>(
            code: impl Fn(usize, usize) -> __m256i,
            half: impl Fn(usize, usize) -> __m256i,
            x: Tokens<T>,
        ) -> [[__m256i; T]; R] {
            let mut total = [[_mm256_setzero_si256(); T]; R];
            for index in 0..2 {
                let mut sums = if F::HALVES { [[_mm256_setzero_si256(); T]; R] } else { total };
                for j in 4 * index..4 * (index + 1) {
                    let mut codes = [_mm256_setzero_si256(); R];
                    for r in 0..R {
                        codes[r] = code(j, r);
                    }
                    for t in 0..T {
                        // SAFETY: the caller's promise.
                        let quad = unsafe { x.quad(t, j) };
                        for r in 0..R {
                            sums[r][t] = $dot(sums[r][t], codes[r], quad);
                        }
                    }
                }
                for r in 0..R {
                    for t in 0..T {
                        total[r][t] = if F::HALVES {
                            // Both 16-bit halves of a lane are the scale.
                            let factor = _mm256_srai_epi32::<16>(half(index, r));
                            _mm256_add_epi32(total[r][t], _mm256_mullo_epi32(sums[r][t], factor))
                        } else {
                            sums[r][t]
                        };
                    }
                }
            }
            total
        }
    };
}
dots!(dots_vnni, "avx2,fma,f16c,avxvnni", _mm256_dpbusd_avx_epi32);
dots!(dots_avx512, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni", _mm256_dpbusd_epi32);

/// i16 sums of the products of quads `first..first + n`.
///
/// # Safety
/// The block is one of the operand's, and the sums do not overflow.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn sums16<const R: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m256i,
    x: Tokens<T>,
    first: usize,
    n: usize,
) -> [[__m256i; T]; R] {
    let mut sums = [[_mm256_setzero_si256(); T]; R];
    for j in first..first + n {
        let mut codes = [_mm256_setzero_si256(); R];
        for r in 0..R {
            codes[r] = code(j, r);
        }
        for t in 0..T {
            // SAFETY: the caller's promise.
            let quad = unsafe { x.quad(t, j) };
            for r in 0..R {
                let products = _mm256_maddubs_epi16(codes[r], quad);
                sums[r][t] = if j == first { products } else { _mm256_add_epi16(sums[r][t], products) };
                if R * T > 1 {
                    sums[r][t] = here(sums[r][t]);
                }
            }
        }
    }
    sums
}

/// `v` itself, computed at this place. Left alone, the compiler takes the sums one after the other, each over all quads, and
/// keeps every quad of every token in memory: a seventh slower.
#[target_feature(enable = "avx2")]
#[inline]
fn here(mut v: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(ymm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// `total += factor · sums`, neighbours added.
#[target_feature(enable = "avx2")]
#[inline]
fn widen<const R: usize, const T: usize>(
    total: &mut [[__m256i; T]; R],
    sums: [[__m256i; T]; R],
    is_first: bool,
    factor: impl Fn(usize) -> __m256i,
) {
    for r in 0..R {
        let factor = factor(r);
        for t in 0..T {
            let wide = _mm256_madd_epi16(sums[r][t], factor);
            total[r][t] = if is_first { wide } else { _mm256_add_epi32(total[r][t], wide) };
        }
    }
}

/// Both halves' integer scales, each twice in every lane.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn spread(half_scales: __m256i) -> [__m256i; 2] {
    let first = _mm256_slli_epi32::<16>(half_scales);
    let last = _mm256_srli_epi32::<16>(half_scales);
    [
        _mm256_blend_epi16::<0b1010_1010>(half_scales, first),
        _mm256_blend_epi16::<0b0101_0101>(half_scales, last),
    ]
}

/// The float operations of a block for one strip and token.
///
/// # Safety
/// The block is one of the operand's.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) unsafe fn add_block<F: Unpack, const T: usize>(
    sum: __m256,
    mut integer: __m256i,
    scales: &Scales,
    x: Tokens<T>,
    t: usize,
) -> __m256 {
    // SAFETY: the caller's promise.
    let info = unsafe { x.info(t) };
    let half_sums = _mm256_set1_epi32(bytemuck::cast(info.half_sums));
    if F::OFFSET > 0 {
        let sums = if F::HALVES {
            _mm256_madd_epi16(scales.half_scales, half_sums)
        } else {
            _mm256_set1_epi32(info.sum)
        };
        let offset = match F::OFFSET {
            4 => _mm256_slli_epi32::<2>(sums),
            8 => _mm256_slli_epi32::<3>(sums),
            16 => _mm256_slli_epi32::<4>(sums),
            32 => _mm256_slli_epi32::<5>(sums),
            128 => _mm256_slli_epi32::<7>(sums),
            _ => _mm256_mullo_epi32(sums, _mm256_set1_epi32(i32::from(F::OFFSET))),
        };
        integer = _mm256_sub_epi32(integer, offset);
    }
    let x_scale = _mm256_set1_ps(info.scale);
    let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), _mm256_mul_ps(scales.scale, x_scale), sum);
    match F::MIN {
        Min::None => sum,
        Min::Block => _mm256_fmadd_ps(scales.min, _mm256_set1_ps(info.scaled_sum), sum),
        Min::Halves => {
            let integer = _mm256_madd_epi16(scales.half_mins, half_sums);
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), _mm256_mul_ps(scales.min, x_scale), sum)
        }
    }
}
