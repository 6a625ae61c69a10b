//! The embedding, and the matrix that makes logits.
//!
//! Nothing comes after logits, so what the output matrix loses is no prediction: with `d = ΔW x` it is
//!
//! ```text
//! KL = ln E_p[exp d] − E_p[d]          p the model's own prediction
//! ```
//!
//! computed for some rows of the vocabulary at a time. A token's embedding is a vector that is added once: its price is that of a
//! matrix whose input is the token's number. Where both are one matrix, the prices are added.

use lossy_kernels::dense::{Into, View, ViewMut, product};
use lossy_kernels::{Compute, Isa};
use lossy_quant::DType;

use super::{PriceError, Pricing, TensorPrices, TypePrice, decoded, encoded};
use crate::feedback::{Factor, FeedbackError, Moments};
use crate::network::{EMBEDDING, Network, output_matrix};
use crate::sensitivity::{Price, Sensitivities, price_of};
use crate::weights::{WeightError, WeightSource};

/// Rows of the vocabulary that are in memory at once, for each thread.
const ROWS: usize = 1024;

/// All types of both.
pub(super) fn price(
    pricing: &Pricing<'_>,
    sensitivities: &Sensitivities<'_>,
    moments: &Moments,
) -> Result<Vec<TensorPrices>, PriceError> {
    let output = output_matrix(pricing.source);
    let failed = |name: &str| {
        let tensor = name.to_owned();
        move |error| PriceError::Feedback { tensor, error }
    };
    let factor = Factor::of(moments).map_err(failed(output))?;
    let feedback = Some((moments, &factor)).filter(|_| moments.is_seen());
    let types = pricing.types(output);
    let of_output = logits(pricing, sensitivities, &types, feedback)?;
    let is_tied = output == EMBEDDING;
    let types_of_embedding = pricing.types(EMBEDDING);
    let of_embedding = embeddings(pricing, sensitivities, &types_of_embedding, feedback.filter(|_| is_tied))?;
    let tensor = |name: &str, types: &[DType], prices: &[Price]| {
        let mut types: Vec<TypePrice> =
            types.iter().zip(prices).map(|(&dtype, &price)| TypePrice::new(dtype, price)).collect();
        types.extend(pricing.own_type(name).map(|own| TypePrice::new(own, Price::default())));
        TensorPrices { name: name.to_owned(), types }
    };
    if !is_tied {
        return Ok(vec![
            tensor(EMBEDDING, &types_of_embedding, &of_embedding),
            tensor(output, &types, &of_output),
        ]);
    }
    let mut both = of_output;
    both.iter_mut().zip(of_embedding).for_each(|(sum, price)| *sum += price);
    Ok(vec![tensor(output, &types, &both)])
}

/// Some rows in a type, as they would be read from a file.
fn rows_in(
    dtype: DType,
    rows: &[f32],
    n_cols: usize,
    feedback: Option<(&Moments, &Factor)>,
) -> Result<Vec<f32>, FeedbackError> {
    decoded(dtype, &encoded(dtype, rows, n_cols, feedback)?, rows.len())
}

/// One share of the vocabulary: sums for each type and token.
struct Share {
    first: usize,
    len: usize,
    /// `E_p[d]` and `E_p[exp d − 1]` of the share, `[n_types][n_tokens]`
    sums: Vec<Vec<[f64; 2]>>,
    error: Option<PriceError>,
}

