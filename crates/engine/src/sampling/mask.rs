//! Which tokens may come next: the seam for grammars and schemas.

/// Says which tokens may come next, and follows what was chosen.
pub trait Mask: Send {
    /// Sets the logits `[n_vocab]` of tokens that may not come next to −∞, and leaves the others as they are.
    ///
    /// # Errors
    /// The mask cannot go on, for instance because its limits are exceeded.
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), MaskError>;

    /// Goes on past a chosen token.
    ///
    /// # Errors
    /// The token was not allowed, or the mask cannot go on.
    fn accept(&mut self, id: u32) -> Result<(), MaskError>;

    /// How many of `tokens`, from the first on, it may allow in a row; changes nothing. They are a guess of what comes next, and
    /// those behind are not worth computing. Whoever does not know says all of them.
    fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        tokens.len()
    }
}

/// Why a mask cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the constraint on the text failed: {0}")]
pub struct MaskError(pub String);
