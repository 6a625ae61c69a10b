//! Hugging Face directories: `config.json`, `model.safetensors` or its shards, tokenizer files.
//!
//! ```text
//! config.json                        what the model is
//! model.safetensors                  all weights, or
//! model.safetensors.index.json       which of the shards beside it has each tensor
//! generation_config.json, tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat_template.jinja
//!                                    if they are there
//! ```
//!
//! Weights are mapped and checked once, then read in place. Files may be links, as in the hub's cache, where a
//! directory of a snapshot links into `blobs`. Other weight files (`pytorch_model.bin`) are not read.

mod as_gguf;
mod error;
mod index;
mod safetensors;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "write"))]
pub mod write;

pub use self::as_gguf::Origin;
pub use self::error::HfError;
pub use self::safetensors::SafetensorsError;

use self::safetensors::TensorInfo;
use crate::map::Source;
use crate::{Instead, TensorView, without_bom};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No such file of a real model comes near: the largest are tokenizers of a few ten megabytes, which are not read here.
const MAX_JSON_BYTES: u64 = 100_000_000;

/// An open model directory.
#[derive(Debug)]
pub struct HfDir {
    directory: PathBuf,
    config: Value,
    generation_config: Option<Value>,
    tokenizer_config: Option<Value>,
    special_tokens_map: Option<Value>,
    chat_template: Option<String>,
    shards: Vec<Shard>,
    tensors: Vec<ShardTensor>,
    /// Indices into `tensors`, by name.
    sorted: Vec<usize>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
struct ShardTensor {
    shard: usize,
    info: TensorInfo,
}

impl HfDir {
    /// Maps and checks the files of a directory.
    ///
    /// # Errors
    /// When a file is missing, cannot be read or mapped, or breaks a rule of its format; the error names the file.
    pub fn open(directory: &Path) -> Result<HfDir, HfError> {
        let config = read_json(&directory.join("config.json"))?;
        let opened = open_weights(directory)?;
        let (mut shards, mut tensors) = (Vec::new(), Vec::new());
        for (shard, infos) in opened {
            tensors.extend(infos.into_iter().map(|info| ShardTensor { shard: shards.len(), info }));
            shards.push(shard);
        }
        let sorted = sort_by_name(&tensors, &shards)?;
        let chat_template = if_present(&directory.join("chat_template.jinja"), |path| {
            String::from_utf8(read(path)?).map_err(|_| HfError::NotUtf8 { path: path.to_owned() })
        })?;
        Ok(HfDir {
            config,
            generation_config: if_present(&directory.join("generation_config.json"), read_json)?,
            tokenizer_config: if_present(&directory.join("tokenizer_config.json"), read_json)?,
            special_tokens_map: if_present(&directory.join("special_tokens_map.json"), read_json)?,
            chat_template,
            directory: directory.to_owned(),
            shards,
            tensors,
            sorted,
        })
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `generation_config.json`, if there is one.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The path of `tokenizer.json`, if there is one.
    pub fn tokenizer_json(&self) -> Option<PathBuf> {
        Some(self.directory.join("tokenizer.json")).filter(|path| path.is_file())
    }

    /// `tokenizer_config.json`, if there is one.
    pub fn tokenizer_config(&self) -> Option<&Value> {
        self.tokenizer_config.as_ref()
    }

    /// `special_tokens_map.json`, if there is one.
    pub fn special_tokens_map(&self) -> Option<&Value> {
        self.special_tokens_map.as_ref()
    }

    /// `chat_template.jinja`, if there is one; it takes the place of the template in `tokenizer_config.json`.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// All tensors in the order of the file, shard after shard.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|tensor| self.view(tensor))
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let found =
            self.sorted.binary_search_by(|&tensor| self.tensors[tensor].info.name.as_str().cmp(name)).ok()?;
        Some(self.view(&self.tensors[self.sorted[found]]))
    }

