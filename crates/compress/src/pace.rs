//! How long a token takes with a file, in its bytes: decoding reads all weights for every token, and little else takes time.
//!
//! ```text
//! seconds │            own types
//!         │         ·                   between two files that were measured time is a line in bytes:
//!         │      ·                      the bytes at which a token takes so long are on it
//!         │   smallest types
//!         └──────────────────► bytes
//! ```
//!
//! Types differ in what their kernels take for a byte, so this is a guess, and whoever makes a file by it measures that too. It is told
//! bytes of files: an embedding that is not the output matrix too counts among them, though a token reads one row of it.

/// A file, and how long a token takes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// of the file
    pub bytes: u64,
    /// for a token
    pub seconds: f64,
}

impl Pace {
    /// Tokens a second.
    pub fn speed(self) -> f64 {
        1.0 / self.seconds
    }
}

/// The bytes at which a token takes `seconds`, by two files that were measured; never outside of them.
pub fn bytes_within(fast: Pace, slow: Pace, seconds: f64) -> u64 {
    if seconds >= slow.seconds || fast.bytes >= slow.bytes {
        return slow.bytes;
    }
    let part = (seconds - fast.seconds) / (slow.seconds - fast.seconds);
    fast.bytes + ((slow.bytes - fast.bytes) as f64 * part.clamp(0.0, 1.0)) as u64
}

/// How many of `n_layers` layers have to go for a token to take `seconds`, at least one, if a byte of a layer takes as long as any other.
///
/// # Errors
/// Also with one layer alone it would take longer: how long.
pub fn layers_to_remove(pace: Pace, n_layers: usize, layer_bytes: u64, seconds: f64) -> Result<usize, f64> {
    let of_layer = pace.seconds * layer_bytes as f64 / pace.bytes as f64;
    let n = ((pace.seconds - seconds) / of_layer).ceil().max(1.0);
    if n < n_layers as f64 { Ok(n as usize) } else { Err(pace.seconds - (n_layers - 1) as f64 * of_layer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(bytes: u64, seconds: f64) -> Pace {
        Pace { bytes, seconds }
    }

    #[test]
    fn bytes_are_on_the_line_through_two_files_and_not_outside() {
        let (fast, slow) = (pace(100, 0.5), pace(300, 1.5));
        let found = [0.1, 0.5, 0.75, 1.0, 1.5, 9.0].map(|seconds| bytes_within(fast, slow, seconds));
        assert_eq!(found, [100, 100, 150, 200, 300, 300]);
        // Where the larger file is no slower, nothing speaks against it.
        assert_eq!(bytes_within(fast, pace(300, 0.5), 0.5), 300);
        assert_eq!(pace(1, 0.25).speed(), 4.0);
    }

    #[test]
    fn as_many_layers_go_as_take_the_time_that_is_too_much() {
        // Ten layers take 0.8 of the second, the rest is the output matrix.
        let of = |seconds| layers_to_remove(pace(100, 1.0), 10, 8, seconds);
        assert_eq!([of(0.93), of(0.9), of(0.5), of(0.3)], [Ok(1), Ok(2), Ok(7), Ok(9)]);
        // What is hardly too slow loses one, and one layer stays.
        assert_eq!(of(1.0), Ok(1));
        assert!((of(0.25).unwrap_err() - 0.28).abs() < 1e-12);
        assert!(layers_to_remove(pace(100, 1.0), 1, 80, 0.9).is_err());
    }
}
