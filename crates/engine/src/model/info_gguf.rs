//! A model's shapes from the metadata of a GGUF file.

use lossy_formats::gguf::{Gguf, IfPresent, Metadata, MetadataError};

use super::Family;
use super::info::{Shapes, checked_base, checked_eps};
use crate::LoadError;
use crate::positions::{LongRope, RopeConfig, RopeScaling, Yarn};

/// What the keys `{architecture}.*` say.
pub(super) struct GgufConfig<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl<'a> GgufConfig<'a> {
    pub(super) fn new(metadata: &'a Metadata) -> Result<GgufConfig<'a>, LoadError> {
        Ok(GgufConfig { metadata, architecture: metadata.str("general.architecture")? })
    }

    /// The architecture and its family.
    pub(super) fn family(&self) -> Result<(String, &'static Family), LoadError> {
        let found = self.architecture.to_string();
        let family = Family::of_gguf(&found)
            .ok_or_else(|| LoadError::Architecture { found: found.clone(), known: Family::known_names() })?;
        Ok((found, family))
    }

    pub(super) fn shapes(&self) -> Result<Shapes, LoadError> {
        let n_heads = self.count("attention.head_count")?;
        let n_embd = self.count("embedding_length")?;
        let head_dim =
            self.optional_count("attention.key_length")?.unwrap_or(n_embd.checked_div(n_heads).unwrap_or(0));
        let value_dim = self.optional_count("attention.value_length")?.unwrap_or(head_dim);
        if value_dim != head_dim {
            return Err(LoadError::Config(format!(
                "keys of {head_dim} channels but values of {value_dim} (key `{}`)",
                self.key("attention.value_length")
            )));
        }
        let rotated = self.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
        if rotated != head_dim {
            return Err(LoadError::Config(format!(
                "key `{}` is {rotated}, but only a rotation of all {head_dim} channels of a head can be computed",
                self.key("rope.dimension_count")
            )));
        }
        let n_ctx_train = self.count("context_length")?;
        let window = self.optional_count("attention.sliding_window")?.filter(|&window| window > 0);
        Ok(Shapes {
            n_layers: self.count("block_count")?,
            n_heads,
            n_kv_heads: self.optional_count("attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            n_embd,
            n_ff: self.count("feed_forward_length")?,
            n_ctx_train: window.map_or(n_ctx_train, |window| window.min(n_ctx_train)),
            n_vocab: self.optional_count("vocab_size")?,
        })
    }

    pub(super) fn rms_eps(&self) -> Result<f32, LoadError> {
        let key = self.key("attention.layer_norm_rms_epsilon");
        checked_eps(&format!("key `{key}`"), f64::from(self.metadata.f32(&key)?))
    }

    /// The model's rotation. Within the original context, to which the trained one is cut, `longrope` is its short factors.
    pub(super) fn rope(&self, tensors: &FactorTensors) -> Result<RopeConfig, LoadError> {
        let base = self.optional_f64("rope.freq_base")?.unwrap_or(10_000.0);
        let base = checked_base(&format!("key `{}`", self.key("rope.freq_base")), base)?;
        let kind = self.metadata.str(&self.key("rope.scaling.type")).if_present()?;
        let attention_factor = self.optional_f64("rope.scaling.attn_factor")?.filter(|factor| *factor != 1.0);
        let scaling = match (&tensors.factors, kind) {
            (Some(factors), None | Some("none")) => RopeScaling::Factors(factors.clone()),
            (Some(_), Some(kind)) => {
                return Err(LoadError::Config(format!(
                    "rope scaling of type `{}` together with `{FACTORS}` is not known",
                    kind.escape_debug()
                )));
            }
            // llama.cpp takes a factor without a type as linear
            (None, None) if self.optional_f64("rope.scaling.factor")?.is_some_and(|factor| factor != 1.0) => {
                RopeScaling::Linear { factor: self.positive("rope.scaling.factor")? }
            }
            (None, None) if self.optional_f64("rope.scale_linear")?.is_some_and(|factor| factor != 1.0) => {
                RopeScaling::Linear { factor: self.positive("rope.scale_linear")? }
            }
            (None, None) => RopeScaling::None,
            (None, Some("none")) => RopeScaling::None,
            (None, Some("linear")) => RopeScaling::Linear { factor: self.positive("rope.scaling.factor")? },
            (None, Some("yarn")) => RopeScaling::Yarn(self.yarn()?),
            (None, Some("longrope")) => {
                let Some(short_factors) = tensors.short_factors.clone() else {
                    return Err(super::info::missing(SHORT_FACTORS, std::iter::empty()));
                };
                RopeScaling::LongRope(LongRope {
                    short_factors,
                    attention_factor: attention_factor.unwrap_or(1.0),
                    original_context: self.positive("rope.scaling.original_context_length")?,
                })
            }
            (None, Some(kind)) => {
                return Err(LoadError::Config(format!(
                    "rope scaling of type `{}` cannot be computed (known: none, linear, yarn, longrope)",
                    kind.escape_debug()
                )));
            }
        };
        let is_scaled = matches!(scaling, RopeScaling::Yarn(_) | RopeScaling::LongRope(_));
        let wrong_key = |key: &str, value: f64| {
            let key = self.key(key);
            LoadError::Config(format!(
                "key `{key}` is {value}, but the rope scaling's type has no such factor"
            ))
        };
        if let Some(factor) = attention_factor.filter(|_| !is_scaled) {
            return Err(wrong_key("rope.scaling.attn_factor", factor));
        }
        // A negative one leaves it to the type.
        let extrapolated = self.optional_f64("rope.scaling.yarn_ext_factor")?.filter(|factor| *factor >= 0.0);
        let wanted = if matches!(scaling, RopeScaling::Yarn(_)) { 1.0 } else { 0.0 };
        match extrapolated.filter(|factor| *factor != wanted) {
            Some(factor) => Err(wrong_key("rope.scaling.yarn_ext_factor", factor)),
            None => Ok(RopeConfig { base, scaling }),
        }
    }

    fn yarn(&self) -> Result<Yarn, LoadError> {
        let factor = self.positive("rope.scaling.factor")?;
        let original_context = match self.optional_count("rope.scaling.original_context_length")? {
            Some(_) => self.positive("rope.scaling.original_context_length")?,
            None => self.positive("context_length")? / factor,
        };
        Ok(Yarn {
            factor,
            original_context,
            beta_fast: self.optional_f64("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional_f64("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            attention_factor: self
                .optional_f64("rope.scaling.yarn_attn_factor")?
                .or(self.optional_f64("rope.scaling.attn_factor")?)
                .map(|factor_of_default| factor_of_default * (0.1 * factor.ln() + 1.0)),
            is_truncated: true,
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn count(&self, key: &str) -> Result<u64, LoadError> {
        Ok(self.uniform(&self.key(key))?)
    }

    fn optional_count(&self, key: &str) -> Result<Option<u64>, LoadError> {
        Ok(self.uniform(&self.key(key)).if_present()?)
    }

    /// A count that may also be given per layer, where it must be the same in each.
    fn uniform(&self, key: &str) -> Result<u64, MetadataError> {
        let Ok(per_layer) = self.metadata.i64s(key) else {
            return self.metadata.u64(key);
        };
        match per_layer.first() {
            Some(&first) if first >= 0 && per_layer.iter().all(|&count| count == first) => Ok(first as u64),
            _ => Err(MetadataError::WrongType {
                key: key.to_string(),
                wanted: "one count for all layers",
                found: format!("{per_layer:?}"),
            }),
        }
    }

    fn optional_f64(&self, key: &str) -> Result<Option<f64>, LoadError> {
        Ok(self.metadata.f32(&self.key(key)).if_present()?.map(f64::from))
    }

    /// A number, whole or not, above zero.
    fn positive(&self, key: &str) -> Result<f64, LoadError> {
        let key = self.key(key);
        let value = match self.metadata.u64(&key) {
            Ok(value) => value as f64,
            Err(_) => f64::from(self.metadata.f32(&key)?),
        };
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(LoadError::Config(format!("key `{key}` is {value}, not a positive number")))
        }
    }
}

/// Divisors of the frequencies, Llama 3.1's.
pub(super) const FACTORS: &str = "rope_freqs.weight";
/// Divisors of the frequencies, LongRoPE's up to its original context.
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";
/// The same beyond, where they are not used.
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";

/// The tensors that belong to the rotation, each `[head_dim / 2]`.
pub(super) struct FactorTensors {
    factors: Option<Vec<f32>>,
    short_factors: Option<Vec<f32>>,
}

impl FactorTensors {
    pub(super) fn of(gguf: &Gguf, head_dim: u64) -> Result<FactorTensors, LoadError> {
        // Not used, but checked: a file that is wrong here is wrong.
        rope_factors(gguf, LONG_FACTORS, head_dim)?;
        Ok(FactorTensors {
            factors: rope_factors(gguf, FACTORS, head_dim)?,
            short_factors: rope_factors(gguf, SHORT_FACTORS, head_dim)?,
        })
    }
}

/// A tensor of divisors as float32.
fn rope_factors(gguf: &Gguf, name: &str, head_dim: u64) -> Result<Option<Vec<f32>>, LoadError> {
    let Some(tensor) = gguf.tensor(name) else { return Ok(None) };
    let wanted = [head_dim as usize / 2];
    if tensor.shape != wanted {
        return Err(LoadError::TensorShape {
            name: name.to_string(),
            found: tensor.shape.to_vec(),
            wanted: wanted.to_vec(),
        });
    }
    let mut factors = vec![0.0; wanted[0]];
    lossy_quant::dequantize(tensor.dtype, tensor.bytes, &mut factors)
        .map_err(|error| LoadError::Dequantize { name: name.to_string(), message: error.to_string() })?;
    match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        Some(factor) => Err(LoadError::Config(format!("`{name}` holds {factor}, not a positive number"))),
        None => Ok(Some(factors)),
    }
}
