//! What configurations say, as the reference reads them: strictly, and nothing that it does not understand.

use std::f64::consts::PI;

use lossy_formats::gguf::{Array, Value as GgufValue};
use serde_json::{Map, Value};

use crate::reference::{Biases, Spec, Tensors, function};

/// Keys of `config.json` that change nothing, whatever they are.
const HF_NOTHING: &[&str] = &[
    "attention_dropout",
    "initializer_range",
    "dtype",
    "torch_dtype",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "use_cache",
    "transformers_version",
    "pretraining_tp",
    "vocab_size",
];

/// Keys of other models, and the value with which they change nothing.
const HF_NEUTRAL: &[(&str, f64)] = &[
    ("logits_scaling", 1.0),
    ("embedding_multiplier", 1.0),
    ("partial_rotary_factor", 1.0),
    ("num_experts", 0.0),
];

/// What a `config.json` says; `None` where it says something that is not understood.
pub fn of_hf(config: &Value, n_vocab: usize) -> Option<Spec> {
    let config = config.as_object()?;
    let get = |key: &str| config.get(key).filter(|value| !value.is_null());
    let count = |key: &str| match get(key) {
        None => Some(None),
        Some(value) => value.as_u64().map(|value| Some(value as usize)),
    };
    let flag = |key: &str| match get(key) {
        None => Some(false),
        Some(value) => value.as_bool(),
    };
    let class = config.get("model_type")?.as_str()?;
    let is_known = |key: &str| {
        HF_NOTHING.contains(&key)
            || HF_NEUTRAL.iter().any(|(known, neutral)| {
                *known == key && get(key).is_none_or(|v| v.as_f64() == Some(*neutral))
            })
            || HF_READ.contains(&key)
    };
    if config.iter().any(|(key, value)| !value.is_null() && !is_known(key)) {
        return None;
    }
    if let Some(classes) = get("architectures") {
        let name = classes.as_array()?.first()?.as_str()?;
        ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"]
            .iter()
            .find(|c| **c == name)?;
    }
    if count("vocab_size")?.is_some_and(|stated| stated != n_vocab) {
        return None;
    }
    let n_layers = count("num_hidden_layers")??;
    let (n_heads, n_embd) = (count("num_attention_heads")??, count("hidden_size")??);
    let absent_kv = match class {
        "llama" => n_heads,
        "mistral" => 8,
        _ => 32,
    };
    let n_kv_heads = if config.contains_key("num_key_value_heads") {
        count("num_key_value_heads")?.unwrap_or(n_heads)
    } else {
        absent_kv
    };
    let absent_dim = if class == "qwen3" { 128 } else { n_embd.checked_div(n_heads)? };
    let head_dim = if config.contains_key("head_dim") {
        count("head_dim")?.unwrap_or(n_embd.checked_div(n_heads)?)
    } else {
        absent_dim
    };
    if [n_layers, n_heads, n_kv_heads, head_dim].contains(&0)
        || n_heads % n_kv_heads != 0
        || head_dim % 2 != 0
    {
        return None;
    }
    let longest = count("max_position_embeddings")??;
    let (frequencies, magnitude) = hf_rope(config, head_dim, longest as f64)?;
    let window = hf_window(config, class, n_layers)?;
    let (attention_bias, mlp_bias) = (flag("attention_bias")?, flag("mlp_bias")?);
    Some(Spec {
        n_layers,
        n_embd,
        n_heads,
        n_kv_heads,
        head_dim,
        n_ff: count("intermediate_size")??,
        eps: match config.get("rms_norm_eps") {
            None => 1e-6,
            Some(eps) => eps.as_f64().filter(|eps| (0.0..1.0).contains(eps))?,
        },
        frequencies,
        magnitude,
        function: match config.get("hidden_act") {
            None => function("silu")?,
            Some(name) => function(name.as_str()?)?,
        },
        is_interleaved: false,
        has_qk_norm: class == "qwen3",
        needs_qkv_bias: class == "qwen2" || (attention_bias && ["llama", "qwen3"].contains(&class)),
        may_have: Biases { qkv: attention_bias || class == "qwen2", output: attention_bias, mlp: mlp_bias },
        window,
        is_tied: Some(flag("tie_word_embeddings")?),
    })
}

