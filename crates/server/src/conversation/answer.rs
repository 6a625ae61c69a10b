//! One answer as it comes: its text in parts, its calls, its log-probabilities.

use lossy_engine::{Finish, Step};
use lossy_output::{Part, PartParser};
use lossy_tokenizer::Tokenizer;

use super::logprobs::TokenLogprobs;
use crate::error::ApiError;
use crate::http::stream::{self, Events};
use crate::request::unique;
use crate::work::{Event, Outcome, Timings};

/// What is new in an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// thinking
    Thinking(String),
    /// text
    Text(String),
    /// A call begins.
    CallBegins {
        /// which of the calls
        index: usize,
        /// its name among all calls
        id: String,
        /// the tool
        name: String,
    },
    /// More of a call's arguments, which are JSON.
    CallArguments {
        /// which of the calls
        index: usize,
        /// the piece
        text: String,
    },
    /// A call is complete.
    CallEnds {
        /// which of the calls
        index: usize,
    },
}

/// A part of an answer, as far as it has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// thinking
    Thinking(String),
    /// text
    Text(String),
    /// a call
    Call(Call),
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// its name among all calls
    pub id: String,
    /// the tool
    pub name: String,
    /// JSON; broken off if `is_complete` is false
    pub arguments: String,
    /// whether it was written to its end
    pub is_complete: bool,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// the model ended it
    EndOfText,
    /// a stop text, by its index
    Stop(usize),
    /// calls wait for their results
    Calls,
    /// no room or no tokens were left, or the text went in circles
    Length,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub struct End {
    /// why
    pub reason: EndReason,
    /// counts and times
    pub timings: Timings,
}

/// An answer in the making.
pub struct Answer {
    parser: PartParser,
    /// all so far, in its order
    pub blocks: Vec<Block>,
    /// of all tokens so far
    pub logprobs: Vec<TokenLogprobs>,
    /// tokens of thinking
    pub n_thinking: usize,
    /// set when it has ended
    pub end: Option<End>,
}

impl Answer {
    /// Nothing yet.
    pub fn new(parser: PartParser) -> Answer {
        Answer { parser, blocks: Vec::new(), logprobs: Vec::new(), n_thinking: 0, end: None }
    }

    /// Takes a token; returns what is new.
    pub fn push(&mut self, tokenizer: &Tokenizer, step: &Step) -> Vec<Piece> {
        // The token that ends an answer is no part of it.
        if step.finish != Some(Finish::EndOfText) {
            self.logprobs.extend(TokenLogprobs::of(tokenizer, &step.sampled));
        }
        let parts = self.parser.push(&step.text);
        let pieces = self.take(parts);
        self.n_thinking += usize::from(matches!(self.blocks.last(), Some(Block::Thinking(_))));
        pieces
    }

    /// Takes the end; returns what was held back.
    pub fn finish(&mut self, outcome: Outcome) -> Vec<Piece> {
        let mut parts = self.parser.push(&outcome.rest);
        parts.extend(self.parser.finish());
        let pieces = self.take(parts);
        let reason = match outcome.finish {
            Finish::Length | Finish::ContextFull | Finish::Cycle { .. } => EndReason::Length,
            _ if self.calls().next().is_some() => EndReason::Calls,
            Finish::StopText { index } => EndReason::Stop(index),
            Finish::EndOfText => EndReason::EndOfText,
        };
        self.end = Some(End { reason, timings: outcome.timings });
        pieces
    }

    /// Takes what has happened; returns what is new.
    pub fn event(&mut self, tokenizer: &Tokenizer, event: Event) -> Vec<Piece> {
        match event {
            Event::Step(step) => self.push(tokenizer, &step),
            Event::Done(outcome) => self.finish(*outcome),
            Event::Admitted(_) | Event::Reading(_) | Event::Prompt(_) | Event::Failed(_) => Vec::new(),
        }
    }

    fn take(&mut self, parts: Vec<Part>) -> Vec<Piece> {
        parts.into_iter().map(|part| self.piece(part)).collect()
    }

    fn piece(&mut self, part: Part) -> Piece {
        match part {
            Part::Content(text) => {
                match self.blocks.last_mut() {
                    Some(Block::Text(all)) => all.push_str(&text),
                    _ => self.blocks.push(Block::Text(text.clone())),
                }
                Piece::Text(text)
            }
            Part::Thinking(text) => {
                match self.blocks.last_mut() {
                    Some(Block::Thinking(all)) => all.push_str(&text),
                    _ => self.blocks.push(Block::Thinking(text.clone())),
                }
                Piece::Thinking(text)
            }
            Part::CallBegins { index, name } => {
                let id = unique("call_");
                let call = Call { id: id.clone(), name: name.clone(), ..Call::default() };
                self.blocks.push(Block::Call(call));
                Piece::CallBegins { index, id, name }
            }
            Part::CallArguments { index, text } => {
                if let Some(call) = self.call_mut(index) {
                    call.arguments.push_str(&text);
                }
                Piece::CallArguments { index, text }
            }
            Part::CallEnds { index } => {
                if let Some(call) = self.call_mut(index) {
                    call.is_complete = true;
                }
                Piece::CallEnds { index }
            }
        }
    }

    fn call_mut(&mut self, index: usize) -> Option<&mut Call> {
        let calls = self.blocks.iter_mut().filter_map(|block| match block {
            Block::Call(call) => Some(call),
            _ => None,
        });
        calls.into_iter().nth(index)
    }

    /// The calls so far.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Call(call) => Some(call),
            _ => None,
        })
    }

    /// All text so far.
    pub fn text(&self) -> String {
        let texts = self.blocks.iter().filter_map(|block| match block {
            Block::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// All thinking so far.
    pub fn thinking(&self) -> String {
        let texts = self.blocks.iter().filter_map(|block| match block {
            Block::Thinking(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

/// Waits until all answers have ended.
///
/// # Errors
/// One of them failed.
pub async fn collect(
    tokenizer: &Tokenizer,
    mut events: Events,
    answers: &mut [Answer],
) -> Result<(), ApiError> {
    while answers.iter().any(|answer| answer.end.is_none()) {
        let (index, event) = stream::next(&mut events).await?;
        answers[index].event(tokenizer, event);
    }
    Ok(())
}
