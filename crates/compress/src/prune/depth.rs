//! Which layer to leave out: the one without which predictions move least, measured for each.
//!
//! ```text
//! state before layer l ──► layer l ──► …      the whole model, one block's weights at a time
//!          └── candidate "without l" ──► …    joins behind layer l, and goes through the same blocks
//! ```
//!
//! So a look at all layers takes half as many blocks as layers times models would, and reads every weight once. At first all
//! candidates are measured on a few windows; the best quarter then on all of them. What a layer changes of its input (block influence,
//! ShortGPT) needs one pass only, and chooses worse (docs/LOG.md).

use std::ops::ControlFlow;

use lossy_kernels::Compute;

use super::{PruneError, Pruned};
use crate::lessons::{Lessons, compare, rows_of_both};
use crate::network::Network;
use crate::weights::WeightSource;

/// Windows on which all candidates are measured.
const FIRST: usize = 2;
/// The part of the candidates that goes on, one of so many, and at least so many.
const ONE_OF: usize = 4;
const LEAST: usize = 4;

/// A candidate and what its removal costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// the source's number of the layer
    pub layer: usize,
    /// mean divergence from the teacher without it, nats a token
    pub kl: f64,
}

/// The layer of `model` whose removal costs least. `see` is told how many blocks of how many are done, and may stop.
///
/// # Errors
/// One layer is left, a weight cannot be read, or the caller stops.
pub fn cheapest_layer(
    cx: &Compute,
    model: &Pruned<'_>,
    lessons: &mut Lessons<'_>,
    see: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Candidate, PruneError> {
    let n_layers = model.layers().len();
    if n_layers < 2 {
        return Err(PruneError::TooMany {
            n: model.source().info().n_layers,
            n_layers: model.source().info().n_layers,
        });
    }
    let all: Vec<usize> = (0..lessons.n_windows()).collect();
    let first = &all[..FIRST.min(all.len())];
    let n_rounds = if first.len() < all.len() { 2 } else { 1 };
    let mut round = 0;
    let mut measured = |candidates: &[usize], windows: &[usize]| {
        let mut see_round = |done: usize| see(round * n_layers + done, n_rounds * n_layers);
        let found = without_each(cx, model, lessons, candidates, windows, &mut see_round)?;
        round += 1;
        let mut found: Vec<(usize, f64)> = candidates.iter().copied().zip(found).collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        Ok::<_, PruneError>(found)
    };
    let candidates: Vec<usize> = (0..n_layers).collect();
    let mut found = measured(&candidates, first)?;
    if n_rounds > 1 {
        let best: Vec<usize> =
            found.iter().take((n_layers / ONE_OF).max(LEAST)).map(|(layer, _)| *layer).collect();
        found = measured(&best, &all)?;
    }
    let (at, kl) = found[0];
    Ok(Candidate { layer: model.layers()[at], kl })
}

/// A window's residual stream, on its way through all layers but one.
struct Item {
    /// the candidate, by its place in the list of them; none: all layers
    without: Option<usize>,
    window: usize,
    x: Vec<f32>,
}

/// The mean divergence without each of some layers (numbers of `model`, not of its source), nats a token.
fn without_each(
    cx: &Compute,
    model: &dyn WeightSource,
    lessons: &mut Lessons<'_>,
    candidates: &[usize],
    windows: &[usize],
    see: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<f64>, PruneError> {
    lessons.fill(cx, windows)?;
    let tokens: Vec<&[u32]> = windows.iter().map(|&window| lessons.windows()[window]).collect();
    let network = Network::<f32>::new(model, tokens.iter().map(|window| window.len()).max().unwrap_or(0))?;
    let mut items = Vec::new();
    for (window, tokens) in tokens.iter().enumerate() {
        items.push(Item { without: None, window, x: network.embed(tokens)? });
    }
    let n_layers = network.info().n_layers;
    for layer in 0..n_layers {
        let block = network.block(layer)?;
        let mut forked = Vec::new();
        if let Some(at) = candidates.iter().position(|&candidate| candidate == layer) {
            let whole = items.iter().filter(|item| item.without.is_none());
            forked = whole
                .map(|item| Item { without: Some(at), window: item.window, x: item.x.clone() })
                .collect();
        }
        if candidates.iter().all(|&candidate| candidate <= layer) {
            items.retain(|item| item.without.is_some());
        }
        cx.pool.run_mut(&mut items, |_, item| drop(block.forward(network.rotations(), &mut item.x)));
        items.append(&mut forked);
        if see(layer + 1).is_break() {
            return Err(PruneError::Stopped);
        }
    }
    let (ours, theirs) = (network.head()?, lessons.head()?);
    // Windows share nothing, and a teacher's logits are made once for all candidates.
    let mut sums: Vec<(usize, Vec<f64>)> =
        (0..windows.len()).map(|at| (at, vec![0.0; candidates.len()])).collect();
    let (items, lessons) = (&items, &*lessons);
    cx.pool.run_mut(&mut sums, |_, (at, sums)| {
        let n_tokens = tokens[*at].len();
        let mine: Vec<&Item> = items.iter().filter(|item| item.window == *at).collect();
        let mut rows: Vec<_> = mine
            .iter()
            .map(|item| (item.without, rows_of_both(n_tokens, &item.x, lessons.hidden(windows[*at]))))
            .collect();
        loop {
            let mut teacher: Option<Vec<f32>> = None;
            for (without, rows) in &mut rows {
                let (Some(candidate), Some((x, hidden))) = (*without, rows.next()) else { continue };
                let teacher = teacher.get_or_insert_with(|| theirs.logits(hidden));
                sums[candidate] += compare(teacher, &mut ours.logits(x), ours.n_vocab());
            }
            if teacher.is_none() {
                break;
            }
        }
    });
    let n_tokens: usize = tokens.iter().map(|window| window.len()).sum();
    let of = |candidate: usize| sums.iter().map(|(_, sums)| sums[candidate]).sum::<f64>() / n_tokens as f64;
    Ok((0..candidates.len()).map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::divergence;
    use lossy_engine::ModelSource;
    use lossy_kernels::Isa;

    /// Against removing each layer by itself and computing the whole model.
    #[test]
    fn every_candidate_costs_what_the_model_without_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::open(&lossy_testkit::tiny_model::write_wide(folder.path())).unwrap();
        let tokens: Vec<u32> = (0..4 * 70).map(|i: u32| 4 + (i * i * 7 + i * 13) % 70).collect();
        let windows: Vec<&[u32]> = tokens.chunks(70).collect();
        let cx = Compute::with_isa(2, Isa::best());
        let mut model = Pruned::new(&source);
        model.remove(&[1]).unwrap();
        let mut lessons = Lessons::new(&source, &windows);
        let found =
            without_each(&cx, &model, &mut lessons, &[0, 2], &[0, 3], &mut |_| ControlFlow::Continue(()))
                .unwrap();
        let of = |layer: usize, windows: &[&[u32]]| {
            let mut model = model.clone();
            model.remove(&[layer]).unwrap();
            divergence(&cx, &model, &source, windows).unwrap()
        };
        for (found, layer) in found.iter().zip([0, 3]) {
            let wanted = of(layer, &[windows[0], windows[3]]);
            assert!((found - wanted).abs() < 1e-9 * wanted, "{found} {wanted}");
        }
        let best = cheapest_layer(&cx, &model, &mut lessons, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let costs: Vec<(usize, f64)> = [0, 2, 3].map(|layer| (layer, of(layer, &windows))).into();
        let wanted = costs.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(best.layer, wanted.0, "{best:?} {costs:?}");
        assert!((best.kl - wanted.1).abs() < 1e-9 * wanted.1);
    }

    #[test]
    fn the_last_layer_stays_and_a_caller_may_stop() {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::open(&lossy_testkit::tiny_model::write_wide(folder.path())).unwrap();
        let cx = Compute::with_isa(1, Isa::best());
        let tokens: Vec<u32> = (4..24).collect();
        let mut lessons = Lessons::new(&source, &[&tokens]);
        let mut model = Pruned::new(&source);
        let error = cheapest_layer(&cx, &model, &mut lessons, &mut |_, _| ControlFlow::Break(()));
        assert!(matches!(error, Err(PruneError::Stopped)));
        model.remove(&[0, 1, 2]).unwrap();
        let error = cheapest_layer(&cx, &model, &mut lessons, &mut |_, _| ControlFlow::Continue(()));
        assert_eq!(error.unwrap_err().to_string(), "4 of 4 layers cannot be removed: at least one stays");
        assert!(model.remove(&[3]).unwrap_err().to_string().contains("at least one stays"));
        assert_eq!(
            Pruned::new(&source).remove(&[4]).unwrap_err().to_string(),
            "there is no layer 4: the model has 4, from 0 to 3"
        );
        assert_eq!(Pruned::new(&source).remove(&[2, 2]).unwrap_err().to_string(), "layer 2 is named twice");
    }
}
