//! How long a decode round of several sequences takes.
//!
//! `cargo run --release -p lossy-engine --example round_bench -- MODEL [SEQUENCES …] [SCHEME …] [at=DEPTH] [rounds=N]` prints
//! for each KV scheme (f16 unless named) and number of sequences (1, 2, 4, 5, 6, 8, 12 and 16 unless named) the milliseconds of a round,
//! in which each gets one token: the fastest and the median of N (25 unless named), in which all take turns. Each sequence begins with
//! DEPTH tokens of its own (none unless named), which those of other numbers share, reads 16 more, and goes on with the likeliest.
//! `LOSSY_BENCH_THREADS` and `LOSSY_ISA` choose threads and instructions.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

use lossy_engine::{
    BatchItem, CacheOptions, Engine, EngineOptions, KvScheme, KvType, LogitRows, Logits, ModelSource,
    Sequence,
};
use lossy_kernels::Isa;

const SEQUENCES: [usize; 8] = [1, 2, 4, 5, 6, 8, 12, 16];
const PROMPT: usize = 16;
const ROUNDS: usize = 25;

/// The likeliest token of each row.
fn likeliest(logits: &LogitRows) -> Vec<u32> {
    let best =
        |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i as u32);
    (0..logits.len()).map(|row| best(logits.row(row))).collect()
}

/// What is timed.
struct Named {
    counts: Vec<usize>,
    schemes: Vec<KvScheme>,
    depth: usize,
    n_rounds: usize,
}

impl Named {
    fn parse(words: impl Iterator<Item = String>) -> Result<Named, Box<dyn std::error::Error>> {
        let mut named = Named { counts: Vec::new(), schemes: Vec::new(), depth: 0, n_rounds: ROUNDS };
        for word in words {
            match (word.split_once('='), word.parse()) {
                (Some(("at", depth)), _) => named.depth = depth.parse()?,
                (Some(("rounds", n)), _) => named.n_rounds = n.parse::<NonZeroUsize>()?.get(),
                (_, Ok(count)) => named.counts.push(count),
                (_, Err(_)) => named.schemes.push(word.parse()?),
            }
        }
        if named.counts.is_empty() {
            named.counts = SEQUENCES.to_vec();
        }
        if named.schemes.is_empty() {
            named.schemes = vec![KvScheme::exact(KvType::F16)];
        }
        Ok(named)
    }
}

/// Sequences that are decoded together.
struct Group {
    scheme: String,
    sequences: Vec<Sequence>,
    /// the token that each gets next
    next: Vec<u32>,
    milliseconds: Vec<f64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model =
        arguments.next().ok_or("usage: round_bench MODEL [SEQUENCES …] [SCHEME …] [at=DEPTH] [rounds=N]")?;
    let named = Named::parse(arguments)?;
    let mut options = EngineOptions::default();
    if let Ok(threads) = std::env::var("LOSSY_BENCH_THREADS") {
        options.n_threads = Some(threads.parse()?);
    }
    if let Ok(name) = std::env::var("LOSSY_ISA") {
        options.isa = Isa::by_name(&name)?;
    }
    let mut engine = Engine::load(&ModelSource::open(model.as_ref())?, &options)?;
    let mut groups = Vec::new();
    for scheme in &named.schemes {
        let cache = engine.cache(&CacheOptions::scheme(scheme.clone()))?;
        let most = named.counts.iter().copied().max().unwrap_or_default();
        let mut beginnings: Vec<Sequence> = (0..most).map(|_| cache.sequence()).collect();
        if named.depth > 0 {
            for (n, sequence) in beginnings.iter_mut().enumerate() {
                let tokens: Vec<u32> =
                    (0..named.depth).map(|i| (100 + n + 7919 * i % 20_011) as u32).collect();
                engine.prefill(sequence, &tokens, &mut |_| ControlFlow::Continue(()))?;
            }
        }
        for n in named.counts.iter().copied() {
            let mut sequences: Vec<Sequence> = beginnings[..n].iter().map(Sequence::fork).collect();
            let prompts: Vec<Vec<u32>> =
                (0..n).map(|i| (0..PROMPT).map(|j| (100 + 37 * i + 11 * j) as u32).collect()).collect();
            let mut batch: Vec<BatchItem> = sequences
                .iter_mut()
                .zip(&prompts)
                .map(|(sequence, tokens)| BatchItem { sequence, tokens, logits: Logits::Last })
                .collect();
            let next = likeliest(&engine.forward(&mut batch)?);
            groups.push(Group { scheme: scheme.to_string(), sequences, next, milliseconds: Vec::new() });
        }
    }
    for _ in 0..named.n_rounds {
        for group in &mut groups {
            let mut batch: Vec<BatchItem> = group
                .sequences
                .iter_mut()
                .zip(group.next.chunks(1))
                .map(|(sequence, tokens)| BatchItem { sequence, tokens, logits: Logits::Last })
                .collect();
            let start = Instant::now();
            let logits = engine.forward(&mut batch)?;
            group.milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
            group.next = likeliest(&logits);
        }
    }
    println!("{} with {} threads", engine.isa(), engine.n_threads());
    for Group { scheme, sequences, milliseconds, .. } in &mut groups {
        milliseconds.sort_by(f64::total_cmp);
        let (fastest, median) = (milliseconds[0], milliseconds[named.n_rounds / 2]);
        println!("{scheme:>8} {:>3} sequences: {fastest:>6.1} ms, median {median:.1}", sequences.len());
    }
    Ok(())
}
