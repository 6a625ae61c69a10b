//! What encoders promise, for every format that can be computed, on blocks of every kind.

use lossy_quant::{DType, QuantError, dequantize, fit, quantize};
use proptest::prelude::*;

fn computable() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|dtype| dtype.is_computable())
}

fn with_scales() -> impl Iterator<Item = DType> {
    computable().filter(|dtype| dtype.block_len() > 1)
}

fn encoded(dtype: DType, values: &[f32], weights: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xAA; dtype.bytes_for(values.len()).unwrap()];
    quantize(dtype, values, weights, &mut bytes).unwrap_or_else(|error| panic!("{dtype}: {error}"));
    bytes
}

fn decoded(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize(dtype, bytes, &mut values).unwrap();
    values
}

fn error(values: &[f32], rounded: &[f32], weights: Option<&[f32]>) -> f64 {
    let weight = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[i]));
    (0..values.len()).map(|i| weight(i) * f64::from(values[i] - rounded[i]).powi(2)).sum()
}

/// Numbers as weights have them, normally distributed, from a seed.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 33) as u32) / f64::from(1u32 << 31)
    };
    (0..n).map(|_| (0.05 * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)) as f32).collect()
}

/// With one scale for all values, always. Two factors of a scale can stand for the same grid in several ways, of which the
/// search does not see all: there a few blocks change, by much less than quantizing them did.
#[test]
fn what_lies_on_a_grid_is_not_changed() {
    const BLOCKS: u64 = 200;
    for dtype in computable() {
        let mut n_changed = 0;
        for seed in 0..BLOCKS {
            let once = decoded(dtype, &encoded(dtype, &normal(256, seed), None));
            let twice = decoded(dtype, &encoded(dtype, &once, None));
            n_changed += u64::from(once != twice);
            let lost = error(&once, &twice, None) / error(&once, &[0.0; 256], None);
            assert!(lost < 3e-4, "{dtype}, seed {seed}: {lost}");
        }
        let allowed = if dtype.block_len() == 256 { BLOCKS / 10 } else { 0 };
        assert!(n_changed <= allowed, "{dtype}: {n_changed} of {BLOCKS} blocks changed");
    }
}

#[test]
fn constants_zeros_and_lonely_values_survive() {
    let lonely = |x: f32| (0..256).map(|i| if i == 77 { x } else { 0.0 }).collect::<Vec<f32>>();
    for dtype in computable() {
        assert!(decoded(dtype, &encoded(dtype, &[0.0; 256], None)).iter().all(|&x| x == 0.0), "{dtype}");
        for x in [0.375f32, -0.375, 3.3, -1.0] {
            for values in [vec![x; 256], lonely(x)] {
                let back = decoded(dtype, &encoded(dtype, &values, None));
                // Half precision has 11 bits, and Q4_K two factors of the scale: nothing but their rounding is lost.
                for (i, (&wanted, &found)) in values.iter().zip(&back).enumerate() {
                    // The levels of IQ4_NL are at least 1/127 of the largest away from 0.
                    let bound = match dtype {
                        DType::IQ4NL | DType::IQ4XS => 0.009,
                        DType::BF16 => 0.004,
                        _ => 0.002,
                    } * x.abs();
                    assert!((wanted - found).abs() <= bound, "{dtype}, {x} at {i}: {found}, not {wanted}");
                }
            }
        }
    }
}

#[test]
fn one_outlier_takes_no_more_than_its_block() {
    for dtype in with_scales() {
        let mut values = normal(512, 9);
        values[300] = 40.0;
        let back = decoded(dtype, &encoded(dtype, &values, None));
        assert!((back[300] - 40.0).abs() < 2.5, "{dtype}: {}", back[300]);
        let alone = decoded(dtype, &encoded(dtype, &values[..256], None));
        assert_eq!(back[..256], alone, "{dtype}");
    }
}

