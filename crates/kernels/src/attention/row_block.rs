//! Prefill: a block of query rows that attends to pages as float32, and its states, also while it reads codes.
//!
//! Rows and [`Tile`] are laid out for a register block of 6 rows × 16 columns: scores are `queries · keys` and outputs
//! `weights · values`, two small matrix products around a softmax, and all of it stays in the cache of one core.

use super::scalar;
use super::source::PagePart;
use crate::Isa;
use crate::page::{
    HeadShape, Lines, PAGE_TOKENS, Partial, QueryRows, RowStates, Rows, TILE_COLUMNS, Tile, finish_row,
    record_len,
};

#[cfg(target_arch = "x86_64")]
use super::avx2;

/// Query rows that are computed together.
pub(super) const PANEL_ROWS: usize = 6;

/// The query rows of some neighbouring tokens on one KV head, `[n_tokens][heads_per_kv]`, and their softmax states.
#[derive(Debug, Default)]
pub(super) struct RowBlock {
    head_dim: usize,
    n_rows: usize,
    /// tokens that each row sees, from the sequence's first; 0 for rows that fill the last panel
    visible: Vec<usize>,
    /// of a tile, where each row's tokens begin and end; 0 and 0 for none
    starts: Vec<usize>,
    ends: Vec<usize>,
    /// the last end of each panel
    limits: Vec<usize>,
    max: Vec<f32>,
    sum: Vec<f32>,
    /// factors of the state and of the new page in their merge
    keep: Vec<f32>,
    take: Vec<f32>,
    queries: Lines,
    /// the queries as codes meet them
    rows: QueryRows,
    /// the numbers of all rows
    all: Vec<u16>,
    weights: Lines,
    out: Lines,
    /// room for the keys of a tile in the order of a kernel that has one of its own
    keys: Lines,
}

/// The parts of a [`RowBlock`]; rows count up to a whole number of panels.
pub(super) struct RowBlockParts<'a> {
    pub starts: &'a [usize],
    pub ends: &'a [usize],
    pub limits: &'a [usize],
    pub max: &'a mut [f32],
    pub sum: &'a mut [f32],
    pub keep: &'a mut [f32],
    pub take: &'a mut [f32],
    /// `[n_panels * head_dim][6]`, scaled
    pub queries: &'a [[f32; PANEL_ROWS]],
    /// `[n_rows][PAGE_TOKENS]`
    pub weights: &'a mut [[f32; PAGE_TOKENS]],
    /// `[n_rows * ⌈head_dim/16⌉][16]`
    pub out: &'a mut [[f32; TILE_COLUMNS]],
    /// what [`RowBlock::reserve_keys`] made
    pub keys: &'a mut [f32],
}

impl RowBlock {
    /// Rows for `heads_per_kv` heads of `n_tokens` tokens, in the state of no tokens seen. The first token sees `n_visible`
    /// tokens of its sequence, itself included, and each next one sees one more.
    pub(super) fn set_shape(&mut self, shape: &HeadShape, n_tokens: usize, n_visible: usize) {
        let head_dim = shape.head_dim;
        self.head_dim = head_dim;
        self.n_rows = n_tokens * shape.heads_per_kv;
        let n_padded = self.n_rows.next_multiple_of(PANEL_ROWS);
        self.visible.clear();
        self.visible.extend((0..self.n_rows).map(|row| n_visible + row / shape.heads_per_kv));
        self.visible.resize(n_padded, 0);
        self.all.clear();
        self.all.extend(0..self.n_rows as u16);
        for values in [&mut self.max, &mut self.sum, &mut self.keep, &mut self.take] {
            values.resize(n_padded, 0.0);
        }
        self.queries.grow(n_padded * head_dim);
        self.weights.grow(n_padded * PAGE_TOKENS);
        self.out.grow(n_padded * head_dim.next_multiple_of(TILE_COLUMNS));
        self.clear();
    }

