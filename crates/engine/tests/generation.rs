//! The loop from a prompt to text, on a tiny model whose tokens a bias chooses.

use std::sync::Arc;

use lossy_engine::{
    Cache, CacheOptions, Engine, EngineOptions, Finish, Generation, GenerationOptions, ModelSource,
    PositionScheme, RequestError, SampleError, SamplingOptions, Step,
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
    cache: Arc<Cache>,
}

impl Run {
    fn new() -> Run {
        let source = ModelSource::open(&testdata().join("tiny/llama/model.gguf")).unwrap();
        let mut engine = Engine::load(&source, &EngineOptions::default()).unwrap();
        let options = CacheOptions {
            n_ctx: Some(2000),
            positions: PositionScheme::linear(),
            beyond_trained: true,
            ..CacheOptions::default()
        };
        let cache = engine.cache(&options).unwrap();
        Run { engine, cache }
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

    fn start(&self, options: GenerationOptions) -> Generation {
        Generation::new(tokenizer(), self.cache.sequence(), PROMPT.to_vec(), options).unwrap()
    }

    /// One step at a time.
    fn step(&mut self, generation: &mut Generation) -> Option<Step> {
        let most = if generation.is_reading() { 100 } else { 1 };
        self.engine.advance(&mut [(generation, most)]).unwrap().remove(0).pop().transpose().unwrap()
    }

    fn steps(&mut self, options: GenerationOptions) -> Vec<Step> {
        let mut generation = self.start(options);
        let mut steps = Vec::new();
        while !generation.is_done() {
            steps.extend(self.step(&mut generation));
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
    let mut generation = run.start(options);
    for _ in 0..3 {
        assert_eq!(run.step(&mut generation).unwrap().text, "");
    }
    assert_eq!(generation.end(), "ab\u{FFFD}");
}

#[test]
fn a_stop_string_ends_the_text_before_it_and_the_last_step_holds_nothing_back() {
    let options = GenerationOptions { stop: vec!["bé".into()], ..Run::options(&[4, 5, 7, 8]) };
    let steps = Run::new().steps(options);
    assert_eq!(steps.iter().map(|step| step.text.as_str()).collect::<String>(), "a");
    assert_eq!(steps.last().unwrap().finish, Some(Finish::StopText { index: 0 }));
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

#[test]
fn a_prompt_is_wanted_piece_by_piece_and_only_its_last_piece_makes_a_step() {
    let mut run = Run::new();
    let mut generation =
        Generation::new(tokenizer(), run.cache.sequence(), vec![1, 3, 1, 3, 1], Run::options(&[4, 5]))
            .unwrap();
    let mut seen = Vec::new();
    while !generation.is_done() {
        let wanted = generation.wanted(2).to_vec();
        let steps = run.engine.advance(&mut [(&mut generation, 2)]).unwrap().remove(0);
        seen.push((wanted, steps.into_iter().map(|step| step.unwrap().sampled.id).collect::<Vec<u32>>()));
    }
    let ids = |ids: &[u32]| ids.to_vec();
    let wanted =
        [(ids(&[1, 3]), ids(&[])), (ids(&[1, 3]), ids(&[])), (ids(&[1]), ids(&[4])), (ids(&[4]), ids(&[5]))];
    assert_eq!(seen, wanted);
    assert!(generation.wanted(2).is_empty());
    assert_eq!(generation.into_sequence().tokens(), [1, 3, 1, 3, 1, 4]);
}

#[test]
fn a_generation_goes_on_from_what_its_sequence_and_the_prompt_have_in_common() {
    let mut run = Run::new();
    let mut first =
        Generation::new(tokenizer(), run.cache.sequence(), vec![1, 3, 4], Run::options(&[5, 4])).unwrap();
    while !first.is_done() {
        run.step(&mut first);
    }
    let sequence = first.into_sequence();
    assert_eq!(sequence.tokens(), [1, 3, 4, 5]);
    let next = |prompt: &[u32]| {
        let generation =
            Generation::new(tokenizer(), sequence.fork(), prompt.to_vec(), Run::options(&[4])).unwrap();
        generation.wanted(100).to_vec()
    };
    assert_eq!(next(&[1, 3, 4, 5, 6]), [6]);
    assert_eq!(next(&[1, 3, 4, 5]), [5], "the last token of a prompt is read for its logits");
    assert_eq!(next(&[1, 4]), [4]);
}

#[test]
fn what_cannot_be_generated_is_refused_with_a_reason() {
    let run = Run::new();
    let start = |prompt: Vec<u32>| {
        Generation::new(tokenizer(), run.cache.sequence(), prompt, Run::options(&[4])).map(drop)
    };
    assert!(matches!(start(Vec::new()), Err(RequestError::EmptyPrompt)));
    assert!(matches!(start(vec![1, 9999]), Err(RequestError::NoSuchToken { id: 9999, .. })));
    assert!(matches!(start(vec![1; 2001]), Err(RequestError::TooLong { n_prompt: 2001, n_ctx: 2000 })));
}

#[test]
fn a_bias_that_bans_every_token_is_an_error_and_ends_the_generation() {
    let mut run = Run::new();
    let everything = (0..80).map(|id| (id, f32::NEG_INFINITY)).collect();
    let mut generation = run.start(GenerationOptions {
        sampling: SamplingOptions { logit_bias: everything, ..SamplingOptions::greedy() },
        ..GenerationOptions::default()
    });
    let error = run.engine.advance(&mut [(&mut generation, 100)]).unwrap().remove(0).remove(0).unwrap_err();
    assert!(
        matches!(error, RequestError::Sample(SampleError::NothingAllowed { n_vocab: 80, .. })),
        "{error}"
    );
    assert!(generation.is_done());
}

#[test]
fn no_tokens_are_generated_where_none_are_asked_for() {
    let mut run = Run::new();
    let mut generation = run.start(GenerationOptions { max_tokens: Some(0), ..Run::options(&[4]) });
    assert!(run.step(&mut generation).is_none());
    assert!(generation.is_done());
    assert_eq!(generation.sequence().tokens(), PROMPT);
}
