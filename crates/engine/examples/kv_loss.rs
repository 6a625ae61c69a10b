//! Mean KL divergence of KV schemes from the exact cache, teacher-forced.
//!
//! ```text
//! cargo run --release -p lossy-engine --example kv_loss -- MODEL TEXT N_CTX N_WINDOWS SCHEME…
//! ```

use std::path::Path;

use lossy_engine::{BatchItem, Engine, EngineOptions, Logits, ModelSource};
use lossy_tokenizer::EncodeOptions;

const CHUNK: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, n_ctx, n_windows, schemes @ ..] = &args[..] else { return Err("arguments".into()) };
    let source = ModelSource::open(Path::new(model))?;
    let tokenizer = source.tokenizer()?;
    let tokens = tokenizer.encode(&std::fs::read_to_string(text)?, EncodeOptions::default())?;
    let calibration_text = std::env::var("CALIBRATION").ok().map(std::fs::read_to_string).transpose()?;
    let calibration_text = calibration_text.as_deref().unwrap_or(include_str!("../text/calibration.txt"));
    let (n_ctx, n_windows): (usize, usize) = (n_ctx.parse()?, n_windows.parse()?);
    let mut engine =
        Engine::load(&source, &EngineOptions { n_ctx: Some(n_ctx), ..EngineOptions::default() })?;
    let start = std::time::Instant::now();
    engine.calibrate(&tokenizer.encode(calibration_text, EncodeOptions::default())?, &mut |_| {
        std::ops::ControlFlow::Continue(())
    })?;
    println!("calibrated in {:.1} s; {} tokens of text", start.elapsed().as_secs_f64(), tokens.len());
    let mut sums = vec![(0.0f64, 0usize, 0usize); schemes.len()];
    for window in tokens.chunks_exact(n_ctx).take(n_windows) {
        engine.set_kv(&"f16".parse()?)?;
        let mut exact = engine.sequence();
        let mut sequences = Vec::new();
        for scheme in schemes {
            engine.set_kv(&scheme.parse()?)?;
            sequences.push((engine.sequence(), engine.kv_bits_per_value()));
        }
        for (at, chunk) in window.chunks(CHUNK).enumerate() {
            let logits = if at == 0 { Logits::None } else { Logits::All };
            let wanted = engine.forward(&mut [BatchItem { sequence: &mut exact, tokens: chunk, logits }])?;
            for ((sequence, _), sum) in sequences.iter_mut().zip(&mut sums) {
                let got = engine.forward(&mut [BatchItem { sequence, tokens: chunk, logits }])?;
                for row in 0..wanted.len() {
                    let (kl, same) = divergence(wanted.row(row), got.row(row));
                    sum.0 += kl;
                    sum.1 += usize::from(same);
                    sum.2 += 1;
                }
            }
        }
        for ((scheme, (sequence, bits)), (kl, same, n)) in schemes.iter().zip(&sequences).zip(&sums) {
            println!(
                "{scheme:30} {bits:6.3} bits, {:9} bytes  KL {:.4}  same top {:.1} %  ({n} tokens)",
                sequence.kv_bytes(),
                kl / *n as f64,
                100.0 * *same as f64 / *n as f64
            );
        }
    }
    Ok(())
}

fn divergence(p: &[f32], q: &[f32]) -> (f64, bool) {
    let top =
        |x: &[f32]| x.iter().enumerate().fold((0, f32::MIN), |a, (i, v)| if *v > a.1 { (i, *v) } else { a });
    let ((i, p_max), (j, q_max)) = (top(p), top(q));
    let sum = |x: &[f32], max: f32| x.iter().map(|v| (v - max).exp() as f64).sum::<f64>();
    let (p_sum, q_sum) = (sum(p, p_max), sum(q, q_max));
    let shift = (p_max as f64 + p_sum.ln()) - (q_max as f64 + q_sum.ln());
    let kl: f64 = p
        .iter()
        .zip(q)
        .map(|(a, b)| ((a - p_max).exp() as f64) * (*a as f64 - *b as f64 - shift))
        .sum::<f64>()
        / p_sum;
    (kl, i == j)
}
