//! One engine, many callers: caches of several schemes in one batch and under one budget, generations that come and go.

use std::sync::Arc;

use lossy_engine::{
    ActivationKind, BatchItem, Cache, CacheOptions, Engine, EngineOptions, Generation, GenerationOptions,
    Logits, ModelSource, PositionScheme, RequestErrorKind, SamplingOptions, Sequence,
};
use lossy_testkit::{TestModel, testdata};
use lossy_tokenizer::Tokenizer;

const SCHEMES: [&str; 4] = ["f16", "k2v2:calibration=none", "kivi2", "q8"];

fn engine(n_threads: usize) -> (Engine, Tokenizer) {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
    let options = EngineOptions { n_threads: Some(n_threads), ..EngineOptions::default() };
    (Engine::load(&source, &options).unwrap(), source.tokenizer().unwrap())
}

fn tiny(options: &EngineOptions) -> Engine {
    Engine::load(&ModelSource::open(&testdata().join("tiny/llama")).unwrap(), options).unwrap()
}

/// Each scheme, with the model's own positions, and k2v2 with others.
fn caches(engine: &mut Engine) -> Vec<Arc<Cache>> {
    let scheme = |name: &str| CacheOptions::scheme(name.parse().unwrap());
    let stretched = CacheOptions {
        positions: "self-extend:group=4,window=128".parse::<PositionScheme>().unwrap(),
        ..scheme("k2v2:calibration=none")
    };
    let options = SCHEMES.map(scheme).into_iter().chain([stretched]);
    options.map(|options| engine.cache(&options).unwrap()).collect()
}

/// Real text.
fn text() -> Vec<u32> {
    let ids: Vec<u32> = TestModel::SmolLm2.golden().into_iter().flat_map(|golden| golden.ids).collect();
    ids.into_iter().cycle().take(2000).collect()
}

/// A small random number, the same on every machine.
fn scrambled(n: usize) -> usize {
    (n as u64).wrapping_add(0x9e37_79b9).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 33
}

