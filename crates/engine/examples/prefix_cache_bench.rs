//! How fast a long document is found again, in memory and on disk.
//!
//! ```text
//! cargo run --release -p lossy-engine --example prefix_cache_bench -- MODEL [SCHEME] [TOKENS] [DIRECTORY]
//! ```
//! The document is 1024 tokens that are read, and copies of their pages behind them: what a page holds does not matter.
//! A second process would find the same files; here memory is emptied instead, and the system's cache of files is warm.

use std::path::PathBuf;
use std::time::Instant;

use lossy_engine::prefix_cache::{PrefixCache, PrefixCacheOptions, Scope};
use lossy_engine::{BatchItem, CacheOptions, Engine, EngineOptions, Logits, ModelSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = PathBuf::from(arguments.next().ok_or("a model")?);
    let scheme = arguments.next().unwrap_or_else(|| "k2v2".to_owned());
    let n_tokens: usize = arguments.next().map_or(Ok(30_000), |n| n.parse())?;
    let directory = arguments.next().map_or_else(|| std::env::temp_dir().join("lossy-pages"), PathBuf::from);

    let mut engine = Engine::load(&ModelSource::open(&model)?, &EngineOptions::default())?;
    let options = CacheOptions { n_ctx: Some(n_tokens + 128), ..CacheOptions::scheme(scheme.parse()?) };
    let cache = engine.cache(&options)?;
    let scope = Scope::new(&[b"bench"]);
    let options = PrefixCacheOptions { ram: None, directory: Some(directory), disk: 1 << 34 };
    let mut store = PrefixCache::new(options)?;
    store.purge(None)?;
    let mut cursor = store.cursor(&cache, &scope);

    let mut sequence = cache.sequence();
    let tokens: Vec<u32> = (0..1024).map(|n| n * 7919 % 20_000).collect();
    let begun = Instant::now();
    for tokens in tokens.chunks(512) {
        engine.forward(&mut [BatchItem { sequence: &mut sequence, tokens, logits: Logits::None }])?;
    }
    println!("reading 1024 tokens      {:8.1} ms", ms(begun));
    sequence.extend_with_copies(n_tokens)?;
    let prompt = [sequence.tokens(), &[1, 2, 3]].concat();

    // As fast as they are written, which is faster than they are read.
    let begun = Instant::now();
    let mut longest = 0.0f64;
    for upto in (128..=n_tokens).step_by(128).chain([n_tokens]) {
        let call = Instant::now();
        store.keep(&mut cursor, &sequence, upto, upto == n_tokens);
        longest = longest.max(ms(call));
        if upto % (128 * 128) == 0 {
            store.flush();
        }
    }
    println!("keeping, all calls       {:8.1} ms; longest call {longest:.2} ms", ms(begun));
    let begun = Instant::now();
    store.flush();
    println!("writing the rest         {:8.1} ms", ms(begun));
    drop(sequence);
    let stats = store.stats();
    println!("{} pages, {} MB, on disk {} MB", stats.n_pages, stats.bytes >> 20, stats.disk_bytes >> 20);

    for _ in 0..3 {
        let begun = Instant::now();
        let found = store.find(&cache, &scope, &prompt);
        println!("found {:6} in memory    {:8.1} ms", found.n_ram, ms(begun));
        drop(found);
        let begun = Instant::now();
        store.make_room(usize::MAX);
        println!("giving all memory back   {:8.1} ms", ms(begun));
        let begun = Instant::now();
        let found = store.find(&cache, &scope, &prompt);
        println!("found {:6} on disk      {:8.1} ms", found.n_disk, ms(begun));
    }
    store.purge(None)?;
    Ok(())
}

fn ms(begun: Instant) -> f64 {
    1000.0 * begun.elapsed().as_secs_f64()
}
