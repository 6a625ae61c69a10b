//! Every family, both kinds of file: logits against transformers on tiny random models.
//!
//! The models were made by `tools/make_tiny_models.py`, which names the versions in `reference.json`.

use std::path::Path;

use lossy_engine::{
    ActivationKind, BatchItem, CacheOptions, Engine, EngineOptions, Logits, ModelSource, PositionScheme,
    RequestError,
};
use lossy_testkit::{TINY_MODELS, testdata, tiny_directory};

#[derive(serde::Deserialize)]
struct Reference {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

fn reference(name: &str) -> Reference {
    let bytes = std::fs::read(testdata().join("tiny").join(name).join("reference.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn open(path: &Path) -> ModelSource {
    ModelSource::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The logits after each token.
fn logits(source: &ModelSource, ids: &[u32]) -> Vec<Vec<f32>> {
    let options = EngineOptions { activations: ActivationKind::F32, ..EngineOptions::default() };
    let mut engine = Engine::load(source, &options).unwrap();
    let mut sequence = engine.cache(&CacheOptions::default()).unwrap().sequence();
    let item = BatchItem { sequence: &mut sequence, tokens: ids, logits: Logits::All };
    let rows = engine.forward(&mut [item]).unwrap();
    (0..rows.len()).map(|row| rows.row(row).to_vec()).collect()
}

/// Largest difference of any logit after any token.
fn worst(source: &ModelSource, reference: &Reference) -> f32 {
    let rows = logits(source, &reference.ids);
    assert_eq!(rows.len(), reference.logits.len());
    let differences = rows
        .iter()
        .zip(&reference.logits)
        .flat_map(|(row, wanted)| row.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()));
    differences.fold(0.0, f32::max)
}

/// The reference was computed in float32 too, in another order of sums: with a spread of 1.8 both are off by some 1e-5.
const BOUND: f32 = 1e-4;

#[test]
fn hugging_face_directories_give_the_logits_of_transformers() {
    for name in TINY_MODELS {
        let worst = worst(&open(&testdata().join("tiny").join(name)), &reference(name));
        println!("{name}: {worst:.1e}");
        assert!(worst < BOUND, "{name}: a logit differs by {worst}");
    }
}

#[test]
fn gguf_files_give_the_logits_of_transformers() {
    for name in TINY_MODELS {
        let worst = worst(&open(&testdata().join("tiny").join(name).join("model.gguf")), &reference(name));
        println!("{name}: {worst:.1e}");
        assert!(worst < BOUND, "{name}: a logit differs by {worst}");
    }
}

#[test]
fn directories_as_gguf_give_the_logits_of_transformers_and_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    for name in TINY_MODELS {
        let directory = open(&tiny_directory::write(folder.path(), name));
        let gguf = directory.to_gguf(Some(folder.path())).unwrap();
        let reference = reference(name);
        let worst = worst(&gguf, &reference);
        println!("{name}: {worst:.1e}");
        assert!(worst < BOUND, "{name}: a logit differs by {worst}");
        // Divisors of frequencies are rounded to float32 in a GGUF, and so are YaRN's parameters.
        if !["llama3", "llama-longrope", "qwen2-yarn"].contains(&name) {
            assert_eq!(logits(&gguf, &reference.ids), logits(&directory, &reference.ids), "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let source = ModelSource::open(&testdata().join("tiny/llama")).unwrap();
    let mut engine = Engine::load(&source, &EngineOptions::default()).unwrap();
    let too_long = CacheOptions { n_ctx: Some(65), ..CacheOptions::default() };
    let Err(error) = engine.cache(&too_long) else {
        panic!("a context beyond the trained one must be refused where positions cannot be stretched");
    };
    assert!(error.to_string().contains("trained for 64 tokens"), "{error}");
    let linear = CacheOptions { positions: PositionScheme::linear(), ..too_long };
    let Err(error) = engine.cache(&linear) else { panic!("linear positions end at 64") };
    assert!(error.to_string().contains("reach 64 tokens"), "{error}");
    assert!(error.to_string().contains("the context is 65"), "{error}");
    let mut sequence = engine.cache(&CacheOptions::default()).unwrap().sequence();
    let mut go_on = |_| std::ops::ControlFlow::Continue(());
    let error = engine.prefill(&mut sequence, &[1; 65], &mut go_on).unwrap_err();
    assert_eq!(error.to_string(), "the prompt has 65 tokens, but the context holds 64");
    assert!(matches!(
        engine.prefill(&mut sequence, &[1, 80], &mut go_on),
        Err(RequestError::NoSuchToken { id: 80, n_vocab: 80 })
    ));
    assert!(matches!(engine.prefill(&mut sequence, &[], &mut go_on), Err(RequestError::EmptyPrompt)));
    assert!(sequence.is_empty());
    assert_eq!(engine.prefill(&mut sequence, &[1; 64], &mut go_on).unwrap().len(), 80);
}

#[test]
fn a_stopped_prefill_keeps_the_chunks_that_were_done() {
    let source = ModelSource::open(&testdata().join("tiny/qwen3")).unwrap();
    let mut engine = Engine::load(&source, &EngineOptions { chunk: 10, ..EngineOptions::default() }).unwrap();
    let mut sequence = engine.cache(&CacheOptions::default()).unwrap().sequence();
    let ids: Vec<u32> = (0..45).collect();
    let mut n_calls = 0;
    let error = engine.prefill(&mut sequence, &ids, &mut |progress| {
        n_calls += 1;
        if progress.n_done >= 20 {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    });
    assert!(matches!(error, Err(RequestError::Stopped { n_done: 20, n_total: 45 })));
    assert_eq!((n_calls, sequence.tokens()), (3, &ids[..20]));
}
