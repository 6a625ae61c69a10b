//! What several tests measure.

use lossy_compress::network::{Network, divergence_backward};
use lossy_compress::weights::WeightSource;
use lossy_engine::ModelSource;

/// Mean divergence of a changed source on some windows, nats a token.
pub fn measured(source: &ModelSource, changed: &dyn WeightSource, windows: &[&[u32]]) -> f64 {
    let longest = windows.iter().map(|window| window.len()).max().unwrap_or(0);
    let [before, after] =
        [source as &dyn WeightSource, changed].map(|s| Network::<f32>::new(s, longest).unwrap());
    let n_vocab = source.info().n_vocab;
    let kl = |window: &&[u32]| -> f64 {
        let teacher = before.logits(window).unwrap();
        let mut found = after.logits(window).unwrap();
        let rows = found.chunks_exact_mut(n_vocab).zip(teacher.chunks_exact(n_vocab));
        rows.map(|(found, teacher)| divergence_backward(teacher, found)).sum()
    };
    windows.iter().map(kl).sum::<f64>() / windows.iter().map(|window| window.len()).sum::<usize>() as f64
}
