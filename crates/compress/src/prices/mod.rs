//! What every type of every tensor takes and loses: what a [plan](crate::plan) is made of.
//!
//! A matrix of a layer is priced as it would be written: with error feedback from the calibration text, in each type that has fewer
//! bits than its own. Losses are measured on windows that made no statistics ([`Pricing::new`] parts the text), because what was
//! fitted to a text looks better there than it is.
//!
//! ```text
//! layer by layer:  Σ x xᵀ of the calibration text ──► 7 matrices × types, with feedback ──► ΔW ──► a price (crate::sensitivity)
//! behind the last: the embedding, and the matrix that makes logits, whose divergence is computed and not predicted
//! ```
//!
//! That changes of several tokens meet in one prediction is priced by kind of matrix: a factor for all layers, since a single
//! matrix's number for whole windows is too noisy ([`Prices::items`]).

mod choices;
mod ends;

pub use choices::{Parted, kind, part, priced_matrices, types_of};

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use lossy_engine::ModelSource;
use lossy_kernels::{Compute, Isa};
use lossy_quant::{DType, QuantError, dequantize, quantize};
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::feedback::{self, Factor, FeedbackError, Moments};
use crate::kept::{Kept, KeptError, piece_name};
use crate::network::output_matrix;
use crate::plan::{Candidate, Item, paying};
use crate::recipe::layer;
use crate::sensitivity::{Price, Sensitivities, Sensitivity};
use crate::statistics::{Collection, StatisticsError, StatisticsOptions};
use crate::weights::WeightError;

/// Of the tokens that are drawn.
const SEED: u64 = 1;
/// Why there are no prices.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// a text that is too short
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// a model that cannot be computed
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// a matrix that no price is known of
    #[error(
        "`{tensor}` cannot be priced: only the matrices of Llama's block, the embedding and the output matrix can"
    )]
    Unknown {
        /// the matrix
        tensor: String,
    },
    /// statistics that are not usable
    #[error("statistics of `{tensor}`: {error}")]
    Feedback {
        /// the matrix
        tensor: String,
        /// why
        error: FeedbackError,
    },
    /// finished pieces cannot be kept
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// the caller wants to stop
    #[error("stopped")]
    Stopped,
}

/// A type of a tensor, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TypePrice {
    /// name of the type
    #[serde(with = "by_name")]
    pub dtype: DType,
    /// tokens taken one by one, nats a token
    pub by_token: f64,
    /// windows taken whole
    pub by_window: f64,
}

impl TypePrice {
    fn new(dtype: DType, price: Price) -> TypePrice {
        TypePrice { dtype, by_token: price.by_token, by_window: price.by_window }
    }
}

/// A tensor with all its types, by rising bits; its own is the last, and costs nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorPrices {
    /// GGUF's name
    pub name: String,
    /// what it may become
    pub types: Vec<TypePrice>,
}

/// The prices of a model.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// in the order of layers; the embedding and the output matrix come last
    pub tensors: Vec<TensorPrices>,
}

impl Prices {
    /// By how much matrices of a kind (`attn_v`) cost more than tokens one by one say: whole windows over tokens, of all layers, the
    /// mean over types. Where there is nothing to compare, 1.
    pub fn factors(&self) -> BTreeMap<String, f64> {
        let mut sums: BTreeMap<(String, DType), Price> = BTreeMap::new();
        for tensor in self.tensors.iter().filter(|tensor| layer(&tensor.name) >= 0) {
            for price in &tensor.types {
                let sum = sums.entry((kind(&tensor.name).to_owned(), price.dtype)).or_default();
                *sum += Price { by_token: price.by_token, by_window: price.by_window };
            }
        }
        let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for ((kind, _), sum) in sums {
            let ratios = ratios.entry(kind).or_default();
            if sum.by_token > 0.0 {
                ratios.push(sum.by_window / sum.by_token);
            }
        }
        let mean = |ratios: Vec<f64>| {
            if ratios.is_empty() { 1.0 } else { ratios.iter().sum::<f64>() / ratios.len() as f64 }
        };
        ratios.into_iter().map(|(kind, ratios)| (kind, mean(ratios))).collect()
    }

    /// What a plan chooses from: the types that pay. `bytes`: what a tensor takes in a type.
    pub fn items(&self, mut bytes: impl FnMut(&str, DType) -> u64) -> Vec<Item> {
        let factors = self.factors();
        let item = |tensor: &TensorPrices| {
            let factor = factors.get(kind(&tensor.name)).copied().unwrap_or(1.0);
            let candidate = |price: &TypePrice| Candidate {
                dtype: price.dtype,
                bytes: bytes(&tensor.name, price.dtype),
                loss: price.by_token * factor,
            };
            let candidates: Vec<Candidate> = tensor.types.iter().map(candidate).collect();
            Item { name: tensor.name.clone(), candidates: paying(&candidates) }
        };
        self.tensors.iter().map(item).collect()
    }
}