#[test]
fn sequences_of_different_caches_in_one_batch_have_the_bits_of_each_alone() {
    let (mut engine, _) = engine(2);
    let caches = caches(&mut engine);
    let text = text();
    // Long enough that every scheme has packed pages, and that positions beyond the window are stretched.
    let rounds = [[300, 5, 130, 257, 400], [1, 300, 1, 2, 3], [1, 1, 1, 1, 1], [7, 1, 130, 1, 1]];
    let run = |engine: &mut Engine, sequences: &mut [Sequence], round: [usize; 5], lanes: &[usize]| {
        let items = sequences.iter_mut().enumerate().filter(|(lane, _)| lanes.contains(lane));
        let mut items: Vec<BatchItem<'_>> = items
            .map(|(lane, sequence)| {
                let start = sequence.len() + 30 * lane;
                BatchItem { tokens: &text[start..start + round[lane]], sequence, logits: Logits::Last }
            })
            .collect();
        let rows = engine.forward(&mut items).unwrap();
        (0..lanes.len()).map(|item| rows.of_item(item).to_vec()).collect::<Vec<_>>()
    };
    let new = || caches.iter().map(|cache| cache.sequence()).collect::<Vec<Sequence>>();
    let (mut together, mut alone) = (new(), new());
    for round in rounds {
        let found = run(&mut engine, &mut together, round, &[0, 1, 2, 3, 4]);
        for (lane, found) in found.iter().enumerate() {
            let wanted = run(&mut engine, &mut alone, round, &[lane]).remove(0);
            let differs = found.iter().zip(&wanted).position(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(differs, None, "lane {lane}, {round:?}");
        }
    }
}

/// What a caller asks for.
struct Request {
    prompt: Vec<u32>,
    cache: usize,
    options: GenerationOptions,
    /// leaves after so many rounds
    leaves: Option<usize>,
}

fn requests(text: &[u32]) -> Vec<Request> {
    let request = |n: usize| Request {
        prompt: text[scrambled(n) % 900..][..1 + scrambled(n + 100) % 600].to_vec(),
        cache: n % 5,
        options: GenerationOptions {
            sampling: SamplingOptions { seed: n as u64, temperature: 0.9, ..SamplingOptions::default() },
            max_tokens: Some(1 + scrambled(n + 200) % 20),
            ..GenerationOptions::default()
        },
        leaves: (n % 4 == 3).then_some(scrambled(n + 300) % 12),
    };
    (0..30).map(request).collect()
}

fn start(request: &Request, caches: &[Arc<Cache>], tokenizer: &Tokenizer) -> Generation {
    let sequence = caches[request.cache].sequence();
    Generation::new(tokenizer.clone(), sequence, request.prompt.clone(), request.options.clone()).unwrap()
}

/// Runs one round, and adds what is certain to the texts.
fn round(engine: &mut Engine, batch: &mut [(&mut Generation, usize)], texts: &mut [&mut String]) {
    for (steps, text) in engine.advance(batch).unwrap().into_iter().zip(texts) {
        steps.into_iter().for_each(|step| text.push_str(&step.unwrap().text));
    }
}

#[test]
fn thirty_generations_that_come_and_go_have_the_texts_of_each_alone() {
    let (mut engine, tokenizer) = engine(2);
    let caches = caches(&mut engine);
    let requests = requests(&text());
    let mut alone = Vec::new();
    for request in &requests {
        let (mut generation, mut text) = (start(request, &caches, &tokenizer), String::new());
        while !generation.is_done() {
            round(&mut engine, &mut [(&mut generation, 512)], &mut [&mut text]);
        }
        alone.push(text);
    }
    assert!(alone.iter().filter(|text| text.len() > 10).count() > 10, "texts that say something");

    let mut running: Vec<(usize, usize, Generation)> = Vec::new();
    let mut together = vec![String::new(); requests.len()];
    let mut left = 0;
    let mut waiting = 0..requests.len();
    for time in 0.. {
        // One or two come in each round, a share of the prompt at a time.
        for n in waiting.by_ref().take(1 + time % 2) {
            running.push((n, time, start(&requests[n], &caches, &tokenizer)));
        }
        running.retain(|(n, since, generation)| {
            let leaves = requests[*n].leaves.is_some_and(|rounds| time - since >= rounds);
            left += usize::from(leaves && !generation.is_done());
            !generation.is_done() && !leaves
        });
        if running.is_empty() && waiting.is_empty() {
            break;
        }
        let mut numbers = Vec::new();
        let mut batch = Vec::new();
        for (n, _, generation) in &mut running {
            numbers.push(*n);
            batch.push((generation, [128, 200, 0, 300][scrambled(*n + time) % 4]));
        }
        let mut texts: Vec<&mut String> = Vec::new();
        for (n, text) in together.iter_mut().enumerate() {
            if numbers.contains(&n) {
                texts.push(text);
            }
        }
        round(&mut engine, &mut batch, &mut texts);
    }
    assert!(left > 3, "{left} callers have left in the middle");
    for (n, (together, alone)) in together.iter().zip(&alone).enumerate() {
        match requests[n].leaves {
            None => assert_eq!(together, alone, "request {n}"),
            Some(_) => {
                assert!(alone.starts_with(together.as_str()), "request {n}: {together:?} of {alone:?}")
            }
        }
    }
    drop(running);
    assert_eq!(engine.budget().bytes_in_use(), 0, "everybody has left");
}

#[test]
fn a_sequence_of_another_engine_is_an_error_and_changes_nothing() {
    let (mut one, mut other) = (tiny(&EngineOptions::default()), tiny(&EngineOptions::default()));
    let mut own = one.cache(&CacheOptions::default()).unwrap().sequence();
    let mut foreign = other.cache(&CacheOptions::default()).unwrap().sequence();
    let mut batch = [
        BatchItem { sequence: &mut own, tokens: &[1, 2], logits: Logits::Last },
        BatchItem { sequence: &mut foreign, tokens: &[1, 2], logits: Logits::Last },
    ];
    let Err(error) = one.forward(&mut batch) else { panic!("the second sequence is not this engine's") };
    assert_eq!(
        error.to_string(),
        "item 1 of the batch is a sequence of another engine: run it on the engine whose cache it came from"
    );
    assert_eq!(error.kind(), RequestErrorKind::Internal);
    assert!(own.is_empty() && foreign.is_empty());
}

#[test]
fn a_sequence_outlives_the_handle_of_its_cache() {
    let mut engine = tiny(&EngineOptions::default());
    let cache = engine.cache(&CacheOptions::default()).unwrap();
    let mut sequence = cache.sequence();
    drop(cache);
    let item = BatchItem { sequence: &mut sequence, tokens: &[1, 2], logits: Logits::Last };
    assert_eq!(engine.forward(&mut [item]).unwrap().len(), 1);
    assert_eq!(sequence.cache().kv().to_string(), "f16");
    assert!(engine.budget().bytes_in_use() > 0);
    drop(sequence);
    assert_eq!(engine.budget().bytes_in_use(), 0);
}

#[test]
fn caches_share_one_budget_and_a_batch_gets_room_for_all_or_for_none() {
    let options = EngineOptions { activations: ActivationKind::F32, ..EngineOptions::default() };
    let page = {
        let mut engine = tiny(&options);
        engine.cache(&CacheOptions::default()).unwrap().sequence().bytes_needed(1)
    };
    let mut engine = tiny(&EngineOptions { kv_budget: Some(2 * page), ..options });
    let (one, other) = (
        engine.cache(&CacheOptions::default()).unwrap(),
        engine
            .cache(&CacheOptions { positions: PositionScheme::linear(), ..CacheOptions::default() })
            .unwrap(),
    );
    let mut sequences = [one.sequence(), other.sequence(), other.sequence()];
    let [a, b, c] = &mut sequences;
    let mut three = [a, b, c].map(|sequence| BatchItem { sequence, tokens: &[3], logits: Logits::None });
    let Err(error) = engine.forward(&mut three) else { panic!("there is room for two") };
    assert_eq!(error.kind(), RequestErrorKind::OutOfMemory);
    assert!(error.to_string().contains("KV cache needs"), "{error}");
    assert_eq!(engine.budget().bytes_in_use(), 0, "those that had got room have given it back");
    engine.forward(&mut three[..2]).unwrap();
    assert_eq!(engine.budget().bytes_in_use(), 2 * page);
    assert_eq!(engine.budget().bytes_left(), Some(0));
    assert_eq!((one.bytes_in_use(), other.bytes_in_use()), (page, page));
    sequences[0].truncate(0);
    assert_eq!(engine.budget().bytes_left(), Some(page));
}

#[test]
fn a_lossy_sequence_is_cut_where_it_can_go_on_as_if_it_had_never_been_longer() {
    let (mut engine, _) = engine(2);
    let text = text();
    for name in SCHEMES {
        let cache = engine.cache(&CacheOptions::scheme(name.parse().unwrap())).unwrap();
        let mut whole = cache.sequence();
        let mut run = |sequence: &mut Sequence, tokens: &[u32]| {
            engine.forward(&mut [BatchItem { sequence, tokens, logits: Logits::Last }]).unwrap().into_values()
        };
        run(&mut whole, &text[..700]);
        for cut in [0, 5, 128, 300, 511, 512, 600, 639, 640, 641, 700, 900] {
            let mut fork = whole.fork();
            let left = whole.longest_faithful(cut);
            assert!(left <= cut.min(700));
            assert_eq!(fork.truncate(left), left);
            assert_eq!(fork.len(), left);
            let mut anew = cache.sequence();
            run(&mut anew, &text[..left.max(1)]);
            anew.truncate(left);
            let more = &text[1000..1150];
            let (found, wanted) = (run(&mut fork, more), run(&mut anew, more));
            let same = found.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name}, cut at {cut}: {left} tokens are left");
        }
        let recent = whole.longest_faithful(690);
        assert!(recent >= 640, "{name}: of the last page nothing is lost, but {recent} tokens are left");
    }
}

#[test]
fn the_longest_common_prefix_is_found_and_can_go_on() {
    let mut engine = tiny(&EngineOptions::default());
    let cache = engine.cache(&CacheOptions::default()).unwrap();
    let mut sequence = |tokens: &[u32]| {
        let mut sequence = cache.sequence();
        engine.forward(&mut [BatchItem { sequence: &mut sequence, tokens, logits: Logits::None }]).unwrap();
        sequence
    };
    let sequences = [sequence(&[1, 2, 9]), sequence(&[1, 2, 3, 4]), sequence(&[1, 2, 3, 5])];
    let find = |prompt: &[u32]| {
        Sequence::longest_prefix(&sequences, prompt, true).map(|(found, len)| (found.tokens()[len - 1], len))
    };
    assert_eq!(find(&[1, 2, 3, 5, 6]), Some((5, 4)));
    assert_eq!(find(&[1, 2, 3, 7]), Some((3, 3)));
    assert_eq!(find(&[1, 2, 3, 4]), Some((3, 3)), "the last token is read anew");
    assert_eq!(find(&[7, 2]), None);
    assert_eq!(find(&[]), None);
}
