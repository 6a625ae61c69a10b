//! Models that load in a moment and babble: random weights with a SentencePiece vocabulary of single characters.

use std::fs;
use std::path::{Path, PathBuf};

use lossy_formats::gguf::{Gguf, Value, write::GgufWriter};
use lossy_quant::DType;

use crate::testdata;

/// Tokens of its vocabulary; it was trained on 64, as the file says.
pub(crate) const N_VOCAB: usize = 80;
/// Those before the characters, which begin with `!`.
const N_CONTROL: usize = 4;

/// Writes the tiny Llama of `testdata` into `folder`, without a chat template.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write(folder: &Path) -> PathBuf {
    write_with_template(folder, None)
}

/// Writes it into `folder`.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write_with_template(folder: &Path, template: Option<&str>) -> PathBuf {
    write_with(folder, |file| match template {
        Some(template) => file.set("tokenizer.chat_template", template),
        None => file,
    })
}

/// Writes it into `folder`, with what `add` adds to the keys.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write_with(folder: &Path, add: impl FnOnce(GgufWriter) -> GgufWriter) -> PathBuf {
    write_file(&folder.join("tiny.gguf"), &Changes::default(), add)
}

/// What is not as in the tiny model.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// keys that are added or replaced
    pub keys: Vec<(String, Value)>,
    /// texts of tokens, by id
    pub tokens: Vec<(usize, String)>,
    /// a tensor that no model has
    pub extra_tensor: Option<String>,
    /// another name of a tensor that the model needs
    pub renamed_tensor: Option<String>,
}

/// Writes it with changes into `folder`.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write_changed(folder: &Path, name: &str, changes: &Changes) -> PathBuf {
    write_file(&folder.join(name), changes, |file| file)
}

fn write_file(path: &Path, changes: &Changes, add: impl FnOnce(GgufWriter) -> GgufWriter) -> PathBuf {
    let weights = Gguf::open(&testdata().join("tiny/llama/model.gguf")).expect("a tiny model");
    let is_changed = |key: &str| changes.keys.iter().any(|(changed, _)| changed == key);
    let mut writer = GgufWriter::new();
    for (key, value) in weights.metadata().iter().filter(|(key, _)| !is_changed(key)) {
        writer = writer.set(key, value.clone());
    }
    for (key, value) in tokenizer(&changes.tokens).into_iter().filter(|(key, _)| !is_changed(key)) {
        writer = writer.set(key, value);
    }
    for (key, value) in &changes.keys {
        writer = writer.set(key, value.clone());
    }
    writer = add(writer);
    let last = weights.tensors().count() - 1;
    for (index, tensor) in weights.tensors().enumerate() {
        let renamed = changes.renamed_tensor.as_deref().filter(|_| index == last);
        writer = writer.tensor(renamed.unwrap_or(tensor.name), tensor.dtype, tensor.shape, tensor.bytes);
    }
    if let Some(name) = &changes.extra_tensor {
        writer = writer.tensor_from_f32(name, DType::F32, &[1, 2], &[0.0; 2]);
    }
    fs::write(path, writer.to_bytes()).expect("a file in a temporary folder");
    path.to_path_buf()
}

/// Writes [`wide`] into `folder`.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write_wide(folder: &Path) -> PathBuf {
    let path = folder.join("wide.gguf");
    fs::write(&path, wide()).expect("a file in a temporary folder");
    path
}

/// The character of [`write_poisoned`] that no pass survives, and its token. No calibration text has it.
pub const POISON: (char, usize) = ('^', N_CONTROL + ('^' as usize - '!' as usize));

