//! What can go wrong when a setting is measured.

use lossy_engine::{EngineError, RequestError, SettingError};

use crate::setting::InvalidSetting;

/// A measurement that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// the engine's own
    #[error(transparent)]
    Engine(EngineError),
    /// the observer ended the measurement before there was a result
    #[error("the measurement was stopped")]
    Stopped,
    /// a setting that is not valid, or does not fit another one
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// a setting that could not be measured to its end
    #[error("{setting}: {reason}")]
    Failed {
        /// the setting
        setting: String,
        /// why
        reason: String,
    },
    /// not enough text for one window
    #[error(
        "the text `{name}` has {n_tokens} tokens, but a window has {n_ctx}: give more text or a shorter context"
    )]
    TextTooShort {
        /// the text
        name: String,
        /// what it has
        n_tokens: usize,
        /// what a window needs
        n_ctx: usize,
    },
    /// nothing of a window would count
    #[error(
        "a window of {n_ctx} tokens of which {skip} are skipped predicts nothing: it must have at least {skip} + 2"
    )]
    NothingScored {
        /// tokens of a window
        n_ctx: usize,
        /// predictions at its beginning that do not count
        skip: usize,
    },
    /// a text that cannot be tokenized
    #[error(transparent)]
    Tokenizer(#[from] lossy_tokenizer::TokenizerError),
    /// a context that does not hold a task at all
    #[error("the task `{task}` needs more than {n_tokens} tokens")]
    TaskTooLong {
        /// the task
        task: &'static str,
        /// what was allowed
        n_tokens: usize,
    },
    /// a reference of another text
    #[error("the reference has {n_saved} predictions, and the text more")]
    TooFewSaved {
        /// what was saved
        n_saved: usize,
    },
    /// a reference with other tokens
    #[error(
        "{model} and {reference} have different vocabularies, so their predictions cannot be compared: {difference}"
    )]
    Vocabulary {
        /// the model's file
        model: String,
        /// the reference's
        reference: String,
        /// the first difference, in this order
        difference: String,
    },
    /// logits that are infinite or not a number
    #[error("the logits after token {position} are not numbers")]
    NotFinite {
        /// position in the window
        position: usize,
    },
}

impl From<EngineError> for EvalError {
    fn from(error: EngineError) -> EvalError {
        let is_stopped = matches!(
            error,
            EngineError::Request(RequestError::Stopped { .. })
                | EngineError::Setting(SettingError::Calibrating(RequestError::Stopped { .. }))
        );
        if is_stopped { EvalError::Stopped } else { EvalError::Engine(error) }
    }
}

impl From<SettingError> for EvalError {
    fn from(error: SettingError) -> EvalError {
        EngineError::from(error).into()
    }
}
