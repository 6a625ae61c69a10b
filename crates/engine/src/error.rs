//! The engine's one error.

/// What can go wrong between a model file and text.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A prompt or a request that does not fit: nothing is ever cut off.
    #[error(
        "the prompt has {n_prompt} tokens, but the context holds {n_ctx}; raise --ctx-size or shorten the prompt"
    )]
    PromptTooLong {
        /// tokens of the prompt
        n_prompt: usize,
        /// tokens that the context holds
        n_ctx: usize,
    },
    /// The caller asked to stop (Ctrl-C) during prefill.
    #[error("stopped after {n_done} of {n_total} prompt tokens")]
    Stopped {
        /// tokens processed
        n_done: usize,
        /// tokens of the prompt
        n_total: usize,
    },
}
