//! How attention of a batch is cut into units of work. The cut decides who computes, never what comes out.

use std::ops::Range;

use crate::page::{HeadShape, PAGE_TOKENS};

/// Query rows of a block, at most: the block, its weights and a tile stay in a core's L2 cache.
const MAX_ROWS: usize = 192;
/// Blocks are not made smaller than this for more parallelism, since a page is converted once for each block.
const MIN_ROWS: usize = 24;
/// Bytes of cache that a block and a tile may take.
const BLOCK_BYTES: usize = 320 << 10;
/// What reading a page costs, in rows attending to it.
const PAGE_COST: usize = 16;

/// Query rows of one KV head that are computed together: some neighbouring new tokens of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WorkItem {
    pub request: usize,
    pub kv_head: usize,
    /// new tokens of the request
    pub tokens: Range<usize>,
    /// pages that the last of them sees
    pub n_pages: usize,
    /// Steps in which they are read: one for each page, or two where a window ends.
    pub n_steps: usize,
    /// Steps of one unit. Less than `n_steps`: each step's partial is stored, and merged when all are there.
    pub steps_per_unit: usize,
    /// where the partials begin, in rows; unused if there is one unit
    pub first_partial: usize,
}

impl WorkItem {
    /// Whether several units compute it.
    pub fn is_split(&self) -> bool {
        self.steps_per_unit < self.n_steps
    }
}

/// All work of a batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub items: Vec<WorkItem>,
    /// item, and which of its parts
    pub units: Vec<(usize, usize)>,
    /// rows of partials to store
    pub n_partials: usize,
}

/// New tokens and those before them, of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub n_new: usize,
    pub n_past: usize,
    /// whether an item reads all of its pages in one unit
    pub is_whole: bool,
}

impl Plan {
    /// Makes the plan anew; its buffers are used again.
    /// `n_steps` gives the steps of a request's block by its pages and the page that its tokens are in.
    pub fn set(
        &mut self,
        shape: &HeadShape,
        loads: &[Load],
        n_threads: usize,
        n_steps: impl Fn(usize, usize, usize) -> usize,
    ) {
        let block = best_block(shape, loads, n_threads);
        self.items.clear();
        for (request, load) in loads.iter().enumerate() {
            for tokens in blocks(load, block) {
                let n_pages = (load.n_past + tokens.end).div_ceil(PAGE_TOKENS);
                let n_steps = n_steps(request, n_pages, (load.n_past + tokens.start) / PAGE_TOKENS);
                self.items.extend((0..shape.n_kv_heads).map(|kv_head| WorkItem {
                    request,
                    kv_head,
                    tokens: tokens.clone(),
                    n_pages,
                    n_steps,
                    steps_per_unit: n_steps,
                    first_partial: 0,
                }));
            }
        }
        let rows_cost = |item: &WorkItem| page_cost(shape, item.tokens.len());
        let cost = |item: &WorkItem| rows_cost(item) * item.n_steps;
        // The longest first: threads that claim the short ones at the end finish at about the same time.
        self.items.sort_by_key(|item| std::cmp::Reverse(cost(item)));
        let total: usize = self.items.iter().map(cost).sum();
        // All threads work to the end, within a twentieth.
        let is_even = last_end(self.items.iter().map(cost), n_threads) * n_threads <= total + total / 20;
        self.units.clear();
        self.n_partials = 0;
        for (index, item) in self.items.iter_mut().enumerate() {
            // Storing partials pays where whole items would leave threads idle: cheap for single tokens, and for others where
            // one item is more than a thread's share.
            let too_long = if item.tokens.len() == 1 { 8 } else { 1 };
            let can_be_split = !is_even && !loads[item.request].is_whole;
            if can_be_split && cost(item) * too_long * n_threads > total {
                item.steps_per_unit = (total / (16 * n_threads * rows_cost(item))).clamp(1, item.n_steps);
            }
            if item.is_split() {
                item.first_partial = self.n_partials;
                self.n_partials += item.n_steps * item.tokens.len() * shape.heads_per_kv;
            }
            self.units.extend((0..item.n_steps.div_ceil(item.steps_per_unit)).map(|part| (index, part)));
        }
    }
}

