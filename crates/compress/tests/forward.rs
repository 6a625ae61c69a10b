//! The block's way forward against the engine with float32 activations and an exact cache, and against transformers.

use lossy_compress::network::{Network, check};
use lossy_engine::{ActivationKind, BatchItem, CacheOptions, Engine, EngineOptions, Logits, ModelSource};
use lossy_testkit::{TINY_MODELS, TestModel, testdata};

/// Logits after every token, `[n_tokens · n_vocab]`.
fn by_engine(source: &ModelSource, tokens: &[u32]) -> Vec<f32> {
    let options = EngineOptions { activations: ActivationKind::F32, ..EngineOptions::default() };
    let mut engine = Engine::load(source, &options).unwrap();
    let mut sequence = engine.cache(&CacheOptions::default()).unwrap().sequence();
    let item = BatchItem { sequence: &mut sequence, tokens, logits: Logits::All };
    let rows = engine.forward(&mut [item]).unwrap();
    (0..rows.len()).flat_map(|row| rows.row(row).to_vec()).collect()
}

fn by_blocks(source: &ModelSource, tokens: &[u32]) -> Vec<f32> {
    check(source).unwrap();
    Network::<f32>::new(source, tokens.len()).unwrap().logits(tokens).unwrap()
}

/// The largest difference, as a share of the logits' root mean square.
fn worst(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let rms = (wanted.iter().map(|x| x * x).sum::<f32>() / wanted.len() as f32).sqrt();
    found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max) / rms
}

#[derive(serde::Deserialize)]
struct Reference {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

#[test]
fn tiny_models_of_every_family_in_both_kinds_of_file_have_the_logits_of_transformers_and_the_engine() {
    for name in TINY_MODELS {
        let folder = testdata().join("tiny").join(name);
        let json = std::fs::read(folder.join("reference.json")).unwrap();
        let reference: Reference = serde_json::from_slice(&json).unwrap();
        for path in [folder.clone(), folder.join("model.gguf")] {
            let source = ModelSource::open(&path).unwrap();
            let found = by_blocks(&source, &reference.ids);
            let transformers = worst(&found, &reference.logits.concat());
            let engine = worst(&found, &by_engine(&source, &reference.ids));
            println!("{name}: {transformers:.1e}, {engine:.1e}");
            assert!(transformers < 1e-4 && engine < 1e-4, "{name}: {transformers} {engine}");
        }
    }
}

#[test]
fn real_models_have_the_logits_of_the_engine() {
    for model in TestModel::ALL {
        let source = ModelSource::open(&model.path()).unwrap();
        let golden = model.golden();
        let prose = golden.iter().find(|golden| golden.name == "prose").unwrap();
        let tokens = &prose.ids[..prose.ids.len().min(192)];
        let worst = worst(&by_blocks(&source, tokens), &by_engine(&source, tokens));
        println!("{model:?}, {} tokens: {worst:.1e}", tokens.len());
        assert!(worst < 1e-4, "{model:?}: {worst}");
    }
}

#[test]
fn a_window_beyond_the_trained_context_is_refused_with_both_lengths() {
    let source = ModelSource::open(&testdata().join("tiny/llama")).unwrap();
    let Err(error) = Network::<f32>::new(&source, 65) else { panic!("64 tokens are the most") };
    assert!(error.to_string().contains("64 tokens") && error.to_string().contains("65"), "{error}");
}

#[test]
fn a_tensor_that_is_not_computed_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let changes = lossy_testkit::tiny_model::Changes {
        extra_tensor: Some("blk.0.attn_sinks.weight".to_owned()),
        ..Default::default()
    };
    let path = lossy_testkit::tiny_model::write_changed(folder.path(), "extra.gguf", &changes);
    let error = check(&ModelSource::open(&path).unwrap()).unwrap_err().to_string();
    assert!(error.contains("`blk.0.attn_sinks.weight`"), "{error}");
}
