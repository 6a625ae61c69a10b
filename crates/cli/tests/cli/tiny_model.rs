//! A model that loads in a moment and babbles: the random weights of a tiny Llama with a SentencePiece vocabulary of
//! single characters.

use std::fs;
use std::path::{Path, PathBuf};

use lossy_formats::gguf::{Gguf, write::GgufWriter};
use lossy_testkit::testdata;

/// Tokens of its vocabulary; it was trained on 64, as the file says.
const N_VOCAB: usize = 80;

/// Writes it into `folder`, without a chat template.
pub fn write(folder: &Path) -> PathBuf {
    write_with_template(folder, None)
}

/// Writes it into `folder`.
pub fn write_with_template(folder: &Path, template: Option<&str>) -> PathBuf {
    let weights = Gguf::open(&testdata().join("tiny/llama/model.gguf")).expect("a tiny model");
    let mut writer = GgufWriter::new();
    for (key, value) in weights.metadata().iter() {
        writer = writer.set(key, value.clone());
    }
    let characters: Vec<String> = ('!'..='~').map(String::from).collect();
    let tokens = ["<unk>", "<s>", "</s>", "▁"].into_iter().chain(characters.iter().map(String::as_str));
    let tokens: Vec<&str> = tokens.take(N_VOCAB).collect();
    let types: Vec<i32> = (0..N_VOCAB).map(|id| [2, 3, 3].get(id).copied().unwrap_or(1)).collect();
    writer = writer
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.scores", vec![0.0f32; N_VOCAB])
        .set("tokenizer.ggml.token_type", types)
        .set("tokenizer.ggml.bos_token_id", 1u32)
        .set("tokenizer.ggml.eos_token_id", 2u32)
        .set("tokenizer.ggml.unknown_token_id", 0u32);
    if let Some(template) = template {
        writer = writer.set("tokenizer.chat_template", template);
    }
    for tensor in weights.tensors() {
        writer = writer.tensor(tensor.name, tensor.dtype, tensor.shape, tensor.bytes);
    }
    let path = folder.join("tiny.gguf");
    fs::write(&path, writer.to_bytes()).expect("a file in a temporary folder");
    path
}
