//! Blocks mean what the Python package `gguf` says they mean: see tools/make_quant_fixtures.py.
//!
//! Equality is of bits, NaN apart (any NaN equals any other): the package computes `scale × code − minimum` in single
//! precision with one rounding per operation and in the order that our formulas have, and Rust never fuses them.

use lossy_quant::{DType, dequantize, quantize};
use std::path::PathBuf;

fn fixture(dtype: DType, kind: &str) -> Vec<u8> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/quant"));
    let path = directory.join(format!("{dtype}.{kind}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn singles(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[test]
fn every_computable_format_reads_as_the_reference_does() {
    // F32 is its own reference.
    for &dtype in DType::ALL.iter().filter(|&&dtype| dtype.is_computable() && dtype != DType::F32) {
        let file = fixture(dtype, "dequantize");
        let n_blocks = file.len() / (dtype.block_bytes() + 4 * dtype.block_len());
        assert!(n_blocks >= 11, "{dtype}: only {n_blocks} blocks");
        let (blocks, expected) = file.split_at(n_blocks * dtype.block_bytes());
        let expected = singles(expected);
        let mut values = vec![0.0; expected.len()];
        dequantize(dtype, blocks, &mut values).unwrap();
        for (i, (&found, &expected)) in values.iter().zip(&expected).enumerate() {
            let (block, at) = (i / dtype.block_len(), i % dtype.block_len());
            assert!(same(found, expected), "{dtype}, block {block}, value {at}: {found:e}, not {expected:e}");
        }
    }
}

/// The package rounds each value on the scale that the largest one gives; the values have every kind of block.
#[test]
fn blocks_are_nearer_to_their_values_than_those_of_the_reference() {
    for dtype in [DType::BF16, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0] {
        let file = fixture(dtype, "quantize");
        let n_values = file.len() * dtype.block_len() / (dtype.block_bytes() + 4 * dtype.block_len());
        assert!(n_values >= 32 * 30, "{dtype}: only {n_values} values");
        let (values, expected) = file.split_at(4 * n_values);
        let values = singles(values);
        let mut blocks = vec![0; expected.len()];
        quantize(dtype, &values, None, &mut blocks).unwrap();
        if dtype == DType::BF16 {
            assert_eq!(blocks, expected);
            continue;
        }
        let error_of = |bytes: &[u8], values: &[f32]| {
            let mut back = vec![0.0; values.len()];
            dequantize(dtype, bytes, &mut back).unwrap();
            back.iter().zip(values).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        let (mut n_better, mut n_blocks) = (0, 0);
        let (len, n_bytes) = (dtype.block_len(), dtype.block_bytes());
        for (i, ((found, expected), values)) in
            blocks.chunks(n_bytes).zip(expected.chunks(n_bytes)).zip(values.chunks(len)).enumerate()
        {
            let (found, expected) = (error_of(found, values), error_of(expected, values));
            // Next to an outlier of 4,000 times the other values, sums in single precision see no smaller difference.
            assert!(
                found <= expected * 1.01 + 1e-30,
                "{dtype}, block {i}: {found:e}, the reference {expected:e}"
            );
            n_better += usize::from(found < expected * 0.99);
            n_blocks += 1;
        }
        assert!(2 * n_better > n_blocks, "{dtype}: better in {n_better} of {n_blocks} blocks only");
    }
}

/// What is written is within half a step of what was meant, where the steps of each format are known.
#[test]
fn values_survive_within_half_a_step() {
    // Of the range of 16 values with the worst case of all formats' scale rounding: the codes of Q2_K are 2 bits, and
    // its scales and minima are rounded to 4 bits of the largest.
    let steps = [
        (DType::F16, 1.0 / 2048.0),
        (DType::BF16, 1.0 / 256.0),
        (DType::Q8_0, 0.005),
        (DType::Q6K, 0.04),
        (DType::Q5_0, 0.07),
        (DType::Q5_1, 0.05),
        (DType::Q5K, 0.05),
        (DType::Q4_0, 0.14),
        (DType::Q4_1, 0.08),
        (DType::Q4K, 0.08),
        (DType::IQ4NL, 0.11),
        (DType::IQ4XS, 0.12),
        (DType::Q3K, 0.30),
        (DType::Q2K, 0.40),
    ];
    // A sine has values of every size up to 1, and one period is not a whole number of blocks.
    let values: Vec<f32> = (0..2560).map(|i| (i as f32 * 0.37).sin()).collect();
    for (dtype, bound) in steps {
        let mut bytes = vec![0; dtype.bytes_for(values.len()).unwrap()];
        quantize(dtype, &values, None, &mut bytes).unwrap();
        let mut back = vec![0.0; values.len()];
        dequantize(dtype, &bytes, &mut back).unwrap();
        let worst = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= bound, "{dtype}: off by {worst}, but {bound} is the bound");
        assert!(worst >= bound / 4.0, "{dtype}: off by {worst} only, so the bound {bound} says nothing");
    }
}

#[test]
fn wrong_lengths_are_errors_with_the_lengths() {
    let error = dequantize(DType::Q4_0, &[0; 18], &mut [0.0; 33]).unwrap_err();
    assert_eq!(error.to_string(), "33 values are not whole blocks of 32 (Q4_0)");
    let error = dequantize(DType::Q4_0, &[0; 17], &mut [0.0; 32]).unwrap_err();
    assert_eq!(error.to_string(), "32 values of Q4_0 take 18 bytes, but there are 17");
    let error = dequantize(DType::IQ2XXS, &[0; 66], &mut [0.0; 256]).unwrap_err();
    assert_eq!(error.to_string(), "IQ2_XXS cannot be computed: only its size is known");
    let error = quantize(DType::Q4_0, &[0.0; 33], None, &mut [0; 18]).unwrap_err();
    assert_eq!(error.to_string(), "33 values are not whole blocks of 32 (Q4_0)");
    let error = quantize(DType::Q4_0, &[0.0; 32], None, &mut [0; 17]).unwrap_err();
    assert_eq!(error.to_string(), "32 values of Q4_0 take 18 bytes, but there are 17");
    let error = quantize(DType::Q4_0, &[0.0; 32], Some(&[1.0; 31]), &mut [0; 18]).unwrap_err();
    assert_eq!(error.to_string(), "there are 31 weights for 32 values");
}

#[test]
fn zeros_stay_zeros_in_every_format() {
    for &dtype in DType::ALL.iter().filter(|&&dtype| dtype.is_computable()) {
        let mut bytes = vec![0xAA; dtype.bytes_for(256).unwrap()];
        quantize(dtype, &[0.0; 256], None, &mut bytes).unwrap();
        let mut values = [1.0; 256];
        dequantize(dtype, &bytes, &mut values).unwrap();
        assert!(values.iter().all(|&value| value == 0.0), "{dtype}");
    }
}
