//! The loop from a prompt to text, on a tiny model whose tokens a bias chooses.

use std::ops::ControlFlow;

use lossy_engine::{
    Engine, EngineOptions, Finish, Generation, GenerationOptions, ModelSource, PositionScheme,
    SamplingOptions, Sequence, Step,
};
use lossy_testkit::testdata;
use lossy_tokenizer::{SpecialIds, Tokenizer, TokenizerKeys};

const TOKENS: [&str; 9] = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "<0xC3>", "<0xA9>"];
const PROMPT: [u32; 2] = [1, 3];

/// SentencePiece, whose texts begin with a space of their own.
fn tokenizer() -> Tokenizer {
    let keys = TokenizerKeys {
        model: "llama",
        tokens: TOKENS.into(),
        scores: vec![0.0; TOKENS.len()],
        token_types: vec![2, 3, 3, 1, 1, 1, 1, 6, 6],
        ids: SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), ..SpecialIds::default() },
        add_space_prefix: Some(true),
        ..TokenizerKeys::default()
    };
    Tokenizer::from_keys(&keys).expect("keys that fit together")
}

struct Run {
    engine: Engine,
    sequence: Sequence,
    logits: Vec<f32>,
    tokenizer: Tokenizer,
}

impl Run {
    fn new() -> Run {
        let source = ModelSource::open(&testdata().join("tiny/llama/model.gguf")).unwrap();
        let options = EngineOptions {
            n_ctx: Some(2000),
            positions: PositionScheme::linear(),
            beyond_trained: true,
            ..EngineOptions::default()
        };
        let mut engine = Engine::load(&source, &options).unwrap();
        let mut sequence = engine.sequence();
        let logits = engine.prefill(&mut sequence, &PROMPT, &mut |_| ControlFlow::Continue(())).unwrap();
        Run { engine, sequence, logits, tokenizer: tokenizer() }
    }

    /// Greedy, with the tokens `ids` one after another: a bias allows one, and a penalty forbids it afterwards.
    fn options(ids: &[u32]) -> GenerationOptions {
        let bias =
            ids.iter().zip((1..).map(|n| 1e6 - 1e3 * n as f32)).map(|(&id, bias)| (id, bias)).collect();
        GenerationOptions {
            sampling: SamplingOptions {
                logit_bias: bias,
                presence_penalty: 5e5,
                ..SamplingOptions::greedy()
            },
            max_tokens: Some(ids.len()),
            ..GenerationOptions::default()
        }
    }

    fn steps(&mut self, options: GenerationOptions) -> Vec<Step> {
        let mut generation =
            Generation::new(&self.tokenizer, &mut self.sequence, self.logits.clone(), options);
        let mut steps = Vec::new();
        while let Some(step) = generation.step(&mut self.engine).unwrap() {
            steps.push(step);
        }
        steps
    }

    fn text(&mut self, options: GenerationOptions) -> String {
        self.steps(options).iter().map(|step| step.text.as_str()).collect()
    }
}

#[test]
fn a_continuation_keeps_its_leading_space() {
    assert_eq!(Run::new().text(Run::options(&[6, 5])), " ab");
}

#[test]
fn what_was_held_back_comes_out_at_the_end_of_an_unfinished_generation() {
    let mut run = Run::new();
    let options = GenerationOptions { stop: vec!["abé!".into()], ..Run::options(&[4, 5, 7]) };
    let options = GenerationOptions { max_tokens: None, ..options };
    let mut generation = Generation::new(&run.tokenizer, &mut run.sequence, run.logits.clone(), options);
    for _ in 0..3 {
        assert_eq!(generation.step(&mut run.engine).unwrap().unwrap().text, "");
    }
    assert_eq!(generation.end(), "ab\u{FFFD}");
}

#[test]
fn a_stop_string_ends_the_text_before_it_and_the_last_step_holds_nothing_back() {
    let options = GenerationOptions { stop: vec!["bé".into()], ..Run::options(&[4, 5, 7, 8]) };
    let steps = Run::new().steps(options);
    assert_eq!(steps.iter().map(|step| step.text.as_str()).collect::<String>(), "a");
    assert_eq!(steps.last().unwrap().finish, Some(Finish::StopText));
    let options = GenerationOptions { stop: vec!["bb".into()], ..Run::options(&[4, 5]) };
    assert_eq!(Run::new().text(options), "ab");
}

#[test]
fn the_end_of_the_text_is_told_apart_from_a_stop_string() {
    let steps = Run::new().steps(GenerationOptions { max_tokens: None, ..Run::options(&[4, 2]) });
    assert_eq!(steps.iter().map(|step| step.text.as_str()).collect::<String>(), "a");
    assert_eq!(steps.last().unwrap().finish, Some(Finish::EndOfText));
}

#[test]
fn a_text_that_goes_in_circles_is_stopped_if_that_was_asked_for() {
    let options = |stop_cycles| GenerationOptions {
        sampling: SamplingOptions { logit_bias: vec![(4, 1e6)], ..SamplingOptions::greedy() },
        max_tokens: Some(300),
        stop_cycles,
        ..GenerationOptions::default()
    };
    let stopped = Run::new().steps(options(true));
    assert_eq!(stopped.last().unwrap().finish, Some(Finish::Cycle { period: 1 }));
    assert_eq!(stopped.len(), 257);
    assert_eq!(Run::new().steps(options(false)).last().unwrap().finish, Some(Finish::Length));
}
