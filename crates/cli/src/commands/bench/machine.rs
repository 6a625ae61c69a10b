//! What the machine can do.

use lossy_kernels::{ActivationKind, Compute, Isa, peak};

use super::row::Machine;

/// Measures the machine with that many threads and these instructions.
pub fn measure(n_threads: usize, isa: Isa, activations: ActivationKind) -> Machine {
    let peak = peak::measure(&Compute::with_isa(n_threads, isa));
    Machine {
        read_bytes_per_s: 1e9 * peak.read_gb_per_s,
        matrix_ops_per_s: 1e9
            * match activations {
                ActivationKind::F32 => peak.f32_gflop_per_s,
                ActivationKind::Q8 => peak.int8_gop_per_s,
            },
        float_ops_per_s: 1e9 * peak.f32_gflop_per_s,
    }
}
