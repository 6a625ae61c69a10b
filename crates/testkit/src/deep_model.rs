//! A model of many small layers: as a file a ninth of what it is in float32.

use std::fs;
use std::path::{Path, PathBuf};

use lossy_formats::gguf::write::GgufWriter;
use lossy_quant::DType;

use crate::tiny_model::{N_VOCAB, tokenizer};

const N_EMBD: usize = 256;
const N_FF: usize = 768;
const HEAD_DIM: usize = 64;

/// The matrices of a layer, their rows and columns; rows are whole super-blocks.
const MATRICES: [(&str, usize, usize); 7] = [
    ("attn_q", N_EMBD, N_EMBD),
    ("attn_k", HEAD_DIM, N_EMBD),
    ("attn_v", HEAD_DIM, N_EMBD),
    ("attn_output", N_EMBD, N_EMBD),
    ("ffn_gate", N_FF, N_EMBD),
    ("ffn_up", N_FF, N_EMBD),
    ("ffn_down", N_EMBD, N_FF),
];

/// Bytes of all matrices of the layers in float32.
pub fn bytes_in_float32(n_layers: usize) -> u64 {
    let of_layer: usize = MATRICES.iter().map(|(_, n_rows, n_cols)| n_rows * n_cols).sum();
    4 * (n_layers * of_layer) as u64
}

/// Writes `deep.gguf`, whose layers are Q3_K.
///
/// # Panics
/// If `folder` cannot be written to.
pub fn write(folder: &Path, n_layers: usize) -> PathBuf {
    let mut writer = GgufWriter::new()
        .set("general.architecture", "llama")
        .set("llama.block_count", n_layers as u32)
        .set("llama.context_length", 512u32)
        .set("llama.embedding_length", N_EMBD as u32)
        .set("llama.feed_forward_length", N_FF as u32)
        .set("llama.attention.head_count", (N_EMBD / HEAD_DIM) as u32)
        .set("llama.attention.head_count_kv", 1u32)
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    for (key, value) in tokenizer(&[]) {
        writer = writer.set(key, value);
    }
    let mut state = 1u64;
    // The highest bits of a generator of Knuth's.
    let mut byte = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let norm = [1.0; N_EMBD];
    let table: Vec<f32> = (0..N_VOCAB * N_EMBD).map(|_| f32::from(byte()) / 128.0 - 1.0).collect();
    writer = writer.tensor_from_f32("token_embd.weight", DType::F16, &[N_VOCAB, N_EMBD], &table);
    for layer in 0..n_layers {
        for (matrix, n_rows, n_cols) in MATRICES {
            let dtype = DType::Q3K;
            let n_blocks = n_rows * n_cols / dtype.block_len();
            let mut bytes: Vec<u8> = (0..n_blocks * dtype.block_bytes()).map(|_| byte()).collect();
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                // A scale of 0.0012 ends a block: with random codes and inner scales, values of some 0.05.
                let at = block.len() - 2;
                block[at..].copy_from_slice(&0x1500u16.to_le_bytes());
            }
            writer = writer.tensor(&format!("blk.{layer}.{matrix}.weight"), dtype, &[n_rows, n_cols], &bytes);
        }
        for name in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{name}.weight");
            writer = writer.tensor_from_f32(&name, DType::F32, &[N_EMBD], &norm);
        }
    }
    writer = writer.tensor_from_f32("output_norm.weight", DType::F32, &[N_EMBD], &norm);
    let path = folder.join("deep.gguf");
    fs::write(&path, writer.to_bytes()).expect("a file in a temporary folder");
    path
}
