//! How fast attention over the paged cache is, beside what the machine can do.
//!
//! `cargo run --release -p lossy-engine --example attention_bench [-- DEPTH … SCHEME[+MAP] … MODEL … decode|prefill chunk=N]` prints,
//! for the attention shapes of SmolLM2-135M (`smollm2`) and Qwen2.5-0.5B (`qwen`) and for 1 and 2 threads, how long decode
//! takes at each depth in several KV schemes, which run in turns (medians); how much faster that is than the first scheme;
//! the bytes per second that it reads from the cache and their share of the read bandwidth measured by the same threads;
//! and the same for prefill of the chunk of 512 tokens, or N, that ends there, with its arithmetic per second (two multiply-adds
//! per query head, channel and visible token). MAP is `adaptive`, `self-extend` or `dca`, as for a model that was trained
//! for 8,192 tokens. `LOSSY_BENCH_THREADS=2` leaves out the other number of threads.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use lossy_engine::internals::{
    Context, HeadStatistics, KvGeometry, KvPool, KvSequence, Rows, Span, append_layer, attend_layer,
};
use lossy_engine::{Budget, Calibration, KvScheme, PositionScheme, RopeConfig, RopeScaling, Trained};
use lossy_kernels::{ActivationKind, Compute, Isa};

const CHUNK: usize = 512;
const REPEATS: usize = 25;
const PREFILL_REPEATS: usize = 5;
const N_TRAINED: usize = 8192;
/// Schemes whose decode is timed unless others are named.
const SCHEMES: [&str; 6] = ["f16", "q8", "kivi2", "k2v2", "k3v3", "k4v4"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let depths: Vec<usize> = arguments.iter().filter_map(|arg| arg.parse().ok()).collect();
    let depths = if depths.is_empty() { vec![512, 8192, 32768] } else { depths };
    let words = arguments.iter().map(String::as_str).filter(|arg| arg.parse::<usize>().is_err());
    let (chunks, words): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with("chunk="));
    let chunk = chunks.first().map_or(CHUNK, |word| word["chunk=".len()..].parse().expect("chunk=TOKENS"));
    assert!((1..=CHUNK).contains(&chunk), "chunk=1 to chunk={CHUNK}, not chunk={chunk}");
    let (models, words): (Vec<&str>, Vec<&str>) =
        words.into_iter().partition(|word| ["smollm2", "qwen"].contains(word));
    let (parts, named): (Vec<&str>, Vec<&str>) =
        words.into_iter().partition(|word| ["decode", "prefill"].contains(word));
    let has = |part: &str| parts.is_empty() || parts.contains(&part);
    let schemes = if named.is_empty() { &SCHEMES[..] } else { &named[..] };
    let isa = std::env::var("LOSSY_ISA").map_or_else(
        |_| Isa::best(),
        |name| Isa::by_name(&name).expect("LOSSY_ISA names what this machine has"),
    );
    let only_threads: Option<usize> =
        std::env::var("LOSSY_BENCH_THREADS").ok().and_then(|text| text.parse().ok());
    let smollm2 = KvGeometry { n_layers: 30, n_kv_heads: 3, heads_per_kv: 3, head_dim: 64 };
    let qwen = KvGeometry { n_layers: 24, n_kv_heads: 2, heads_per_kv: 7, head_dim: 64 };
    for n_threads in [1, 2].into_iter().filter(|n| only_threads.is_none_or(|only| only == *n)) {
        let cx = Compute::with_isa(n_threads, isa);
        let bandwidth = read_bandwidth(&cx);
        println!("{n_threads} threads, {isa}: reads {:.1} GB/s", bandwidth / 1e9);
        for (name, geometry) in [("smollm2", smollm2), ("qwen", qwen)] {
            if !models.is_empty() && !models.contains(&name) {
                continue;
            }
            for &depth in &depths {
                if has("decode") {
                    decode(&cx, name, schemes, geometry, depth, bandwidth);
                }
                if has("prefill") {
                    prefill(&cx, name, schemes, geometry, depth.max(CHUNK), chunk);
                }
            }
        }
    }
}

