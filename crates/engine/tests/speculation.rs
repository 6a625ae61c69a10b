//! With guessed tokens a text, its log-probabilities and its cache have the bits that they have without.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lossy_engine::prefix_cache::{PrefixCache, PrefixCacheOptions, Scope};
use lossy_engine::{
    ActivationKind, BatchItem, Cache, CacheOptions, Engine, EngineOptions, Finish, Generation,
    GenerationOptions, Logits, Mask, MaskError, ModelSource, PAGE_TOKENS, PositionScheme, SamplingOptions,
    Sequence, Speculation,
};
use lossy_testkit::TestModel;
use lossy_tokenizer::Tokenizer;

struct Run {
    /// Threads that wait spin: two engines at once would hold each other up.
    _alone: MutexGuard<'static, ()>,
    engine: Engine,
    tokenizer: Tokenizer,
    /// which repeats itself
    text: Vec<u32>,
}

/// All that anybody can see of a generation.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    ids: Vec<u32>,
    text: String,
    /// bits of the log-probabilities, of the chosen tokens and of others
    logprobs: Vec<u32>,
    finish: Option<Finish>,
    error: Option<String>,
    /// its whole pages, as they are saved
    pages: Vec<u8>,
    /// bits of the logits of more tokens, which see all of it
    after: Vec<u32>,
    n_kv_bytes: usize,
}

impl Run {
    /// A real model and text.
    fn real(n_threads: usize, activations: ActivationKind) -> Run {
        let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
        let ids: Vec<u32> = TestModel::SmolLm2.golden().into_iter().flat_map(|golden| golden.ids).collect();
        Run::of(&source, n_threads, activations, &ids)
    }

    fn of(source: &ModelSource, n_threads: usize, activations: ActivationKind, ids: &[u32]) -> Run {
        static ALONE: Mutex<()> = Mutex::new(());
        let options = EngineOptions { n_threads: Some(n_threads), activations, ..EngineOptions::default() };
        Run {
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            engine: Engine::load(source, &options).unwrap(),
            tokenizer: source.tokenizer().unwrap(),
            text: ids.iter().copied().cycle().take(2000).collect(),
        }
    }

    fn cache(&mut self, scheme: &str, positions: &str) -> Arc<Cache> {
        let positions = positions.parse::<PositionScheme>().unwrap();
        let options = CacheOptions {
            positions,
            n_ctx: Some(4000),
            beyond_trained: true,
            ..CacheOptions::scheme(scheme.parse().unwrap())
        };
        self.engine.cache(&options).unwrap()
    }

    /// A sequence that holds the beginning of `prompt`, whole pages of it, to be forked.
    fn read(&mut self, cache: &Arc<Cache>, prompt: &[u32]) -> Sequence {
        let mut sequence = cache.sequence();
        let pages = &prompt[..(prompt.len() - 2) / PAGE_TOKENS * PAGE_TOKENS];
        self.engine.prefill(&mut sequence, pages, &mut |_| ControlFlow::Continue(())).unwrap();
        sequence
    }

    /// Goes on from `read`.
    fn generation(&self, read: &Sequence, prompt: &[u32], options: &GenerationOptions) -> Generation {
        Generation::new(self.tokenizer.clone(), read.fork(), prompt.to_vec(), options.clone()).unwrap()
    }

    /// Runs to the end; `disturb` may do something before each round.
    fn finish(
        &mut self,
        generation: &mut Generation,
        mut disturb: impl FnMut(usize, &mut Generation),
    ) -> Seen {
        let mut seen = Seen::default();
        for round in 0.. {
            if generation.is_done() {
                break;
            }
            disturb(round, generation);
            for step in self.engine.advance(&mut [(&mut *generation, 512)]).unwrap().remove(0) {
                let step = match step {
                    Ok(step) => step,
                    Err(error) => {
                        seen.error = Some(error.to_string());
                        continue;
                    }
                };
                seen.ids.push(step.sampled.id);
                seen.text.push_str(&step.text);
                let tops = step.sampled.top.iter().map(|top| top.logprob);
                seen.logprobs.extend(step.sampled.logprob.into_iter().chain(tops).map(f32::to_bits));
                seen.finish = step.finish;
            }
        }
        self.look_at(generation.sequence(), &mut seen);
        seen
    }

