//! Leaves thoughts alone, ends them when their budget is spent, and then hands over to the mask of the answer.

use std::sync::Arc;

use lossy_engine::{Mask, MaskError};

use super::Shared;
use crate::marker::{MarkerState, Step};
use crate::vocabulary::Vocabulary;

/// Tokens of line breaks that may stand between the thoughts and a constrained answer.
const MOST_LINE_BREAKS: usize = 2;

pub(super) struct ThinkingMask {
    vocabulary: Vocabulary,
    shared: Arc<Shared>,
    budget: usize,
    answer: Option<Box<dyn Mask>>,
    state: State,
    /// The last bytes of the thoughts, to see whether a character is complete.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// the beginning of a text whose thoughts the prompt has not opened
    Before(MarkerState),
    Thoughts {
        close: MarkerState,
        n_tokens: usize,
    },
    /// the budget is spent: these tokens are left
    Closing {
        at: usize,
    },
    /// line breaks may follow
    Between {
        n_left: usize,
    },
    Answer,
}

impl ThinkingMask {
    pub(super) fn new(
        vocabulary: Vocabulary,
        shared: Arc<Shared>,
        opened: bool,
        budget: Option<usize>,
        answer: Option<Box<dyn Mask>>,
    ) -> ThinkingMask {
        let state = if opened { THOUGHTS } else { State::Before(MarkerState::START) };
        let budget = budget.unwrap_or(usize::MAX);
        ThinkingMask { vocabulary, shared, budget, answer, state, tail: Vec::new() }
    }

    /// Applies the mask of the answer, but keeps `others` as they are.
    fn apply_answer(&mut self, logits: &mut [f32], others: &[u32]) -> Result<(), MaskError> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        let kept: Vec<(usize, f32)> = others
            .iter()
            .filter_map(|&id| logits.get(id as usize).map(|&logit| (id as usize, logit)))
            .collect();
        answer.apply(logits)?;
        kept.into_iter().for_each(|(id, logit)| logits[id] = logit);
        Ok(())
    }

    fn accept_answer(&mut self, id: u32) -> Result<(), MaskError> {
        self.state = State::Answer;
        self.answer.as_mut().map_or(Ok(()), |answer| answer.accept(id))
    }

    /// Spends the budget, unless a character is not complete.
    fn close_if_spent(&mut self) {
        if let State::Thoughts { n_tokens, .. } = self.state
            && n_tokens >= self.budget
            && !ends_within_character(&self.tail)
            && !self.shared.closing.is_empty()
        {
            self.state = State::Closing { at: 0 };
        }
    }
}

/// The beginning of the thoughts.
const THOUGHTS: State = State::Thoughts { close: MarkerState::START, n_tokens: 0 };

impl Mask for ThinkingMask {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), MaskError> {
        self.close_if_spent();
        let shared = Arc::clone(&self.shared);
        match self.state {
            State::Before(_) => self.apply_answer(logits, shared.open_token.as_slice()),
            State::Thoughts { close, .. } => {
                if self.answer.is_some() {
                    shared.close.forbid_overrunning(close, logits);
                    for id in self.vocabulary.tokenizer().end_of_generation() {
                        if let Some(logit) = logits.get_mut(id as usize) {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
                Ok(())
            }
            State::Closing { at } => {
                let id = shared.closing[at] as usize;
                let logit = logits.get(id).copied().filter(|logit| logit.is_finite());
                logits.fill(f32::NEG_INFINITY);
                let problem = || MaskError(format!("token {id}, which ends the thoughts, has no logit"));
                *logits.get_mut(id).ok_or_else(problem)? = logit.unwrap_or(0.0);
                Ok(())
            }
            State::Between { .. } => self.apply_answer(logits, &shared.line_breaks),
            State::Answer => self.apply_answer(logits, &[]),
        }
    }

    fn accept(&mut self, id: u32) -> Result<(), MaskError> {
        let shared = Arc::clone(&self.shared);
        match self.state {
            State::Before(_) if shared.open_token == Some(id) => self.state = THOUGHTS,
            // what the mask of the answer allowed is its own
            State::Before(_) if self.answer.is_some() => return self.accept_answer(id),
            State::Before(matched) => match shared.open.accept(&self.vocabulary, matched, id) {
                Step::Found { .. } => self.state = THOUGHTS,
                Step::On(next) if next.is_over() => self.state = State::Answer,
                Step::On(next) => self.state = State::Before(next),
            },
            State::Thoughts { close, n_tokens } => {
                self.tail.extend(self.vocabulary.text_bytes(id));
                self.tail.drain(..self.tail.len().saturating_sub(4));
                match shared.close.accept(&self.vocabulary, close, id) {
                    Step::On(close) => self.state = State::Thoughts { close, n_tokens: n_tokens + 1 },
                    Step::Found { bytes_after } if bytes_after > 0 && self.answer.is_some() => {
                        return Err(MaskError(format!(
                            "token {id} goes on {bytes_after} bytes past the thoughts"
                        )));
                    }
                    Step::Found { .. } => self.state = State::Between { n_left: MOST_LINE_BREAKS },
                }
            }
            State::Closing { at } => {
                if shared.closing[at] != id {
                    let wanted = shared.closing[at];
                    return Err(MaskError(format!("token {id} is not {wanted}, which ends the thoughts")));
                }
                let next = at + 1;
                self.state =
                    if next < shared.closing.len() { State::Closing { at: next } } else { State::Answer };
            }
            State::Between { n_left } if n_left > 0 && shared.line_breaks.contains(&id) => {
                self.state = if n_left > 1 { State::Between { n_left: n_left - 1 } } else { State::Answer };
            }
            State::Between { .. } | State::Answer => return self.accept_answer(id),
        }
        Ok(())
    }

    fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        match (self.state, &mut self.answer) {
            (State::Answer, Some(answer)) => answer.n_allowed(tokens),
            (State::Closing { at }, _) => {
                let closing = &self.shared.closing[at..];
                let n_closing = tokens.iter().zip(closing).take_while(|(id, closing)| id == closing).count();
                if n_closing < closing.len() { n_closing } else { tokens.len() }
            }
            _ => tokens.len(),
        }
    }
}

/// Whether bytes end with a character that is not complete.
fn ends_within_character(bytes: &[u8]) -> bool {
    (1..=bytes.len().min(3)).any(|n| {
        let last = &bytes[bytes.len() - n..];
        std::str::from_utf8(last).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    })
}
