//! How long a mask takes on the vocabulary of a model, for three schemas.
//!
//! usage: cargo run --release -p lossy-output --example mask_speed [-- MODEL.gguf]

use std::path::Path;
use std::time::{Duration, Instant};

use lossy_engine::ModelSource;
use lossy_output::{Constraint, Limits, Vocabulary};
use lossy_testkit::TestModel;
use serde_json::json;

const ANSWERS: u64 = 30;
const MOST_TOKENS: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path =
        std::env::args().nth(1).map_or_else(|| TestModel::QwenCoder.path(), |path| Path::new(&path).into());
    let tokenizer = ModelSource::open(&path)?.tokenizer()?;
    let begin = Instant::now();
    let vocabulary = Vocabulary::new(&tokenizer, tokenizer.n_vocab())?;
    println!("{} tokens, tables in {:.2} s", vocabulary.n_vocab(), begin.elapsed().as_secs_f64());
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mail": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"pattern": "^[0-9]{5}$"}}}
    }, "required": ["name", "age", "mail", "tags"], "additionalProperties": false});
    let names: serde_json::Map<_, _> =
        (0..200).map(|i| (format!("name{i}"), json!({"type": "string", "maxLength": 40}))).collect();
    let wide = json!({"type": "object", "properties": names});
    for (what, schema) in
        [("a person", person), ("any object", json!({"type": "object"})), ("200 properties", wide)]
    {
        let begin = Instant::now();
        let constraint = Constraint::json_schema(&vocabulary, &schema, &Limits::default())?;
        let compiled = begin.elapsed();
        let mut times = times(&constraint, &vocabulary)?;
        times.sort_unstable();
        let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        println!(
            "{what}: compiled in {:.1} ms; {} masks: median {:.0} µs, 95 % below {:.0} µs, worst {:.0} µs",
            compiled.as_secs_f64() * 1e3,
            times.len(),
            of(0.5),
            of(0.95),
            of(1.0)
        );
    }
    Ok(())
}

/// The times of all masks of some random answers.
fn times(constraint: &Constraint, vocabulary: &Vocabulary) -> Result<Vec<Duration>, lossy_engine::MaskError> {
    let mut times = Vec::new();
    for seed in 0..ANSWERS {
        let mut mask = constraint.mask();
        let mut random = seed * 2 + 1;
        for _ in 0..MOST_TOKENS {
            let mut logits = vec![0.0; vocabulary.n_vocab()];
            let begin = Instant::now();
            mask.apply(&mut logits)?;
            times.push(begin.elapsed());
            let allowed: Vec<u32> =
                (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id).collect();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = allowed[(random >> 33) as usize % allowed.len()];
            mask.accept(id)?;
            if vocabulary.tokenizer().is_end_of_generation(id) {
                break;
            }
        }
    }
    Ok(times)
}
