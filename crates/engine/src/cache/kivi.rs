//! `kivi2`, `kivi4`: KIVI (arXiv 2402.02750, algorithm 1), the reference that others know.
//!
//! Keys are quantized per channel over `group_size` consecutive tokens, values per token over `group_size` consecutive
//! channels; see [`GroupedCode`] for the arithmetic and the layout. A group is 32 to 128 tokens of one page, so never of
//! two sequences, and never fewer tokens than it is billed for.
//!
//! Two things differ from the published code. Recent tokens stay exact by whole pages: the last `residual_length` of keys
//! and of values at least, and up to a page more, where it keeps (length mod `residual_length`) keys and the last
//! `residual_length` values. And a long prompt reads codes as soon as it is that far away, where it reads exact keys and
//! values until the prompt ends; `--exact-prefill` does so too.

use std::sync::Arc;

use lossy_kernels::kv::GroupedCode;

use super::code::{PageCode, RotatedPage};
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
    bits: u8,
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
            Arc::new(RotatedPage(GroupedCode::new(head_dim, self.bits, self.group_size)));
        Ok(vec![code; context.geometry.n_layers])
    }
}

#[cfg(test)]
mod tests {
    use super::super::PAGE_TOKENS;
    use super::super::code::Place;
    use super::*;
    use crate::model::{Rope, RopeConfig, RopeScaling};
    use crate::positions::{PositionMap, Positions};
    use lossy_kernels::attention::ExactHead;
    use lossy_kernels::attention::key_index;
    use lossy_kernels::kv::{RangeCode, RangeF32};
    use lossy_kernels::{Isa, KvType};

    /// Positions as they are: codes are of keys as they come.
    fn positions() -> Positions {
        let config = RopeConfig { base: 10_000.0, scaling: RopeScaling::None };
        Positions::new(PositionMap::Linear, Rope::new(&config, 64), PAGE_TOKENS)
    }

    fn page(bits: u8, group_size: usize) -> RotatedPage<GroupedCode> {
        RotatedPage(GroupedCode::new(64, bits, group_size))
    }

    /// Keys with an outlier channel, values with an outlier token.
    fn round_trip(page: &RotatedPage<GroupedCode>) -> (Vec<f32>, Vec<f32>) {
        let n = PAGE_TOKENS * page.0.head_dim();
        let mut exact: Vec<f32> = (0..2 * n).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).sin()).collect();
        for token in 0..PAGE_TOKENS {
            exact[key_index(page.0.head_dim(), token, 7)] *= 100.0;
        }
        exact[n + 5 * page.0.head_dim()..n + 6 * page.0.head_dim()].iter_mut().for_each(|v| *v *= 100.0);
        let head = ExactHead::new(KvType::F32, page.0.head_dim(), bytemuck::cast_slice(&exact));
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
            let n = PAGE_TOKENS * page.0.head_dim();
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
            for channel in 0..page.0.head_dim() {
                for first in (0..PAGE_TOKENS).step_by(group_size) {
                    check(
                        (first..first + group_size)
                            .map(|t| key_index(page.0.head_dim(), t, channel))
                            .collect(),
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
            for channel in (0..page.0.head_dim()).filter(|channel| *channel != 7) {
                let i = key_index(page.0.head_dim(), token, channel);
                assert!((exact[i] - got[i]).abs() < 0.4, "token {token}, channel {channel}");
            }
        }
    }

    #[test]
    fn an_outlier_token_of_values_does_not_disturb_the_other_tokens() {
        let page = page(2, 32);
        let (exact, got) = round_trip(&page);
        let n = PAGE_TOKENS * page.0.head_dim();
        for i in (n..2 * n).filter(|i| (i - n) / page.0.head_dim() != 5) {
            assert!((exact[i] - got[i]).abs() < 0.4);
        }
    }
}