/// New tokens in blocks of at most `most`, of which none has tokens of two pages; those of one page are about equal. A
/// token is alone only where its page has no other new one: how it is computed then, and so how it is rounded, does not
/// depend on `most`. Where `most` is 1 or 2, blocks of 2 or 3 are larger.
fn blocks(load: &Load, most: usize) -> impl Iterator<Item = Range<usize>> {
    let Load { n_new, n_past, .. } = *load;
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == n_new {
            return None;
        }
        let left = (PAGE_TOKENS - (n_past + start) % PAGE_TOKENS).min(n_new - start);
        let n_blocks = left.div_ceil(most).min((left / 2).max(1));
        let tokens = start..start + left.div_ceil(n_blocks);
        start = tokens.end;
        Some(tokens)
    })
}

/// When the last thread is done, if each takes the next of these costs when it has done one. They fall.
fn last_end(costs: impl Iterator<Item = usize>, n_threads: usize) -> usize {
    let mut ends = vec![0; n_threads];
    for cost in costs {
        if let Some(first) = ends.iter_mut().min() {
            *first += cost;
        }
    }
    ends.into_iter().max().unwrap_or(0)
}

/// What a block of `n_tokens` costs for each page, in rows attending to it. Kernels take sixteen rows at once.
fn page_cost(shape: &HeadShape, n_tokens: usize) -> usize {
    (n_tokens * shape.heads_per_kv).next_multiple_of(16) + PAGE_COST
}

/// Tokens of a block, at most, with which the threads are done first. Large blocks convert fewer pages; with small ones all
/// threads end at about the same time.
fn best_block(shape: &HeadShape, loads: &[Load], n_threads: usize) -> usize {
    let largest = max_block(shape);
    if n_threads == 1 || loads.iter().all(|load| load.n_new == 1) {
        return largest;
    }
    let end = |most: usize| {
        let mut costs = Vec::new();
        for load in loads {
            let n_pages = |tokens: &Range<usize>| (load.n_past + tokens.end).div_ceil(PAGE_TOKENS);
            costs.extend(blocks(load, most).map(|tokens| page_cost(shape, tokens.len()) * n_pages(&tokens)));
        }
        costs.sort_unstable_by(|a, b| b.cmp(a));
        let of_heads = costs.into_iter().flat_map(|cost| std::iter::repeat_n(cost, shape.n_kv_heads));
        last_end(of_heads, n_threads)
    };
    let is_large = |most: &usize| *most == largest || *most * shape.heads_per_kv >= MIN_ROWS;
    let halves = std::iter::successors(Some(largest), |most| (*most > 1).then_some(most / 2));
    halves.take_while(is_large).min_by_key(|most| end(*most)).unwrap_or(largest)
}

