//! Attention of a batch: cuts it into units, runs them on all threads, merges.

use std::cell::RefCell;
use std::ops::Range;

use super::plan::{Group, Load, Plan};
use super::state::{clear, finish, merge, record_len};
use super::tile::RowBlock;
use super::{HeadShape, Partial, RANGE_TOKENS, RangePart, Rows, Tile, TokenQueries};
use crate::{Compute, Isa};

/// A range of one KV head, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// KV head
    pub kv_head: usize,
    /// range of the sequence
    pub range: usize,
    /// which of its tokens, of which there is at least one
    pub tokens: Range<usize>,
    /// which of them each token that asks sees
    pub part: RangePart,
    /// the rotation of the queries that ask
    pub rotation: usize,
    /// Range of the tokens that ask: the same for all tokens of a tile, so that a cache may show them a range in one way
    /// when it is near, and in another when it is far.
    pub asking_range: usize,
}

/// Which queries meet a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// those of one rotation
    Whole(usize),
    /// A window ends in the range. Token `i` of its own range sees tokens `0..=i` of this one with the rotation `far`, and
    /// the others with the rotation `near`, which may be the same: a source may show the two parts differently.
    Split {
        /// rotation that meets the far tokens
        far: usize,
        /// rotation that meets the near ones
        near: usize,
    },
}

/// What attention asks of a sequence's cache, one layer of it.
pub trait RangeSource: Sync {
    /// How queries of the tokens of one range meet another, `range`, which may be theirs.
    fn meeting(&self, _range: usize, _asking_range: usize) -> Meeting {
        Meeting::Whole(0)
    }

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
        let loads = requests.iter().map(|r| Load { n_new: r.rows.len(), n_past: r.n_past });
        call.loads.extend(loads);
        let n_steps = |request: usize, n_ranges: usize, asking_range: usize| {
            let source = requests[request].source;
            let n =
                |range| if let Meeting::Split { .. } = source.meeting(range, asking_range) { 2 } else { 1 };
            (0..n_ranges).map(n).sum()
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
    /// of each rotation
    queries: &'a [Rows<'a>],
    requests: &'a [Request<'a>],
    /// `[n_rows, n_heads * head_dim]`
    out: Shared<'a>,
    /// of each split group `[n_steps][n_tokens][heads_per_kv][record]`
    partials: Shared<'a>,
}

/// A range, or the part of it that meets one rotation.
#[derive(Clone, Copy, Debug)]
struct Step {
    range: usize,
    rotation: usize,
    part: RangePart,
}