    /// What stands behind the end of a sequence in its last page is nobody's.
    fn look_at(&mut self, sequence: &Sequence, seen: &mut Seen) {
        seen.n_kv_bytes = sequence.kv_bytes();
        let (mut whole, mut longer) = (sequence.fork(), sequence.fork());
        whole.truncate(sequence.len() / PAGE_TOKENS * PAGE_TOKENS);
        whole.save(&mut seen.pages).unwrap();
        longer.truncate(longer.len().min(longer.cache().n_ctx() - 3));
        let tokens = &self.text[1000..1003];
        let item = BatchItem { sequence: &mut longer, tokens, logits: Logits::All };
        seen.after =
            self.engine.forward(&mut [item]).unwrap().into_values().into_iter().map(f32::to_bits).collect();
    }

    /// The same prompt with and without drafts; returns what was seen, and how many tokens were drafted and right.
    fn compare(
        &mut self,
        read: &Sequence,
        prompt: &[u32],
        options: &GenerationOptions,
        speculation: Speculation,
        what: &str,
    ) -> (Seen, usize, usize) {
        let of = |speculation| GenerationOptions { speculation, ..options.clone() };
        let mut plain = self.generation(read, prompt, &of(Speculation::Off));
        let wanted = self.finish(&mut plain, |_, _| ());
        assert_eq!((plain.n_drafted(), plain.n_accepted()), (0, 0));
        let mut drafting = self.generation(read, prompt, &of(speculation));
        let found = self.finish(&mut drafting, |_, _| ());
        assert_same(&found, &wanted, &format!("{what}, {speculation:?}"));
        assert_eq!(drafting.sequence().tokens(), plain.sequence().tokens(), "{what}");
        (found, drafting.n_drafted(), drafting.n_accepted())
    }
}

fn assert_same(found: &Seen, wanted: &Seen, what: &str) {
    assert_eq!(found.text, wanted.text, "{what}");
    assert_eq!((&found.ids, &found.logprobs), (&wanted.ids, &wanted.logprobs), "{what}");
    assert_eq!((found.finish, &found.error), (wanted.finish, &wanted.error), "{what}");
    assert_eq!(found.n_kv_bytes, wanted.n_kv_bytes, "{what}");
    assert!(found.pages == wanted.pages, "{what}: the pages differ");
    assert!(found.after == wanted.after, "{what}: tokens after it differ");
}

fn greedy(max_tokens: usize) -> GenerationOptions {
    GenerationOptions {
        sampling: SamplingOptions { n_logprobs: Some(2), ..SamplingOptions::greedy() },
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..GenerationOptions::default()
    }
}

fn random(max_tokens: usize, seed: u64) -> GenerationOptions {
    let sampling = SamplingOptions {
        seed,
        temperature: 0.7,
        repeat_penalty: 1.05,
        frequency_penalty: 0.02,
        presence_penalty: 0.01,
        repeat_last_n: 40,
        n_logprobs: Some(3),
        ..SamplingOptions::default()
    };
    GenerationOptions { sampling, ..greedy(max_tokens) }
}

#[test]
fn every_scheme_and_map_has_the_same_bits_with_drafts() {
    let maps = [("f16", "self-extend:group=2,window=4096"), ("k2v2:calibration=none", "dca:chunk=256")];
    compare_all(Run::real(2, ActivationKind::Q8), &[&SCHEMES[..], &maps].concat());
    compare_all(Run::real(1, ActivationKind::Q8), &SCHEMES[..2]);
    compare_all(Run::real(2, ActivationKind::F32), &SCHEMES[1..2]);
}

