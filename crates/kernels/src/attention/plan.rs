//! How attention of a batch is cut into units of work. The cut decides who computes, never what comes out.

use std::ops::Range;

use super::{HeadShape, RANGE_TOKENS};

/// Query rows of a block, at most: the block, its weights and a tile stay in a core's L2 cache.
const MAX_ROWS: usize = 192;
/// Blocks are not made smaller than this for more parallelism, since a range is converted once for each block.
const MIN_ROWS: usize = 24;
/// Bytes of cache that a block and a tile may take.
const BLOCK_BYTES: usize = 320 << 10;
/// What reading a range costs, in rows attending to it.
const RANGE_COST: usize = 16;

/// Query rows of one KV head that are computed together: some neighbouring new tokens of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub request: usize,
    pub kv_head: usize,
    /// new tokens of the request
    pub tokens: Range<usize>,
    /// ranges that the last of them sees
    pub n_ranges: usize,
    /// Steps in which they are read: one for each range, or two where a window ends.
    pub n_steps: usize,
    /// Steps of one unit. Less than `n_steps`: each step's partial is stored, and merged when all are there.
    pub span: usize,
    /// where the partials begin, in rows; unused if there is one unit
    pub first_partial: usize,
}

impl Group {
    /// Whether several units compute it.
    pub fn is_split(&self) -> bool {
        self.span < self.n_steps
    }
}

/// All work of a batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub groups: Vec<Group>,
    /// group, and which of its spans
    pub units: Vec<(usize, usize)>,
    /// rows of partials to store
    pub n_partials: usize,
}

/// New tokens and those before them, of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub n_new: usize,
    pub n_past: usize,
}

impl Plan {
    /// Makes the plan anew; its buffers are used again.
    /// `n_steps` gives the steps of a request's block by its ranges and the range that its tokens are in.
    pub fn set(
        &mut self,
        shape: &HeadShape,
        loads: &[Load],
        n_threads: usize,
        n_steps: impl Fn(usize, usize, usize) -> usize,
    ) {
        let n_blocks = |block: usize| {
            loads.iter().map(|load| load.n_new.div_ceil(block)).sum::<usize>() * shape.n_kv_heads
        };
        let mut block = max_block(shape);
        let is_large = |block: usize| block > 1 && block * shape.heads_per_kv > MIN_ROWS;
        while n_threads > 1 && n_blocks(block) < 8 * n_threads && is_large(block) {
            block /= 2;
        }
        self.groups.clear();
        for (request, load) in loads.iter().enumerate() {
            for tokens in blocks(load, block) {
                let n_ranges = (load.n_past + tokens.end).div_ceil(RANGE_TOKENS);
                let n_steps = n_steps(request, n_ranges, (load.n_past + tokens.start) / RANGE_TOKENS);
                self.groups.extend((0..shape.n_kv_heads).map(|kv_head| Group {
                    request,
                    kv_head,
                    tokens: tokens.clone(),
                    n_ranges,
                    n_steps,
                    span: n_steps,
                    first_partial: 0,
                }));
            }
        }
        let rows_cost = |group: &Group| group.tokens.len() * shape.heads_per_kv + RANGE_COST;
        let cost = |group: &Group| rows_cost(group) * group.n_steps;
        // The longest first: threads that claim the short ones at the end finish at about the same time.
        self.groups.sort_by_key(|group| std::cmp::Reverse(cost(group)));
        let total: usize = self.groups.iter().map(cost).sum();
        self.units.clear();
        self.n_partials = 0;
        for (index, group) in self.groups.iter_mut().enumerate() {
            // Storing partials pays where whole groups would leave threads idle: cheap for single tokens.
            let too_long = if group.tokens.len() == 1 { 8 } else { 2 };
            if n_threads > 1 && cost(group) * too_long * n_threads > total {
                group.span = (total / (16 * n_threads * rows_cost(group))).clamp(1, group.n_steps);
            }
            if group.is_split() {
                group.first_partial = self.n_partials;
                self.n_partials += group.n_steps * group.tokens.len() * shape.heads_per_kv;
            }
            self.units.extend((0..group.n_steps.div_ceil(group.span)).map(|span| (index, span)));
        }
    }
}

/// New tokens in blocks of at most `most`, of which none has tokens of two ranges; those of one range are about equal. A
/// token is alone only where its range has no other new one: how it is computed then, and so how it is rounded, does not
/// depend on `most`. Where `most` is 1 or 2, blocks of 2 or 3 are larger.
fn blocks(load: &Load, most: usize) -> impl Iterator<Item = Range<usize>> {
    let Load { n_new, n_past } = *load;
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == n_new {
            return None;
        }
        let left = (RANGE_TOKENS - (n_past + start) % RANGE_TOKENS).min(n_new - start);
        let n_blocks = left.div_ceil(most).min((left / 2).max(1));
        let tokens = start..start + left.div_ceil(n_blocks);
        start = tokens.end;
        Some(tokens)
    })
}

