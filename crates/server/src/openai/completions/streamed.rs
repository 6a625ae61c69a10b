//! Completions as a stream of chunks.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, CompletionChoice, Prepared, total};
use crate::app::App;
use crate::http::stream::{Render, data};
use crate::openai::usage::{Head, Usage};
use crate::work::{Event, Timings};

/// A piece of a stream.
#[derive(Serialize, ToSchema)]
pub struct CompletionChunk {
    #[serde(flatten)]
    head: Head,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

/// Makes chunks of events.
pub(super) struct CompletionStream {
    app: Arc<App>,
    prepared: Prepared,
    head: Head,
    answers: Vec<Answer>,
    is_failed: bool,
}

impl CompletionStream {
    pub fn new(app: Arc<App>, prepared: Prepared, answers: Vec<Answer>) -> CompletionStream {
        let head = Head::new("cmpl", "text_completion", &app.served.id);
        CompletionStream { app, prepared, head, answers, is_failed: false }
    }

    fn chunk(&self, choices: Vec<CompletionChoice>) -> CompletionChunk {
        CompletionChunk { head: self.head.clone(), choices, usage: None, timings: None }
    }
}

impl Render for CompletionStream {
    fn event(&mut self, index: usize, event: Event) -> Vec<String> {
        let is_told = matches!(event, Event::Step(_) | Event::Done(_));
        let prompt = self.prepared.prompt_of(index);
        if let Err(error) = self.answers[index].take(&self.app, prompt, event) {
            self.is_failed = true;
            return vec![data(&error.body())];
        }
        if !is_told {
            return Vec::new();
        }
        let answer = &mut self.answers[index];
        let text = std::mem::take(&mut answer.text);
        let logprobs = (!answer.logprobs.is_empty()).then(|| answer.logprobs.take());
        let end = answer.end.clone();
        if text.is_empty() && logprobs.is_none() && end.is_none() {
            return Vec::new();
        }
        let finish_reason = end.as_ref().map(|(reason, _)| *reason);
        let timings = end.map(|(_, timings)| timings);
        let choice = CompletionChoice { index, text, logprobs, finish_reason };
        vec![data(&CompletionChunk { timings, ..self.chunk(vec![choice]) })]
    }

    fn heartbeat(&mut self) -> Vec<String> {
        let Some(index) = self.answers.iter().position(|answer| answer.end.is_none()) else {
            return Vec::new();
        };
        let choice = CompletionChoice { index, text: String::new(), logprobs: None, finish_reason: None };
        vec![data(&self.chunk(vec![choice]))]
    }

    fn is_done(&self) -> bool {
        self.is_failed || self.answers.iter().all(|answer| answer.end.is_some())
    }

    fn end(&mut self) -> Vec<String> {
        let mut pieces = Vec::new();
        let wants_usage =
            self.prepared.fields.stream_options.as_ref().and_then(|options| options.include_usage);
        if wants_usage == Some(true) && !self.is_failed {
            let ends = self.answers.iter().flat_map(|answer| &answer.end).map(|(_, timings)| timings);
            let usage = Some(total(&self.prepared, ends));
            pieces.push(data(&CompletionChunk { usage, ..self.chunk(Vec::new()) }));
        }
        pieces.push("data: [DONE]\n\n".to_string());
        pieces
    }
}
