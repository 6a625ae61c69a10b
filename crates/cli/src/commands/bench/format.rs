//! The table in the formats of llama-bench.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::row::Row;
use crate::output::Output;
use crate::units;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// a Markdown table
    Md,
    /// comma-separated values
    Csv,
    /// one array of objects
    Json,
    /// one object on each line
    Jsonl,
}

impl Format {
    /// Standard output for it.
    pub fn out(self) -> Output {
        match self {
            Format::Md | Format::Csv => Output::text(),
            Format::Json | Format::Jsonl => Output::json(),
        }
    }
}

/// Prints rows as they come.
pub struct Printer<W: Write> {
    out: W,
    format: Format,
    n_rows: usize,
    /// tokens that were read where others are copies
    n_read: Option<usize>,
    /// what is said below a table, a line for each cache
    below: Vec<String>,
}

const COLUMNS: [&str; 12] = [
    "model",
    "size",
    "params",
    "backend",
    "threads",
    "kv",
    "kv size",
    "test",
    "t/s",
    "median t/s",
    "% bandwidth",
    "% arithmetic",
];

impl<W: Write> Printer<W> {
    /// Nothing is printed yet.
    pub fn new(out: W, format: Format) -> Printer<W> {
        Printer { out, format, n_rows: 0, n_read: None, below: Vec::new() }
    }

    /// Prints one row, after the header if it is the first.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        let is_first = self.n_rows == 0;
        self.n_rows += 1;
        let n_read = row.conditions.depth_fill.n_read(row.n_depth);
        self.n_read = self.n_read.or((n_read < row.n_depth).then_some(n_read));
        match self.format {
            Format::Md => {
                if is_first {
                    writeln!(self.out, "{}", markdown(&COLUMNS.map(String::from)))?;
                    writeln!(self.out, "| {} |", COLUMNS.map(dashes).join(" | "))?;
                }
                writeln!(self.out, "{}", markdown(&cells(row)))?;
            }
            Format::Csv => {
                let fields = fields(row)?;
                if is_first {
                    writeln!(
                        self.out,
                        "{}",
                        fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
                    )?;
                }
                writeln!(
                    self.out,
                    "{}",
                    fields.iter().map(|(_, value)| quoted(value)).collect::<Vec<_>>().join(",")
                )?;
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(row)?;
                write!(self.out, "{}{text}", if is_first { "[\n" } else { ",\n" })?;
            }
            Format::Jsonl => writeln!(self.out, "{}", serde_json::to_string(row)?)?,
        }
        self.out.flush()
    }

    /// After the last workload of a cache, which has these rows: what is said about it below the table.
    pub fn end_cache(&mut self, last: &[Row]) {
        self.below.extend(load_and_memory(last));
    }

    /// Closes what is open.
    pub fn finish(mut self) -> io::Result<()> {
        self.below.extend(self.n_read.map(copies));
        match self.format {
            Format::Json => writeln!(self.out, "{}", if self.n_rows == 0 { "[]" } else { "\n]" })?,
            Format::Md => self.below.iter().try_for_each(|line| writeln!(self.out, "\n{line}"))?,
            Format::Csv | Format::Jsonl => {}
        }
        self.out.flush()
    }
}

/// `2 threads, batch 512: loaded in 0.21 s; peak memory 130 MiB (weights 92.1 MiB, KV cache 14.1 MiB, scratch
/// 9.5 MiB)`; of several schemes all caches.
fn load_and_memory(rows: &[Row]) -> Option<String> {
    let last = rows.last()?;
    let (conditions, memory) = (&last.conditions, &last.memory);
    let peak = memory.peak_bytes.map_or("not known here".to_string(), units::bytes);
    let kv_bytes: usize = rows.iter().map(|row| row.memory.kv_bytes).sum();
    Some(format!(
        "{} threads, batch {}: loaded in {:.2} s; peak memory {peak} (weights {}, KV cache{} {}, scratch {})",
        conditions.n_threads,
        conditions.n_batch,
        conditions.load_ns as f64 * 1e-9,
        units::bytes(conditions.weight_bytes as u64),
        if rows.len() > 1 { "s" } else { "" },
        units::bytes(kv_bytes as u64),
        units::bytes(memory.scratch_bytes as u64),
    ))
}

/// How deep caches were filled.
fn copies(n_read: usize) -> String {
    format!("deeper caches (@ d): the first {n_read} tokens were read, the pages behind them are copies")
}

/// Widths at which the rows of a table line up; a longer cell makes its row longer.
const WIDTHS: [usize; 12] = [30, 10, 10, 12, 7, 6, 10, 15, 18, 10, 11, 12];

