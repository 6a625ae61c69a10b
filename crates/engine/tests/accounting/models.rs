//! Tiny random models of every family, as configuration and tensors, ready to be changed and written.

use std::fs;
use std::path::Path;

use lossy_engine::{
    ActivationKind, BatchItem, CacheOptions, Engine, EngineError, EngineOptions, LoadError, Logits,
    ModelSource, Unread,
};
use lossy_formats::gguf::Gguf;
use lossy_formats::gguf::write::GgufWriter;
use lossy_formats::hf::write::SafetensorsWriter;
use lossy_quant::DType;
use lossy_testkit::noise;
use serde_json::{Value, json};

use crate::reference::{Names, Tensor, Tensors};

pub const N_LAYERS: usize = 2;
const N_EMBD: usize = 32;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const N_FF: usize = 48;
pub const N_VOCAB: usize = 40;
/// Longer than the windows and original contexts of the changes.
pub const IDS: [u32; 14] = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 32, 38, 4];

pub const FAMILIES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

fn head_dim(family: &str) -> usize {
    if family == "qwen3" { 16 } else { 8 }
}

fn has_bias(family: &str, part: usize) -> bool {
    family == "qwen2" && (1..=3).contains(&part)
}

/// The shape of a part's weight, in the order of [`Names::parts`].
pub fn shape(family: &str, part: usize) -> Vec<usize> {
    let (q, kv) = (N_HEADS * head_dim(family), N_KV_HEADS * head_dim(family));
    match part {
        0 | 7 => vec![N_EMBD],
        1 => vec![q, N_EMBD],
        2 | 3 => vec![kv, N_EMBD],
        4 | 5 => vec![head_dim(family)],
        6 => vec![N_EMBD, q],
        8 | 9 => vec![N_FF, N_EMBD],
        _ => vec![N_EMBD, N_FF],
    }
}

/// A tensor of random values: around 1 for norms, around 0 for the rest.
pub fn random(name: &str, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let (mean, deviation) = if name.contains("norm") { (1.0, 0.2) } else { (0.0, 0.25) };
    Tensor { shape: shape.to_vec(), values: noise(seed, n).iter().map(|x| mean + deviation * x).collect() }
}

/// All tensors of a family, under the names of a format.
pub fn tensors(family: &str, names: &Names) -> Tensors {
    let mut tensors = Tensors::new();
    let mut put = |name: String, shape: &[usize]| {
        tensors.insert(name.clone(), random(&name, shape));
    };
    put(format!("{}.weight", names.embedding), &[N_VOCAB, N_EMBD]);
    put(format!("{}.weight", names.output_norm), &[N_EMBD]);
    put(format!("{}.weight", names.output), &[N_VOCAB, N_EMBD]);
    for layer in 0..N_LAYERS {
        for (part, part_name) in names.parts.iter().enumerate() {
            if (part == 4 || part == 5) && family != "qwen3" {
                continue;
            }
            let name = format!("{}{layer}{}{part_name}", names.layer.0, names.layer.1);
            put(format!("{name}.weight"), &shape(family, part));
            if has_bias(family, part) {
                put(format!("{name}.bias"), &shape(family, part)[..1]);
            }
        }
    }
    tensors
}

