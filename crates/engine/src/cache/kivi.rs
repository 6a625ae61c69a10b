//! `kivi2`, `kivi4`: KIVI (arXiv 2402.02750, algorithm 1), the reference that others know.
//!
//! Keys are quantized per channel over `group_size` consecutive tokens, values per token over `group_size` consecutive
//! channels; asymmetric, to nearest:
//!
//! ```text
//! scale = (max − min)/(2^b − 1)     code = round((x − min)/scale)     x̂ = min + scale·code     scale, min as f16
//!
//! head   codes of keys [n_groups][head_dim][group_size] · scale, min [n_groups][head_dim]
//!        codes of values [128][head_dim] · scale, min [128][head_dim/group_size] · padding
//! ```
//! Codes lie in that order, the first in the lowest bits. A group is 32 to 128 tokens of one page, so never of two
//! sequences, and never fewer tokens than it is billed for. Two things differ from the published code: recent tokens stay
//! exact by whole pages, at least `residual_length` of keys and of values; and a long prompt reads codes as soon as it is
//! that far away, where the published code reads exact keys until the prompt ends.

use std::sync::Arc;

use half::f16;
use lossy_kernels::Isa;
use lossy_kernels::attention::{ExactHead, key_index};
use lossy_kernels::kv::RangeF32;

use super::PAGE_TOKENS;
use super::code::{PageCode, Place};
use super::scheme::{Context, Defaults, Family, KvSchemeError, KvStorage, Parameters, Parsed};

/// `kivi2`, `kivi4`.
pub(super) const FAMILY: Family = Family { names: "kivi2, kivi4", parse };

const GROUP_SIZE: usize = 32;

fn parse(name: &str, parameters: &mut Parameters) -> Option<Parsed> {
    let bits = match name {
        "kivi2" => 2,
        "kivi4" => 4,
        _ => return None,
    };
    let mut storage = || {
        let group_size = parameters.number(&["group_size"])?.unwrap_or(GROUP_SIZE);
        if ![32, 64, 128].contains(&group_size) {
            return Err(KvSchemeError::Parameter {
                key: "group_size".to_owned(),
                value: group_size.to_string(),
                expected: "32, 64 or 128".to_owned(),
            });
        }
        Ok(Arc::new(Kivi { bits, group_size }) as Arc<dyn KvStorage>)
    };
    Some(storage())
}

#[derive(Debug)]
struct Kivi {
    bits: usize,
    group_size: usize,
}

impl KvStorage for Kivi {
    fn name(&self) -> String {
        match self.group_size {
            GROUP_SIZE => format!("kivi{}", self.bits),
            group_size => format!("kivi{}:group_size={group_size}", self.bits),
        }
    }

    fn defaults(&self) -> Defaults {
        Defaults { sinks: 0, residual: 128 }
    }

    fn codes(&self, context: &Context<'_>) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        let head_dim = context.geometry.head_dim;
        if !head_dim.is_multiple_of(self.group_size) {
            return Err(KvSchemeError::Model {
                name: self.name(),
                reason: format!(
                    "its heads have {head_dim} channels, which are no whole number of groups of {}; set a smaller group_size",
                    self.group_size
                ),
            });
        }
        let code: Arc<dyn PageCode> =
            Arc::new(KiviPage { bits: self.bits, group_size: self.group_size, head_dim });
        Ok(vec![code; context.geometry.n_layers])
    }
}

#[derive(Debug)]
struct KiviPage {
    bits: usize,
    group_size: usize,
    head_dim: usize,
}

/// Bytes of a scale and a minimum.
const METADATA: usize = 4;

impl KiviPage {
    /// Bytes of the codes of keys, of their metadata, of the codes of values, and of theirs.
    fn sizes(&self) -> [usize; 4] {
        let codes = PAGE_TOKENS * self.head_dim * self.bits / 8;
        let metadata = PAGE_TOKENS / self.group_size * self.head_dim * METADATA;
        [codes, metadata, codes, PAGE_TOKENS * self.head_dim / self.group_size * METADATA]
    }

