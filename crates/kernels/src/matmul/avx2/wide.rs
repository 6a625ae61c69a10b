//! Panels that meet tokens with dot products of bytes in vectors of 512 bits: two strips side by side.
//!
//! Sums of integers are exact in any order, and the operations on floats are those of [`add_block`](super::block::add_block) in
//! the same order, so results have the same bits.

use super::block::Tokens;
use super::many::{Layout, Place, Tile, VECTOR};
use super::{ROWS, Unpack};
use crate::activations::Operand;
use crate::matmul::formats::Min;
use std::arch::x86_64::*;
use std::ops::Range;

/// Codes of eight bits are used as they are.
type Whole = Layout<true>;

/// `2 · P` strips in vectors of 512 bits, of which the first `n_kept` are kept.
#[derive(Clone, Copy)]
pub(super) struct Wide<const P: usize> {
    pub place: Place,
    pub n_kept: usize,
}

impl<F: Unpack, const R: usize, const P: usize> Tile<F, R> for Wide<P> {
    const TOKENS: usize = 6;
    const WHOLE: bool = true;

    unsafe fn add(
        self,
        panel: &[u8],
        blocks: Range<usize>,
        x: &Operand,
        tokens: Range<usize>,
        sums: &mut [f32],
    ) {
        assert!(R == 2 * P);
        let first = tokens.start;
        // SAFETY: the caller's promise.
        unsafe {
            match tokens.len() {
                1 => wide_tile::<F, P, 1>(panel, blocks, x, first, self, sums),
                2 => wide_tile::<F, P, 2>(panel, blocks, x, first, self, sums),
                3 => wide_tile::<F, P, 3>(panel, blocks, x, first, self, sums),
                4 => wide_tile::<F, P, 4>(panel, blocks, x, first, self, sums),
                5 => wide_tile::<F, P, 5>(panel, blocks, x, first, self, sums),
                _ => wide_tile::<F, P, 6>(panel, blocks, x, first, self, sums),
            }
        }
    }
}

/// What is beside the codes of a block of two strips.
#[derive(Clone, Copy)]
struct WideScales {
    scale: __m512,
    min: __m512,
    /// i16 pairs
    half_scales: __m512i,
    /// i16 pairs
    half_mins: __m512i,
}

/// # Safety
/// See [`Tile::add`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn wide_tile<F: Unpack, const P: usize, const T: usize>(
    panel: &[u8],
    blocks: Range<usize>,
    x: &Operand,
    first: usize,
    kernel: Wide<P>,
    sums: &mut [f32],
) {
    let Wide { place, n_kept } = kernel;
    let mut x = Tokens::<T>::new(x, first);
    x.advance(blocks.start);
    let mut acc = [[_mm512_setzero_ps(); T]; P];
    // The sums of two strips are neighbours; of one that is not kept there are none.
    let kept = |p: usize| (n_kept - 2 * p).min(2) * ROWS;
    for p in 0..P {
        for t in 0..T {
            let from = &sums[place.at(2 * p, first + t)..][..kept(p)];
            // SAFETY: as many values as the mask says.
            acc[p][t] = unsafe { _mm512_maskz_loadu_ps(mask(kept(p)), from.as_ptr()) };
        }
    }
    let mut block = panel.as_ptr();
    for _ in blocks {
        let vector = |place: usize, p: usize| {
            // SAFETY: the block has it, and the panel is aligned.
            unsafe { _mm512_load_si512(block.add((place * P + p) * 2 * VECTOR).cast()) }
        };
        let mut total = [[_mm512_setzero_si512(); T]; P];
        for half in 0..2 {
            let mut dots = if F::HALVES { [[_mm512_setzero_si512(); T]; P] } else { total };
            for j in 4 * half..4 * (half + 1) {
                let mut codes = [_mm512_setzero_si512(); P];
                for p in 0..P {
                    codes[p] = vector(j, p);
                }
                for t in 0..T {
                    // SAFETY: `x` is at one of its blocks.
                    let four = _mm512_set1_epi32(unsafe { x.four(t, j) });
                    for p in 0..P {
                        dots[p][t] = _mm512_dpbusd_epi32(dots[p][t], codes[p], four);
                    }
                }
            }
            for p in 0..P {
                // Both 16-bit halves of a lane are the scale.
                let factor = _mm512_srai_epi32::<16>(vector(Whole::half::<F>(half), p));
                for t in 0..T {
                    total[p][t] = if F::HALVES {
                        _mm512_add_epi32(total[p][t], _mm512_mullo_epi32(dots[p][t], factor))
                    } else {
                        dots[p][t]
                    };
                }
            }
        }
        for p in 0..P {
            let scales = WideScales {
                scale: _mm512_castsi512_ps(vector(Whole::scale::<F>(), p)),
                min: _mm512_castsi512_ps(vector(Whole::min::<F>(), p)),
                half_scales: vector(Whole::half::<F>(2), p),
                half_mins: vector(Whole::half::<F>(3), p),
            };
            for t in 0..T {
                // SAFETY: as above.
                acc[p][t] = unsafe { add_wide_block::<F, T>(acc[p][t], total[p][t], &scales, x, t) };
            }
        }
        block = block.wrapping_add(Whole::total::<F>() * 2 * P * VECTOR);
        x.advance(1);
    }
    for p in 0..P {
        for t in 0..T {
            let to = &mut sums[place.at(2 * p, first + t)..][..kept(p)];
            // SAFETY: as many values as the mask says.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask(kept(p)), acc[p][t]) };
        }
    }
}

/// The first `n` of sixteen lanes.
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// See [`add_block`](super::block::add_block).
///
/// # Safety
/// The block is one of the operand's.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline]
unsafe fn add_wide_block<F: Unpack, const T: usize>(
    sum: __m512,
    mut integer: __m512i,
    scales: &WideScales,
    x: Tokens<T>,
    t: usize,
) -> __m512 {
    // SAFETY: the caller's promise.
    let info = unsafe { x.info(t) };
    let half_sums = _mm512_set1_epi32(bytemuck::cast(info.half_sums));
    if F::OFFSET > 0 {
        let offset = i32::from(F::OFFSET);
        let sums = if F::HALVES {
            // A constant power of two: a shift.
            let sums = _mm512_madd_epi16(scales.half_scales, half_sums);
            _mm512_mullo_epi32(sums, _mm512_set1_epi32(offset))
        } else {
            _mm512_set1_epi32(info.sum * offset)
        };
        integer = _mm512_sub_epi32(integer, sums);
    }
    let x_scale = _mm512_set1_ps(info.scale);
    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integer), _mm512_mul_ps(scales.scale, x_scale), sum);
    match F::MIN {
        Min::None => sum,
        Min::Block => _mm512_fmadd_ps(scales.min, _mm512_set1_ps(info.scaled_sum), sum),
        Min::Halves => {
            let integer = _mm512_madd_epi16(scales.half_mins, half_sums);
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(integer), _mm512_mul_ps(scales.min, x_scale), sum)
        }
    }
}
