//! How the keys of one KV head are coded: means, deviations, and bits for each channel.

use std::ops::Range;

use super::query::QUERY_TOP;
use super::{ERROR, MAX_KEY_BITS, STEP, middle};
use crate::math::across;
use crate::page::CodeId;

/// What calibration knows of the keys of one KV head, all `[head_dim]` in the order of channels.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyStatistics {
    /// weighted mean of keys in their frames
    pub mean: Vec<f32>,
    /// weighted variance
    pub variance: Vec<f32>,
    /// mean square of the queries that meet the keys, the same for both channels of a rotated pair
    pub query_square: Vec<f32>,
}

/// Channels of a quad.
pub(super) const QUAD: usize = 4;

/// The code of the keys of one KV head.
#[derive(Clone, Debug)]
pub struct KeyCode {
    /// by which queries that are prepared for it are known; a clone has the same, and is the same code
    pub(super) id: CodeId,
    /// channel of each stored position, the most important first
    pub(super) order: Vec<u16>,
    /// bits of each quad of stored positions, falling
    pub(super) bits: Vec<u8>,
    /// `[head_dim]` by channel
    pub(super) mean: Vec<f32>,
    /// `[head_dim]` by channel: σ·Δ(bits), 0 where nothing is stored
    pub(super) step: Vec<f32>,
    /// `[head_dim]` by stored position: μ
    pub(super) mean_at: Vec<f32>,
    /// `[head_dim]` by stored position: 1/σ
    pub(super) inverse_at: Vec<f32>,
    /// `[head_dim]` by stored position: E[q²]·σ², the weight of an error in z
    pub(super) weight_at: Vec<f32>,
    /// `[head_dim]` by stored position: 2^bits − 1
    pub(super) top_at: Vec<u8>,
    /// where the bits of each quad lie
    pub(super) planes: Planes,
    /// neighbouring stored quads with the same number of bits
    pub(super) runs: Vec<Run>,
    /// neighbouring stored quads, products with which fit 16-bit sums: all stored quads in order
    pub(super) sums: Vec<Range<usize>>,
    /// shuffles that bring bytes by channel into stored order
    pub(super) shuffle: Shuffle,
    /// the part of it that estimates read
    pub(super) estimate: EstimateCode,
}

/// The most important quarter of the channels: what [`estimate`](super::estimate) reads of a code.
#[derive(Clone, Debug)]
pub(super) struct EstimateCode {
    /// the first quads, as far as they store something
    pub n_quads: usize,
    /// `top_at` of a whole number of 32 stored positions, 0 behind the quads
    pub top_at: Vec<u8>,
    /// by 16 stored positions, half of the largest code, rounded up; 0 behind the quads
    pub middles: Vec<[u8; 16]>,
    /// 1 for each of them, 0 behind
    pub ones: Vec<[u8; 16]>,
    /// `[head_dim / 2]` by channel pair: mean variance of its two channels, as far as they are not in these quads
    rest_variance: Vec<f32>,
}

impl EstimateCode {
    /// `order`, `bits` and `variance` (by channel) of a code.
    fn new(order: &[u16], bits: &[u8], variance: &[f32]) -> EstimateCode {
        let n_quads = bits.iter().take(bits.len() / 4).filter(|bits| **bits > 0).count();
        let mut top_at = vec![0; (QUAD * n_quads).next_multiple_of(32)];
        for (tops, bits) in top_at.as_chunks_mut::<QUAD>().0.iter_mut().zip(&bits[..n_quads]) {
            tops.fill((1 << bits) - 1);
        }
        let half = order.len() / 2;
        let mut rest_variance = vec![0.0; half];
        for channel in order[QUAD * n_quads..].iter().map(|channel| usize::from(*channel)) {
            rest_variance[channel % half] += 0.5 * variance[channel];
        }
        let of_top = |of: fn(u8) -> u8| -> Vec<[u8; 16]> {
            top_at.as_chunks::<16>().0.iter().map(|tops| tops.map(of)).collect()
        };
        let (middles, ones) = (of_top(|top| top.div_ceil(2)), of_top(|top| top.min(1)));
        EstimateCode { n_quads, top_at, middles, ones, rest_variance }
    }

