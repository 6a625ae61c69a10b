//! A model's rotation from `config.json`: `rope_parameters`, or `rope_scaling` and `rope_theta` in older files.
//!
//! Source: `modeling_rope_utils.py` of transformers 5.24. Two of its types depend on the length of the text:
//!
//! - `dynamic` enlarges the base once a text is longer than `max_position_embeddings`; up to there it is `default`.
//! - `longrope` has two lists of divisors, of which the short one holds up to `original_max_position_embeddings`.
//!
//! Both change the rotation of all keys of a text when it grows past that length, those in the cache too. A cache holds
//! rotated keys, so the trained context ends there, and longer ones are left to this program's own maps of positions.

use serde_json::{Map, Value};

use super::info::checked_base;
use super::info_hf::wrong;
use crate::LoadError;
use crate::positions::{LongRope, RopeConfig, RopeScaling, Yarn};

/// The keys of `config.json` that say how positions are rotated.
pub(super) struct RopeKeys<'a> {
    config: &'a Value,
    /// the key that has the parameters, for errors
    name: &'static str,
    parameters: Option<&'a Map<String, Value>>,
}

/// Keys that every type may have, beside its own.
const OF_ALL: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "finetuned",
];

impl<'a> RopeKeys<'a> {
    /// # Errors
    /// Old and new spelling are both there and differ, or the parameters are no object.
    pub(super) fn new(config: &'a Value) -> Result<RopeKeys<'a>, LoadError> {
        let [new, old] = ["rope_parameters", "rope_scaling"]
            .map(|key| config.get(key).filter(|value| !value.is_null()).map(|value| (key, value)));
        if let (Some((_, new)), Some((_, old))) = (new, old)
            && new != old
        {
            return Err(LoadError::Config(format!(
                "config.json: `rope_parameters` is {new}, but `rope_scaling` is {old}"
            )));
        }
        let (name, parameters) = match new.or(old) {
            None => ("rope_parameters", None),
            Some((name, Value::Object(parameters))) => (name, Some(parameters)),
            Some((name, other)) => return Err(wrong(name, other, "an object")),
        };
        if let Some((key, _)) = parameters.into_iter().flatten().find(|(_, value)| value.is_object()) {
            return Err(LoadError::Config(format!(
                "config.json: `{name}.{key}` has a rotation of its own, but rotations that differ from layer to layer cannot \
                 be computed"
            )));
        }
        Ok(RopeKeys { config, name, parameters })
    }

    /// The rotation of a model with this `max_position_embeddings`.
    ///
    /// # Errors
    /// A parameter is missing, of another kind, or out of range; or the type is not known.
    pub(super) fn rope(&self, n_ctx_train: u64, head_dim: u64) -> Result<RopeConfig, LoadError> {
        let base = match (self.number("rope_theta")?, self.config.get("rope_theta")) {
            (Some(base), _) => base,
            (None, None) => 10_000.0,
            (None, Some(value)) => value.as_f64().ok_or_else(|| wrong("rope_theta", value, "a number"))?,
        };
        let base = checked_base("config.json: `rope_theta`", base)?;
        Ok(RopeConfig { base, scaling: self.scaling(n_ctx_train as f64, head_dim as usize)? })
    }

    fn scaling(&self, n_ctx_train: f64, head_dim: usize) -> Result<RopeScaling, LoadError> {
        let kind = self.kind()?;
        let original_context = || match self.config.get("original_max_position_embeddings") {
            // transformers prefers it to the one among the parameters
            Some(value) if !value.is_null() => {
                let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
                number.ok_or_else(|| wrong("original_max_position_embeddings", value, "a positive number"))
            }
            _ => Ok(self.positive("original_max_position_embeddings")?.unwrap_or(n_ctx_train)),
        };
        let (scaling, own_keys): (_, &[&str]) = match kind {
            "default" => (RopeScaling::None, &[]),
            "linear" => (RopeScaling::Linear { factor: self.needed("factor")? }, &["factor"]),
            "dynamic" => {
                self.needed("factor")?;
                (RopeScaling::None, &["factor"])
            }
            "llama3" => {
                let scaling = RopeScaling::Llama3 {
                    factor: self.needed("factor")?,
                    low_freq_factor: self.needed("low_freq_factor")?,
                    high_freq_factor: self.needed("high_freq_factor")?,
                    original_context: original_context()?,
                };
                (scaling, &["factor", "low_freq_factor", "high_freq_factor"])
            }
            "yarn" => (
                RopeScaling::Yarn(self.yarn(original_context()?, n_ctx_train)?),
                &[
                    "factor",
                    "attention_factor",
                    "beta_fast",
                    "beta_slow",
                    "mscale",
                    "mscale_all_dim",
                    "truncate",
                ],
            ),
            "longrope" => (
                RopeScaling::LongRope(self.long_rope(original_context()?, n_ctx_train, head_dim)?),
                &["factor", "attention_factor", "short_factor", "long_factor"],
            ),
            other => {
                return Err(LoadError::Config(format!(
                    "config.json: `{}` has the type \"{}\", which cannot be computed (known: default, linear, dynamic, \
                     llama3, yarn, longrope)",
                    self.name,
                    other.escape_debug()
                )));
            }
        };
        let is_foreign = |key: &&String| !OF_ALL.contains(&key.as_str()) && !own_keys.contains(&key.as_str());
        let known = |key: &&String| super::keys::rule(super::keys::hf::ROPE, key).is_some();
        match self.parameters.into_iter().flat_map(Map::keys).filter(known).find(is_foreign) {
            Some(key) if !self.value(key).is_none_or(Value::is_null) => Err(LoadError::Config(format!(
                "config.json: `{}` has `{key}`, which its type, \"{kind}\", does not have",
                self.name
            ))),
            _ => Ok(scaling),
        }
    }

    /// The type; "default" where there are no parameters but the base.
    fn kind(&self) -> Result<&'a str, LoadError> {
        let word = |key: &str| match self.value(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(word)) => Ok(Some(word.as_str())),
            Some(other) => Err(wrong(&format!("{}.{key}", self.name), other, "the name of a type")),
        };
        match (word("rope_type")?, word("type")?) {
            (Some(new), Some(old)) if new != old => Err(LoadError::Config(format!(
                "config.json: `{}` has the `rope_type` \"{new}\", but the `type` \"{old}\"",
                self.name
            ))),
            (Some(kind), _) | (None, Some(kind)) => Ok(kind),
            (None, None) => match self.value("factor") {
                Some(factor) => Err(LoadError::Config(format!(
                    "config.json: `{}` has a `factor`, {factor}, but no `rope_type` that says what it means",
                    self.name
                ))),
                None => Ok("default"),
            },
        }
    }

    fn yarn(&self, original_context: f64, n_ctx_train: f64) -> Result<Yarn, LoadError> {
        let factor = self.positive("factor")?.unwrap_or(n_ctx_train / original_context);
        let magnitude = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        let ratio = match (self.number("mscale")?, self.number("mscale_all_dim")?) {
            (Some(over), Some(under)) if over != 0.0 && under != 0.0 => {
                Some(magnitude(over) / magnitude(under))
            }
            _ => None,
        };
        // 0 stands for the default, as it does in transformers.
        let beta = |key, default| {
            Ok::<_, LoadError>(self.number(key)?.filter(|beta| *beta != 0.0).unwrap_or(default))
        };
        Ok(Yarn {
            factor,
            original_context,
            beta_fast: beta("beta_fast", 32.0)?,
            beta_slow: beta("beta_slow", 1.0)?,
            attention_factor: self.number("attention_factor")?.or(ratio),
            is_truncated: match self.value("truncate") {
                None | Some(Value::Null) => true,
                Some(Value::Bool(value)) => *value,
                Some(other) => return Err(wrong(&format!("{}.truncate", self.name), other, "true or false")),
            },
        })
    }

    fn long_rope(
        &self,
        original_context: f64,
        n_ctx_train: f64,
        head_dim: usize,
    ) -> Result<LongRope, LoadError> {
        let factor = self.positive("factor")?.unwrap_or(n_ctx_train / original_context);
        let attention_factor = match self.number("attention_factor")? {
            Some(factor) => factor,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original_context.ln()).sqrt(),
        };
        self.factors("long_factor", head_dim / 2)?;
        Ok(LongRope {
            short_factors: self.factors("short_factor", head_dim / 2)?,
            attention_factor,
            original_context,
        })
    }

    /// A divisor for every channel pair.
    pub(super) fn factors(&self, key: &str, n_pairs: usize) -> Result<Vec<f32>, LoadError> {
        let name = format!("{}.{key}", self.name);
        let value = self.value(key).unwrap_or(&Value::Null);
        let wanted = format!("a list of {n_pairs} positive numbers");
        let factors: Option<Vec<f32>> = value.as_array().and_then(|factors| {
            let one = |factor: &Value| factor.as_f64().map(|factor| factor as f32);
            factors.iter().map(|factor| one(factor).filter(|f| *f > 0.0 && f.is_finite())).collect()
        });
        match factors {
            Some(factors) if factors.len() == n_pairs => Ok(factors),
            Some(factors) => Err(LoadError::Config(format!(
                "config.json: `{name}` has {} values, but heads have {n_pairs} channel pairs",
                factors.len()
            ))),
            None => Err(wrong(&name, value, &wanted)),
        }
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.parameters.and_then(|parameters| parameters.get(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(&format!("{}.{key}", self.name), value, "a number")),
            },
        }
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.number(key)? {
            Some(number) if !(number.is_finite() && number > 0.0) => {
                let value = self.value(key).unwrap_or(&Value::Null);
                Err(wrong(&format!("{}.{key}", self.name), value, "a positive number"))
            }
            number => Ok(number),
        }
    }

    fn needed(&self, key: &str) -> Result<f64, LoadError> {
        self.positive(key)?
            .ok_or_else(|| LoadError::Config(format!("config.json: `{}` has no `{key}`", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rope(config: Value) -> Result<RopeConfig, LoadError> {
        RopeKeys::new(&config).and_then(|keys| keys.rope(64, 8))
    }

    fn error(config: Value) -> String {
        rope(config).unwrap_err().to_string()
    }

    #[test]
    fn both_spellings_of_rope_parameters_are_read() {
        let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}});
        let new = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}});
        let wanted = RopeConfig { base: 5e5, scaling: RopeScaling::Linear { factor: 4.0 } };
        assert_eq!(rope(old).unwrap(), wanted);
        assert_eq!(rope(new).unwrap(), wanted);
        assert_eq!(rope(json!({})).unwrap(), RopeConfig { base: 1e4, scaling: RopeScaling::None });
    }

    #[test]
    fn what_says_nothing_clear_is_refused_by_name() {
        for (config, named) in [
            (json!({"rope_theta": "5e5"}), "rope_theta"),
            (json!({"rope_theta": null}), "rope_theta"),
            (json!({"rope_scaling": "linear"}), "rope_scaling"),
            (json!({"rope_scaling": {"factor": 4.0}}), "rope_type"),
            (json!({"rope_scaling": {"type": "linear"}}), "factor"),
            (json!({"rope_scaling": {"type": "linear", "factor": 0.0}}), "factor"),
            (json!({"rope_scaling": {"type": "linear", "factor": "4"}}), "factor"),
            (json!({"rope_scaling": {"type": "linear", "factor": 4.0, "beta_fast": 8}}), "beta_fast"),
            (json!({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 4.0}}), "yarn"),
            (json!({"rope_scaling": {"type": "proportional"}}), "proportional"),
            (json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}), "full_attention"),
            (
                json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear"}}),
                "rope_scaling",
            ),
            (json!({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1]}}), "long_factor"),
            (
                json!({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1, 1, 1, 1]}}),
                "short_factor",
            ),
            (json!({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": 1}}), "truncate"),
        ] {
            let error = error(config.clone());
            assert!(error.contains(named), "{config}: {error}");
        }
    }

    #[test]
    fn dynamic_scaling_is_none_within_the_trained_context() {
        let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}});
        assert_eq!(rope(dynamic).unwrap().scaling, RopeScaling::None);
        assert!(error(json!({"rope_scaling": {"type": "dynamic"}})).contains("factor"));
    }

    #[test]
    fn yarn_is_as_transformers_fills_it_in() {
        let yarn = |parameters: Value| match rope(json!({"rope_parameters": parameters})).unwrap().scaling {
            RopeScaling::Yarn(yarn) => yarn,
            other => panic!("{other:?}"),
        };
        let plain = yarn(json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16}));
        assert_eq!((plain.beta_fast, plain.beta_slow, plain.attention_factor), (32.0, 1.0, None));
        assert!(plain.is_truncated);
        let derived =
            yarn(json!({"rope_type": "yarn", "original_max_position_embeddings": 16, "beta_fast": 0}));
        assert_eq!((derived.factor, derived.beta_fast), (4.0, 32.0));
        let ratio = yarn(json!({"rope_type": "yarn", "factor": 4, "mscale": 0.7, "mscale_all_dim": 1.0}));
        let wanted = (0.07 * 4f64.ln() + 1.0) / (0.1 * 4f64.ln() + 1.0);
        assert_eq!(ratio.attention_factor, Some(wanted));
        assert_eq!(ratio.original_context, 64.0);
    }
}
