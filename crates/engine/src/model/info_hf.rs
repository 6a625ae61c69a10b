//! A model's shapes from the `config.json` of a Hugging Face directory.

use serde_json::Value;

use super::Family;
use super::info::Shapes;
use crate::EngineError;
use crate::positions::{RopeConfig, RopeScaling, Yarn};

/// What `config.json` says.
pub(super) struct HfConfig<'a> {
    config: &'a Value,
}

impl<'a> HfConfig<'a> {
    pub(super) fn new(config: &'a Value) -> HfConfig<'a> {
        HfConfig { config }
    }

    /// The model's type and its family.
    pub(super) fn family(&self) -> Result<(String, &'static Family), EngineError> {
        let model_type = self.config.get("model_type").and_then(Value::as_str).unwrap_or("(absent)");
        let family = Family::of_hf(model_type).ok_or_else(|| EngineError::Architecture {
            found: model_type.to_string(),
            known: Family::known_names(),
        })?;
        Ok((model_type.to_string(), family))
    }

    pub(super) fn shapes(&self) -> Result<Shapes, EngineError> {
        let n_heads = self.count("num_attention_heads")?;
        let n_embd = self.count("hidden_size")?;
        let n_ctx_train = self.count("max_position_embeddings")?;
        Ok(Shapes {
            n_layers: self.count("num_hidden_layers")?,
            n_heads,
            n_kv_heads: self.optional_count("num_key_value_heads")?.unwrap_or(n_heads),
            head_dim: self.optional_count("head_dim")?.unwrap_or(n_embd / n_heads.max(1)),
            n_embd,
            n_ff: self.count("intermediate_size")?,
            n_ctx_train: self.sliding_window()?.map_or(n_ctx_train, |window| window.min(n_ctx_train)),
        })
    }

    pub(super) fn rms_eps(&self) -> f32 {
        self.config.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6) as f32
    }

    /// A sliding window, where it is in use. Contexts are kept inside it, where it changes nothing.
    fn sliding_window(&self) -> Result<Option<u64>, EngineError> {
        let in_use = self.config.get("use_sliding_window").and_then(Value::as_bool).unwrap_or(true);
        if in_use { self.optional_count("sliding_window") } else { Ok(None) }
    }

    pub(super) fn rope(&self) -> Result<RopeConfig, EngineError> {
        let base = self.config.get("rope_theta").and_then(Value::as_f64);
        let parameters = self.config.get("rope_parameters").or_else(|| self.config.get("rope_scaling"));
        let parameters = parameters.filter(|value| !value.is_null());
        let base = parameters
            .and_then(|parameters| parameters.get("rope_theta").and_then(Value::as_f64))
            .or(base)
            .unwrap_or(10_000.0);
        let scaling = parameters.map_or(Ok(RopeScaling::None), |parameters| self.scaling(parameters))?;
        Ok(RopeConfig { base, scaling })
    }

    fn scaling(&self, parameters: &Value) -> Result<RopeScaling, EngineError> {
        let kind = parameters.get("rope_type").or_else(|| parameters.get("type")).and_then(Value::as_str);
        let optional = |key: &str| parameters.get(key).and_then(Value::as_f64);
        let number = |key: &str| {
            optional(key).filter(|value| value.is_finite() && *value > 0.0).ok_or_else(|| {
                EngineError::Config(format!(
                    "rope_scaling: `{key}` is {:?}, not a positive number",
                    parameters.get(key)
                ))
            })
        };
        match kind.unwrap_or("default") {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            }),
            "yarn" => Ok(RopeScaling::Yarn(Yarn {
                factor: number("factor")?,
                original_context: match optional("original_max_position_embeddings") {
                    Some(_) => number("original_max_position_embeddings")?,
                    None => self.count("max_position_embeddings")? as f64,
                },
                beta_fast: optional("beta_fast").unwrap_or(32.0),
                beta_slow: optional("beta_slow").unwrap_or(1.0),
                attention_factor: optional("attention_factor"),
            })),
            other => Err(EngineError::Config(format!(
                "rope_scaling of type `{other}` cannot be computed (known: default, linear, llama3, yarn)"
            ))),
        }
    }

    fn count(&self, key: &str) -> Result<u64, EngineError> {
        self.optional_count(key)?.ok_or_else(|| EngineError::Config(format!("config.json has no `{key}`")))
    }

    fn optional_count(&self, key: &str) -> Result<Option<u64>, EngineError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                EngineError::Config(format!("config.json: `{key}` is {value}, not a whole number"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mistral_context_is_kept_inside_its_sliding_window() {
        let mut config = json!({
            "model_type": "mistral", "num_attention_heads": 32, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "sliding_window": 4096
        });
        let shapes = HfConfig::new(&config).shapes().unwrap();
        assert_eq!((shapes.n_ctx_train, shapes.head_dim), (4096, 128));
        config["sliding_window"] = Value::Null;
        assert_eq!(HfConfig::new(&config).shapes().unwrap().n_ctx_train, 32_768);
        config["sliding_window"] = json!(4096);
        config["use_sliding_window"] = json!(false);
        assert_eq!(HfConfig::new(&config).shapes().unwrap().n_ctx_train, 32_768);
    }

    #[test]
    fn wrong_values_are_errors_that_name_key_and_value() {
        let config = json!({"model_type": "bert", "num_attention_heads": -3});
        assert!(HfConfig::new(&config).family().unwrap_err().to_string().contains("bert"));
        assert!(HfConfig::new(&config).shapes().unwrap_err().to_string().contains("-3"));
        let config = json!({"rope_scaling": {"type": "linear", "factor": 0.0}});
        assert!(HfConfig::new(&config).rope().unwrap_err().to_string().contains("factor"));
        let config = json!({"rope_scaling": {"rope_type": "longrope"}});
        assert!(HfConfig::new(&config).rope().unwrap_err().to_string().contains("longrope"));
    }

    #[test]
    fn both_spellings_of_rope_parameters_are_read() {
        let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}});
        let new = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}});
        let wanted = RopeConfig { base: 5e5, scaling: RopeScaling::Linear { factor: 4.0 } };
        assert_eq!(HfConfig::new(&old).rope().unwrap(), wanted);
        assert_eq!(HfConfig::new(&new).rope().unwrap(), wanted);
    }
}