    /// What the channels that are not read add to the logarithm (log₂) of the mean weight of many tokens: half of the variance
    /// of a Gaussian score, times ln 2. The turn of a frame changes nothing, since both channels of a pair count alike.
    #[inline(always)]
    pub fn spread(&self, query: &[f32]) -> f32 {
        let (a, b) = query.split_at(self.rest_variance.len());
        let pairs = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
        let mut sums = [0.0f32; 8];
        for ((a, b), variance) in pairs.zip(self.rest_variance.as_chunks::<8>().0) {
            sums = std::array::from_fn(|l| (a[l] * a[l] + b[l] * b[l]).mul_add(variance[l], sums[l]));
        }
        across(sums, |a, b| a + b) * (0.5 * std::f32::consts::LN_2)
    }
}

/// Where the bits of each quad lie in a block. The bits of a code are in up to two of three planes: the lowest four, then
/// two, then one.
#[derive(Clone, Debug, Default)]
pub(super) struct Planes {
    /// of each quad
    pub of_quad: Vec<QuadPlace>,
    /// rows of four bits, of two, and of one
    pub n_four: usize,
    pub n_two: usize,
    pub n_one: usize,
    /// quads that store something
    pub n_stored: usize,
}

/// Where the bits of one quad lie, as far as it has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QuadPlace {
    /// first of two rows
    pub four: usize,
    /// row
    pub two: usize,
    /// half row: of row `one / 2`, the half `one % 2`
    pub one: usize,
}

/// Whether codes of so many bits have four bits together.
pub(super) const fn has_four(bits: u8) -> bool {
    bits >= 4
}

/// Whether they have two.
pub(super) const fn has_two(bits: u8) -> bool {
    bits & 2 != 0
}

/// Whether they have one.
pub(super) const fn has_one(bits: u8) -> bool {
    bits & 1 != 0
}

impl Planes {
    fn new(bits: &[u8]) -> Planes {
        let count = |has: fn(u8) -> bool| bits.iter().filter(|bits| has(**bits)).count();
        let (n_four, n_two, n_half) = (2 * count(has_four), count(has_two), count(has_one));
        let mut next = QuadPlace { four: 0, two: n_four, one: 2 * (n_four + n_two) };
        let of_quad = bits
            .iter()
            .map(|&bits| {
                let place = next;
                next.four += 2 * usize::from(has_four(bits));
                next.two += usize::from(has_two(bits));
                next.one += usize::from(has_one(bits));
                place
            })
            .collect();
        Planes {
            of_quad,
            n_four,
            n_two,
            n_one: n_half.div_ceil(2),
            n_stored: bits.iter().filter(|b| **b > 0).count(),
        }
    }

    /// Rows of 32 bytes of one block of tokens.
    pub fn rows(&self) -> usize {
        self.n_four + self.n_two + self.n_one
    }
}

/// Neighbouring quads with the same number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub bits: u8,
    pub first: usize,
    pub end: usize,
}

impl Run {
    fn all(bits: &[u8]) -> Vec<Run> {
        let mut first = 0;
        let stored = bits.chunk_by(|a, b| a == b).filter(|run| run[0] > 0);
        stored
            .map(|run| {
                let run = Run { bits: run[0], first, end: first + run.len() };
                first = run.end;
                run
            })
            .collect()
    }
}

/// See [`KeyCode::sums`].
fn sums(bits: &[u8]) -> Vec<Range<usize>> {
    let (mut sums, mut largest) = (Vec::<Range<usize>>::new(), 0);
    for (quad, &bits) in bits.iter().enumerate().take_while(|(_, bits)| **bits > 0) {
        let more = 2 * ((1 << bits) - 1) * QUERY_TOP as i32;
        largest += more;
        match sums.last_mut() {
            Some(last) if largest <= i32::from(i16::MAX) => last.end = quad + 1,
            _ => {
                sums.push(quad..quad + 1);
                largest = more;
            }
        }
    }
    sums
}

/// How bytes by channel come into stored order.
#[derive(Clone, Debug)]
pub(super) struct Shuffle {
    /// `[n_out][n_in][32]`: for each 32 bytes of the result, and each 16 bytes of the input, which of these go where (`0x80`:
    /// none). 32 channels at a time lie as [`narrow_place`] says.
    pub masks: Vec<[u8; 32]>,
    /// For each stored position, where its channel is when 64 channels at a time lie as [`wide_place`] says.
    pub wide: Vec<u8>,
}

