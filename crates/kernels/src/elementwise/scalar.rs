//! The specification of the kernels in this folder.

use crate::math::silu;

/// Σ x² in 32 lanes, value `i` in lane `i % 32`, folded in halves. The vector forms add in the same order.
pub(super) fn sum_of_squares(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 32];
    for chunk in row.chunks(32) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = x.mul_add(*x, *lane);
        }
    }
    let mut n = lanes.len();
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

/// Rotates the pairs `(first[i], second[i])`.
pub(super) fn rotate(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((a, b), (c, s)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
        (*a, *b) = (a.mul_add(*c, -(*b * s)), b.mul_add(*c, *a * s));
    }
}

/// `silu(gate) · up`
pub(super) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = silu(*gate) * up;
    }
}
