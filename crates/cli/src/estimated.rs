//! What a command would take, as a dry run tells it.

use std::io::Write;

use anyhow::Result;
use lossy_compress::estimate::{Machine, Stage, peak_bytes, seconds};

use crate::units::bytes;

/// Prints memory and time of each step, and of all.
pub fn print(out: &mut impl Write, stages: &[Stage], machine: Machine) -> Result<()> {
    writeln!(
        out,
        "estimated from shapes, and from products that {} threads have just computed ({:.0} GFLOP/s): up to {} of memory beside MODEL's \
         mapped file, and some {}",
        machine.n_threads,
        machine.speed * 1e-9,
        bytes(peak_bytes(stages)),
        duration(seconds(stages))
    )?;
    if stages.len() > 1 {
        for stage in stages {
            writeln!(out, "  {}: {}, {}", stage.name, bytes(stage.bytes), duration(stage.seconds))?;
        }
    }
    Ok(())
}

/// No finer than it is known.
fn duration(seconds: f64) -> String {
    match seconds {
        ..1.5 => "1 second".to_string(),
        ..120.0 => format!("{seconds:.0} seconds"),
        ..7200.0 => format!("{:.0} minutes", seconds / 60.0),
        _ => format!("{:.0} hours", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_people_would_take() {
        let found = [0.1, 1.6, 119.0, 121.0, 7000.0, 10_000.0].map(duration);
        assert_eq!(found, ["1 second", "2 seconds", "119 seconds", "2 minutes", "117 minutes", "3 hours"]);
    }
}
