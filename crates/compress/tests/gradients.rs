//! Gradients of whole models in float64 against central finite differences of the loss.

use std::collections::HashMap;
use std::sync::Arc;

use lossy_compress::block::{Gradient, Norm, Projection};
use lossy_compress::network::{Network, OUTPUT_NORM, divergence_backward, log_probability_backward, sample};
use lossy_compress::weights::{Edited, WeightSource};
use lossy_engine::ModelSource;
use lossy_testkit::{noise, testdata};

const TOKENS: [u32; 9] = [1, 17, 42, 5, 63, 17, 30, 8, 2];

/// KL from fixed predictions, summed over the window.
fn loss(source: &dyn WeightSource, teacher: &[f64]) -> f64 {
    let network = Network::<f64>::new(source, TOKENS.len()).unwrap();
    let n_vocab = network.info().n_vocab;
    let mut logits = network.logits(&TOKENS).unwrap();
    logits
        .chunks_exact_mut(n_vocab)
        .zip(teacher.chunks_exact(n_vocab))
        .map(|(l, t)| divergence_backward(t, l))
        .sum()
}

/// Gradients of all weights and norms, by name.
fn gradients(source: &dyn WeightSource, teacher: &[f64]) -> HashMap<String, Vec<f64>> {
    let network = Network::<f64>::new(source, TOKENS.len()).unwrap();
    let info = network.info();
    let mut inputs = vec![network.embed(&TOKENS).unwrap()];
    for layer in 0..info.n_layers {
        let mut x = inputs[layer].clone();
        network.block(layer).unwrap().forward(network.rotations(), &mut x);
        inputs.push(x);
    }
    let head = network.head().unwrap();
    let last = inputs.pop().unwrap();
    let mut logits = head.logits(&last);
    let n_vocab = info.n_vocab;
    for (logits, teacher) in logits.chunks_exact_mut(n_vocab).zip(teacher.chunks_exact(n_vocab)) {
        divergence_backward(teacher, logits);
    }
    let mut found = HashMap::new();
    let mut d_norm = vec![0.0; info.n_embd];
    let mut d_x = head.backward(&last, &logits, &mut d_norm);
    found.insert(OUTPUT_NORM.to_owned(), d_norm);
    for layer in (0..info.n_layers).rev() {
        let block = network.block(layer).unwrap();
        let x = inputs.pop().unwrap();
        let tape = block.forward(network.rotations(), &mut x.clone());
        block.backward(network.rotations(), &x, tape, &mut d_x, &mut |gradient| match gradient {
            Gradient::Norm { norm, gradient } => {
                found.insert(norm.weight(layer), gradient.to_vec());
            }
            Gradient::Output { projection, input, gradient } => {
                let [n_out, n_in] = projection.shape(info);
                let mut weight = vec![0.0; n_out * n_in];
                for (d_y, x) in gradient.chunks_exact(n_out).zip(input.chunks_exact(n_in)) {
                    for (row, d_y) in weight.chunks_exact_mut(n_in).zip(d_y) {
                        row.iter_mut().zip(x).for_each(|(w, x)| *w += d_y * x);
                    }
                }
                let bias = (0..n_out).map(|row| gradient.iter().skip(row).step_by(n_out).sum()).collect();
                found.insert(projection.weight(layer).replace(".weight", ".bias"), bias);
                found.insert(projection.weight(layer), weight);
            }
        });
    }
    found
}

#[test]
fn whole_models_have_the_gradients_of_finite_differences() {
    for name in ["llama", "llama-biased", "qwen2-yarn", "qwen3"] {
        let source = ModelSource::open(&testdata().join("tiny").join(name)).unwrap();
        let n_vocab = source.info().n_vocab;
        let teacher: Vec<f64> = noise(5, TOKENS.len() * n_vocab).into_iter().map(f64::from).collect();
        let gradients = gradients(&source, &teacher);
        let layers = 0..source.info().n_layers;
        let matrices = layers.clone().flat_map(|l| Projection::ALL.map(|p| p.weight(l)));
        let norms = [Norm::Attention, Norm::Query, Norm::Key, Norm::Mlp];
        let norms = layers.flat_map(|l| norms.map(|norm| norm.weight(l)));
        let mut names: Vec<String> = matrices.chain(norms).chain([OUTPUT_NORM.to_owned()]).collect();
        names.extend(names.clone().into_iter().map(|name| name.replace(".weight", ".bias")));
        let mut n_checked = 0;
        for tensor in names.iter().filter(|tensor| source.shape(tensor).is_some()) {
            let values = source.values(tensor).unwrap();
            let gradient = &gradients[tensor];
            assert_eq!(gradient.len(), values.len(), "{tensor}");
            // The direction of the gradient, so that no value of it is left out.
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let h = 2e-3 / norm;
            let mut edited = Edited::new(&source);
            let mut at = |step: f64| {
                let moved = values.iter().zip(gradient).map(|(&w, g)| w + (step * g) as f32);
                let moved: Arc<[f32]> = moved.collect();
                // What float32 made of the step counts, not the step.
                let way: f64 =
                    moved.iter().zip(&values).zip(gradient).map(|((a, b), g)| f64::from(a - b) * g).sum();
                edited.replace(tensor, moved).unwrap();
                (way, loss(&edited, &teacher))
            };
            let ((way_up, up), (way_down, down)) = (at(h), at(-h));
            let (found, wanted) = (way_up - way_down, up - down);
            assert!((found / wanted - 1.0).abs() < 1e-3, "{name}, {tensor}: {found} is not {wanted}");
            n_checked += 1;
        }
        assert!(n_checked > 9 * source.info().n_layers, "{name}: {n_checked}");
    }
}

#[test]
fn losses_have_the_gradients_of_finite_differences() {
    let [teacher, logits] =
        [1, 2].map(|seed| noise(seed, 100).into_iter().map(f64::from).collect::<Vec<_>>());
    let mut d_divergence = logits.clone();
    divergence_backward(&teacher, &mut d_divergence);
    let mut d_probability = logits.clone();
    log_probability_backward(7, &mut d_probability);
    for i in 0..logits.len() {
        let at = |step: f64, f: &dyn Fn(&mut [f64]) -> f64| {
            let mut moved = logits.clone();
            moved[i] += step;
            f(&mut moved)
        };
        let difference = |f: &dyn Fn(&mut [f64]) -> f64| (at(1e-5, f) - at(-1e-5, f)) / 2e-5;
        let wanted = difference(&|logits| divergence_backward(&teacher, logits));
        assert!((d_divergence[i] - wanted).abs() < 1e-9, "{i}: {} is not {wanted}", d_divergence[i]);
        let wanted = difference(&|logits| log_probability_backward(7, logits));
        assert!((d_probability[i] - wanted).abs() < 1e-9, "{i}: {} is not {wanted}", d_probability[i]);
    }
}

#[test]
fn a_sampled_token_has_its_probability() {
    let logits = [0.0f64, 1.0, -1.0];
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    for n in 0..1000 {
        let unit = f64::from(n) / 1000.0;
        let wanted = if unit < 1.0 / sum {
            0
        } else if unit < (1.0 + 1f64.exp()) / sum {
            1
        } else {
            2
        };
        assert_eq!(sample(&logits, unit), wanted, "{unit}");
    }
}
