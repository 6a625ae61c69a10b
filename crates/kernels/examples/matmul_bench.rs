//! Speed of matrix products at the shapes of two small models.
//!
//! `cargo run --release -p lossy-kernels --example matmul_bench [FORMAT] [THREADS] [TOKENS]`
//!
//! For each shape: GOP/s (two operations for a weight and token) and GB/s of packed weights, of the fastest run, with their
//! share of what [`lossy_kernels::peak`] measures on this machine. Matrices are read from memory, not from cache: several copies
//! take turns.

use lossy_kernels::{ActivationKind, Activations, Compute, Isa, Matrix, matmul, peak};
use lossy_quant::DType;
use std::time::Instant;

const SHAPES: [(DType, usize, usize); 14] = [
    (DType::Q4_1, 576, 576),
    (DType::Q4_1, 1536, 576),
    (DType::Q4_1, 576, 1536),
    (DType::Q4_0, 1536, 576),
    (DType::Q8_0, 49152, 576),
    (DType::Q5_0, 896, 896),
    (DType::Q5_0, 4864, 896),
    (DType::Q5_1, 4864, 896),
    (DType::Q8_0, 151936, 896),
    (DType::Q6K, 896, 4864),
    (DType::Q4K, 896, 4864),
    (DType::IQ4NL, 4864, 896),
    (DType::Q2K, 896, 4864),
    (DType::F16, 1536, 576),
];

/// More than any cache.
const COLD_BYTES: usize = 64 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let only = |at: usize| args.get(at).filter(|arg| *arg != "all");
    let batches: Vec<usize> = match only(2) {
        Some(n) => vec![n.parse().expect("a number of tokens")],
        None => vec![1, 4, 8, 16, 512],
    };
    for n_threads in [1, 2].into_iter().filter(|n| only(1).is_none_or(|arg| *arg == n.to_string())) {
        let isa = std::env::var("LOSSY_ISA").map_or_else(
            |_| Isa::best(),
            |name| Isa::by_name(&name).expect("LOSSY_ISA names what this machine has"),
        );
        let cx = Compute::with_isa(n_threads, isa);
        let peak = peak::measure(&cx);
        println!(
            "{} with {n_threads} threads: read {:.1} GB/s, f32 {:.0} GFLOP/s, int8 {:.0} GOP/s",
            cx.isa, peak.read_gb_per_s, peak.f32_gflop_per_s, peak.int8_gop_per_s
        );
        for (dtype, n_rows, n_cols) in SHAPES {
            if only(0).is_some_and(|name| *name != dtype.name()) {
                continue;
            }
            for &n_tokens in &batches {
                if n_rows > 40_000 && n_tokens > 16 {
                    continue;
                }
                let (seconds, bytes) = measure(&cx, dtype, n_rows, n_cols, n_tokens);
                let gop = 2e-9 * (n_rows * n_cols * n_tokens) as f64 / seconds;
                let gb = 1e-9 * bytes as f64 / seconds;
                println!(
                    "{:>6} {n_rows:>6} x {n_cols:<5} {n_tokens:>4} tokens {:>9.1} us {gop:>7.1} GOP/s {:>4.0} % {gb:>6.2} GB/s {:>4.0} %",
                    dtype.name(),
                    seconds * 1e6,
                    100.0 * gop / peak.int8_gop_per_s,
                    100.0 * gb / peak.read_gb_per_s,
                );
            }
        }
    }
}

/// Seconds for a product, the least of many, and bytes of the packed matrix.
fn measure(cx: &Compute, dtype: DType, n_rows: usize, n_cols: usize, n_tokens: usize) -> (f64, usize) {
    let n_bytes = dtype.bytes_for(n_rows * n_cols).expect("whole blocks");
    let file = vec![0x11; n_bytes];
    let n_copies = if n_tokens > 64 { 1 } else { (COLD_BYTES / n_bytes).clamp(1, 256) };
    let pack = |_| Matrix::pack(cx, dtype, n_rows, n_cols, &file).expect("whole blocks");
    let copies: Vec<Matrix> = (0..n_copies).map(pack).collect();
    let rows: Vec<f32> = (0..n_tokens * n_cols).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let mut x = Activations::new(ActivationKind::Q8);
    x.set(cx, &rows, n_cols);
    let mut out = vec![0.0; n_tokens * n_rows];
    let mut fastest = f64::INFINITY;
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        for matrix in &copies {
            matmul(cx, &[matrix], &x, &mut out);
        }
        fastest = fastest.min(start.elapsed().as_secs_f64() / n_copies as f64);
    }
    (fastest, copies[0].bytes())
}
