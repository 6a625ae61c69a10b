//! Pieces of a prompt and interruptions change no bit.

use std::sync::Arc;

use lossy_engine::{
    ActivationKind, BatchItem, Cache, CacheOptions, Engine, EngineOptions, Generation, GenerationOptions,
    Logits, ModelSource, PositionScheme, SamplingOptions, Speculation,
};
use lossy_testkit::TestModel;
use lossy_tokenizer::Tokenizer;

const SCHEMES: [&str; 4] = ["f16", "q8", "k2v2:calibration=none", "kivi2"];

fn engine() -> (Engine, Tokenizer) {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
    let options = EngineOptions { n_threads: Some(2), ..EngineOptions::default() };
    (Engine::load(&source, &options).unwrap(), source.tokenizer().unwrap())
}

fn cache(engine: &mut Engine, scheme: &str) -> Arc<Cache> {
    engine.cache(&CacheOptions::scheme(scheme.parse().unwrap())).unwrap()
}

/// Real text.
fn text() -> Vec<u32> {
    let ids: Vec<u32> = TestModel::SmolLm2.golden().into_iter().flat_map(|golden| golden.ids).collect();
    ids.into_iter().cycle().take(1000).collect()
}

fn options(seed: u64) -> GenerationOptions {
    GenerationOptions {
        sampling: SamplingOptions {
            seed,
            temperature: 0.8,
            repeat_penalty: 1.1,
            n_logprobs: Some(2),
            ..SamplingOptions::default()
        },
        max_tokens: Some(24),
        ignore_eos: true,
        // Rounds are counted here; `speculation` has suspensions between guesses.
        speculation: Speculation::Off,
        ..GenerationOptions::default()
    }
}

/// Tokens, texts and the bits of log-probabilities; `disturb` may do something before each round.
fn generate(
    engine: &mut Engine,
    mut generation: Generation,
    max: impl Fn(usize) -> usize,
    mut disturb: impl FnMut(usize, &mut Generation),
) -> Vec<(u32, String, u32)> {
    let mut found = Vec::new();
    for round in 0.. {
        if generation.is_done() {
            break;
        }
        disturb(round, &mut generation);
        for step in engine.advance(&mut [(&mut generation, max(round))]).unwrap().remove(0) {
            let step = step.unwrap();
            let logprob = step.sampled.logprob.unwrap();
            found.push((step.sampled.id, step.text, logprob.to_bits()));
        }
    }
    found
}

#[test]
fn a_prompt_in_pieces_of_any_size_has_the_same_bits() {
    let (mut engine, tokenizer) = engine();
    let text = text();
    for scheme in ["q8", "k2v2:calibration=none", "kivi2"] {
        let cache = cache(&mut engine, scheme);
        for n_prompt in [1, 3, 17, 130, 257] {
            let mut read = |max: usize| {
                let prompt = text[n_prompt..2 * n_prompt].to_vec();
                let options = GenerationOptions { max_tokens: Some(1), ..options(1) };
                let mut generation =
                    Generation::new(tokenizer.clone(), cache.sequence(), prompt, options).unwrap();
                loop {
                    let rows = engine.forward(&mut [generation.item(max)]).unwrap();
                    let logits = rows.into_values();
                    if !logits.is_empty() {
                        return logits.iter().map(|logit| logit.to_bits()).collect::<Vec<u32>>();
                    }
                }
            };
            let wanted = read(128);
            for max in [2, 16, 17, 100, 512] {
                assert!(read(max) == wanted, "{scheme}: {n_prompt} tokens, {max} at most");
            }
        }
    }
}

#[test]
fn a_generation_that_is_suspended_again_and_again_says_the_same() {
    let (mut engine, tokenizer) = engine();
    let text = text();
    for (n, scheme) in SCHEMES.into_iter().enumerate() {
        let cache = cache(&mut engine, scheme);
        // The answer crosses the end of a page, where it is packed.
        let prompt = text[7 * n..][..240 + n].to_vec();
        let new = || {
            Generation::new(tokenizer.clone(), cache.sequence(), prompt.clone(), options(n as u64)).unwrap()
        };
        let wanted = generate(&mut engine, new(), |_| 128, |_, _| ());
        assert_eq!(wanted.len(), 24);
        let mut n_suspended = 0;
        let found = generate(
            &mut engine,
            new(),
            |round| [128, 37, 64][round % 3],
            |round, generation| {
                // While the prompt is read, while the answer is, and while what was said is computed again.
                if [1, 9, 14, 60].contains(&round) {
                    generation.suspend();
                    assert!(generation.sequence().is_empty() && generation.is_reading());
                    n_suspended += 1;
                }
            },
        );
        assert_eq!(found, wanted, "{scheme}");
        assert!(n_suspended >= 3);
    }
}

