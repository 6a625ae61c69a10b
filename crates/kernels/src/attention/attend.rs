//! Attention of a batch: cuts it into units, runs them on all threads, merges.

use std::cell::RefCell;
use std::ops::Range;

use super::plan::{Group, Load, Plan};
use super::state::{clear, finish, merge, record_len};
use super::tile::RowBlock;
use super::{HeadShape, Partial, RANGE_TOKENS, Rows, Tile, TokenQueries};
use crate::{Compute, Isa};

/// A range of one KV head, and who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// KV head
    pub kv_head: usize,
    /// range of the sequence
    pub range: usize,
    /// its first tokens, of which there is at least one
    pub n_tokens: usize,
    /// Range of the tokens that ask: the same for all tokens of a tile, so that a cache may show them a range in one way
    /// when it is near, and in another when it is far.
    pub asking_range: usize,
}

/// What attention asks of a sequence's cache, one layer of it.
pub trait RangeSource: Sync {
    /// The partial softmax of one token's query heads: a row of `partial` for each head of `token`.
    fn attend_token(&self, isa: Isa, asked: Asked, token: &mut TokenQueries, partial: &mut Partial<'_>);

    /// The range as float32.
    fn load_tile(&self, isa: Isa, asked: Asked, tile: &mut Tile);
}

/// The new tokens of one sequence.
pub struct Request<'a> {
    /// keys and values of the sequence, the new tokens' included
    pub source: &'a dyn RangeSource,
    /// tokens before the new ones
    pub n_past: usize,
    /// rows of the new tokens in the batch
    pub rows: Range<usize>,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    token: TokenQueries,
    states: Vec<f32>,
    partials: Vec<f32>,
    block: RowBlock,
    tile: Tile,
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
/// `queries` are rotated rows `[n_rows, n_heads * head_dim]`, `scale` is 1/√head_dim as a rule, `out` is
/// `[n_rows, n_heads * head_dim]`; rows that belong to no request are left alone.
///
/// # Panics
/// The shape is not supported, or rows are missing, or belong to two requests.
pub fn attend(
    cx: &Compute,
    shape: &HeadShape,
    scale: f32,
    queries: Rows<'_>,
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
        let loads = requests.iter().map(|r| Load { n_new: r.rows.len(), n_past: r.n_past });
        call.loads.extend(loads);
        call.plan.set(shape, &call.loads, cx.pool.n_threads());
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
            let (group, span) = plan.units[unit];
            SCRATCH.with_borrow_mut(|scratch| batch.compute(&plan.groups[group], span, scratch));
        });
        if plan.n_partials > 0 {
            cx.pool.run(plan.groups.len(), |group| {
                SCRATCH.with_borrow_mut(|scratch| batch.merge(&plan.groups[group], scratch));
            });
        }
        if call.partials.len() * size_of::<f32>() > KEPT_BYTES {
            call.partials = Vec::new();
        }
    });
}

struct Batch<'a> {
    isa: Isa,
    shape: HeadShape,
    /// `scale` · log₂e
    factor: f32,
    queries: Rows<'a>,
    requests: &'a [Request<'a>],
    /// `[n_rows, n_heads * head_dim]`
    out: Shared<'a>,
    /// of each split group `[n_ranges][n_tokens][heads_per_kv][record]`
    partials: Shared<'a>,
}

