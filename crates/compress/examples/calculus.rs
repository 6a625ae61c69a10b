//! How long statistics and sensitivities of a model take, and what share of the machine's float32 peak that is.
//!
//! usage: `cargo run --release -p lossy-compress --example calculus -- MODEL TEXT [TOKENS]`

use std::time::Instant;

use lossy_compress::block::Projection;
use lossy_compress::network::check;
use lossy_compress::statistics::{Input, StatisticsError, StatisticsOptions, collect, windows};
use lossy_compress::{sensitivity, weights::WeightError};
use lossy_engine::ModelSource;
use lossy_kernels::{Compute, Isa, peak};
use lossy_tokenizer::EncodeOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, rest @ ..] = &arguments[..] else {
        return Err("usage: calculus MODEL TEXT [TOKENS]".into());
    };
    let n_tokens = rest.first().map_or(Ok(16_384), |n| n.parse())?;
    let source = ModelSource::open(model.as_ref())?;
    check(&source)?;
    let mut tokens = source.tokenizer()?.encode(&std::fs::read_to_string(text)?, EncodeOptions::default())?;
    tokens.truncate(n_tokens);
    let n_threads = std::thread::available_parallelism()?.get();
    let peak = peak::measure(&Compute::with_isa(n_threads, Isa::best())).f32_gflop_per_s;
    println!("{n_threads} threads, float32 peak {peak:.0} GFLOP/s");

    let info = source.info();
    let windows = windows(&tokens)?;
    let n_read: usize = windows.iter().map(|window| window.len()).sum();
    let weights: usize = Projection::ALL.map(|p| p.shape(info).iter().product()).iter().sum();
    let squares: usize = Input::ALL.map(|i| i.projections()[0].shape(info)[1].pow(2)).iter().sum();
    for moments in [false, true] {
        let start = Instant::now();
        let mut each = |_| -> Result<(), StatisticsError> { Ok(()) };
        collect(&source, &windows, StatisticsOptions { moments, n_threads }, &mut each)?;
        let seconds = start.elapsed().as_secs_f64();
        // Two operations a weight; half of a symmetric matrix.
        let operations = 2 * weights + if moments { squares } else { 0 };
        let rate = (n_read * info.n_layers * operations) as f64 * 1e-9 / seconds;
        println!(
            "statistics of {n_read} tokens, moments {moments}: {seconds:.1} s, {rate:.0} GFLOP/s in matrices, {:.0} % of the peak",
            100.0 * rate / peak
        );
    }
    let windows: Vec<&[u32]> = tokens.chunks_exact(sensitivity::WINDOW).take(6).collect();
    let start = Instant::now();
    let mut each = |_| -> Result<(), WeightError> { Ok(()) };
    sensitivity::collect(&source, &windows, 1, n_threads, &mut each)?;
    println!(
        "sensitivities from {} tokens: {:.1} s",
        windows.len() * sensitivity::WINDOW,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
