//! The queries of one token on one KV head, as a storage format meets them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::frames::turn_queries_back;
use super::tile::Lines;
use super::{FRAMES, PAGE_TOKENS, PageFrames, Rows};
use crate::Isa;

/// The query heads of one token on one KV head, scaled, and room for their weights.
#[derive(Debug, Default)]
pub struct TokenQueries {
    head_dim: usize,
    scaled: Vec<f32>,
    /// `[FRAMES][n_heads * head_dim]`, if the frames of the page are moved
    turned: Vec<f32>,
    /// what a format made of them
    prepared: Prepared,
    n_heads: usize,
    /// `[n_heads][PAGE_TOKENS]`
    weights: Lines,
    /// room for the records of tokens that are stored apart
    records: Vec<f32>,
}

/// What a storage format makes of the queries of a token once, and needs for every page.
#[derive(Debug, Default)]
struct Prepared {
    /// `None`: nothing yet
    of: Option<CodeId>,
    values: Lines,
}

/// Room for the weights of `n_heads` heads.
fn rows_of(weights: &mut Lines, n_heads: usize) -> &mut [[f32; PAGE_TOKENS]] {
    &mut weights.values_mut().as_chunks_mut().0[..n_heads]
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

impl TokenQueries {
    /// Takes `n_heads` heads from row 0 of `rows`, times `factor`.
    pub(crate) fn set(&mut self, rows: Rows<'_>, n_heads: usize, head_dim: usize, factor: f32) {
        self.head_dim = head_dim;
        self.scaled.clear();
        self.scaled.extend(rows.row(0, n_heads * head_dim).iter().map(|q| q * factor));
        self.n_heads = n_heads;
        self.weights.grow(n_heads * PAGE_TOKENS);
        self.turned.clear();
        self.prepared.of = None;
    }

    /// From now on frames of exact keys are met as if they were moved by these angles.
    pub fn set_moved(&mut self, isa: Isa, moved: Option<PageFrames<'_>>) {
        let Some(frames) = moved else { return self.turned.clear() };
        self.turned.resize(FRAMES * self.scaled.len(), 0.0);
        turn_queries_back(isa, frames, &self.scaled, &mut self.turned);
    }

    /// The scaled queries `[n_heads, head_dim]` that meet each frame of exact keys, and the weights.
    pub(crate) fn by_frame(&mut self) -> ([&[f32]; FRAMES], &mut [[f32; PAGE_TOKENS]]) {
        let (scaled, turned) = (&self.scaled, &self.turned);
        let queries = |frame: usize| turned.chunks_exact(scaled.len()).nth(frame).unwrap_or(scaled);
        (std::array::from_fn(queries), rows_of(&mut self.weights, self.n_heads))
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Query heads.
    pub fn n_heads(&self) -> usize {
        self.n_heads
    }

    /// The scaled queries `[n_heads, head_dim]`, whose products with keys are scores in log₂, and room for the heads'
    /// scores and weights `[n_heads][PAGE_TOKENS]`.
    pub fn parts(&mut self) -> (&[f32], &mut [[f32; PAGE_TOKENS]]) {
        (&self.scaled, rows_of(&mut self.weights, self.n_heads))
    }

    /// The `n_values` that `prepare` makes of the scaled queries `[n_heads, head_dim]` for a code, and room as in [`parts`](TokenQueries::parts). It is called once for a code and a token.
    pub(crate) fn prepared_parts(
        &mut self,
        code: CodeId,
        n_values: usize,
        prepare: impl FnOnce(&[f32], &mut [f32]),
    ) -> (&[f32], &mut [[f32; PAGE_TOKENS]]) {
        if self.prepared.of != Some(code) {
            self.prepared.values.grow(n_values);
            prepare(&self.scaled, &mut self.prepared.values.values_mut()[..n_values]);
            self.prepared.of = Some(code);
        }
        (&self.prepared.values.values()[..n_values], rows_of(&mut self.weights, self.n_heads))
    }

    /// Lends room for records to `with`.
    pub(crate) fn with_records(&mut self, with: impl FnOnce(&mut TokenQueries, &mut Vec<f32>)) {
        let mut records = std::mem::take(&mut self.records);
        with(self, &mut records);
        self.records = records;
    }
}