impl Batch<'_> {
    /// Computes one span of a group's steps.
    fn compute(&self, group: &Group, span: usize, scratch: &mut Scratch) {
        let first = span * group.span;
        let steps = self.steps(group).enumerate().skip(first).take(group.span);
        if group.tokens.len() == 1 {
            self.compute_token(group, steps, scratch);
        } else {
            self.compute_block(group, steps, scratch);
        }
    }

    /// The group's steps in the order in which they are merged.
    fn steps(&self, group: &Group) -> impl Iterator<Item = Step> {
        let request = &self.requests[group.request];
        let asking_range = (request.n_past + group.tokens.start) / RANGE_TOKENS;
        (0..group.n_ranges).flat_map(move |range| {
            let step = move |rotation, part| Some(Step { range, rotation, part });
            let steps = match request.source.meeting(range, asking_range) {
                Meeting::Whole(rotation) => [step(rotation, RangePart::Seen), None],
                Meeting::Split { far, near } => [step(far, RangePart::Far), step(near, RangePart::Near)],
            };
            steps.into_iter().flatten()
        })
    }

    /// One token: its heads ask the cache directly.
    fn compute_token(
        &self,
        group: &Group,
        steps: impl Iterator<Item = (usize, Step)>,
        scratch: &mut Scratch,
    ) {
        let HeadShape { heads_per_kv, head_dim, .. } = self.shape;
        let request = &self.requests[group.request];
        let n_visible = request.n_past + group.tokens.end;
        let n_records = heads_per_kv * record_len(head_dim);
        scratch.partials.resize(n_records, 0.0);
        scratch.states.resize(n_records, 0.0);
        clear(&mut scratch.states, head_dim);
        let mut rotation = None;
        for (index, step) in steps {
            if rotation.replace(step.rotation) != Some(step.rotation) {
                let rows = self.group_queries(group, step.rotation);
                scratch.token.set(rows, heads_per_kv, head_dim, self.factor);
            }
            let records =
                if group.is_split() { self.partials_of(group, index) } else { &mut scratch.partials };
            let tokens = step.part.tokens(step.range * RANGE_TOKENS, n_visible);
            if tokens.is_empty() {
                clear(records, head_dim);
            } else {
                let asked = self.asked(group, step, tokens);
                let mut partial = Partial::new(records, head_dim);
                request.source.attend_token(self.isa, asked, &mut scratch.token, &mut partial);
            }
            if !group.is_split() {
                merge(self.isa, &mut scratch.states, &scratch.partials, head_dim);
            }
        }
        if !group.is_split() {
            finish(&scratch.states, head_dim, self.out_of(group, 0));
        }
    }

    /// Several tokens: ranges become tiles.
    fn compute_block(
        &self,
        group: &Group,
        steps: impl Iterator<Item = (usize, Step)>,
        scratch: &mut Scratch,
    ) {
        let request = &self.requests[group.request];
        let (block, tile) = (&mut scratch.block, &mut scratch.tile);
        let n_visible = request.n_past + group.tokens.end;
        block.set_shape(&self.shape, group.tokens.len(), request.n_past + group.tokens.start + 1);
        let mut rotation = None;
        for (index, step) in steps {
            if rotation.replace(step.rotation) != Some(step.rotation) {
                block.set_queries(self.group_queries(group, step.rotation), &self.shape, self.factor);
            }
            let first = step.range * RANGE_TOKENS;
            // Of a range in which a window ends, tokens of the block see different ones.
            let end = (n_visible - first).min(RANGE_TOKENS);
            request.source.load_tile(self.isa, self.asked(group, step, 0..end), tile);
            if group.is_split() {
                block.clear();
            }
            block.attend(self.isa, tile, first, step.part);
            if group.is_split() {
                block.store(self.partials_of(group, index));
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

    /// Merges the partials of a split group, step by step.
    fn merge(&self, group: &Group, scratch: &mut Scratch) {
        if !group.is_split() {
            return;
        }
        let HeadShape { heads_per_kv, head_dim, .. } = self.shape;
        let n_records = heads_per_kv * record_len(head_dim);
        scratch.states.resize(n_records, 0.0);
        for index in 0..group.tokens.len() {
            clear(&mut scratch.states, head_dim);
            for step in 0..group.n_steps {
                let partials = &self.partials_of(group, step)[index * n_records..][..n_records];
                merge(self.isa, &mut scratch.states, partials, head_dim);
            }
            finish(&scratch.states, head_dim, self.out_of(group, index));
        }
    }

    /// What a group asks in a step.
    fn asked(&self, group: &Group, step: Step, tokens: Range<usize>) -> Asked {
        let n_past = self.requests[group.request].n_past;
        Asked {
            kv_head: group.kv_head,
            range: step.range,
            tokens,
            part: step.part,
            rotation: step.rotation,
            asking_range: (n_past + group.tokens.start) / RANGE_TOKENS,
        }
    }

    /// Queries of the group's KV head in a rotation, a row per token.
    fn group_queries(&self, group: &Group, rotation: usize) -> Rows<'_> {
        let first = self.requests[group.request].rows.start;
        let rows = first + group.tokens.start..first + group.tokens.end;
        self.queries[rotation].skip(group.kv_head * self.shape.query_width()).select(rows)
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

    /// The partials of one step of a split group: `[n_tokens][heads_per_kv][record]`.
    #[allow(clippy::mut_from_ref, reason = "see `Shared`")]
    fn partials_of(&self, group: &Group, step: usize) -> &mut [f32] {
        let n_rows = group.tokens.len() * self.shape.heads_per_kv;
        let record = record_len(self.shape.head_dim);
        let start = (group.first_partial + step * n_rows) * record;
        // SAFETY: groups have partials of their own, a step belongs to one unit, and the merge runs after all units.
        unsafe { self.partials.part(start, n_rows * record) }
    }
}
