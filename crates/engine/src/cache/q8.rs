//! `q8`: eight bits with a scale for every 32 channels of a token, as llama.cpp's `q8_0`. 8.5 bits a value.
//!
//! ```text
//! head   codes of keys [128][head_dim] · codes of values [128][head_dim]
//!        scales (f16) of keys [128][head_dim/32] · of values [128][head_dim/32] · padding
//! ```

use std::sync::Arc;

use half::f16;
use lossy_kernels::Isa;
use lossy_kernels::attention::{ExactHead, key_index};
use lossy_kernels::kv::RangeF32;

use super::PAGE_TOKENS;
use super::code::{PageCode, Place};
use super::scheme::{Context, Defaults, Family, KvSchemeError, KvStorage};

/// `q8`, `q8_0`.
pub(super) const FAMILY: Family = Family {
    names: "q8",
    parse: |name, _| match name {
        "q8" | "q8_0" => Some(Ok(Arc::new(Q8))),
        _ => None,
    },
};

/// Channels that share a scale.
const BLOCK: usize = 32;

#[derive(Debug)]
struct Q8;

impl KvStorage for Q8 {
    fn name(&self) -> String {
        "q8".to_owned()
    }

    fn defaults(&self) -> Defaults {
        Defaults { sinks: 0, residual: 0 }
    }

    fn codes(&self, context: &Context<'_>) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        let head_dim = context.geometry.head_dim;
        if !head_dim.is_multiple_of(BLOCK) {
            return Err(KvSchemeError::Model {
                name: self.name(),
                reason: format!(
                    "its heads have {head_dim} channels, which is not a multiple of {BLOCK}; use f16"
                ),
            });
        }
        let code: Arc<dyn PageCode> = Arc::new(Q8Page { head_dim });
        Ok(vec![code; context.geometry.n_layers])
    }
}

#[derive(Debug)]
struct Q8Page {
    head_dim: usize,
}

impl Q8Page {
    /// Codes of keys or of values.
    fn n_codes(&self) -> usize {
        PAGE_TOKENS * self.head_dim
    }
}

fn quantize(block: &[f32], codes: &mut [u8], scale: &mut [u8]) {
    let largest = block.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let unit = f16::from_f32(largest / 127.0);
    scale.copy_from_slice(&unit.to_le_bytes());
    let per_unit = if unit.to_f32() > 0.0 { 1.0 / unit.to_f32() } else { 0.0 };
    for (code, x) in codes.iter_mut().zip(block) {
        *code = (x * per_unit).round().clamp(-127.0, 127.0) as i8 as u8;
    }
}

impl PageCode for Q8Page {
    fn bytes_per_head(&self) -> usize {
        (2 * self.n_codes() + 2 * self.n_codes() / BLOCK * 2).next_multiple_of(64)
    }

    fn pack(&self, _isa: Isa, _place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]) {
        let mut range = RangeF32::default();
        range.load(exact);
        let (keys, values) = range.keys_and_values();
        let n = self.n_codes();
        let mut rows = vec![0.0; 2 * n];
        for token in 0..PAGE_TOKENS {
            for channel in 0..self.head_dim {
                rows[token * self.head_dim + channel] = keys[key_index(self.head_dim, token, channel)];
            }
        }
        rows[n..].copy_from_slice(values);
        let (codes, scales) = packed.split_at_mut(2 * n);
        let blocks = codes.chunks_exact_mut(BLOCK).zip(scales.chunks_exact_mut(2));
        for (block, (codes, scale)) in rows.chunks_exact(BLOCK).zip(blocks) {
            quantize(block, codes, scale);
        }
    }

    fn unpack(&self, _isa: Isa, _place: Place<'_>, packed: &[u8], out: &mut RangeF32) {
        out.set_shape(self.head_dim);
        let (keys, values) = out.keys_and_values_mut();
        let n = self.n_codes();
        let (codes, scales) = packed.split_at(2 * n);
        let scale = |index: usize| f16::from_le_bytes([scales[2 * index], scales[2 * index + 1]]).to_f32();
        for (index, codes) in codes[..n].chunks_exact(BLOCK).enumerate() {
            let (scale, first) = (scale(index), index * BLOCK);
            let (token, channel) = (first / self.head_dim, first % self.head_dim);
            for (offset, code) in codes.iter().enumerate() {
                keys[key_index(self.head_dim, token, channel + offset)] = scale * f32::from(*code as i8);
            }
        }
        let blocks = values.chunks_exact_mut(BLOCK).zip(codes[n..].chunks_exact(BLOCK));
        for (index, (to, codes)) in blocks.enumerate() {
            let scale = scale(n / BLOCK + index);
            for (to, code) in to.iter_mut().zip(codes) {
                *to = scale * f32::from(*code as i8);
            }
        }
    }
}
