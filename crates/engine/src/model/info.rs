//! What a file says about its model, checked.

use std::collections::BTreeMap;

use lossy_formats::TensorView;
use lossy_formats::gguf::Gguf;
use lossy_formats::hf::HfDir;
use lossy_kernels::GateFunction;

use super::Family;
use super::info_gguf::{FactorTensors, GgufConfig};
use super::info_hf::HfConfig;
use crate::LoadError;
use crate::positions::{Rope, RopeConfig, RopeScaling, Trained};

/// Shapes and constants of a model, as its file states them.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// how its blocks are computed
    pub family: &'static Family,
    /// "llama", "qwen2", …: the file's own word
    pub architecture: String,
    /// the file's name for the model, if any
    pub name: Option<String>,
    /// layers
    pub n_layers: usize,
    /// query heads
    pub n_heads: usize,
    /// key/value heads
    pub n_kv_heads: usize,
    /// channels of a head
    pub head_dim: usize,
    /// width of the residual stream
    pub n_embd: usize,
    /// width of the MLP
    pub n_ff: usize,
    /// tokens of the vocabulary
    pub n_vocab: usize,
    /// trained context, tokens
    pub n_ctx_train: usize,
    /// added to the mean square in every RMSNorm
    pub rms_eps: f32,
    /// the model's own positions
    pub rope: RopeConfig,
    /// what the MLP does to its gate
    pub gate: GateFunction,
    /// parameters in all tensors
    pub n_params: u64,
    /// bytes of all tensors in the file
    pub tensor_bytes: u64,
    /// the type of most matrix elements: "Q4_1" or so
    pub weight_type: String,
}

impl ModelInfo {
    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// A key is missing or of another type, the architecture is not known, or a value cannot be.
    pub fn from_gguf(gguf: &Gguf) -> Result<ModelInfo, LoadError> {
        let config = GgufConfig::new(gguf.metadata())?;
        let (architecture, family) = config.family()?;
        let shapes = config.shapes()?;
        shapes.check()?;
        let statement = Statement {
            name: gguf.metadata().str("general.name").ok().map(str::to_string),
            rms_eps: config.rms_eps()?,
            rope: config.rope(&FactorTensors::of(gguf, shapes.head_dim)?)?,
            gate: GateFunction::Silu,
            architecture,
            family,
            shapes,
        };
        let key = format!("key `{}.vocab_size`", statement.architecture);
        statement.with_tensors("token_embd.weight", &key, gguf.tensors())
    }

    /// Reads `config.json` of a Hugging Face directory.
    ///
    /// # Errors
    /// As [`ModelInfo::from_gguf`].
    pub fn from_hf(dir: &HfDir) -> Result<ModelInfo, LoadError> {
        let config = HfConfig::new(dir.config())?;
        let (architecture, family) = config.family();
        let shapes = config.shapes()?;
        shapes.check()?;
        let name = dir.config().get("_name_or_path").and_then(serde_json::Value::as_str);
        let statement = Statement {
            name: name.filter(|name| !name.is_empty()).map(str::to_string),
            rms_eps: config.rms_eps()?,
            rope: config.rope(shapes.head_dim)?,
            gate: config.gate()?,
            architecture,
            family,
            shapes,
        };
        statement.with_tensors("model.embed_tokens.weight", "config.json: `vocab_size`", dir.tensors())
    }
}

impl ModelInfo {
    /// What the model's positions depend on.
    pub fn trained(&self) -> Trained<'_> {
        Trained { rope: &self.rope, head_dim: self.head_dim, n_ctx: self.n_ctx_train }
    }
}

/// A tensor that is not there, with one of the file's that may be meant: under another prefix, say.
pub(super) fn missing<'a>(name: &str, found: impl Iterator<Item = &'a str>) -> LoadError {
    // `embed_tokens.weight` of `model.embed_tokens.weight`: what a prefix leaves
    let end: Vec<&str> = name.rsplitn(3, '.').collect();
    let ends_alike = |other: &&str| other.rsplitn(3, '.').take(2).eq(end.iter().take(2).copied());
    LoadError::MissingTensor {
        name: name.to_string(),
        alike: found.into_iter().find(ends_alike).map(str::to_owned),
    }
}

/// The epsilon of the norms, which the file calls `key`.
///
/// # Errors
/// It is not from 0 to 1.
pub(super) fn checked_eps(key: &str, eps: f64) -> Result<f32, LoadError> {
    match (0.0..1.0).contains(&eps) {
        true => Ok(eps as f32),
        false => Err(LoadError::Config(format!("{key} is {eps}, not a number between 0 and 1"))),
    }
}

/// The base of the frequencies, which the file calls `key`.
///
/// # Errors
/// It is not above 0.
pub(super) fn checked_base(key: &str, base: f64) -> Result<f64, LoadError> {
    match base.is_finite() && base > 0.0 {
        true => Ok(base),
        false => Err(LoadError::Config(format!("{key} is {base}, not a positive number"))),
    }
}

/// What the configuration alone says.
struct Statement {
    architecture: String,
    family: &'static Family,
    name: Option<String>,
    shapes: Shapes,
    rms_eps: f32,
    rope: RopeConfig,
    gate: GateFunction,
}

