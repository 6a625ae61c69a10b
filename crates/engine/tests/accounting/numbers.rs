//! A pass that gives no numbers is an error that says where that began, on every path.

use std::ops::ControlFlow;

use lossy_engine::{
    ActivationKind, BatchItem, CacheOptions, Engine, EngineOptions, Logits, ModelSource, Place, RequestError,
    Sequence,
};

use crate::models::{IDS, metadata, open_gguf, tensors};
use crate::reference::{GGUF, Tensors};

/// A Llama whose weights were changed.
fn source(change: impl FnOnce(&mut Tensors)) -> ModelSource {
    let mut tensors = tensors("llama", &GGUF);
    change(&mut tensors);
    open_gguf(&metadata("llama"), &tensors).expect("weights that are numbers")
}

fn scaled(tensors: &mut Tensors, name: &str, factor: f32) {
    tensors
        .get_mut(name)
        .expect("a tensor of the model")
        .values
        .iter_mut()
        .for_each(|value| *value *= factor);
}

fn engine(source: &ModelSource, activations: ActivationKind) -> Engine {
    let options = EngineOptions { activations, n_threads: Some(1), ..EngineOptions::default() };
    Engine::load(source, &options).expect("a model that can be loaded")
}

fn sequence(engine: &mut Engine) -> Sequence {
    engine.cache(&CacheOptions::default()).expect("an exact cache").sequence()
}

/// Where a pass stops giving numbers.
fn place(source: &ModelSource, activations: ActivationKind, logits: Logits) -> Option<Place> {
    let mut engine = engine(source, activations);
    let mut sequence = sequence(&mut engine);
    let item = BatchItem { sequence: &mut sequence, tokens: &IDS, logits };
    let error = engine.forward(&mut [item]).err();
    assert!(error.is_none() || sequence.is_empty(), "a pass that failed changes no sequence");
    match error? {
        RequestError::NotFinite { place, activations: found } => {
            assert_eq!(found, activations);
            Some(place)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_step_that_gives_no_numbers_is_named() {
    let mlp = source(|tensors| {
        scaled(tensors, "blk.0.ffn_up.weight", 1e30);
        scaled(tensors, "blk.0.ffn_down.weight", 1e30);
    });
    let output = source(|tensors| {
        scaled(tensors, "blk.1.attn_v.weight", 1e3);
        scaled(tensors, "blk.1.attn_output.weight", 1e37);
    });
    let head = source(|tensors| {
        scaled(tensors, "output_norm.weight", 1e20);
        scaled(tensors, "output.weight", 1e20);
    });
    for activations in [ActivationKind::F32, ActivationKind::Q8] {
        for logits in [Logits::Last, Logits::All] {
            assert_eq!(place(&mlp, activations, logits), Some(Place::Mlp { layer: 0 }));
            assert_eq!(place(&output, activations, logits), Some(Place::AttentionOutput { layer: 1 }));
            assert_eq!(place(&head, activations, logits), Some(Place::Logits));
        }
        // A chunk in the middle of a prompt asks for no logits, but what it leaves in the cache counts.
        assert_eq!(place(&mlp, activations, Logits::None), Some(Place::Mlp { layer: 0 }));
        assert_eq!(place(&head, activations, Logits::None), None);
    }
}

#[test]
fn a_prompt_ends_with_the_error() {
    let broken = source(|tensors| {
        scaled(tensors, "blk.0.ffn_up.weight", 1e30);
        scaled(tensors, "blk.0.ffn_down.weight", 1e30);
    });
    let mut engine = engine(&broken, ActivationKind::Q8);
    let mut sequence = sequence(&mut engine);
    let error = engine.prefill(&mut sequence, &IDS, &mut |_| ControlFlow::Continue(())).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("MLP of layer 0") && message.contains("int8 activations"), "{message}");
}

#[test]
fn an_embedding_that_is_no_number_counts_where_its_token_is_asked_for() {
    let broken = source(|tensors| {
        let embedding = tensors.get_mut("token_embd.weight").expect("the embedding");
        embedding.values[39 * 32 + 1] = f32::NAN;
    });
    let mut engine = engine(&broken, ActivationKind::F32);
    let cache = engine.cache(&CacheOptions::default()).expect("an exact cache");
    let mut ask = |tokens: &[u32]| {
        let mut sequence = cache.sequence();
        engine.forward(&mut [BatchItem { sequence: &mut sequence, tokens, logits: Logits::Last }]).map(|_| ())
    };
    ask(&[1, 2, 3]).expect("other tokens");
    let message = ask(&[1, 39]).unwrap_err().to_string();
    assert!(message.contains("`token_embd.weight` has the value NaN at row 39, column 1"), "{message}");
}
