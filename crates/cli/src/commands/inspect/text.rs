//! A report for people.

use std::io::{self, Write};

use lossy_formats::Escaped;

use super::report::{ModelReport, Report};
use super::value::to_line;
use crate::units::{bytes, grouped, parameters};

/// Writes a report; with `tensors` every tensor.
pub fn write(out: &mut dyn Write, report: &Report, tensors: bool) -> io::Result<()> {
    row(out, "file", &Escaped(report.path.display()))?;
    let files = report.n_files.filter(|&n| n > 1).map_or_else(String::new, |n| format!(", {n} files"));
    row(out, "format", &format!("{}, {}{files}", report.format, bytes(report.file_bytes)))?;
    if let Some(model) = &report.model {
        write_model(out, model)?;
    }
    writeln!(out, "\ntensors by type")?;
    for kind in &report.tensor_types {
        let bits = 8.0 * kind.bytes as f64 / kind.n_values.max(1) as f64;
        writeln!(
            out,
            "  {:<8} {:>5} tensors  {:>16} values  {:>9}  {bits:.2} bits per value",
            kind.name,
            kind.n_tensors,
            grouped(kind.n_values),
            bytes(kind.bytes)
        )?;
    }
    writeln!(out, "\nmetadata")?;
    for (key, value) in &report.metadata {
        writeln!(out, "  {} = {}", Escaped(key), Escaped(to_line(value)))?;
    }
    if tensors {
        writeln!(out, "\ntensors")?;
        let width =
            report.tensors.iter().map(|tensor| Escaped(&tensor.name).to_string().len()).max().unwrap_or(0);
        for tensor in &report.tensors {
            let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            writeln!(
                out,
                "  {:<width$}  {:<7} {shape:>18}  {:>9}",
                Escaped(&tensor.name),
                tensor.dtype,
                bytes(tensor.bytes)
            )?;
        }
    }
    Ok(())
}

fn write_model(out: &mut dyn Write, model: &ModelReport) -> io::Result<()> {
    row(out, "model", &Escaped(model.name.as_deref().unwrap_or("(no name)")))?;
    row(out, "architecture", &Escaped(&model.architecture))?;
    row(out, "parameters", &format!("{}, mostly {}", parameters(model.n_params), model.weight_type))?;
    row(out, "layers", &model.n_layers)?;
    let heads =
        format!("{} query, {} key/value, {} channels each", model.n_heads, model.n_kv_heads, model.head_dim);
    row(out, "heads", &heads)?;
    row(out, "width", &format!("{}, MLP {}", model.n_embd, model.n_ff))?;
    row(out, "vocabulary", &format!("{} tokens", grouped(model.n_vocab as u64)))?;
    row(out, "trained context", &format!("{} tokens", grouped(model.n_ctx_train as u64)))?;
    let positions = match &model.positions {
        Some(positions) => format!(
            "{} at {} tokens, good for {} at most",
            positions.map,
            grouped(model.n_ctx as u64),
            grouped(positions.longest_ctx as u64)
        ),
        None => format!("no map reaches {} tokens", grouped(model.n_ctx as u64)),
    };
    row(out, "positions", &positions)?;
    let per_token = model.kv_bytes_per_token;
    row(
        out,
        "KV cache",
        &format!("{} bytes per token (f16), {} (f32)", grouped(per_token.f16), grouped(per_token.f32)),
    )?;
    let memory = format!(
        "{} weights + {} KV cache (f16) at {} tokens = {}",
        bytes(model.tensor_bytes),
        bytes(model.kv_bytes.f16),
        grouped(model.n_ctx as u64),
        bytes(model.tensor_bytes + model.kv_bytes.f16)
    );
    row(out, "memory", &memory)
}

fn row(out: &mut dyn Write, name: &str, value: &dyn std::fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<16} {value}")
}
