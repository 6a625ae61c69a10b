//! `kXvY`: bits where they matter for this model, found by calibration. See [`lossy_kernels::kv`] for the code.

use std::sync::Arc;

use lossy_kernels::Isa;
use lossy_kernels::kv::{ExactHead, HeadCode, HeadF32, KeyCode, KeyStatistics, Stored, ValueCode};
use lossy_kernels::page::{Partial, QueryRows, RowStates, TokenQueries};

use super::HeadStatistics;
use super::code::{PageCode, Place};
use super::family::{Context, Defaults, Family, KvSchemeError, KvStorage, Parsed, Rung};
use super::padding::Padding;
use crate::parameters::{ParameterError, Parameters, Spelling};

/// `k2v2`, `k3v2`, …, `k4v4`.
pub(super) const FAMILY: Family = Family {
    names: "k2v2, k3v3, k4v4 and mixtures such as k4v2",
    ladder: &[
        Rung { name: "k2v2", bits: 2.25 },
        Rung { name: "k3v2", bits: 2.75 },
        Rung { name: "k3v3", bits: 3.25 },
        Rung { name: "k4v3", bits: 3.75 },
        Rung { name: "k4v4", bits: 4.25 },
    ],
    parse: |name, parameters| {
        let [b'k', k @ b'2'..=b'4', b'v', v @ b'2'..=b'4'] = name.as_bytes() else { return None };
        Some(read(k - b'0', v - b'0', parameters))
    },
};

fn read(key_bits: u8, value_bits: u8, parameters: &mut Parameters<'_>) -> Parsed {
    let is_blind = parameters.flag("calibration", "none")?;
    let expected = "a share of attention's weights: a number from 0 (nothing is skipped) to below 1";
    let sparsity = parameters.value::<f32>("sparse", expected)?.unwrap_or(0.0);
    if !(0.0..1.0).contains(&sparsity) {
        return Err(ParameterError::value("sparse", sparsity, expected));
    }
    let sparsity = (sparsity > 0.0).then_some(sparsity);
    Ok(Arc::new(Calibrated { key_bits, value_bits, is_blind, sparsity }))
}

/// The name, without parameters, of the storage with the keys of one and the values of the other, if that exists.
pub(super) fn mixed(keys: &str, values: &str) -> Option<String> {
    let is_one = |name: &str| matches!(name.as_bytes(), [b'k', b'2'..=b'4', b'v', b'2'..=b'4', ..]);
    (is_one(keys) && is_one(values)).then(|| format!("{}{}", &keys[..2], &values[2..4]))
}

/// Values are stored in blocks of so many channels.
const CHANNELS: usize = 32;

/// Bits of keys above the whole number, in quarters of a channel: what 2.3 true bits leave room for.
const EXTRA_KEY_BITS: f32 = 0.25;

#[derive(Debug)]
struct Calibrated {
    key_bits: u8,
    value_bits: u8,
    /// whether nothing is known of the model: all channels of a head count alike, about a mean of 0
    is_blind: bool,
    /// what the pages that a token skips may weigh together, as a share of all weights
    sparsity: Option<f32>,
}

impl Calibrated {
    fn blind_statistics(head_dim: usize) -> HeadStatistics {
        HeadStatistics {
            key_mean: vec![0.0; head_dim],
            key_variance: vec![1.0; head_dim],
            query_square: vec![1.0; head_dim],
            value_mean: vec![0.0; head_dim],
            value_size: 1.0,
        }
    }
}

impl Calibrated {
    /// The code of one head, whose statistics are those of its own channels.
    fn head_code(&self, head: &HeadStatistics, padding: Padding) -> HeadCode {
        let key_bits = f32::from(self.key_bits) + EXTRA_KEY_BITS;
        let size = head.value_size.max(1e-6);
        if padding.is_none() {
            let keys = KeyStatistics {
                mean: head.key_mean.clone(),
                variance: head.key_variance.clone(),
                query_square: head.query_square.clone(),
            };
            let values = ValueCode::new(head.value_mean.clone(), size, self.value_bits);
            return HeadCode::new(KeyCode::new(&keys, key_bits), values);
        }
        let keys = KeyStatistics {
            mean: padding.padded(&head.key_mean),
            variance: padding.padded(&head.key_variance),
            query_square: padding.padded(&head.query_square),
        };
        // The size of values spreads over all channels that are stored.
        let mean = padding.transformed_with_zeros(&head.value_mean);
        let share = padding.share();
        let values = ValueCode::new(mean, size * share.sqrt(), self.value_bits);
        // What the bits of a channel are on average is said of channels that are not zeros.
        HeadCode::new(KeyCode::new(&keys, key_bits * share), values)
    }
}

