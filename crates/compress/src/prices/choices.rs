//! What is priced: matrices, their types, and the text.

use lossy_engine::ModelSource;
use lossy_quant::DType;

use super::PriceError;
use crate::block::Projection;
use crate::network::{EMBEDDING, output_matrix};
use crate::recipe::is_quantized;
use crate::sensitivity;
use crate::statistics::{StatisticsError, WINDOW, windows};

/// One window of the text in so many is for prices, and makes no statistics.
const ONE_IN: usize = 12;
/// Windows of statistics that are taken apart for prices at most.
const MOST: usize = 4;

/// Types that a plan chooses from, by rising bits. The older ones are for rows that 256 does not divide: for others each has a K
/// type of as many bits that loses less.
const TYPES: [(DType, bool); 13] = [
    (DType::Q2K, true),
    (DType::Q3K, true),
    (DType::IQ4XS, true),
    (DType::Q4K, true),
    (DType::Q4_0, false),
    (DType::IQ4NL, false),
    (DType::Q4_1, false),
    (DType::Q5K, true),
    (DType::Q5_0, false),
    (DType::Q5_1, false),
    (DType::Q6K, true),
    (DType::Q8_0, true),
    (DType::F16, true),
];

/// `attn_v` of `blk.7.attn_v.weight`, and `token_embd` of `token_embd.weight`.
pub fn kind(name: &str) -> &str {
    let rest = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, rest)| rest);
    rest.strip_suffix(".weight").unwrap_or(rest)
}

/// The types that a matrix may get: those of fewer bits than its own that divide its rows, and its own.
pub fn types_of(own: DType, n_cols: usize) -> Vec<DType> {
    let bits = |dtype: DType| dtype.block_bytes() as f64 / dtype.block_len() as f64;
    let is_wide = n_cols.is_multiple_of(256);
    let mut types: Vec<DType> = TYPES
        .iter()
        .filter(|(dtype, is_for_wide)| n_cols.is_multiple_of(dtype.block_len()) && (*is_for_wide || !is_wide))
        .map(|(dtype, _)| *dtype)
        .filter(|&dtype| bits(dtype) < bits(own))
        .collect();
    types.push(own);
    types
}

/// The matrices of a source that a plan chooses types of.
///
/// # Errors
/// There is one that cannot be priced.
pub fn priced_matrices(source: &ModelSource) -> Result<Vec<(String, Vec<DType>)>, PriceError> {
    let mut found = Vec::new();
    for tensor in source.tensors().filter(|tensor| is_quantized(tensor.name, tensor.shape)) {
        let is_of_block = Projection::ALL.iter().any(|projection| projection.name() == kind(tensor.name));
        if !is_of_block && tensor.name != EMBEDDING && tensor.name != output_matrix(source) {
            return Err(PriceError::Unknown { tensor: tensor.name.to_owned() });
        }
        let n_cols = tensor.shape.last().copied().unwrap_or(1);
        found.push((tensor.name.to_owned(), types_of(tensor.dtype, n_cols)));
    }
    Ok(found)
}

/// A calibration text, parted.
#[derive(Clone, Debug)]
pub struct Parted<'a> {
    /// what statistics are made of
    pub statistics: Vec<&'a [u32]>,
    /// what prices are made of
    pub prices: Vec<&'a [u32]>,
}

/// Parts a text: windows for prices are spread evenly over it.
///
/// # Errors
/// It is too short.
pub fn part(tokens: &[u32]) -> Result<Parted<'_>, StatisticsError> {
    let all = windows(tokens)?;
    let n_prices = (all.len() / ONE_IN).clamp(1, MOST);
    let step = all.len() / n_prices;
    let (mut statistics, mut prices) = (Vec::new(), Vec::new());
    for (index, window) in all.into_iter().enumerate() {
        if index % step == step / 2 && prices.len() < n_prices * (WINDOW / sensitivity::WINDOW) {
            prices.extend(window.chunks_exact(sensitivity::WINDOW));
        } else {
            statistics.push(window);
        }
    }
    Ok(Parted { statistics, prices })
}
