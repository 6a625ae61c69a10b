//! Rotary position embedding: the angle that each position and channel pair gets.
//!
//! Channel pair `i` of a head (channels `i` and `i + head_dim/2`) is turned by `position · frequency(i)`, where
//! `frequency(i) = base^(−2i / head_dim)` for a model without scaling (arXiv 2104.09864). A model trained for longer
//! contexts by scaling changes the frequencies, and YaRN also the length of the rotated vectors.

use std::f64::consts::PI;

use super::PositionError;

/// How a model stretches its frequencies beyond the context it was first trained for.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// as trained
    None,
    /// positions divided by `factor` (position interpolation, arXiv 2306.15595)
    Linear {
        /// how many times longer
        factor: f64,
    },
    /// interpolation of the slow channels only (arXiv 2309.00071)
    Yarn(Yarn),
    /// a divisor for every channel pair, one list of them up to a length and one beyond (arXiv 2402.13753)
    LongRope(LongRope),
    /// a divisor for every channel pair, given by the file (Llama 3.1 in GGUF)
    Factors(Vec<f32>),
    /// Llama 3.1 as Hugging Face configures it
    Llama3 {
        /// divisor of the slow channels
        factor: f64,
        /// wavelengths longer than `original_context / low_freq_factor` are divided
        low_freq_factor: f64,
        /// wavelengths shorter than `original_context / high_freq_factor` stay
        high_freq_factor: f64,
        /// context before scaling, tokens
        original_context: f64,
    },
}

/// The parameters of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// how many times longer
    pub factor: f64,
    /// context before scaling, tokens
    pub original_context: f64,
    /// channels that turn more often than this within the original context keep their frequency
    pub beta_fast: f64,
    /// channels that turn less often than this are interpolated
    pub beta_slow: f64,
    /// factor on the length of rotated vectors; `None`: 0.1·ln(factor) + 1, and 1 up to a factor of 1
    pub attention_factor: Option<f64>,
    /// the pairs between which channels are interpolated in part are whole numbers
    pub is_truncated: bool,
}

/// LongRoPE as far as its short divisors go. Its long ones would turn all keys of a text anew when it outgrows them.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// divisors of the frequencies, `[head_dim / 2]`
    pub short_factors: Vec<f32>,
    /// factor on the length of rotated vectors
    pub attention_factor: f64,
    /// the context up to which they hold, tokens
    pub original_context: f64,
}

/// A model's own rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// base of the geometric series of frequencies
    pub base: f64,
    /// stretching, if any
    pub scaling: RopeScaling,
}

/// What a model was trained with, as far as positions go.
#[derive(Clone, Copy, Debug)]
pub struct Trained<'a> {
    /// its own rotation
    pub rope: &'a RopeConfig,
    /// channels of a head
    pub head_dim: usize,
    /// context in tokens
    pub n_ctx: usize,
}

/// Frequencies ready to use.
#[derive(Clone, Debug)]
pub struct Rope {
    /// radians per position, `[head_dim / 2]`
    frequencies: Vec<f64>,
    /// length of a rotated unit vector
    magnitude: f64,
    /// position of a text's first token
    start: usize,
}

