//! What the user can type against an error of the library, which knows no options.

use anyhow::Error;
use lossy_engine::{ActivationKind, LoadError, RequestError, SavedError};
use lossy_eval::divergence::ReferenceError;

/// The error and its causes in one line, and what to do about it.
pub fn with_hint(error: &Error) -> String {
    match error.chain().find_map(hint) {
        Some(hint) => format!("{error:#}; {hint}"),
        None => format!("{error:#}"),
    }
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    /// Somebody's own file is not to be deleted.
    const FOREIGN: &str = "name another file";
    const OF_NO_USE: &str = "name another file, or delete this one";
    if let Some(LoadError::Unread(_)) = cause.downcast_ref() {
        return Some("--ignore-unread goes on without it");
    }
    if let Some(error) = cause.downcast_ref::<RequestError>() {
        return match error {
            RequestError::TooLong { .. } => Some("raise --ctx-size or shorten the prompt"),
            RequestError::NotFinite { activations: ActivationKind::Q8, .. } => Some("try --activations f32"),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<SavedError>() {
        return match error {
            SavedError::TooLong { .. } => Some("raise --ctx-size"),
            SavedError::NotOurs => Some(FOREIGN),
            SavedError::Other { .. } | SavedError::Damaged(_) => Some(OF_NO_USE),
            SavedError::Io(_) | SavedError::Cache(_) => None,
        };
    }
    match cause.downcast_ref::<ReferenceError>()? {
        ReferenceError::Foreign => Some(FOREIGN),
        ReferenceError::Other { .. } | ReferenceError::Damaged(_) => Some(OF_NO_USE),
        ReferenceError::Io(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use lossy_engine::UnreadParts;

    #[test]
    fn a_model_with_more_than_is_read_names_the_option() {
        let parts = UnreadParts { keys: vec!["llama.unheard_of = 3".to_owned()], ..Default::default() };
        let error = anyhow::Error::from(LoadError::Unread(parts)).context("model.gguf");
        assert!(with_hint(&error).ends_with("; --ignore-unread goes on without it"), "{}", with_hint(&error));
    }

    #[test]
    fn a_prompt_that_is_too_long_names_the_option_whatever_stands_around_the_error() {
        let error: Result<(), RequestError> = Err(RequestError::TooLong { n_prompt: 65, n_ctx: 64 });
        let error = error.context("in the chat").unwrap_err();
        let wanted = "in the chat: the prompt has 65 tokens, but the context holds 64; raise --ctx-size or shorten the prompt";
        assert_eq!(with_hint(&error), wanted);
        assert_eq!(with_hint(&anyhow::anyhow!("the disk is full")), "the disk is full");
    }
}
