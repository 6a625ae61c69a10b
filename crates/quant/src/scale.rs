//! Blocks whose values are multiplied as a whole: codes and inner scales stay, bit for bit.
//!
//! ```text
//! Q4_K   d │ dmin │ scales │ qs          x = d · scale · q − dmin · min
//!        ×f   ×f                       f·x = (f · d) · scale · q − (f · dmin) · min
//! ```

use crate::registry::{check_lengths, factors};
use crate::{DType, QuantError, f16};

/// Multiplies the half-precision numbers of each block of `bytes` by the block's own factor, rounded to nearest. What would be too
/// large becomes the largest half. A factor of 1 changes nothing.
///
/// # Errors
/// The format has no such numbers, or there is not a factor for every block.
pub fn scale(dtype: DType, bytes: &mut [u8], by: &[f32]) -> Result<(), QuantError> {
    let halves = factors(dtype);
    if halves.is_empty() {
        return Err(QuantError::NoScales { dtype });
    }
    check_lengths(dtype, by.len() * dtype.block_len(), bytes.len())?;
    for (block, &by) in bytes.chunks_exact_mut(dtype.block_bytes()).zip(by) {
        // Also for a NaN, whose bits a product may change.
        if by == 1.0 {
            continue;
        }
        for &at in halves {
            let half = f16::from_le_bytes([block[at], block[at + 1]]);
            let scaled = (half.to_f32() * by).clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
            block[at..at + 2].copy_from_slice(&f16::from_f32(scaled).to_le_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::scale;
    use crate::{DType, QuantError, dequantize, f16, quantize};

    fn with_scales() -> impl Iterator<Item = DType> {
        DType::ALL.iter().copied().filter(|dtype| dtype.has_scales())
    }

    fn blocks(dtype: DType, n: usize) -> Vec<u8> {
        let values: Vec<f32> =
            (0..n * dtype.block_len()).map(|i| ((i * i + 3 * i) % 101) as f32 / 31.0 - 1.3).collect();
        let mut bytes = vec![0; dtype.bytes_for(values.len()).unwrap()];
        quantize(dtype, &values, None, &mut bytes).unwrap();
        bytes
    }

    fn values(dtype: DType, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
        dequantize(dtype, bytes, &mut out).unwrap();
        out
    }

    /// A power of 2 is exact in every field, so a field that was forgotten would show in the values.
    #[test]
    fn all_values_of_a_block_are_multiplied_and_nothing_but_halves_is_changed() {
        assert_eq!(with_scales().count(), 12);
        for dtype in with_scales() {
            let before = blocks(dtype, 3);
            let mut after = before.clone();
            scale(dtype, &mut after, &[2.0, 1.0, -0.5]).unwrap();
            let len = dtype.block_len();
            let (before_values, after_values) = (values(dtype, &before), values(dtype, &after));
            for (i, (before, after)) in before_values.iter().zip(&after_values).enumerate() {
                assert_eq!(*after, [2.0, 1.0, -0.5][i / len] * before, "{dtype}, value {i}");
            }
            let n_changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            assert!((1..=8).contains(&n_changed), "{dtype}: {n_changed} bytes of 3 blocks");
            let n = dtype.block_bytes();
            assert_eq!(before[n..2 * n], after[n..2 * n]);
        }
    }

    #[test]
    fn a_factor_of_one_keeps_every_bit_also_of_what_is_no_number() {
        for dtype in with_scales() {
            let bytes: Vec<u8> = (0..dtype.block_bytes() * 40).map(|i| (i * 37 + i / 200) as u8).collect();
            let mut same = bytes.clone();
            scale(dtype, &mut same, &[1.0; 40]).unwrap();
            assert_eq!(same, bytes, "{dtype}");
        }
    }

    #[test]
    fn what_is_too_large_becomes_the_largest_half() {
        let mut block = blocks(DType::Q8_0, 1);
        scale(DType::Q8_0, &mut block, &[1e9]).unwrap();
        assert_eq!(f16::from_le_bytes([block[0], block[1]]), f16::MAX);
    }

    #[test]
    fn formats_without_scales_and_wrong_lengths_are_errors() {
        let no_scales = scale(DType::F16, &mut [0, 0], &[1.0]).unwrap_err();
        assert!(matches!(no_scales, QuantError::NoScales { dtype: DType::F16 }), "{no_scales}");
        let error = scale(DType::Q4_0, &mut [0; 36], &[1.0]).unwrap_err();
        assert!(matches!(error, QuantError::WrongBytes { expected: 18, found: 36, .. }), "{error}");
    }
}