    /// Takes the queries of all rows of `rows` (one per token; `heads_per_kv` heads each) times `factor`.
    pub(super) fn set_queries(&mut self, rows: Rows<'_>, shape: &HeadShape, factor: f32) {
        let (head_dim, n_padded) = (self.head_dim, self.visible.len());
        self.rows.set(rows, shape.heads_per_kv, head_dim, factor);
        let panels = self.queries.values_mut().as_chunks_mut::<PANEL_ROWS>().0;
        for token in 0..rows.n_rows() {
            let heads = rows.row(token, shape.query_width()).chunks_exact(head_dim);
            for (head, query) in heads.enumerate() {
                let row = token * shape.heads_per_kv + head;
                let panel = &mut panels[row / PANEL_ROWS * head_dim..][..head_dim];
                for (to, q) in panel.iter_mut().zip(query) {
                    to[row % PANEL_ROWS] = q * factor;
                }
            }
        }
        for row in self.n_rows..n_padded {
            for to in &mut panels[row / PANEL_ROWS * head_dim..][..head_dim] {
                to[row % PANEL_ROWS] = 0.0;
            }
        }
    }

    /// Back to the state of no tokens.
    pub(super) fn clear(&mut self) {
        let n_out = self.visible.len() * self.head_dim.next_multiple_of(TILE_COLUMNS);
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        self.out.values_mut()[..n_out].fill(0.0);
    }

    pub(super) fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Queries, numbers and states of all rows.
    pub(super) fn rows_and_states(&mut self) -> (&mut QueryRows, &[u16], RowStates<'_>) {
        let n_out = self.n_rows * self.head_dim.next_multiple_of(TILE_COLUMNS);
        let states = RowStates {
            max: &mut self.max[..self.n_rows],
            sum: &mut self.sum[..self.n_rows],
            out: &mut self.out.values_mut()[..n_out],
        };
        (&mut self.rows, &self.all, states)
    }

    /// Sets which of the first `n_tokens` tokens of the page beginning at token `first` the rows see.
    fn look_at(&mut self, first: usize, part: PagePart, n_tokens: usize) {
        self.starts.clear();
        self.ends.clear();
        for &n_visible in &self.visible {
            let tokens = if n_visible == 0 { 0..0 } else { part.tokens(first, n_visible) };
            self.starts.push(tokens.start);
            self.ends.push(tokens.end.min(n_tokens));
        }
        let panels = self.ends.chunks(PANEL_ROWS);
        self.limits.clear();
        self.limits.extend(panels.map(|ends| ends.iter().copied().max().unwrap_or(0)));
    }

    /// Makes room for the keys of a tile.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn reserve_keys(&mut self) {
        self.keys.grow(PAGE_TOKENS * self.head_dim);
    }

    pub(super) fn parts(&mut self) -> RowBlockParts<'_> {
        let n_rows = self.visible.len();
        RowBlockParts {
            starts: &self.starts,
            ends: &self.ends,
            limits: &self.limits,
            max: &mut self.max,
            sum: &mut self.sum,
            keep: &mut self.keep,
            take: &mut self.take,
            queries: &self.queries.values().as_chunks().0[..n_rows / PANEL_ROWS * self.head_dim],
            weights: &mut self.weights.values_mut().as_chunks_mut().0[..n_rows],
            out: &mut self.out.values_mut().as_chunks_mut().0
                [..n_rows * self.head_dim.div_ceil(TILE_COLUMNS)],
            keys: self.keys.values_mut(),
        }
    }

    /// Attends from every row to those of the first `n_tokens` tokens of a tile that it sees, and merges. The first one is
    /// token `first` of the sequence.
    pub(super) fn attend(&mut self, isa: Isa, tile: &Tile, first: usize, part: PagePart, n_tokens: usize) {
        assert_eq!(self.head_dim, tile.head_dim(), "head_dim of queries and keys");
        self.look_at(first, part, n_tokens);
        match isa {
            Isa::Scalar => scalar::attend_tile(self, tile),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(avx2) => unsafe { avx2::attend_tile(avx2.extension(), self, tile) },
        }
    }

    /// Output channels of row `row`.
    fn out_row(&self, row: usize) -> &[f32] {
        &self.out.values()[row * self.head_dim.next_multiple_of(TILE_COLUMNS)..][..self.head_dim]
    }

    /// Divides row `row` by its sum.
    pub(super) fn finish_row(&self, row: usize, out: &mut [f32]) {
        finish_row(self.sum[row], self.out_row(row), out);
    }

    /// Writes the states as records `[n_rows][record]`.
    pub(super) fn store(&self, records: &mut [f32]) {
        assert_eq!(records.len(), self.n_rows * record_len(self.head_dim));
        let mut partial = Partial::new(records, self.head_dim);
        for row in 0..self.n_rows {
            partial.set(row, self.max[row], self.sum[row]).copy_from_slice(self.out_row(row));
        }
    }
}
