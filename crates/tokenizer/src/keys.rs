//! The keys of a model file that describe its tokenizer.

/// What a file says about its tokenizer, before anything is checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizerKeys {
    /// `tokenizer.ggml.model`: `gpt2` or `llama`.
    pub model: String,
    /// `tokenizer.ggml.tokens`: the text of every token; the position is the id.
    pub tokens: Vec<String>,
}