/// `config.json` as transformers writes it.
pub fn config(family: &str) -> Value {
    let mut config = json!({
        "architectures": [match family {
            "llama" => "LlamaForCausalLM",
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            _ => "Qwen3ForCausalLM",
        }],
        "model_type": family,
        "hidden_size": N_EMBD, "intermediate_size": N_FF, "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS, "num_key_value_heads": N_KV_HEADS,
        "vocab_size": N_VOCAB, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": false, "attention_dropout": 0.0, "initializer_range": 0.02, "dtype": "float32",
        "bos_token_id": null, "eos_token_id": 2, "pad_token_id": null, "use_cache": true,
        "transformers_version": "5.24.0"
    });
    let more = match family {
        "llama" => json!({"attention_bias": false, "mlp_bias": false, "pretraining_tp": 1, "head_dim": 8}),
        "mistral" => json!({"sliding_window": null, "head_dim": 8}),
        "qwen2" => json!({
            "use_sliding_window": false, "sliding_window": null, "max_window_layers": 28,
            "layer_types": ["full_attention", "full_attention"]
        }),
        _ => json!({
            "use_sliding_window": false, "sliding_window": null, "max_window_layers": 28,
            "layer_types": ["full_attention", "full_attention"], "attention_bias": false, "head_dim": 16
        }),
    };
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// The keys of a GGUF file, as llama.cpp's converter writes them.
pub fn metadata(family: &str) -> Vec<(String, lossy_formats::gguf::Value)> {
    let arch = if family == "mistral" { "llama" } else { family };
    let head_dim = head_dim(family) as u32;
    let mut keys: Vec<(String, lossy_formats::gguf::Value)> = vec![
        ("general.architecture".to_owned(), arch.into()),
        ("general.type".to_owned(), "model".into()),
        ("general.name".to_owned(), "tiny".into()),
        ("general.quantization_version".to_owned(), 2u32.into()),
    ];
    let mut set = |key: &str, value: lossy_formats::gguf::Value| keys.push((format!("{arch}.{key}"), value));
    set("block_count", (N_LAYERS as u32).into());
    set("context_length", 64u32.into());
    set("embedding_length", (N_EMBD as u32).into());
    set("feed_forward_length", (N_FF as u32).into());
    set("attention.head_count", (N_HEADS as u32).into());
    set("attention.head_count_kv", (N_KV_HEADS as u32).into());
    set("attention.key_length", head_dim.into());
    set("attention.value_length", head_dim.into());
    set("attention.layer_norm_rms_epsilon", 1e-5f32.into());
    set("rope.dimension_count", head_dim.into());
    set("rope.freq_base", 10_000f32.into());
    set("vocab_size", (N_VOCAB as u32).into());
    keys
}

/// A GGUF file.
pub fn gguf_bytes(keys: &[(String, lossy_formats::gguf::Value)], tensors: &Tensors) -> Vec<u8> {
    let writer = keys.iter().fold(GgufWriter::new(), |writer, (key, value)| writer.set(key, value.clone()));
    let put = |writer: GgufWriter, (name, tensor): (&String, &Tensor)| {
        writer.tensor_from_f32(name, DType::F32, &tensor.shape, &tensor.values)
    };
    tensors.iter().fold(writer, put).to_bytes()
}

/// A GGUF model.
///
/// # Errors
/// Those of the engine.
pub fn open_gguf(
    keys: &[(String, lossy_formats::gguf::Value)],
    tensors: &Tensors,
) -> Result<ModelSource, LoadError> {
    ModelSource::from_gguf(Gguf::from_bytes(gguf_bytes(keys, tensors))?)
}

/// Writes a Hugging Face directory and opens it.
///
/// # Errors
/// Those of the engine.
pub fn open_hf(folder: &Path, config: &Value, tensors: &Tensors) -> Result<ModelSource, LoadError> {
    let put = |writer: SafetensorsWriter, (name, tensor): (&String, &Tensor)| {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.tensor(name, "F32", &tensor.shape, &bytes)
    };
    let bytes = tensors.iter().fold(SafetensorsWriter::new(), put).to_bytes();
    fs::create_dir_all(folder).expect("a folder for the test");
    fs::write(folder.join("config.json"), config.to_string()).expect("a file for the test");
    fs::write(folder.join("model.safetensors"), bytes).expect("a file for the test");
    ModelSource::open(folder)
}

/// What the program computes: logits after each of the first [`IDS`], as many as the context holds.
///
/// # Errors
/// Those of the engine.
pub fn run(source: &ModelSource, unread: Unread) -> Result<Vec<Vec<f32>>, EngineError> {
    let options = EngineOptions {
        activations: ActivationKind::F32,
        n_threads: Some(1),
        unread,
        ..EngineOptions::default()
    };
    let mut engine = Engine::load(source, &options)?;
    let cache = engine.cache(&CacheOptions::default())?;
    let ids = &IDS[..IDS.len().min(cache.n_ctx())];
    let mut sequence = cache.sequence();
    let item = BatchItem { sequence: &mut sequence, tokens: ids, logits: Logits::All };
    let rows = engine.forward(&mut [item])?;
    Ok((0..rows.len()).map(|row| rows.row(row).to_vec()).collect())
}
