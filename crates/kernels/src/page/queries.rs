//! The queries of one KV head, as a storage format meets them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::frames::turn_queries_back;
use super::tile::Lines;
use super::{FRAMES, PAGE_TOKENS, PageFrames, Rows};
use crate::Isa;

/// Query rows of one KV head, scaled: the heads of a token, or of several.
#[derive(Debug, Default)]
pub struct QueryRows {
    head_dim: usize,
    /// `[n_rows, head_dim]`
    scaled: Vec<f32>,
    /// what a format made of them
    prepared: Prepared,
}

/// What a storage format makes of query rows once, and needs for every page.
#[derive(Debug, Default)]
struct Prepared {
    /// `None`: nothing yet
    of: Option<(CodeId, Form)>,
    values: Lines,
}

/// Who reads what was prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// kernels that meet a page with a few heads
    Heads,
    /// kernels that meet it with many rows
    #[cfg(target_arch = "x86_64")]
    Rows,
    /// kernels that estimate what it weighs
    #[cfg(target_arch = "x86_64")]
    Estimates,
}

/// Which code queries are prepared for: no two codes that were made apart have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeId(u64);

impl CodeId {
    /// One that nothing else has.
    pub(crate) fn new() -> CodeId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        CodeId(NEXT.fetch_add(1, Relaxed))
    }
}

impl QueryRows {
    /// Takes `n_heads` heads from each of `rows`, times `factor`.
    pub(crate) fn set(&mut self, rows: Rows<'_>, n_heads: usize, head_dim: usize, factor: f32) {
        self.head_dim = head_dim;
        self.scaled.clear();
        for row in 0..rows.n_rows() {
            self.scaled.extend(rows.row(row, n_heads * head_dim).iter().map(|q| q * factor));
        }
        self.prepared.of = None;
    }

    /// Channels of a row.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Rows.
    pub fn n_rows(&self) -> usize {
        self.scaled.len() / self.head_dim.max(1)
    }

    /// The rows `[n_rows, head_dim]`, whose products with keys are scores in log₂.
    pub fn scaled(&self) -> &[f32] {
        &self.scaled
    }

    /// The `n_values` that `prepare` makes of the rows `[n_rows, head_dim]` for a code. It is called once for a code.
    pub(crate) fn prepared(
        &mut self,
        code: CodeId,
        n_values: usize,
        prepare: impl FnOnce(&[f32], &mut [f32]),
    ) -> &[f32] {
        self.prepared_for((code, Form::Heads), n_values, prepare)
    }

    /// The same for a kernel that is made for many rows.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn prepared_rows(
        &mut self,
        code: CodeId,
        n_values: usize,
        prepare: impl FnOnce(&[f32], &mut [f32]),
    ) -> &[f32] {
        self.prepared_for((code, Form::Rows), n_values, prepare)
    }

    /// The same for estimates.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn prepared_estimates(
        &mut self,
        code: CodeId,
        n_values: usize,
        prepare: impl FnOnce(&[f32], &mut [f32]),
    ) -> &[f32] {
        self.prepared_for((code, Form::Estimates), n_values, prepare)
    }

    fn prepared_for(
        &mut self,
        key: (CodeId, Form),
        n_values: usize,
        prepare: impl FnOnce(&[f32], &mut [f32]),
    ) -> &[f32] {
        if self.prepared.of != Some(key) {
            self.prepared.values.grow(n_values);
            prepare(&self.scaled, &mut self.prepared.values.values_mut()[..n_values]);
            self.prepared.of = Some(key);
        }
        &self.prepared.values.values()[..n_values]
    }
}

/// The query heads of one token on one KV head, and room for their weights.
#[derive(Debug, Default)]
pub struct TokenQueries {
    queries: QueryRows,
    /// `[FRAMES][n_heads * head_dim]`, if the frames of the page are moved
    turned: Vec<f32>,
    /// `[n_heads][PAGE_TOKENS]`
    weights: Lines,
    /// room for the records of tokens that are stored apart
    records: Vec<f32>,
}

/// Room for the weights of `n_heads` heads.
fn rows_of(weights: &mut Lines, n_heads: usize) -> &mut [[f32; PAGE_TOKENS]] {
    &mut weights.values_mut().as_chunks_mut().0[..n_heads]
}

impl TokenQueries {
    /// Takes `n_heads` heads from the one row of `rows`, times `factor`.
    pub(crate) fn set(&mut self, rows: Rows<'_>, n_heads: usize, head_dim: usize, factor: f32) {
        assert_eq!(rows.n_rows(), 1, "rows of one token");
        self.queries.set(rows, n_heads, head_dim, factor);
        self.weights.grow(n_heads * PAGE_TOKENS);
        self.turned.clear();
    }

    /// From now on frames of exact keys are met as if they were moved by these angles.
    pub fn set_moved(&mut self, isa: Isa, moved: Option<PageFrames<'_>>) {
        let Some(frames) = moved else { return self.turned.clear() };
        let scaled = self.queries.scaled();
        self.turned.resize(FRAMES * scaled.len(), 0.0);
        turn_queries_back(isa, frames, scaled, &mut self.turned);
    }

    /// The scaled queries `[n_heads, head_dim]` that meet each frame of exact keys, and the weights.
    pub(crate) fn by_frame(&mut self) -> ([&[f32]; FRAMES], &mut [[f32; PAGE_TOKENS]]) {
        let (scaled, turned) = (self.queries.scaled(), &self.turned);
        let queries = |frame: usize| turned.chunks_exact(scaled.len()).nth(frame).unwrap_or(scaled);
        (std::array::from_fn(queries), rows_of(&mut self.weights, self.queries.n_rows()))
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        self.queries.head_dim()
    }

    /// Query heads.
    pub fn n_heads(&self) -> usize {
        self.queries.n_rows()
    }

    /// The scaled queries `[n_heads, head_dim]`, and room for the heads' scores and weights `[n_heads][PAGE_TOKENS]`.
    pub fn parts(&mut self) -> (&[f32], &mut [[f32; PAGE_TOKENS]]) {
        let (queries, weights) = self.queries_and_weights();
        (queries.scaled(), weights)
    }

    /// The queries, and room as in [`parts`](TokenQueries::parts).
    pub(crate) fn queries_and_weights(&mut self) -> (&mut QueryRows, &mut [[f32; PAGE_TOKENS]]) {
        let n_heads = self.queries.n_rows();
        (&mut self.queries, rows_of(&mut self.weights, n_heads))
    }

    /// Lends room for records to `with`.
    pub(crate) fn with_records(&mut self, with: impl FnOnce(&mut TokenQueries, &mut Vec<f32>)) {
        let mut records = std::mem::take(&mut self.records);
        with(self, &mut records);
        self.records = records;
    }
}
