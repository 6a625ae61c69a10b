//! What a cache really takes, by the system's own count of this process's resident memory. A test binary of its own:
//! nothing else runs in the process.

use std::sync::Arc;

use lossy_engine::internals::{
    Context, HeadStatistics, KvGeometry, KvPool, KvSequence, PAGE_TOKENS, Rows, Span, append_layer,
};
use lossy_engine::{Budget, Calibration, KvScheme, Positions, Rope, RopeConfig, RopeScaling};
use lossy_kernels::{Compute, Isa};

/// SmolLM2-135M's.
const GEOMETRY: KvGeometry = KvGeometry { n_layers: 30, n_kv_heads: 3, heads_per_kv: 3, head_dim: 64 };
const N_TOKENS: usize = 64 * PAGE_TOKENS;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the system's figures of this process");
    let pages: usize = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("resident pages");
    pages * 4096
}

fn pool(scheme: &str) -> Arc<KvPool> {
    let head = HeadStatistics {
        key_mean: vec![0.0; 64],
        key_variance: (0..64).map(|c| 1.1f32.powi(-c)).collect(),
        query_square: vec![1.0; 64],
        value_mean: vec![0.0; 64],
        value_size: 1.0,
    };
    let calibration = Calibration::new(vec![vec![head; GEOMETRY.n_kv_heads]; GEOMETRY.n_layers], 1);
    let rope = Rope::new(&RopeConfig { base: 10_000.0, scaling: RopeScaling::None }, GEOMETRY.head_dim);
    let positions = Arc::new(Positions::linear(rope, N_TOKENS));
    let context = Context { geometry: &GEOMETRY, calibration: Some(&calibration) };
    let scheme: KvScheme = scheme.parse().expect("a scheme that exists");
    KvPool::with_layout(
        GEOMETRY,
        scheme.layout(&context).expect("a scheme that fits"),
        positions,
        Budget::new(None),
    )
}

fn filled(cx: &Compute, pool: &Arc<KvPool>, rows: &[f32]) -> KvSequence {
    let width = GEOMETRY.n_kv_heads * GEOMETRY.head_dim;
    let n = rows.len() / width;
    let mut cache = pool.sequence();
    while cache.len() < N_TOKENS {
        cache.reserve(n).expect("no budget");
        for layer in 0..GEOMETRY.n_layers {
            let mut spans = [Span { cache: &mut cache, rows: 0..n, one_by_one: false }];
            append_layer(cx, layer, &mut spans, Rows::new(rows, width, 0), Rows::new(rows, width, 0))
                .expect("finite values");
        }
        cache.advance(n);
    }
    cache
}

#[test]
fn resident_memory_is_what_the_scheme_says() {
    let cx = Compute::with_isa(2, Isa::best());
    let rows: Vec<f32> = (0..PAGE_TOKENS * 192).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    // Buffers that are made once are not the cache's.
    drop(filled(&cx, &pool("k2v2"), &rows[..192 * 64]));
    let mut measured = Vec::new();
    for scheme in ["f16", "k2v2", "k4v4", "kivi2"] {
        let pool = pool(scheme);
        let before = resident_bytes();
        let cache = filled(&cx, &pool, &rows);
        let resident = resident_bytes() - before;
        let said = cache.bytes();
        // Pages of recent tokens that were given back are kept for the next prompt.
        let spare = 2 * pool.exact_bytes_per_page();
        assert!(resident + (1 << 20) >= said, "{scheme}: {resident} bytes resident, {said} said");
        assert!(resident <= said + spare + (4 << 20), "{scheme}: {resident} bytes resident, {said} said");
        measured.push(resident as f64);
        drop(cache);
    }
    let f16 = measured[0];
    assert!(measured[1] < f16 / 5.0, "k2v2 takes {} of {f16}", measured[1]);
    assert!(measured[2] < f16 / 3.0, "k4v4 takes {} of {f16}", measured[2]);
    assert!(measured[3] < f16 / 4.0, "kivi2 takes {} of {f16}", measured[3]);
}