    fn view<'a>(&'a self, tensor: &'a ShardTensor) -> TensorView<'a> {
        let TensorInfo { name, dtype, shape, range } = &tensor.info;
        TensorView { name, dtype: *dtype, shape, bytes: &self.shards[tensor.shard].source[range.clone()] }
    }

    /// The bytes of each weight file.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.shards.iter().map(|shard| &*shard.source)
    }

    /// Length of all weight files together.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.source.len() as u64).sum()
    }

    /// Tells the system that the mapped pages are not needed any more; see [`crate::gguf::Gguf::release_pages`].
    pub fn release_pages(&self) {
        for shard in &self.shards {
            shard.source.release_pages();
        }
    }
}

/// Checks a safetensors file that is in memory.
///
/// # Errors
/// When it breaks a rule of the format.
pub fn check_safetensors(bytes: &[u8]) -> Result<(), SafetensorsError> {
    safetensors::parse(bytes).map(|_| ())
}

fn open_weights(directory: &Path) -> Result<Vec<(Shard, Vec<TensorInfo>)>, HfError> {
    let single = directory.join("model.safetensors");
    if single.try_exists().map_err(|error| HfError::Io { path: single.clone(), error })? {
        return Ok(vec![open_shard(single)?]);
    }
    let index_path = directory.join("model.safetensors.index.json");
    let index = if_present(&index_path, read)?
        .ok_or_else(|| HfError::NoWeights { directory: directory.to_owned() })?;
    let mut opened = Vec::new();
    for (shard_name, listed) in index::parse(&index_path, &index)? {
        let (shard, infos) = open_shard(directory.join(shard_name))?;
        let mut found: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
        found.sort_unstable();
        if let Some(tensor) = listed.into_iter().find(|tensor| found.binary_search(&tensor.as_str()).is_err())
        {
            return Err(HfError::NotInShard { shard: shard.path, tensor });
        }
        opened.push((shard, infos));
    }
    Ok(opened)
}

fn open_shard(path: PathBuf) -> Result<(Shard, Vec<TensorInfo>), HfError> {
    let source = Source::open(&path).map_err(|error| HfError::Io { path: path.clone(), error })?;
    if let Some(instead) = Instead::of(&source) {
        return Err(HfError::Instead { path, instead });
    }
    match safetensors::parse(&source) {
        Ok(infos) => Ok((Shard { path, source }, infos)),
        Err(error) => Err(HfError::Safetensors { path, error }),
    }
}

fn sort_by_name(tensors: &[ShardTensor], shards: &[Shard]) -> Result<Vec<usize>, HfError> {
    let mut sorted: Vec<usize> = (0..tensors.len()).collect();
    sorted.sort_by(|&a, &b| tensors[a].info.name.cmp(&tensors[b].info.name));
    for pair in sorted.windows(2) {
        let (first, second) = (&tensors[pair[0]], &tensors[pair[1]]);
        if first.info.name == second.info.name {
            return Err(HfError::DuplicateTensor {
                tensor: first.info.name.clone(),
                first: shards[first.shard].path.clone(),
                second: shards[second.shard].path.clone(),
            });
        }
    }
    Ok(sorted)
}

/// `None` when there is no such file.
fn if_present<T>(path: &Path, read: impl Fn(&Path) -> Result<T, HfError>) -> Result<Option<T>, HfError> {
    match read(path) {
        Err(HfError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn read_json(path: &Path) -> Result<Value, HfError> {
    serde_json::from_slice(without_bom(&read(path)?))
        .map_err(|error| HfError::Json { path: path.to_owned(), error })
}

fn read(path: &Path) -> Result<Vec<u8>, HfError> {
    let io = |error| HfError::Io { path: path.to_owned(), error };
    let mut text = Vec::new();
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    // The limit holds for what is read, whatever the system says about the file's length.
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_JSON_BYTES {
        return Err(HfError::TooLong { path: path.to_owned(), bytes, limit: MAX_JSON_BYTES });
    }
    if let Some(instead) = Instead::of(&text) {
        return Err(HfError::Instead { path: path.to_owned(), instead });
    }
    Ok(text)
}
