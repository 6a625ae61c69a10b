//! How many tokens of prompts a round may read, so that streams do not pause for long.
//!
//! A round takes `decode + n · token` seconds: what the lanes that decode need anyway, and what `n` tokens of prompts add.
//! Both are measured as rounds go by. `n` is chosen so that the round takes [`STRETCH`] times as long as without prompts.

/// A round with prompts takes so many times as long as one without. Estimates are off at times, and the promise is 4.
const STRETCH: f64 = 2.5;
/// How much of an estimate is the last measurement's.
const WEIGHT: f64 = 0.3;
/// After so many rounds with prompts one goes without, to be measured.
const MEASURE_EVERY: usize = 64;
/// The fewest tokens that are read where any are.
const LEAST: usize = 16;

/// What rounds cost.
#[derive(Debug, Default)]
pub struct Pace {
    /// lanes that decoded when it was measured, and the seconds of such a round
    decode: Option<(usize, f64)>,
    /// seconds of a prompt's token
    token: Option<f64>,
    /// rounds with prompts since one without
    n_mixed: usize,
    /// whether the last round had no prompts
    rested: bool,
}

impl Pace {
    /// The most tokens of prompts for a round in which `n_decoding` lanes decode; `chunk` where none does.
    pub fn prompt_tokens(&self, n_decoding: usize, chunk: usize) -> usize {
        if n_decoding == 0 {
            return chunk;
        }
        let is_known = self.decode.is_some_and(|(n, _)| n == n_decoding) && self.n_mixed < MEASURE_EVERY;
        match (self.decode, self.token) {
            // Prompts get on even where the number of lanes changes with every round.
            _ if !is_known && !self.rested => 0,
            (Some((_, decode)), Some(token)) => {
                let n = (STRETCH - 1.0) * decode / token.max(1e-9);
                (n as usize / LEAST * LEAST).clamp(LEAST, chunk.max(LEAST))
            }
            _ => LEAST.min(chunk),
        }
    }

    /// Learns from a round.
    pub fn observe(&mut self, n_decoding: usize, n_read: usize, seconds: f64) {
        self.rested = n_read == 0;
        if n_read == 0 {
            let old = self.decode.filter(|(n, _)| *n == n_decoding).map(|(_, seconds)| seconds);
            // A round that something else held up says little.
            self.decode = Some((n_decoding, old.map_or(seconds, |old| mean(old, seconds.min(2.0 * old)))));
            self.n_mixed = 0;
            return;
        }
        self.n_mixed += usize::from(n_decoding > 0);
        let decode = if n_decoding == 0 { 0.0 } else { self.decode.map_or(0.0, |(_, seconds)| seconds) };
        let token = ((seconds - decode) / n_read as f64).max(1e-7);
        self.token = Some(self.token.map_or(token, |old| mean(old, token)));
    }
}

fn mean(old: f64, new: f64) -> f64 {
    old + WEIGHT * (new - old)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of a machine that needs 10 ms for a round and 0.5 ms for a prompt's token, which becomes slower with depth.
    fn rounds(n: usize) -> Vec<f64> {
        let mut pace = Pace::default();
        (0..n)
            .map(|round| {
                let token = 0.0005 * (1.0 + round as f64 / 200.0);
                let n_read = pace.prompt_tokens(3, 512);
                let seconds = 0.010 + n_read as f64 * token;
                pace.observe(3, n_read, seconds);
                seconds
            })
            .collect()
    }

    #[test]
    fn no_round_takes_four_times_as_long_as_one_without_prompts() {
        let rounds = rounds(1000);
        let worst = rounds.iter().copied().fold(0.0, f64::max);
        assert!(worst < 0.040, "{worst}");
        let reading = rounds.iter().filter(|seconds| **seconds > 0.015).count();
        assert!(reading > 900, "prompts get on: {reading}");
    }

    #[test]
    fn alone_a_prompt_is_read_in_whole_chunks() {
        assert_eq!(Pace::default().prompt_tokens(0, 512), 512);
    }

    #[test]
    fn prompts_get_on_where_lanes_come_and_go() {
        let mut pace = Pace::default();
        let n_read: usize = (0..100)
            .map(|round| {
                let n_decoding = 1 + round % 2;
                let n_read = pace.prompt_tokens(n_decoding, 512);
                pace.observe(n_decoding, n_read, 0.01 + 0.0005 * n_read as f64);
                n_read
            })
            .sum();
        assert!(n_read > 100 * LEAST / 2, "{n_read}");
    }
}
