//! The tensors of a model: one row each, with its two names and its shape.
//!
//! GGUF's names are used throughout, a Hugging Face directory is asked by its own, and errors use those of the file.

use super::ModelInfo;

/// A number of rows, columns or values, in the words of [`ModelInfo`].
#[derive(Clone, Copy, Debug)]
enum Width {
    Vocab,
    Embd,
    Ff,
    /// `n_heads · head_dim`
    Queries,
    /// `n_kv_heads · head_dim`
    Keys,
    HeadDim,
}

impl Width {
    fn of(self, info: &ModelInfo) -> usize {
        match self {
            Width::Vocab => info.n_vocab,
            Width::Embd => info.n_embd,
            Width::Ff => info.n_ff,
            Width::Queries => info.n_heads * info.head_dim,
            Width::Keys => info.n_kv_heads * info.head_dim,
            Width::HeadDim => info.head_dim,
        }
    }
}

/// Projections whose biases come together: all of them, in every layer, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BiasGroup {
    /// of Q, K and V
    Qkv,
    /// of attention's output
    Output,
    /// of gate, up and down
    Mlp,
}

impl BiasGroup {
    pub(super) const ALL: [BiasGroup; 3] = [BiasGroup::Qkv, BiasGroup::Output, BiasGroup::Mlp];
}

/// A tensor of every layer, or two: a weight and its bias.
#[derive(Debug)]
pub(super) struct Part {
    /// as GGUF has it, without `.weight`
    gguf: &'static str,
    /// as a Hugging Face directory has it, without `.weight`
    hf: &'static str,
    /// rows and columns, or the values of a vector
    shape: &'static [Width],
    bias: Option<BiasGroup>,
    /// only where the family has norms on queries and keys
    is_qk_norm: bool,
}

const fn norm(gguf: &'static str, hf: &'static str) -> Part {
    Part { gguf, hf, shape: &[Width::Embd], bias: None, is_qk_norm: false }
}

const fn qk_norm(gguf: &'static str, hf: &'static str) -> Part {
    Part { gguf, hf, shape: &[Width::HeadDim], bias: None, is_qk_norm: true }
}

const fn matrix(gguf: &'static str, hf: &'static str, shape: &'static [Width], bias: BiasGroup) -> Part {
    Part { gguf, hf, shape, bias: Some(bias), is_qk_norm: false }
}

/// What a layer has.
const IN_LAYER: &[Part] = &[
    norm("attn_norm", "input_layernorm"),
    matrix("attn_q", "self_attn.q_proj", &[Width::Queries, Width::Embd], BiasGroup::Qkv),
    matrix("attn_k", "self_attn.k_proj", &[Width::Keys, Width::Embd], BiasGroup::Qkv),
    matrix("attn_v", "self_attn.v_proj", &[Width::Keys, Width::Embd], BiasGroup::Qkv),
    qk_norm("attn_q_norm", "self_attn.q_norm"),
    qk_norm("attn_k_norm", "self_attn.k_norm"),
    matrix("attn_output", "self_attn.o_proj", &[Width::Embd, Width::Queries], BiasGroup::Output),
    norm("ffn_norm", "post_attention_layernorm"),
    matrix("ffn_gate", "mlp.gate_proj", &[Width::Ff, Width::Embd], BiasGroup::Mlp),
    matrix("ffn_up", "mlp.up_proj", &[Width::Ff, Width::Embd], BiasGroup::Mlp),
    matrix("ffn_down", "mlp.down_proj", &[Width::Embd, Width::Ff], BiasGroup::Mlp),
];

pub(super) const EMBEDDING: &str = "token_embd.weight";
pub(super) const OUTPUT_NORM: &str = "output_norm.weight";
/// the output matrix; a model without it uses the embedding
pub(super) const OUTPUT: &str = "output.weight";

/// Outside the layers: GGUF's name, the Hugging Face name, the shape.
const OUTSIDE: &[(&str, &str, &[Width])] = &[
    (EMBEDDING, "model.embed_tokens.weight", &[Width::Vocab, Width::Embd]),
    (OUTPUT_NORM, "model.norm.weight", &[Width::Embd]),
    (OUTPUT, "lm_head.weight", &[Width::Vocab, Width::Embd]),
];

