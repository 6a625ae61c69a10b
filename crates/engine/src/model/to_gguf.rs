//! A Hugging Face directory as the GGUF that other programs would make of it.
//!
//! - Matrices lie as they lie; vectors become F32, which is exact and what llama.cpp needs.
//! - In GGUFs of `llama` the rotary pairs of Q and K are neighbours: rows `i` and `i + head_dim/2` of a head become `2i` and `2i + 1`.
//! - Llama 3.1's and LongRoPE's divisors become tensors; other rotations become keys.
//!
//! What no key says is an error: another function than SiLU in the MLP, biases that the architecture of a GGUF does not have, rotations
//! that llama.cpp reads in `llama` only.

use std::path::Path;

use lossy_formats::TensorView;
use lossy_formats::gguf::Value;
use lossy_formats::hf::{HfDir, Origin};
use lossy_kernels::GateFunction;
use lossy_quant::DType;
use lossy_tokenizer::gguf_entries;

use super::account::Account;
use super::info_gguf::{FACTORS, LONG_FACTORS, SHORT_FACTORS};
use super::rope_hf::RopeKeys;
use super::tensors::{self, BiasGroup, EMBEDDING};
use super::{ModelInfo, ModelSource};
use crate::positions::{Rope, RopeConfig, RopeScaling};
use crate::{LoadError, Unread};

impl ModelSource {
    /// The same model as a GGUF. One that is a GGUF is what it was.
    ///
    /// Bytes stay in the mapped files, but for the rows of Q and K of `llama`, which go into a file without a name in `scratch`. With
    /// `None` they stay in their order, which is enough for who reads names, types and shapes, and wrong for who reads weights.
    ///
    /// # Errors
    /// The directory has something that a GGUF cannot say, or that is not computed; there is no room in `scratch`.
    pub fn to_gguf(&self, scratch: Option<&Path>) -> Result<ModelSource, LoadError> {
        let Some(dir) = self.hf() else { return Ok(self.clone()) };
        let account = Account::of(self)?;
        account.tell(&Unread::Refuse)?;
        let info = self.info();
        check(info, &account)?;
        let keys = RopeKeys::new(dir.config())?;
        let mut entries = model_entries(self, dir)?;
        entries.extend(rope_entries(info)?);
        entries.extend(gguf_entries(dir, info.n_vocab)?);
        let mut origins = rope_tensors(info, &keys)?;
        let mut names: Vec<String> =
            tensors::weights(info).into_iter().map(|expected| expected.name).collect();
        if account.has_own_output {
            names.push(tensors::output(info).name);
        }
        for &group in &account.biases {
            names.extend(tensors::biases(info, group).into_iter().map(|bias| bias.name));
        }
        for name in names {
            let origin = origin(self, &name)?;
            origins.push((name, origin));
        }
        let gguf = dir.as_gguf(entries, origins, scratch)?;
        let new = ModelSource::from_gguf(gguf)?;
        new.check()?;
        Ok(new)
    }
}

fn not_in_gguf(what: String) -> LoadError {
    LoadError::NotInGguf { what }
}

/// Fails if the architecture of a GGUF is computed in another way.
fn check(info: &ModelInfo, account: &Account) -> Result<(), LoadError> {
    let architecture = info.family.gguf;
    if info.gate != GateFunction::Silu {
        return Err(not_in_gguf(format!(
            "config.json: `hidden_act` is {:?}, and no key of `{architecture}` says another function than silu",
            info.gate
        )));
    }
    let allowed: &[BiasGroup] = match architecture {
        "llama" => &BiasGroup::ALL,
        "qwen2" => &[BiasGroup::Qkv],
        _ => &[],
    };
    match account.biases.iter().find(|group| !allowed.contains(group)) {
        Some(group) => Err(not_in_gguf(format!(
            "the model has biases ({group:?}), for which a GGUF of `{architecture}` has no tensors"
        ))),
        None => Ok(()),
    }
}

