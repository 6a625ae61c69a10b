//! A model's shapes from the `config.json` of a Hugging Face directory, as transformers reads it.

use lossy_kernels::GateFunction;
use serde_json::Value;

use super::info::{Shapes, checked_eps};
use super::rope_hf::RopeKeys;
use super::tensors::BiasGroup;
use super::{Family, HfClass, SlidingWindow};
use crate::LoadError;
use crate::positions::RopeConfig;

/// What `config.json` says.
pub(super) struct HfConfig<'a> {
    config: &'a Value,
    class: &'static HfClass,
    family: &'static Family,
}

impl<'a> HfConfig<'a> {
    /// # Errors
    /// The file names no model that is known.
    pub(super) fn new(config: &'a Value) -> Result<HfConfig<'a>, LoadError> {
        let Some(model_type) = config.get("model_type") else {
            let message = "config.json has no `model_type`, so there is no telling what the model is";
            return Err(LoadError::Config(message.to_owned()));
        };
        let found = Family::of_hf(model_type.as_str().unwrap_or_default());
        let (family, class) = found.ok_or_else(|| LoadError::Architecture {
            found: model_type.as_str().map_or_else(|| model_type.to_string(), str::to_owned),
            known: Family::known_model_types(),
        })?;
        Ok(HfConfig { config, class, family })
    }

    /// The model's type and its family.
    pub(super) fn family(&self) -> (String, &'static Family) {
        (self.class.model_type.to_string(), self.family)
    }

    pub(super) fn shapes(&self) -> Result<Shapes, LoadError> {
        let n_heads = self.count("num_attention_heads")?;
        let n_embd = self.count("hidden_size")?;
        let n_ctx_train = self.count("max_position_embeddings")?;
        let n_layers = self.count("num_hidden_layers")?;
        // `null` asks for what follows from the rest; an absent key for the default of the class.
        let or_class = |key: &str, class: Option<u64>, derived: u64| match self.config.get(key) {
            None => Ok::<_, LoadError>(class.unwrap_or(derived)),
            Some(_) => Ok(self.optional_count(key)?.unwrap_or(derived)),
        };
        Ok(Shapes {
            n_layers,
            n_heads,
            n_kv_heads: or_class("num_key_value_heads", self.class.n_kv_heads, n_heads)?,
            head_dim: or_class("head_dim", self.class.head_dim, n_embd / n_heads.max(1))?,
            n_embd,
            n_ff: self.count("intermediate_size")?,
            n_ctx_train: self.sliding_window(n_layers)?.map_or(n_ctx_train, |window| window.min(n_ctx_train)),
            n_vocab: self.optional_count("vocab_size")?,
        })
    }

    pub(super) fn rms_eps(&self) -> Result<f32, LoadError> {
        checked_eps("config.json: `rms_norm_eps`", self.optional_number("rms_norm_eps")?.unwrap_or(1e-6))
    }

    /// What the MLP does to its gate. The names are those of transformers.
    pub(super) fn gate(&self) -> Result<GateFunction, LoadError> {
        let name = match self.config.get("hidden_act") {
            None => "silu",
            Some(Value::String(name)) => name,
            Some(other) => return Err(wrong("hidden_act", other, "the name of a function")),
        };
        Ok(match name {
            "silu" | "swish" => GateFunction::Silu,
            "gelu" | "gelu_python" => GateFunction::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh" => {
                GateFunction::GeluTanh
            }
            "quick_gelu" => GateFunction::QuickGelu,
            "relu" => GateFunction::Relu,
            "relu2" => GateFunction::ReluSquared,
            other => {
                return Err(LoadError::Config(format!(
                    "config.json: `hidden_act` is \"{other}\", which cannot be computed (known: silu, gelu, gelu_pytorch_tanh, \
                     quick_gelu, relu, relu2)"
                )));
            }
        })
    }