impl Batch<'_> {
    /// Computes one span of a group.
    fn compute(&self, group: &Group, span: usize, scratch: &mut Scratch) {
        let ranges = span * group.span..((span + 1) * group.span).min(group.n_ranges);
        if group.tokens.len() == 1 {
            self.compute_token(group, ranges, scratch);
        } else {
            self.compute_block(group, ranges, scratch);
        }
    }

    /// One token: its heads ask the cache directly.
    fn compute_token(&self, group: &Group, ranges: Range<usize>, scratch: &mut Scratch) {
        let HeadShape { heads_per_kv, head_dim, .. } = self.shape;
        let request = &self.requests[group.request];
        scratch.token.set(self.group_queries(group), heads_per_kv, head_dim, self.factor);
        let n_records = heads_per_kv * record_len(head_dim);
        scratch.partials.resize(n_records, 0.0);
        scratch.states.resize(n_records, 0.0);
        clear(&mut scratch.states, head_dim);
        for range in ranges {
            let asked = self.asked(group, range);
            let records =
                if group.is_split() { self.partials_of(group, range) } else { &mut scratch.partials };
            let mut partial = Partial::new(records, head_dim);
            let token = &mut scratch.token;
            request.source.attend_token(self.isa, asked, token, &mut partial);
            if !group.is_split() {
                merge(self.isa, &mut scratch.states, &scratch.partials, head_dim);
            }
        }
        if !group.is_split() {
            finish(&scratch.states, head_dim, self.out_of(group, 0));
        }
    }

    /// Several tokens: ranges become tiles.
    fn compute_block(&self, group: &Group, ranges: Range<usize>, scratch: &mut Scratch) {
        let request = &self.requests[group.request];
        let (block, tile) = (&mut scratch.block, &mut scratch.tile);
        let n_visible_first = request.n_past + group.tokens.start + 1;
        block.set(self.group_queries(group), &self.shape, self.factor, n_visible_first);
        for range in ranges {
            request.source.load_tile(self.isa, self.asked(group, range), tile);
            if group.is_split() {
                block.clear();
            }
            block.attend(self.isa, tile, range * RANGE_TOKENS);
            if group.is_split() {
                block.store(self.partials_of(group, range));
            }
        }
        if !group.is_split() {
            for token in 0..group.tokens.len() {
                let heads = self.out_of(group, token).chunks_exact_mut(self.shape.head_dim);
                for (head, out) in heads.enumerate() {
                    block.finish_row(token * self.shape.heads_per_kv + head, out);
                }
            }
        }
    }

    /// Merges the partials of a split group, range by range.
    fn merge(&self, group: &Group, scratch: &mut Scratch) {
        if !group.is_split() {
            return;
        }
        let HeadShape { heads_per_kv, head_dim, .. } = self.shape;
        let n_records = heads_per_kv * record_len(head_dim);
        let request = &self.requests[group.request];
        scratch.states.resize(n_records, 0.0);
        for (index, token) in group.tokens.clone().enumerate() {
            clear(&mut scratch.states, head_dim);
            // A later token of the block may see more ranges than this one.
            for range in 0..(request.n_past + token + 1).div_ceil(RANGE_TOKENS) {
                let partials = &self.partials_of(group, range)[index * n_records..][..n_records];
                merge(self.isa, &mut scratch.states, partials, head_dim);
            }
            finish(&scratch.states, head_dim, self.out_of(group, index));
        }
    }

    /// What a group asks of range `range`.
    fn asked(&self, group: &Group, range: usize) -> Asked {
        let n_past = self.requests[group.request].n_past;
        let n_visible = n_past + group.tokens.end;
        Asked {
            kv_head: group.kv_head,
            range,
            n_tokens: (n_visible - range * RANGE_TOKENS).min(RANGE_TOKENS),
            asking_range: (n_past + group.tokens.start) / RANGE_TOKENS,
        }
    }

    /// Queries of the group's KV head, a row per token.
    fn group_queries(&self, group: &Group) -> Rows<'_> {
        let first = self.requests[group.request].rows.start;
        let rows = first + group.tokens.start..first + group.tokens.end;
        self.queries.skip(group.kv_head * self.shape.query_width()).select(rows)
    }

    /// Where the output of the group's `index`-th token goes: `[heads_per_kv, head_dim]`.
    #[allow(clippy::mut_from_ref, reason = "see `Shared`")]
    fn out_of(&self, group: &Group, index: usize) -> &mut [f32] {
        let row = self.requests[group.request].rows.start + group.tokens.start + index;
        let width = self.shape.query_width();
        let start = (row * self.shape.n_kv_heads + group.kv_head) * width;
        // SAFETY: rows of requests do not overlap, groups differ in row or KV head, and one unit finishes a group.
        unsafe { self.out.part(start, width) }
    }

    /// The partials of one range of a split group: `[n_tokens][heads_per_kv][record]`.
    #[allow(clippy::mut_from_ref, reason = "see `Shared`")]
    fn partials_of(&self, group: &Group, range: usize) -> &mut [f32] {
        let n_rows = group.tokens.len() * self.shape.heads_per_kv;
        let record = record_len(self.shape.head_dim);
        let start = (group.first_partial + range * n_rows) * record;
        // SAFETY: groups have partials of their own, a range belongs to one unit, and the merge runs after all units.
        unsafe { self.partials.part(start, n_rows * record) }
    }
}
