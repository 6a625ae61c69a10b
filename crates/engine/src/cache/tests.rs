//! Every scheme against the conformance suite.

use std::sync::Arc;

use half::f16;
use lossy_kernels::KvType;

use super::code::PageCode;
use super::conformance::GEOMETRY;
use super::conformance::{Loss, check, check_heads, check_layers};
use super::{Budget, CacheLayout, Calibration, Context, HeadStatistics, KvGeometry, KvPool, KvScheme};
use crate::positions::{Positions, Rope, RopeConfig, RopeScaling};

#[test]
fn f16_conforms() {
    let stored = |x: f32| f16::from_f32(x).to_f64();
    check(|_| CacheLayout::exact(KvType::F16), Loss::Exact { stored });
}

#[test]
fn rungs_of_the_ladder_take_more_bits_than_those_below_and_the_last_is_exact() {
    let ladder = KvScheme::ladder();
    let names: Vec<String> = ladder.iter().map(KvScheme::to_string).collect();
    assert_eq!(names, ["k2v2", "k3v2", "k3v3", "k4v3", "k4v4", "q8", "f16"]);
    let bytes = |name: &String| {
        let layout = layout(name);
        let exact = layout.exact.bytes_per_head(GEOMETRY.head_dim);
        layout.packed.map_or(exact, |packed| packed.codes[0].bytes_per_head())
    };
    assert!(names.iter().map(bytes).is_sorted_by(|a, b| a < b), "{names:?}");
    assert!(ladder.last().is_some_and(KvScheme::is_exact));
}

#[test]
fn f32_conforms() {
    check(|_| CacheLayout::exact(KvType::F32), Loss::Exact { stored: f64::from });
}

/// What is known of the suite's keys and values, which have mean 0 and size 1 in every channel.
fn calibration(geometry: &KvGeometry) -> Calibration {
    let d = geometry.head_dim;
    let head = HeadStatistics {
        key_mean: vec![0.0; d],
        key_variance: vec![1.0; d],
        query_square: vec![1.0; d],
        value_mean: vec![0.0; d],
        value_size: 1.0,
    };
    Calibration::new(vec![vec![head; geometry.n_kv_heads]; geometry.n_layers], 1)
}

pub(super) fn layout(scheme: &str) -> CacheLayout {
    layout_for(&GEOMETRY, scheme)
}

fn layout_for(geometry: &KvGeometry, scheme: &str) -> CacheLayout {
    let calibration = calibration(geometry);
    let context = Context { geometry, calibration: Some(&calibration) };
    let scheme: KvScheme = scheme.parse().unwrap_or_else(|error| panic!("{scheme}: {error}"));
    scheme.layout(&context).unwrap_or_else(|error| panic!("{scheme}: {error}"))
}

/// How far the kernel that reads codes may be from the one that reads what they stand for: the bound of
/// `lossy_kernels::kv`'s tests on the suite's keys and queries, which have size 1 in 32 channels. A query channel is
/// `log₂e/√32 = 0.26`, the largest of 32 up to 3.5 times that. It meets steps of `step` (the sizes of channels' codes), and
/// codes that with their steps have the size of keys; integers go up to `query_top` and `weight_top`.
fn rounding(query_top: f64, weight_top: f64) -> f64 {
    let largest = 3.5 * std::f64::consts::LOG2_E / 32f64.sqrt();
    let scores = std::f64::consts::LN_2 * largest / query_top * (32.0f64 / 12.0).sqrt();
    let weights = (128.0f64 / 12.0).sqrt() / weight_top;
    3.0 * scores.hypot(weights) + 2.2e-4
}

/// Queries and weights of 8 bits: 0.045.
fn rounding_8() -> f64 {
    rounding(127.0, 255.0)
}

/// Of 16 bits: 6e-4.
fn rounding_16() -> f64 {
    rounding(32767.0, 32767.0)
}

#[test]
fn calibrated_schemes_conform() {
    for (scheme, loss) in [
        ("k2v2", 0.6),
        ("k2v2:sinks=0,residual=0", 0.7),
        ("k3v3", 0.4),
        ("k4v4", 0.15),
        ("k4v4:calibration=none", 0.15),
        ("k3v2:sinks=40,residual=256", 0.5),
        ("k2v2:layers=1:k2v3", 0.6),
    ] {
        check(|_| layout(scheme), Loss::Packed { loss, rounding: rounding_8() });
    }
}

#[test]
fn kivi_conforms() {
    for (scheme, loss) in [
        ("kivi2", 0.8),
        ("kivi4:residual_length=0", 0.3),
        ("kivi4:sinks=8,residual_length=256", 0.15),
        ("kivi2:residual=128", 0.8),
    ] {
        check(|_| layout(scheme), Loss::Packed { loss, rounding: rounding_8() });
    }
}

#[test]
fn q8_conforms() {
    for (scheme, loss) in [("q8", 0.02), ("q8:sinks=40,residual=128", 0.01)] {
        check(|_| layout(scheme), Loss::Packed { loss, rounding: rounding_16() });
    }
}

