//! Draws where a nat is cheapest, from measured points.
//!
//! `cargo run --release -p lossy-eval --example frontier docs/measurements/nats.json > docs/images/nats.svg`

use std::process::ExitCode;

use lossy_eval::{Way, frontier};
use serde::Deserialize;

#[derive(Deserialize)]
struct Picture {
    title: String,
    bytes: String,
    remark: String,
    ways: Vec<Way>,
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: frontier POINTS.json > PICTURE.svg");
        return ExitCode::FAILURE;
    };
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    let parsed: Result<Picture, String> =
        read.and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()));
    match parsed.map(|of| frontier(&of.title, &of.bytes, &of.ways, &of.remark)) {
        Ok(Some(picture)) => {
            print!("{picture}");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("{path}: no point loses anything");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}