const HF_READ: &[&str] = &[
    "architectures",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
];

fn hf_window(config: &Map<String, Value>, class: &str, n_layers: usize) -> Option<Option<usize>> {
    let window = match config.get("sliding_window") {
        None if class == "mistral" => Some(4096),
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_u64().filter(|window| *window > 0)? as usize),
    };
    let types = match config.get("layer_types") {
        None | Some(Value::Null) => None,
        Some(types) => Some(types.as_array().filter(|types| types.len() == n_layers)?),
    };
    let types = types.map(|types| {
        types.iter().map(|name| match name.as_str() {
            Some("full_attention") => Some(false),
            Some("sliding_attention") => Some(true),
            _ => None,
        })
    });
    let sliding: Option<Vec<bool>> = match types {
        None => None,
        Some(types) => Some(types.collect::<Option<_>>()?),
    };
    let in_use = match config.get("use_sliding_window") {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool()?,
    };
    let n_full = match config.get("max_window_layers") {
        None | Some(Value::Null) => 28,
        Some(value) => value.as_u64()? as usize,
    };
    if class == "llama" || class == "mistral" {
        return Some(window);
    }
    let window = window.filter(|_| in_use);
    match sliding {
        Some(sliding) if sliding.contains(&true) && window.is_none() => None,
        // All layers are given the window here, so only texts inside it can be compared.
        Some(sliding) => Some(window.filter(|_| sliding.contains(&true))),
        None => Some(window.filter(|_| n_full < n_layers)),
    }
}