    /// Codes and metadata of a group.
    fn quantize(&self, group: &[f32], codes: &mut [u8], metadata: &mut [u8]) {
        let (min, max) = group.iter().fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
        let top = ((1 << self.bits) - 1) as f32;
        // What is stored is what decides: codes are those nearest with the rounded scale and minimum.
        let (min, scale) = (f16::from_f32(min), f16::from_f32((max - min) / top));
        metadata[..2].copy_from_slice(&scale.to_le_bytes());
        metadata[2..].copy_from_slice(&min.to_le_bytes());
        let (min, scale) = (min.to_f32(), scale.to_f32());
        let per_scale = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let per_byte = 8 / self.bits;
        for (byte, values) in codes.iter_mut().zip(group.chunks_exact(per_byte)) {
            *byte = values.iter().rev().fold(0, |byte, x| {
                let code = ((x - min) * per_scale + 0.5).clamp(0.0, top) as u8;
                byte << self.bits | code
            });
        }
    }

    /// What the codes of a group stand for.
    fn dequantize(&self, codes: &[u8], metadata: &[u8], mut put: impl FnMut(usize, f32)) {
        let scale = f16::from_le_bytes([metadata[0], metadata[1]]).to_f32();
        let min = f16::from_le_bytes([metadata[2], metadata[3]]).to_f32();
        let (per_byte, mask) = (8 / self.bits, (1u8 << self.bits) - 1);
        for (index, byte) in codes.iter().enumerate() {
            for part in 0..per_byte {
                put(index * per_byte + part, min + scale * f32::from(byte >> (part * self.bits) & mask));
            }
        }
    }
}

/// Splits off the parts of a head.
fn split<const N: usize>(mut bytes: &[u8], sizes: [usize; N]) -> [&[u8]; N] {
    sizes.map(|size| {
        let (part, rest) = bytes.split_at(size);
        bytes = rest;
        part
    })
}

impl PageCode for KiviPage {
    fn bytes_per_head(&self) -> usize {
        self.sizes().iter().sum::<usize>().next_multiple_of(64)
    }

