//! The budget that caches of different schemes share, held to the system's own count of this process's resident memory. A
//! test binary of its own: nothing else runs in the process.

use std::sync::Arc;

use lossy_engine::internals::{
    Context, KvGeometry, KvPool, KvSequence, PAGE_TOKENS, Rows, Span, append_layer,
};
use lossy_engine::{Budget, KvScheme, Positions, Rope, RopeConfig, RopeScaling};
use lossy_kernels::{Compute, Isa};

/// SmolLM2-135M's.
const GEOMETRY: KvGeometry = KvGeometry { n_layers: 30, n_kv_heads: 3, heads_per_kv: 3, head_dim: 64 };
const LIMIT: usize = 192 << 20;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the system's figures of this process");
    let pages: usize = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("resident pages");
    pages * 4096
}

fn pool(scheme: &str, budget: &Arc<Budget>) -> Arc<KvPool> {
    let rope = Rope::new(&RopeConfig { base: 10_000.0, scaling: RopeScaling::None }, GEOMETRY.head_dim);
    let positions = Arc::new(Positions::linear(rope, 1 << 16));
    let context = Context { geometry: &GEOMETRY, calibration: None };
    let scheme: KvScheme = scheme.parse().expect("a scheme that exists");
    let layout = scheme.layout(&context).expect("a scheme that fits");
    KvPool::with_layout(GEOMETRY, layout, positions, budget.clone())
}

/// Appends a page of tokens; whether the budget had room.
fn append_page(cx: &Compute, cache: &mut KvSequence, rows: &[f32]) -> bool {
    let width = GEOMETRY.n_kv_heads * GEOMETRY.head_dim;
    if cache.reserve(PAGE_TOKENS).is_err() {
        return false;
    }
    for layer in 0..GEOMETRY.n_layers {
        let mut spans = [Span { cache, rows: 0..PAGE_TOKENS, one_by_one: false }];
        let rows = Rows::new(rows, width, 0);
        append_layer(cx, layer, &mut spans, rows, rows).expect("finite values");
    }
    cache.advance(PAGE_TOKENS);
    true
}

#[test]
fn caches_that_fill_the_budget_one_after_another_never_exceed_it() {
    let cx = Compute::with_isa(2, Isa::best());
    let rows: Vec<f32> = (0..PAGE_TOKENS * 192).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    // Buffers that are made once are not the caches'.
    let warm = Budget::new(None);
    for scheme in ["f16", "k2v2:calibration=none"] {
        let pool = pool(scheme, &warm);
        let mut cache = pool.sequence();
        (0..4).for_each(|_| assert!(append_page(&cx, &mut cache, &rows)));
    }
    let budget = Budget::new(Some(LIMIT));
    let pools = ["f16", "k2v2:calibration=none", "kivi2"].map(|scheme| pool(scheme, &budget));
    let before = resident_bytes();
    let mut most_resident = 0;
    // Each cache alone takes all of the budget, then gives it back; then all of them share it.
    let mut lengths = Vec::new();
    for pool in &pools {
        let mut cache = pool.sequence();
        while append_page(&cx, &mut cache, &rows) {}
        most_resident = most_resident.max(resident_bytes() - before);
        assert!(budget.bytes_in_use() <= LIMIT);
        assert!(budget.bytes_in_use() > LIMIT - (8 << 20), "{} bytes are in use", budget.bytes_in_use());
        lengths.push(cache.len());
    }
    assert_eq!(budget.bytes_in_use(), 0);
    assert!(lengths[1] > 5 * lengths[0], "what 16 and 2.25 bits per value hold: {lengths:?} tokens");
    let mut caches: Vec<KvSequence> = pools.iter().map(|pool| pool.sequence()).collect();
    while caches.iter_mut().all(|cache| append_page(&cx, cache, &rows)) {}
    most_resident = most_resident.max(resident_bytes() - before);
    let held: usize = caches.iter().map(KvSequence::bytes).sum();
    assert!(budget.bytes_in_use() >= held && budget.bytes_in_use() <= LIMIT);
    // A huge page at the end of each pool's slab, and the tables of the allocator.
    let slack = 3 * (2 << 20) + (4 << 20);
    assert!(most_resident <= LIMIT + slack, "{most_resident} bytes resident of a budget of {LIMIT}");
    assert!(most_resident > LIMIT - (16 << 20), "{most_resident} bytes resident: pages are really there");
}