/// Frequencies and magnitude by `rope_parameters`.
fn hf_rope(config: &Map<String, Value>, head_dim: usize, longest: f64) -> Option<(Vec<f64>, f64)> {
    let get = |key: &str| config.get(key).filter(|value| !value.is_null());
    let empty = Map::new();
    let parameters = match (get("rope_parameters"), get("rope_scaling")) {
        (None, None) => &empty,
        (Some(both), None) | (None, Some(both)) => both.as_object()?,
        (Some(new), Some(old)) if new == old => new.as_object()?,
        _ => return None,
    };
    let number = |key: &str| match parameters.get(key).filter(|value| !value.is_null()) {
        None => Some(None),
        Some(value) => value.as_f64().map(Some),
    };
    let positive = |key: &str| match number(key)? {
        Some(value) if !(value > 0.0 && value.is_finite()) => None,
        value => Some(value),
    };
    let base = match (number("rope_theta")?, config.get("rope_theta")) {
        (Some(base), _) => base,
        (None, Some(base)) => base.as_f64()?,
        (None, None) => 1e4,
    };
    if base <= 0.0 {
        return None;
    }
    let plain: Vec<f64> = (0..head_dim / 2).map(|i| base.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    let word = |key: &str| match parameters.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_str().map(Some),
    };
    let kind = match (word("rope_type")?, word("type")?) {
        (Some(a), Some(b)) if a != b => return None,
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) if parameters.contains_key("factor") => return None,
        (None, None) => "default",
    };
    let allowed: &[&str] = match kind {
        "default" => &[],
        "linear" | "dynamic" => &["factor"],
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor"],
        "yarn" => &["factor", "attention_factor", "beta_fast", "beta_slow", "truncate"],
        "longrope" => &["factor", "attention_factor", "short_factor", "long_factor"],
        _ => return None,
    };
    let common = ["rope_type", "type", "rope_theta", "original_max_position_embeddings"];
    if parameters.keys().any(|key| !common.contains(&key.as_str()) && !allowed.contains(&key.as_str())) {
        return None;
    }
    let original = match get("original_max_position_embeddings") {
        Some(value) => value.as_f64().filter(|value| *value > 0.0)?,
        None if ["llama3", "yarn", "longrope"].contains(&kind) => {
            positive("original_max_position_embeddings")?.unwrap_or(longest)
        }
        None => longest,
    };
    let each = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
        plain.iter().enumerate().map(|(i, f)| of(i, *f)).collect()
    };
    match kind {
        "default" => Some((plain, 1.0)),
        "dynamic" => positive("factor")?.map(|_| (plain, 1.0)),
        "linear" => {
            let factor = positive("factor")??;
            Some((each(&|_, f| f / factor), 1.0))
        }
        "llama3" => {
            let (factor, low, high) =
                (positive("factor")??, positive("low_freq_factor")??, positive("high_freq_factor")??);
            let of = |_: usize, f: f64| {
                let wavelength = 2.0 * PI / f;
                if wavelength < original / high {
                    f
                } else if wavelength > original / low {
                    f / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            };
            Some((each(&of), 1.0))
        }
        "yarn" => {
            let factor = positive("factor")?.unwrap_or(longest / original);
            let (fast, slow) = (number("beta_fast")?.unwrap_or(32.0), number("beta_slow")?.unwrap_or(1.0));
            let truncate = match parameters.get("truncate") {
                None | Some(Value::Null) => true,
                Some(value) => value.as_bool()?,
            };
            let pair =
                |turns: f64| head_dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
            let (low, high) =
                if truncate { (pair(fast).floor(), pair(slow).ceil()) } else { (pair(fast), pair(slow)) };
            let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
            let high = if low == high { high + 0.001 } else { high };
            let of = |i: usize, f: f64| {
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                f / factor * ramp + f * (1.0 - ramp)
            };
            let magnitude = number("attention_factor")?.unwrap_or(if factor <= 1.0 {
                1.0
            } else {
                0.1 * factor.ln() + 1.0
            });
            Some((each(&of), magnitude))
        }
        _ => {
            let list = |key: &str| -> Option<Vec<f64>> {
                let list: Option<Vec<f64>> =
                    parameters.get(key)?.as_array()?.iter().map(Value::as_f64).collect();
                list.filter(|list| list.len() == head_dim / 2 && list.iter().all(|x| *x > 0.0))
            };
            let (short, _) = (list("short_factor")?, list("long_factor")?);
            let factor = positive("factor")?.unwrap_or(longest / original);
            let magnitude = match number("attention_factor")? {
                Some(magnitude) => magnitude,
                None if factor <= 1.0 => 1.0,
                None => (1.0 + factor.ln() / original.ln()).sqrt(),
            };
            Some((each(&|i, f| f / short[i]), magnitude))
        }
    }
}

