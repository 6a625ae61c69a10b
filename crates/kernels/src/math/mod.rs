//! Elementary functions in f32, each as one scalar lane and as vectors with **the same bits**.
//!
//! The vector form does per lane exactly the operations of the scalar form (fused where the scalar form says
//! `mul_add`), so results do not depend on the instruction set, nor on where in a vector a value happens to stand.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod exp;
mod exp2;

pub(crate) use exp::silu;
#[cfg(target_arch = "x86_64")]
pub(crate) use exp::silu_avx2;
pub(crate) use exp2::exp2;
#[cfg(target_arch = "x86_64")]
pub(crate) use exp2::{exp2_avx2, exp2_avx512};

/// Reduces eight lanes in the order that vectors do it in halves: 4 apart, 2 apart, neighbours.
pub(crate) fn across(x: [f32; 8], op: fn(f32, f32) -> f32) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|i| op(x[i], x[i + 4]));
    op(op(four[0], four[2]), op(four[1], four[3]))
}
