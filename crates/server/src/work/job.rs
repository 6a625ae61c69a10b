//! What the engine's thread is given, and what it answers.

use std::sync::Arc;
use std::time::Instant;

use lossy_engine::prefix_cache::Scope;
use lossy_engine::{Finish, Generation, GenerationOptions, Mask, PAGE_TOKENS, Sampled, Step};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use utoipa::ToSchema;

use super::miss::CacheMiss;
use crate::error::ApiError;

/// A prompt to read, and how to go on.
pub struct Job {
    /// the prompt
    pub prompt: Arc<[u32]>,
    /// how tokens are chosen, and when it ends
    pub options: GenerationOptions,
    /// which tokens may come
    pub mask: Option<Box<dyn Mask>>,
    /// the setting, an index
    pub setting: usize,
    /// whose pages it may share
    pub scope: Scope,
    /// what the prompt consists of
    pub outline: Arc<Outline>,
    /// who listens
    pub reply: Reply,
}

/// What a prompt consists of, for whoever must say where a cache missed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// in the order of the prompt
    pub parts: Vec<Part>,
    /// tells templates and their variables apart
    pub template: u64,
}

/// A message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// about the token with which it begins
    pub start: usize,
    /// its index among the messages of the request
    pub message: usize,
    /// who speaks
    pub role: String,
}

/// Where the events of a job go. When the receiver is gone, the job ends.
#[derive(Clone)]
pub struct Reply {
    /// which of the answers to a request
    pub index: usize,
    /// of all of them
    pub sender: UnboundedSender<(usize, Event)>,
}

impl Reply {
    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Tells the listener, if there still is one.
    pub fn send(&self, event: Event) {
        let _ = self.sender.send((self.index, event));
    }
}

/// What happens to a job, in this order.
#[derive(Clone, Debug)]
pub enum Event {
    /// its prompt is being read from here on
    Admitted(Admission),
    /// so many tokens of the prompt have been read, cached ones included
    Reading(usize),
    /// the tokens of the prompt but the first, each with its log-probability, if they were asked for
    Prompt(Vec<Sampled>),
    /// a token
    Step(Step),
    /// the last event
    Done(Box<Outcome>),
    /// the last event, too
    Failed(ApiError),
}

/// What the cache had for a prompt.
#[derive(Clone, Debug)]
pub struct Admission {
    /// tokens of the prompt
    pub n_prompt: usize,
    /// those that were there
    pub n_cached: usize,
    /// why there were not more
    pub miss: Option<CacheMiss>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// why
    pub finish: Finish,
    /// text that was held back until now
    pub rest: String,
    /// counts and times
    pub timings: Timings,
}

impl Outcome {
    /// Why, in OpenAI's words, which vLLM's metrics have too.
    pub fn reason(&self) -> &'static str {
        match self.finish {
            Finish::EndOfText | Finish::StopText { .. } => "stop",
            Finish::Length | Finish::ContextFull | Finish::Cycle { .. } => "length",
        }
    }
}

/// Counts and times of one answer, in llama-server's words.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Timings {
    /// tokens of the prompt that the cache had
    pub cache_n: usize,
    /// tokens of the prompt that were read
    pub prompt_n: usize,
    /// milliseconds from the beginning of the prompt's reading to the first token
    pub prompt_ms: f64,
    /// tokens of the prompt a second
    pub prompt_per_second: f64,
    /// tokens that were generated
    pub predicted_n: usize,
    /// milliseconds from the first token to the last
    pub predicted_ms: f64,
    /// tokens generated a second, without the first
    pub predicted_per_second: f64,
    /// tokens that were guessed and computed with others
    pub draft_n: usize,
    /// those of them that were right
    pub draft_n_accepted: usize,
    /// milliseconds that the request waited before its prompt was read
    pub waiting_ms: f64,
    /// why not more of the prompt was cached; absent if nothing was missing
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_miss: Option<CacheMiss>,
}

impl Timings {
    /// Tokens of the prompt that were read and are kept: those of its full pages.
    pub fn kept_n(&self) -> usize {
        let n_prompt = self.cache_n + self.prompt_n;
        (n_prompt / PAGE_TOKENS * PAGE_TOKENS).saturating_sub(self.cache_n)
    }
}

/// When a job did what.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// it arrived
    pub arrived: Instant,
    /// its prompt began to be read
    pub admitted: Instant,
    /// its first token
    pub first: Option<Instant>,
    /// its latest token
    pub last: Option<Instant>,
}

impl Clock {
    /// Counts and times up to now.
    pub fn timings(&self, admission: &Admission, generation: &Generation) -> Timings {
        let (n_prompt, n_generated) = (generation.n_prompt(), generation.n_generated());
        let first = self.first.unwrap_or_else(Instant::now);
        let read = first.duration_since(self.admitted).as_secs_f64();
        let generated = self.last.map_or(0.0, |last| last.duration_since(first).as_secs_f64());
        let prompt_n = n_prompt.saturating_sub(admission.n_cached);
        let rate = |n: usize, seconds: f64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        Timings {
            cache_n: admission.n_cached,
            prompt_n,
            prompt_ms: 1e3 * read,
            prompt_per_second: rate(prompt_n, read),
            predicted_n: n_generated,
            predicted_ms: 1e3 * generated,
            predicted_per_second: rate(n_generated.saturating_sub(1), generated),
            draft_n: generation.n_drafted(),
            draft_n_accepted: generation.n_accepted(),
            waiting_ms: 1e3 * self.admitted.duration_since(self.arrived).as_secs_f64(),
            cache_miss: admission.miss.clone(),
        }
    }
}
