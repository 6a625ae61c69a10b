//! Three requests of different length and KV scheme through one loop. Each gets the same answer as alone:
//! `cargo run --release -p lossy-engine --example batch -- model.gguf`

use lossy_engine::{CacheOptions, Engine, EngineOptions, Generation, GenerationOptions, ModelSource};
use lossy_tokenizer::EncodeOptions;

/// Tokens of one forward pass.
const MOST: usize = 64;

/// How many of the tokens that each request wants are run in the next pass: one of each first, so that no answer waits for
/// another's prompt, then as many as fit, in order.
fn plan(wanted: &[usize], most: usize) -> Vec<usize> {
    let mut shares: Vec<usize> = wanted.iter().map(|n| (*n).min(1)).collect();
    let mut left = most.saturating_sub(shares.iter().sum());
    for (share, wanted) in shares.iter_mut().zip(wanted) {
        let more = (wanted - *share).min(left);
        *share += more;
        left -= more;
    }
    shares
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("usage: batch MODEL")?;
    let source = ModelSource::open(model.as_ref())?;
    let tokenizer = source.tokenizer()?;
    let mut engine =
        Engine::load(&source, &EngineOptions { kv_budget: Some(256 << 20), ..EngineOptions::default() })?;
    let requests = [
        ("f16", "The sea is".to_string(), 20),
        ("k2v2", "All happy families are alike. ".repeat(50), 40),
        ("k4v4", "Once upon a time, in a land far away,".to_string(), 30),
    ];
    let mut generations = Vec::new();
    for (scheme, prompt, max_tokens) in requests {
        let cache = engine.cache(&CacheOptions::scheme(scheme.parse()?))?;
        let prompt = tokenizer.encode(&prompt, EncodeOptions::default())?;
        let options = GenerationOptions { max_tokens: Some(max_tokens), ..GenerationOptions::default() };
        generations.push(Generation::new(tokenizer.clone(), cache.sequence(), prompt, options)?);
    }
    let mut texts = vec![String::new(); generations.len()];
    while !generations.iter().all(Generation::is_done) {
        let wanted: Vec<usize> = generations.iter().map(|generation| generation.wanted(MOST).len()).collect();
        let mut batch: Vec<(&mut Generation, usize)> =
            generations.iter_mut().zip(plan(&wanted, MOST)).collect();
        for (steps, text) in engine.advance(&mut batch)?.into_iter().zip(&mut texts) {
            for step in steps {
                text.push_str(&step?.text);
            }
        }
    }
    for (generation, text) in generations.iter().zip(texts) {
        println!("{}: {text:?}", generation.sequence().cache().kv());
    }
    Ok(())
}
