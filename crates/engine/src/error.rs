//! Errors by task: loading a model, setting up a cache, running a request.

use std::path::{Path, PathBuf};

use lossy_kernels::ActivationKind;

use crate::cache::{CacheError, KvSchemeError, SavedError};
use crate::finite::{Place, WeightNotFinite};
use crate::positions::PositionError;
use crate::sampling::SampleError;
use crate::unread::UnreadParts;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// a GGUF file that cannot be read
    #[error(transparent)]
    Gguf(#[from] lossy_formats::gguf::GgufError),
    /// metadata that a model needs and the file does not have so
    #[error(transparent)]
    Metadata(#[from] lossy_formats::gguf::MetadataError),
    /// a Hugging Face directory that cannot be read
    #[error(transparent)]
    Hf(#[from] lossy_formats::hf::HfError),
    /// a file of a Hugging Face directory in place of the directory
    #[error(
        "{} is one file of a Hugging Face directory: give the directory, {}, which needs config.json, tokenizer.json and \
         model.safetensors or its shards",
        path.display(),
        directory_of(path).display()
    )]
    PartOfDirectory {
        /// the file
        path: PathBuf,
    },
    /// a tokenizer or chat template that cannot be built
    #[error(transparent)]
    Tokenizer(#[from] lossy_tokenizer::TokenizerError),
    /// a model of another kind
    #[error("models of architecture `{found}` cannot be computed (known: {known})")]
    Architecture {
        /// the file's word
        found: String,
        /// what is known
        known: String,
    },
    /// the model's configuration cannot be
    #[error("the model's configuration is not usable: {0}")]
    Config(String),
    /// a tensor that the architecture needs
    #[error("the model has no tensor `{name}`{}", alike.as_ref().map(|alike| format!(", but one called `{alike}`")).unwrap_or_default())]
    MissingTensor {
        /// its name
        name: String,
        /// a tensor of the file whose name ends alike
        alike: Option<String>,
    },
    /// a model with more than is read
    #[error(
        "the model has the {0}, which this program does not read: without that it may compute something else than the model"
    )]
    Unread(UnreadParts),
    /// a tensor of another shape than the configuration says
    #[error("tensor `{name}` has shape {found:?}, but the model's configuration needs {wanted:?}")]
    TensorShape {
        /// its name
        name: String,
        /// rows, columns
        found: Vec<usize>,
        /// rows, columns
        wanted: Vec<usize>,
    },
    /// a weight matrix whose type cannot be computed
    #[error("tensor `{name}`: {problem}")]
    Pack {
        /// its name
        name: String,
        /// why
        problem: lossy_kernels::PackError,
    },
    /// a vector or embedding whose type cannot be computed
    #[error("tensor `{name}`: {message}")]
    Dequantize {
        /// its name
        name: String,
        /// why
        message: String,
    },
    /// a model of a Hugging Face directory of which no GGUF says what it computes
    #[error("the model cannot be written as GGUF: {what}")]
    NotInGguf {
        /// what that is
        what: String,
    },
    /// a weight that is no number
    #[error(transparent)]
    Weight(#[from] WeightNotFinite),
}