impl Statement {
    /// Adds what only the tensors say: the vocabulary's size, the totals, the most common type. `embedding` is the file's
    /// name of the embedding, `vocab_key` what it calls the size of the vocabulary.
    fn with_tensors<'a>(
        self,
        embedding: &str,
        vocab_key: &str,
        tensors: impl Iterator<Item = TensorView<'a>>,
    ) -> Result<ModelInfo, LoadError> {
        Rope::new(&self.rope, self.shapes.head_dim as usize)
            .check(&self.rope)
            .map_err(|error| LoadError::Config(error.to_string()))?;
        let tensors: Vec<TensorView<'a>> = tensors.collect();
        let n_vocab = match tensors.iter().find(|tensor| tensor.name == embedding) {
            Some(tensor) => tensor.shape.first().copied().unwrap_or(0),
            None => return Err(missing(embedding, tensors.iter().map(|tensor| tensor.name))),
        };
        if let Some(stated) = self.shapes.n_vocab.filter(|stated| *stated != n_vocab as u64) {
            return Err(LoadError::Config(format!(
                "{vocab_key} is {stated}, but `{embedding}` has {n_vocab} rows"
            )));
        }
        let mut elements_by_type = BTreeMap::new();
        let (mut n_params, mut tensor_bytes) = (0u64, 0u64);
        for tensor in tensors {
            let n_elements = tensor.shape.iter().product::<usize>() as u64;
            n_params = n_params.saturating_add(n_elements);
            tensor_bytes = tensor_bytes.saturating_add(tensor.bytes.len() as u64);
            if tensor.shape.len() > 1 {
                *elements_by_type.entry(tensor.dtype.name()).or_insert(0u64) += n_elements;
            }
        }
        let weight_type = elements_by_type.iter().max_by_key(|(_, n_elements)| **n_elements);
        let shapes = &self.shapes;
        Ok(ModelInfo {
            family: self.family,
            architecture: self.architecture,
            name: self.name,
            n_layers: shapes.n_layers as usize,
            n_heads: shapes.n_heads as usize,
            n_kv_heads: shapes.n_kv_heads as usize,
            head_dim: shapes.head_dim as usize,
            n_embd: shapes.n_embd as usize,
            n_ff: shapes.n_ff as usize,
            n_vocab,
            n_ctx_train: match &self.rope.scaling {
                RopeScaling::LongRope(long) => {
                    (shapes.n_ctx_train as usize).min(long.original_context as usize)
                }
                _ => shapes.n_ctx_train as usize,
            },
            rms_eps: self.rms_eps,
            rope: self.rope,
            gate: self.gate,
            n_params,
            tensor_bytes,
            weight_type: weight_type.map_or("none".to_string(), |(name, _)| name.to_string()),
        })
    }
}

/// The counts that both kinds of file state, before any is trusted.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pub(super) n_layers: u64,
    pub(super) n_heads: u64,
    pub(super) n_kv_heads: u64,
    pub(super) head_dim: u64,
    pub(super) n_embd: u64,
    pub(super) n_ff: u64,
    pub(super) n_ctx_train: u64,
    /// where the file says so
    pub(super) n_vocab: Option<u64>,
}

/// The largest value that any shape may have: no product of two overflows, no list of it exhausts memory.
const MOST: u64 = 1 << 24;

impl Shapes {
    /// Rejects what no model has.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        let named = [
            ("layers", self.n_layers, 10_000),
            ("attention heads", self.n_heads, 1 << 16),
            ("key/value heads", self.n_kv_heads, 1 << 16),
            ("channels per head", self.head_dim, 1 << 12),
            ("embedding width", self.n_embd, MOST),
            ("feed-forward width", self.n_ff, MOST),
            ("context length", self.n_ctx_train, 1 << 32),
        ];
        for (what, value, most) in named {
            if value == 0 || value > most {
                return Err(LoadError::Config(format!("{what}: {value} is not between 1 and {most}")));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(LoadError::Config(format!(
                "{} attention heads cannot share {} key/value heads evenly",
                self.n_heads, self.n_kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(LoadError::Config(format!(
                "{} channels per head cannot be rotated in pairs",
                self.head_dim
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Shapes {
        Shapes {
            n_layers: 2,
            n_heads: 9,
            n_kv_heads: 3,
            head_dim: 64,
            n_embd: 576,
            n_ff: 1536,
            n_ctx_train: 8192,
            n_vocab: None,
        }
    }

    #[test]
    fn absurd_shapes_are_errors_with_the_value() {
        assert!(shapes().check().is_ok());
        let message = |shapes: Shapes| shapes.check().unwrap_err().to_string();
        assert!(message(Shapes { n_layers: u64::MAX, ..shapes() }).contains("18446744073709551615"));
        assert!(message(Shapes { n_kv_heads: 0, ..shapes() }).contains("key/value heads: 0"));
        assert!(message(Shapes { n_kv_heads: 2, ..shapes() }).contains("9 attention heads"));
        assert!(message(Shapes { head_dim: 63, ..shapes() }).contains("63"));
    }
}
