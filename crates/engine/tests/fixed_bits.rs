//! Bits that stay as they are from one version to the next: a change here is a change of results, to be explained in the
//! change log. The hashes are those of the program before model, cache and run were taken apart; those with
//! `k2v2` are newer: since then a prompt multiplies its codes as integers.

use lossy_engine::{
    BatchItem, CacheOptions, Engine, EngineOptions, Generation, GenerationOptions, Logits, ModelSource,
    SamplingOptions, Sequence,
};
use lossy_testkit::{Fnv, TestModel};

/// Logits of the golden texts, by model.
const GOLDEN: [u64; 2] = [0x55f9_e511_ba0d_5081, 0x3c31_5155_8981_c78c];
/// Logits of a batch, by scheme.
const BATCH: [u64; 4] =
    [0xb325_9d24_bd90_c8ef, 0x8b87_d832_f1fa_2da9, 0x69ce_9615_6a49_dc3f, 0x4bda_ec52_a613_9fc0];
/// Tokens, texts and log-probabilities.
const GENERATIONS: u64 = 0x3b50_caba_3e1d_76cb;

/// Schemes that need no calibration.
const SCHEMES: [&str; 4] = ["f16", "k2v2:calibration=none", "kivi2", "q8"];

fn engine(model: TestModel) -> Engine {
    let source = ModelSource::open(&model.path()).unwrap();
    Engine::load(&source, &EngineOptions { n_threads: Some(2), ..EngineOptions::default() }).unwrap()
}

fn scheme(name: &str) -> CacheOptions {
    CacheOptions::scheme(name.parse().unwrap())
}

/// 900 tokens of the golden texts.
fn text(model: TestModel) -> Vec<u32> {
    let ids: Vec<u32> = model.golden().into_iter().flat_map(|golden| golden.ids).collect();
    ids.into_iter().cycle().take(900).collect()
}

#[test]
fn logits_of_the_golden_texts_keep_their_bits() {
    for (model, wanted) in TestModel::ALL.into_iter().zip(GOLDEN) {
        let mut engine = engine(model);
        let cache = engine.cache(&CacheOptions::default()).unwrap();
        let mut hash = Fnv::default();
        for golden in model.golden() {
            let mut sequence = cache.sequence();
            let item = BatchItem { sequence: &mut sequence, tokens: &golden.ids, logits: Logits::All };
            hash.floats(&engine.forward(&mut [item]).unwrap().into_values());
        }
        assert_eq!(hash.finish(), wanted, "{model:?}");
    }
}

#[test]
fn a_batch_of_four_unequal_sequences_keeps_its_bits() {
    let model = TestModel::SmolLm2;
    let mut engine = engine(model);
    let text = text(model);
    for (name, wanted) in SCHEMES.into_iter().zip(BATCH) {
        let cache = engine.cache(&scheme(name)).unwrap();
        let mut sequences: Vec<Sequence> = (0..4).map(|_| cache.sequence()).collect();
        let mut hash = Fnv::default();
        for shares in [[300, 1, 130, 57], [1, 128, 3, 200], [40, 1, 1, 1], [1, 1, 1, 1]] {
            let items = sequences.iter_mut().zip(shares).enumerate().map(|(index, (sequence, n))| {
                let start = sequence.len() + 50 * index;
                BatchItem { tokens: &text[start..start + n], sequence, logits: Logits::Last }
            });
            let mut items: Vec<BatchItem<'_>> = items.collect();
            hash.floats(&engine.forward(&mut items).unwrap().into_values());
        }
        assert_eq!(hash.finish(), wanted, "{name}");
    }
}

#[test]
fn twenty_seeded_generations_keep_their_tokens_texts_and_log_probabilities() {
    let model = TestModel::SmolLm2;
    let mut engine = engine(model);
    let tokenizer = ModelSource::open(&model.path()).unwrap().tokenizer().unwrap();
    let caches = SCHEMES.map(|name| engine.cache(&scheme(name)).unwrap());
    let text = text(model);
    let mut hash = Fnv::default();
    for seed in 0..20 {
        let n_prompt = if seed < 4 { 400 } else { 10 + 3 * seed };
        let prompt = text[17 * seed..][..n_prompt].to_vec();
        let options = GenerationOptions {
            sampling: SamplingOptions {
                seed: seed as u64,
                temperature: 1.0,
                repeat_penalty: 1.1,
                n_logprobs: Some(2),
                ..SamplingOptions::default()
            },
            max_tokens: Some(24),
            stop: vec!["\n\n".into()],
            ..GenerationOptions::default()
        };
        let sequence = caches[seed % caches.len()].sequence();
        let mut generation = Generation::new(tokenizer.clone(), sequence, prompt, options).unwrap();
        while !generation.is_done() {
            for step in engine.advance(&mut [(&mut generation, 512)]).unwrap().remove(0) {
                let step = step.unwrap();
                hash.bytes(step.text.as_bytes());
                hash.bytes(&step.sampled.id.to_le_bytes());
                hash.floats(&[step.sampled.logprob.unwrap()]);
            }
        }
    }
    assert_eq!(hash.finish(), GENERATIONS);
}