#[test]
fn schemes_whose_layers_differ_conform() {
    // Values are turned before they are rounded to f16, and the two kernels for f16 have the same bits.
    let f16 = Loss::Packed { loss: 1e-3, rounding: 0.0 };
    let coded = |loss| Loss::Packed { loss, rounding: rounding_8() };
    let q8 = Loss::Packed { loss: 0.02, rounding: rounding_16() };
    for (scheme, losses) in [
        ("k2v2:first=1:f16", [f16, coded(0.6)]),
        ("k2v2:first=1:f16,last=1:f16", [f16, f16]),
        ("k2v2:layers=0:k4v4", [coded(0.15), coded(0.6)]),
        ("k3v3:sinks=0,layers=1:f16", [coded(0.4), f16]),
        ("kivi2:layers=1:q8", [coded(0.8), q8]),
        ("q8:first=1:f16", [f16, q8]),
    ] {
        check_layers(|_| layout(scheme), losses);
    }
}

/// Heads of models such as Phi-2 (80), OpenLLaMA 3B (100) and those of 96, 112 and 120 channels; and of 36, which are no
/// whole number of vectors and more zeros than others.
const HEADS: [usize; 6] = [36, 80, 96, 100, 112, 120];

#[test]
fn exact_schemes_conform_for_heads_of_any_size() {
    for head_dim in HEADS {
        let f16 = |x: f32| f16::from_f32(x).to_f64();
        check_heads(head_dim, |_| CacheLayout::exact(KvType::F16), Loss::Exact { stored: f16 });
        check_heads(head_dim, |_| CacheLayout::exact(KvType::F32), Loss::Exact { stored: f64::from });
    }
}

#[test]
fn codes_conform_for_heads_of_any_size() {
    // Every size meets at least two schemes.
    for (scheme, loss, rounding, heads) in [
        ("k2v2", 0.6, rounding_8(), &HEADS[..]),
        ("k4v4", 0.15, rounding_8(), &[96, 120]),
        ("kivi2", 0.8, rounding_8(), &[36, 80, 112]),
        ("q8", 0.02, rounding_16(), &[36, 100, 112]),
    ] {
        for head_dim in heads.iter().copied() {
            check_heads(head_dim, |geometry| layout_for(geometry, scheme), Loss::Packed { loss, rounding });
        }
    }
}

/// What zeros cost is billed to the channels that are there. Keys of k2v2 do not store any.
#[test]
fn zeros_beside_a_heads_channels_are_billed() {
    let bits = |head_dim: usize, scheme: &str| {
        let geometry = KvGeometry { head_dim, ..GEOMETRY };
        let rope = Rope::new(&RopeConfig { base: 10_000.0, scaling: RopeScaling::None }, head_dim);
        let positions = Arc::new(Positions::linear(rope, 128));
        let layout = layout_for(&geometry, scheme);
        KvPool::with_layout(geometry, layout, positions, Budget::new(None)).bits_per_value()
    };
    for (head_dim, stored) in [(80, 96.0), (100, 128.0), (112, 128.0), (120, 128.0)] {
        let share = stored / head_dim as f64;
        assert_eq!(bits(head_dim, "f16"), 16.0 * (head_dim.next_multiple_of(8) as f64) / head_dim as f64);
        // Pages are whole cache lines.
        assert!((bits(head_dim, "q8") / (8.5 * share) - 1.0).abs() < 0.01);
        assert!((bits(head_dim, "kivi2") / bits(128, "kivi2") - share).abs() < 0.05);
        let (keys, values) = (2.25, 2.0 * share);
        let gains = 8.0 / head_dim as f64;
        assert!((bits(head_dim, "k2v2") - (keys + values) / 2.0 - gains).abs() < 0.05, "{head_dim}");
    }
}

#[test]
fn a_scheme_that_does_not_fit_the_model_says_what_would() {
    let geometry = KvGeometry { head_dim: 80, ..GEOMETRY };
    let context = Context { geometry: &geometry, calibration: None };
    let scheme: KvScheme = "kivi2:group_size=64".parse().unwrap_or_else(|error| panic!("{error}"));
    let error = scheme.layout(&context).expect_err("80 channels").to_string();
    assert!(error.contains("80 channels") && error.contains("set group_size=32"), "{error}");
    let context = Context { geometry: &GEOMETRY, calibration: None };
    let scheme: KvScheme = "k2v2".parse().unwrap_or_else(|error| panic!("{error}"));
    assert!(scheme.layout(&context).expect_err("not calibrated").to_string().contains("calibrated"));
    let scheme: KvScheme = "k2v2:first=2:f16,last=1:f16".parse().unwrap_or_else(|error| panic!("{error}"));
    assert!(scheme.layout(&context).expect_err("three layers of two").to_string().contains("3 layers"));
    let scheme: KvScheme = "k2v2:layers=7:f16".parse().unwrap_or_else(|error| panic!("{error}"));
    assert!(scheme.layout(&context).expect_err("layer 7 of two").to_string().contains("no layer 7"));
}

#[test]
fn layers_that_a_scheme_leaves_exact_are_f16() {
    let layout = layout("k2v2:first=1:f16");
    let codes = layout.packed.expect("a packed layout").codes;
    assert_eq!(codes[0].bits_per_value(GEOMETRY.head_dim), 16.0);
    assert!(codes[1].bits_per_value(GEOMETRY.head_dim) < 3.0);
}

#[test]
fn layers_are_stored_as_the_scheme_that_is_named_for_them() {
    let mixed = layout("k2v2:layers=1:k4v4").packed.expect("a packed layout").codes;
    let plain = |scheme: &str| layout(scheme).packed.expect("a packed layout").codes;
    let bits = |code: &Arc<dyn PageCode>| code.bits_per_value(GEOMETRY.head_dim);
    assert_eq!(bits(&mixed[0]), bits(&plain("k2v2")[0]));
    assert_eq!(bits(&mixed[1]), bits(&plain("k4v4")[1]));
}
