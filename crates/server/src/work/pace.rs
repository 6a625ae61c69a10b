//! How much of prompts a round may read, so that streams do not pause for long.
//!
//! A piece of a prompt is computed layer by layer, and between two layers the lanes that decode can have a round of their own
//! (`Engine::advance_beside`). So a stream waits for a *slice*: the layers between two of its rounds. A slice takes about as long as a
//! round without prompts, and a layer half of a slice at most, which bounds the tokens of a piece. What a round and a prompt's
//! token take is measured as they go by. Rounds between layers find the CPU's caches cold and say less than others, so now and then
//! one goes without a prompt. A short piece, such as a question to a document that is cached, goes into one pass with a round.

use std::time::{Duration, Instant};

/// A slice takes so many times as long as a round that only decodes.
const SLICE: f64 = 1.0;
/// A piece of prompts that takes at most so many rounds is computed in one pass with a round: weights are read once for both.
const TOGETHER: f64 = 2.0;
/// How much of an estimate is the last measurement's.
const WEIGHT: f64 = 0.3;
/// After so many pieces a round goes without, to be measured.
const MEASURE_EVERY: usize = 32;
/// The fewest tokens that are read at once.
const LEAST: usize = 16;
/// A piece takes about so many seconds at most: after it, new requests are let in, and those whose clients left end.
const PIECE_SECONDS: f64 = 1.0;

/// What rounds cost.
#[derive(Debug)]
pub struct Pace {
    n_layers: usize,
    /// seconds of a round that only decodes
    decode: Option<f64>,
    /// seconds of a prompt's token
    token: Option<f64>,
    /// the end of the last round that decoded
    decoded: Instant,
    /// pieces that were read since a round went without
    n_pieces: usize,
}

impl Pace {
    /// Nothing has been measured yet.
    pub fn new(n_layers: usize) -> Pace {
        Pace { n_layers: n_layers.max(1), decode: None, token: None, decoded: Instant::now(), n_pieces: 0 }
    }

    /// The most tokens of prompts for a piece, `chunk` at most; `decoding`: whether somebody decodes.
    pub fn prompt_tokens(&self, decoding: bool, chunk: usize) -> usize {
        if decoding && (self.decode.is_none() || self.n_pieces >= MEASURE_EVERY) {
            return 0;
        }
        let Some(token) = self.token else { return if decoding { LEAST.min(chunk) } else { chunk } };
        let seconds = match self.decode {
            Some(decode) if decoding => (SLICE * decode / 2.0 * self.n_layers as f64).min(PIECE_SECONDS),
            _ => PIECE_SECONDS,
        };
        let n = (seconds / token.max(1e-9)) as usize;
        (n / LEAST * LEAST).max(LEAST).min(chunk)
    }

    /// Whether those that decode are to have a round before the next layer of a piece of `n` tokens.
    pub fn is_due(&self, n: usize) -> bool {
        let Some(decode) = self.decode else { return true };
        let layer = self.token.map_or(0.0, |token| token * n as f64 / self.n_layers as f64);
        // With one layer more the slice would be further from its length than it is now.
        self.decoded.elapsed().as_secs_f64() + layer / 2.0 >= SLICE * decode
    }

    /// Whether a piece of `n` tokens and a round are one pass, in which no stream pauses for long.
    pub fn is_short(&self, n: usize) -> bool {
        let (Some(decode), Some(token)) = (self.decode, self.token) else { return false };
        token * n as f64 <= TOGETHER * decode
    }

    /// Those that decode have just had a round, between two layers.
    pub fn observe_between(&mut self) {
        self.decoded = Instant::now();
    }

    /// Those that decode have just had a round, in one pass with a piece: what each of them took is not known.
    pub fn observe_together(&mut self) {
        self.decoded = Instant::now();
        self.n_pieces += 1;
    }

    /// Learns from a round that only decoded, and that has just ended.
    pub fn observe_decode(&mut self, took: Duration) {
        self.decoded = Instant::now();
        self.n_pieces = 0;
        let seconds = took.as_secs_f64();
        // A round that something else held up says little.
        self.decode = Some(self.decode.map_or(seconds, |old| mean(old, seconds.min(2.0 * old))));
    }

    /// Learns from a piece of `n` tokens of prompts.
    pub fn observe_prompt(&mut self, n: usize, took: Duration) {
        if n > 0 {
            self.n_pieces += 1;
            let token = took.as_secs_f64() / n as f64;
            self.token = Some(self.token.map_or(token, |old| mean(old, token)));
        }
    }
}

fn mean(old: f64, new: f64) -> f64 {
    old + WEIGHT * (new - old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(decode_ms: f64, token_ms: f64) -> Pace {
        let mut pace = Pace::new(30);
        pace.observe_decode(Duration::from_secs_f64(decode_ms / 1e3));
        pace.observe_prompt(10, Duration::from_secs_f64(token_ms / 100.0));
        pace
    }

    #[test]
    fn a_layer_takes_half_of_a_slice_at_most() {
        for (decode, token) in [(8.0, 0.5), (8.0, 15.0), (30.0, 2.0), (100.0, 0.1)] {
            let pace = pace(decode, token);
            let n = pace.prompt_tokens(true, 512);
            let layer = n as f64 * token / 30.0;
            assert!(layer <= SLICE * decode / 2.0 + 1e-9 || n == LEAST, "{n} tokens, {layer} ms a layer");
            assert!(n == 512 || n == LEAST || layer > SLICE * decode / 4.0, "{n} tokens, {layer} ms a layer");
        }
    }

    #[test]
    fn alone_a_prompt_is_read_in_chunks_or_for_a_second() {
        assert_eq!(Pace::new(30).prompt_tokens(false, 512), 512);
        assert_eq!(pace(8.0, 0.5).prompt_tokens(false, 512), 512);
        assert_eq!(pace(8.0, 15.0).prompt_tokens(false, 512), 64);
        assert_eq!(pace(8.0, 500.0).prompt_tokens(false, 512), LEAST);
        assert_eq!(pace(8.0, 15.0).prompt_tokens(false, 8), 8);
    }

    #[test]
    fn now_and_then_a_round_goes_without_a_prompt() {
        let mut pace = pace(8.0, 0.5);
        for _ in 1..MEASURE_EVERY {
            assert!(pace.prompt_tokens(true, 512) > 0);
            pace.observe_prompt(16, Duration::from_millis(8));
        }
        assert_eq!(pace.prompt_tokens(true, 512), 0);
        pace.observe_decode(Duration::from_millis(8));
        assert!(pace.prompt_tokens(true, 512) > 0);
        assert_eq!(Pace::new(30).prompt_tokens(true, 512), 0);
    }

    #[test]
    fn a_piece_of_two_rounds_is_short() {
        assert!(!Pace::new(30).is_short(1));
        assert!(pace(8.0, 0.5).is_short(32));
        assert!(!pace(8.0, 0.5).is_short(33));
    }

    #[test]
    fn a_round_is_due_when_the_next_layer_would_be_too_much() {
        assert!(Pace::new(30).is_due(16));
        let pace = pace(1000.0, 1.0);
        assert!(!pace.is_due(512));
        assert!(pace.is_due(100_000));
    }
}
