//! Tensor names: GGUF's are used throughout, a Hugging Face directory is asked by its own.

/// (GGUF, Hugging Face) names of the tensors outside the layers.
const GLOBAL: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// (GGUF, Hugging Face) names inside a layer, without `.weight` or `.bias`.
const IN_LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The GGUF name of a layer's tensor.
pub(crate) fn in_layer(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}")
}

/// The Hugging Face name of the tensor that GGUF calls `gguf`.
pub(crate) fn hf_name(gguf: &str) -> Option<String> {
    if let Some((_, hf)) = GLOBAL.iter().find(|(name, _)| *name == gguf) {
        return Some(hf.to_string());
    }
    let (layer, part) = gguf.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (_, hf) = IN_LAYER.iter().find(|(name, _)| *name == part)?;
    Some(format!("model.layers.{layer}.{hf}.{kind}"))
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
}
