//! Long sequences in no time, for measuring.

use super::{Engine, Sequence};
use crate::EngineError;
use crate::cache::PAGE_TOKENS;

impl Engine {
    /// Brings a sequence to `n_tokens` by copies of its tokens and of their pages, again and again: as many bytes to read as
    /// after a real [`prefill`](Engine::prefill), at the cost of copying. Tokens behind its last whole page are replaced by
    /// copies too. A sequence that is as long already stays as it is.
    ///
    /// # Errors
    /// The context or the cache's budget does not hold them, or the sequence has no whole page. It has not changed then.
    pub fn extend_with_copies(&self, sequence: &mut Sequence, n_tokens: usize) -> Result<(), EngineError> {
        if n_tokens <= sequence.len() {
            return Ok(());
        }
        self.check(n_tokens, &[])?;
        let n_own = sequence.len() / PAGE_TOKENS * PAGE_TOKENS;
        if n_own == 0 {
            return Err(EngineError::NothingToCopy { n_tokens: sequence.len(), page: PAGE_TOKENS });
        }
        let mut longer = sequence.cache.fork();
        longer.truncate(n_own);
        longer.extend_with_copies(n_tokens)?;
        sequence.cache = longer;
        sequence.tokens = sequence.tokens[..n_own].iter().copied().cycle().take(n_tokens).collect();
        Ok(())
    }
}