/// Where a channel is after four vectors of eight integers were packed to bytes, which happens in each half of a vector apart.
fn narrow_place(channel: u16) -> usize {
    let channel = usize::from(channel);
    let (block, vector, half, i) = (channel / 32, channel / 8 % 4, channel / 4 % 2, channel % 4);
    32 * block + 16 * half + 4 * vector + i
}

/// Where a channel is after four vectors of sixteen integers were packed to bytes, which happens in each quarter of a vector
/// apart.
fn wide_place(channel: u16) -> u8 {
    let (block, vector, quarter, i) = (channel / 64, channel / 16 % 4, channel / 4 % 4, channel % 4);
    (64 * block + 16 * quarter + 4 * vector + i) as u8
}

impl Shuffle {
    fn new(order: &[u16]) -> Shuffle {
        let n_in = order.len() / 16;
        let mut masks = vec![[0x80; 32]; n_in / 2 * n_in];
        for (to, channel) in order.iter().enumerate() {
            let from = narrow_place(*channel);
            masks[to / 32 * n_in + from / 16][to % 32] = (from % 16) as u8;
        }
        Shuffle { masks, wide: order.iter().map(|channel| wide_place(*channel)).collect() }
    }
}

/// What queries need to know of keys to meet them.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyOperand<'a> {
    /// `[head_dim]` by channel: the distance of two codes
    pub step: &'a [f32],
    /// `[head_dim]` by channel: what the middle between the codes stands for
    pub mean: &'a [f32],
    /// see [`KeyCode`]
    pub order: &'a [u16],
    pub top_at: &'a [u8],
    pub shuffle: &'a Shuffle,
    /// quads that store something; integers of others are not needed
    pub n_stored: usize,
}

impl KeyCode {
    /// What queries in a frame need to know.
    pub(super) fn operand(&self) -> KeyOperand<'_> {
        KeyOperand {
            step: &self.step,
            mean: &self.mean,
            order: &self.order,
            top_at: &self.top_at,
            shuffle: &self.shuffle,
            n_stored: self.planes.n_stored,
        }
    }

    /// The code that spends `average_bits` a channel where they help most.
    ///
    /// # Panics
    /// The three statistics differ in length, or it is not a multiple of 32.
    pub fn new(statistics: &KeyStatistics, average_bits: f32) -> KeyCode {
        let KeyStatistics { mean, variance, query_square } = statistics;
        let head_dim = mean.len();
        assert!(head_dim.is_multiple_of(32), "channels of a packed head: {head_dim}");
        assert!(variance.len() == head_dim && query_square.len() == head_dim, "statistics of keys");
        let largest = variance.iter().copied().fold(0.0, f32::max);
        // A channel that never varies is stored with the smallest deviation that keeps everything finite.
        let floor = if largest > 0.0 { largest * 1e-9 } else { 1.0 };
        let variance: Vec<f32> = variance.iter().map(|v| v.max(floor)).collect();
        let importance: Vec<f32> = variance.iter().zip(query_square).map(|(v, m)| v * m).collect();
        let mut order: Vec<u16> = (0..head_dim as u16).collect();
        order.sort_by(|a, b| importance[usize::from(*b)].total_cmp(&importance[usize::from(*a)]));
        let of_position = |values: &[f32]| -> Vec<f32> {
            order.iter().map(|channel| values[usize::from(*channel)]).collect()
        };
        let weight_at = of_position(&importance);
        let bits = allocate(&weight_at, average_bits);
        let mut step = vec![0.0; head_dim];
        for (position, channel) in order.iter().enumerate() {
            let channel = usize::from(*channel);
            step[channel] = variance[channel].sqrt() * STEP[usize::from(bits[position / QUAD])];
        }
        KeyCode {
            id: CodeId::new(),
            mean_at: of_position(mean),
            inverse_at: of_position(&variance).iter().map(|v| 1.0 / v.sqrt()).collect(),
            weight_at,
            top_at: (0..head_dim).map(|position| (1 << bits[position / QUAD]) - 1).collect(),
            runs: Run::all(&bits),
            sums: sums(&bits),
            shuffle: Shuffle::new(&order),
            estimate: EstimateCode::new(&order, &bits, &variance),
            mean: mean.clone(),
            step,
            order,
            planes: Planes::new(&bits),
            bits,
        }
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        self.order.len()
    }

    /// Bits of each quad of channels, the most important first.
    pub fn quad_bits(&self) -> &[u8] {
        &self.bits
    }

    /// Half of the largest code of a stored position.
    pub(super) fn middle_at(&self, position: usize) -> f32 {
        middle(self.bits[position / QUAD])
    }
}

