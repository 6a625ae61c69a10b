//! Hugging Face directories that load in a moment: the random models of `testdata/tiny`, with a tokenizer.

use std::fs;
use std::path::{Path, PathBuf};

use lossy_formats::gguf::Gguf;
use lossy_formats::hf::write::SafetensorsWriter;
use serde_json::{Value, json};

use crate::{testdata, tiny_model};

/// Copies the directory of a tiny model into `folder`, which gets its name, and adds the tokenizer of [`tokenizer_json`].
///
/// # Panics
/// If there is no such model, or `folder` cannot be written to.
pub fn write(folder: &Path, name: &str) -> PathBuf {
    let directory = folder.join(name);
    fs::create_dir_all(&directory).expect("a folder in a temporary one");
    for entry in fs::read_dir(testdata().join("tiny").join(name)).expect("a tiny model") {
        let path = entry.expect("a file of testdata").path();
        let kind = path.extension().and_then(|end| end.to_str());
        if matches!(kind, Some("json" | "safetensors")) && !path.ends_with("reference.json") {
            fs::copy(&path, directory.join(path.file_name().unwrap_or_default())).expect("a copy");
        }
    }
    write_json(&directory.join("tokenizer.json"), &tokenizer_json());
    write_json(&directory.join("tokenizer_config.json"), &tokenizer_config());
    directory
}

/// Writes [`tiny_model::wide`] as a directory of this name, with the tokenizer of [`tokenizer_json`] and its weights in so many shards.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write_wide(folder: &Path, name: &str, n_shards: usize) -> PathBuf {
    let directory = folder.join(name);
    fs::create_dir_all(&directory).expect("a folder in a temporary one");
    let model = Gguf::from_bytes(tiny_model::wide()).expect("a tiny model");
    let n_tensors = model.tensors().len();
    let mut shards = vec![SafetensorsWriter::new(); n_shards];
    let mut shard_of = serde_json::Map::new();
    for (index, tensor) in model.tensors().enumerate() {
        let shard = index * n_shards / n_tensors;
        let name = directory_name(tensor.name);
        let bytes = match tensor.name.contains("attn_q.") || tensor.name.contains("attn_k.") {
            true => half_split(tensor.bytes, tensor.shape[0]),
            false => tensor.bytes.to_vec(),
        };
        shards[shard] = shards[shard].clone().tensor(&name, "F32", tensor.shape, &bytes);
        shard_of.insert(name, shard_name(shard, n_shards).into());
    }
    for (shard, writer) in shards.iter().enumerate() {
        fs::write(directory.join(shard_name(shard, n_shards)), writer.to_bytes()).expect("a file");
    }
    if n_shards > 1 {
        let index = json!({"metadata": {}, "weight_map": shard_of});
        write_json(&directory.join("model.safetensors.index.json"), &index);
    }
    let key = |name: &str| model.metadata().u64(&format!("llama.{name}")).expect("a key of the tiny model");
    let config = json!({
        "model_type": "llama", "hidden_size": key("embedding_length"), "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": key("block_count"), "num_attention_heads": key("attention.head_count"),
        "max_position_embeddings": key("context_length"), "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
    });
    write_json(&directory.join("config.json"), &config);
    write_json(&directory.join("tokenizer.json"), &tokenizer_json());
    write_json(&directory.join("tokenizer_config.json"), &tokenizer_config());
    directory
}

fn shard_name(shard: usize, n_shards: usize) -> String {
    match n_shards {
        1 => "model.safetensors".to_owned(),
        n => format!("model-{:05}-of-{n:05}.safetensors", shard + 1),
    }
}

/// What transformers calls a tensor of a Llama.
fn directory_name(gguf: &str) -> String {
    const PARTS: [(&str, &str); 9] = [
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ];
    match gguf.split('.').collect::<Vec<_>>()[..] {
        ["blk", layer, part, kind] => {
            let (_, theirs) = PARTS.iter().find(|(ours, _)| *ours == part).expect("a part of a layer");
            format!("model.layers.{layer}.{theirs}.{kind}")
        }
        ["token_embd", kind] => format!("model.embed_tokens.{kind}"),
        ["output_norm", kind] => format!("model.norm.{kind}"),
        _ => "lm_head.weight".to_owned(),
    }
}

/// The rows of one head whose rotary pairs are neighbours, with the first of all pairs before the second.
fn half_split(bytes: &[u8], n_rows: usize) -> Vec<u8> {
    let row_bytes = bytes.len() / n_rows;
    let rows = (0..n_rows).step_by(2).chain((1..n_rows).step_by(2));
    rows.flat_map(|row| &bytes[row * row_bytes..][..row_bytes]).copied().collect()
}

/// Writes a JSON file.
///
/// # Panics
/// If the system does not let us.
pub fn write_json(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).expect("a file in a temporary folder");
}

/// Changes a JSON file.
///
/// # Panics
/// If it is none, or cannot be written.
pub fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let text = fs::read(path).expect("a file in a temporary folder");
    let mut value = serde_json::from_slice(&text).expect("JSON");
    change(&mut value);
    write_json(path, &value);
}

/// What the words of Qwen 2 are cut by.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer of some 60 tokens with Qwen's words: bytes of small letters, digits and some signs.
pub fn tokenizer_json() -> Value {
    let special = ["<|bos|>", "<|im_start|>", "<|im_end|>"];
    let merges = [["t", "h"], ["th", "e"], ["Ġ", "t"], ["Ġ", "the"], ["i", "n"], ["1", "2"]];
    let bytes = ('a'..='z').chain('0'..='9').chain(".,!?'-()".chars()).chain(['Ġ', 'Ċ']);
    let mut tokens: Vec<String> = special.map(str::to_owned).to_vec();
    tokens.extend(bytes.map(String::from));
    tokens.extend(merges.map(|pair| pair.concat()));
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, text)| (text.clone(), id.into())).collect();
    let added = |id: usize, text: &str, is_special: bool| {
        json!({
            "id": id, "content": text, "special": is_special, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false
        })
    };
    let mut all: Vec<Value> = special.iter().enumerate().map(|(id, text)| added(id, text, true)).collect();
    all.push(added(tokens.len(), "<tool>", false));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": all, "post_processor": null,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    })
}

fn tokenizer_config() -> Value {
    json!({
        "bos_token": "<|bos|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}{{ eos_token }}{% endfor %}",
    })
}