/// Seconds of the fastest of several runs: what the code can do where nothing else disturbs it.
fn fastest(mut run: impl FnMut()) -> f64 {
    let seconds = (0..REPEATS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// Bytes per second that all threads together read from memory.
fn read_bandwidth(cx: &Compute) -> f64 {
    let data = vec![1u64; 64 << 20];
    let pieces: Vec<&[u64]> = data.chunks(128 << 10).collect();
    let seconds = fastest(|| {
        cx.pool.run(pieces.len(), |index| {
            let mut sums = [0u64; 16];
            for line in pieces[index].as_chunks::<16>().0 {
                sums.iter_mut().zip(line).for_each(|(sum, x)| *sum ^= x);
            }
            black_box(sums);
        });
    });
    size_of_val(&*data) as f64 / seconds
}

fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() + next() + next()).collect()
}

/// Query, key and value rows of a chunk of tokens.
struct Chunk {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    query_width: usize,
    kv_width: usize,
}

impl Chunk {
    fn new(geometry: KvGeometry) -> Chunk {
        let kv_width = geometry.n_kv_heads * geometry.head_dim;
        let query_width = kv_width * geometry.heads_per_kv;
        let (queries, keys) = (noise(CHUNK * query_width), noise(CHUNK * kv_width));
        Chunk { queries, values: keys.clone(), keys, query_width, kv_width }
    }

    fn append(&self, cx: &Compute, layer: usize, cache: &mut KvSequence, n: usize) {
        let rows = |data| Rows::new(data, self.kv_width, 0);
        let mut spans = [Span { cache, rows: 0..n, one_by_one: false }];
        append_layer(cx, layer, &mut spans, rows(&self.keys), rows(&self.values)).expect("finite values");
    }

    fn attend(&self, cx: &Compute, layer: usize, cache: &mut KvSequence, n: usize, out: &mut [f32]) {
        let spans = [Span { cache, rows: 0..n, one_by_one: false }];
        // What the numbers are does not matter: every rotation has the same.
        attend_layer(
            cx,
            layer,
            &spans,
            ActivationKind::Q8,
            &[Rows::new(&self.queries, self.query_width, 0); 3],
            out,
        );
    }
}

fn filled(cx: &Compute, pool: &Arc<KvPool>, chunk: &Chunk, depth: usize) -> KvSequence {
    let mut cache = pool.sequence();
    while cache.len() < depth {
        let n = CHUNK.min(depth - cache.len());
        cache.reserve(n).expect("no budget");
        (0..pool.geometry().n_layers).for_each(|layer| chunk.append(cx, layer, &mut cache, n));
        cache.advance(n);
    }
    cache
}

/// A pool whose scheme is calibrated for keys and values that are all alike: [`noise`]. `scheme` may end in `+MAP`.
fn pool(scheme: &str, geometry: KvGeometry, n_ctx: usize) -> Arc<KvPool> {
    let d = geometry.head_dim;
    let head = HeadStatistics {
        key_mean: vec![0.0; d],
        // Some channels matter more than others, so that there are all numbers of bits.
        key_variance: (0..d).map(|c| 1.1f32.powi(-(c as i32))).collect(),
        query_square: vec![1.0; d],
        value_mean: vec![0.0; d],
        value_size: 1.0,
    };
    let calibration = Calibration::new(vec![vec![head; geometry.n_kv_heads]; geometry.n_layers], 1);
    let context = Context { geometry: &geometry, calibration: Some(&calibration) };
    let (scheme, map) = scheme.split_once('+').unwrap_or((scheme, "linear"));
    let scheme: KvScheme = scheme.parse().expect("a scheme that exists");
    let map = match map {
        "adaptive" => "adaptive:window=1024,reach=4096",
        "self-extend" => "self-extend:group=16,window=1024",
        "dca" => "dca:chunk=6144",
        other => other,
    };
    let map: PositionScheme = map.parse().expect("a map that exists");
    let rope = RopeConfig { base: 10_000.0, scaling: RopeScaling::None };
    let trained = Trained { rope: &rope, head_dim: d, n_ctx: N_TRAINED };
    let positions = map.resolve(trained, n_ctx, true).expect("a map that fits");
    KvPool::with_layout(
        geometry,
        scheme.layout(&context).expect("a scheme that fits"),
        Arc::new(positions),
        Budget::new(None),
    )
}

