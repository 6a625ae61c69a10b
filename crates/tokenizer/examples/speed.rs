//! How long a tokenizer takes to build, to encode and to decode.
//!
//! usage: speed MODEL.gguf TEXT_FILE

use std::time::Instant;

use lossy_formats::gguf::Gguf;
use lossy_tokenizer::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(text)) = (args.next(), args.next()) else {
        return Err("usage: speed MODEL.gguf TEXT_FILE".into());
    };
    let text = std::fs::read_to_string(text)?;
    let gguf = Gguf::open(model.as_ref())?;
    let mut build_ms: Vec<f64> = Vec::new();
    let mut built = None;
    for _ in 0..7 {
        let start = Instant::now();
        built = Some(Tokenizer::from_gguf(gguf.metadata())?);
        build_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let tokenizer = built.ok_or("no tokenizer")?;
    let first_build_ms = build_ms[0];
    build_ms.sort_by(f64::total_cmp);
    println!("build {:.1} ms (first {first_build_ms:.1})", build_ms[3]);
    let mb = text.len() as f64 / 1e6;
    for _ in 0..3 {
        let start = Instant::now();
        let ids = tokenizer.encode(&text, EncodeOptions::default())?;
        let encode_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let decoded = tokenizer.decode(&ids, true);
        let decode_s = start.elapsed().as_secs_f64();
        assert_eq!(decoded, text);
        println!(
            "{} tokens of {mb:.2} MB: encode {:.1} MB/s ({:.1} ms), decode {:.1} MB/s",
            ids.len(),
            mb / encode_s,
            encode_s * 1e3,
            mb / decode_s
        );
    }
    Ok(())
}
