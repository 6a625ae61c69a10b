//! A token's gain in one byte: four bits of exponent, four of mantissa.
//!
//! `gain = 2^(code/16 − 8)` with a linear mantissa, so that decoding is a shift and an addition of integers: steps of
//! 3 to 6 %, from 2⁻⁸ to 248.

/// What is added to the shifted code: the exponent of 2⁻⁸.
pub(super) const BIAS: u32 = (127 - 8) << 23;

/// The gain of a code.
pub(super) fn decode(code: u8) -> f32 {
    f32::from_bits((u32::from(code) << 19) + BIAS)
}

/// The code with the nearest gain; the smallest for what is not positive.
pub(super) fn encode(gain: f32) -> u8 {
    if gain.is_nan() || gain <= decode(0) {
        return 0;
    }
    // Half a step more, then cut: rounds to the nearest.
    let shifted = (gain.min(decode(255)).to_bits() - BIAS + (1 << 18)) >> 19;
    shifted.min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_the_code_of_its_gain() {
        for code in 0..=255 {
            assert_eq!(encode(decode(code)), code);
        }
    }

    #[test]
    fn a_gain_between_two_codes_becomes_the_nearer_one() {
        for code in 0..255 {
            let (low, high) = (decode(code), decode(code + 1));
            assert_eq!(encode(low + 0.49 * (high - low)), code);
            assert_eq!(encode(low + 0.51 * (high - low)), code + 1);
        }
    }

    #[test]
    fn gains_beyond_the_ends_are_the_ends() {
        for gain in [0.0, -1.0, f32::NAN, f32::NEG_INFINITY, 1e-9] {
            assert_eq!(encode(gain), 0);
        }
        assert_eq!(encode(1e9), 255);
        assert_eq!(encode(f32::INFINITY), 255);
    }
}
