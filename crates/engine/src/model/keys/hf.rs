//! The keys of `config.json`.
//!
//! The list is that of transformers 5.24: `PreTrainedConfig`, `LlamaConfig`, `MistralConfig`, `Qwen2Config`, `Qwen3Config` and
//! their `rope_parameters`; of the generation parameters that older versions kept there; and of what published models of
//! these families have beyond that.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ABSENT, FALSE, ONE, Plain, Row, Rule, ZERO, rule};

/// The part of `config.json` that the result may depend on, as text: keys that change nothing are left out, and the order
/// of the others does not count. Keys that are not known do.
pub(in crate::model) fn of_result(config: &Value) -> String {
    let counts = |table: &[Row], key: &str| !matches!(rule(table, key), Some(Rule::Nothing(_)));
    let sorted = |object: &Value, table: &[Row]| -> BTreeMap<String, String> {
        let entries = object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| counts(table, key) && !value.is_null());
        entries.map(|(key, value)| (key.clone(), value.to_string())).collect()
    };
    let mut keys = sorted(config, CONFIG);
    for name in ["rope_parameters", "rope_scaling"] {
        if let Some(object) = config.get(name).filter(|value| value.is_object()) {
            keys.insert(name.to_owned(), format!("{:?}", sorted(object, ROPE)));
        }
    }
    format!("{keys:?}")
}

/// Classes of transformers that are the models computed here; the first is that of the oldest Llama files.
const CLASSES: &[Plain] = &[
    Plain::Text("LLaMAForCausalLM"),
    Plain::Text("LlamaForCausalLM"),
    Plain::Text("MistralForCausalLM"),
    Plain::Text("Qwen2ForCausalLM"),
    Plain::Text("Qwen3ForCausalLM"),
];