    /// A sliding window, where it is in use. Contexts are kept inside it, where it changes nothing.
    fn sliding_window(&self, n_layers: u64) -> Result<Option<u64>, LoadError> {
        let window = self.optional_count("sliding_window")?;
        if window == Some(0) {
            return Err(wrong("sliding_window", &Value::from(0), "a positive whole number"));
        }
        let is_named = self.has_sliding_layers(n_layers)?;
        match self.class.sliding_window {
            SlidingWindow::Always(default) if self.config.get("sliding_window").is_none() => Ok(default),
            SlidingWindow::Always(_) => Ok(window),
            SlidingWindow::InLayers => {
                let in_use = self.flag("use_sliding_window")?.unwrap_or(false);
                let n_full = self.optional_count("max_window_layers")?.unwrap_or(28);
                match (in_use, window, is_named) {
                    (true, Some(_), Some(true)) => Ok(window),
                    (true, Some(_), None) if n_full < n_layers => Ok(window),
                    (_, _, Some(true)) => Err(LoadError::Config(
                        "config.json: `layer_types` has layers of \"sliding_attention\", but no `sliding_window` is in use"
                            .to_owned(),
                    )),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Whether `layer_types` has layers with a window; `None` where it is absent.
    fn has_sliding_layers(&self, n_layers: u64) -> Result<Option<bool>, LoadError> {
        let types = match self.config.get("layer_types") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(types)) => types,
            Some(other) => return Err(wrong("layer_types", other, "a list of names")),
        };
        if types.len() as u64 != n_layers {
            return Err(LoadError::Config(format!(
                "config.json: `layer_types` names {} layers, but `num_hidden_layers` is {n_layers}",
                types.len()
            )));
        }
        let mut is_sliding = false;
        for (layer, kind) in types.iter().enumerate() {
            match kind.as_str() {
                Some("full_attention" | "attention") => {}
                Some("sliding_attention") => is_sliding = true,
                _ => {
                    return Err(LoadError::Config(format!(
                        "config.json: `layer_types` has {kind} for layer {layer}, which cannot be computed (known: \
                         \"full_attention\", \"sliding_attention\")"
                    )));
                }
            }
        }
        Ok(Some(is_sliding))
    }

    /// The model's rotation.
    pub(super) fn rope(&self, head_dim: u64) -> Result<RopeConfig, LoadError> {
        RopeKeys::new(self.config)?.rope(self.count("max_position_embeddings")?, head_dim)
    }

    /// Whether the model has the biases of a group; `found` is the name of one that is there.
    ///
    /// # Errors
    /// The file has biases that its configuration denies: transformers would leave them out.
    pub(super) fn has_biases(&self, group: BiasGroup, found: Option<&str>) -> Result<bool, LoadError> {
        let key = if group == BiasGroup::Mlp { "mlp_bias" } else { "attention_bias" };
        let is_stated = self.flag(key)?;
        match (is_stated.unwrap_or(false), found) {
            (true, None) => Ok(self.class.bias_keys.contains(&key)),
            (true, Some(_)) => Ok(true),
            (false, None) => Ok(false),
            (false, Some(name)) => {
                let stated = match is_stated {
                    Some(_) => format!("`{key}` is false"),
                    None => format!("has no `{key}`, which means false"),
                };
                Err(LoadError::Config(format!("config.json: {stated}, but the model has the bias `{name}`")))
            }
        }
    }

    /// Whether the output matrix is the embedding.
    pub(super) fn is_tied(&self) -> Result<bool, LoadError> {
        Ok(self.flag("tie_word_embeddings")?.unwrap_or(false))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong(key, other, "true or false")),
        }
    }

    fn count(&self, key: &str) -> Result<u64, LoadError> {
        self.optional_count(key)?.ok_or_else(|| LoadError::Config(format!("config.json has no `{key}`")))
    }

    fn optional_count(&self, key: &str) -> Result<Option<u64>, LoadError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong(key, value, "a whole number")),
        }
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.config.get(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(key, value, "a number")),
        }
    }
}