/// Tokens of a block whose rows, weights, outputs and tile fit the cache.
fn max_block(shape: &HeadShape) -> usize {
    let floats = size_of::<f32>();
    let tile = 2 * PAGE_TOKENS * shape.head_dim * floats;
    let row = (2 * shape.head_dim + PAGE_TOKENS) * floats;
    let n_rows = (BLOCK_BYTES.saturating_sub(tile) / row).clamp(2 * MIN_ROWS, MAX_ROWS);
    (n_rows / shape.heads_per_kv).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shape: HeadShape, loads: &[Load], n_threads: usize) -> Plan {
        let mut plan = Plan::default();
        plan.set(&shape, loads, n_threads, |_, n_pages, _| n_pages);
        plan
    }

    #[test]
    fn every_page_of_every_row_belongs_to_one_unit() {
        for heads_per_kv in [1, 3, 7, 71] {
            let shape = HeadShape { n_kv_heads: 2, heads_per_kv, head_dim: 64 };
            for n_threads in [1, 2, 16] {
                let loads = [(1, 0), (1, 5000), (37, 100), (512, 0)];
                let loads = loads.map(|(n_new, n_past)| Load { n_new, n_past, is_whole: false });
                let plan = plan(shape, &loads, n_threads);
                let mut n_seen: Vec<Vec<usize>> = loads.iter().map(|load| vec![0; load.n_new]).collect();
                for &(item, part) in &plan.units {
                    let item = &plan.items[item];
                    let steps =
                        part * item.steps_per_unit..((part + 1) * item.steps_per_unit).min(item.n_steps);
                    assert!(!steps.is_empty());
                    for token in item.tokens.clone() {
                        n_seen[item.request][token] += steps.len();
                    }
                }
                for (load, n_seen) in loads.iter().zip(n_seen) {
                    for (token, n) in n_seen.into_iter().enumerate() {
                        assert!(n >= 2 * (load.n_past + token + 1).div_ceil(PAGE_TOKENS));
                    }
                }
                if n_threads == 1 {
                    assert_eq!(plan.n_partials, 0);
                }
            }
        }
    }

    #[test]
    fn no_block_has_tokens_of_two_pages() {
        let shape = HeadShape { n_kv_heads: 2, heads_per_kv: 7, head_dim: 64 };
        for n_past in [0, 1, 127, 128, 1000] {
            let plan = plan(shape, &[Load { n_new: 300, n_past, is_whole: false }], 2);
            for item in &plan.items {
                let page = |token: usize| (n_past + token) / PAGE_TOKENS;
                assert_eq!(page(item.tokens.start), page(item.tokens.end - 1), "{item:?}");
            }
        }
    }

    #[test]
    fn whether_a_token_is_alone_does_not_depend_on_threads_or_on_other_requests() {
        for heads_per_kv in [1, 7, 11, 16, 71] {
            let shape = HeadShape { n_kv_heads: 1, heads_per_kv, head_dim: 64 };
            let alone = |n_threads: usize, others: &[Load]| {
                let loads = [3, 7, 129, 1, 257].map(|n_new| Load { n_new, n_past: 1000, is_whole: false });
                let plan = plan(shape, &[&loads, others].concat(), n_threads);
                let single = plan.items.iter().filter(|group| group.request < 5 && group.tokens.len() == 1);
                let mut single: Vec<_> = single.map(|group| (group.request, group.tokens.start)).collect();
                single.sort_unstable();
                single
            };
            let wanted = alone(1, &[]);
            for n_threads in [2, 5, 64] {
                assert_eq!(alone(n_threads, &[]), wanted, "{heads_per_kv} heads, {n_threads} threads");
                assert_eq!(alone(n_threads, &[Load { n_new: 5000, n_past: 0, is_whole: false }]), wanted);
            }
        }
    }

    #[test]
    fn a_block_of_one_token_is_not_made_smaller() {
        // 71 rows are more than enough for one block, and cannot be fewer.
        let shape = HeadShape { n_kv_heads: 1, heads_per_kv: 71, head_dim: 64 };
        assert_eq!(plan(shape, &[Load { n_new: 1, n_past: 0, is_whole: false }], 2).items.len(), 1);
    }

    #[test]
    fn one_deep_token_is_split_for_all_threads() {
        let shape = HeadShape { n_kv_heads: 1, heads_per_kv: 4, head_dim: 64 };
        let plan = plan(shape, &[Load { n_new: 1, n_past: 32_000, is_whole: false }], 8);
        assert!(plan.units.len() >= 64, "{} units", plan.units.len());
    }

    #[test]
    fn few_tokens_of_a_deep_prompt_are_cut_into_few_blocks() {
        let shape = HeadShape { n_kv_heads: 2, heads_per_kv: 7, head_dim: 64 };
        let sizes = |n_threads: usize| {
            let plan = plan(shape, &[Load { n_new: 32, n_past: 16_384, is_whole: true }], n_threads);
            plan.items.iter().map(|item| item.tokens.len()).collect::<Vec<_>>()
        };
        // Two blocks for each thread: more would convert every page more often.
        assert_eq!(sizes(2), [16; 4]);
        assert!(sizes(16).len() >= 8, "{:?}", sizes(16));
    }

    #[test]
    fn tokens_that_occupy_all_threads_evenly_are_not_split() {
        let shape = HeadShape { n_kv_heads: 2, heads_per_kv: 7, head_dim: 64 };
        let n_partials = |n_tokens: usize, n_threads: usize| {
            let loads = vec![Load { n_new: 1, n_past: 4096, is_whole: false }; n_tokens];
            plan(shape, &loads, n_threads).n_partials
        };
        assert_eq!(n_partials(6, 2), 0);
        assert_eq!(n_partials(1, 2), 0);
        assert!(n_partials(1, 3) > 0);
        assert!(n_partials(4, 3) > 0);
    }
}
