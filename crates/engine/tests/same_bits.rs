//! Logits have the same bits whatever else is in the batch, however the prompt is cut, and however many threads work.

use std::sync::Arc;

use lossy_engine::{BatchItem, Cache, CacheOptions, Engine, EngineOptions, Logits, ModelSource, Sequence};
use lossy_testkit::TestModel;

fn engine(model: TestModel, n_threads: usize) -> (Engine, Arc<Cache>) {
    let source = ModelSource::open(&model.path()).unwrap();
    let options = EngineOptions { n_threads: Some(n_threads), ..EngineOptions::default() };
    let mut engine = Engine::load(&source, &options).unwrap();
    let cache = engine.cache(&CacheOptions::default()).unwrap();
    (engine, cache)
}

/// Real text, long enough for several ranges of the cache.
fn ids(model: TestModel, n_tokens: usize) -> Vec<u32> {
    let text: Vec<u32> = model.golden().into_iter().flat_map(|golden| golden.ids).collect();
    text.into_iter().cycle().take(n_tokens).collect()
}

fn run(engine: &mut Engine, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
    engine.forward(&mut [BatchItem { sequence, tokens, logits: Logits::All }]).unwrap().into_values()
}

/// In a sequence of its own.
fn run_new(engine: &mut Engine, cache: &Arc<Cache>, tokens: &[u32]) -> Vec<f32> {
    run(engine, &mut cache.sequence(), tokens)
}

fn assert_same(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    if let Some(at) = (0..found.len()).find(|&i| found[i].to_bits() != wanted[i].to_bits()) {
        panic!("{what}: logit {at} is {} instead of {}", found[at], wanted[at]);
    }
}

#[test]
fn chunks_of_any_size_give_the_same_bits() {
    for model in TestModel::ALL {
        let (mut engine, cache) = engine(model, 2);
        let ids = ids(model, 300);
        let wanted = run_new(&mut engine, &cache, &ids);
        for chunk in [1, 2, 5, 64, 127, 128, 129, 255] {
            let mut sequence = cache.sequence();
            let mut found = Vec::new();
            for tokens in ids.chunks(chunk) {
                found.extend(run(&mut engine, &mut sequence, tokens));
            }
            assert_same(&found, &wanted, &format!("{model:?}, chunks of {chunk}"));
        }
    }
}

#[test]
fn a_prompt_that_reads_codes_has_the_bits_of_one_that_is_read_token_by_token() {
    let model = TestModel::SmolLm2;
    let ids = ids(model, 410);
    let (mut one, _) = engine(model, 1);
    let (mut three, _) = engine(model, 3);
    for scheme in [
        "k2v2:calibration=none",
        "k3v4:calibration=none,residual=0,sinks=0",
        "k2v2:calibration=none,residual=0,sparse=0.3",
    ] {
        let options = CacheOptions::scheme(scheme.parse().unwrap());
        let read = |engine: &mut Engine, chunk: usize| -> Vec<f32> {
            let mut sequence = engine.cache(&options).unwrap().sequence();
            ids.chunks(chunk).flat_map(|tokens| run(engine, &mut sequence, tokens)).collect()
        };
        // Codes are read with integers in both ways, and no frame is moved.
        let wanted = read(&mut one, 1);
        for chunk in [2, 64, 127, 410] {
            for engine in [&mut one, &mut three] {
                assert_same(&read(engine, chunk), &wanted, &format!("{scheme}, chunks of {chunk}"));
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let ids = ids(TestModel::SmolLm2, 150);
    let (mut one, cache) = engine(TestModel::SmolLm2, 1);
    let wanted = run_new(&mut one, &cache, &ids);
    for n_threads in [2, 3, 5] {
        let (mut engine, cache) = engine(TestModel::SmolLm2, n_threads);
        let mut sequence = cache.sequence();
        let mut found = run(&mut engine, &mut sequence, &ids[..149]);
        found.extend(run(&mut engine, &mut sequence, &ids[149..]));
        assert_same(&found, &wanted, &format!("{n_threads} threads"));
    }
}

#[test]
fn neighbours_in_the_batch_change_nothing() {
    let model = TestModel::QwenCoder;
    let (mut engine, cache) = engine(model, 2);
    let texts = [ids(model, 7), ids(model, 141)[9..].to_vec(), ids(model, 40)[3..].to_vec()];
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| run_new(&mut engine, &cache, text)).collect();

    let mut sequences = [cache.sequence(), cache.sequence(), cache.sequence()];
    let mut together = vec![Vec::new(); texts.len()];
    // every round, each sequence brings another number of tokens, some none
    for round in 0.. {
        let shares: Vec<&[u32]> = texts
            .iter()
            .zip(&sequences)
            .enumerate()
            .map(|(i, (text, sequence))| {
                let rest = &text[sequence.len()..];
                &rest[..rest.len().min([1, 3, 40, 0, 17][(round + i) % 5])]
            })
            .collect();
        if round > 4
            && shares.iter().all(|share| share.is_empty())
            && sequences.iter().map(Sequence::len).sum::<usize>() == texts.iter().map(Vec::len).sum::<usize>()
        {
            break;
        }
        let mut batch: Vec<BatchItem<'_>> = sequences
            .iter_mut()
            .zip(&shares)
            .map(|(sequence, tokens)| BatchItem { sequence, tokens, logits: Logits::All })
            .collect();
        let rows = engine.forward(&mut batch).unwrap();
        let mut row = 0;
        for (share, logits) in shares.iter().zip(&mut together) {
            for _ in 0..share.len() {
                logits.extend_from_slice(rows.row(row));
                row += 1;
            }
        }
    }
    for (index, (found, wanted)) in together.iter().zip(&alone).enumerate() {
        assert_same(found, wanted, &format!("sequence {index}"));
    }
}

#[test]
fn a_cut_or_forked_sequence_continues_as_if_it_had_never_been_longer() {
    let model = TestModel::SmolLm2;
    let (mut engine, cache) = engine(model, 2);
    let ids = ids(model, 280);
    let mut sequence = cache.sequence();
    let wanted = run(&mut engine, &mut sequence, &ids);
    let n_vocab = engine.n_vocab();
    for cut in [0, 1, 127, 128, 200, 279] {
        let mut fork = sequence.fork();
        fork.truncate(cut);
        // other tokens first, then cut back again
        run(&mut engine, &mut fork, &ids[..20]);
        fork.truncate(cut);
        let found = run(&mut engine, &mut fork, &ids[cut..]);
        assert_same(&found, &wanted[cut * n_vocab..], &format!("cut at {cut}"));
        assert_eq!(fork.tokens(), ids);
    }
    // the original is untouched by what its forks did
    sequence.truncate(279);
    assert_same(&run(&mut engine, &mut sequence, &ids[279..]), &wanted[279 * n_vocab..], "original");
}

#[test]
fn last_logits_are_the_last_row_of_all_logits() {
    let model = TestModel::QwenCoder;
    let (mut engine, cache) = engine(model, 2);
    let ids = ids(model, 30);
    let all = run_new(&mut engine, &cache, &ids);
    let mut sequence = cache.sequence();
    let item = BatchItem { sequence: &mut sequence, tokens: &ids, logits: Logits::Last };
    let last = engine.forward(&mut [item]).unwrap();
    assert_eq!(last.len(), 1);
    assert_same(last.row(0), &all[29 * engine.n_vocab()..], "last row");
}
