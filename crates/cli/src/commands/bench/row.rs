//! A row of the table: what was measured, and how fast it was.

use std::time::Duration;

use serde::Serialize;

use super::cost::Cost;
use super::statistics::Statistics;
use super::workload::{DepthFill, Workload};

/// What the rows of one table have in common. The names in JSON and CSV are those of llama-bench where it has them.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    pub build_version: &'static str,
    pub model_filename: String,
    pub model_type: String,
    pub model_size: u64,
    pub model_n_params: u64,
    pub backends: &'static str,
    pub cpu_isa: &'static str,
    pub activations: String,
    pub n_batch: usize,
    pub n_threads: usize,
    /// from opening the file to being ready, with the tokenizer, and with the calibration if it had not been done before
    pub load_ns: u64,
    /// as they lie in memory
    pub weight_bytes: usize,
    pub type_k: String,
    pub type_v: String,
    /// the position map
    pub positions: String,
    /// how the cache was brought to `n_depth`
    pub depth_fill: DepthFill,
}

/// What the machine can do with that many threads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Machine {
    /// reading from memory
    pub read_bytes_per_s: f64,
    /// with weights: int8, or float32 with float32 activations
    pub matrix_ops_per_s: f64,
    /// float32
    pub float_ops_per_s: f64,
}

/// What was in memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// of the cache, when it was largest
    pub kv_bytes: usize,
    /// of the buffers that forward passes work in
    pub scratch_bytes: usize,
    /// most of the process that was resident since the model began to load; `None` where the system does not say
    pub peak_bytes: Option<u64>,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub conditions: Conditions,
    pub test: String,
    pub n_prompt: usize,
    pub n_gen: usize,
    pub n_depth: usize,
    pub avg_ns: u64,
    pub stddev_ns: u64,
    pub avg_ts: f64,
    pub stddev_ts: f64,
    pub median_ts: f64,
    /// of the measured read bandwidth, 0 to 1
    pub bandwidth_share: f64,
    /// of the measured arithmetic peak, 0 to 1
    pub arithmetic_share: f64,
    #[serde(flatten)]
    pub machine: Machine,
    #[serde(flatten)]
    pub memory: Memory,
    pub samples_ns: Vec<u64>,
    pub samples_ts: Vec<f64>,
}

impl Row {
    /// From the times of one workload.
    pub fn new(
        conditions: &Conditions,
        machine: Machine,
        workload: &Workload,
        cost: Cost,
        memory: Memory,
        times: &[Duration],
    ) -> Row {
        let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        let speeds: Vec<f64> = seconds.iter().map(|seconds| workload.n_measured() as f64 / seconds).collect();
        let (time, speed) = (Statistics::of(&seconds), Statistics::of(&speeds));
        let least_reading = cost.bytes / machine.read_bytes_per_s;
        let least_computing =
            cost.matrix_ops / machine.matrix_ops_per_s + cost.attention_ops / machine.float_ops_per_s;
        Row {
            conditions: conditions.clone(),
            test: workload.to_string(),
            n_prompt: workload.n_prompt,
            n_gen: workload.n_gen,
            n_depth: workload.n_depth,
            avg_ns: (time.mean * 1e9) as u64,
            stddev_ns: (time.stddev * 1e9) as u64,
            avg_ts: speed.mean,
            stddev_ts: speed.stddev,
            median_ts: speed.median,
            bandwidth_share: least_reading / time.median,
            arithmetic_share: least_computing / time.median,
            machine,
            memory,
            samples_ns: times.iter().map(|time| time.as_nanos() as u64).collect(),
            samples_ts: speeds,
        }
    }
}
