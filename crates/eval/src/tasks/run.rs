//! Gives cases to the reference and to the settings.
//!
//! Cases of one task begin alike: a lane has a copy of its cache at the place where the next case parts from this one, and goes on
//! from there. So a common beginning is read once, and 32 passkeys at depths from 0 to 1 cost about half of 32 prompts.

use std::ops::ControlFlow;

use lossy_engine::{EngineError, Logits, Progress, common_prefix};
use lossy_tokenizer::Tokenizer;

use super::{Case, Task};
use crate::{EvalError, Lanes, RowSummary};

/// A shorter common beginning is not worth a copy of the cache.
const LEAST_SHARED: usize = 64;

/// What a lane made of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// 0 to 1
    pub score: f64,
    /// mean over the tokens of the right answer of their log-probability
    pub log_prob_per_token: f64,
    /// what it said, decoded greedily
    pub text: String,
}

/// A case that all lanes have answered.
#[derive(Clone, Debug)]
pub struct CaseRun {
    /// where the answer lies: 0 beginning, 1 end
    pub depth: f64,
    /// lane 0 is the reference
    pub answers: Vec<Answer>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct TaskRun {
    /// in the order of the cases
    pub cases: Vec<CaseRun>,
    /// whether it ran to its end
    pub is_complete: bool,
}

/// Gives all cases to all lanes, in prefill chunks of `chunk` tokens. `progress` is called before every forward pass; when it
/// breaks, the cases that all lanes have answered are the result.
///
/// # Errors
/// A lane fails.
pub fn run<L: Lanes>(
    lanes: &mut L,
    tokenizer: &Tokenizer,
    task: &Task,
    cases: &[Case],
    chunk: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskRun, EvalError> {
    let n_lanes = lanes.n_lanes();
    let n_total = n_lanes * cases.iter().map(|case| case.prompt.len()).sum::<usize>();
    let mut done = TaskRun { cases: Vec::with_capacity(cases.len()), is_complete: false };
    let mut prefixes: Vec<Prefixes<L::Sequence>> = (0..n_lanes).map(|_| Prefixes::default()).collect();
    let mut n_done = 0;
    for (index, case) in cases.iter().enumerate() {
        let next = cases.get(index + 1);
        let n_shared = next.map_or(0, |next| common_prefix(&case.prompt, &next.prompt));
        let mut answers = Vec::with_capacity(n_lanes);
        for (lane, prefixes) in prefixes.iter_mut().enumerate() {
            let mut reader =
                Reader { lanes: &mut *lanes, lane, chunk, n_done, n_total, progress: &mut *progress };
            let Some((mut sequence, logits)) = reader.read(case, n_shared, prefixes)? else {
                return Ok(done);
            };
            let log_prob_per_token = reader.log_prob_per_token(case, &sequence, &logits)?;
            let Some(text) = reader.answer(task, tokenizer, &mut sequence, logits)? else { return Ok(done) };
            answers.push(Answer { score: (task.score)(&case.sample, &text), log_prob_per_token, text });
            n_done += case.prompt.len();
        }
        done.cases.push(CaseRun { depth: case.depth, answers });
    }
    let _ = progress(Progress::new(n_done, n_total));
    done.is_complete = true;
    Ok(done)
}

/// Caches at beginnings of the last case, shortest first.
struct Prefixes<S> {
    tokens: Vec<u32>,
    caches: Vec<(usize, S)>,
}

impl<S> Default for Prefixes<S> {
    fn default() -> Self {
        Prefixes { tokens: Vec::new(), caches: Vec::new() }
    }
}

struct Reader<'a, L: Lanes> {
    lanes: &'a mut L,
    lane: usize,
    chunk: usize,
    n_done: usize,
    n_total: usize,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// A sequence and the logits after its last token.
type WithLogits<S> = (S, Vec<f32>);

impl<L: Lanes> Reader<'_, L> {
    /// Reads the prompt and copies the cache of its first `n_shared` tokens; the logits after its last token. `None` if it
    /// was stopped.
    fn read(
        &mut self,
        case: &Case,
        n_shared: usize,
        prefixes: &mut Prefixes<L::Sequence>,
    ) -> Result<Option<WithLogits<L::Sequence>>, EngineError> {
        let prompt = &case.prompt;
        // The last token is always read anew: its logits are wanted.
        let n_same = common_prefix(&prefixes.tokens, prompt).min(prompt.len().saturating_sub(1));
        prefixes.caches.retain(|(len, _)| *len <= n_same);
        prefixes.tokens.clone_from(prompt);
        let (mut at, mut sequence) = match prefixes.caches.last() {
            Some((len, cache)) => (*len, self.lanes.fork(cache)),
            None => (0, self.lanes.start(self.lane)?),
        };
        let n_shared = n_shared.min(prompt.len() - 1);
        let mut logits = Vec::new();
        while at < prompt.len() {
            if (self.progress)(Progress::new(self.n_done + at, self.n_total)).is_break() {
                return Ok(None);
            }
            // Chunks end where those of an ordinary prefill end, and where the next case parts.
            let mut end = prompt.len().min(at - at % self.chunk + self.chunk);
            if at < n_shared {
                end = end.min(n_shared);
            }
            let wanted = if end == prompt.len() { Logits::Last } else { Logits::None };
            logits = self.lanes.forward(self.lane, &mut sequence, &prompt[at..end], wanted)?;
            if end == n_shared && n_shared >= LEAST_SHARED {
                prefixes.caches.push((end, self.lanes.fork(&sequence)));
            }
            at = end;
        }
        Ok(Some((sequence, logits)))
    }

    /// Mean over the tokens of the right answer that count.
    fn log_prob_per_token(
        &mut self,
        case: &Case,
        sequence: &L::Sequence,
        logits: &[f32],
    ) -> Result<f64, EvalError> {
        let answer = &case.continuation;
        let n_vocab = self.lanes.n_vocab();
        let mut rows = logits.to_vec();
        if answer.len() > 1 {
            let mut fork = self.lanes.fork(sequence);
            rows.extend(self.lanes.forward(
                self.lane,
                &mut fork,
                &answer[..answer.len() - 1],
                Logits::All,
            )?);
        }
        let (mut sum, mut n) = (0.0, 0usize);
        for (index, (&token, &counts)) in answer.iter().zip(&case.counts).enumerate() {
            let row = &rows[index * n_vocab..(index + 1) * n_vocab];
            let position = case.prompt.len() + index;
            let summary = RowSummary::of(row).ok_or(EvalError::NotFinite { position })?;
            if counts {
                sum -= summary.nll(row, token);
                n += 1;
            }
        }
        Ok(sum / n.max(1) as f64)
    }

    /// The most likely token again and again, until the answer ends. `None` if it was stopped.
    fn answer(
        &mut self,
        task: &Task,
        tokenizer: &Tokenizer,
        sequence: &mut L::Sequence,
        mut logits: Vec<f32>,
    ) -> Result<Option<String>, EvalError> {
        let mut tokens = Vec::new();
        loop {
            let position = tokens.len();
            let top = RowSummary::of(&logits).ok_or(EvalError::NotFinite { position })?.top;
            if tokenizer.is_end_of_generation(top) {
                break;
            }
            tokens.push(top);
            let text = tokenizer.decode(&tokens, true);
            let is_stopped = task.stop.is_some_and(|stop| text.trim_start().contains(stop));
            if is_stopped || tokens.len() == task.max_answer_tokens {
                break;
            }
            if (self.progress)(Progress::new(self.n_done, self.n_total)).is_break() {
                return Ok(None);
            }
            logits = self.lanes.forward(self.lane, sequence, &[top], Logits::Last)?;
        }
        let text = tokenizer.decode(&tokens, true);
        Ok(Some(match task.stop {
            // A stop before the first word is not an end.
            Some(stop) => match text.trim_start().split_once(stop) {
                Some((before, _)) => before.to_string(),
                None => text,
            },
            None => text,
        }))
    }
}
