//! How much memory this process had at most.
//!
//! Linux says it in `/proc/self/status` (`VmHWM`, the resident set at its largest; pages of mapped files count) and
//! forgets it when asked to. Elsewhere it is not known.

use std::fs;

/// From now on [`peak_bytes`] counts anew.
pub fn forget_peak() {
    // Where this is refused, `peak_bytes` counts from the start of the program: more, and never less, than it should.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident set.
pub fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn memory_that_is_written_to_is_in_the_peak() {
        let before = peak_bytes().unwrap();
        drop(black_box(vec![1u8; 200 << 20]));
        let after = peak_bytes().unwrap();
        assert!(before > 1 << 20 && after >= 200 << 20, "{before}, then {after}");
    }
}
