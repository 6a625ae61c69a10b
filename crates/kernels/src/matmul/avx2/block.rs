//! One block of 32 columns: integer sums of rows and tokens, then the float operations of the specification.

use super::Format;
use super::unpack::ScaleVectors;
use crate::activations::{BlockQ8, Operand};
use crate::matmul::formats::Min;
use std::arch::{asm, x86_64::*};
use std::marker::PhantomData;
use std::ops::Range;

/// Whether codes have eight bits, two products of which are all that an i16 holds.
pub(super) const fn is_wide<F: Format>() -> bool {
    F::BITS == 8
}

/// What is subtracted from codes within sums of i16. Sums wrap, so it does not matter that products of the codes as they are do not
/// fit: their sum less `bias · Σ x` does.
const fn bias<F: Format>() -> i16 {
    // Half of the range, if there is no offset; `16 · Σ x` comes back as i32, which is cheaper than to widen twice.
    if F::OFFSET == 0 && F::BITS == 5 { 16 } else { F::OFFSET }
}

/// Quads whose products an i16 holds, once the bias is subtracted.
const fn held_quads<F: Format>() -> usize {
    let (below, above) = (bias::<F>() as usize, (1 << F::BITS) - 1 - bias::<F>() as usize);
    i16::MAX as usize / (2 * i8::MAX as usize * if below > above { below } else { above })
}

/// Walks over the blocks of `T` tokens in step. The loops that it is taken through count anyway; comparisons of its own, or
/// addresses made from an index, would be 5 to 10 % more instructions.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a, const T: usize> {
    next: [*const BlockQ8; T],
    blocks: PhantomData<&'a [BlockQ8]>,
}

impl<'a, const T: usize> Tokens<'a, T> {
    /// `n_blocks` blocks, from `block` on, of the tokens from `token` on.
    #[inline]
    pub fn new(x: &Operand<'a>, token: usize, block: usize, n_blocks: usize) -> Self {
        let of = |t: usize| &x.blocks[(token + t) * x.n_blocks() + block..][..n_blocks];
        Tokens { next: std::array::from_fn(|t| of(t).as_ptr()), blocks: PhantomData }
    }

    /// The next block of each token.
    ///
    /// # Safety
    /// It has been called fewer than `n_blocks` times since [`new`](Tokens::new).
    #[inline(always)]
    pub unsafe fn next(&mut self) -> [&'a BlockQ8; T] {
        let at = self.next;
        for t in 0..T {
            self.next[t] = at[t].wrapping_add(1);
        }
        // SAFETY: `new` took slices of `n_blocks` blocks, and the caller promises that there is one more.
        at.map(|at| unsafe { &*at })
    }
}

/// `Σ half_scale · (code − offset) · x` for each strip and token. `code(j, r)` is quad `j` of strip `r`; of wide formats quad `2j`
/// holds the magnitudes of quad `j`, `2j + 1` the signed codes. `half(h, r)` is the scale of half `h`, both i16 of each lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn integers<F: Format, const R: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m256i,
    half: impl Fn(usize, usize) -> __m256i,
    x: [&BlockQ8; T],
) -> [[__m256i; T]; R] {
    if is_wide::<F>() {
        return wide_integers::<R, T>(code, x);
    }
    const { assert!(is_wide::<F>() || held_quads::<F>() >= if F::HALVES { 4 } else { 8 }) };
    let mut total = [[_mm256_setzero_si256(); T]; R];
    let one = _mm256_set1_epi16(1);
    if F::HALVES {
        for h in 0..2 {
            let sums = sums16::<R, T>(&code, x, 4 * h..4 * (h + 1), biases::<F, T>(x, h));
            widen(&mut total, sums, h == 0, |r| half(h, r));
        }
    } else {
        let sums = sums16::<R, T>(&code, x, 0..8, biases::<F, T>(x, 0));
        widen(&mut total, sums, true, |_| one);
    }
    // What `bias` subtracts and the format does not.
    if bias::<F>() > F::OFFSET {
        for t in 0..T {
            let (less, shift) = x[t].minus_sum(bias::<F>() - F::OFFSET);
            let less = _mm256_set1_epi32(less << shift);
            for r in 0..R {
                total[r][t] = _mm256_sub_epi32(total[r][t], less);
            }
        }
    }
    total
}

/// `bias · Σ x` for either i16 of a lane, over all quads, or over those of half `h` if halves have scales of their own.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn biases<F: Format, const T: usize>(x: [&BlockQ8; T], h: usize) -> Option<[__m256i; T]> {
    if bias::<F>() == 0 {
        return None;
    }
    let mut biases = [_mm256_setzero_si256(); T];
    for t in 0..T {
        let all = _mm256_set1_epi32(bytemuck::cast(x[t].pair_sums));
        let first = _mm256_set1_epi32(bytemuck::cast(x[t].first_pair_sums));
        let sums = match (F::HALVES, h) {
            (false, _) => all,
            (true, 0) => first,
            (true, _) => _mm256_sub_epi16(all, first),
        };
        // A constant power of two: a shift.
        biases[t] = _mm256_mullo_epi16(sums, _mm256_set1_epi16(bias::<F>()));
    }
    Some(biases)
}