const SCHEMES: [(&str, &str); 6] = [
    ("f16", "linear"),
    ("k2v2:calibration=none", "linear"),
    ("q8", "linear"),
    ("kivi2", "linear"),
    ("k4v4:calibration=none,residual=0,sinks=0", "linear"),
    ("kivi2:residual=200", "linear"),
];

fn compare_all(mut run: Run, settings: &[(&str, &str)]) {
    let (mut n_drafted, mut n_accepted) = (0, 0);
    for (n, (scheme, positions)) in settings.iter().enumerate() {
        let cache = run.cache(scheme, positions);
        // Once around, so that there is something to quote; the answer crosses the end of a page.
        let prompt = run.text[5 * n..][..625 + n].to_vec();
        let read = run.read(&cache, &prompt);
        for (options, speculation) in [
            (greedy(40), Speculation::Fixed(15)),
            (random(40, n as u64), Speculation::Fixed(6)),
            (random(40, 50 + n as u64), Speculation::Auto),
        ] {
            let what = format!("{scheme}, {positions}");
            let (_, drafted, accepted) = run.compare(&read, &prompt, &options, speculation, &what);
            n_drafted += drafted;
            n_accepted += accepted;
        }
    }
    let n_least = 10 * settings.len();
    assert!(
        n_accepted > n_least && n_drafted - n_accepted > n_least,
        "{n_accepted} of {n_drafted} were right"
    );
}

#[test]
fn drafts_end_before_a_page_does() {
    let mut run = Run::real(2, ActivationKind::Q8);
    for scheme in ["f16", "k2v2:calibration=none,residual=0", "kivi2"] {
        let cache = run.cache(scheme, "linear");
        for n_prompt in (3 * PAGE_TOKENS - 4)..(3 * PAGE_TOKENS + 4) {
            let prompt = run.text[..n_prompt].to_vec();
            let read = run.read(&cache, &prompt);
            for speculation in [1, 2, 15].map(Speculation::Fixed) {
                let (seen, drafted, _) = run.compare(
                    &read,
                    &prompt,
                    &greedy(8),
                    speculation,
                    &format!("{scheme}, a prompt of {n_prompt}"),
                );
                assert_eq!(seen.ids.len(), 8);
                assert!(drafted > 0, "{scheme}, a prompt of {n_prompt}");
            }
        }
    }
}

/// Allows ids that are no multiple of a number, another one after each token, and fails if it is asked out of order.
struct Sieve {
    n_accepted: u32,
    is_applied: bool,
    /// tells of a draft what it will allow
    looks_ahead: bool,
}

impl Sieve {
    fn allows(n_accepted: u32, id: u32) -> bool {
        !id.is_multiple_of(3 + n_accepted % 3)
    }
}

impl Mask for Sieve {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), MaskError> {
        assert!(!self.is_applied);
        self.is_applied = true;
        if self.n_accepted == 50 {
            return Err(MaskError("fifty tokens are enough".to_string()));
        }
        for (id, logit) in logits.iter_mut().enumerate() {
            if !Sieve::allows(self.n_accepted, id as u32) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<(), MaskError> {
        assert!(self.is_applied && Sieve::allows(self.n_accepted, id));
        self.is_applied = false;
        self.n_accepted += 1;
        Ok(())
    }

    fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        let numbered = (self.n_accepted..).zip(tokens);
        let allowed = numbered.take_while(|(n, id)| !self.looks_ahead || Sieve::allows(*n, **id));
        allowed.count()
    }
}

