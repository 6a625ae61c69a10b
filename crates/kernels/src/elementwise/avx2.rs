//! The kernels of this folder with 256-bit vectors, with the bits of the scalar forms. Tails of fewer than eight values are
//! padded.

use crate::math::avx2::{load, store};
use crate::math::silu_avx2;
use std::arch::x86_64::*;

/// Up to eight values, padded with zeros.
fn padded(values: &[f32]) -> [f32; 8] {
    let mut eight = [0.0; 8];
    eight[..values.len()].copy_from_slice(values);
    eight
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn sum_of_squares(row: &[f32]) -> f32 {
    let mut lanes = [_mm256_setzero_ps(); 4];
    let (chunks, tail) = row.as_chunks::<32>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
            let x = load(x);
            *lane = _mm256_fmadd_ps(x, x, *lane);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail.chunks(8)) {
        let x = load(&padded(x));
        *lane = _mm256_fmadd_ps(x, x, *lane);
    }
    let ab = _mm256_add_ps(_mm256_add_ps(lanes[0], lanes[2]), _mm256_add_ps(lanes[1], lanes[3]));
    let half = _mm_add_ps(_mm256_castps256_ps128(ab), _mm256_extractf128_ps::<1>(ab));
    let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn rotate(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a8, a_tail) = first.as_chunks_mut::<8>();
    let (b8, b_tail) = second.as_chunks_mut::<8>();
    let (c8, c_tail) = cos.as_chunks::<8>();
    let (s8, s_tail) = sin.as_chunks::<8>();
    for ((a, b), (c, s)) in a8.iter_mut().zip(b8).zip(c8.iter().zip(s8)) {
        let (x, y, c, s) = (load(a), load(b), load(c), load(s));
        store(a, _mm256_fmsub_ps(x, c, _mm256_mul_ps(y, s)));
        store(b, _mm256_fmadd_ps(y, c, _mm256_mul_ps(x, s)));
    }
    super::scalar::rotate(a_tail, b_tail, c_tail, s_tail);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (gate8, gate_tail) = gate.as_chunks::<8>();
    let (up8, up_tail) = up.as_chunks::<8>();
    let (out8, out_tail) = out.as_chunks_mut::<8>();
    for ((out, gate), up) in out8.iter_mut().zip(gate8).zip(up8) {
        store(out, _mm256_mul_ps(silu_avx2(load(gate)), load(up)));
    }
    super::scalar::silu_mul(gate_tail, up_tail, out_tail);
}
