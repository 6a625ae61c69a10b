//! The text that statistics are made of: bundled prose, code and conversations, or one of the caller's.
//!
//! Conversations go through the model's own chat template, so that the statistics know its marks of turns, and calls of tools.
//! Nothing of the text is measured on: see `text/README.md`.

use std::collections::HashSet;

use lossy_engine::{LoadError, ModelSource};
use lossy_eval::BUNDLED;
use lossy_tokenizer::{ChatTemplate, EncodeOptions, Message, RenderOptions, Tokenizer, TokenizerError};

use crate::statistics::{LEAST_TOKENS, StatisticsError};

/// Prose and code.
const TEXTS: [&str; 2] = [include_str!("../text/prose.txt"), include_str!("../text/code.txt")];
/// Conversations, each a list of messages.
const CONVERSATIONS: &str = include_str!("../text/conversations.json");
/// Words in a row that two texts do not share by chance.
const RUN: usize = 8;

/// Why a text cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// the model has no tokenizer, or a template with a mistake
    #[error(transparent)]
    Load(#[from] LoadError),
    /// a text that the vocabulary cannot spell, or a conversation that the template refuses
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// a text that `lossy measure` measures on
    #[error(
        "{n_shared} of {n_runs} runs of {RUN} words are also in the bundled {name} that losses are measured on: a model that was \
         fitted to it would look better than it is. Give another text"
    )]
    Measured {
        /// which of the bundled texts
        name: &'static str,
        /// runs of words that both have
        n_shared: usize,
        /// runs of words of the text
        n_runs: usize,
    },
}

/// The bundled text as tokens: some 20,000.
///
/// # Errors
/// The model has no tokenizer, or its chat template refuses the conversations.
pub fn bundled(source: &ModelSource) -> Result<Vec<u32>, CalibrationError> {
    let tokenizer = source.tokenizer()?;
    let template = source.chat_template()?;
    let mut tokens = Vec::new();
    for text in TEXTS {
        tokens.extend(tokenizer.encode(text, EncodeOptions::default())?);
    }
    for messages in conversations() {
        tokens.extend(conversation(&tokenizer, template.as_ref(), messages)?);
    }
    Ok(tokens)
}

/// A text of the caller's as tokens.
///
/// # Errors
/// The vocabulary cannot spell it, or a good part of it is measured on.
pub fn of_text(source: &ModelSource, text: &str) -> Result<Vec<u32>, CalibrationError> {
    let found = runs(text);
    for measured in BUNDLED {
        let n_shared = runs(measured.text).intersection(&found).count();
        // A quotation is no harm.
        if n_shared * 100 > found.len() {
            return Err(CalibrationError::Measured { name: measured.name, n_shared, n_runs: found.len() });
        }
    }
    Ok(source.tokenizer()?.encode(text, EncodeOptions::default())?)
}

/// Tokens of the windows that models are trained and compared on.
pub const WINDOW: usize = 256;
/// Of so many windows one is held out, and at most [`MOST_HELD_OUT`] of all.
const ONE_OF: usize = 8;
const MOST_HELD_OUT: usize = 16;

/// A text in windows; what is left over is not used.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    /// to train by, or to choose by
    pub open: Vec<&'a [u32]>,
    /// what decides: evenly spread over the text, so that it is of every kind
    pub held_out: Vec<&'a [u32]>,
}

