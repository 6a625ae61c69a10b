//! The keys of a GGUF file.
//!
//! The list is that of the Python package `gguf` 0.19 (its class `Keys`); what a key means for architectures `llama`, `qwen2`
//! and `qwen3` is what llama.cpp makes of it.

use super::{ABSENT, FALSE, ONE_OR_ZERO, Plain, Row, Rule, TRUE, ZERO};

/// Keys of the file as a whole, and of programs that made it.
pub(in crate::model) const GENERAL: &[Row] = &[
    (&["general.architecture", "general.alignment"], Rule::Computed),
    (&["general.type"], Rule::Only(&[Plain::Text("model")])),
    // Version 1 has other blocks; ggml has written 2 since May 2023.
    (&["general.quantization_version"], Rule::Only(&[Plain::Number(2.0)])),
    (&["general.sampling.*"], Rule::Nothing("how tokens are chosen, which is not what the model computes")),
    (&["general.*"], Rule::Nothing("where the file is from")),
    (&["tokenizer.*"], Rule::Nothing("of the tokenizer, which reads what it needs")),
    (&["split.*"], Rule::Computed),
    (&["quantize.*", "imatrix.*"], Rule::Nothing("how the file was made")),
    // These stand without the name of an architecture, and belong to models that are not computed here.
    (&["adapter.*", "clip.*", "diffusion.*", "xielu.*"], Rule::Only(ABSENT)),
];

/// Keys that begin with the name of the architecture, without it.
pub(in crate::model) const ARCHITECTURE: &[Row] = &[
    (&["block_count", "context_length", "embedding_length", "feed_forward_length"], Rule::Computed),
    (&["vocab_size"], Rule::Computed),
    (&["attention.head_count", "attention.head_count_kv"], Rule::Computed),
    (&["attention.key_length", "attention.value_length", "rope.dimension_count"], Rule::Computed),
    (&["attention.layer_norm_rms_epsilon", "attention.sliding_window"], Rule::Computed),
    (&["rope.freq_base", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor"], Rule::Computed),
    (&["rope.scaling.original_context_length", "rope.scaling.attn_factor"], Rule::Computed),
    (
        &["rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"],
        Rule::Computed,
    ),
    (&["rope.scaling.yarn_ext_factor"], Rule::Computed),
    (&["rope.scaling.yarn_log_multiplier"], Rule::Only(ZERO)),
    (&["rope.scaling.finetuned"], Rule::Nothing("how the model was trained")),
    (&["rope.scaling.alpha"], Rule::Only(ONE_OR_ZERO)),
    // What other architectures compute; 0 says that there is none of it.
    (&["expert_count", "expert_used_count", "expert_shared_count", "expert_group_count"], Rule::Only(ZERO)),
    (&["leading_dense_block_count", "nextn_predict_layers", "n_deepstack_layers"], Rule::Only(ZERO)),
    (&["attn_logit_softcapping", "final_logit_softcapping", "router_logit_softcapping"], Rule::Only(ZERO)),
    (&["attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale"], Rule::Only(ZERO)),
    (&["attention.shared_kv_layers", "attention.temperature_length"], Rule::Only(ZERO)),
    (&["pooling_type"], Rule::Only(ZERO)),
    (
        &["logit_scale", "residual_scale", "embedding_scale", "attention.output_scale"],
        Rule::Only(ONE_OR_ZERO),
    ),
    (&["use_parallel_residual"], Rule::Only(FALSE)),
    (&["attention.causal"], Rule::Only(TRUE)),
    // How rows of Q and K lie in old files of Llama 1 and 2: the way that all files of the architecture have them.
    (&["tensor_data_layout"], Rule::Only(&[Plain::Text("Meta AI original pth")])),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::keys::{Verdict, verdict};
    use serde_json::json;

    #[test]
    fn keys_of_other_models_are_refused_and_notes_are_not() {
        assert_eq!(verdict(GENERAL, "general.name", &json!("x")), Verdict::Fine);
        assert!(matches!(verdict(GENERAL, "general.type", &json!("adapter")), Verdict::Refused(_)));
        assert!(matches!(verdict(GENERAL, "xielu.beta", &json!(0.5)), Verdict::Refused(_)));
        assert!(matches!(verdict(ARCHITECTURE, "expert_count", &json!(8)), Verdict::Refused(_)));
        assert_eq!(verdict(ARCHITECTURE, "rope.freq_base_swa", &json!(1e4)), Verdict::Unread);
    }
}