/// [`integers`] of codes of eight bits: the magnitude of a code meets `x` with the code's sign.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn wide_integers<const R: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m256i,
    x: [&BlockQ8; T],
) -> [[__m256i; T]; R] {
    let mut total = [[_mm256_setzero_si256(); T]; R];
    for j in 0..8 {
        let mut codes = [[_mm256_setzero_si256(); 2]; R];
        for r in 0..R {
            codes[r] = [code(2 * j, r), code(2 * j + 1, r)];
        }
        for t in 0..T {
            let quad = _mm256_set1_epi32(x[t].quad(j));
            for r in 0..R {
                let [magnitudes, signed] = codes[r];
                // 2 · 128 · 127 fits i16.
                let products = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(quad, signed));
                let wide = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
                total[r][t] = here(if j == 0 { wide } else { _mm256_add_epi32(total[r][t], wide) });
            }
        }
    }
    total
}

/// [`integers`] with dot products of bytes, of whole codes. `half(2, r)` has the scales of both halves, an i16 each.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline]
pub(super) fn dots<F: Format, const R: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m256i,
    half: impl Fn(usize, usize) -> __m256i,
    x: [&BlockQ8; T],
) -> [[__m256i; T]; R] {
    let mut total = [[_mm256_setzero_si256(); T]; R];
    if F::OFFSET > 0 && !F::HALVES {
        for t in 0..T {
            let (start, shift) = x[t].minus_sum(F::OFFSET);
            let start = _mm256_sllv_epi32(_mm256_set1_epi32(start), _mm256_set1_epi32(shift as i32));
            for r in 0..R {
                total[r][t] = start;
            }
        }
    }
    for index in 0..2 {
        let mut sums = if F::HALVES { [[_mm256_setzero_si256(); T]; R] } else { total };
        for j in 4 * index..4 * (index + 1) {
            let mut codes = [_mm256_setzero_si256(); R];
            for r in 0..R {
                codes[r] = code(j, r);
            }
            for t in 0..T {
                let quad = _mm256_set1_epi32(x[t].quad(j));
                for r in 0..R {
                    sums[r][t] = _mm256_dpbusd_avx_epi32(sums[r][t], codes[r], quad);
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
    if F::OFFSET > 0 && F::HALVES {
        for t in 0..T {
            let offset = _mm256_set1_epi32(i32::from(F::OFFSET));
            let half_sums = _mm256_set1_epi32(bytemuck::cast(x[t].half_sums));
            for r in 0..R {
                let sums = _mm256_madd_epi16(half(2, r), half_sums);
                total[r][t] = _mm256_sub_epi32(total[r][t], _mm256_mullo_epi32(sums, offset));
            }
        }
    }
    total
}

/// i16 sums of the products of some quads, less the `biases` of the tokens.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sums16<const R: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m256i,
    x: [&BlockQ8; T],
    quads: Range<usize>,
    biases: Option<[__m256i; T]>,
) -> [[__m256i; T]; R] {
    let mut sums = [[_mm256_setzero_si256(); T]; R];
    for j in quads.clone() {
        let mut codes = [_mm256_setzero_si256(); R];
        for r in 0..R {
            codes[r] = code(j, r);
        }
        for t in 0..T {
            let quad = _mm256_set1_epi32(x[t].quad(j));
            for r in 0..R {
                let products = _mm256_maddubs_epi16(codes[r], quad);
                sums[r][t] = match biases {
                    _ if j > quads.start => _mm256_add_epi16(sums[r][t], products),
                    Some(biases) => _mm256_sub_epi16(products, biases[t]),
                    None => products,
                };
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
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn here(mut v: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(ymm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// `total += factor · sums`, neighbours added.
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn spread(half_scales: __m256i) -> [__m256i; 2] {
    let first = _mm256_slli_epi32::<16>(half_scales);
    let last = _mm256_srli_epi32::<16>(half_scales);
    [
        _mm256_blend_epi16::<0b1010_1010>(half_scales, first),
        _mm256_blend_epi16::<0b0101_0101>(half_scales, last),
    ]
}

/// The float operations of a block for one strip and token, of what [`integers`] gives.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn add_block<F: Format>(
    sum: __m256,
    integer: __m256i,
    scales: &ScaleVectors,
    x: &BlockQ8,
) -> __m256 {
    let x_scale = _mm256_set1_ps(x.scale);
    let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), _mm256_mul_ps(scales.scale, x_scale), sum);
    match F::MIN {
        Min::None => sum,
        Min::Block => _mm256_fmadd_ps(scales.min, _mm256_set1_ps(x.scaled_sum), sum),
        Min::Halves => {
            let half_sums = _mm256_set1_epi32(bytemuck::cast(x.half_sums));
            let integer = _mm256_madd_epi16(scales.half_mins, half_sums);
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer), _mm256_mul_ps(scales.min, x_scale), sum)
        }
    }
}
