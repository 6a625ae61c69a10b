//! Every task, whatever it is about; and the runner over a toy that copies.

use std::cell::Cell;
use std::ops::ControlFlow;

use lossy_engine::{EngineError, Logits};
use lossy_testkit::TestModel;

use super::*;
use crate::{Lanes, Random};

fn tokenizer() -> lossy_tokenizer::Tokenizer {
    lossy_engine::ModelSource::open(&TestModel::SmolLm2.path()).unwrap().tokenizer().unwrap()
}

#[test]
fn the_right_answer_scores_one_and_another_zero() {
    for task in TASKS {
        for index in 0..4 {
            let mut random = Random::new(5, index);
            let sample = (task.make)(&Request { size: 200, depth: 0.3, seed: 1 }, &mut random);
            assert_eq!((task.score)(&sample, &sample.continuation), 1.0, "{}", task.name);
            assert_eq!((task.score)(&sample, " nothing of it"), 0.0, "{}", task.name);
            assert!(!sample.answers.is_empty(), "{}", task.name);
        }
    }
}

#[test]
fn answers_are_in_the_text_unless_they_must_be_made() {
    for task in TASKS.iter().filter(|task| task.name != "tool_call") {
        let sample = (task.make)(&Request { size: 300, depth: 0.9, seed: 1 }, &mut Random::new(1, 9));
        for answer in &sample.answers {
            assert!(sample.prompt.contains(answer.as_str()), "{}: {answer}", task.name);
        }
    }
}

#[test]
fn names_are_different_and_found_alone_or_by_their_beginning() {
    for task in TASKS {
        assert_eq!(find(task.name).len(), 1, "{}", task.name);
    }
    assert_eq!(find("niah").len(), 8);
    assert!(find("none").is_empty() && find("").is_empty());
}

#[test]
fn a_seed_gives_the_same_cases_of_nearly_the_length_that_was_asked_for() {
    let tokenizer = tokenizer();
    for task in TASKS {
        let options = TaskOptions { n_tokens: 2000, n_samples: 3, seed: 11 };
        let made = cases(task, &tokenizer, &options).unwrap();
        let again = cases(task, &tokenizer, &options).unwrap();
        for (case, again) in made.iter().zip(&again) {
            assert_eq!(case.prompt, again.prompt, "{}", task.name);
            let n = case.prompt.len() + task.max_answer_tokens.max(case.continuation.len());
            assert!((1400..=2000).contains(&n), "{}: {n} tokens", task.name);
            assert!(case.counts.contains(&true));
        }
        let other = cases(task, &tokenizer, &TaskOptions { seed: 12, ..options }).unwrap();
        assert_ne!(made[0].prompt, other[0].prompt, "{}", task.name);
        let too_short = cases(task, &tokenizer, &TaskOptions { n_tokens: 20, ..options });
        assert!(too_short.is_err(), "{}", task.name);
    }
}

/// Knows the passkey that it has read if it lies in the last `sees` tokens, and says the right answer then.
struct Copier<'a> {
    cases: &'a [Case],
    sees: [usize; 2],
    n_vocab: usize,
    n_read: Cell<usize>,
}

impl Lanes for Copier<'_> {
    type Sequence = Vec<u32>;

    fn n_lanes(&self) -> usize {
        2
    }

    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn start(&mut self, _: usize) -> Result<Vec<u32>, EngineError> {
        Ok(Vec::new())
    }

    fn fork(&self, sequence: &Vec<u32>) -> Vec<u32> {
        sequence.clone()
    }

    fn forward(
        &mut self,
        lane: usize,
        sequence: &mut Vec<u32>,
        tokens: &[u32],
        logits: Logits,
    ) -> Result<Vec<f32>, EngineError> {
        self.n_read.set(self.n_read.get() + tokens.len());
        let mut rows = Vec::new();
        for (index, &token) in tokens.iter().enumerate() {
            sequence.push(token);
            if logits == Logits::All || (logits == Logits::Last && index + 1 == tokens.len()) {
                rows.extend(self.row(lane, sequence));
            }
        }
        Ok(rows)
    }
}

impl Copier<'_> {
    fn row(&self, lane: usize, sequence: &[u32]) -> Vec<f32> {
        let mut row = vec![0.0; self.n_vocab];
        let known = self.cases.iter().find(|case| sequence.starts_with(&case.prompt));
        if let Some(case) = known {
            let n_after = ((1.0 - case.depth) * case.prompt.len() as f64) as usize;
            let n_said = sequence.len() - case.prompt.len();
            let next = case.continuation.get(n_said).copied().filter(|_| n_after <= self.sees[lane]);
            row[next.unwrap_or(5) as usize] = 20.0;
        }
        row
    }
}

#[test]
fn a_lane_that_forgets_the_beginning_fails_there_and_common_beginnings_are_read_once() {
    let tokenizer = tokenizer();
    let options = TaskOptions { n_tokens: 1000, n_samples: 10, seed: 1 };
    let task = find("passkey")[0];
    let made = cases(task, &tokenizer, &options).unwrap();
    let mut lanes =
        Copier { cases: &made, sees: [2000, 500], n_vocab: tokenizer.n_vocab(), n_read: Cell::new(0) };
    let done = run(&mut lanes, &tokenizer, task, &made, 128, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(done.is_complete);
    let rows = scores("passkey", 1000, &["exact".to_string(), "short".to_string()], &done);
    assert_eq!((rows[0].score, rows[1].score, rows[1].n_worse), (1.0, 0.5, 5));
    assert!(rows[1].cases[..5].iter().all(|case| case.score == 0.0));
    assert!(rows[0].log_prob_per_token.value > -0.01 && rows[1].log_prob_per_token.value < -5.0);
    let n_all: usize = 2 * made.iter().map(|case| case.prompt.len()).sum::<usize>();
    let n_read = lanes.n_read.get();
    assert!(n_read < n_all * 65 / 100, "{n_read} of {n_all} tokens were read");
}

#[test]
fn whoever_stops_keeps_the_cases_that_all_lanes_have_answered() {
    let tokenizer = tokenizer();
    let options = TaskOptions { n_tokens: 600, n_samples: 4, seed: 1 };
    let task = find("passkey")[0];
    let made = cases(task, &tokenizer, &options).unwrap();
    let mut lanes =
        Copier { cases: &made, sees: [2000, 2000], n_vocab: tokenizer.n_vocab(), n_read: Cell::new(0) };
    let n_half = made[0].prompt.len() * 2 + made[1].prompt.len();
    let done = run(&mut lanes, &tokenizer, task, &made, 128, &mut |progress| {
        if progress.n_done > n_half { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!((done.cases.len(), done.is_complete), (1, false));
}