impl Rope {
    /// The frequencies of `config` for heads of `head_dim` channels.
    pub fn new(config: &RopeConfig, head_dim: usize) -> Rope {
        let n_pairs = head_dim / 2;
        let plain = |pair: usize| config.base.powf(-2.0 * pair as f64 / head_dim as f64);
        let mut magnitude = 1.0;
        let frequencies = match &config.scaling {
            RopeScaling::None => (0..n_pairs).map(plain).collect(),
            RopeScaling::Linear { factor } => (0..n_pairs).map(|pair| plain(pair) / factor).collect(),
            RopeScaling::Factors(factors) => {
                (0..n_pairs).map(|pair| plain(pair) / f64::from(factors[pair])).collect()
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => (0
                ..n_pairs)
                .map(|pair| {
                    let turns = original_context * plain(pair) / (2.0 * PI);
                    let kept =
                        ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    plain(pair) * (kept + (1.0 - kept) / factor)
                })
                .collect(),
            RopeScaling::LongRope(long) => {
                magnitude = long.attention_factor;
                (0..n_pairs).map(|pair| plain(pair) / f64::from(long.short_factors[pair])).collect()
            }
            RopeScaling::Yarn(yarn) => {
                magnitude = yarn.attention_factor.unwrap_or(0.1 * yarn.factor.max(1.0).ln() + 1.0);
                let ramp = YarnRamp::new(yarn, config.base, head_dim);
                (0..n_pairs)
                    .map(|pair| {
                        let kept = 1.0 - ramp.at(pair);
                        plain(pair) * (kept + (1.0 - kept) / yarn.factor)
                    })
                    .collect()
            }
        };
        Rope { frequencies, magnitude, start: 0 }
    }

    /// The same for texts whose first token stands at `position`. Only for positions as they are: between two of them, a
    /// [rotation](Rope::rotation) would have it too.
    pub fn starting_at(self, position: usize) -> Rope {
        Rope { start: position, ..self }
    }

    /// By what `config`, of which this was made, divides the plain frequency of each channel pair, `[head_dim / 2]`.
    pub(crate) fn divisors(&self, config: &RopeConfig) -> Vec<f32> {
        let n_pairs = self.n_pairs();
        let plain = |pair: usize| config.base.powf(-(pair as f64) / n_pairs as f64);
        (0..n_pairs).map(|pair| (plain(pair) / self.frequencies[pair]) as f32).collect()
    }

    /// Whether `config`, of which this was made, turns every channel pair by a number.
    ///
    /// # Errors
    /// It does not; the error has the configuration.
    pub(crate) fn check(&self, config: &RopeConfig) -> Result<(), PositionError> {
        let is_number = self.frequencies.iter().chain([&self.magnitude]).all(|value| value.is_finite());
        if is_number && config.base.is_finite() && config.base > 0.0 && self.magnitude > 0.0 {
            return Ok(());
        }
        Err(PositionError::Rotation { base: config.base, scaling: format!("{:?}", config.scaling) })
    }

    /// Channel pairs of a head.
    pub fn n_pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosine and sine of the rotation of a channel pair by `distance` positions, without the factor that some scalings
    /// put on the length. A pair beyond those of the head does not turn.
    pub fn rotation(&self, pair: usize, distance: f64) -> (f32, f32) {
        let Some(frequency) = self.frequencies.get(pair) else { return (1.0, 0.0) };
        let (s, c) = ((distance + self.start as f64) * frequency).sin_cos();
        (c as f32, s as f32)
    }

    /// Appends cosines and sines `[head_dim / 2]` of one position to each of the two tables, without that factor: a pure
    /// rotation.
    pub fn push_rotation(&self, position: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for pair in 0..self.n_pairs() {
            let (c, s) = self.rotation(pair, position as f64);
            cos.push(c);
            sin.push(s);
        }
    }

    /// Appends cosines and sines `[head_dim / 2]` of one position to each of the two tables.
    pub fn push(&self, position: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for frequency in &self.frequencies {
            let (s, c) = ((position + self.start) as f64 * frequency).sin_cos();
            cos.push((c * self.magnitude) as f32);
            sin.push((s * self.magnitude) as f32);
        }
    }
}

/// 0 for channel pairs that keep their frequency, 1 for those that are interpolated, linear in between.
struct YarnRamp {
    low: f64,
    high: f64,
}

impl YarnRamp {
    fn new(yarn: &Yarn, base: f64, head_dim: usize) -> YarnRamp {
        let pair_with_turns = |turns: f64| {
            head_dim as f64 * (yarn.original_context / (turns * 2.0 * PI)).ln() / (2.0 * base.ln())
        };
        let (low, high) = (pair_with_turns(yarn.beta_fast), pair_with_turns(yarn.beta_slow));
        let (low, high) = if yarn.is_truncated { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
        YarnRamp { low, high: if high == low { low + 0.001 } else { high } }
    }

    fn at(&self, pair: usize) -> f64 {
        ((pair as f64 - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(base: f64, scaling: RopeScaling, head_dim: usize) -> Vec<f64> {
        Rope::new(&RopeConfig { base, scaling }, head_dim).frequencies
    }

    #[test]
    fn frequencies_without_scaling_are_a_geometric_series() {
        let series = frequencies(10_000.0, RopeScaling::None, 8);
        for (found, wanted) in series.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
        let halved = frequencies(10_000.0, RopeScaling::Linear { factor: 2.0 }, 8);
        assert!(series.iter().zip(halved).all(|(plain, half)| (plain / 2.0 - half).abs() < 1e-15));
    }

    /// The parameters of Llama-3.1-8B.
    #[test]
    fn llama3_scaling_keeps_fast_channels_and_divides_slow_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let plain = frequencies(5e5, RopeScaling::None, 128);
        let scaled = frequencies(5e5, scaling, 128);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        let turns = |pair: usize| 8192.0 * plain[pair] / (2.0 * PI);
        for pair in 0..64 {
            let ratio = scaled[pair] / plain[pair];
            match turns(pair) {
                t if t > 4.0 => assert_eq!(ratio, 1.0),
                t if t < 1.0 => assert!((ratio - 0.125).abs() < 1e-12),
                _ => assert!(ratio > 0.125 && ratio < 1.0),
            }
        }
    }

    #[test]
    fn yarn_interpolates_between_its_two_bounds_and_lengthens_vectors() {
        let yarn = Yarn {
            factor: 4.0,
            original_context: 32_768.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            is_truncated: true,
        };
        let config = RopeConfig { base: 1e6, scaling: RopeScaling::Yarn(yarn) };
        let rope = Rope::new(&config, 128);
        let plain = frequencies(1e6, RopeScaling::None, 128);
        // pairs 23 and 40 bound the ramp: floor and ceil of 128·ln(32768/(2π·β))/(2·ln 1e6)
        assert_eq!(rope.frequencies[23], plain[23]);
        assert!(rope.frequencies[24] < plain[24]);
        assert!(rope.frequencies[39] > plain[39] / 4.0);
        assert_eq!(rope.frequencies[40], plain[40] / 4.0);
        assert!((rope.magnitude - 1.138_629_436_111_989).abs() < 1e-12);
    }

    #[test]
    fn tables_grow_by_half_a_head_per_position() {
        let rope = Rope::new(&RopeConfig { base: 10_000.0, scaling: RopeScaling::None }, 4);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        rope.push(0, &mut cos, &mut sin);
        rope.push(100, &mut cos, &mut sin);
        assert_eq!(cos, [1.0, 1.0, 100f32.cos(), 1f32.cos()]);
        assert_eq!(sin, [0.0, 0.0, 100f64.sin() as f32, 1f32.sin()]);
    }
}