#[test]
fn a_suspended_generation_gives_its_pages_back_and_goes_on_from_those_of_another() {
    let (mut engine, tokenizer) = engine();
    let text = text();
    for scheme in ["f16", "k2v2:calibration=none"] {
        let cache = cache(&mut engine, scheme);
        let prompt = text[..300].to_vec();
        let new =
            || Generation::new(tokenizer.clone(), cache.sequence(), prompt.clone(), options(3)).unwrap();
        let wanted = generate(&mut engine, new(), |_| 512, |_, _| ());
        let mut other = cache.sequence();
        let item = BatchItem { sequence: &mut other, tokens: &prompt[..256], logits: Logits::None };
        engine.forward(&mut [item]).unwrap();
        let before = engine.budget().bytes_in_use();
        let budget = engine.budget().clone();
        let found = generate(
            &mut engine,
            new(),
            |_| 512,
            |round, generation| {
                if round == 5 {
                    assert_eq!(generation.n_generated(), 5);
                    generation.suspend();
                    assert_eq!(budget.bytes_in_use(), before);
                    generation.resume_from(other.fork()).unwrap();
                    assert_eq!((generation.n_read(), generation.wanted(512).len() >= 44), (256, true));
                    assert_eq!(generation.prompt(), prompt);
                    assert_eq!(generation.generated().len(), 5);
                }
            },
        );
        assert_eq!(found, wanted, "{scheme}");
    }
}

#[test]
fn an_exact_prefill_is_exact_again_after_a_suspension() {
    let (mut engine, tokenizer) = engine();
    let text = text();
    let options_of_cache = CacheOptions {
        exact_prefill: true,
        ..CacheOptions::scheme("k2v2:calibration=none".parse().unwrap())
    };
    let cache = engine.cache(&options_of_cache).unwrap();
    let new =
        || Generation::new(tokenizer.clone(), cache.sequence(), text[..400].to_vec(), options(9)).unwrap();
    let wanted = generate(&mut engine, new(), |_| 512, |_, _| ());
    let disturb = |round: usize, generation: &mut Generation| {
        if [2, 30].contains(&round) {
            generation.suspend();
        }
    };
    assert_eq!(generate(&mut engine, new(), |_| 512, disturb), wanted);
}

#[test]
fn what_reads_several_tokens_in_another_way_does_not_compute_alike() {
    let (mut engine, _) = engine();
    for scheme in SCHEMES {
        let wanted = ["f16", "k2v2:calibration=none"].contains(&scheme);
        assert_eq!(cache(&mut engine, scheme).computes_alike(), wanted, "{scheme}");
    }
    let k2v2 = || CacheOptions::scheme("k2v2:calibration=none".parse().unwrap());
    let exact_prefill = CacheOptions { exact_prefill: true, ..k2v2() };
    assert!(
        !engine.cache(&exact_prefill).unwrap().computes_alike(),
        "a prompt sees other pages than an answer"
    );
    let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
    let options = EngineOptions { activations: ActivationKind::F32, ..EngineOptions::default() };
    let mut exact = Engine::load(&source, &options).unwrap();
    assert!(!exact.cache(&k2v2()).unwrap().computes_alike(), "several tokens read codes as float32");
    assert!(exact.cache(&CacheOptions::default()).unwrap().computes_alike());
    for (positions, wanted) in [("linear", true), ("self-extend:group=4,window=128", false)] {
        let positions = positions.parse::<PositionScheme>().unwrap();
        let cache = engine.cache(&CacheOptions { positions, ..CacheOptions::default() }).unwrap();
        assert_eq!(cache.computes_alike(), wanted);
    }
}
