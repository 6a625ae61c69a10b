//! What the machine can do.

use anyhow::Result;
use lossy_kernels::{ActivationKind, Compute, peak};

use super::row::Machine;

/// Measures the machine with that many threads.
///
/// # Errors
/// `LOSSY_ISA` names instructions that are not there.
pub fn measure(n_threads: usize, activations: ActivationKind) -> Result<Machine> {
    let peak = peak::measure(&Compute::new(n_threads)?);
    Ok(Machine {
        read_bytes_per_s: 1e9 * peak.read_gb_per_s,
        matrix_ops_per_s: 1e9
            * match activations {
                ActivationKind::F32 => peak.f32_gflop_per_s,
                ActivationKind::Q8 => peak.int8_gop_per_s,
            },
        float_ops_per_s: 1e9 * peak.f32_gflop_per_s,
    })
}
