//! What recipes know about tensors, by their names.

/// The kinds of tensors that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    TokenEmbedding,
    Output,
    /// queries, keys and values in one
    Qkv,
    /// keys and values out of a compressed form
    KvB,
    Value,
    Key,
    AttentionOutput,
    Down,
    Other,
}

impl Category {
    /// Whether it holds values, which suffer most.
    pub(super) fn is_value(self) -> bool {
        matches!(self, Category::Value | Category::Qkv | Category::KvB)
    }
}

/// The kind of a tensor.
pub(super) fn category(name: &str) -> Category {
    const BY_PART: [(&str, Category); 6] = [
        ("attn_qkv.weight", Category::Qkv),
        ("attn_kv_b.weight", Category::KvB),
        ("attn_v.weight", Category::Value),
        ("attn_k.weight", Category::Key),
        ("attn_output.weight", Category::AttentionOutput),
        ("ffn_down", Category::Down),
    ];
    match name {
        "output.weight" => Category::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Category::TokenEmbedding,
        _ => {
            BY_PART.iter().find(|(part, _)| name.contains(part)).map_or(Category::Other, |&(_, found)| found)
        }
    }
}

/// Parts of the names of matrices that stay as they are: small ones, and those that choose or place.
const KEPT: [&str; 12] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "position_embd",
    "token_types",
];

/// Whether a recipe chooses the type of this tensor.
pub(crate) fn is_quantized(name: &str, shape: &[usize]) -> bool {
    // Trailing ones of a GGUF's dimensions do not count, and those are our leading ones.
    let n_dims = shape.len() - shape.iter().take_while(|&&n| n == 1).count();
    n_dims >= 2 && name.ends_with("weight") && !KEPT.iter().any(|part| name.contains(part))
}