/// Why a cache cannot be made as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// a KV scheme that cannot be used with this model
    #[error(transparent)]
    KvScheme(#[from] KvSchemeError),
    /// positions that cannot be used with this model or context
    #[error(transparent)]
    Positions(#[from] PositionError),
    /// a text that begins elsewhere than at 0, with positions that are not the model's own
    #[error(
        "a text of {n_ctx} tokens that begins at position {start} needs the model's own positions, not {positions}: let \
         both together be within the trained context"
    )]
    StartPosition {
        /// position of the first token
        start: usize,
        /// tokens
        n_ctx: usize,
        /// what was asked for, or follows from the length
        positions: String,
    },
    /// a scheme that skips pages, with what reads all of them
    #[error("KV scheme `{scheme}` skips pages, and {with} cannot: leave `sparse` out, or {instead}")]
    Sparse {
        /// the scheme
        scheme: String,
        /// what reads all pages
        with: String,
        /// what to change
        instead: &'static str,
    },
    /// a text to calibrate with that is too short
    #[error("the calibration text has {n_tokens} tokens, but at least {least} are needed")]
    CalibrationTooShort {
        /// tokens of the text
        n_tokens: usize,
        /// the fewest
        least: usize,
    },
    /// a text to calibrate with that says the same again and again
    #[error(
        "the calibration text has {n_distinct} different tokens, but at least {least} are needed: take a text that repeats \
         itself less"
    )]
    CalibrationTooUniform {
        /// different tokens of the text
        n_distinct: usize,
        /// the fewest
        least: usize,
    },
    /// statistics of another model
    #[error("the calibration was made for another model or by another version")]
    OtherCalibration,
    /// a tokenizer, which calibration needs, that cannot be built
    #[error(transparent)]
    Tokenizer(#[from] lossy_tokenizer::TokenizerError),
    /// calibration cannot read its text, or was stopped
    #[error(transparent)]
    Calibrating(#[from] RequestError),
}

/// Why tokens cannot be computed. The sequences have not changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// the KV cache has no room, or was given values that it cannot hold
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// no token can be chosen
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// an embedding that is no number
    #[error(transparent)]
    Weight(#[from] WeightNotFinite),
    /// The weights are numbers, but what the model computes with them is not.
    #[error(
        "the model computes values that are no numbers (NaN or infinite): the first {place}{}",
        match activations {
            ActivationKind::Q8 => ", with int8 activations",
            ActivationKind::F32 => ": its weights are damaged, or not those of its configuration",
        }
    )]
    NotFinite {
        /// after which step of which layer
        place: Place,
        /// how it was computed
        activations: ActivationKind,
    },
    /// a token id outside the vocabulary
    #[error("token {id} is not in the vocabulary of {n_vocab} tokens")]
    NoSuchToken {
        /// the id
        id: u32,
        /// size of the vocabulary
        n_vocab: usize,
    },
    /// nothing to start from
    #[error("the prompt is empty: there is no token to continue from")]
    EmptyPrompt,
    /// A prompt that does not fit: nothing is ever cut off.
    #[error("the prompt has {n_prompt} tokens, but the context holds {n_ctx}")]
    TooLong {
        /// tokens of the prompt
        n_prompt: usize,
        /// tokens that the context holds
        n_ctx: usize,
    },
    /// the caller asked to stop; the sequence holds what was computed
    #[error("stopped after {n_done} of {n_total} prompt tokens")]
    Stopped {
        /// tokens processed
        n_done: usize,
        /// tokens of the prompt
        n_total: usize,
    },
    /// a sequence that another engine made
    #[error(
        "item {item} of the batch is a sequence of another engine: run it on the engine whose cache it came from"
    )]
    OtherEngine {
        /// its index in the batch
        item: usize,
    },
    /// a sequence that is too short to be made long by copies
    #[error("a sequence of {n_tokens} tokens has no page of {page} to copy")]
    NothingToCopy {
        /// tokens of the sequence
        n_tokens: usize,
        /// tokens of a page
        page: usize,
    },
}

/// What kind of failure a [`RequestError`] is, for whoever must answer it: a server its status, a program its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// the request itself is wrong
    BadRequest,
    /// it does not fit in the context
    TooLong,
    /// there is no memory for it now
    OutOfMemory,
    /// its caller stopped it
    Stopped,
    /// the model or the program is at fault
    Internal,
}

impl RequestError {
    /// What kind of failure it is.
    pub fn kind(&self) -> RequestErrorKind {
        match self {
            RequestError::NoSuchToken { .. } | RequestError::EmptyPrompt => RequestErrorKind::BadRequest,
            RequestError::Sample(SampleError::NothingAllowed { .. } | SampleError::Mask(_)) => {
                RequestErrorKind::BadRequest
            }
            RequestError::TooLong { .. } => RequestErrorKind::TooLong,
            RequestError::Cache(CacheError::Budget { .. } | CacheError::Memory { .. }) => {
                RequestErrorKind::OutOfMemory
            }
            RequestError::Stopped { .. } => RequestErrorKind::Stopped,
            RequestError::Cache(CacheError::Unstorable { .. })
            | RequestError::Weight(_)
            | RequestError::NotFinite { .. }
            | RequestError::Sample(SampleError::NotFinite { .. })
            | RequestError::OtherEngine { .. }
            | RequestError::NothingToCopy { .. } => RequestErrorKind::Internal,
        }
    }
}

/// Any of these, for callers that need not tell the tasks apart.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// a model that cannot be loaded
    #[error(transparent)]
    Load(#[from] LoadError),
    /// a cache that cannot be made
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// tokens that cannot be computed
    #[error(transparent)]
    Request(#[from] RequestError),
    /// a saved cache that cannot be used
    #[error(transparent)]
    Saved(#[from] SavedError),
}

/// The directory that a file is in.
fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
