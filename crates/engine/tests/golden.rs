//! Logits and greedy continuations against transformers in float32 on the same files.

use std::ops::ControlFlow;

use lossy_engine::{ActivationKind, BatchItem, CacheOptions, Engine, EngineOptions, Logits, ModelSource};
use lossy_testkit::{Golden, TestModel, kl_divergence};
use lossy_tokenizer::EncodeOptions;

fn engine(model: TestModel, activations: ActivationKind) -> Engine {
    let source = ModelSource::open(&model.path()).unwrap();
    Engine::load(&source, &EngineOptions { activations, ..EngineOptions::default() }).unwrap()
}

/// Logits after every token of the text, `[n_tokens][n_vocab]`.
fn all_logits(engine: &mut Engine, ids: &[u32]) -> Vec<Vec<f32>> {
    let mut sequence = engine.cache(&CacheOptions::default()).unwrap().sequence();
    let item = BatchItem { sequence: &mut sequence, tokens: ids, logits: Logits::All };
    let rows = engine.forward(&mut [item]).unwrap();
    (0..rows.len()).map(|row| rows.row(row).to_vec()).collect()
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}

#[test]
fn token_ids_equal_the_reference() {
    for model in TestModel::ALL {
        let tokenizer = ModelSource::open(&model.path()).unwrap().tokenizer().unwrap();
        for golden in model.golden() {
            let options = EncodeOptions { add_special: true, parse_special: true };
            assert_eq!(
                tokenizer.encode(&golden.text, options).unwrap(),
                golden.ids,
                "{model:?} {}",
                golden.name
            );
            assert_eq!(
                tokenizer.decode(&golden.greedy, false),
                golden.greedy_text,
                "{model:?} {}",
                golden.name
            );
        }
    }
}

#[test]
fn logits_with_f32_activations_equal_the_reference() {
    for model in TestModel::ALL {
        let mut engine = engine(model, ActivationKind::F32);
        for golden in model.golden() {
            let found = all_logits(&mut engine, &golden.ids);
            let kl = kl_divergence(&golden.last_logits, found.last().unwrap());
            let mut worst = 0f32;
            for position in &golden.positions {
                for &(id, wanted) in &position.top {
                    worst = worst.max((found[position.pos][id as usize] - wanted).abs());
                }
            }
            println!("{model:?} {}: KL {kl:.2e}, largest difference in the top 20 {worst:.2e}", golden.name);
            assert!(kl < 1e-5, "{model:?} {}: KL {kl}", golden.name);
            assert!(worst < 1e-3, "{model:?} {}: a logit differs by {worst}", golden.name);
        }
    }
}

/// The bounds are those that llama.cpp's own int8 activations reach on the same files and texts: 0.0041 and 0.0007.
#[test]
fn int8_activations_lose_less_than_the_bound() {
    for (model, bound) in [(TestModel::SmolLm2, 4e-3), (TestModel::QwenCoder, 1e-3)] {
        let mut engine = engine(model, ActivationKind::Q8);
        let mut kls = Vec::new();
        for golden in model.golden() {
            let found = all_logits(&mut engine, &golden.ids);
            kls.push(kl_divergence(&golden.last_logits, found.last().unwrap()));
            for position in golden.positions.iter().filter(|position| position.margin() > 0.5) {
                let best = argmax(&found[position.pos]);
                assert_eq!(best, position.top[0].0, "{model:?} {} at {}", golden.name, position.pos);
            }
        }
        let mean = kls.iter().sum::<f64>() / kls.len() as f64;
        println!("{model:?}: mean KL {mean:.2e} of {kls:?}");
        assert!(mean < bound, "{model:?}: mean KL {mean} is not below {bound}");
    }
}

#[test]
fn greedy_text_equals_the_reference_while_its_margin_is_large() {
    for model in TestModel::ALL {
        for activations in [ActivationKind::F32, ActivationKind::Q8] {
            let mut engine = engine(model, activations);
            for golden in model.golden() {
                let found = greedy(&mut engine, &golden);
                let n_certain = golden.greedy_margin.iter().take_while(|&&margin| margin > 0.5).count();
                println!("{model:?} {activations:?} {}: {n_certain} certain tokens", golden.name);
                assert_eq!(found[..n_certain], golden.greedy[..n_certain], "{model:?} {}", golden.name);
            }
        }
    }
}

fn greedy(engine: &mut Engine, golden: &Golden) -> Vec<u32> {
    let mut sequence = engine.cache(&CacheOptions::default()).unwrap().sequence();
    let mut go_on = |_| ControlFlow::Continue(());
    let mut logits = engine.prefill(&mut sequence, &golden.ids, &mut go_on).unwrap();
    let mut found = Vec::new();
    for _ in 0..golden.greedy.len() {
        let next = argmax(&logits);
        found.push(next);
        logits = engine.prefill(&mut sequence, &[next], &mut go_on).unwrap();
    }
    found
}
