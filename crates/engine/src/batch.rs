//! What goes into a forward pass, and what comes out.

use std::ops::Range;

use crate::Sequence;
pub use crate::logits::Logits;

/// One sequence's share of a batch.
pub struct BatchItem<'a> {
    /// the sequence that the tokens continue
    pub sequence: &'a mut Sequence,
    /// the new tokens
    pub tokens: &'a [u32],
    /// which logits to compute
    pub logits: Logits,
}

/// Rows of logits, in the order of the batch.
pub struct LogitRows {
    n_vocab: usize,
    values: Vec<f32>,
    /// of each item
    rows: Vec<Range<usize>>,
}

impl LogitRows {
    /// `values` `[n_rows, n_vocab]` for items with so many rows each.
    pub(crate) fn new(n_vocab: usize, values: Vec<f32>, counts: impl Iterator<Item = usize>) -> LogitRows {
        let mut end = 0;
        let rows = counts.map(|n| {
            let start = end;
            end += n;
            start..end
        });
        LogitRows { rows: rows.collect(), n_vocab, values }
    }

    /// `[n_vocab]` of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.n_vocab..(row + 1) * self.n_vocab]
    }

    /// The rows of one item of the batch, `[n_rows, n_vocab]`: none, one, or one per token, as it asked for.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn of_item(&self, item: usize) -> &[f32] {
        let Range { start, end } = self.rows[item];
        &self.values[start * self.n_vocab..end * self.n_vocab]
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.n_vocab
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All rows, `[n_rows, n_vocab]`.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}
