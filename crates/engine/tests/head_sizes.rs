//! Heads of 80, 100, 112 and 120 channels: tiny random models, every KV scheme.

use std::ops::ControlFlow;
use std::path::PathBuf;

use std::sync::Arc;

use lossy_engine::{
    ActivationKind, BatchItem, Cache, CacheOptions, CalibrationOptions, Engine, EngineOptions, KvScheme,
    Logits, ModelSource,
};
use lossy_formats::gguf::write::GgufWriter;
use lossy_quant::DType;
use lossy_testkit::{kl_divergence, noise};

const HEADS: [usize; 4] = [80, 100, 112, 120];
const N_EMBD: usize = 64;
const N_HEADS: usize = 2;
const N_VOCAB: usize = 96;
const N_LAYERS: usize = 2;
const BASE: f64 = 10_000.0;
/// More than three pages, so that codes are read.
const N_TOKENS: usize = 420;

/// A model whose heads have `channels` channels, stored in the file as heads of `width`: zeros stand behind each half, the
/// frequencies are those of the narrow heads, and so is the scale of scores.
fn model(name: &str, channels: usize, width: usize) -> (PathBuf, ModelSource) {
    let place = |channel: usize| channel % (channels / 2) + channel / (channels / 2) * (width / 2);
    // Rows `[heads * channels, N_EMBD]` among those of wider heads, of the order in which a GGUF file has pairs.
    let rows = |seed: u64, heads: usize, factor: f32, is_rotated: bool| {
        let mut wide = vec![0.0; heads * width * N_EMBD];
        for (index, row) in noise(seed, heads * channels * N_EMBD).chunks_exact(N_EMBD).enumerate() {
            let channel = place(index % channels);
            let at = match is_rotated {
                true => channel % (width / 2) * 2 + channel / (width / 2),
                false => channel,
            };
            let to = &mut wide[(index / channels * width + at) * N_EMBD..][..N_EMBD];
            to.iter_mut().zip(row).for_each(|(to, x)| *to = x * factor);
        }
        wide
    };
    let size = 1.0 / (N_EMBD as f32).sqrt();
    let mut writer = GgufWriter::new()
        .set("general.architecture", "llama")
        .set("llama.block_count", N_LAYERS as u32)
        .set("llama.context_length", 1024u32)
        .set("llama.embedding_length", N_EMBD as u32)
        .set("llama.feed_forward_length", N_EMBD as u32)
        .set("llama.attention.head_count", N_HEADS as u32)
        .set("llama.attention.head_count_kv", 1u32)
        .set("llama.attention.key_length", width as u32)
        .set("llama.attention.value_length", width as u32)
        .set("llama.rope.dimension_count", width as u32)
        .set("llama.rope.freq_base", BASE as f32)
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    let mut add = |name: &str, shape: &[usize], values: &[f32]| {
        writer = std::mem::take(&mut writer).tensor_from_f32(name, DType::F32, shape, values);
    };
    let scaled =
        |seed: u64, n: usize, size: f32| -> Vec<f32> { noise(seed, n).iter().map(|x| x * size).collect() };
    add("token_embd.weight", &[N_VOCAB, N_EMBD], &noise(1, N_VOCAB * N_EMBD));
    add("output.weight", &[N_VOCAB, N_EMBD], &scaled(2, N_VOCAB * N_EMBD, 2.0 * size));
    add("output_norm.weight", &[N_EMBD], &[1.0; N_EMBD]);
    let exponent = |pair: usize| 2.0 * pair as f64 * (1.0 / channels as f64 - 1.0 / width as f64);
    let factors: Vec<f32> = (0..width / 2).map(|pair| BASE.powf(exponent(pair)) as f32).collect();
    add("rope_freqs.weight", &[width / 2], &factors);
    for layer in 0..N_LAYERS {
        let seed = 10 * (layer as u64 + 1);
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let stretch = (width as f32 / channels as f32).sqrt();
        let q = rows(seed, N_HEADS, 2.0 * size * stretch, true);
        add(&name("attn_q"), &[N_HEADS * width, N_EMBD], &q);
        add(&name("attn_k"), &[width, N_EMBD], &rows(seed + 1, 1, size, true));
        add(&name("attn_v"), &[width, N_EMBD], &rows(seed + 2, 1, size, false));
        let mut output = vec![0.0; N_EMBD * N_HEADS * width];
        for (index, x) in scaled(seed + 3, N_EMBD * N_HEADS * channels, 2.0 * size).into_iter().enumerate() {
            let (row, column) = (index / (N_HEADS * channels), index % (N_HEADS * channels));
            output[row * N_HEADS * width + column / channels * width + place(column % channels)] = x;
        }
        add(&name("attn_output"), &[N_EMBD, N_HEADS * width], &output);
        for (part, seed) in [("ffn_gate", 4), ("ffn_up", 5), ("ffn_down", 6)] {
            add(&name(part), &[N_EMBD, N_EMBD], &scaled(10 * layer as u64 + seed, N_EMBD * N_EMBD, size));
        }
        for norm in ["attn_norm", "ffn_norm"] {
            add(&name(norm), &[N_EMBD], &[1.0; N_EMBD]);
        }
    }
    let path =
        std::env::temp_dir().join(format!("lossy-heads-{}-{name}-{channels}.gguf", std::process::id()));
    std::fs::write(&path, writer.to_bytes()).expect("a file in a temporary folder");
    let source = ModelSource::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, source)
}

