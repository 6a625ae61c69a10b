//! Statistics of a model's keys, queries and values, from which codes are made.
//!
//! Per layer and KV head, over windows of text that the model reads with an exact cache:
//!
//! ```text
//! w[j]    0.9 · Σ p² / ΣΣ p² + 0.1/n      p: exact attention of a query to key j, without the first tokens, which are
//!                                         kept exact, and without near pairs, which are too
//! keys    mean and variance under w, each key turned back by the first position of its frame
//! queries E[q²], averaged over the channels of a rotated pair, so that it holds at any distance
//! values  mean under w and root mean square around it, transformed
//! ```
//! A key that is attended to strongly weighs more: its error costs more.

use lossy_kernels::Compute;
use lossy_kernels::kv::hadamard;
use lossy_kernels::page::FRAME_TOKENS;
use lossy_kernels::page::Rows;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KvGeometry;
use crate::positions::Rope;

/// What is known of one KV head, by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadStatistics {
    /// weighted mean of keys, in their frames
    pub key_mean: Vec<f32>,
    /// their weighted variance
    pub key_variance: Vec<f32>,
    /// mean square of queries
    pub query_square: Vec<f32>,
    /// weighted mean of transformed values
    pub value_mean: Vec<f32>,
    /// root mean square of a channel of transformed values around their mean
    pub value_size: f32,
}

/// Statistics of all layers of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// what the statistics mean; another version is not read
    version: u32,
    /// tokens of a frame
    frame_tokens: usize,
    /// tokens seen
    n_tokens: usize,
    /// `[n_layers][n_kv_heads]`
    layers: Vec<Vec<HeadStatistics>>,
}

/// Changes whenever the statistics do.
const VERSION: u32 = 1;

impl Calibration {
    /// From statistics `[n_layers][n_kv_heads]` of `n_tokens` tokens.
    pub fn new(layers: Vec<Vec<HeadStatistics>>, n_tokens: usize) -> Calibration {
        Calibration { version: VERSION, frame_tokens: FRAME_TOKENS, n_tokens, layers }
    }

    /// The statistics of each layer's KV heads.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &[HeadStatistics]> {
        self.layers.iter().map(Vec::as_slice)
    }

    /// Tokens of text that they come from.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// What tells it from other statistics.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(serde_json::to_vec(self).expect("numbers and lists have a JSON form")).into()
    }

    /// Whether it was made for a model of this shape, by this version of the program.
    pub fn fits(&self, geometry: &KvGeometry) -> bool {
        let d = geometry.head_dim;
        let head_fits = |head: &HeadStatistics| {
            let all = [&head.key_mean, &head.key_variance, &head.query_square, &head.value_mean];
            head.value_size.is_finite()
                && all.iter().all(|values| values.len() == d && values.iter().all(|x| x.is_finite()))
        };
        self.version == VERSION
            && self.frame_tokens == FRAME_TOKENS
            && self.layers.len() == geometry.n_layers
            && self
                .layers
                .iter()
                .all(|heads| heads.len() == geometry.n_kv_heads && heads.iter().all(head_fits))
    }
}

/// Queries whose attention is computed: every so many-th.
const QUERY_STRIDE: usize = 4;
/// First tokens that are left out of the weights.
const LEFT_OUT: usize = 4;
/// Pairs nearer than this are left out.
const NEAR: usize = 16;

/// Sums of one KV head.
#[derive(Clone, Debug)]
struct Sums {
    weight: f64,
    key: Vec<f64>,
    key_square: Vec<f64>,
    n_queries: f64,
    query_square: Vec<f64>,
    value: Vec<f64>,
    value_square: f64,
}

