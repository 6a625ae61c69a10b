//! What two KV schemes cost on a model, and the cheapest setting within a budget.
//!
//! ```text
//! $ cargo run --release -p lossy-eval --example measure -- MODEL BUDGET
//! 2 windows of 1024 tokens of bundled prose, bundled code, the last 384 predictions of each; reference f16 (23040 bytes per token)
//!
//! | setting | bits | bytes/token | smaller | KL (nats) | 99 % KL | same top | PPL ratio | predictions | t/s |
//! | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
//! | k2v2 | 2.250 | 3240 | 7.1× | 0.01553 ± 0.00089 | 0.0876 | 93.62 ± 0.88 % | 1.0040 ± 0.0073 | 768 | … |
//! | q8 | 8.500 | 12240 | 1.9× | 0.00381 ± 0.00014 | 0.0172 | 96.61 ± 0.65 % | 0.9989 ± 0.0034 | 768 | … |
//! …
//! within BUDGET: SETTING (BITS bits)
//! frontier of bits and KL: SETTING · SETTING · …
//! ```
//! The figures are those of SmolLM2-135M-Instruct Q4_1 in docs/loss.md; speeds are left out.

use std::error::Error;
use std::path::Path;

use lossy_engine::{Engine, EngineOptions, ModelSource};
use lossy_eval::divergence::ReferenceRun;
use lossy_eval::{Meter, MeterOptions, Search, Text, Unobserved, WindowOptions, Windows};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, budget] = &args[..] else { return Err("usage: measure MODEL BUDGET".into()) };
    let source = ModelSource::open(Path::new(model))?;
    let mut engine = Engine::load(&source, &EngineOptions::default())?;
    let mut meter = Meter::new(&mut engine, MeterOptions::default())?;

    // 768 predictions of the bundled prose and code, each after at least 256 tokens.
    let texts = Text::bundled(&source.tokenizer()?)?;
    let windows = Windows::cut(&texts, &WindowOptions { max_scored: Some(768), ..WindowOptions::new(1024) })?;

    meter.set(&["k2v2".parse()?, "q8".parse()?], &mut Unobserved)?;
    let measurement = meter.measure(&windows, ReferenceRun::Run, &mut Unobserved)?;
    print!("{}", measurement.text(false));

    let found = Search::new(budget.parse()?).run(&mut meter, &windows, &mut Unobserved)?;
    print!("{}", found.choice.text());
    Ok(())
}