/// Writes [`wide`] into `folder`, with weights that overflow where a text has the [`POISON`], and nowhere else: only its row of the
/// embedding has a first channel, which the first MLP multiplies by more than float32 holds.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write_poisoned(folder: &Path) -> PathBuf {
    let path = folder.join("poisoned.gguf");
    let bytes = wide_with(|name, values| match name {
        "token_embd.weight" => {
            for (id, row) in values.chunks_exact_mut(WIDTH).enumerate() {
                row[0] = if id == POISON.1 { 8.0 } else { 0.0 };
            }
        }
        // What attention adds must not reach the channel either.
        "blk.0.attn_output.weight" => values[..WIDTH].fill(0.0),
        "blk.0.ffn_up.weight" | "blk.0.ffn_gate.weight" => {
            values.iter_mut().step_by(WIDTH).for_each(|value| *value = 1e30);
        }
        _ => {}
    });
    fs::write(&path, bytes).expect("a file in a temporary folder");
    path
}

/// The GGUF of a model whose four layers have one head of 64 channels, so that every KV scheme fits it, and whose context is
/// of 1,024 tokens.
pub fn wide() -> Vec<u8> {
    wide_with(|_, _| {})
}

/// Channels of [`wide`].
const WIDTH: usize = 64;

/// The same, with weights that `change` has changed; it gets the name of a tensor and its values.
fn wide_with(change: impl Fn(&str, &mut [f32])) -> Vec<u8> {
    const N_LAYERS: usize = 4;
    let mut writer = GgufWriter::new()
        .set("general.architecture", "llama")
        .set("llama.block_count", N_LAYERS as u32)
        .set("llama.context_length", 1024u32)
        .set("llama.embedding_length", WIDTH as u32)
        .set("llama.feed_forward_length", WIDTH as u32)
        .set("llama.attention.head_count", 1u32)
        .set("llama.attention.head_count_kv", 1u32)
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    for (key, value) in tokenizer(&[]) {
        writer = writer.set(key, value);
    }
    let mut state = 1u64;
    // Sums of three numbers that a generator (Knuth's MMIX) makes: nearly normal, with this deviation.
    let mut random = |len: usize, deviation: f32| -> Vec<f32> {
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..len).map(|_| 2.0 * deviation * (unit() + unit() + unit())).collect()
    };
    let mut add = |writer: GgufWriter, name: &str, rows: usize, deviation: f32| {
        let mut values = random(rows * WIDTH, deviation);
        change(name, &mut values);
        writer.tensor_from_f32(name, DType::F32, &[rows, WIDTH], &values)
    };
    writer = add(writer, "token_embd.weight", N_VOCAB, 1.0);
    for layer in 0..N_LAYERS {
        for matrix in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            writer = add(writer, &format!("blk.{layer}.{matrix}.weight"), WIDTH, 0.2);
        }
        for norm in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{norm}.weight");
            writer = writer.tensor_from_f32(&name, DType::F32, &[WIDTH], &[1.0; WIDTH]);
        }
    }
    writer = writer.tensor_from_f32("output_norm.weight", DType::F32, &[WIDTH], &[1.0; WIDTH]);
    add(writer, "output.weight", N_VOCAB, 0.25).to_bytes()
}

/// A SentencePiece vocabulary of single characters, but for tokens that are given by id.
pub(crate) fn tokenizer(others: &[(usize, String)]) -> Vec<(&'static str, Value)> {
    let characters = ('!'..='~').map(String::from);
    let control: [&str; N_CONTROL] = ["<unk>", "<s>", "</s>", "▁"];
    let mut tokens: Vec<String> =
        control.map(String::from).into_iter().chain(characters).take(N_VOCAB).collect();
    for (id, text) in others {
        tokens[*id].clone_from(text);
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let types: Vec<i32> = (0..N_VOCAB).map(|id| [2, 3, 3].get(id).copied().unwrap_or(1)).collect();
    vec![
        ("tokenizer.ggml.model", "llama".into()),
        ("tokenizer.ggml.tokens", tokens.into()),
        ("tokenizer.ggml.scores", vec![0.0f32; N_VOCAB].into()),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.bos_token_id", 1u32.into()),
        ("tokenizer.ggml.eos_token_id", 2u32.into()),
        ("tokenizer.ggml.unknown_token_id", 0u32.into()),
    ]
}