impl KvStorage for Calibrated {
    fn name(&self) -> String {
        Spelling::new(format!("k{}v{}", self.key_bits, self.value_bits))
            .with("calibration", self.is_blind.then_some("none"))
            .with("sparse", self.sparsity)
            .end()
    }

    fn defaults(&self) -> Defaults {
        Defaults { sinks: 8, residual: 128 }
    }

    fn transforms_values(&self) -> bool {
        true
    }

    fn needs_calibration(&self) -> bool {
        !self.is_blind
    }

    fn sparsity(&self) -> Option<f32> {
        self.sparsity
    }

    fn channel_multiple(&self) -> usize {
        CHANNELS
    }

    fn codes(
        &self,
        context: &Context<'_>,
        stored_dim: usize,
    ) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        let geometry = context.geometry;
        let padding = Padding::new(geometry.head_dim, stored_dim);
        let layer = |heads: &[HeadStatistics]| -> Arc<dyn PageCode> {
            let heads: Vec<HeadCode> = heads.iter().map(|head| self.head_code(head, padding)).collect();
            let bytes = heads.iter().map(HeadCode::bytes).max().unwrap_or(64);
            Arc::new(CalibratedPage { heads, bytes })
        };
        if self.is_blind {
            let heads = vec![Calibrated::blind_statistics(geometry.head_dim); geometry.n_kv_heads];
            return Ok(vec![layer(&heads); geometry.n_layers]);
        }
        match context.calibration {
            Some(calibration) => Ok(calibration.layers().map(layer).collect()),
            None => Err(KvSchemeError::NotCalibrated { name: self.name() }),
        }
    }
}

/// One layer.
#[derive(Debug)]
struct CalibratedPage {
    /// of each KV head
    heads: Vec<HeadCode>,
    /// of the largest head
    bytes: usize,
}

impl PageCode for CalibratedPage {
    fn bytes_per_head(&self) -> usize {
        self.bytes
    }

    fn pack(&self, isa: Isa, place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]) {
        let code = &self.heads[place.kv_head];
        let mut head = HeadF32::default();
        head.load(exact);
        code.pack(isa, place.frames, &head, &mut packed[..code.bytes()]);
    }

    fn unpack(&self, isa: Isa, place: Place<'_>, packed: &[u8], out: &mut HeadF32) {
        let code = &self.heads[place.kv_head];
        code.unpack(isa, place.frames, &packed[..code.bytes()], out);
    }

    fn attend_token(
        &self,
        isa: Isa,
        place: Place<'_>,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) -> bool {
        if stored.sinks.is_some() {
            token.set_moved(isa, place.moved);
        }
        let code = &self.heads[place.kv_head];
        let stored = Stored { bytes: &stored.bytes[..code.bytes()], ..stored };
        code.attend_token(isa, place.frames, stored, token, partial);
        true
    }

    fn attend_rows(
        &self,
        isa: Isa,
        place: Place<'_>,
        stored: Stored<'_>,
        queries: &mut QueryRows,
        rows: &[u16],
        states: RowStates<'_>,
    ) -> bool {
        let code = &self.heads[place.kv_head];
        let stored = Stored { bytes: &stored.bytes[..code.bytes()], ..stored };
        code.attend_rows(isa, place.frames, stored, queries, rows, states);
        true
    }

    fn computes_alike(&self) -> bool {
        true
    }

    fn is_estimated(&self) -> bool {
        true
    }

    fn estimate_rows(
        &self,
        isa: Isa,
        place: Place<'_>,
        packed: &[u8],
        queries: &mut QueryRows,
        shifts: &[f32],
        weights: &mut [f32],
    ) {
        let code = &self.heads[place.kv_head];
        code.estimate_rows(isa, place.frames, &packed[..code.bytes()], queries, shifts, weights);
    }
}
