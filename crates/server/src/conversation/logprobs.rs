//! Log-probabilities of tokens, as chats have them.

use lossy_engine::{Sampled, TokenLogprob};
use lossy_tokenizer::Tokenizer;
use serde::Serialize;
use utoipa::ToSchema;

/// Of the tokens of an answer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// token by token
    pub content: Vec<TokenLogprobs>,
}

/// Of one token, and of those that were likely in its place.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenLogprobs {
    /// the token that was chosen
    #[serde(flatten)]
    pub token: OneLogprob,
    /// the most probable ones, best first
    pub top_logprobs: Vec<OneLogprob>,
}

/// A token and its log-probability.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OneLogprob {
    /// its text; bytes that are no whole character are U+FFFD
    pub token: String,
    /// nats, under the model before any option
    pub logprob: f32,
    /// its bytes
    pub bytes: Vec<u8>,
}

impl OneLogprob {
    fn new(tokenizer: &Tokenizer, id: u32, logprob: f32) -> OneLogprob {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        OneLogprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob: finite(logprob), bytes }
    }
}

/// JSON has no infinities.
pub fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

impl TokenLogprobs {
    /// Of a chosen token; `None` if none were asked for.
    pub fn of(tokenizer: &Tokenizer, sampled: &Sampled) -> Option<TokenLogprobs> {
        let logprob = sampled.logprob?;
        let top =
            sampled.top.iter().map(|TokenLogprob { id, logprob }| OneLogprob::new(tokenizer, *id, *logprob));
        Some(TokenLogprobs {
            token: OneLogprob::new(tokenizer, sampled.id, logprob),
            top_logprobs: top.collect(),
        })
    }
}
