//! What the model thinks of a prompt's own tokens.

use lossy_engine::{
    BatchItem, CacheOptions, Engine, EngineOptions, Generation, GenerationOptions, Logits, ModelSource,
    SamplingOptions,
};
use lossy_testkit::TestModel;
use lossy_tokenizer::EncodeOptions;

#[test]
fn log_probabilities_of_a_prompt_are_those_of_its_logits() {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
    let mut engine = Engine::load(&source, &EngineOptions::default()).unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let text = "The harbour was quiet that morning. ".repeat(20);
    let prompt = tokenizer.encode(&text, EncodeOptions::default()).unwrap();
    assert!(prompt.len() > 130, "more than a page");
    for scheme in ["f16", "k2v2"] {
        let cache = engine.cache(&CacheOptions::scheme(scheme.parse().unwrap())).unwrap();
        let mut sequence = cache.sequence();
        let mut batch = [BatchItem { sequence: &mut sequence, tokens: &prompt, logits: Logits::All }];
        let rows = engine.forward(&mut batch).unwrap();
        let options = GenerationOptions {
            sampling: SamplingOptions { n_logprobs: Some(2), ..SamplingOptions::greedy() },
            max_tokens: Some(1),
            prompt_logprobs: true,
            ..GenerationOptions::default()
        };
        for most in [40, 128, 512] {
            // What a sequence holds is of no use where the logits of every token are wanted.
            let mut generation =
                Generation::new(tokenizer.clone(), sequence.fork(), prompt.clone(), options.clone()).unwrap();
            let step = loop {
                let step = engine.advance(&mut [(&mut generation, most)]).unwrap().remove(0).pop();
                if let Some(step) = step {
                    break step.unwrap();
                }
            };
            let scored = generation.prompt_logprobs();
            assert_eq!(scored.len(), prompt.len() - 1);
            for (index, scored) in scored.iter().enumerate() {
                let logits = rows.row(index);
                let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
                let id = prompt[index + 1];
                let wanted = f64::from(logits[id as usize]) - sum.ln();
                assert_eq!(scored.id, id);
                assert!(
                    (f64::from(scored.logprob.unwrap()) - wanted).abs() < 1e-4,
                    "{scheme}, token {index}"
                );
                assert_eq!(scored.top.len(), 2);
            }
            let last = rows.row(prompt.len() - 1);
            assert!(last.iter().all(|logit| *logit <= last[step.sampled.id as usize]), "{scheme}");
        }
    }
}