/// Whole bits for each quad of positions with falling weight, `average` of them for a position, by falling marginal gain.
fn allocate(weight_at: &[f32], average: f32) -> Vec<u8> {
    let weights: Vec<f32> = weight_at.chunks(QUAD).map(|quad| quad.iter().sum()).collect();
    let mut bits = vec![0u8; weights.len()];
    let budget = (average * weights.len() as f32).round() as usize;
    let gain = |bits: u8, weight: f32| {
        let b = usize::from(bits);
        if bits < MAX_KEY_BITS { weight * (ERROR[b] - ERROR[b + 1]) } else { f32::NEG_INFINITY }
    };
    for _ in 0..budget.min(weights.len() * usize::from(MAX_KEY_BITS)) {
        // The first of the best: bits fall with the position, whatever the rounding.
        let best = (0..bits.len())
            .rev()
            .max_by(|a, b| gain(bits[*a], weights[*a]).total_cmp(&gain(bits[*b], weights[*b])));
        if let Some(best) = best {
            bits[best] += 1;
        }
    }
    bits.sort_unstable_by(|a, b| b.cmp(a));
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_importance_and_spend_the_budget() {
        let weights: Vec<f32> = (0..64).map(|i| 2.0f32.powf(-i as f32 / 8.0)).collect();
        let bits = allocate(&weights, 2.0);
        assert_eq!(bits.iter().map(|b| usize::from(*b)).sum::<usize>(), 2 * 16);
        assert!(bits.is_sorted_by(|a, b| a >= b), "{bits:?}");
        assert!(bits[0] > bits[15]);
        assert_eq!(allocate(&weights, 6.0), [6; 16]);
        assert_eq!(allocate(&[1.0; 64], 1.0), [1; 16]);
        assert_eq!(allocate(&[0.0; 32], 6.0), [6; 8]);
    }

    #[test]
    fn sums_of_quads_fit_16_bits() {
        for bits in
            [[6u8; 8].to_vec(), vec![6, 5, 5, 4, 3, 3, 2, 1, 1, 0], vec![2; 64], vec![4; 32], vec![0; 8]]
        {
            let sums = sums(&bits);
            let n_stored = bits.iter().filter(|bits| **bits > 0).count();
            assert!(sums.iter().cloned().flatten().eq(0..n_stored), "{bits:?}: {sums:?}");
            let largest = |quads: &Range<usize>| -> i32 {
                bits[quads.clone()].iter().map(|bits| 2 * ((1 << bits) - 1) * 127).sum()
            };
            assert!(sums.iter().all(|quads| largest(quads) <= i32::from(i16::MAX)), "{bits:?}: {sums:?}");
            // None could be longer.
            for pair in sums.windows(2) {
                assert!(
                    largest(&(pair[0].start..pair[0].end + 1)) > i32::from(i16::MAX),
                    "{bits:?}: {sums:?}"
                );
            }
        }
    }

    #[test]
    fn runs_cover_all_stored_quads() {
        for bits in [vec![6, 5, 5, 4, 3, 3, 2, 1, 1, 0], vec![2; 64], vec![0; 8]] {
            let runs = Run::all(&bits);
            let quads: Vec<usize> = runs.iter().flat_map(|run| run.first..run.end).collect();
            assert!(quads.iter().copied().eq(0..bits.iter().filter(|bits| **bits > 0).count()));
            assert!(runs.iter().all(|run| bits[run.first..run.end].iter().all(|bits| *bits == run.bits)));
        }
    }

    #[test]
    fn a_constant_channel_is_stored_without_infinities() {
        let statistics =
            KeyStatistics { mean: vec![5.0; 32], variance: vec![0.0; 32], query_square: vec![1.0; 32] };
        let code = KeyCode::new(&statistics, 2.0);
        assert!(code.inverse_at.iter().all(|x| x.is_finite()));
    }
}