#[test]
fn the_smallest_and_the_largest_numbers_are_written_or_refused() {
    for dtype in with_scales() {
        for tiny in [f32::from_bits(1), 1e-30, 1e-10] {
            let values: Vec<f32> = (0..256).map(|i| (i as f32 - 100.0) * tiny).collect();
            let back = decoded(dtype, &encoded(dtype, &values, None));
            // Below the smallest half everything is 0, or that.
            assert!(back.iter().all(|x| x.abs() < 2e-5), "{dtype}");
        }
        let mut values = normal(512, 3);
        values.iter_mut().for_each(|x| *x *= 2e4);
        let back = decoded(dtype, &encoded(dtype, &values, None));
        assert!(error(&values, &back, None) < 0.2 * error(&values, &[0.0; 512], None), "{dtype}");
        for huge in [1e12, -1e30, f32::MAX] {
            values[300] = huge;
            let refused = fit(dtype, &values, None).unwrap_err();
            assert_eq!(refused, QuantError::TooLarge { dtype, at: 300, value: huge });
        }
        // The scale of these is beyond half precision, and the values are not.
        values.fill(0.0);
        for large in [9e8, -9e8] {
            values[301] = large;
            let refused = fit(dtype, &values, None).unwrap_err();
            assert_eq!(refused, QuantError::TooLarge { dtype, at: 301, value: large });
        }
    }
    let refused = quantize(DType::F16, &[1.0, 7e4], None, &mut [0; 4]).unwrap_err();
    assert_eq!(refused.to_string(), "value 1 is 70000, too large for F16");
}

#[test]
fn what_is_no_number_is_refused_with_its_place() {
    for dtype in computable() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = normal(512, 5);
            values[333] = bad;
            let mut bytes = vec![0; dtype.bytes_for(512).unwrap()];
            let refused = quantize(dtype, &values, None, &mut bytes).unwrap_err();
            assert!(matches!(refused, QuantError::NotFinite { at: 333, .. }), "{dtype}: {refused}");
        }
    }
    for bad in [f32::NAN, f32::INFINITY, -0.1] {
        let mut weights = vec![1.0; 32];
        weights[7] = bad;
        let refused = fit(DType::Q4_0, &normal(32, 1), Some(&weights)).unwrap_err();
        assert!(matches!(refused, QuantError::Weight { at: 7, .. }), "{refused}");
    }
    assert_eq!(fit(DType::F16, &[0.0; 32], None).unwrap_err().to_string(), "F16 has no scales");
    assert!(fit(DType::IQ2S, &[0.0; 256], None).is_err());
}

#[test]
fn weights_move_the_error_to_where_it_counts_less() {
    for dtype in with_scales() {
        let values = normal(2048, 11);
        let weights: Vec<f32> = normal(2048, 12).iter().map(|x| (30.0 * x).exp()).collect();
        let plain = decoded(dtype, &encoded(dtype, &values, None));
        let weighted = decoded(dtype, &encoded(dtype, &values, Some(&weights)));
        let ratio = error(&values, &weighted, Some(&weights)) / error(&values, &plain, Some(&weights));
        assert!(ratio < 0.98, "{dtype}: {ratio}");
        assert!(error(&values, &weighted, None) > error(&values, &plain, None), "{dtype}");
        // Only ratios count, and where all weights are 0 they are taken for equal.
        let tiny: Vec<f32> = weights.iter().map(|w| w * f32::powi(2.0, -40)).collect();
        assert_eq!(encoded(dtype, &values, Some(&tiny)), encoded(dtype, &values, Some(&weights)), "{dtype}");
        assert_eq!(encoded(dtype, &values, Some(&[0.0; 2048])), encoded(dtype, &values, None), "{dtype}");
    }
}

