//! What an answer took, in OpenAI's words; and names of answers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::request::unique;
use crate::work::Timings;

/// What a stream has besides.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct StreamOptions {
    /// a last chunk with the usage
    pub include_usage: Option<bool>,
}

/// Tokens of a request and its answers.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Usage {
    /// of the prompt
    pub prompt_tokens: usize,
    /// of all answers
    pub completion_tokens: usize,
    /// both
    pub total_tokens: usize,
    /// of the prompt
    pub prompt_tokens_details: PromptTokensDetails,
}

/// Tokens of the prompt, in part.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// those that were not read anew
    pub cached_tokens: usize,
}

impl Usage {
    /// Of all answers to one prompt.
    pub fn of<'a>(answers: impl IntoIterator<Item = &'a Timings>) -> Usage {
        let mut usage = Usage::default();
        for (index, answer) in answers.into_iter().enumerate() {
            let cached = &mut usage.prompt_tokens_details.cached_tokens;
            // Answers after the first find what the first has read.
            *cached = if index == 0 { answer.cache_n } else { answer.cache_n.min(*cached) };
            usage.prompt_tokens = answer.cache_n + answer.prompt_n;
            usage.completion_tokens += answer.predicted_n;
        }
        usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
        usage
    }

    /// Counts those of another prompt too.
    pub fn add_prompt(&mut self, other: &Usage) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
        self.prompt_tokens_details.cached_tokens += other.prompt_tokens_details.cached_tokens;
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What stream chunks and whole answers begin with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Head {
    /// the answer's name
    pub id: String,
    /// what it is
    pub object: &'static str,
    /// when it was asked for, seconds since 1970
    pub created: u64,
    /// the model
    pub model: String,
    /// the program that computed it
    pub system_fingerprint: String,
}

impl Head {
    /// Of a new answer.
    pub fn new(prefix: &str, object: &'static str, model: &str) -> Head {
        Head {
            id: unique(&format!("{prefix}-")),
            object,
            created: now(),
            model: model.to_string(),
            system_fingerprint: concat!("lossy-", env!("CARGO_PKG_VERSION")).to_string(),
        }
    }
}
