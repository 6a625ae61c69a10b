//! Encodes float32 numbers from a file, for bench/weights: `encode TYPE ROW_LENGTH VALUES [WEIGHTS] > blocks`.
//!
//! WEIGHTS are the float32 numbers of one row, and count for each.
#![forbid(unsafe_code)]

use std::io::Write;

use lossy_quant::{DType, quantize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, row_len, values, weights @ ..] = arguments.as_slice() else {
        return Err("usage: encode TYPE ROW_LENGTH VALUES [WEIGHTS]".into());
    };
    let dtype = DType::ALL.iter().find(|dtype| dtype.name() == name).ok_or("unknown type")?;
    let (row_len, values): (usize, Vec<f32>) = (row_len.parse()?, singles(values)?);
    let weights = weights.first().map(|path| singles(path)).transpose()?;
    let mut out = vec![0; dtype.bytes_for(row_len).ok_or("rows are not whole blocks")?];
    let mut stdout = std::io::stdout().lock();
    for row in values.chunks_exact(row_len) {
        quantize(*dtype, row, weights.as_deref(), &mut out)?;
        stdout.write_all(&out)?;
    }
    Ok(())
}

fn singles(path: &str) -> std::io::Result<Vec<f32>> {
    Ok(std::fs::read(path)?.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}