/// No single change of a code may make the error smaller: the nearest level of the final scales is what is stored.
#[test]
fn every_value_is_at_its_nearest_level() {
    for dtype in with_scales() {
        let values = normal(512, 21);
        let grid = fit(dtype, &values, None).unwrap();
        let n_codes = match dtype {
            DType::Q2K => 4,
            DType::Q3K => 8,
            DType::Q5_0 | DType::Q5_1 | DType::Q5K => 32,
            DType::Q6K => 64,
            DType::Q8_0 => 255,
            _ => 16,
        };
        let mut all = vec![vec![0.0; values.len()]; n_codes];
        let mut bytes = vec![0; dtype.bytes_for(values.len()).unwrap()];
        for (code, of_code) in all.iter_mut().enumerate() {
            grid.encode(&vec![code as u8; values.len()], &mut bytes);
            dequantize(dtype, &bytes, of_code).unwrap();
        }
        for (at, &value) in values.iter().enumerate() {
            let rounded = grid.round(at, value);
            let distance = (rounded.value - value).abs();
            let least = all.iter().map(|of_code| (of_code[at] - value).abs()).fold(f32::INFINITY, f32::min);
            assert!(distance <= least * 1.0001, "{dtype}, value {at}: {distance}, but {least} is possible");
            assert_eq!(all[usize::from(rounded.code)][at], rounded.value, "{dtype}, value {at}");
        }
    }
}

fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -1.0f32..1.0,
        2 => (-6.0f32..3.0, any::<bool>()).prop_map(|(e, sign)| if sign { 10f32.powf(e) } else { -(10f32.powf(e)) }),
        1 => Just(0.0f32),
        1 => Just(-0.0f32),
        1 => Just(0.5f32),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The object that rounds, the bytes, and the decoder say the same, for values that the scales were not made for too.
    #[test]
    fn bytes_are_decoded_to_what_was_rounded(
        values in proptest::collection::vec(any_value(), 512),
        others in proptest::collection::vec(any_value(), 512),
        weights in proptest::option::of(proptest::collection::vec(0.0f32..10.0, 512)),
    ) {
        for dtype in with_scales() {
            let grid = fit(dtype, &values, weights.as_deref()).unwrap();
            prop_assert_eq!((grid.dtype(), grid.n_values()), (dtype, 512));
            let rounded: Vec<_> = others.iter().enumerate().map(|(at, &x)| grid.round(at, x)).collect();
            let codes: Vec<u8> = rounded.iter().map(|rounded| rounded.code).collect();
            let mut bytes = vec![0; dtype.bytes_for(512).unwrap()];
            grid.encode(&codes, &mut bytes);
            for (at, (found, rounded)) in decoded(dtype, &bytes).iter().zip(&rounded).enumerate() {
                prop_assert_eq!(found.to_bits(), rounded.value.to_bits(), "{}, value {}", dtype, at);
            }
        }
    }

    /// Blocks on a grid with one half-precision scale are found exactly, however few of its levels they use.
    #[test]
    fn simple_grids_are_found_again(
        codes in proptest::collection::vec(-8i8..8, 32),
        scale in 1e-3f32..10.0,
    ) {
        let d = lossy_quant::f16::from_f32(scale).to_f32();
        let values: Vec<f32> = codes.iter().map(|&q| d * f32::from(q)).collect();
        for dtype in [DType::Q4_0, DType::Q5_0, DType::Q8_0] {
            prop_assert_eq!(&decoded(dtype, &encoded(dtype, &values, None)), &values, "{}", dtype);
        }
    }

    #[test]
    fn an_error_is_never_larger_than_that_of_writing_zeros(
        values in proptest::collection::vec(any_value(), 256),
    ) {
        for dtype in with_scales() {
            let back = decoded(dtype, &encoded(dtype, &values, None));
            let (found, zeros) = (error(&values, &back, None), error(&values, &[0.0; 256], None));
            prop_assert!(found <= zeros * 1.0001, "{}: {} above {}", dtype, found, zeros);
        }
    }
}
