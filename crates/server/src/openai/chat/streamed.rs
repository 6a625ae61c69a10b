//! A chat's answer as a stream of chunks.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Delta, finish_reason};
use super::fields::ChatFields;
use crate::app::App;
use crate::conversation::{Answer, ChatLogprobs, Piece, Prepared};
use crate::http::stream::{Render, data};
use crate::openai::usage::{Head, Usage};
use crate::work::{Event, Timings};

/// A piece of a stream.
#[derive(Serialize, ToSchema)]
pub struct ChatChunk {
    #[serde(flatten)]
    head: Head,
    choices: Vec<ChunkChoice>,
    /// in the last chunk, if it was asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// in the last chunk of an answer
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
    /// while the prompt is read, if it was asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_progress: Option<PromptProgress>,
}

/// A piece of one of several answers.
#[derive(Serialize, ToSchema)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

/// How far a prompt has been read.
#[derive(Clone, Serialize, ToSchema)]
struct PromptProgress {
    /// tokens of the prompt
    total: usize,
    /// tokens that the cache had
    cache: usize,
    /// tokens that have been read, cached ones included
    processed: usize,
    /// since the request came
    time_ms: u64,
}

/// Makes chunks of events.
pub struct ChatStream {
    app: Arc<App>,
    head: Head,
    answers: Vec<Answer>,
    began: Vec<bool>,
    has_logprobs: bool,
    has_usage: bool,
    has_progress: bool,
    progress: PromptProgress,
    since: Instant,
    is_failed: bool,
}

impl ChatStream {
    pub fn new(app: Arc<App>, fields: &ChatFields, prepared: &Prepared, answers: Vec<Answer>) -> ChatStream {
        let options = fields.stream_options.as_ref();
        let total = prepared.prompt.len();
        ChatStream {
            head: Head::new("chatcmpl", "chat.completion.chunk", &app.served.id),
            app,
            began: vec![false; answers.len()],
            answers,
            has_logprobs: prepared.options.sampling.n_logprobs.is_some(),
            has_usage: options.is_some_and(|options| options.include_usage == Some(true)),
            has_progress: fields.return_progress == Some(true),
            progress: PromptProgress { total, cache: 0, processed: 0, time_ms: 0 },
            since: Instant::now(),
            is_failed: false,
        }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatChunk {
        ChatChunk { head: self.head.clone(), choices, usage: None, timings: None, prompt_progress: None }
    }

    fn piece(&self, index: usize, delta: Delta) -> ChatChunk {
        self.chunk(vec![ChunkChoice { index, delta, logprobs: None, finish_reason: None }])
    }

    /// The first piece says who speaks.
    fn begin(&mut self, index: usize) -> Option<String> {
        if std::mem::replace(&mut self.began[index], true) {
            return None;
        }
        let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
        Some(data(&self.piece(index, delta)))
    }

    fn pieces(&self, index: usize, pieces: Vec<Piece>, from: usize) -> Vec<String> {
        let deltas: Vec<Delta> = pieces.into_iter().filter_map(Delta::of).collect();
        let new = &self.answers[index].logprobs[from..];
        let mut logprobs =
            (self.has_logprobs && !new.is_empty()).then(|| ChatLogprobs { content: new.to_vec() });
        let deltas = if deltas.is_empty() && logprobs.is_some() { vec![Delta::default()] } else { deltas };
        let chunk = |delta| {
            let choice = ChunkChoice { index, delta, logprobs: logprobs.take(), finish_reason: None };
            data(&self.chunk(vec![choice]))
        };
        deltas.into_iter().map(chunk).collect()
    }

    fn told(&self) -> Option<PromptProgress> {
        let time_ms = self.since.elapsed().as_millis() as u64;
        self.has_progress.then(|| PromptProgress { time_ms, ..self.progress.clone() })
    }
}

impl Render for ChatStream {
    fn event(&mut self, index: usize, event: Event) -> Vec<String> {
        match event {
            Event::Admitted(admission) => {
                self.progress.cache = admission.n_cached;
                self.progress.processed = self.progress.processed.max(admission.n_cached);
                self.begin(index).into_iter().collect()
            }
            Event::Reading(n_done) => {
                self.progress.processed = self.progress.processed.max(n_done);
                let told = self.told();
                told.is_some()
                    .then(|| {
                        data(&ChatChunk { prompt_progress: told, ..self.piece(index, Delta::default()) })
                    })
                    .into_iter()
                    .collect()
            }
            Event::Step(step) => {
                let mut pieces: Vec<String> = self.begin(index).into_iter().collect();
                let from = self.answers[index].logprobs.len();
                let app = self.app.clone();
                let new = self.answers[index].push(&app.served.tokenizer, &step);
                pieces.extend(self.pieces(index, new, from));
                pieces
            }
            Event::Done(outcome) => {
                let mut pieces: Vec<String> = self.begin(index).into_iter().collect();
                let from = self.answers[index].logprobs.len();
                let new = self.answers[index].finish(*outcome);
                pieces.extend(self.pieces(index, new, from));
                let end = self.answers[index].end.as_ref();
                let finish_reason = Some(end.map_or("stop", |end| finish_reason(end.reason)));
                let timings = end.map(|end| end.timings.clone());
                let last = ChunkChoice { index, delta: Delta::default(), logprobs: None, finish_reason };
                pieces.push(data(&ChatChunk { timings, ..self.chunk(vec![last]) }));
                pieces
            }
            Event::Prompt(_) => Vec::new(),
            Event::Failed(error) => {
                self.is_failed = true;
                vec![data(&error.body())]
            }
        }
    }

    fn heartbeat(&mut self) -> Vec<String> {
        let Some(index) = self.answers.iter().position(|answer| answer.end.is_none()) else {
            return Vec::new();
        };
        vec![data(&ChatChunk { prompt_progress: self.told(), ..self.piece(index, Delta::default()) })]
    }

    fn is_done(&self) -> bool {
        self.is_failed || self.answers.iter().all(|answer| answer.end.is_some())
    }

    fn end(&mut self) -> Vec<String> {
        let mut pieces = Vec::new();
        if self.has_usage && !self.is_failed {
            let usage =
                Some(Usage::of(self.answers.iter().flat_map(|answer| &answer.end).map(|end| &end.timings)));
            pieces.push(data(&ChatChunk { usage, ..self.chunk(Vec::new()) }));
        }
        pieces.push("data: [DONE]\n\n".to_string());
        pieces
    }
}