/// Gathers statistics layer by layer while the model reads windows of text.
#[derive(Debug)]
pub(crate) struct Calibrator {
    geometry: KvGeometry,
    n_tokens: usize,
    /// `[n_layers][n_kv_heads]`
    sums: Vec<Vec<Sums>>,
    /// cosines and sines of frames' first positions
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Calibrator {
    /// For windows of at most `n_window` tokens, each of which begins at position 0.
    pub(crate) fn new(geometry: KvGeometry, rope: &Rope, n_window: usize) -> Calibrator {
        let d = geometry.head_dim;
        let empty = Sums {
            weight: 0.0,
            key: vec![0.0; d],
            key_square: vec![0.0; d],
            n_queries: 0.0,
            query_square: vec![0.0; d],
            value: vec![0.0; d],
            value_square: 0.0,
        };
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for frame in 0..n_window.div_ceil(FRAME_TOKENS) {
            rope.push_rotation(frame * FRAME_TOKENS, &mut cos, &mut sin);
        }
        Calibrator {
            geometry,
            n_tokens: 0,
            sums: vec![vec![empty; geometry.n_kv_heads]; geometry.n_layers],
            cos,
            sin,
        }
    }

    /// Takes the rotated queries and keys and the values of all tokens of a window in one layer.
    pub(crate) fn observe(
        &mut self,
        cx: &Compute,
        layer: usize,
        queries: Rows<'_>,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) {
        let KvGeometry { heads_per_kv, head_dim, .. } = self.geometry;
        if layer == 0 {
            self.n_tokens += keys.n_rows();
        }
        let (cos, sin) = (&self.cos, &self.sin);
        cx.pool.run_mut(&mut self.sums[layer], |kv_head, sums| {
            let keys = keys.skip(kv_head * head_dim);
            let values = values.skip(kv_head * head_dim);
            let queries = queries.skip(kv_head * heads_per_kv * head_dim);
            let weights = weights(queries, keys, heads_per_kv, head_dim);
            sums.add(queries, keys, values, &weights, heads_per_kv, head_dim, cos, sin);
        });
    }

    /// The statistics, of at least one window.
    pub(crate) fn finish(self) -> Calibration {
        let of_head = |sums: &Sums| sums.finish();
        let layers = self.sums.iter().map(|heads| heads.iter().map(of_head).collect()).collect();
        Calibration::new(layers, self.n_tokens)
    }
}

impl Sums {
    #[allow(clippy::too_many_arguments, reason = "one window of one head")]
    fn add(
        &mut self,
        queries: Rows<'_>,
        keys: Rows<'_>,
        values: Rows<'_>,
        weights: &[f64],
        heads_per_kv: usize,
        head_dim: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        let half = head_dim / 2;
        let mut value = vec![0.0; head_dim];
        for (token, weight) in weights.iter().enumerate() {
            let key = keys.row(token, head_dim);
            let frame = token / FRAME_TOKENS * half;
            for pair in 0..half {
                let (a, b) = (key[pair], key[pair + half]);
                let (cos, sin) = (cos[frame + pair], sin[frame + pair]);
                for (channel, k) in [(pair, a * cos + b * sin), (pair + half, b * cos - a * sin)] {
                    self.key[channel] += weight * f64::from(k);
                    self.key_square[channel] += weight * f64::from(k) * f64::from(k);
                }
            }
            for query in queries.row(token, heads_per_kv * head_dim).chunks_exact(head_dim) {
                for pair in 0..half {
                    let square =
                        (f64::from(query[pair]).powi(2) + f64::from(query[pair + half]).powi(2)) / 2.0;
                    self.query_square[pair] += square;
                    self.query_square[pair + half] += square;
                }
            }
            self.n_queries += heads_per_kv as f64;
            value.copy_from_slice(values.row(token, head_dim));
            hadamard(&mut value);
            for (sum, v) in self.value.iter_mut().zip(&value) {
                *sum += weight * f64::from(*v);
                self.value_square += weight * f64::from(*v).powi(2);
            }
            self.weight += weight;
        }
    }

    fn finish(&self) -> HeadStatistics {
        let total = self.weight.max(f64::MIN_POSITIVE);
        let key_mean: Vec<f64> = self.key.iter().map(|sum| sum / total).collect();
        let key_variance = self.key_square.iter().zip(&key_mean).map(|(s, m)| (s / total - m * m).max(0.0));
        let query_square: Vec<f64> =
            self.query_square.iter().map(|sum| sum / self.n_queries.max(1.0)).collect();
        let floor = 1e-2 * query_square.iter().sum::<f64>() / query_square.len() as f64;
        let value_mean: Vec<f64> = self.value.iter().map(|sum| sum / total).collect();
        let mean_square: f64 = value_mean.iter().map(|m| m * m).sum();
        let spread = (self.value_square / total - mean_square).max(0.0) / value_mean.len() as f64;
        HeadStatistics {
            key_variance: key_variance.map(|v| v as f32).collect(),
            key_mean: key_mean.iter().map(|m| *m as f32).collect(),
            query_square: query_square.iter().map(|m| (m + floor) as f32).collect(),
            value_mean: value_mean.iter().map(|m| *m as f32).collect(),
            value_size: spread.sqrt() as f32,
        }
    }
}

/// How much the error of each key costs; they sum to 1.
fn weights(queries: Rows<'_>, keys: Rows<'_>, heads_per_kv: usize, head_dim: usize) -> Vec<f64> {
    let n = keys.n_rows();
    let scale = 1.0 / (head_dim as f32).sqrt();
    // A row per channel, so that scores of neighbouring keys are neighbours.
    let mut by_channel = vec![0.0f32; n * head_dim];
    for token in 0..n {
        for (channel, k) in keys.row(token, head_dim).iter().enumerate() {
            by_channel[channel * n + token] = *k;
        }
    }
    let mut costs = vec![0.0f64; n];
    let mut scores = vec![0.0f32; n];
    for token in (LEFT_OUT + NEAR..n).step_by(QUERY_STRIDE) {
        for query in queries.row(token, heads_per_kv * head_dim).chunks_exact(head_dim) {
            let scores = &mut scores[..=token];
            scores.fill(0.0);
            for (q, keys) in query.iter().zip(by_channel.chunks_exact(n)) {
                let q = q * scale;
                scores.iter_mut().zip(keys).for_each(|(s, k)| *s += q * k);
            }
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for s in scores.iter_mut() {
                *s = (*s - max).exp();
                sum += *s;
            }
            let costs = costs.iter_mut().zip(scores.iter()).take(token - NEAR + 1).skip(LEFT_OUT);
            costs.for_each(|(cost, s)| *cost += f64::from(s / sum).powi(2));
        }
    }
    let total: f64 = costs.iter().sum();
    let even = 1.0 / n as f64;
    costs.iter().map(|cost| if total > 0.0 { 0.9 * cost / total + 0.1 * even } else { even }).collect()
}