fn engine(source: &ModelSource) -> Engine {
    let options =
        EngineOptions { activations: ActivationKind::F32, n_threads: Some(2), ..EngineOptions::default() };
    Engine::load(source, &options).expect("a model with heads of that size")
}

/// Different tokens at first, so that there is something to calibrate on.
fn tokens() -> Vec<u32> {
    (0..N_TOKENS as u32).map(|i| (i * 37 + i * i / 7) % N_VOCAB as u32).collect()
}

/// A cache that stores everything exactly.
fn exact(engine: &mut Engine) -> Arc<Cache> {
    engine.cache(&CacheOptions::default()).expect("an exact cache")
}

/// Logits after the last tokens, which arrive one by one.
fn logits(engine: &mut Engine, cache: &Arc<Cache>) -> Vec<Vec<f32>> {
    let tokens = tokens();
    let (prompt, answer) = tokens.split_at(N_TOKENS - 8);
    let mut sequence = cache.sequence();
    engine.prefill(&mut sequence, prompt, &mut |_| ControlFlow::Continue(())).expect("a prompt that fits");
    let mut step = |token: &u32| {
        let item = BatchItem { sequence: &mut sequence, tokens: &[*token], logits: Logits::Last };
        engine.forward(&mut [item]).expect("room for a token").into_values()
    };
    answer.iter().map(&mut step).collect()
}

#[test]
fn a_narrow_head_is_computed_as_in_a_wider_one() {
    for channels in HEADS {
        let (narrow_path, narrow) = model("narrow", channels, channels);
        let (wide_path, wide) = model("wide", channels, 128);
        let [narrow, wide] = [narrow, wide].map(|source| {
            let mut engine = engine(&source);
            let cache = exact(&mut engine);
            logits(&mut engine, &cache)
        });
        let differences = narrow.iter().flatten().zip(wide.iter().flatten()).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        assert!(worst < 2e-3, "{channels} channels: a logit differs by {worst}");
        assert!(narrow.iter().flatten().any(|x| x.abs() > 0.5), "logits that say something");
        let _ = (std::fs::remove_file(narrow_path), std::fs::remove_file(wide_path));
    }
}

/// KL divergence from an exact cache, and bits per value, of each scheme.
fn losses(channels: usize, schemes: &[&str]) -> Vec<(f64, f64)> {
    let (path, source) = model("schemes", channels, channels);
    let mut engine = engine(&source);
    let cache = exact(&mut engine);
    let wanted = logits(&mut engine, &cache);
    let statistics = engine.calibrate(&tokens(), &mut |_| ControlFlow::Continue(())).expect("text enough");
    let mut loss = |scheme: &&str| {
        let scheme: KvScheme = scheme.parse().expect("a scheme");
        let calibration =
            CalibrationOptions { statistics: Some(statistics.clone()), ..CalibrationOptions::default() };
        let options = CacheOptions { calibration, ..CacheOptions::scheme(scheme) };
        let cache = engine.cache(&options).expect("a scheme that fits any head");
        let found = logits(&mut engine, &cache);
        let sum = wanted.iter().zip(&found).map(|(a, b)| kl_divergence(a, b)).sum::<f64>();
        (sum / wanted.len() as f64, cache.bits_per_value())
    };
    let losses = schemes.iter().map(&mut loss).collect();
    let _ = std::fs::remove_file(path);
    losses
}

/// Random models babble, so a loss says something only beside that of heads without zeros.
#[test]
fn every_scheme_loses_what_it_loses_in_heads_of_128_and_is_billed_for_its_zeros() {
    const SCHEMES: [&str; 6] = ["f16", "q8", "k4v4", "k3v3", "k2v2", "kivi4"];
    let plain = losses(128, &SCHEMES);
    for channels in HEADS {
        let stored = channels.next_multiple_of(32) as f64 / channels as f64;
        let most_bits = [
            16.0 * 1.05,
            8.5 * stored + 0.1,
            (4.25 + 4.0 * stored) / 2.0 + 0.2,
            (3.25 + 3.0 * stored) / 2.0 + 0.2,
            (2.25 + 2.0 * stored) / 2.0 + 0.2,
            5.0 * stored + 0.1,
        ];
        let rows = SCHEMES.iter().zip(losses(channels, &SCHEMES)).zip(&plain).zip(most_bits);
        for (((scheme, (loss, bits)), (plain, _)), most_bits) in rows {
            println!("{channels} channels, {scheme}: KL {loss:.1e}, of 128 {plain:.1e}; {bits:.2} bits");
            assert!(loss < 4.0 * plain, "{channels} channels, {scheme}: KL {loss}, of 128 channels {plain}");
            assert!(bits < most_bits, "{channels} channels, {scheme}: {bits} bits");
        }
    }
}

/// Its windows are longer than most chunks, and what they take is no part of what a model needs.
#[test]
fn a_calibration_leaves_no_buffers_behind() {
    let (path, source) = model("buffers", 80, 80);
    let mut engine = engine(&source);
    engine.calibrate(&tokens(), &mut |_| ControlFlow::Continue(())).expect("text enough");
    assert_eq!(engine.scratch_bytes(), 0);
    let cache = exact(&mut engine);
    logits(&mut engine, &cache);
    assert!(engine.scratch_bytes() > N_TOKENS * N_EMBD * 4);
    let _ = std::fs::remove_file(path);
}
