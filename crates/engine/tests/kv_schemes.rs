//! KV schemes on a real model: what they lose, and that it does not depend on how a prompt is cut.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use lossy_engine::{
    ActivationKind, BatchItem, CALIBRATION_TEXT, Cache, CacheOptions, CalibrationOptions, Engine,
    EngineOptions, Logits, ModelSource,
};
use lossy_testkit::{TestModel, kl_divergence};
use lossy_tokenizer::EncodeOptions;

/// Logits after tokens `skip..` of a text that is read in chunks, and the share of pages that was read.
fn logits(
    engine: &mut Engine,
    cache: &Arc<Cache>,
    tokens: &[u32],
    chunk: usize,
    skip: usize,
) -> (Vec<Vec<f32>>, Option<f64>) {
    let mut sequence = cache.sequence();
    let mut rows = Vec::new();
    for chunk in tokens.chunks(chunk) {
        let first = sequence.len();
        let mut batch = [BatchItem { sequence: &mut sequence, tokens: chunk, logits: Logits::All }];
        let got = engine.forward(&mut batch).expect("a text that fits");
        rows.extend((0..got.len()).filter(|row| first + row >= skip).map(|row| got.row(row).to_vec()));
    }
    (rows, sequence.share_of_pages_read())
}

fn mean_kl(wanted: &[Vec<f32>], got: &[Vec<f32>]) -> f64 {
    let sum: f64 = wanted.iter().zip(got).map(|(p, q)| kl_divergence(p, q)).sum();
    sum / wanted.len() as f64
}

#[test]
fn packed_caches_lose_little_and_the_less_the_more_bits_they_have() {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).expect("the test model");
    let tokenizer = source.tokenizer().expect("its tokenizer");
    let mut engine = Engine::load(&source, &EngineOptions::default()).expect("its weights");
    let calibration = tokenizer.encode(CALIBRATION_TEXT, EncodeOptions::default()).expect("ids");
    let statistics =
        engine.calibrate(&calibration[..2048], &mut |_| ControlFlow::Continue(())).expect("statistics");
    // Code of this project: calibration has not seen it.
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sampling/mod.rs");
    let text = std::fs::read_to_string(text).expect("a source file");
    let tokens = tokenizer.encode(&text, EncodeOptions::default()).expect("ids");
    let (tokens, skip) = (&tokens[..896], 640);
    let exact = engine.cache(&CacheOptions::default()).expect("an exact cache");
    let (wanted, _) = logits(&mut engine, &exact, tokens, 256, skip);
    let mut kl_and_share = |scheme: &str, chunk: usize| {
        let calibration = CalibrationOptions { statistics: Some(statistics.clone()), ..Default::default() };
        let scheme = scheme.parse().expect("a scheme");
        let options = CacheOptions { calibration, ..CacheOptions::scheme(scheme) };
        let cache = engine.cache(&options).expect("a scheme that fits");
        let (rows, share) = logits(&mut engine, &cache, tokens, chunk, skip);
        (mean_kl(&wanted, &rows), share)
    };
    let mut kl = |scheme: &str, chunk: usize| kl_and_share(scheme, chunk).0;
    let [k2v2, k4v4, kivi2] = ["k2v2", "k4v4", "kivi2"].map(|scheme| kl(scheme, 256));
    println!("k2v2 {k2v2:.4}, k4v4 {k4v4:.4}, kivi2 {kivi2:.4}");
    assert!(k2v2 < 0.05, "k2v2 loses {k2v2}");
    assert!(k4v4 < 0.02 && k4v4 < k2v2, "k4v4 loses {k4v4}, k2v2 {k2v2}");
    assert!(kivi2 > k2v2, "KIVI at 3 bits loses {kivi2}, k2v2 {k2v2}");
    let other = kl("k2v2", 100);
    let mut sparse = |share: f32| kl_and_share(&format!("k2v2:residual=0,sparse={share}"), 256);
    let [(little, most), (much, few)] = [0.02, 0.3].map(&mut sparse);
    let (dense, all) = kl_and_share("k2v2:residual=0", 256);
    println!("without pages that weigh 2 %: {little:.4}, 30 %: {much:.4}, with all: {dense:.4}");
    assert!((little - dense).abs() < 0.3 * dense, "sparse=0.02 loses {little}, all pages {dense}");
    assert!(much > 1.2 * dense, "sparse=0.3 loses {much}, all pages {dense}: nothing was skipped");
    assert_eq!(all, None, "nothing can be skipped without `sparse`");
    let (most, few) = (most.expect("a share of pages"), few.expect("a share of pages"));
    assert!(0.0 < few && few < most && most < 1.0, "read {most} and {few} of the pages");
    // The same tokens are seen packed, whatever the chunks; int8 activations make the rest.
    assert!((other - k2v2).abs() < 0.3 * k2v2 + 1e-3, "chunks of 100 lose {other}, of 256 {k2v2}");
}

#[test]
fn what_cannot_skip_pages_is_an_error() {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).expect("the test model");
    let scheme = "k2v2:calibration=none,sparse=0.1";
    let options = |positions: &str| CacheOptions {
        positions: positions.parse().expect("positions"),
        ..CacheOptions::scheme(scheme.parse().expect("a scheme"))
    };
    let error = |activations, options: &CacheOptions| {
        let engine_options = EngineOptions { activations, ..EngineOptions::default() };
        let mut engine = Engine::load(&source, &engine_options).expect("its weights");
        engine.cache(options).err().map(|error| error.to_string())
    };
    assert_eq!(
        error(ActivationKind::F32, &options("linear")).as_deref(),
        Some(
            "KV scheme `k2v2:calibration=none,sparse=0.1` skips pages, and attention with f32 activations cannot: leave \
             `sparse` out, or take q8 activations"
        )
    );
    let refused = error(ActivationKind::Q8, &options("self-extend:group=4,window=512")).expect("an error");
    assert!(
        refused.contains("attention with positions self-extend") && refused.contains("adaptive or dca"),
        "{refused}"
    );
    assert_eq!(error(ActivationKind::Q8, &options("adaptive")), None);
    assert_eq!(error(ActivationKind::Q8, &options("dca")), None);
}
