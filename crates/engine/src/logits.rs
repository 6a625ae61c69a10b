//! Which rows of a batch get logits.

/// Which logits of a batch's item are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// none (a chunk in the middle of a prompt)
    None,
    /// after the last token
    Last,
    /// after every token
    All,
    /// after every token, computed as if the tokens came in passes of their own. With some caches a token has other bits among
    /// others of its page than alone; see [`Cache::computes_alike`](crate::Cache::computes_alike)
    OneByOne,
}

impl Logits {
    /// Rows of logits for an item of `n_tokens`.
    pub(crate) fn n_rows(self, n_tokens: usize) -> usize {
        match self {
            Logits::None => 0,
            Logits::Last => n_tokens.min(1),
            Logits::All | Logits::OneByOne => n_tokens,
        }
    }
}
