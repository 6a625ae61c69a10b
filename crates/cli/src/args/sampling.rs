//! How tokens are chosen and when to stop.

use clap::Args;
use lossy_engine::{GenerationOptions, SamplingOptions, Speculation};

use super::value::{LogitBias, number_in};

/// Sampling and stopping.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Most tokens to generate; -1: until the model ends or the context is full [default: -1, but an answer that goes
    /// in circles is stopped, and a line says so]
    #[arg(short = 'n', long = "predict", visible_alias = "n-predict", value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-1..=1 << 31))]
    pub predict: Option<i64>,

    /// Seed; the same one gives the same text. -1: a random one, which the last line tells
    #[arg(short = 's', long, value_name = "N", default_value_t = -1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-1..))]
    pub seed: i64,

    /// Temperature; 0: always the most probable token
    #[arg(long, visible_alias = "temperature", value_name = "X", default_value_t = 0.8, allow_negative_numbers = true,
          value_parser = |text: &str| number_in(text, 0.0..=100.0))]
    pub temp: f32,

    /// Only the N most probable tokens; 0 or -1: off
    #[arg(long, value_name = "N", default_value_t = 40, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-1..=1 << 31))]
    pub top_k: i64,

    /// Only the most probable tokens that together reach probability X; 1: off
    #[arg(long, value_name = "X", default_value_t = 0.95, allow_negative_numbers = true,
          value_parser = |text: &str| number_in(text, 0.0..=1.0))]
    pub top_p: f32,

    /// Only tokens of at least X times the probability of the best; 0: off
    #[arg(long, value_name = "X", default_value_t = 0.05, allow_negative_numbers = true,
          value_parser = |text: &str| number_in(text, 0.0..=1.0))]
    pub min_p: f32,

    /// Makes tokens that were there less probable; 1: off
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = |text: &str| number_in(text, 0.01..=100.0))]
    pub repeat_penalty: f32,

    /// How many recent tokens the penalties look at; 0: off, -1: all
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-1..=1 << 31))]
    pub repeat_last_n: i64,

    /// Subtracted once from the logit of a token that was there
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = |text: &str| number_in(text, -100.0..=100.0))]
    pub presence_penalty: f32,

    /// Subtracted from the logit of a token as often as it was there
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = |text: &str| number_in(text, -100.0..=100.0))]
    pub frequency_penalty: f32,

    /// Added to the logit of a token, such as 15043+1 or 15043-inf; may be given several times
    #[arg(short = 'l', long, value_name = "TOKEN+BIAS")]
    pub logit_bias: Vec<LogitBias>,

    /// Text at which generation stops, and which is not printed; may be given several times
    #[arg(short = 'r', long, visible_alias = "reverse-prompt", value_name = "TEXT", allow_hyphen_values = true,
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,

    /// Goes on past the model's end of the text
    #[arg(long)]
    pub ignore_eos: bool,

    /// Prints the log-probability of each token and of the N most probable ones to stderr after the answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub logprobs: Option<u32>,

    /// Guesses tokens from what stood in the text before, and computes several at once; changes no answer. auto: where it
    /// pays; off: never; N: so many tokens wherever the text has stood before, to measure
    #[arg(long, value_name = "auto|off|N", default_value_t = Speculation::Auto, env = "LOSSY_SPECULATION")]
    pub speculation: Speculation,
}

impl SamplingArgs {
    /// As the engine wants it. A seed of -1 becomes a random one here, so that it can be told.
    pub fn options(&self) -> GenerationOptions {
        GenerationOptions {
            sampling: SamplingOptions {
                temperature: self.temp,
                top_k: usize::try_from(self.top_k).unwrap_or(0),
                top_p: self.top_p,
                min_p: self.min_p,
                repeat_penalty: self.repeat_penalty,
                repeat_last_n: usize::try_from(self.repeat_last_n).unwrap_or(usize::MAX),
                frequency_penalty: self.frequency_penalty,
                presence_penalty: self.presence_penalty,
                logit_bias: self.logit_bias.iter().map(|bias| (bias.token, bias.bias)).collect(),
                seed: u64::try_from(self.seed).unwrap_or_else(|_| random_seed()),
                n_logprobs: self.logprobs.map(|n| n as usize),
                logprobs_of: Vec::new(),
            },
            max_tokens: self.predict.and_then(|n| usize::try_from(n).ok()),
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            // Past its end a model often has nothing new to say; whoever asks for that gets it.
            stop_cycles: self.predict.is_none() && !self.ignore_eos,
            prompt_logprobs: false,
            visible: Vec::new(),
            speculation: self.speculation,
        }
    }
}

/// Short enough to be typed again.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now()) >> 32
}
