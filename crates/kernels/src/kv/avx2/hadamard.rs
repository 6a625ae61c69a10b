//! See [`hadamard`](super::super::values::hadamard): the same sums in the same order.

use std::arch::x86_64::*;

use crate::math::avx2::{load, store};

/// The sums and differences of lanes and others: `others + lanes` where a sign is 0, else `others − lanes`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn butterfly(lanes: __m256, others: __m256, signs: __m256) -> __m256 {
    _mm256_add_ps(others, _mm256_xor_ps(lanes, signs))
}

/// Turns a row; its length is that of several vectors for rows that are worth it.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn hadamard(row: &mut [f32]) {
    if row.is_empty() || row.len().trailing_zeros() < 3 {
        return super::super::values::hadamard(row);
    }
    let n = 1usize << row.len().trailing_zeros();
    let norm = _mm256_set1_ps(1.0 / (n as f32).sqrt());
    let minus = -0.0;
    let ones = _mm256_setr_ps(0.0, minus, 0.0, minus, 0.0, minus, 0.0, minus);
    let twos = _mm256_setr_ps(0.0, 0.0, minus, minus, 0.0, 0.0, minus, minus);
    let fours = _mm256_setr_ps(0.0, 0.0, 0.0, 0.0, minus, minus, minus, minus);
    for vectors in row.as_chunks_mut::<8>().0.chunks_exact_mut(n / 8) {
        for vector in vectors.iter_mut() {
            let mut x = load(vector);
            x = butterfly(x, _mm256_permute_ps::<0b10_11_00_01>(x), ones);
            x = butterfly(x, _mm256_permute_ps::<0b01_00_11_10>(x), twos);
            x = butterfly(x, _mm256_permute2f128_ps::<1>(x, x), fours);
            store(vector, x);
        }
        let mut half = 1;
        while half < vectors.len() {
            for pair in vectors.chunks_exact_mut(2 * half) {
                let (left, right) = pair.split_at_mut(half);
                for (left, right) in left.iter_mut().zip(right) {
                    let (a, b) = (load(left), load(right));
                    store(left, _mm256_add_ps(a, b));
                    store(right, _mm256_sub_ps(a, b));
                }
            }
            half *= 2;
        }
        for vector in vectors.iter_mut() {
            store(vector, _mm256_mul_ps(load(vector), norm));
        }
    }
}