    fn pack(&self, _isa: Isa, _place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]) {
        let mut range = RangeF32::default();
        range.load(exact);
        let (keys, values) = range.keys_and_values();
        let [n_key_codes, n_key_metadata, n_value_codes, _] = self.sizes();
        let (key_codes, rest) = packed.split_at_mut(n_key_codes);
        let (key_metadata, rest) = rest.split_at_mut(n_key_metadata);
        let (value_codes, value_metadata) = rest.split_at_mut(n_value_codes);
        let group_bytes = self.group_size * self.bits / 8;
        let groups = key_codes.chunks_exact_mut(group_bytes).zip(key_metadata.chunks_exact_mut(METADATA));
        let mut group = vec![0.0; self.group_size];
        for (index, (codes, metadata)) in groups.enumerate() {
            let (first, channel) = (index / self.head_dim * self.group_size, index % self.head_dim);
            for (offset, to) in group.iter_mut().enumerate() {
                *to = keys[key_index(self.head_dim, first + offset, channel)];
            }
            self.quantize(&group, codes, metadata);
        }
        let groups = value_codes.chunks_exact_mut(group_bytes).zip(value_metadata.chunks_exact_mut(METADATA));
        for (group, (codes, metadata)) in values.chunks_exact(self.group_size).zip(groups) {
            self.quantize(group, codes, metadata);
        }
    }

    fn unpack(&self, _isa: Isa, _place: Place<'_>, packed: &[u8], out: &mut RangeF32) {
        out.set_shape(self.head_dim);
        let (keys, values) = out.keys_and_values_mut();
        let [key_codes, key_metadata, value_codes, value_metadata] = split(packed, self.sizes());
        let group_bytes = self.group_size * self.bits / 8;
        let groups = key_codes.chunks_exact(group_bytes).zip(key_metadata.chunks_exact(METADATA));
        for (index, (codes, metadata)) in groups.enumerate() {
            let (first, channel) = (index / self.head_dim * self.group_size, index % self.head_dim);
            self.dequantize(codes, metadata, |offset, x| {
                keys[key_index(self.head_dim, first + offset, channel)] = x;
            });
        }
        let groups = value_codes.chunks_exact(group_bytes).zip(value_metadata.chunks_exact(METADATA));
        for (group, (codes, metadata)) in values.chunks_exact_mut(self.group_size).zip(groups) {
            self.dequantize(codes, metadata, |offset, x| group[offset] = x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rope, RopeConfig, RopeScaling};
    use crate::positions::{PositionMap, Positions};
    use lossy_kernels::KvType;

    /// Positions as they are: codes are of keys as they come.
    fn positions() -> Positions {
        let config = RopeConfig { base: 10_000.0, scaling: RopeScaling::None };
        Positions::new(PositionMap::Linear, Rope::new(&config, 64), PAGE_TOKENS)
    }

    fn page(bits: usize, group_size: usize) -> KiviPage {
        KiviPage { bits, group_size, head_dim: 64 }
    }

    /// Keys with an outlier channel, values with an outlier token.
    fn round_trip(page: &KiviPage) -> (Vec<f32>, Vec<f32>) {
        let n = PAGE_TOKENS * page.head_dim;
        let mut exact: Vec<f32> = (0..2 * n).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).sin()).collect();
        for token in 0..PAGE_TOKENS {
            exact[key_index(page.head_dim, token, 7)] *= 100.0;
        }
        exact[n + 5 * page.head_dim..n + 6 * page.head_dim].iter_mut().for_each(|v| *v *= 100.0);
        let head = ExactHead::new(KvType::F32, page.head_dim, bytemuck::cast_slice(&exact));
        let mut packed = vec![0xFF; page.bytes_per_head()];
        let positions = positions();
        let place = Place::itself(&positions, 0, 0);
        page.pack(Isa::best(), place, head, &mut packed);
        let mut out = RangeF32::default();
        page.unpack(Isa::best(), place, &packed, &mut out);
        let (keys, values) = out.keys_and_values();
        (exact, [keys, values].concat())
    }

    #[test]
    fn every_value_is_within_half_a_step_of_its_group() {
        for (bits, group_size) in [(2, 32), (2, 64), (4, 32), (4, 64)] {
            let page = page(bits, group_size);
            let (exact, got) = round_trip(&page);
            let n = PAGE_TOKENS * page.head_dim;
            let check = |indices: Vec<usize>| {
                let group = indices.iter().map(|i| exact[*i]);
                let (min, max) = group.fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(x), b.max(x)));
                let step = (max - min) / ((1 << bits) - 1) as f32;
                for i in indices {
                    let error = (exact[i] - got[i]).abs();
                    // Scale and minimum are rounded to f16: 2^-11 of what they reach.
                    assert!(error <= step / 2.0 + 2e-3 * max.abs().max(min.abs()), "{error} of {step}");
                }
            };
            for channel in 0..page.head_dim {
                for first in (0..PAGE_TOKENS).step_by(group_size) {
                    check(
                        (first..first + group_size).map(|t| key_index(page.head_dim, t, channel)).collect(),
                    );
                }
            }
            for first in (n..2 * n).step_by(group_size) {
                check((first..first + group_size).collect());
            }
        }
    }

    #[test]
    fn groups_are_really_quantized_and_billed_with_their_metadata() {
        for (bits, group_size, billed) in [(2, 32, 3.0), (2, 64, 2.5), (4, 32, 5.0)] {
            let page = page(bits, group_size);
            assert_eq!(page.bits_per_value(64), billed);
            let (exact, got) = round_trip(&page);
            // No group of one token, which would be exact.
            let n_equal = exact.iter().zip(&got).filter(|(a, b)| a == b).count();
            assert!(n_equal < exact.len() / 8, "{n_equal} values of {} are exact", exact.len());
        }
    }

    #[test]
    fn an_outlier_channel_of_keys_does_not_disturb_the_other_channels() {
        let page = page(2, 32);
        let (exact, got) = round_trip(&page);
        for token in 0..PAGE_TOKENS {
            for channel in (0..page.head_dim).filter(|channel| *channel != 7) {
                let i = key_index(page.head_dim, token, channel);
                assert!((exact[i] - got[i]).abs() < 0.4, "token {token}, channel {channel}");
            }
        }
    }

    #[test]
    fn an_outlier_token_of_values_does_not_disturb_the_other_tokens() {
        let page = page(2, 32);
        let (exact, got) = round_trip(&page);
        let n = PAGE_TOKENS * page.head_dim;
        for i in (n..2 * n).filter(|i| (i - n) / page.head_dim != 5) {
            assert!((exact[i] - got[i]).abs() < 0.4);
        }
    }
}
