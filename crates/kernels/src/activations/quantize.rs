//! One row of f32 to int8 blocks.

use super::{BlockQ8, COLS};
use crate::Isa;

/// Quantizes `row`, `[n_cols]`, to `blocks`, `[n_blocks]`; a last block that `row` fills only in part is padded with zeros. A
/// block with an infinity or a NaN gets a scale that makes every product with it NaN.
pub(super) fn row(isa: Isa, row: &[f32], blocks: &mut [BlockQ8]) {
    assert_eq!(blocks.len(), row.len().div_ceil(COLS));
    let (whole, tail) = row.as_chunks::<COLS>();
    let mut padded = [0.0; COLS];
    padded[..tail.len()].copy_from_slice(tail);
    let values = whole.iter().chain((!tail.is_empty()).then_some(&padded));
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { avx2::blocks(values, blocks) },
        Isa::Scalar => {
            for (values, out) in values.zip(blocks) {
                *out = block(values);
            }
        }
    }
}

fn block(values: &[f32; COLS]) -> BlockQ8 {
    // Compared as integers, so that a NaN is the largest.
    let largest = values.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0);
    let largest = f32::from_bits(largest);
    let (scale, inverse) = scales(largest);
    let codes = values.map(|x| (x * inverse).round_ties_even() as i8);
    let pair_sums = |half: &[i8]| {
        let sum = |pair: usize| half.chunks(4).flat_map(move |quad| &quad[2 * pair..2 * pair + 2]);
        [0, 1].map(|pair| sum(pair).map(|code| i16::from(*code)).sum())
    };
    finish(codes, scale, pair_sums(&codes[..16]), pair_sums(&codes[16..]))
}

/// A block's scale and its inverse, from its largest magnitude.
#[inline]
fn scales(largest: f32) -> (f32, f32) {
    if !largest.is_finite() {
        return (f32::NAN, 0.0);
    }
    let scale = largest / 127.0;
    // A magnitude so small that 127 / largest overflows counts as 0.
    if largest < 1e-36 { (0.0, 0.0) } else { (scale, 127.0 / largest) }
}

/// A block from its codes, its scale and both halves' sums of pairs.
#[inline]
fn finish(codes: [i8; COLS], scale: f32, first: [i16; 2], last: [i16; 2]) -> BlockQ8 {
    let half_sums = [first[0] + first[1], last[0] + last[1]];
    let sum = i32::from(half_sums[0]) + i32::from(half_sums[1]);
    BlockQ8 {
        codes,
        scale,
        minus_sums: [-8 * sum, -16 * sum],
        half_sums,
        scaled_sum: scale * sum as f32,
        pair_sums: [first[0] + last[0], first[1] + last[1]],
        first_pair_sums: first,
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BlockQ8, COLS, finish, scales};
    use crate::simd::{load_floats, store_bytes};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn blocks<'a>(values: impl Iterator<Item = &'a [f32; COLS]>, blocks: &mut [BlockQ8]) {
        for (values, out) in values.zip(blocks) {
            *out = block(values);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn block(values: &[f32; COLS]) -> BlockQ8 {
        let vectors: &[[f32; 8]; 4] = bytemuck::cast_ref(values);
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| load_floats(&vectors[i]));
        let magnitude = |x: __m256| _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFF_FFFF));
        let ab = _mm256_max_epu32(magnitude(a), magnitude(b));
        let cd = _mm256_max_epu32(magnitude(c), magnitude(d));
        let most = _mm256_max_epu32(ab, cd);
        let most = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
        let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b01_00_11_10>(most));
        let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b10_11_00_01>(most));
        let (scale, inverse) = scales(f32::from_bits(_mm_cvtsi128_si32(most) as u32));
        let inverse = _mm256_set1_ps(inverse);
        // NaN · 0 converts to i32::MIN, which saturates to −128; the scalar form makes it 0. The scale is NaN either way.
        let round = |x: __m256| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
        let ab = _mm256_packs_epi32(round(a), round(b));
        let cd = _mm256_packs_epi32(round(c), round(d));
        // packs interleaves 128-bit lanes: dwords a0 b0 c0 d0 | a1 b1 c1 d1.
        let packed = _mm256_packs_epi16(ab, cd);
        let ordered = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let mut codes = [0; COLS];
        store_bytes(&mut codes, ordered);
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), ordered);
        // 128-bit lanes are the halves of 16 codes.
        let pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32::<0b01_00_11_10>(pairs));
        let pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32::<0b10_11_00_01>(pairs));
        let first = bytemuck::cast(_mm256_extract_epi32::<0>(pairs));
        let last = bytemuck::cast(_mm256_extract_epi32::<4>(pairs));
        finish(codes, scale, first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(isa: Isa, values: &[f32]) -> Vec<BlockQ8> {
        let unwritten = BlockQ8 { codes: [99; COLS], ..BlockQ8::default() };
        let mut blocks = vec![unwritten; values.len().div_ceil(COLS)];
        row(isa, values, &mut blocks);
        blocks
    }

    #[test]
    fn every_isa_gives_the_codes_and_sums_of_the_scalar_form() {
        for n in [1, 31, 32, 33, 64, 100, 576] {
            let values: Vec<f32> =
                (0..n).map(|i| ((i * i * 7 + 3 * i) % 1013) as f32 * 0.013 - 6.5).collect();
            let wanted = quantized(Isa::Scalar, &values);
            for isa in Isa::tested() {
                assert_eq!(quantized(isa, &values), wanted, "{isa}, {n} values");
            }
        }
    }

    #[test]
    fn errors_stay_within_half_a_step_and_sums_are_those_of_the_codes() {
        let values: Vec<f32> = (0..96).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        let blocks = quantized(Isa::best(), &values);
        for (i, x) in values.iter().enumerate() {
            let block = blocks[i / COLS];
            assert!((block.scale * f32::from(block.codes[i % COLS]) - x).abs() <= block.scale * 0.5001);
        }
        for block in blocks {
            let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
            assert_eq!(block.minus_sums, [-8, -16].map(|factor| factor * sum(&block.codes)));
            assert_eq!(i32::from(block.half_sums[0]), sum(&block.codes[..16]));
            assert_eq!(block.scaled_sum, block.scale * sum(&block.codes) as f32);
            let pairs = |quads: usize, at: usize| {
                (0..quads).map(|j| sum(&block.codes[4 * j + at..4 * j + at + 2])).sum::<i32>()
            };
            assert_eq!(block.pair_sums.map(i32::from), [pairs(8, 0), pairs(8, 2)]);
            assert_eq!(block.first_pair_sums.map(i32::from), [pairs(4, 0), pairs(4, 2)]);
        }
    }

    #[test]
    fn zeros_and_the_tiniest_values_become_zeros_and_a_nan_stays_visible() {
        for isa in Isa::tested() {
            assert_eq!(quantized(isa, &[0.0, 1e-38, -1e-40]), [BlockQ8::default()]);
            for bad in [f32::NAN, f32::INFINITY] {
                assert!(quantized(isa, &[1.0, bad])[0].scale.is_nan());
            }
        }
    }
}
