//! What every request for text may say: how tokens are chosen, when it ends, with which setting.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use lossy_engine::{GenerationOptions, SamplingOptions, Speculation};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ApiError;

/// The most alternatives that are reported for a token.
pub const MOST_LOGPROBS: usize = 100;
/// The most texts at which an answer stops.
const MOST_STOPS: usize = 64;

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// one
    One(String),
    /// several
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// How tokens are chosen, and when the answer ends. What is absent is as the server was started.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SamplingFields {
    /// divides the logits; 0: always the most probable token
    pub temperature: Option<f32>,
    /// only the most probable tokens that together reach this probability; 1: off
    pub top_p: Option<f32>,
    /// only so many of the most probable tokens; 0 or -1: off
    pub top_k: Option<i64>,
    /// only tokens of at least so many times the probability of the best; 0: off
    pub min_p: Option<f32>,
    /// makes tokens that were there less probable; 1: off
    #[serde(alias = "repetition_penalty")]
    pub repeat_penalty: Option<f32>,
    /// how many recent tokens the penalties look at; 0: off, -1: all
    pub repeat_last_n: Option<i64>,
    /// subtracted from a logit as often as its token was there
    pub frequency_penalty: Option<f32>,
    /// subtracted once from the logit of a token that was there
    pub presence_penalty: Option<f32>,
    /// added to the logits of tokens, by id
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// the same seed gives the same answer; -1 or absent: a random one
    pub seed: Option<i64>,
    /// texts at which the answer stops, and which are not part of it
    pub stop: Option<OneOrMany>,
    /// most tokens of the answer; more than there is room for is no error, -1: as many as there is room for
    pub max_tokens: Option<i64>,
    /// the same, under its newer name, which counts where both are there
    pub max_completion_tokens: Option<i64>,
    /// the same, under llama-server's name
    pub n_predict: Option<i64>,
    /// go on past the model's end of the text
    pub ignore_eos: Option<bool>,
    /// whether tokens are guessed and computed together: `auto`, `off`, or a number of tokens; changes no answer
    pub speculation: Option<String>,
    /// answers to the same prompt
    pub n: Option<u64>,
    /// how the KV cache is stored: one of those that the operator allows
    pub kv: Option<String>,
    /// how positions are told to the model: one of those that the operator allows
    pub positions: Option<String>,
    /// separates the cached documents of those who use one key
    pub cache_salt: Option<String>,
}

fn within(name: &str, value: f32, range: std::ops::RangeInclusive<f32>) -> Result<f32, ApiError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = range.into_inner();
    Err(ApiError::invalid(name, format!("{name} is {value}, but must be between {low} and {high}")))
}

impl SamplingFields {
    /// As the engine wants it, for answer `index`. `seed`: of an answer that names none.
    ///
    /// # Errors
    /// A value is out of its range; the error names the field.
    pub fn options(
        &self,
        defaults: &GenerationOptions,
        n_vocab: usize,
        seed: u64,
    ) -> Result<GenerationOptions, ApiError> {
        let sampling = &defaults.sampling;
        let number = |name: &str, value: Option<f32>, default: f32, range: std::ops::RangeInclusive<f32>| {
            match value {
                Some(value) => within(name, value, range),
                None => Ok(default),
            }
        };
        let count = |name: &str, value: Option<i64>, default: usize, off: usize| match value {
            None => Ok(default),
            Some(-1) => Ok(off),
            Some(value) => usize::try_from(value)
                .map_err(|_| ApiError::invalid(name, format!("{name} is {value}, but must be at least -1"))),
        };
        let mut stop = self.stop.clone().map_or_else(|| defaults.stop.clone(), OneOrMany::into_vec);
        stop.retain(|text| !text.is_empty());
        if stop.len() > MOST_STOPS {
            let message = format!("stop has {} texts, but may have {MOST_STOPS}", stop.len());
            return Err(ApiError::invalid("stop", message));
        }
        let max_tokens =
            match self.limit() {
                None => defaults.max_tokens,
                Some((_, -1)) => None,
                Some((name, n)) => Some(usize::try_from(n).map_err(|_| {
                    ApiError::invalid(name, format!("{name} is {n}, but must be at least -1"))
                })?),
            };
        let speculation = match &self.speculation {
            Some(text) => {
                text.parse::<Speculation>().map_err(|error| ApiError::invalid("speculation", error))?
            }
            None => defaults.speculation,
        };
        let ignore_eos = self.ignore_eos.unwrap_or(defaults.ignore_eos);
        Ok(GenerationOptions {
            sampling: SamplingOptions {
                temperature: number("temperature", self.temperature, sampling.temperature, 0.0..=100.0)?,
                top_p: number("top_p", self.top_p, sampling.top_p, 0.0..=1.0)?,
                min_p: number("min_p", self.min_p, sampling.min_p, 0.0..=1.0)?,
                top_k: count("top_k", self.top_k, sampling.top_k, 0)?,
                repeat_penalty: number(
                    "repeat_penalty",
                    self.repeat_penalty,
                    sampling.repeat_penalty,
                    0.01..=100.0,
                )?,
                repeat_last_n: count(
                    "repeat_last_n",
                    self.repeat_last_n,
                    sampling.repeat_last_n,
                    usize::MAX,
                )?,
                frequency_penalty: number(
                    "frequency_penalty",
                    self.frequency_penalty,
                    sampling.frequency_penalty,
                    -100.0..=100.0,
                )?,
                presence_penalty: number(
                    "presence_penalty",
                    self.presence_penalty,
                    sampling.presence_penalty,
                    -100.0..=100.0,
                )?,
                logit_bias: self.logit_bias(n_vocab)?.unwrap_or_else(|| sampling.logit_bias.clone()),
                seed,
                n_logprobs: None,
                logprobs_of: Vec::new(),
            },
            max_tokens,
            stop,
            ignore_eos,
            stop_cycles: max_tokens.is_none() && !ignore_eos,
            prompt_logprobs: false,
            visible: Vec::new(),
            speculation,
        })
    }