/// Prices all matrices of a model, piece by piece.
pub struct Pricing<'a> {
    source: &'a ModelSource,
    text: &'a Parted<'a>,
    kept: &'a Kept,
    n_threads: usize,
}

/// What is left when all is priced.
pub struct Priced {
    /// the prices
    pub prices: Prices,
    /// of what the output matrix multiplies, for its feedback
    pub head_moments: Arc<Moments>,
}

impl<'a> Pricing<'a> {
    /// Layers that were priced before are taken from `kept`.
    pub fn new(
        source: &'a ModelSource,
        text: &'a Parted<'a>,
        kept: &'a Kept,
        n_threads: usize,
    ) -> Pricing<'a> {
        Pricing { source, text, kept, n_threads }
    }

    /// Prices them. `progress` is told the steps that are done and of how many: one for each layer, one for the way there, and two
    /// for what is behind.
    ///
    /// # Errors
    /// A weight cannot be read, statistics are no numbers, pieces cannot be kept, or the caller stops.
    pub fn run(
        &self,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Priced, PriceError> {
        let n_layers = self.source.info().n_layers;
        let n_total = n_layers + 3;
        let mut told = |n_done| match progress(n_done, n_total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(PriceError::Stopped),
        };
        told(0)?;
        let mut sensitivities = Sensitivities::new(self.source, &self.text.prices, SEED, self.n_threads)?;
        told(1)?;
        let options = StatisticsOptions { moments: true, n_threads: self.n_threads };
        let mut collection = Collection::new(self.source, &self.text.statistics, options)?;
        let mut tensors = Vec::new();
        for layer in 0..n_layers {
            let block = Block::load(self.source, layer)?;
            let found = sensitivities.next_layer(&block);
            let piece = format!("prices.{layer}.json");
            tensors.extend(match self.kept_prices(&piece) {
                Some(prices) => {
                    collection.skip_layer()?;
                    prices
                }
                None => self.keep(&piece, self.layer(&block, &found, &mut collection)?)?,
            });
            told(layer + 2)?;
        }
        let name = output_matrix(self.source);
        let failed = |error| PriceError::Feedback { tensor: name.to_owned(), error };
        let head_moments = Arc::new(collection.head_moments().map_err(failed)?);
        drop(collection);
        told(n_layers + 2)?;
        let piece = "prices.ends.json";
        tensors.extend(match self.kept_prices(piece) {
            Some(prices) => prices,
            None => self.keep(piece, ends::price(self, &sensitivities, &head_moments)?)?,
        });
        told(n_total)?;
        Ok(Priced { prices: Prices { tensors }, head_moments })
    }

    /// Prices that were computed before, if they can be read.
    fn kept_prices(&self, piece: &str) -> Option<Vec<TensorPrices>> {
        serde_json::from_slice(&self.kept.get(piece)?).ok()
    }

    /// Keeps prices, and gives them back.
    fn keep(&self, piece: &str, prices: Vec<TensorPrices>) -> Result<Vec<TensorPrices>, KeptError> {
        self.kept.put(piece, &serde_json::to_vec(&prices).unwrap_or_default())?;
        Ok(prices)
    }

    /// The seven matrices of a layer, each in all its types.
    fn layer(
        &self,
        block: &Block<f32>,
        found: &[Sensitivity],
        collection: &mut Collection<'_>,
    ) -> Result<Vec<TensorPrices>, PriceError> {
        let Some(statistics) = collection.next_layer()? else { return Ok(Vec::new()) };
        let cx = Compute::with_isa(self.n_threads, Isa::best());
        let mut prices = Vec::new();
        for of_input in &statistics.moments {
            let first = of_input.input.projections()[0].weight(statistics.layer);
            let failed = |error| PriceError::Feedback { tensor: first.clone(), error };
            let moments = of_input.means().map_err(failed)?;
            let factor = Factor::of(&moments).map_err(failed)?;
            // Matrices and types are independent of each other: one thread for each.
            let mut work = Vec::new();
            for sensitivity in found.iter().filter(|s| of_input.input.projections().contains(&s.projection)) {
                let name = sensitivity.projection.weight(statistics.layer);
                for dtype in self.types(&name) {
                    work.push((sensitivity, dtype, Ok((Vec::new(), Price::default()))));
                }
            }
            let feedback = Some((&moments, &factor)).filter(|_| moments.is_seen());
            cx.pool.run_mut(&mut work, |_, (sensitivity, dtype, found)| {
                let weight = block.weight(sensitivity.projection);
                *found = encoded(*dtype, weight, moments.n_cols(), feedback).and_then(|bytes| {
                    let price = sensitivity.price(weight, &decoded(*dtype, &bytes, weight.len())?);
                    Ok((bytes, price))
                });
            });
            let mut rounded = Vec::new();
            for (sensitivity, dtype, found) in work {
                let name = sensitivity.projection.weight(statistics.layer);
                let (bytes, price) =
                    found.map_err(|error| PriceError::Feedback { tensor: name.clone(), error })?;
                push(&mut prices, name.clone(), TypePrice::new(dtype, price));
                rounded.push((name, dtype, bytes));
            }
            // What pays is kept: a plan may choose it.
            for (name, dtype, bytes) in rounded {
                let Some(tensor) = prices.iter().find(|tensor| tensor.name == name) else { continue };
                if self.pays(tensor, dtype) {
                    self.kept.put(&piece_name(&name, dtype), &bytes)?;
                }
            }
        }
        for tensor in &mut prices {
            let own = self.own_type(&tensor.name);
            tensor.types.extend(own.map(|own| TypePrice::new(own, Price::default())));
        }
        Ok(prices)
    }

    /// Whether a plan may choose this type of a tensor; its own is not among its types yet.
    fn pays(&self, tensor: &TensorPrices, dtype: DType) -> bool {
        let Some(source) = self.source.tensor(&tensor.name) else { return false };
        let bytes = |dtype: DType| (source.n_values() / dtype.block_len() * dtype.block_bytes()) as u64;
        let candidate = |dtype: DType, loss: f64| Candidate { dtype, bytes: bytes(dtype), loss };
        let mut all: Vec<Candidate> =
            tensor.types.iter().map(|price| candidate(price.dtype, price.by_token)).collect();
        all.push(candidate(source.dtype, 0.0));
        paying(&all).iter().any(|found| found.dtype == dtype)
    }

    /// Types of fewer bits than the tensor's own.
    fn types(&self, name: &str) -> Vec<DType> {
        let Some(tensor) = self.source.tensor(name) else { return Vec::new() };
        let mut types = types_of(tensor.dtype, tensor.shape.last().copied().unwrap_or(1));
        types.pop();
        types
    }

    fn own_type(&self, name: &str) -> Option<DType> {
        self.source.tensor(name).map(|tensor| tensor.dtype)
    }
}

