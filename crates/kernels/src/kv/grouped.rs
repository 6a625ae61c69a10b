//! KIVI's code (arXiv 2402.02750): keys per channel over `group_size` tokens, values per token over `group_size` channels,
//! asymmetric, to nearest.
//!
//! ```text
//! scale = (max − min)/(2^b − 1)     code = round((x − min)/scale)     x̂ = min + scale·code     scale, min as f16
//!
//! head   codes of keys and of values, as `layout` has them, the same bits everywhere
//!        scales of keys [128/group_size][head_dim] · minima · scales of values [head_dim/group_size][128] · minima · padding
//! ```
//! Attention multiplies codes with integers, as it does for calibrated codes, with a channel's scale and middle,
//! `min + scale·(2^b − 1)/2`, in the place of deviation and mean. A group of tokens is met by a vector of integers of its
//! own, and a group of channels by weights of its own.

use half::f16;

use super::exact::key_index;
use super::head::HeadF32;
use super::keys::{KeyCode, KeyOperand, KeyStatistics};
use super::layout::{self, ROW, value_rows};
use super::query::FrameQuery;
use super::rotated::RotatedCode;
use super::stored::Stored;
use super::weights::{self, Integers, WEIGHT_TOKENS};
use super::{BLOCK_TOKENS, BLOCKS, middle};
use crate::Isa;
use crate::math::across;
use crate::page::{HeadShape, PAGE_TOKENS, Partial, TokenQueries};

#[cfg(target_arch = "x86_64")]
use super::avx2;

/// The code of one KV head.
#[derive(Clone, Debug)]
pub struct GroupedCode {
    /// where codes of keys lie; its means and steps mean nothing
    pub(super) keys: KeyCode,
    bits: u8,
    group_size: usize,
}

/// A value in two bytes.
pub(super) type Half = [u8; 2];

pub(super) fn to_f32(half: Half) -> f32 {
    f16::from_le_bytes(half).to_f32()
}

/// The parts of a head.
pub(super) struct Parts<'a> {
    /// `[BLOCKS * rows]`
    pub keys: &'a [[u8; ROW]],
    /// `[head_dim/32 * rows]`
    pub values: &'a [[u8; ROW]],
    /// `[128/group_size * head_dim]`
    pub key_scales: &'a [Half],
    pub key_minima: &'a [Half],
    /// `[head_dim/group_size]`
    pub value_scales: &'a [[Half; PAGE_TOKENS]],
    pub value_minima: &'a [[Half; PAGE_TOKENS]],
}

/// Scales and middles of one group's keys by channel.
pub(super) struct GroupScale {
    pub step: [f32; HeadShape::MAX_HEAD_DIM],
    pub mean: [f32; HeadShape::MAX_HEAD_DIM],
}

impl GroupScale {
    pub const EMPTY: GroupScale =
        GroupScale { step: [0.0; HeadShape::MAX_HEAD_DIM], mean: [0.0; HeadShape::MAX_HEAD_DIM] };
}

impl GroupedCode {
    /// See [`unpack`](RotatedCode::unpack).
    fn unpack_scalar(&self, packed: &[u8], out: &mut HeadF32) {
        let (d, size) = (self.head_dim(), self.group_size);
        let (keys, values) = out.keys_and_values_mut();
        let parts = self.parts(packed);
        let n_rows = self.keys.planes.rows();
        let mut codes = vec![[0u8; BLOCK_TOKENS]; d];
        for (block, rows) in parts.keys.chunks_exact(n_rows).enumerate() {
            layout::unpack_keys(&self.keys, rows, &mut codes);
            let first = block * BLOCK_TOKENS;
            for (channel, codes) in codes.iter().enumerate() {
                let at = first / size * d + channel;
                let (scale, min) = (to_f32(parts.key_scales[at]), to_f32(parts.key_minima[at]));
                for (eight, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
                    let to = &mut keys[key_index(d, first + 8 * eight, channel)..][..8];
                    to.iter_mut().zip(codes).for_each(|(to, code)| *to = min + scale * f32::from(*code));
                }
            }
        }
        let mut codes = [[0u8; 32]; PAGE_TOKENS];
        for (part, rows) in parts.values.chunks_exact(value_rows(self.bits)).enumerate() {
            layout::unpack_values(self.bits, rows, &mut codes);
            let (scales, minima) =
                (&parts.value_scales[32 * part / size], &parts.value_minima[32 * part / size]);
            for (token, codes) in codes.iter().enumerate() {
                let (scale, min) = (to_f32(scales[token]), to_f32(minima[token]));
                let to = &mut values[token * d + 32 * part..][..32];
                to.iter_mut().zip(codes).for_each(|(to, code)| *to = min + scale * f32::from(*code));
            }
        }
    }
}

