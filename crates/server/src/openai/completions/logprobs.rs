//! Log-probabilities of tokens, as completions have them.

use std::collections::BTreeMap;

use lossy_engine::Sampled;
use lossy_tokenizer::Tokenizer;
use serde::Serialize;
use utoipa::ToSchema;

use crate::conversation::finite;

/// Lists of one length, token by token.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// their texts; one that is no whole character is `bytes:\xe2…`
    tokens: Vec<String>,
    /// nats; null for the first token of a prompt
    token_logprobs: Vec<Option<f32>>,
    /// of the most probable ones, and of the token itself; null for the first token of a prompt
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// where each begins in the text, in characters
    text_offset: Vec<usize>,
    #[serde(skip)]
    offset: usize,
}

/// The text of a token; no two tokens have the same.
fn spelled(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let digits = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", digits.collect::<String>())
        }
    }
}

impl CompletionLogprobs {
    /// The first token of a prompt, which nothing predicts.
    pub fn push_first(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.put(tokenizer, id, None, None);
    }

    /// A token that the model has predicted.
    pub fn push(&mut self, tokenizer: &Tokenizer, sampled: &Sampled) {
        let logprob = sampled.logprob.map(finite);
        let mut top: BTreeMap<String, f32> =
            sampled.top.iter().map(|top| (spelled(tokenizer, top.id), finite(top.logprob))).collect();
        if let Some(logprob) = logprob {
            top.insert(spelled(tokenizer, sampled.id), logprob);
        }
        self.put(tokenizer, sampled.id, logprob, Some(top));
    }

    fn put(
        &mut self,
        tokenizer: &Tokenizer,
        id: u32,
        logprob: Option<f32>,
        top: Option<BTreeMap<String, f32>>,
    ) {
        let text = spelled(tokenizer, id);
        self.text_offset.push(self.offset);
        self.offset += text.chars().count();
        self.tokens.push(text);
        self.token_logprobs.push(logprob);
        self.top_logprobs.push(top);
    }

    /// No tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What has come since the last call; offsets go on.
    pub fn take(&mut self) -> CompletionLogprobs {
        let offset = self.offset;
        std::mem::replace(self, CompletionLogprobs { offset, ..CompletionLogprobs::default() })
    }
}
