//! `--version`: what was built, and what this machine runs it with.

use std::env::consts::{ARCH, OS};
use std::sync::LazyLock;

use crate::instructions;

/// `0.1.0`
pub fn short() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The version, the target and profile it was built for, and the instruction set that it found.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        // A wrong LOSSY_ISA is an error where kernels run, not here.
        let isa = match instructions::isa() {
            Ok(isa) => isa.name().to_string(),
            Err(error) => format!("{error:#}"),
        };
        format!("{} ({ARCH}-{OS}, {profile}, instructions: {isa})", short())
    });
    &TEXT
}
