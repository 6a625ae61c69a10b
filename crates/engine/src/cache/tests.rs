//! The exact schemes against the conformance suite.

use half::f16;
use lossy_kernels::KvType;

use super::conformance::{Loss, check};
use super::scheme;

#[test]
fn f16_conforms() {
    let stored = |x: f32| f16::from_f32(x).to_f64();
    check(|geometry| scheme::exact(KvType::F16, geometry.head_dim), Loss::Exact { stored });
}

#[test]
fn f32_conforms() {
    check(|geometry| scheme::exact(KvType::F32, geometry.head_dim), Loss::Exact { stored: f64::from });
}