impl RotatedCode for GroupedCode {
    fn head_dim(&self) -> usize {
        self.keys.head_dim()
    }

    fn bytes(&self) -> usize {
        (2 * self.code_bytes() + 4 * size_of::<Half>() * self.n_scales()).next_multiple_of(64)
    }

    fn pack(&self, exact: &HeadF32, packed: &mut [u8]) {
        assert_eq!(packed.len(), self.bytes(), "bytes of a packed head");
        let (keys, values) = exact.keys_and_values();
        let (d, size) = (self.head_dim(), self.group_size);
        assert_eq!(values.len(), PAGE_TOKENS * d, "channels of a head");
        let (codes, metadata) = packed.split_at_mut(2 * self.code_bytes());
        let (key_codes, value_codes) = codes.split_at_mut(self.code_bytes());
        let halves: &mut [Half] = metadata.as_chunks_mut().0;
        let n = self.n_scales();
        let mut group = vec![0.0; size];
        let mut by_block = vec![vec![[0u8; BLOCK_TOKENS]; d]; BLOCKS];
        for index in 0..n {
            let (first, channel) = (index / d * size, index % d);
            for (offset, to) in group.iter_mut().enumerate() {
                *to = keys[key_index(d, first + offset, channel)];
            }
            (halves[index], halves[n + index]) = self.quantize(&mut group);
            for (token, code) in (first..).zip(&group) {
                by_block[token / BLOCK_TOKENS][channel][token % BLOCK_TOKENS] = *code as u8;
            }
        }
        let n_rows = self.keys.planes.rows();
        for (codes, rows) in by_block.iter().zip(key_codes.as_chunks_mut().0.chunks_exact_mut(n_rows)) {
            layout::pack_keys(&self.keys, codes, rows);
        }
        let mut by_part = vec![[[0u8; 32]; PAGE_TOKENS]; d / 32];
        for index in 0..n {
            let (part, token) = (index / PAGE_TOKENS * size, index % PAGE_TOKENS);
            group.copy_from_slice(&values[token * d + part..][..size]);
            (halves[2 * n + index], halves[3 * n + index]) = self.quantize(&mut group);
            for (channel, code) in (part..).zip(&group) {
                by_part[channel / 32][token][channel % 32] = *code as u8;
            }
        }
        let rows = value_codes.as_chunks_mut().0.chunks_exact_mut(value_rows(self.bits));
        for (codes, rows) in by_part.iter().zip(rows) {
            layout::pack_values(self.bits, codes, rows);
        }
    }

    fn unpack(&self, isa: Isa, packed: &[u8], out: &mut HeadF32) {
        out.set_shape(self.head_dim());
        match isa {
            Isa::Scalar => self.unpack_scalar(packed, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { avx2::unpack_grouped(self, packed, out) },
        }
    }

    fn attend_codes(
        &self,
        isa: Isa,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        match isa {
            Isa::Scalar => self.attend_scalar(stored, token, partial),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(avx2) => unsafe {
                avx2::attend_grouped(avx2.extension(), self, stored, token, partial)
            },
        }
    }
}

impl GroupedCode {
    /// # Panics
    /// `bits` is not 2 or 4; `group_size` is not 32, 64 or 128; or `head_dim` is not a multiple of it, or more than 256.
    pub fn new(head_dim: usize, bits: u8, group_size: usize) -> GroupedCode {
        assert!(bits == 2 || bits == 4, "{bits} bits");
        assert!([32, 64, 128].contains(&group_size), "groups of {group_size}");
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(group_size) && head_dim <= HeadShape::MAX_HEAD_DIM,
            "{head_dim} channels in groups of {group_size}"
        );
        let same = vec![1.0; head_dim];
        let statistics =
            KeyStatistics { mean: vec![0.0; head_dim], variance: same.clone(), query_square: same };
        GroupedCode { keys: KeyCode::new(&statistics, f32::from(bits)), bits, group_size }
    }

    /// Bits of a code.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Values that share a scale.
    pub fn group_size(&self) -> usize {
        self.group_size
    }

    /// Of keys, or of values.
    fn code_bytes(&self) -> usize {
        PAGE_TOKENS * self.head_dim() * usize::from(self.bits) / 8
    }

    /// Of keys, or of values.
    fn n_scales(&self) -> usize {
        PAGE_TOKENS * self.head_dim() / self.group_size
    }

