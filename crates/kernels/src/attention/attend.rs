//! Attention of a batch: cuts it into units, runs them on all threads, merges.

use std::cell::RefCell;
use std::ops::Range;

use super::plan::{Load, Plan, WorkItem};
use super::row_block::RowBlock;
use super::source::{Asked, Meeting, PagePart, PageSource};
use super::sparse::SparseScratch;
use crate::page::{
    HeadShape, PAGE_TOKENS, Partial, Rows, Tile, TokenQueries, clear, finish, merge, record_len,
};
use crate::{Compute, Isa};

/// The new tokens of one sequence.
pub struct Request<'a> {
    /// keys and values of the sequence, the new tokens' included
    pub source: &'a dyn PageSource,
    /// tokens before the new ones
    pub n_past: usize,
    /// rows of the new tokens in the batch
    pub rows: Range<usize>,
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    token: TokenQueries,
    states: Vec<f32>,
    partials: Vec<f32>,
    pub block: RowBlock,
    pub tile: Tile,
    pub sparse: SparseScratch,
}

/// Buffers of the thread that calls.
#[derive(Default)]
struct CallScratch {
    plan: Plan,
    loads: Vec<Load>,
    partials: Vec<f32>,
}

/// Partials of more than this many bytes are not kept for the next call.
const KEPT_BYTES: usize = 8 << 20;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static CALL_SCRATCH: RefCell<CallScratch> = RefCell::default();
}

/// A slice whose parts are written by several threads, each part by one.
struct Shared<'a> {
    first: *mut f32,
    len: usize,
    values: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out by `part` only, whose callers keep them apart.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(values: &'a mut [f32]) -> Shared<'a> {
        Shared { first: values.as_mut_ptr(), len: values.len(), values: std::marker::PhantomData }
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    /// No other part that overlaps is used while this one is.
    #[allow(clippy::mut_from_ref, reason = "that is what this type is for")]
    unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: inside the slice, as asserted; alone, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), len) }
    }
}

/// Causal attention: token `i` of a request sees the tokens before it and itself, `n_past + i + 1` in all.
/// `queries` are rotated rows `[n_rows, n_heads * head_dim]` in each rotation that a source names, `scale` is
/// 1/√head_dim as a rule, `out` is `[n_rows, n_heads * head_dim]`; rows that belong to no request are left alone.
///
/// # Panics
/// The shape is not supported, or rows or rotations are missing, or rows belong to two requests.
pub fn attend(
    cx: &Compute,
    shape: &HeadShape,
    scale: f32,
    queries: &[Rows<'_>],
    requests: &[Request<'_>],
    out: &mut [f32],
) {
    assert!(shape.is_supported(), "attention heads {shape:?}");
    let mut rows: Vec<Range<usize>> = requests.iter().map(|request| request.rows.clone()).collect();
    rows.sort_by_key(|rows| rows.start);
    assert!(rows.is_sorted_by(|a, b| a.end <= b.start), "rows of two requests overlap");
    let n_rows = rows.last().map_or(0, |rows| rows.end);
    assert!(out.len() >= n_rows * shape.n_heads() * shape.head_dim, "rows of the output");
    CALL_SCRATCH.with_borrow_mut(|call| {
        call.loads.clear();
        let loads = requests.iter().map(|r| Load {
            n_new: r.rows.len(),
            n_past: r.n_past,
            is_whole: r.source.sparsity().is_some(),
        });
        call.loads.extend(loads);
        let n_steps = |request: usize, n_pages: usize, asking_page: usize| {
            let source = requests[request].source;
            let n = |page| if let Meeting::Split { .. } = source.meeting(page, asking_page) { 2 } else { 1 };
            (0..n_pages).map(n).sum()
        };
        call.plan.set(shape, &call.loads, cx.pool.n_threads(), n_steps);
        call.partials.resize(call.plan.n_partials * record_len(shape.head_dim), 0.0);
        let batch = Batch {
            isa: cx.isa,
            shape: *shape,
            factor: scale * std::f32::consts::LOG2_E,
            queries,
            requests,
            out: Shared::new(out),
            partials: Shared::new(&mut call.partials),
        };
        let plan = &call.plan;
        cx.pool.run(plan.units.len(), |unit| {
            let (item, part) = plan.units[unit];
            SCRATCH.with_borrow_mut(|scratch| batch.compute(&plan.items[item], part, scratch));
        });
        if plan.n_partials > 0 {
            cx.pool.run(plan.items.len(), |item| {
                SCRATCH.with_borrow_mut(|scratch| batch.merge(&plan.items[item], scratch));
            });
        }
        if call.partials.len() * size_of::<f32>() > KEPT_BYTES {
            call.partials = Vec::new();
        }
    });
}

pub(super) struct Batch<'a> {
    pub isa: Isa,
    shape: HeadShape,
    /// `scale` · log₂e
    factor: f32,
    /// of each rotation
    queries: &'a [Rows<'a>],
    pub requests: &'a [Request<'a>],
    /// `[n_rows, n_heads * head_dim]`
    out: Shared<'a>,
    /// of each split item `[n_steps][n_tokens][heads_per_kv][record]`
    partials: Shared<'a>,
}

