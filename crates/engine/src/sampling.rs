//! From logits to the next token.

/// How the next token is chosen. `temperature: 0.0` is greedy.
#[derive(Clone, Debug)]
pub struct SamplingOptions {
    /// 0 is greedy
    pub temperature: f32,
    /// 0: off
    pub top_k: usize,
    /// 1: off
    pub top_p: f32,
    /// 0: off
    pub min_p: f32,
    /// 1: off; divides positive logits of tokens seen in the last `repeat_last_n`, multiplies negative ones
    pub repeat_penalty: f32,
    /// how many recent tokens the penalties look at
    pub repeat_last_n: usize,
    /// subtracted per earlier occurrence
    pub frequency_penalty: f32,
    /// subtracted once for a token that has occurred
    pub presence_penalty: f32,
    /// added to the logit of a token
    pub logit_bias: Vec<(u32, f32)>,
    /// same seed, same text
    pub seed: u64,
    /// how many alternatives to report per token; `None`: no log-probabilities
    pub n_logprobs: Option<usize>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            n_logprobs: None,
        }
    }
}

/// A token and the natural logarithm of its probability under the model (before penalties and temperature).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// token id
    pub id: u32,
    /// nats
    pub logprob: f32,
}

/// The choice for one position.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// token id
    pub id: u32,
    /// of the chosen token; `None` unless asked for
    pub logprob: Option<f32>,
    /// the most probable tokens, best first; empty unless asked for
    pub top: Vec<TokenLogprob>,
}

/// Chooses tokens; keeps the random state and the recent tokens.
pub struct Sampler {
    _options: SamplingOptions,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    pub fn new(options: SamplingOptions) -> Sampler {
        Sampler { _options: options }
    }
}