/// The keys of `config.json`.
pub(in crate::model) const CONFIG: &[Row] = &[
    // What is computed, or checked, where the configuration is read.
    (&["model_type"], Rule::Computed),
    (&["hidden_size", "intermediate_size", "num_hidden_layers"], Rule::Computed),
    (&["num_attention_heads", "num_key_value_heads", "head_dim"], Rule::Computed),
    (&["vocab_size"], Rule::Computed),
    (&["max_position_embeddings", "original_max_position_embeddings"], Rule::Computed),
    (&["rms_norm_eps", "hidden_act"], Rule::Computed),
    (&["rope_theta", "rope_scaling", "rope_parameters"], Rule::Computed),
    (&["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"], Rule::Computed),
    (&["tie_word_embeddings", "attention_bias", "mlp_bias"], Rule::Computed),
    // What would change the result.
    (&["architectures"], Rule::Only(CLASSES)),
    (&["is_encoder_decoder", "add_cross_attention", "use_mrope", "rope_interleaved"], Rule::Only(FALSE)),
    (&["use_qk_norm", "qk_layernorm", "bias", "use_bias"], Rule::Only(FALSE)),
    (&["partial_rotary_factor", "rotary_pct"], Rule::Only(ONE)),
    (&["embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale"], Rule::Only(ONE)),
    (&["scale_emb"], Rule::Only(ONE)),
    (&["attention_multiplier", "query_pre_attn_scalar", "scale_depth", "dim_model_base"], Rule::Only(ABSENT)),
    (&["attn_logit_softcapping", "final_logit_softcapping", "logits_soft_cap"], Rule::Only(ABSENT)),
    (&["num_experts", "num_local_experts", "n_routed_experts"], Rule::Only(ZERO)),
    (&["num_nextn_predict_layers"], Rule::Only(ZERO)),
    (&["quantization_config", "compression_config", "quantization"], Rule::Only(ABSENT)),
    (&["per_layer_config"], Rule::Only(&[Plain::Empty])),
    (&["pruned_heads"], Rule::Only(&[Plain::Empty])),
    // What changes nothing.
    (
        &["dtype", "torch_dtype", "use_bfloat16"],
        Rule::Nothing("weights have the type that the file says, and are computed in float32"),
    ),
    (
        &["transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "tokenizer_class"],
        Rule::Nothing("where the file is from"),
    ),
    (
        &["transformers.js_config", "unsloth_fixed", "unsloth_version", "is_llama_config"],
        Rule::Nothing("notes of other programs"),
    ),
    (
        &[
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "sep_token_id",
            "decoder_start_token_id",
            "vocab_file",
            "prefix",
        ],
        Rule::Nothing("of the tokenizer, which reads what it needs"),
    ),
    (
        &[
            "initializer_range",
            "attention_dropout",
            "hidden_dropout",
            "resid_pdrop",
            "embd_pdrop",
            "attn_pdrop",
            "gradient_checkpointing",
            "neftune_noise_alpha",
            "tf_legacy_loss",
        ],
        Rule::Nothing("for training"),
    ),
    (
        &["use_cache", "pretraining_tp", "chunk_size_feed_forward", "torchscript", "cache_implementation"],
        Rule::Nothing("how transformers computes the same numbers"),
    ),
    (
        &[
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_internal",
            "_attn_implementation_autoset",
            "_flash_attn_2_enabled",
            "use_flash_attention",
            "experts_implementation",
            "_experts_implementation_internal",
        ],
        Rule::Nothing("how transformers computes the same numbers"),
    ),
    (
        &[
            "output_hidden_states",
            "output_attentions",
            "output_scores",
            "return_dict",
            "use_return_dict",
            "return_dict_in_generate",
            "tie_last_hidden_states",
        ],
        Rule::Nothing("what transformers returns beside the logits"),
    ),
    (
        &["id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"],
        Rule::Nothing("for classifiers, which `architectures` and their tensors tell apart"),
    ),
    (
        &["is_decoder", "cross_attention_hidden_size", "tie_encoder_decoder", "max_sequence_length"],
        Rule::Nothing("transformers does not read it in these families"),
    ),
    (
        &[
            "max_length",
            "max_new_tokens",
            "min_length",
            "do_sample",
            "early_stopping",
            "num_beams",
            "num_beam_groups",
            "diversity_penalty",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
            "num_return_sequences",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "remove_invalid_values",
            "exponential_decay_length_penalty",
            "suppress_tokens",
            "begin_suppress_tokens",
        ],
        Rule::Nothing("how transformers chooses tokens, which is not what the model computes"),
    ),
];

/// The keys of `rope_parameters`, or `rope_scaling` in older files. Which of them a type has is said where they are read.
pub(in crate::model) const ROPE: &[Row] = &[
    (&["rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"], Rule::Computed),
    (&["attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"], Rule::Computed),
    (&["short_factor", "long_factor", "low_freq_factor", "high_freq_factor"], Rule::Computed),
    (&["partial_rotary_factor"], Rule::Only(ONE)),
    (&["mrope_section", "mrope_interleaved"], Rule::Only(ABSENT)),
    (&["finetuned"], Rule::Nothing("how the model was trained")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_changes_nothing_is_no_part_of_what_the_result_depends_on() {
        let config = json!({"hidden_size": 8, "dtype": "float16", "rope_parameters": {"rope_theta": 1, "finetuned": true}});
        let same = json!({"rope_parameters": {"finetuned": false, "rope_theta": 1}, "vocab_size": null, "hidden_size": 8});
        assert_eq!(of_result(&config), of_result(&same));
        for other in [
            json!({"hidden_size": 9, "rope_parameters": {"rope_theta": 1}}),
            json!({"hidden_size": 8, "rope_parameters": {"rope_theta": 2}}),
            json!({"hidden_size": 8, "rope_scaling": {"rope_theta": 1}}),
            json!({"hidden_size": 8, "rope_parameters": {"rope_theta": 1}, "unheard_of": 1}),
        ] {
            assert_ne!(of_result(&config), of_result(&other), "{other}");
        }
    }
}