/// Tokens of a block whose rows, weights, outputs and tile fit the cache.
fn max_block(shape: &HeadShape) -> usize {
    let floats = size_of::<f32>();
    let tile = 2 * RANGE_TOKENS * shape.head_dim * floats;
    let row = (2 * shape.head_dim + RANGE_TOKENS) * floats;
    let n_rows = (BLOCK_BYTES.saturating_sub(tile) / row).clamp(2 * MIN_ROWS, MAX_ROWS);
    (n_rows / shape.heads_per_kv).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shape: HeadShape, loads: &[Load], n_threads: usize) -> Plan {
        let mut plan = Plan::default();
        plan.set(&shape, loads, n_threads, |_, n_ranges, _| n_ranges);
        plan
    }

    #[test]
    fn every_range_of_every_row_belongs_to_one_unit() {
        for heads_per_kv in [1, 3, 7, 71] {
            let shape = HeadShape { n_kv_heads: 2, heads_per_kv, head_dim: 64 };
            for n_threads in [1, 2, 16] {
                let loads = [(1, 0), (1, 5000), (37, 100), (512, 0)];
                let loads = loads.map(|(n_new, n_past)| Load { n_new, n_past });
                let plan = plan(shape, &loads, n_threads);
                let mut n_seen: Vec<Vec<usize>> = loads.iter().map(|load| vec![0; load.n_new]).collect();
                for &(group, span) in &plan.units {
                    let group = &plan.groups[group];
                    let ranges = span * group.span..((span + 1) * group.span).min(group.n_steps);
                    assert!(!ranges.is_empty());
                    for token in group.tokens.clone() {
                        n_seen[group.request][token] += ranges.len();
                    }
                }
                for (load, n_seen) in loads.iter().zip(n_seen) {
                    for (token, n) in n_seen.into_iter().enumerate() {
                        assert!(n >= 2 * (load.n_past + token + 1).div_ceil(RANGE_TOKENS));
                    }
                }
                if n_threads == 1 {
                    assert_eq!(plan.n_partials, 0);
                }
            }
        }
    }

    #[test]
    fn no_block_has_tokens_of_two_ranges() {
        let shape = HeadShape { n_kv_heads: 2, heads_per_kv: 7, head_dim: 64 };
        for n_past in [0, 1, 127, 128, 1000] {
            let plan = plan(shape, &[Load { n_new: 300, n_past }], 2);
            for group in &plan.groups {
                let range = |token: usize| (n_past + token) / RANGE_TOKENS;
                assert_eq!(range(group.tokens.start), range(group.tokens.end - 1), "{group:?}");
            }
        }
    }

    #[test]
    fn whether_a_token_is_alone_does_not_depend_on_threads_or_on_other_requests() {
        for heads_per_kv in [1, 7, 11, 16, 71] {
            let shape = HeadShape { n_kv_heads: 1, heads_per_kv, head_dim: 64 };
            let alone = |n_threads: usize, others: &[Load]| {
                let loads = [3, 7, 129, 1, 257].map(|n_new| Load { n_new, n_past: 1000 });
                let plan = plan(shape, &[&loads, others].concat(), n_threads);
                let single = plan.groups.iter().filter(|group| group.request < 5 && group.tokens.len() == 1);
                let mut single: Vec<_> = single.map(|group| (group.request, group.tokens.start)).collect();
                single.sort_unstable();
                single
            };
            let wanted = alone(1, &[]);
            for n_threads in [2, 5, 64] {
                assert_eq!(alone(n_threads, &[]), wanted, "{heads_per_kv} heads, {n_threads} threads");
                assert_eq!(alone(n_threads, &[Load { n_new: 5000, n_past: 0 }]), wanted);
            }
        }
    }

    #[test]
    fn a_block_of_one_token_is_not_made_smaller() {
        // 71 rows are more than enough for one block, and cannot be fewer.
        let shape = HeadShape { n_kv_heads: 1, heads_per_kv: 71, head_dim: 64 };
        assert_eq!(plan(shape, &[Load { n_new: 1, n_past: 0 }], 2).groups.len(), 1);
    }

    #[test]
    fn one_deep_token_is_split_for_all_threads() {
        let shape = HeadShape { n_kv_heads: 1, heads_per_kv: 4, head_dim: 64 };
        let plan = plan(shape, &[Load { n_new: 1, n_past: 32_000 }], 8);
        assert!(plan.units.len() >= 64, "{} units", plan.units.len());
    }
}