/// A tensor that a model should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// GGUF's name
    pub name: String,
    /// rows, columns
    pub shape: Vec<usize>,
}

/// The weights of a model but for its output matrix, which may be the embedding.
pub(super) fn weights(info: &ModelInfo) -> Vec<Expected> {
    let expected = |name: String, shape: &[Width]| Expected {
        name,
        shape: shape.iter().map(|width| width.of(info)).collect(),
    };
    let outside = OUTSIDE.iter().filter(|(name, ..)| *name != OUTPUT);
    let mut list: Vec<_> = outside.map(|(name, _, shape)| expected(name.to_string(), shape)).collect();
    let parts = || IN_LAYER.iter().filter(|part| !part.is_qk_norm || info.family.qk_norm);
    for layer in 0..info.n_layers {
        list.extend(parts().map(|part| expected(in_layer(layer, part.gguf) + ".weight", part.shape)));
    }
    list
}

/// The biases of a group, in every layer.
pub(super) fn biases(info: &ModelInfo, group: BiasGroup) -> Vec<Expected> {
    let parts = || IN_LAYER.iter().filter(|part| part.bias == Some(group));
    let of_layer = |layer: usize| {
        parts().map(move |part| Expected {
            name: in_layer(layer, part.gguf) + ".bias",
            shape: vec![part.shape[0].of(info)],
        })
    };
    (0..info.n_layers).flat_map(of_layer).collect()
}

/// The shape of the output matrix.
pub(super) fn output(info: &ModelInfo) -> Expected {
    Expected { name: OUTPUT.to_string(), shape: vec![info.n_vocab, info.n_embd] }
}

/// The GGUF name of a layer's tensor.
pub(super) fn in_layer(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}")
}

/// The Hugging Face name of the tensor that GGUF calls `gguf`.
pub(super) fn hf_name(gguf: &str) -> Option<String> {
    if let Some((_, hf, _)) = OUTSIDE.iter().find(|(name, ..)| *name == gguf) {
        return Some(hf.to_string());
    }
    let (layer, part) = gguf.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let part = IN_LAYER.iter().find(|known| known.gguf == part)?;
    Some(format!("model.layers.{layer}.{}.{kind}", part.hf))
}

/// Tensors that a file may have and that change nothing: how the name begins, how it ends, and why.
const CHANGE_NOTHING: &[(&str, &str, &str)] = &[
    ("model.", "rotary_emb.inv_freq", "frequencies follow from the configuration, in transformers too"),
    ("blk.", "attn_rot_embd.weight", "the same in GGUF; llama.cpp does not read it either"),
];

/// Whether a tensor of a file, by the name that it has there, is known to change nothing.
pub(super) fn changes_nothing(name: &str) -> bool {
    CHANGE_NOTHING.iter().any(|(start, end, _)| name.starts_with(start) && name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_inside_and_outside_layers() {
        assert_eq!(hf_name("output.weight").unwrap(), "lm_head.weight");
        assert_eq!(hf_name("blk.12.attn_q.bias").unwrap(), "model.layers.12.self_attn.q_proj.bias");
        assert_eq!(hf_name(&in_layer(0, "ffn_down.weight")).unwrap(), "model.layers.0.mlp.down_proj.weight");
        assert_eq!(hf_name("blk.1.ssm_a.weight"), None);
        assert_eq!(hf_name("rope_freqs.weight"), None);
    }

    #[test]
    fn only_frequencies_are_known_to_change_nothing() {
        assert!(changes_nothing("model.layers.3.self_attn.rotary_emb.inv_freq"));
        assert!(changes_nothing("blk.3.attn_rot_embd.weight"));
        for (_, hf, _) in OUTSIDE {
            assert!(!changes_nothing(hf));
        }
        assert!(!changes_nothing("model.layers.3.self_attn.rotary_emb.scale"));
    }
}
