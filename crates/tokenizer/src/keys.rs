//! The keys of a GGUF file that describe its tokenizer.

/// What a file says about its tokenizer, before anything is checked. Texts are borrowed from the file.
///
/// Empty lists stand for absent keys. [`Tokenizer::from_keys`](crate::Tokenizer::from_keys) checks all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizerKeys<'a> {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: &'a str,
    /// `tokenizer.ggml.pre`: how a text is cut into words before BPE.
    pub pre: Option<&'a str>,
    /// `tokenizer.ggml.tokens`: the text of every token; its position is its id.
    pub tokens: Vec<&'a str>,
    /// `tokenizer.ggml.scores`: SentencePiece's log-probabilities; the highest is merged first.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: pairs of tokens, joined by a space; the first is merged first.
    pub merges: Vec<&'a str>,
    /// The ids of tokens with a role.
    pub ids: SpecialIds,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
}

/// Ids of tokens with a role, as the file has them. `u32::MAX` (a −1 of some converters) stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// `tokenizer.ggml.bos_token_id`: begins a sequence.
    pub bos: Option<u64>,
    /// `tokenizer.ggml.eos_token_id`: ends a sequence.
    pub eos: Option<u64>,
    /// `tokenizer.ggml.unknown_token_id`: stands for text that has no token.
    pub unknown: Option<u64>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u64>,
    /// `tokenizer.ggml.eom_token_id`: ends a message that waits for a tool.
    pub eom: Option<u64>,
    /// `tokenizer.ggml.fim_pad_token_id`.
    pub fim_pad: Option<u64>,
    /// `tokenizer.ggml.fim_rep_token_id`: begins a repository in code models.
    pub fim_rep: Option<u64>,
    /// `tokenizer.ggml.fim_sep_token_id`: separates files in code models.
    pub fim_sep: Option<u64>,
}
