//! Runs workloads and takes their time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lossy_engine::{BatchItem, Engine, Logits, Sequence};

use super::workload::Workload;

/// A model and one sequence, whose cache is filled by a real prefill to the depth that a workload asks for.
pub struct Bench<'a> {
    engine: &'a mut Engine,
    sequence: Sequence,
    kv_bytes: usize,
}

impl<'a> Bench<'a> {
    /// With an empty cache.
    pub fn new(engine: &'a mut Engine) -> Bench<'a> {
        let sequence = engine.sequence();
        Bench { engine, sequence, kv_bytes: 0 }
    }

    /// Most bytes that the cache had until now.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes
    }

    /// The times of `n_repetitions` runs; `warm_up`: after one that does not count.
    pub fn measure(
        &mut self,
        workload: &Workload,
        n_repetitions: usize,
        warm_up: bool,
    ) -> Result<Vec<Duration>> {
        self.fill(workload.n_depth)?;
        if warm_up {
            let n_gen = workload.n_gen.min(1);
            self.time(&Workload { n_gen, ..*workload })?;
        }
        (0..n_repetitions)
            .map(|_| self.time(workload))
            .collect::<Result<_>>()
            .with_context(|| workload.to_string())
    }

    /// Brings the cache to hold `n_tokens`; what is there already stays.
    fn fill(&mut self, n_tokens: usize) -> Result<()> {
        self.sequence.truncate(n_tokens);
        let n_there = self.sequence.tokens().len();
        if n_there < n_tokens {
            let tokens = self.tokens(n_there..n_tokens);
            self.prefill(&tokens)?;
        }
        Ok(())
    }

    fn time(&mut self, workload: &Workload) -> Result<Duration> {
        let prompt = self.tokens(workload.n_depth..workload.n_depth + workload.n_prompt);
        let generated = self.tokens(workload.n_depth + workload.n_prompt..workload.n_tokens());
        let start = Instant::now();
        if !prompt.is_empty() {
            self.prefill(&prompt)?;
        }
        for token in generated.chunks(1) {
            let item = BatchItem { sequence: &mut self.sequence, tokens: token, logits: Logits::Last };
            self.engine.forward(&mut [item])?;
        }
        let time = start.elapsed();
        self.kv_bytes = self.kv_bytes.max(self.sequence.kv_bytes());
        self.sequence.truncate(workload.n_depth);
        Ok(time)
    }

    /// Logits are computed for the last token only.
    fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        self.engine.prefill(&mut self.sequence, tokens, &mut |_| ControlFlow::Continue(()))?;
        Ok(())
    }

    /// Any tokens do, as long as they are not all the same; these depend on their position alone.
    fn tokens(&self, positions: std::ops::Range<usize>) -> Vec<u32> {
        let n_vocab = self.engine.n_vocab() as u64;
        positions.map(|position| (scramble(position as u64) % n_vocab) as u32).collect()
    }
}

/// The finalizer of SplitMix64: neighbours become numbers that look random.
fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