/// Where a tensor comes from, by its GGUF name.
fn origin(source: &ModelSource, name: &str) -> Result<Origin, LoadError> {
    let missing = || super::info::missing(&source.own_name(name), source.tensors().map(|tensor| tensor.name));
    let tensor = source.tensor(name).ok_or_else(missing)?;
    if !matches!(tensor.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(not_in_gguf(format!(
            "tensor `{}` is {}; only F32, F16 and BF16 can be written",
            tensor.name, tensor.dtype
        )));
    }
    let rows = interleaved(source.info(), name);
    let own_name = tensor.name.to_owned();
    if tensor.shape.len() > 1 {
        return Ok(match rows {
            Some(rows) => Origin::Rows { tensor: own_name, rows },
            None => Origin::Tensor(own_name),
        });
    }
    let values = floats(&tensor)?;
    let values = match rows {
        Some(rows) => rows.into_iter().map(|row| values[row]).collect(),
        None => values,
    };
    Ok(Origin::Values { tensor: Some(own_name), shape: tensor.shape.to_vec(), values })
}

/// The directory's rows in the order of the GGUF, where that is another one.
fn interleaved(info: &ModelInfo, name: &str) -> Option<Vec<usize>> {
    let n_heads = match name.strip_prefix("blk.")?.split_once('.')?.1.split('.').next()? {
        _ if !info.family.interleaved_in_gguf => return None,
        "attn_q" => info.n_heads,
        "attn_k" => info.n_kv_heads,
        _ => return None,
    };
    let (head_dim, half) = (info.head_dim, info.head_dim / 2);
    let of_row = |row: usize| {
        let (head, channel) = (row / head_dim, row % head_dim);
        head * head_dim + channel % 2 * half + channel / 2
    };
    Some((0..n_heads * head_dim).map(of_row).collect())
}

fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>, LoadError> {
    let mut values = vec![0.0; tensor.n_values()];
    lossy_quant::dequantize(tensor.dtype, tensor.bytes, &mut values).map_err(|error| {
        LoadError::Dequantize { name: tensor.name.to_owned(), message: error.to_string() }
    })?;
    Ok(values)
}

type Entries = Vec<(String, Value)>;

/// What the model is, its rotation and tokenizer apart.
fn model_entries(source: &ModelSource, dir: &HfDir) -> Result<Entries, LoadError> {
    let info = source.info();
    let folder = || Some(dir.directory().canonicalize().ok()?.file_name()?.to_string_lossy().into_owned());
    let name = info.name.clone().or_else(folder).unwrap_or_default();
    // This program reads a GGUF's LongRoPE up to its original context, as it does here; others go on behind it.
    let n_ctx = match info.rope.scaling {
        RopeScaling::LongRope(_) => dir.config()["max_position_embeddings"].as_u64().map(|n| n as usize),
        _ => None,
    };
    let n_ctx = n_ctx.unwrap_or(info.n_ctx_train);
    // ggml's numbers of files that are mostly of one type.
    let file_type: u32 = match source.tensor(EMBEDDING).map(|tensor| tensor.dtype) {
        Some(DType::F16) => 1,
        Some(DType::BF16) => 32,
        _ => 0,
    };
    let mut entries: Entries = vec![
        ("general.architecture".to_owned(), Value::from(info.family.gguf)),
        ("general.type".to_owned(), Value::from("model")),
        ("general.name".to_owned(), Value::from(name.as_str())),
        ("general.file_type".to_owned(), Value::U32(file_type)),
        ("general.quantization_version".to_owned(), Value::U32(2)),
    ];
    let counts = [
        ("block_count", info.n_layers),
        ("context_length", n_ctx),
        ("embedding_length", info.n_embd),
        ("feed_forward_length", info.n_ff),
        ("attention.head_count", info.n_heads),
        ("attention.head_count_kv", info.n_kv_heads),
        ("attention.key_length", info.head_dim),
        ("attention.value_length", info.head_dim),
        ("rope.dimension_count", info.head_dim),
        ("vocab_size", info.n_vocab),
    ];
    for (key, count) in counts {
        let count = u32::try_from(count)
            .map_err(|_| not_in_gguf(format!("`{key}` would be {count}, which 32 bits do not hold")))?;
        entries.push((key_of(info, key), Value::U32(count)));
    }
    entries.push((key_of(info, "attention.layer_norm_rms_epsilon"), Value::F32(info.rms_eps)));
    Ok(entries)
}

