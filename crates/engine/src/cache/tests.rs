//! The exact schemes against the conformance suite.

use half::f16;
use lossy_kernels::KvType;

use super::CacheLayout;
use super::conformance::{Loss, check};

#[test]
fn f16_conforms() {
    let stored = |x: f32| f16::from_f32(x).to_f64();
    check(|_| CacheLayout::exact(KvType::F16), Loss::Exact { stored });
}

#[test]
fn f32_conforms() {
    check(|_| CacheLayout::exact(KvType::F32), Loss::Exact { stored: f64::from });
}
