//! An answer to a prompt, from a cache of 2.25 bits per value:
//! `cargo run --release -p lossy-engine --example generate -- model.gguf "The sea is"`

use std::io::Write;

use lossy_engine::{CacheOptions, Engine, EngineOptions, Generation, GenerationOptions, ModelSource};
use lossy_tokenizer::EncodeOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt] = args.as_slice() else { return Err("usage: generate MODEL PROMPT".into()) };
    let source = ModelSource::open(model.as_ref())?;
    let tokenizer = source.tokenizer()?;
    let prompt = tokenizer.encode(prompt, EncodeOptions::default())?;
    let mut engine = Engine::load(&source, &EngineOptions::default())?;
    let cache = engine.cache(&CacheOptions::scheme("k2v2".parse()?))?;
    let options = GenerationOptions { max_tokens: Some(100), ..GenerationOptions::default() };
    let mut generation = Generation::new(tokenizer, cache.sequence(), prompt, options)?;
    while !generation.is_done() {
        for step in engine.advance(&mut [(&mut generation, 512)])?.remove(0) {
            print!("{}", step?.text);
        }
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