    pub(super) fn parts<'a>(&self, bytes: &'a [u8]) -> Parts<'a> {
        let n = size_of::<Half>() * self.n_scales();
        let (keys, rest) = bytes.split_at(self.code_bytes());
        let (values, rest) = rest.split_at(self.code_bytes());
        let (key_scales, rest) = rest.split_at(n);
        let (key_minima, rest) = rest.split_at(n);
        let (value_scales, rest) = rest.split_at(n);
        Parts {
            keys: keys.as_chunks().0,
            values: values.as_chunks().0,
            key_scales: key_scales.as_chunks().0,
            key_minima: key_minima.as_chunks().0,
            value_scales: value_scales.as_chunks().0.as_chunks().0,
            value_minima: rest[..n].as_chunks().0.as_chunks().0,
        }
    }

    /// Scale and minimum of a group, which is turned into codes.
    fn quantize(&self, group: &mut [f32]) -> (Half, Half) {
        let (min, max) = group.iter().fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
        let top = ((1 << self.bits) - 1) as f32;
        // What is stored is what decides: codes are those nearest with the rounded scale and minimum.
        let (min, scale) = (f16::from_f32(min), f16::from_f32((max - min) / top));
        let per_scale = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
        for x in group {
            *x = ((*x - min.to_f32()) * per_scale + 0.5).clamp(0.0, top).floor();
        }
        (scale.to_le_bytes(), min.to_le_bytes())
    }

    /// What queries meet the keys of group `group` with.
    pub(super) fn operand<'a>(&'a self, scale: &'a GroupScale) -> KeyOperand<'a> {
        let d = self.head_dim();
        KeyOperand { step: &scale.step[..d], mean: &scale.mean[..d], ..self.keys.operand() }
    }

    /// Half of the largest code.
    pub(super) fn middle(&self) -> f32 {
        middle(self.bits)
    }

    fn attend_scalar(&self, stored: Stored<'_>, token: &mut TokenQueries, partial: &mut Partial<'_>) {
        let (packed, first_token) = (stored.bytes, stored.first_token());
        let (d, size) = (self.head_dim(), self.group_size);
        let parts = self.parts(packed);
        let n_rows = self.keys.planes.rows();
        let (queries, weights) = token.parts();
        for (row, (query, weights)) in queries.chunks_exact(d).zip(weights).enumerate() {
            let mut codes = vec![[0u8; BLOCK_TOKENS]; d];
            for (block, rows) in parts.keys.chunks_exact(n_rows).enumerate() {
                let group = block * BLOCK_TOKENS / size;
                let mut scale = GroupScale::EMPTY;
                for channel in 0..d {
                    let at = group * d + channel;
                    let (step, min) = (to_f32(parts.key_scales[at]), to_f32(parts.key_minima[at]));
                    scale.step[channel] = step;
                    scale.mean[channel] = step.mul_add(self.middle(), min);
                }
                let query = FrameQuery::still(self.operand(&scale), query);
                layout::unpack_keys(&self.keys, rows, &mut codes);
                for (t, score) in weights[block * BLOCK_TOKENS..][..BLOCK_TOKENS].iter_mut().enumerate() {
                    let sum: i32 = query
                        .integers
                        .iter()
                        .zip(&codes)
                        .map(|(q, codes)| i32::from(*q) * i32::from(codes[t]))
                        .sum();
                    *score = (sum as f32 - query.middle).mul_add(query.unit, query.mean);
                }
            }
            weights[..first_token].fill(f32::NEG_INFINITY);
            let (max, sum) = weights::softmax(weights);
            let out = partial.set(row, max, sum);
            let mut codes = [[0u8; 32]; PAGE_TOKENS];
            for (part, rows) in parts.values.chunks_exact(value_rows(self.bits)).enumerate() {
                let (scales, minima) =
                    (&parts.value_scales[32 * part / size], &parts.value_minima[32 * part / size]);
                let Integers { integers, units } = weights::integers(weights, |t| to_f32(scales[t]));
                let mut base = [0.0f32; 8];
                for (t, p) in weights.iter().enumerate() {
                    let middle = to_f32(scales[t]).mul_add(self.middle(), to_f32(minima[t]));
                    base[t % 8] = p.mul_add(middle, base[t % 8]);
                }
                let base = across(base, |a, b| a + b);
                layout::unpack_values(self.bits, rows, &mut codes);
                for (channel, out) in out[32 * part..][..32].iter_mut().enumerate() {
                    *out = base;
                    for (index, unit) in units.iter().enumerate() {
                        let tokens = index * WEIGHT_TOKENS..(index + 1) * WEIGHT_TOKENS;
                        let total: i32 = integers[tokens.clone()].iter().map(|w| i32::from(*w)).sum();
                        let product: i32 =
                            tokens.map(|t| i32::from(integers[t]) * i32::from(codes[t][channel])).sum();
                        let centred = product as f32 - total as f32 * self.middle();
                        *out = centred.mul_add(*unit, *out);
                    }
                }
            }
        }
    }
}
