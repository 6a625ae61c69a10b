//! The text that statistics are made of: bundled prose, code and conversations, or one of the caller's.
//!
//! Conversations go through the model's own chat template, so that the statistics know its marks of turns, and calls of tools.
//! Nothing of the text is measured on: see `text/README.md`.

use std::collections::HashSet;

use lossy_engine::{LoadError, ModelSource};
use lossy_eval::BUNDLED;
use lossy_tokenizer::{ChatTemplate, EncodeOptions, Message, RenderOptions, Tokenizer, TokenizerError};

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