    /// The field that limits the tokens, and its value.
    pub fn limit(&self) -> Option<(&'static str, i64)> {
        let named = [
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_tokens", self.max_tokens),
            ("n_predict", self.n_predict),
        ];
        named.into_iter().find_map(|(name, value)| Some((name, value?)))
    }

    fn logit_bias(&self, n_vocab: usize) -> Result<Option<Vec<(u32, f32)>>, ApiError> {
        let Some(biases) = &self.logit_bias else { return Ok(None) };
        let of = |(token, bias): (&String, &f32)| match token.parse::<u32>() {
            Ok(id) if (id as usize) < n_vocab => Ok((id, within("logit_bias", *bias, -1000.0..=1000.0)?)),
            _ => Err(ApiError::invalid(
                "logit_bias",
                format!("logit_bias: `{token}` is no token id below {n_vocab}"),
            )),
        };
        // OpenAI's -100 bans a token.
        let banned = |(id, bias): (u32, f32)| (id, if bias <= -100.0 { f32::NEG_INFINITY } else { bias });
        biases.iter().map(|pair| of(pair).map(banned)).collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// How many answers.
    ///
    /// # Errors
    /// None, or more than the server gives.
    pub fn n(&self, most: usize) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            n if n >= 1 && n <= most as u64 => Ok(n as usize),
            n => Err(ApiError::invalid("n", format!("n is {n}, but must be between 1 and {most}"))),
        }
    }

    /// The seed of the first answer; each further one adds one.
    ///
    /// # Errors
    /// It is negative.
    pub fn seed(&self, default: Option<u64>) -> Result<u64, ApiError> {
        match self.seed {
            None | Some(-1) => Ok(default.unwrap_or_else(random)),
            Some(seed) => u64::try_from(seed)
                .map_err(|_| ApiError::invalid("seed", format!("seed is {seed}, but must be at least -1"))),
        }
    }
}

/// A name that nothing else has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", random(), random() as u32)
}

/// A number that nobody knows before; not for secrets.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::time::SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: &str) -> Result<GenerationOptions, String> {
        let fields: SamplingFields = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let defaults = GenerationOptions::default();
        fields.options(&defaults, 100, 0).map_err(|error| error.message().to_string())
    }

    #[test]
    fn what_is_absent_is_as_the_server_was_started() {
        assert_eq!(options(r#"{"speculation": "off"}"#).unwrap().speculation, Speculation::Off);
        let found = options("{}").unwrap();
        assert_eq!(found.speculation, Speculation::Auto);
        assert_eq!(found.sampling.temperature, SamplingOptions::default().temperature);
        assert!(found.stop_cycles && found.max_tokens.is_none());
        let found =
            options(r#"{"temperature": 0, "top_k": -1, "max_completion_tokens": 7, "stop": "x"}"#).unwrap();
        assert_eq!((found.sampling.temperature, found.sampling.top_k), (0.0, 0));
        assert_eq!(
            (found.max_tokens, found.stop, found.stop_cycles),
            (Some(7), vec!["x".to_string()], false)
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (json, name) in [
            (r#"{"temperature": -1}"#, "temperature is -1"),
            (r#"{"top_p": 1.5}"#, "top_p is 1.5"),
            (r#"{"top_k": -2}"#, "top_k is -2"),
            (r#"{"max_tokens": -5}"#, "max_tokens is -5"),
            (r#"{"logit_bias": {"100": 1}}"#, "`100` is no token id below 100"),
            (r#"{"logit_bias": {"x": 1}}"#, "`x` is no token id"),
            (r#"{"speculation": "on"}"#, "`on` is no kind of speculation"),
        ] {
            let error = options(json).unwrap_err();
            assert!(error.contains(name), "{json}: {error}");
        }
    }

    #[test]
    fn a_bias_of_minus_hundred_bans() {
        let found = options(r#"{"logit_bias": {"3": -100, "4": 5}}"#).unwrap();
        assert_eq!(found.sampling.logit_bias, [(3, f32::NEG_INFINITY), (4, 5.0)]);
    }
}
