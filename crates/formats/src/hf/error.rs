use super::safetensors::SafetensorsError;
use crate::Instead;
use std::path::PathBuf;

/// Why a model directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HfError {
    /// The system could not open, read or map a file.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is one that often lies in the place of the right one.
    #[error("{}: {instead}", path.display())]
    Instead {
        /// The file.
        path: PathBuf,
        /// What it is.
        instead: Instead,
    },
    /// A JSON file is too long to be meant.
    #[error("{}: has {bytes} bytes, but {limit} is the most for such a file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file is not the JSON that it should be.
    #[error("{}: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: serde_json::Error,
    },
    /// A template is not UTF-8.
    #[error("{}: is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A weight file breaks a rule of its format.
    #[error("{}: {error}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The rule.
        error: SafetensorsError,
    },
    /// The directory has weights.
    #[error("{}: has neither model.safetensors nor model.safetensors.index.json", directory.display())]
    NoWeights {
        /// The directory.
        directory: PathBuf,
    },
    /// A shard is a file of the directory itself.
    #[error("{}: tensor `{tensor}` is in `{}`, which is not the plain name of a file", index.display(), shard.escape_debug())]
    ShardName {
        /// The index file.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The name.
        shard: String,
    },
    /// The index lists each tensor once.
    #[error("{}: lists tensor `{}` twice", index.display(), tensor.escape_debug())]
    ListedTwice {
        /// The index file.
        index: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A shard has the tensors that the index says it has.
    #[error("{}: tensor `{}` is not here, where the index says it is", shard.display(), tensor.escape_debug())]
    NotInShard {
        /// The shard.
        shard: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor is in one shard only.
    #[error("tensor `{tensor}` is in {} and in {}", first.display(), second.display())]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// One shard.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// A tensor that is asked for is there.
    #[error("{}: has no tensor `{}`", directory.display(), tensor.escape_debug())]
    NoTensor {
        /// The directory.
        directory: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// There is room for rows in another order.
    #[error("writing a temporary file into {}: {error}", folder.display())]
    Scratch {
        /// Where.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// As a GGUF it would break a rule of that format.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::GgufError),
}