#[test]
fn a_mask_sees_the_same_tokens_and_its_error_comes_at_the_same_place() {
    let mut run = Run::real(2, ActivationKind::Q8);
    let mut drafted = Vec::new();
    for options in [greedy(80), random(80, 3)] {
        let cache = run.cache("k2v2:calibration=none", "linear");
        let prompt = run.text[..700].to_vec();
        let read = run.read(&cache, &prompt);
        let mut seen = |speculation, looks_ahead| {
            let options = GenerationOptions { speculation, ..options.clone() };
            let mask = Box::new(Sieve { n_accepted: 0, is_applied: false, looks_ahead });
            let mut generation = run.generation(&read, &prompt, &options).with_mask(mask);
            let seen = run.finish(&mut generation, |_, _| ());
            drafted.push(generation.n_drafted());
            seen
        };
        let wanted = seen(Speculation::Off, false);
        assert_eq!(wanted.ids.len(), 50);
        assert!(wanted.error.as_ref().is_some_and(|error| error.contains("fifty tokens are enough")));
        assert_same(&seen(Speculation::Fixed(10), false), &wanted, "without looking ahead");
        assert_same(&seen(Speculation::Fixed(10), true), &wanted, "looking ahead");
    }
    assert!(drafted[1] > drafted[2] && drafted[2] > 0, "what is forbidden is not computed: {drafted:?}");
}

#[test]
fn limits_stop_texts_and_cycles_end_a_text_inside_a_draft() {
    let mut run = Run::real(2, ActivationKind::Q8);
    let cache = run.cache("f16", "linear");
    let prompt = run.text[..700].to_vec();
    let read = run.read(&cache, &prompt);
    let (whole, _, accepted) = run.compare(&read, &prompt, &greedy(60), Speculation::Fixed(15), "whole");
    assert!(accepted > 20, "{accepted} tokens were guessed right");
    for max_tokens in [1, 2, 3, 5, 9, 17] {
        let (seen, drafted, _) =
            run.compare(&read, &prompt, &greedy(max_tokens), Speculation::Fixed(15), "a limit");
        assert_eq!((seen.ids.len(), seen.finish), (max_tokens, Some(Finish::Length)));
        assert!(drafted < max_tokens || max_tokens == 1, "nothing is drafted that cannot be used");
    }
    let words: Vec<&str> = whole.text.split_whitespace().collect();
    for word in words.iter().step_by(9) {
        let options = GenerationOptions { stop: vec![word.to_string()], ..greedy(60) };
        let (seen, ..) = run.compare(&read, &prompt, &options, Speculation::Fixed(15), word);
        assert_eq!(seen.finish, Some(Finish::StopText { index: 0 }));
    }
    let id = whole.ids[20];
    let sampling = SamplingOptions { logit_bias: vec![(id, 1e6)], ..SamplingOptions::greedy() };
    let circles = GenerationOptions { sampling, stop_cycles: true, ..greedy(300) };
    let (seen, drafted, accepted) =
        run.compare(&read, &prompt, &circles, Speculation::Fixed(15), "in circles");
    assert_eq!(seen.finish, Some(Finish::Cycle { period: 1 }));
    assert!(accepted > 200 && drafted - accepted < 15, "{accepted} of {drafted}");
    let short = run.engine.cache(&CacheOptions { n_ctx: Some(740), ..CacheOptions::default() }).unwrap();
    let endless = GenerationOptions { max_tokens: None, ..greedy(0) };
    let read = run.read(&short, &prompt);
    let (seen, ..) = run.compare(&read, &prompt, &endless, Speculation::Fixed(15), "a full context");
    assert_eq!((seen.finish, seen.ids.len()), (Some(Finish::ContextFull), 41));
}

#[test]
fn a_generation_that_is_suspended_between_drafts_says_the_same() {
    let mut run = Run::real(2, ActivationKind::Q8);
    for (n, scheme) in ["f16", "q8", "k2v2:calibration=none", "kivi2"].into_iter().enumerate() {
        let cache = run.cache(scheme, "linear");
        let prompt = run.text[..610 + n].to_vec();
        let read = run.read(&cache, &prompt);
        let of = |speculation| GenerationOptions { speculation, ..greedy(48) };
        let mut plain = run.generation(&read, &prompt, &of(Speculation::Off));
        let wanted = run.finish(&mut plain, |_, _| ());
        let mut generation = run.generation(&read, &prompt, &of(Speculation::Fixed(7)));
        let mut n_suspended = 0;
        let found = run.finish(&mut generation, |_, generation| {
            if [3, 11, 30].get(n_suspended).is_some_and(|n| generation.n_generated() >= *n) {
                generation.suspend();
                n_suspended += 1;
            }
        });
        assert_same(&found, &wanted, scheme);
        assert_eq!(n_suspended, 3);
        assert!(generation.n_accepted() > 0);
    }
}