impl<'a> Split<'a> {
    /// One window of eight is held out, and sixteen at most.
    ///
    /// # Errors
    /// The text has fewer tokens than statistics need.
    pub fn of(tokens: &'a [u32]) -> Result<Split<'a>, StatisticsError> {
        if tokens.len() < LEAST_TOKENS {
            return Err(StatisticsError::TooShort { n_tokens: tokens.len() });
        }
        let n_windows = tokens.len() / WINDOW;
        let n_held_out = (n_windows / ONE_OF).clamp(1, MOST_HELD_OUT);
        let (mut open, mut held_out) = (Vec::new(), Vec::new());
        for (at, window) in tokens.chunks_exact(WINDOW).enumerate() {
            // The middle of each of `n_held_out` equal parts.
            let is_middle = (0..n_held_out).any(|part| (2 * part + 1) * n_windows / (2 * n_held_out) == at);
            if is_middle { held_out.push(window) } else { open.push(window) }
        }
        Ok(Split { open, held_out })
    }

    /// The open windows in an order that a seed makes.
    pub fn shuffle(&mut self, seed: u64) {
        let mut state = seed;
        // SplitMix64 (Steele et al. 2014), and the shuffle of Fisher and Yates.
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        for last in (1..self.open.len()).rev() {
            self.open.swap(last, (next() % (last as u64 + 1)) as usize);
        }
    }
}

fn conversations() -> Vec<Vec<Message>> {
    serde_json::from_str(CONVERSATIONS).expect("the bundled conversations are lists of messages")
}

/// A conversation as the model would see it. A template without a role `system` gets those words before the user's first ones.
fn conversation(
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    mut messages: Vec<Message>,
) -> Result<Vec<u32>, TokenizerError> {
    let Some(template) = template else {
        let lines: Vec<String> =
            messages.iter().map(|message| format!("{}: {}", message.role, message.content)).collect();
        return tokenizer.encode(&lines.join("\n\n"), EncodeOptions::default());
    };
    let options = RenderOptions::default();
    match template.encode(tokenizer, &messages, &options) {
        Err(_) if messages[0].role == "system" => {
            let system = messages.remove(0);
            messages[0].content = format!("{}\n\n{}", system.content, messages[0].content);
            template.encode(tokenizer, &messages, &options)
        }
        tokens => tokens,
    }
}

/// All runs of [`RUN`] words, whatever stands between them.
fn runs(text: &str) -> HashSet<Vec<&str>> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.windows(RUN).map(<[&str]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::LEAST_TOKENS;
    use lossy_testkit::TestModel;

    #[test]
    fn nothing_that_is_measured_is_in_the_bundled_text() {
        let said: String =
            conversations().concat().iter().map(|message| message.content.clone() + "\n").collect();
        for text in [TEXTS[0], TEXTS[1], &said] {
            let found = runs(text);
            assert!(found.len() > 1000);
            for measured in BUNDLED {
                let shared: Vec<_> = runs(measured.text).intersection(&found).cloned().collect();
                assert!(shared.is_empty(), "{}: {shared:?}", measured.name);
            }
        }
    }

    #[test]
    fn a_split_has_every_window_once_and_its_order_is_that_of_the_seed() {
        let tokens: Vec<u32> = (0..80 * WINDOW as u32 + 100).collect();
        for (n_tokens, n_open, n_held_out) in [(LEAST_TOKENS, 7, 1), (20_000, 69, 9), (tokens.len(), 70, 10)]
        {
            let split = Split::of(&tokens[..n_tokens]).unwrap();
            assert_eq!((split.open.len(), split.held_out.len()), (n_open, n_held_out));
            let mut firsts: Vec<u32> =
                split.open.iter().chain(&split.held_out).map(|window| window[0]).collect();
            firsts.sort_unstable();
            assert!(firsts.iter().enumerate().all(|(at, &first)| first as usize == at * WINDOW));
        }
        let order = |seed| {
            let mut split = Split::of(&tokens).unwrap();
            split.shuffle(seed);
            split.open.iter().map(|window| window[0]).collect::<Vec<_>>()
        };
        assert!(order(1) == order(1) && order(1) != order(2));
        let error = Split::of(&tokens[..2047]).unwrap_err().to_string();
        assert!(error.contains("has 2047 tokens, but at least 2048"), "{error}");
    }

    #[test]
    fn conversations_have_the_models_own_marks_of_turns() {
        for model in [TestModel::SmolLm2, TestModel::QwenCoder] {
            let source = ModelSource::open(&model.path()).unwrap();
            let tokenizer = source.tokenizer().unwrap();
            let tokens = bundled(&source).unwrap();
            assert!(tokens.len() >= 8 * LEAST_TOKENS, "{} tokens", tokens.len());
            let parse = EncodeOptions { add_special: false, parse_special: true };
            let mark = tokenizer.encode("<|im_start|>", parse).unwrap();
            let n_turns = tokens.iter().filter(|token| **token == mark[0]).count();
            let n_messages: usize = conversations().iter().map(Vec::len).sum();
            // Both templates write a system turn where a conversation has none.
            assert!(n_turns >= n_messages, "{n_turns} turns of {n_messages} messages");
        }
    }

    #[test]
    fn a_text_that_is_measured_on_is_refused_and_a_quotation_is_not() {
        let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
        for measured in BUNDLED {
            let error = of_text(&source, &measured.text[..20_000]).unwrap_err();
            assert!(
                matches!(error, CalibrationError::Measured { name, .. } if name == measured.name),
                "{error}"
            );
        }
        let quotation: String = BUNDLED[0].text.chars().take(200).collect();
        assert!(of_text(&source, &(TEXTS[0].to_string() + &quotation)).is_ok());
    }
}
