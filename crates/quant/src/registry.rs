//! Which formats can be computed: one line each in `codec`.

use crate::block::{Block, read_blocks};
use crate::encode::{Encode, Fit, grid_of};
use crate::{DType, QuantError};

/// A format whose blocks are one value, to be rounded by itself.
pub(crate) trait Convert: Block {
    /// The value, rounded to nearest.
    fn of(value: f32) -> Self;
}

/// What can be done with a format. The functions take whole blocks of matching lengths.
struct Codec {
    dequantize: Dequantize,
    encoder: Encoder,
    first_not_finite: FirstNotFinite,
}

enum Encoder {
    /// value by value
    Convert(Conversion),
    /// on scales that are searched for
    Fit { fit: Fit, factors: &'static [usize] },
}

type Dequantize = fn(&[u8], &mut [f32]);
pub(crate) type Conversion = fn(&[f32], &mut [u8]);
type FirstNotFinite = fn(&[u8]) -> Option<usize>;

const fn values<B: Convert>() -> Option<Codec> {
    codec_of::<B>(Encoder::Convert(convert_values::<B>))
}

const fn blocks<B: Encode>() -> Option<Codec> {
    codec_of::<B>(Encoder::Fit { fit: grid_of::<B>, factors: B::FACTORS })
}

const fn codec_of<B: Block>(encoder: Encoder) -> Option<Codec> {
    Some(Codec { dequantize: dequantize_blocks::<B>, encoder, first_not_finite: first_block_not_finite::<B> })
}

const fn codec(dtype: DType) -> Option<Codec> {
    match dtype {
        DType::F32 => values::<crate::ValueF32>(),
        DType::F16 => values::<crate::ValueF16>(),
        DType::BF16 => values::<crate::ValueBF16>(),
        DType::Q4_0 => blocks::<crate::BlockQ4_0>(),
        DType::Q4_1 => blocks::<crate::BlockQ4_1>(),
        DType::Q5_0 => blocks::<crate::BlockQ5_0>(),
        DType::Q5_1 => blocks::<crate::BlockQ5_1>(),
        DType::Q8_0 => blocks::<crate::BlockQ8_0>(),
        DType::Q2K => blocks::<crate::BlockQ2K>(),
        DType::Q3K => blocks::<crate::BlockQ3K>(),
        DType::Q4K => blocks::<crate::BlockQ4K>(),
        DType::Q5K => blocks::<crate::BlockQ5K>(),
        DType::Q6K => blocks::<crate::BlockQ6K>(),
        DType::IQ4NL => blocks::<crate::BlockIQ4NL>(),
        DType::IQ4XS => blocks::<crate::BlockIQ4XS>(),
        _ => None,
    }
}

fn dequantize_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in read_blocks::<B>(bytes).zip(out.chunks_exact_mut(B::DTYPE.block_len())) {
        block.dequantize(out);
    }
}

fn convert_values<B: Convert>(values: &[f32], out: &mut [u8]) {
    for (&value, out) in values.iter().zip(out.chunks_exact_mut(size_of::<B>())) {
        out.copy_from_slice(bytemuck::bytes_of(&B::of(value)));
    }
}

fn first_block_not_finite<B: Block>(bytes: &[u8]) -> Option<usize> {
    // Whole runs without a branch, which vectorizes; what is found is looked for again.
    const RUN: usize = 1024;
    let all_finite = |run: &[u8]| read_blocks::<B>(run).fold(true, |all, block| all & block.is_finite());
    let run = bytes.chunks(RUN * size_of::<B>()).position(|run| !all_finite(run))?;
    let first = run * RUN;
    let block = read_blocks::<B>(&bytes[first * size_of::<B>()..]).position(|block| !block.is_finite())?;
    Some(first + block)
}

pub(crate) fn is_computable(dtype: DType) -> bool {
    codec(dtype).is_some()
}

/// The search for scales of a format.
pub(crate) fn encoder(dtype: DType) -> Result<Fit, QuantError> {
    match codec(dtype).ok_or(QuantError::NotComputable { dtype })?.encoder {
        Encoder::Fit { fit, .. } => Ok(fit),
        Encoder::Convert(_) => Err(QuantError::NoScales { dtype }),
    }
}

/// How a format without scales is written.
pub(crate) fn conversion(dtype: DType) -> Option<Conversion> {
    match codec(dtype)?.encoder {
        Encoder::Convert(convert) => Some(convert),
        Encoder::Fit { .. } => None,
    }
}

/// Where a block of the format has the half-precision numbers that all its values are products of; none: it has no such block.
pub(crate) fn factors(dtype: DType) -> &'static [usize] {
    match codec(dtype) {
        Some(Codec { encoder: Encoder::Fit { factors, .. }, .. }) => factors,
        _ => &[],
    }
}

/// Writes the values of `bytes` (whole blocks of `dtype`, no alignment needed) to `out`.
///
/// # Errors
/// When the format has no conversion, or the lengths are not those of the same whole blocks.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    let codec = codec(dtype).ok_or(QuantError::NotComputable { dtype })?;
    check_lengths(dtype, out.len(), bytes.len())?;
    (codec.dequantize)(bytes, out);
    Ok(())
}

/// The first block of `bytes` (whole blocks of `dtype`) that has a value which is no number: NaN, or infinite. `None` where
/// there is none, and for formats without a conversion.
///
/// # Panics
/// When `bytes` is not a whole number of blocks.
pub fn first_not_finite(dtype: DType, bytes: &[u8]) -> Option<usize> {
    (codec(dtype)?.first_not_finite)(bytes)
}

pub(crate) fn check_lengths(dtype: DType, n_values: usize, found: usize) -> Result<(), QuantError> {
    let block_len = dtype.block_len();
    let expected =
        dtype.bytes_for(n_values).ok_or(QuantError::PartialBlock { dtype, n_values, block_len })?;
    if found != expected {
        return Err(QuantError::WrongBytes { dtype, n_values, expected, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize;

    /// Every format that can be written has its half-precision scales found, wherever a block has them.
    #[test]
    fn a_block_is_finite_exactly_if_all_its_values_are() {
        for &dtype in DType::ALL.iter().filter(|&&dtype| dtype.is_computable()) {
            let (len, bytes_of_one) = (dtype.block_len(), dtype.block_bytes());
            let values: Vec<f32> = (0..len).map(|i| (i % 7) as f32 - 2.5).collect();
            let mut block = vec![0; bytes_of_one];
            quantize(dtype, &values, None, &mut block).unwrap();
            let n_blocks = 2500;
            for at in 0..bytes_of_one - 1 {
                let mut changed = block.clone();
                // 0x7fff is a NaN as a half; as the upper half of a single it is one too.
                changed[at..at + 2].copy_from_slice(&[0xff, 0x7f]);
                let mut out = vec![0.0; len];
                dequantize(dtype, &changed, &mut out).unwrap();
                let is_finite = out.iter().all(|x| x.is_finite());
                let mut bytes = block.repeat(n_blocks);
                bytes[2100 * bytes_of_one..][..bytes_of_one].copy_from_slice(&changed);
                let wanted = if is_finite { None } else { Some(2100) };
                assert_eq!(first_not_finite(dtype, &bytes), wanted, "{dtype}, byte {at}");
            }
        }
        assert_eq!(first_not_finite(DType::I8, &[1, 2]), None);
        assert_eq!(first_not_finite(DType::F32, &[]), None);
    }
}