#[test]
fn pages_that_are_kept_after_drafts_are_those_that_are_kept_without() {
    let mut run = Run::real(2, ActivationKind::Q8);
    for scheme in ["f16", "k2v2:calibration=none"] {
        let cache = run.cache(scheme, "linear");
        let prompt = run.text[..620].to_vec();
        let mut kept = |speculation| {
            let mut store = PrefixCache::new(PrefixCacheOptions::default()).unwrap();
            let scope = Scope::new(&[b"somebody"]);
            let mut cursor = store.cursor(&cache, &scope);
            let options = GenerationOptions { speculation, ..greedy(100) };
            let mut generation = run.generation(&cache.sequence(), &prompt, &options);
            run.finish(&mut generation, |_, generation| {
                let all = cache.computes_alike();
                let len = generation.sequence().len().min(if all { usize::MAX } else { prompt.len() });
                store.keep(&mut cursor, generation.sequence(), len, len == prompt.len());
            });
            store.keep(&mut cursor, generation.sequence(), prompt.len(), true);
            let next = [generation.sequence().tokens(), &run.text[900..950]].concat();
            let found = store.find(&cache, &scope, &next);
            let mut seen = Seen::default();
            run.look_at(&found.sequence, &mut seen);
            (found.n_ram, seen, generation.n_accepted())
        };
        let (n_plain, plain, _) = kept(Speculation::Off);
        let (n_drafted, drafted, accepted) = kept(Speculation::Fixed(15));
        assert!(accepted > 10 && n_plain >= 512, "{accepted} right, {n_plain} kept");
        assert_eq!(n_drafted, n_plain);
        assert_same(&drafted, &plain, scheme);
    }
}

#[test]
fn texts_that_draft_side_by_side_have_the_bits_of_each_alone() {
    let mut run = Run::real(2, ActivationKind::Q8);
    let caches = ["f16", "k2v2:calibration=none", "kivi2"].map(|scheme| run.cache(scheme, "linear"));
    let of = |n: usize, speculation| GenerationOptions { speculation, ..random(40, n as u64) };
    let prompt = |run: &Run, n: usize| run.text[3 * n..][..300 + 41 * n].to_vec();
    let wanted: Vec<Seen> = (0..6)
        .map(|n| {
            let prompt = prompt(&run, n);
            let mut generation = run.generation(&caches[n % 3].sequence(), &prompt, &of(n, Speculation::Off));
            run.finish(&mut generation, |_, _| ())
        })
        .collect();
    let speculations = [
        Speculation::Fixed(4),
        Speculation::Auto,
        Speculation::Off,
        Speculation::Auto,
        Speculation::Fixed(9),
    ];
    let mut generations: Vec<Generation> = (0..6)
        .map(|n| run.generation(&caches[n % 3].sequence(), &prompt(&run, n), &of(n, speculations[n % 5])))
        .collect();
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); 6];
    while !generations.iter().all(Generation::is_done) {
        let mut batch: Vec<(&mut Generation, usize)> = generations.iter_mut().map(|one| (one, 100)).collect();
        for (steps, found) in run.engine.advance(&mut batch).unwrap().into_iter().zip(&mut found) {
            found.extend(steps.into_iter().map(|step| step.unwrap().sampled.id));
        }
    }
    for (n, generation) in generations.iter().enumerate() {
        assert_eq!(found[n], wanted[n].ids, "text {n}");
        let mut seen = Seen::default();
        run.look_at(generation.sequence(), &mut seen);
        assert!(seen.pages == wanted[n].pages && seen.after == wanted[n].after, "text {n}");
    }
    assert!(generations.iter().map(Generation::n_accepted).sum::<usize>() > 20);
}