fn logits(
    pricing: &Pricing<'_>,
    sensitivities: &Sensitivities<'_>,
    types: &[DType],
    feedback: Option<(&Moments, &Factor)>,
) -> Result<Vec<Price>, PriceError> {
    let source = pricing.source;
    let network = Network::<f32>::new(source, 1)?;
    let (n_embd, n_vocab) = (network.info().n_embd, network.info().n_vocab);
    let head = network.head()?;
    let inputs: Vec<f32> = sensitivities.last_states().flat_map(|state| head.normed(state)).collect();
    drop(head);
    let n_tokens = inputs.len() / n_embd;
    let cx = Compute::with_isa(pricing.n_threads, Isa::best());
    let output = output_matrix(source);
    let share = |first: usize| Share { first, len: ROWS.min(n_vocab - first), sums: Vec::new(), error: None };
    let rows = |share: &Share| -> Result<Vec<f32>, WeightError> {
        let mut values = Vec::with_capacity(share.len * n_embd);
        for row in share.first..share.first + share.len {
            values.extend(source.row(output, row)?);
        }
        Ok(values)
    };
    let times = |weight: &[f32]| -> Vec<f32> {
        let n_rows = weight.len() / n_embd;
        let mut out = vec![0.0; n_tokens * n_rows];
        let weight = View::rows(weight, n_embd).transposed();
        product(Into::Set, ViewMut::rows(&mut out, n_rows), View::rows(&inputs, n_embd), weight);
        out
    };
    // First ln Σ exp(logit) of every token, then what a change does to each.
    let mut shares: Vec<Share> = (0..n_vocab).step_by(ROWS).map(share).collect();
    cx.pool.run_mut(&mut shares, |_, share| match rows(share) {
        Ok(weight) => {
            let sum = |logits: &[f32]| {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum = logits.iter().map(|&logit| f64::from((logit - largest).exp())).sum::<f64>();
                [f64::from(largest), sum]
            };
            share.sums = vec![times(&weight).chunks_exact(share.len).map(sum).collect()];
        }
        Err(error) => share.error = Some(error.into()),
    });
    let normals: Vec<f64> = (0..n_tokens)
        .map(|token| {
            let parts = || shares.iter().filter_map(|share| share.sums.first()?.get(token));
            let largest = parts().map(|part| part[0]).fold(f64::NEG_INFINITY, f64::max);
            largest + parts().map(|part| part[1] * (part[0] - largest).exp()).sum::<f64>().ln()
        })
        .collect();
    cx.pool.run_mut(&mut shares, |_, share| {
        let priced = rows(share).map_err(PriceError::from).and_then(|weight| {
            let logits = times(&weight);
            let mut sums = Vec::with_capacity(types.len());
            for &dtype in types {
                let failed = |error| PriceError::Feedback { tensor: output.to_owned(), error };
                let mut change = rows_in(dtype, &weight, n_embd, feedback).map_err(failed)?;
                change.iter_mut().zip(&weight).for_each(|(new, old)| *new -= old);
                let moved = times(&change);
                let tokens = moved.chunks_exact(share.len).zip(logits.chunks_exact(share.len)).zip(&normals);
                sums.push(
                    tokens
                        .map(|((moved, logits), normal)| {
                            moved.iter().zip(logits).fold([0.0; 2], |[mean, grown], (&d, &logit)| {
                                let (p, d) = ((f64::from(logit) - normal).exp(), f64::from(d));
                                [mean + p * d, grown + p * d.exp_m1()]
                            })
                        })
                        .collect(),
                );
            }
            Ok(sums)
        });
        match priced {
            Ok(sums) => share.sums = sums,
            Err(error) => share.error = Some(error),
        }
    });
    if let Some(error) = shares.iter_mut().find_map(|share| share.error.take()) {
        return Err(error);
    }
    let kl = |of_type: usize| {
        let of_token = |token: usize| {
            let sum = |at: usize| shares.iter().map(|share| share.sums[of_type][token][at]).sum::<f64>();
            (sum(1).ln_1p() - sum(0)).max(0.0)
        };
        let kl = (0..n_tokens).map(of_token).sum::<f64>() / n_tokens.max(1) as f64;
        Price { by_token: kl, by_window: kl }
    };
    Ok((0..types.len()).map(kl).collect())
}

fn embeddings(
    pricing: &Pricing<'_>,
    sensitivities: &Sensitivities<'_>,
    types: &[DType],
    feedback: Option<(&Moments, &Factor)>,
) -> Result<Vec<Price>, PriceError> {
    let n_cols = pricing.source.info().n_embd;
    let windows = &pricing.text.prices;
    let tokens: Vec<u32> = windows.concat();
    let mut distinct = tokens.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let mut rows = Vec::with_capacity(distinct.len() * n_cols);
    for &token in &distinct {
        rows.extend(pricing.source.row(EMBEDDING, token as usize)?);
    }
    let gradients: Vec<&[f32]> =
        sensitivities.embedding_gradients().flat_map(|window| window.chunks_exact(n_cols)).collect();
    let n_window = windows.first().map_or(1, |window| window.len());
    let mut prices = Vec::with_capacity(types.len());
    for &dtype in types {
        let failed = |error| PriceError::Feedback { tensor: EMBEDDING.to_owned(), error };
        let mut change = rows_in(dtype, &rows, n_cols, feedback).map_err(failed)?;
        change.iter_mut().zip(&rows).for_each(|(new, old)| *new -= old);
        let moved = tokens.iter().zip(&gradients).map(|(token, gradient)| {
            let at = distinct.binary_search(token).unwrap_or_default();
            f64::from(crate::real::dot(&change[at * n_cols..][..n_cols], gradient))
        });
        prices.push(price_of(&moved.collect::<Vec<f64>>(), n_window));
    }
    Ok(prices)
}
