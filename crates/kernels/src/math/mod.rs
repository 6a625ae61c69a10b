//! Elementary functions in f32, each as one scalar lane and as vectors with **the same bits**.
//!
//! The vector form does per lane exactly the operations of the scalar form (fused where the scalar form says
//! `mul_add`), so results do not depend on the instruction set, nor on where in a vector a value happens to stand.

mod exp;

pub(crate) use exp::silu;
#[cfg(target_arch = "x86_64")]
pub(crate) use exp::silu_avx2;