/// A filled cache, and the time that each of several tokens took.
struct Lane {
    scheme: String,
    cache: KvSequence,
    seconds: Vec<f64>,
}

fn decode(cx: &Compute, name: &str, schemes: &[&str], geometry: KvGeometry, depth: usize, bandwidth: f64) {
    let n_layers = geometry.n_layers;
    // Enough layers that none is found in a cache the next time.
    let bytes_per_layer = depth * 4 * geometry.n_kv_heads * geometry.head_dim;
    let geometry = KvGeometry { n_layers: n_layers.min((128 << 20) / bytes_per_layer + 1), ..geometry };
    let chunk = Chunk::new(geometry);
    let mut out = vec![0.0; chunk.query_width];
    let lane = |scheme: &&str| {
        let mut cache = filled(cx, &pool(scheme, geometry, depth + CHUNK), &chunk, depth - 1);
        cache.reserve(1).expect("no budget");
        (0..geometry.n_layers).for_each(|layer| chunk.append(cx, layer, &mut cache, 1));
        Lane { scheme: scheme.to_string(), cache, seconds: Vec::new() }
    };
    let mut lanes: Vec<Lane> = schemes.iter().map(lane).collect();
    for _ in 0..REPEATS {
        for lane in &mut lanes {
            let start = Instant::now();
            (0..geometry.n_layers).for_each(|layer| chunk.attend(cx, layer, &mut lane.cache, 1, &mut out));
            lane.seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let mut first = None;
    for Lane { scheme, cache, seconds } in &mut lanes {
        seconds.sort_by(f64::total_cmp);
        let seconds = seconds[seconds.len() / 2];
        let rate = (depth * cache.pool().bytes_per_token()) as f64 / seconds;
        println!(
            "  {name:8} {scheme:6} decode  @ {depth:5}: {:8.3} ms a token, {:5.2} times as fast, {:5.1} GB/s, {:3.0} % of the bandwidth",
            seconds * 1e3 * n_layers as f64 / geometry.n_layers as f64,
            *first.get_or_insert(seconds) / seconds,
            rate / 1e9,
            100.0 * rate / bandwidth
        );
    }
}

fn prefill(cx: &Compute, name: &str, schemes: &[&str], geometry: KvGeometry, n_tokens: usize, n_new: usize) {
    let geometry = KvGeometry { n_layers: 1, ..geometry };
    let chunk = Chunk::new(geometry);
    let mut out = vec![0.0; n_new * chunk.query_width];
    let lane = |scheme: &&str| {
        let mut cache = filled(cx, &pool(scheme, geometry, n_tokens), &chunk, n_tokens - n_new);
        cache.reserve(n_new).expect("no budget");
        chunk.append(cx, 0, &mut cache, n_new);
        Lane { scheme: scheme.to_string(), cache, seconds: Vec::new() }
    };
    let mut lanes: Vec<Lane> = schemes.iter().map(lane).collect();
    for _ in 0..PREFILL_REPEATS {
        for lane in &mut lanes {
            let start = Instant::now();
            chunk.attend(cx, 0, &mut lane.cache, n_new, &mut out);
            lane.seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let visible = (n_new * (n_tokens - n_new) + n_new * (n_new + 1) / 2) as f64;
    let flops = 4.0 * visible * chunk.query_width as f64;
    let mut first = None;
    for Lane { scheme, seconds, .. } in &mut lanes {
        seconds.sort_by(f64::total_cmp);
        let seconds = seconds[seconds.len() / 2];
        println!(
            "  {name:8} {scheme:6} prefill @ {n_tokens:5}: {:8.3} ms a layer, {:5.2} times as fast, {:5.1} GFLOP/s a thread",
            seconds * 1e3,
            *first.get_or_insert(seconds) / seconds,
            flops / seconds / 1e9 / cx.pool.n_threads() as f64
        );
    }
}