/// A value of another kind than its key has.
pub(super) fn wrong(key: &str, found: &Value, wanted: &str) -> LoadError {
    LoadError::Config(format!("config.json: `{key}` is {found}, not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistral() -> Value {
        json!({
            "model_type": "mistral", "num_attention_heads": 32, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "sliding_window": 4096
        })
    }

    fn qwen2() -> Value {
        json!({
            "model_type": "qwen2", "num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 3,
            "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32768,
            "sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 2
        })
    }

    fn changed(mut config: Value, key: &str, value: Value) -> Value {
        config[key] = value;
        config
    }

    fn without(mut config: Value, key: &str) -> Value {
        config.as_object_mut().unwrap().remove(key);
        config
    }

    fn shapes(config: &Value) -> Shapes {
        HfConfig::new(config).unwrap().shapes().unwrap()
    }

    #[test]
    fn a_mistral_context_is_kept_inside_its_sliding_window() {
        assert_eq!((shapes(&mistral()).n_ctx_train, shapes(&mistral()).head_dim), (4096, 128));
        assert_eq!(shapes(&changed(mistral(), "sliding_window", Value::Null)).n_ctx_train, 32_768);
        // The class has a window where the file is silent.
        assert_eq!(shapes(&without(mistral(), "sliding_window")).n_ctx_train, 4096);
    }

    #[test]
    fn a_qwen_window_counts_where_it_is_in_use_and_some_layer_has_it() {
        let n_ctx = |config: Value| shapes(&config).n_ctx_train;
        assert_eq!(n_ctx(qwen2()), 4096);
        assert_eq!(n_ctx(changed(qwen2(), "use_sliding_window", json!(false))), 32_768);
        assert_eq!(n_ctx(without(qwen2(), "use_sliding_window")), 32_768);
        assert_eq!(n_ctx(changed(qwen2(), "max_window_layers", json!(3))), 32_768);
        let full = json!(["full_attention", "full_attention", "full_attention"]);
        assert_eq!(n_ctx(changed(qwen2(), "layer_types", full)), 32_768);
        let mixed = json!(["full_attention", "full_attention", "sliding_attention"]);
        assert_eq!(n_ctx(changed(qwen2(), "layer_types", mixed.clone())), 4096);
        let error = |config: Value| HfConfig::new(&config).unwrap().shapes().unwrap_err().to_string();
        let unused = changed(changed(qwen2(), "layer_types", mixed), "use_sliding_window", json!(false));
        assert!(error(unused).contains("layer_types"));
        assert!(error(changed(qwen2(), "layer_types", json!(["full_attention"]))).contains("names 1 layers"));
        let other = json!(["full_attention", "linear_attention", "full_attention"]);
        assert!(error(changed(qwen2(), "layer_types", other)).contains("linear_attention"));
    }

    #[test]
    fn absent_counts_are_those_of_the_class() {
        assert_eq!(shapes(&without(mistral(), "num_key_value_heads")).n_kv_heads, 8);
        assert_eq!(shapes(&changed(mistral(), "num_key_value_heads", Value::Null)).n_kv_heads, 32);
        assert_eq!(shapes(&without(qwen2(), "num_key_value_heads")).n_kv_heads, 32);
        assert_eq!(shapes(&changed(qwen2(), "model_type", json!("qwen3"))).head_dim, 128);
        let llama = without(changed(qwen2(), "model_type", json!("llama")), "num_key_value_heads");
        assert_eq!((shapes(&llama).n_kv_heads, shapes(&llama).head_dim), (4, 16));
    }

    #[test]
    fn wrong_values_are_errors_that_name_key_and_value() {
        let error = |config: Value| HfConfig::new(&config).map(|_| ()).unwrap_err().to_string();
        assert!(error(json!({"model_type": "bert"})).contains("bert"));
        assert!(error(json!({"model_type": 3})).contains('3'));
        assert!(error(json!({})).contains("model_type"));
        let config = changed(mistral(), "num_attention_heads", json!(-3));
        assert!(HfConfig::new(&config).unwrap().shapes().unwrap_err().to_string().contains("-3"));
        let config = changed(mistral(), "hidden_act", json!("mish"));
        assert!(HfConfig::new(&config).unwrap().gate().unwrap_err().to_string().contains("mish"));
        let config = changed(mistral(), "rms_norm_eps", json!("1e-5"));
        assert!(HfConfig::new(&config).unwrap().rms_eps().unwrap_err().to_string().contains("rms_norm_eps"));
    }

    #[test]
    fn biases_that_the_configuration_denies_are_refused() {
        let llama = changed(mistral(), "model_type", json!("llama"));
        let has = |config: &Value, group, found| HfConfig::new(config).unwrap().has_biases(group, found);
        assert!(!has(&llama, BiasGroup::Mlp, None).unwrap());
        let error = has(&llama, BiasGroup::Mlp, Some("x.bias")).unwrap_err().to_string();
        assert!(error.contains("no `mlp_bias`") && error.contains("x.bias"), "{error}");
        let with = changed(llama, "attention_bias", json!(true));
        assert!(has(&with, BiasGroup::Output, None).unwrap());
        assert!(has(&with, BiasGroup::Output, Some("x.bias")).unwrap());
        let denied = changed(with, "attention_bias", json!(false));
        assert!(has(&denied, BiasGroup::Qkv, Some("x.bias")).unwrap_err().to_string().contains("is false"));
        // A class without the key: the file decides.
        let mistral = changed(mistral(), "attention_bias", json!(true));
        assert!(!has(&mistral, BiasGroup::Output, None).unwrap());
    }
}
