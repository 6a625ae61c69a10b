//! What there is to say about a model file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lossy_engine::{ModelInfo, PositionScheme};
use lossy_formats::TensorView;
use lossy_formats::gguf::Gguf;
use lossy_formats::hf::HfDir;
use serde::Serialize;
use serde_json::{Map, Value};

use super::value;

/// A model file, ready to be printed or written as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    /// of the file or directory
    pub path: PathBuf,
    /// "GGUF v3", "safetensors"
    pub format: String,
    /// of a GGUF model
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_files: Option<usize>,
    /// all files, with their headers
    pub file_bytes: u64,
    /// absent if the model cannot be run
    #[serde(flatten)]
    pub model: Option<ModelReport>,
    /// by type, most bytes first
    pub tensor_types: Vec<TensorType>,
    /// as the file has it
    pub metadata: Map<String, Value>,
    /// as the file has them
    pub tensors: Vec<TensorReport>,
}

/// Shapes, and what it takes to run.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    pub architecture: String,
    pub name: Option<String>,
    pub n_params: u64,
    pub weight_type: String,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_vocab: usize,
    pub n_ctx_train: usize,
    /// of the KV cache, exact
    pub kv_bytes_per_token: KvBytes,
    /// context of the estimate, tokens
    pub n_ctx: usize,
    /// how a context of that many tokens is told to the model, and the longest one that this is good for; null if there
    /// is no way
    pub positions: Option<PositionReport>,
    /// of a full cache
    pub kv_bytes: KvBytes,
    /// of all tensors
    pub tensor_bytes: u64,
}

/// Positions of a context.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct PositionReport {
    pub map: String,
    /// tokens
    pub longest_ctx: usize,
}

/// By element type of the cache.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct KvBytes {
    pub f16: u64,
    pub f32: u64,
}

/// All tensors of one type.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct TensorType {
    #[serde(rename = "type")]
    pub name: String,
    pub n_tensors: usize,
    pub n_values: u64,
    pub bytes: u64,
}

/// One tensor.
#[derive(Debug, Serialize)]
pub struct TensorReport {
    pub name: String,
    #[serde(rename = "type")]
    pub dtype: String,
    /// rows first
    pub shape: Vec<usize>,
    pub bytes: u64,
}

impl Report {
    /// Of a GGUF file; `model` with the context to estimate for, if the model is known.
    pub fn of_gguf(path: &Path, gguf: &Gguf, model: Option<(&ModelInfo, usize)>) -> Report {
        let metadata = gguf.metadata().iter().map(|(key, value)| (key.to_string(), value::to_json(value)));
        Report {
            path: path.to_path_buf(),
            format: format!("GGUF v{}", gguf.version()),
            n_files: Some(gguf.n_parts()),
            file_bytes: gguf.file_bytes(),
            model: model.map(|(info, n_ctx)| ModelReport::new(info, n_ctx)),
            tensor_types: tensor_types(gguf.tensors()),
            metadata: metadata.collect(),
            tensors: gguf.tensors().map(|tensor| TensorReport::new(&tensor)).collect(),
        }
    }

    /// Of a Hugging Face directory.
    pub fn of_hf(path: &Path, dir: &HfDir, info: &ModelInfo, n_ctx: usize) -> Report {
        let tensors: Vec<TensorReport> = dir.tensors().map(|tensor| TensorReport::new(&tensor)).collect();
        Report {
            path: path.to_path_buf(),
            format: "safetensors".to_string(),
            n_files: None,
            file_bytes: dir.file_bytes(),
            model: Some(ModelReport::new(info, n_ctx)),
            tensor_types: tensor_types(dir.tensors()),
            metadata: dir.config().as_object().cloned().unwrap_or_default(),
            tensors,
        }
    }
}

impl ModelReport {
    fn new(info: &ModelInfo, n_ctx: usize) -> ModelReport {
        let n_ctx = if n_ctx == 0 { info.n_ctx_train } else { n_ctx };
        // Keys and values of all heads in all layers.
        let n_values = 2 * info.n_layers as u64 * info.n_kv_heads as u64 * info.head_dim as u64;
        let kv_bytes_per_token = KvBytes { f16: 2 * n_values, f32: 4 * n_values };
        let positions = PositionScheme::auto().resolve(info.trained(), n_ctx, false).ok().map(|positions| {
            PositionReport { map: positions.scheme().to_string(), longest_ctx: positions.longest() }
        });
        ModelReport {
            architecture: info.architecture.clone(),
            name: info.name.clone(),
            n_params: info.n_params,
            weight_type: info.weight_type.clone(),
            n_layers: info.n_layers,
            n_heads: info.n_heads,
            n_kv_heads: info.n_kv_heads,
            head_dim: info.head_dim,
            n_embd: info.n_embd,
            n_ff: info.n_ff,
            n_vocab: info.n_vocab,
            n_ctx_train: info.n_ctx_train,
            kv_bytes_per_token,
            n_ctx,
            positions,
            kv_bytes: KvBytes {
                f16: kv_bytes_per_token.f16 * n_ctx as u64,
                f32: kv_bytes_per_token.f32 * n_ctx as u64,
            },
            tensor_bytes: info.tensor_bytes,
        }
    }
}

impl TensorReport {
    fn new(tensor: &TensorView<'_>) -> TensorReport {
        TensorReport {
            name: tensor.name.to_string(),
            dtype: tensor.dtype.name().to_string(),
            shape: tensor.shape.to_vec(),
            bytes: tensor.bytes.len() as u64,
        }
    }
}

fn tensor_types<'a>(tensors: impl Iterator<Item = TensorView<'a>>) -> Vec<TensorType> {
    let mut types: BTreeMap<&'static str, TensorType> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.dtype.name();
        let entry = types.entry(name).or_insert_with(|| TensorType {
            name: name.to_string(),
            n_tensors: 0,
            n_values: 0,
            bytes: 0,
        });
        entry.n_tensors += 1;
        entry.n_values += tensor.shape.iter().product::<usize>() as u64;
        entry.bytes += tensor.bytes.len() as u64;
    }
    let mut types: Vec<TensorType> = types.into_values().collect();
    types.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    types
}