/// A page, or the part of it that meets one rotation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub page: usize,
    pub rotation: usize,
    pub part: PagePart,
}

impl Batch<'_> {
    /// Computes one part of an item's steps.
    fn compute(&self, item: &WorkItem, part: usize, scratch: &mut Scratch) {
        if let Some(sparsity) = self.requests[item.request].source.sparsity()
            && self.compute_sparse(item, sparsity, scratch)
        {
            return;
        }
        let first = part * item.steps_per_unit;
        let steps = self.steps(item, first).take(item.steps_per_unit);
        if item.tokens.len() == 1 {
            self.compute_token(item, steps, scratch);
        } else {
            self.compute_block(item, steps, scratch);
        }
    }

    /// The item's steps from number `first` on, in the order in which they are merged, with their numbers.
    pub(super) fn steps(&self, item: &WorkItem, first: usize) -> impl Iterator<Item = (usize, Step)> {
        let request = &self.requests[item.request];
        let asking_page = (request.n_past + item.tokens.start) / PAGE_TOKENS;
        // Where no page has two steps, a step has the number of its page.
        let mut number = if item.n_steps == item.n_pages { first } else { 0 };
        let mut page = number;
        let mut second = None;
        let every = std::iter::from_fn(move || {
            let step = match second.take() {
                Some(step) => step,
                None if page == item.n_pages => return None,
                None => {
                    let step = |rotation, part| Step { page, rotation, part };
                    let meeting = request.source.meeting(page, asking_page);
                    let step = match meeting {
                        Meeting::Whole(rotation) => step(rotation, PagePart::Seen),
                        Meeting::Split { far, near } => {
                            second = Some(step(near, PagePart::Near));
                            step(far, PagePart::Far)
                        }
                    };
                    page += 1;
                    step
                }
            };
            number += 1;
            Some((number - 1, step))
        });
        every.skip_while(move |(number, _)| *number < first)
    }

    /// One token: its heads ask the cache directly.
    fn compute_token(
        &self,
        item: &WorkItem,
        steps: impl Iterator<Item = (usize, Step)>,
        scratch: &mut Scratch,
    ) {
        let HeadShape { heads_per_kv, head_dim, .. } = self.shape;
        let request = &self.requests[item.request];
        let n_visible = request.n_past + item.tokens.end;
        let n_records = heads_per_kv * record_len(head_dim);
        scratch.partials.resize(n_records, 0.0);
        scratch.states.resize(n_records, 0.0);
        clear(&mut scratch.states, head_dim);
        let mut rotation = None;
        for (index, step) in steps {
            if rotation.replace(step.rotation) != Some(step.rotation) {
                let rows = self.item_queries(item, step.rotation);
                scratch.token.set(rows, heads_per_kv, head_dim, self.factor);
            }
            let records = if item.is_split() { self.partials_of(item, index) } else { &mut scratch.partials };
            let tokens = step.part.tokens(step.page * PAGE_TOKENS, n_visible);
            if tokens.is_empty() {
                clear(records, head_dim);
            } else {
                let asked = self.asked(item, step, tokens);
                let mut partial = Partial::new(records, head_dim);
                request.source.attend_token(self.isa, asked, &mut scratch.token, &mut partial);
            }
            if !item.is_split() {
                merge(self.isa, &mut scratch.states, &scratch.partials, head_dim);
            }
        }
        if !item.is_split() {
            finish(&scratch.states, head_dim, self.out_of(item, 0));
        }
    }

    /// Several tokens: pages are read as they are stored, or become tiles.
    fn compute_block(
        &self,
        item: &WorkItem,
        steps: impl Iterator<Item = (usize, Step)>,
        scratch: &mut Scratch,
    ) {
        let (block, tile) = (&mut scratch.block, &mut scratch.tile);
        self.set_block(item, block);
        let mut rotation = None;
        for (index, step) in steps {
            if rotation.replace(step.rotation) != Some(step.rotation) {
                self.set_queries(item, step.rotation, block);
            }
            if item.is_split() {
                block.clear();
            }
            self.attend_block(item, step, block, tile);
            if item.is_split() {
                block.store(self.partials_of(item, index));
            }
        }
        if !item.is_split() {
            self.finish_block(item, block);
        }
    }

    /// Makes `block` that of an item, in the state of no tokens seen.
    pub(super) fn set_block(&self, item: &WorkItem, block: &mut RowBlock) {
        let n_past = self.requests[item.request].n_past;
        block.set_shape(&self.shape, item.tokens.len(), n_past + item.tokens.start + 1);
    }

    /// Takes an item's queries in a rotation.
    pub(super) fn set_queries(&self, item: &WorkItem, rotation: usize, block: &mut RowBlock) {
        block.set_queries(self.item_queries(item, rotation), &self.shape, self.factor);
    }

    /// Attends from the rows of an item to a page, or a part of it.
    pub(super) fn attend_block(&self, item: &WorkItem, step: Step, block: &mut RowBlock, tile: &mut Tile) {
        let request = &self.requests[item.request];
        let first = step.page * PAGE_TOKENS;
        // Of a page in which a window ends, tokens of the block see different ones.
        let mut n_left = (request.n_past + item.tokens.end - first).min(PAGE_TOKENS);
        let asked = self.asked(item, step, 0..n_left);
        if step.part == PagePart::Seen && step.page < asked.asking_page {
            let (queries, rows, states) = block.rows_and_states();
            n_left = request.source.attend_rows(self.isa, asked, queries, rows, states);
        }
        if n_left > 0 {
            request.source.load_tile(self.isa, self.asked(item, step, 0..n_left), tile);
            block.attend(self.isa, tile, first, step.part, n_left);
        }
    }

    /// Writes the outputs of an item that was computed as a whole.
    pub(super) fn finish_block(&self, item: &WorkItem, block: &RowBlock) {
        for token in 0..item.tokens.len() {
            let heads = self.out_of(item, token).chunks_exact_mut(self.shape.head_dim);
            for (head, out) in heads.enumerate() {
                block.finish_row(token * self.shape.heads_per_kv + head, out);
            }
        }
    }

    /// Merges the partials of a split item, step by step.
    fn merge(&self, item: &WorkItem, scratch: &mut Scratch) {
        if !item.is_split() {
            return;
        }
        let HeadShape { heads_per_kv, head_dim, .. } = self.shape;
        let n_records = heads_per_kv * record_len(head_dim);
        scratch.states.resize(n_records, 0.0);
        for index in 0..item.tokens.len() {
            clear(&mut scratch.states, head_dim);
            for step in 0..item.n_steps {
                let partials = &self.partials_of(item, step)[index * n_records..][..n_records];
                merge(self.isa, &mut scratch.states, partials, head_dim);
            }
            finish(&scratch.states, head_dim, self.out_of(item, index));
        }
    }

    /// What an item asks in a step.
    pub(super) fn asked(&self, item: &WorkItem, step: Step, tokens: Range<usize>) -> Asked {
        let n_past = self.requests[item.request].n_past;
        Asked {
            kv_head: item.kv_head,
            page: step.page,
            tokens,
            part: step.part,
            rotation: step.rotation,
            asking_page: (n_past + item.tokens.start) / PAGE_TOKENS,
        }
    }

    /// Queries of the item's KV head in a rotation, a row per token.
    fn item_queries(&self, item: &WorkItem, rotation: usize) -> Rows<'_> {
        let first = self.requests[item.request].rows.start;
        let rows = first + item.tokens.start..first + item.tokens.end;
        self.queries[rotation].skip(item.kv_head * self.shape.query_width()).select(rows)
    }

    /// Where the output of the item's `index`-th token goes: `[heads_per_kv, head_dim]`.
    #[allow(clippy::mut_from_ref, reason = "see `Shared`")]
    fn out_of(&self, item: &WorkItem, index: usize) -> &mut [f32] {
        let row = self.requests[item.request].rows.start + item.tokens.start + index;
        let width = self.shape.query_width();
        let start = (row * self.shape.n_kv_heads + item.kv_head) * width;
        // SAFETY: rows of requests do not overlap, items differ in row or KV head, and one unit finishes an item.
        unsafe { self.out.part(start, width) }
    }

    /// The partials of one step of a split item: `[n_tokens][heads_per_kv][record]`.
    #[allow(clippy::mut_from_ref, reason = "see `Shared`")]
    fn partials_of(&self, item: &WorkItem, step: usize) -> &mut [f32] {
        let n_rows = item.tokens.len() * self.shape.heads_per_kv;
        let record = record_len(self.shape.head_dim);
        let start = (item.first_partial + step * n_rows) * record;
        // SAFETY: items have partials of their own, a step belongs to one unit, and the merge runs after all units.
        unsafe { self.partials.part(start, n_rows * record) }
    }
}
