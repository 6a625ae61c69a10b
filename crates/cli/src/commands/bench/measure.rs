//! Runs workloads and takes their time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lossy_engine::{BatchItem, Engine, Logits, Sequence};

use super::workload::{DepthFill, Workload};

/// A model, and one sequence for each way to store keys and values, whose cache is filled to the depth that a workload asks
/// for.
pub struct Bench<'a> {
    engine: &'a mut Engine,
    depth_fill: DepthFill,
    lanes: Vec<Lane>,
}

/// One way to store keys and values.
struct Lane {
    sequence: Sequence,
    /// most bytes that the cache had until now
    kv_bytes: usize,
}

impl<'a> Bench<'a> {
    /// With an empty cache for each of `sequences`, which are `engine`'s.
    pub fn new(engine: &'a mut Engine, sequences: Vec<Sequence>, depth_fill: DepthFill) -> Bench<'a> {
        let lanes = sequences.into_iter().map(|sequence| Lane { sequence, kv_bytes: 0 }).collect();
        Bench { engine, depth_fill, lanes }
    }

    /// Most bytes that each cache had until now.
    pub fn kv_bytes(&self) -> Vec<usize> {
        self.lanes.iter().map(|lane| lane.kv_bytes).collect()
    }

    /// Bytes of the buffers that passes worked in until now.
    pub fn scratch_bytes(&self) -> usize {
        self.engine.scratch_bytes()
    }

    /// For each sequence the times of `n_repetitions` runs, which they take in turns; `warm_up`: after one that does not
    /// count.
    pub fn measure(
        &mut self,
        workload: &Workload,
        n_repetitions: usize,
        warm_up: bool,
    ) -> Result<Vec<Vec<Duration>>> {
        let Bench { engine, depth_fill, lanes } = self;
        for lane in lanes.iter_mut() {
            lane.fill(engine, workload.n_depth, *depth_fill)?;
            if warm_up {
                let n_gen = workload.n_gen.min(1);
                lane.time(engine, &Workload { n_gen, ..*workload })?;
            }
        }
        let mut times = vec![Vec::with_capacity(n_repetitions); lanes.len()];
        for _ in 0..n_repetitions {
            for (lane, times) in lanes.iter_mut().zip(&mut times) {
                times.push(lane.time(engine, workload).with_context(|| workload.to_string())?);
            }
        }
        Ok(times)
    }
}

impl Lane {
    /// Brings the cache to hold `n_tokens`; what is there already stays.
    fn fill(&mut self, engine: &mut Engine, n_tokens: usize, how: DepthFill) -> Result<()> {
        self.sequence.truncate(n_tokens);
        let read = self.sequence.len()..how.n_read(n_tokens);
        if !read.is_empty() {
            let tokens = tokens(engine, read);
            prefill(engine, &mut self.sequence, &tokens)?;
        }
        self.sequence.extend_with_copies(n_tokens)?;
        Ok(())
    }

    fn time(&mut self, engine: &mut Engine, workload: &Workload) -> Result<Duration> {
        // Of what was read, recent tokens are held as they are, and others are not; a cut would not bring them back.
        let mut sequence = self.sequence.fork();
        let prompt = tokens(engine, workload.n_depth..workload.n_depth + workload.n_prompt);
        let generated = tokens(engine, workload.n_depth + workload.n_prompt..workload.n_tokens());
        let start = Instant::now();
        if !prompt.is_empty() {
            prefill(engine, &mut sequence, &prompt)?;
        }
        for token in generated.chunks(1) {
            let item = BatchItem { sequence: &mut sequence, tokens: token, logits: Logits::Last };
            engine.forward(&mut [item])?;
        }
        let time = start.elapsed();
        self.kv_bytes = self.kv_bytes.max(sequence.kv_bytes());
        Ok(time)
    }
}

/// Logits are computed for the last token only.
fn prefill(engine: &mut Engine, sequence: &mut Sequence, tokens: &[u32]) -> Result<()> {
    engine.prefill(sequence, tokens, &mut |_| ControlFlow::Continue(()))?;
    Ok(())
}

/// Any tokens do, as long as they are not all the same; these depend on their position alone.
fn tokens(engine: &Engine, positions: std::ops::Range<usize>) -> Vec<u32> {
    let n_vocab = engine.n_vocab() as u64;
    positions.map(|position| (scramble(position as u64) % n_vocab) as u32).collect()
}

/// The finalizer of SplitMix64: neighbours become numbers that look random.
fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