/// What the keys of a GGUF file say; `None` where they say something that is not understood.
pub fn of_gguf(keys: &[(String, GgufValue)], tensors: &Tensors) -> Option<Spec> {
    let find = |key: &str| keys.iter().find(|(found, _)| found == key).map(|(_, value)| value);
    let GgufValue::String(arch) = find("general.architecture")? else { return None };
    if !["llama", "qwen2", "qwen3"].contains(&arch.as_str()) {
        return None;
    }
    let own = |key: &str| find(&format!("{arch}.{key}"));
    let integer = |value: &GgufValue| match value {
        GgufValue::U32(x) => Some(u64::from(*x)),
        GgufValue::U64(x) => Some(*x),
        GgufValue::I32(x) => u64::try_from(*x).ok(),
        GgufValue::Array(Array::I32(list)) => {
            let first = *list.first()?;
            list.iter().all(|x| *x == first).then(|| u64::try_from(first).ok()).flatten()
        }
        _ => None,
    };
    let count = |key: &str| match own(key) {
        None => Some(None),
        Some(value) => integer(value).map(|value| Some(value as usize)),
    };
    let float = |key: &str| match own(key) {
        None => Some(None),
        Some(GgufValue::F32(x)) if x.is_finite() => Some(Some(f64::from(*x))),
        Some(_) => None,
    };
    for (key, value) in keys {
        let is_fine = match (key.as_str(), value) {
            ("general.type", value) => *value == GgufValue::from("model"),
            ("general.quantization_version", value) => integer(value) == Some(2),
            (key, value) => match key.strip_prefix(&format!("{arch}.")) {
                Some("logit_scale") => *value == GgufValue::F32(1.0),
                Some("expert_count") => integer(value) == Some(0),
                Some(own) => GGUF_READ.contains(&own),
                None => true,
            },
        };
        if !is_fine {
            return None;
        }
    }
    let (n_heads, n_embd) = (count("attention.head_count")??, count("embedding_length")??);
    let n_kv_heads = count("attention.head_count_kv")?.unwrap_or(n_heads);
    let head_dim = count("attention.key_length")?.unwrap_or(n_embd.checked_div(n_heads)?);
    let same = |key: &str| Some(count(key)?.is_none_or(|value| value == head_dim));
    let n_layers = count("block_count")??;
    let is_whole = !(n_kv_heads == 0 || n_layers == 0 || head_dim == 0)
        && n_heads.is_multiple_of(n_kv_heads)
        && head_dim % 2 == 0;
    if !(is_whole && same("attention.value_length")? && same("rope.dimension_count")?) {
        return None;
    }
    let n_vocab = tensors.get("token_embd.weight")?.shape[0];
    count("context_length")??;
    let base = float("rope.freq_base")?.unwrap_or(1e4);
    if count("vocab_size")?.is_some_and(|stated| stated != n_vocab) || base <= 0.0 {
        return None;
    }
    let plain: Vec<f64> = (0..head_dim / 2).map(|i| base.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    let kind = match own("rope.scaling.type") {
        None => None,
        Some(GgufValue::String(kind)) => Some(kind.as_str()),
        Some(_) => return None,
    };
    let factor = match float("rope.scaling.factor")? {
        Some(factor) if factor <= 0.0 => return None,
        factor => factor,
    };
    let divided = |divisors: &[f32]| plain.iter().zip(divisors).map(|(f, d)| f / f64::from(*d)).collect();
    let attn_factor = float("rope.scaling.attn_factor")?;
    if attn_factor.is_some() && kind != Some("longrope") {
        return None;
    }
    let (frequencies, magnitude) = match (kind, tensors.get("rope_freqs.weight")) {
        (None | Some("none"), Some(freqs)) => (divided(&freqs.values), 1.0),
        (_, Some(_)) => return None,
        (Some("linear"), _) => {
            let factor = factor?;
            (plain.iter().map(|f| f / factor).collect(), 1.0)
        }
        (None, _) => (plain.iter().map(|f| f / factor.unwrap_or(1.0)).collect(), 1.0),
        (Some("none"), _) => (plain, 1.0),
        (Some("longrope"), _) => {
            count("rope.scaling.original_context_length")??;
            (divided(&tensors.get("rope_factors_short.weight")?.values), attn_factor.unwrap_or(1.0))
        }
        (Some(_), _) => return None,
    };
    Some(Spec {
        n_layers,
        n_embd,
        n_heads,
        n_kv_heads,
        head_dim,
        n_ff: count("feed_forward_length")??,
        eps: float("attention.layer_norm_rms_epsilon")?.filter(|eps| (0.0..1.0).contains(eps))?,
        frequencies,
        magnitude,
        function: function("silu")?,
        is_interleaved: arch == "llama",
        has_qk_norm: arch == "qwen3",
        needs_qkv_bias: arch == "qwen2",
        may_have: Biases { qkv: true, output: true, mlp: true },
        window: count("attention.sliding_window")?.filter(|window| *window > 0),
        is_tied: None,
    })
}

const GGUF_READ: &[&str] = &[
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "vocab_size",
];