fn markdown(cells: &[String; 12]) -> String {
    let padded = cells.iter().zip(WIDTHS).enumerate().map(|(column, (cell, width))| match column {
        0 | 3 | 5 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
}

fn dashes(column: &str) -> String {
    let index = COLUMNS.iter().position(|name| *name == column).unwrap_or(0);
    match index {
        0 | 3 | 5 => "-".repeat(WIDTHS[index]),
        _ => format!("{}:", "-".repeat(WIDTHS[index] - 1)),
    }
}

fn cells(row: &Row) -> [String; 12] {
    let conditions = &row.conditions;
    [
        conditions.model_type.clone(),
        units::bytes(conditions.model_size),
        units::parameters(conditions.model_n_params),
        format!("{} {}", conditions.backends, conditions.cpu_isa),
        conditions.n_threads.to_string(),
        match conditions.positions.as_str() {
            "linear" => conditions.type_k.clone(),
            positions => format!("{} {positions}", conditions.type_k),
        },
        units::bytes(row.memory.kv_bytes as u64),
        row.test.clone(),
        format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts),
        format!("{:.2}", row.median_ts),
        format!("{:.0}", 100.0 * row.bandwidth_share),
        format!("{:.0}", 100.0 * row.arithmetic_share),
    ]
}

/// The fields of a row in order, without the samples, which are lists.
fn fields(row: &Row) -> io::Result<Vec<(String, Value)>> {
    let Value::Object(fields) = serde_json::to_value(row)? else { return Ok(Vec::new()) };
    Ok(fields.into_iter().filter(|(_, value)| !value.is_array()).collect())
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cost::Cost;
    use super::super::row::{Conditions, Machine, Memory};
    use super::super::workload::{DepthFill, Workload};
    use super::*;

    fn row() -> Row {
        let conditions = Conditions {
            build_version: "0.1.0",
            model_filename: "a \"b\".gguf".into(),
            model_type: "llama Q4_1".into(),
            model_size: 98_362_432,
            model_n_params: 134_515_008,
            backends: "CPU",
            cpu_isa: "avx2",
            activations: "q8".into(),
            n_batch: 512,
            n_threads: 2,
            load_ns: 210_000_000,
            weight_bytes: 92 << 20,
            type_k: "f16".into(),
            type_v: "f16".into(),
            positions: "linear".into(),
            depth_fill: DepthFill::Copies,
        };
        let machine = Machine { read_bytes_per_s: 10e9, matrix_ops_per_s: 100e9, float_ops_per_s: 50e9 };
        let workload = Workload { n_prompt: 512, n_gen: 0, n_depth: 8192 };
        let memory = Memory { kv_bytes: 14 << 20, scratch_bytes: 9 << 20, peak_bytes: Some(130 << 20) };
        let cost = Cost { bytes: 1e9, matrix_ops: 50e9, attention_ops: 25e9 };
        Row::new(
            &conditions,
            machine,
            &workload,
            cost,
            memory,
            &[Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(2)],
        )
    }

    fn printed(format: Format) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, format);
        printer.row(&row()).unwrap();
        printer.row(&row()).unwrap();
        printer.end_cache(&[row()]);
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_is_that_of_llama_bench_with_more_columns_and_a_line_below() {
        let text = printed(Format::Md);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8);
        let below = "2 threads, batch 512: loaded in 0.21 s; peak memory 130 MiB (weights 92.0 MiB, KV cache 14.0 MiB, scratch 9.00 MiB)";
        let copies = "deeper caches (@ d): the first 2048 tokens were read, the pages behind them are copies";
        assert_eq!(lines[4..], ["", below, "", copies]);
        assert!(lines[0].starts_with("| model  "), "{text}");
        let cells: Vec<&str> = lines[2].trim_matches('|').split(" | ").map(str::trim).collect();
        let expected =
            ["llama Q4_1", "93.8 MiB", "134.52 M", "CPU avx2", "2", "f16", "14.0 MiB", "pp512 @ d8192"];
        assert_eq!(cells[..8], expected);
        assert_eq!(cells[8..], ["312.89 ± 177.64", "256.00", "5", "50"]);
        assert!(lines[..4].iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
    }

    #[test]
    fn json_and_jsonl_are_read_by_a_json_parser() {
        let array: Vec<Value> = serde_json::from_str(&printed(Format::Json)).unwrap();
        assert_eq!(array.len(), 2);
        assert_eq!(array[0]["avg_ts"].as_f64().unwrap().round(), 313.0);
        assert_eq!(array[0]["depth_fill"], "copies");
        let lines: Vec<Value> =
            printed(Format::Jsonl).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, array);
    }

    #[test]
    fn csv_has_a_header_and_quotes_texts() {
        let text = printed(Format::Csv);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("avg_ts"));
        assert!(lines[1].contains("\"a \"\"b\"\".gguf\""), "{text}");
    }
}
