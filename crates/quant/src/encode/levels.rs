//! The numbers that a step multiplies: evenly spaced integers, or a code book.

use crate::IQ4_CODEBOOK;

/// Adding it to a number of at most 22 bits and taking it away again rounds that to the nearest integer, ties to even,
/// without a call.
const ROUNDER: f32 = 12_582_912.0;

/// The levels of a format, in rising order; code `i` stands for level `i`.
pub(crate) trait Levels: Copy {
    /// The level nearest to `x`.
    fn nearest(self, x: f32) -> f32;

    /// The code of the level nearest to `x`.
    fn code(self, x: f32) -> u8;

    /// The level of a code.
    fn level(self, code: u8) -> f32;

    /// The largest level.
    fn last(self) -> f32;
}

/// The integers from `LOW` to `HIGH`.
#[derive(Clone, Copy)]
pub(crate) struct Integers<const LOW: i16, const HIGH: i16>;

impl<const LOW: i16, const HIGH: i16> Levels for Integers<LOW, HIGH> {
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        let (low, high) = (f32::from(LOW), f32::from(HIGH));
        let x = if x > low { x } else { low };
        let x = if x < high { x } else { high };
        (x + ROUNDER) - ROUNDER
    }

    #[inline(always)]
    fn code(self, x: f32) -> u8 {
        (self.nearest(x) as i16 - LOW) as u8
    }

    #[inline(always)]
    fn level(self, code: u8) -> f32 {
        f32::from(i16::from(code) + LOW)
    }

    #[inline(always)]
    fn last(self) -> f32 {
        f32::from(HIGH)
    }
}

/// The levels of IQ4_NL and IQ4_XS.
#[derive(Clone, Copy)]
pub(crate) struct Codebook;

/// The nearest code by half units: entry `i` is that of the numbers from `(i − 256) / 2`. Two levels lie as far apart as an
/// even or an odd number of halves, so what is nearest changes only between entries.
static CODE_OF_HALF: [u8; 512] = codes_of_halves();

const fn codes_of_halves() -> [u8; 512] {
    let mut codes = [0; 512];
    let mut i = 0;
    while i < 512 {
        let mut code = 0;
        while code < 15 && (i as i32 - 256) >= IQ4_CODEBOOK[code] as i32 + IQ4_CODEBOOK[code + 1] as i32 {
            code += 1;
        }
        codes[i] = code as u8;
        i += 1;
    }
    codes
}

impl Levels for Codebook {
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        self.level(self.code(x))
    }

    #[inline(always)]
    fn code(self, x: f32) -> u8 {
        // From 0: the conversion cuts, and below the first midpoint all is code 0.
        let half = (x * 2.0 + 256.0).clamp(0.0, 511.0) as usize;
        CODE_OF_HALF[half & 511]
    }

    #[inline(always)]
    fn level(self, code: u8) -> f32 {
        f32::from(IQ4_CODEBOOK[usize::from(code & 15)])
    }

    #[inline(always)]
    fn last(self) -> f32 {
        f32::from(IQ4_CODEBOOK[15])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(levels: impl Levels, all: &[f32]) {
        for i in -6000..6000 {
            let x = i as f32 / 32.0;
            let distance = (levels.nearest(x) - x).abs();
            let least = all.iter().map(|level| (level - x).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!(distance, least, "{x}");
            assert_eq!(levels.level(levels.code(x)), levels.nearest(x), "{x}");
        }
        assert_eq!(levels.nearest(f32::INFINITY), levels.last());
        assert_eq!(levels.nearest(f32::NEG_INFINITY), all[0]);
    }

    #[test]
    fn what_is_nearest_is_what_a_search_of_all_levels_finds() {
        check(Integers::<-8, 7>, &(-8..8).map(|q| q as f32).collect::<Vec<_>>());
        check(Integers::<-127, 127>, &(-127..128).map(|q| q as f32).collect::<Vec<_>>());
        check(Integers::<0, 3>, &[0.0, 1.0, 2.0, 3.0]);
        check(Codebook, &IQ4_CODEBOOK.map(f32::from));
    }
}
