//! What the user can type against an error of the library, which knows no options.

use anyhow::Error;
use lossy_engine::{ActivationKind, EngineError, RequestError, SavedError};

/// The error and its causes in one line, and what to do about it.
pub fn with_hint(error: &Error) -> String {
    match error.chain().find_map(hint) {
        Some(hint) => format!("{error:#}; {hint}"),
        None => format!("{error:#}"),
    }
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(EngineError::Unread(_)) = cause.downcast_ref() {
        return Some("--ignore-unread goes on without it");
    }
    match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(RequestError::TooLong { .. }), _) => Some("raise --ctx-size or shorten the prompt"),
        (Some(RequestError::NotFinite { activations: ActivationKind::Q8, .. }), _) => {
            Some("try --activations f32")
        }
        (_, Some(SavedError::TooLong { .. })) => Some("raise --ctx-size"),
        _ => None,
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
        let error = anyhow::Error::from(EngineError::Unread(parts)).context("model.gguf");
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
