//! Panels that meet tokens with dot products of bytes in vectors of 512 bits: two strips side by side.
//!
//! Sums of integers are exact in any order, and the operations on floats are those of [`add_block`](super::block::add_block) in
//! the same order, so results have the same bits.

use super::block::Tokens;
use super::many::{Kernel, Layout};
use super::{Format, Place, ROWS};
use crate::activations::{BlockQ8, Operand};
use crate::isa::Avx512;
use crate::matmul::formats::Min;
use crate::simd::{Vector256, Vector512, load_512, load_some_floats, store_some_floats, with_const};
use std::arch::x86_64::*;
use std::ops::Range;

/// Codes of eight bits are used as they are.
type Whole = Layout<true>;

/// `2 · P` strips in vectors of 512 bits.
#[derive(Clone, Copy)]
pub(super) struct Wide<const P: usize> {
    pub proof: Avx512,
    pub kept: Kept,
}

/// Where the sums of some strips are, of which the first `n_kept` are kept.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub place: Place,
    pub n_kept: usize,
}

impl Kept {
    /// Where those of vector `p` and a token are: the sums of two strips are neighbours; of one that is not kept there are none.
    #[inline(always)]
    pub fn sums(self, p: usize, token: usize) -> Range<usize> {
        let at = self.place.at(2 * p, token);
        at..at + (self.n_kept - 2 * p).min(2)
    }
}

impl<F: Format, const R: usize, const P: usize> Kernel<F, R> for Wide<P> {
    const TOKENS: usize = 6;
    const WHOLE: bool = true;
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
        const { assert!(R == 2 * P) };
        let (Wide { proof, kept }, first) = (self, tokens.start);
        let panel: &[Vector512] = bytemuck::cast_slice(panel);
        with_const!(
            T = tokens.len(), in [1, 2, 3, 4, 5, 6],
            // SAFETY: an `Avx512` exists only if detection saw these features.
            unsafe { wide_tile::<F, P, T>(proof, panel, block, x, first, kept, sums) }
        );
    }
}

/// What is beside the codes of a block of two strips.
#[derive(Clone, Copy)]
pub(super) struct WideScaleVectors {
    pub scale: __m512,
    pub min: __m512,
    /// i16 pairs
    pub half_scales: __m512i,
    /// i16 pairs
    pub half_mins: __m512i,
}

impl WideScaleVectors {
    /// The integer scales of either half, an i32 each.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    #[inline]
    pub fn half_factors(&self) -> [__m512i; 2] {
        let first = _mm512_slli_epi32::<16>(self.half_scales);
        [first, self.half_scales].map(|high| _mm512_srai_epi32::<16>(high))
    }
}

/// Adds what the blocks of a panel, from `block` of the operand on, contribute to the sums of the `T` tokens from `first` on. What
/// the first blocks contribute are the sums.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn wide_tile<F: Format, const P: usize, const T: usize>(
    _: Avx512,
    panel: &[Vector512],
    block: usize,
    x: &Operand,
    first: usize,
    kept: Kept,
    sums: &mut [[f32; ROWS]],
) {
    let mut acc = [[_mm512_setzero_ps(); T]; P];
    if block > 0 {
        for p in 0..P {
            for t in 0..T {
                acc[p][t] = load_some_floats(sums[kept.sums(p, first + t)].as_flattened());
            }
        }
    }
    let block_len = Whole::total::<F>() * P;
    let mut x = Tokens::<T>::new(x, first, block, panel.len() / block_len);
    for block in panel.chunks_exact(block_len) {
        // SAFETY: once for each block of the panel.
        let x = unsafe { x.next() };
        let vector = |place: usize, p: usize| load_512(&block[place * P + p]);
        // Both 16-bit halves of a lane are the scale.
        let factor = |half: usize, p: usize| _mm512_srai_epi32::<16>(vector(Whole::half::<F>(half), p));
        let total = wide_dots::<F, P, T>(vector, factor, x);
        for p in 0..P {
            let scales = WideScaleVectors {
                scale: _mm512_castsi512_ps(vector(Whole::scale::<F>(), p)),
                min: _mm512_castsi512_ps(vector(Whole::min::<F>(), p)),
                half_scales: vector(Whole::half::<F>(2), p),
                half_mins: vector(Whole::half::<F>(3), p),
            };
            for t in 0..T {
                acc[p][t] = add_wide_block::<F>(acc[p][t], total[p][t], &scales, x[t]);
            }
        }
    }
    for p in 0..P {
        for t in 0..T {
            store_some_floats(sums[kept.sums(p, first + t)].as_flattened_mut(), acc[p][t]);
        }
    }
}

/// `Σ half_scale · code · x` for each vector of strips and each token, or `Σ (code − offset) · x` if halves have no scales of their own.
/// `code(j, p)` is quad `j`, `factor(h, p)` the scales of half `h`, an i32 each.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
pub(super) fn wide_dots<F: Format, const P: usize, const T: usize>(
    code: impl Fn(usize, usize) -> __m512i,
    factor: impl Fn(usize, usize) -> __m512i,
    x: [&BlockQ8; T],
) -> [[__m512i; T]; P] {
    let mut total = [[_mm512_setzero_si512(); T]; P];
    if F::OFFSET > 0 && !F::HALVES {
        for t in 0..T {
            let (start, shift) = x[t].minus_sum(F::OFFSET);
            let start = _mm512_sllv_epi32(_mm512_set1_epi32(start), _mm512_set1_epi32(shift as i32));
            for p in 0..P {
                total[p][t] = start;
            }
        }
    }
    for half in 0..2 {
        let mut dots = if F::HALVES { [[_mm512_setzero_si512(); T]; P] } else { total };
        for j in 4 * half..4 * (half + 1) {
            let mut codes = [_mm512_setzero_si512(); P];
            for p in 0..P {
                codes[p] = code(j, p);
            }
            for t in 0..T {
                let quad = _mm512_set1_epi32(x[t].quad(j));
                for p in 0..P {
                    dots[p][t] = _mm512_dpbusd_epi32(dots[p][t], codes[p], quad);
                }
            }
        }
        for p in 0..P {
            for t in 0..T {
                total[p][t] = if F::HALVES {
                    _mm512_add_epi32(total[p][t], _mm512_mullo_epi32(dots[p][t], factor(half, p)))
                } else {
                    dots[p][t]
                };
            }
        }
    }
    total
}

/// See [`add_block`](super::block::add_block).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
pub(super) fn add_wide_block<F: Format>(
    sum: __m512,
    mut integer: __m512i,
    scales: &WideScaleVectors,
    x: &BlockQ8,
) -> __m512 {
    let half_sums = _mm512_set1_epi32(bytemuck::cast(x.half_sums));
    if F::OFFSET > 0 && F::HALVES {
        let sums = _mm512_madd_epi16(scales.half_scales, half_sums);
        // A constant power of two: a shift.
        let sums = _mm512_mullo_epi32(sums, _mm512_set1_epi32(i32::from(F::OFFSET)));
        integer = _mm512_sub_epi32(integer, sums);
    }
    let x_scale = _mm512_set1_ps(x.scale);
    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integer), _mm512_mul_ps(scales.scale, x_scale), sum);
    match F::MIN {
        Min::None => sum,
        Min::Block => _mm512_fmadd_ps(scales.min, _mm512_set1_ps(x.scaled_sum), sum),
        Min::Halves => {
            let integer = _mm512_madd_epi16(scales.half_mins, half_sums);
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(integer), _mm512_mul_ps(scales.min, x_scale), sum)
        }
    }
}