fn push(prices: &mut Vec<TensorPrices>, name: String, price: TypePrice) {
    match prices.last_mut().filter(|last| last.name == name) {
        Some(last) => last.types.push(price),
        None => prices.push(TensorPrices { name, types: vec![price] }),
    }
}

/// Rows as a file of this type has them, with feedback or without.
fn encoded(
    dtype: DType,
    weight: &[f32],
    n_cols: usize,
    feedback: Option<(&Moments, &Factor)>,
) -> Result<Vec<u8>, FeedbackError> {
    if let Some((moments, factor)) = feedback.filter(|_| dtype.block_len() > 1) {
        return feedback::quantize(
            dtype,
            feedback::Matrix { values: weight, n_cols },
            None,
            moments,
            factor,
            1,
        );
    }
    let partial = QuantError::PartialBlock { dtype, n_values: n_cols, block_len: dtype.block_len() };
    let row_bytes = dtype.bytes_for(n_cols).ok_or(FeedbackError::Row { row: 0, error: partial })?;
    let mut out = vec![0; weight.len() / n_cols * row_bytes];
    for (row, (values, out)) in weight.chunks_exact(n_cols).zip(out.chunks_exact_mut(row_bytes)).enumerate() {
        quantize(dtype, values, None, out).map_err(|error| FeedbackError::Row { row, error })?;
    }
    Ok(out)
}

fn decoded(dtype: DType, bytes: &[u8], n_values: usize) -> Result<Vec<f32>, FeedbackError> {
    let mut values = vec![0.0; n_values];
    dequantize(dtype, bytes, &mut values).map_err(|error| FeedbackError::Row { row: 0, error })?;
    Ok(values)
}

/// A type in JSON.
mod by_name {
    use lossy_quant::DType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dtype.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
        let name = String::deserialize(deserializer)?;
        crate::recipe::dtype_named(&name).map_err(D::Error::custom)
    }
}
