//! What can be wrong with a tokenizer, a text or a template.

use std::path::PathBuf;

/// Why a tokenizer or a chat template could not be built or used. Every variant carries the values that are wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key that the tokenizer needs is absent from the file.
    #[error("the file has no `{key}`, which its tokenizer needs")]
    MissingKey {
        /// The GGUF key or the JSON file.
        key: String,
    },
    /// A key holds something else than expected.
    #[error("`{key}`: {problem}")]
    BadKey {
        /// The GGUF key, or a path inside a JSON file.
        key: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A key of a GGUF file has another type than it should have.
    #[error(transparent)]
    Metadata(lossy_formats::gguf::MetadataError),
    /// `tokenizer.ggml.model` names a kind of tokenizer that is not built here.
    #[error("tokenizer model `{model}` is not supported (supported: gpt2, llama)")]
    UnknownModel {
        /// The value of the key.
        model: String,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not known.
    #[error("pre-tokenizer `{pre}` is not known (known: {known})")]
    UnknownPreTokenizer {
        /// The value of the key.
        pre: String,
        /// The names that are known, joined by commas.
        known: String,
    },
    /// Two tokens of the vocabulary have the same text, so a text has no single encoding.
    #[error("tokens {first} and {second} are both {text:?}")]
    DuplicateToken {
        /// The text of both.
        text: String,
        /// The smaller id.
        first: u32,
        /// The larger id.
        second: u32,
    },
    /// A merge is not two tokens whose concatenation is a token.
    #[error("merge {index} ({merge:?}): {problem}")]
    BadMerge {
        /// Position in the list of merges.
        index: usize,
        /// The merge as the file has it.
        merge: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A special token's id is not in the vocabulary.
    #[error("`{key}` is {id}, but the vocabulary has {n_vocab} tokens")]
    IdOutOfRange {
        /// The key that holds the id.
        key: String,
        /// The id.
        id: u64,
        /// Tokens in the vocabulary.
        n_vocab: usize,
    },
    /// The text could not be encoded.
    #[error("cannot encode the text: {0}")]
    Encode(String),
    /// A JSON file of a Hugging Face directory could not be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A GGUF file has no keys for what the tokenizer of a directory does.
    #[error("the tokenizer cannot be written as GGUF: {what}")]
    NotInGguf {
        /// What that is.
        what: String,
    },
    /// The chat template has a mistake, or refused the messages.
    #[error("chat template{}: {problem}", line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Template {
        /// Line of the template, from 1, if it is known.
        line: Option<usize>,
        /// What went wrong, in the template engine's words or the template's own.
        problem: String,
    },
    /// Nothing of a message arrives in the prompt.
    #[error("message {number} ({role}) is left out by the chat template, which has no place for it")]
    LostMessage {
        /// Which one, from 1.
        number: usize,
        /// Who speaks.
        role: String,
    },
}