fn key_of(info: &ModelInfo, key: &str) -> String {
    format!("{}.{key}", info.family.gguf)
}

/// The rotation, as far as keys say it.
fn rope_entries(info: &ModelInfo) -> Result<Entries, LoadError> {
    let RopeConfig { base, scaling } = &info.rope;
    let mut entries = vec![(key_of(info, "rope.freq_base"), Value::F32(*base as f32))];
    let mut set =
        |key: &str, value: Value| entries.push((key_of(info, &format!("rope.scaling.{key}")), value));
    let whole = |key: &str, value: f64| match value.fract() == 0.0 && value <= f64::from(u32::MAX) {
        true => Ok(Value::U32(value as u32)),
        false => Err(not_in_gguf(format!("`{key}` is {value}, and a GGUF has it as a whole number"))),
    };
    match scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) => {}
        RopeScaling::Linear { factor } => {
            set("type", Value::from("linear"));
            set("factor", Value::F32(*factor as f32));
        }
        RopeScaling::Yarn(yarn) => {
            if !yarn.is_truncated {
                return Err(not_in_gguf(
                    "config.json: `truncate` of the rotation is false, for which GGUF has no key".to_owned(),
                ));
            }
            if yarn.factor < 1.0 {
                return Err(not_in_gguf(format!(
                    "config.json: the rotation's factor is {}, and other programs take one below 1 in another way",
                    yarn.factor
                )));
            }
            set("type", Value::from("yarn"));
            set("factor", Value::F32(yarn.factor as f32));
            set("original_context_length", whole("original_max_position_embeddings", yarn.original_context)?);
            set("yarn_beta_fast", Value::F32(yarn.beta_fast as f32));
            set("yarn_beta_slow", Value::F32(yarn.beta_slow as f32));
            if let Some(factor) = yarn.attention_factor {
                // There it multiplies what follows from the factor.
                set("attn_factor", Value::F32((factor / (0.1 * yarn.factor.ln() + 1.0)) as f32));
            }
        }
        RopeScaling::LongRope(long) => {
            set("type", Value::from("longrope"));
            set("attn_factor", Value::F32(long.attention_factor as f32));
            set("original_context_length", whole("original_max_position_embeddings", long.original_context)?);
        }
    }
    Ok(entries)
}

/// The rotation, as far as tensors say it.
fn rope_tensors(info: &ModelInfo, keys: &RopeKeys<'_>) -> Result<Vec<(String, Origin)>, LoadError> {
    let of = |name: &str, values: Vec<f32>| {
        (name.to_owned(), Origin::Values { tensor: None, shape: vec![values.len()], values })
    };
    let tensors = match &info.rope.scaling {
        RopeScaling::Llama3 { .. } => {
            let rope = Rope::new(&info.rope, info.head_dim);
            vec![of(FACTORS, rope.divisors(&info.rope))]
        }
        RopeScaling::LongRope(long) => {
            let long_factors = keys.factors("long_factor", info.head_dim / 2)?;
            vec![of(LONG_FACTORS, long_factors), of(SHORT_FACTORS, long.short_factors.clone())]
        }
        _ => Vec::new(),
    };
    if let [(name, _), ..] = tensors.as_slice()
        && info.family.gguf != "llama"
    {
        return Err(not_in_gguf(format!(
            "the rotation needs the tensor `{name}`, which llama.cpp does not read in a GGUF of `{}`",
            info.family.gguf
        )));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests;
