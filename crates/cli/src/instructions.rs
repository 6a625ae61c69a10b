//! The environment variable `LOSSY_ISA`.

use anyhow::{Context, Result};
use lossy_kernels::Isa;

/// The instruction set that `LOSSY_ISA` names, or else the best one of this CPU.
///
/// # Errors
/// Nothing has this name, or the CPU does not have it.
pub fn isa() -> Result<Isa> {
    match std::env::var_os("LOSSY_ISA") {
        Some(name) if !name.is_empty() => Isa::by_name(&name.to_string_lossy()).context("LOSSY_ISA"),
        _ => Ok(Isa::best()),
    }
}
