//! What a command will take, from shapes alone: nothing is read but headers.
//!
//! Memory is the sum of what is alive at once in each step, as the modules that do it describe; the mapped source is not counted.
//! Time is multiplications over the speed of products that this machine has just shown, and a constant for each weight that is
//! rounded. Both are estimates: other programs, the allocator and the disk are not known.

use std::time::{Duration, Instant};

use lossy_engine::ModelInfo;
use lossy_kernels::dense::{Into, View, ViewMut, product};
use lossy_kernels::{Compute, Isa};
use lossy_quant::DType;

use crate::block::Projection;
use crate::calibration;
use crate::sensitivity;
use crate::statistics::{GROUP, Input, WINDOW};
use crate::train::BYTES_PER_NUMBER;

/// What a step takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// which
    pub name: &'static str,
    /// memory at most, the mapped source apart
    pub bytes: u64,
    /// time
    pub seconds: f64,
}

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// threads
    pub n_threads: usize,
    /// float32 operations a second of all threads together, in products of matrices
    pub speed: f64,
}

/// Multiply-adds of one product that shows the speed: 2 · 192 · 512 · 512 operations, in caches.
const SHOWN: [usize; 3] = [192, 512, 512];
const SHOWN_FOR: Duration = Duration::from_millis(60);

impl Machine {
    /// Computes some products on every thread, for a twentieth of a second.
    pub fn measure(n_threads: usize) -> Machine {
        let cx = Compute::with_isa(n_threads, Isa::best());
        let [n_rows, n_inner, n_cols] = SHOWN;
        let start = Instant::now();
        let mut counts = vec![0u64; n_threads];
        cx.pool.run_mut(&mut counts, |_, count| {
            let (a, b) = (vec![0.5; n_rows * n_inner], vec![0.25; n_inner * n_cols]);
            let mut out = vec![0.0; n_rows * n_cols];
            while start.elapsed() < SHOWN_FOR {
                let into = ViewMut::rows(&mut out, n_cols);
                product(Into::Set, into, View::rows(&a, n_inner), View::rows(&b, n_cols));
                *count += 1;
            }
        });
        let n_operations = 2 * counts.iter().sum::<u64>() * (n_rows * n_inner * n_cols) as u64;
        Machine { n_threads, speed: n_operations as f64 / start.elapsed().as_secs_f64() }
    }
}

/// Shapes of a model, as what is computed of it.
#[derive(Clone, Copy, Debug)]
pub struct Shapes<'a> {
    info: &'a ModelInfo,
    /// values of one layer's matrices
    block: u64,
}

/// Seconds that a thread takes to find the scales of a weight, beside the products: of all types that are tried, the mean.
const FIT: f64 = 60e-9;
/// What is left of the speed of large products in those that are small or between which other things are done.
const IN_BLOCKS: f64 = 0.8;
/// The engine's products of integers, as a multiple of those of float32.
const OF_ENGINE: f64 = 1.5;
/// Bytes for each token of the vocabulary, whose texts are copied from header to header.
const TOKEN_BYTES: u64 = 128;
/// Bytes of a float32, and of a key or value of an exact cache.
const F32: u64 = 4;
const F16: u64 = 2;
/// The engine's weights take at most so much of what they take in a file: 26 of 25, see docs/formats.md.
const IN_STRIPS: (u64, u64) = (26, 25);

impl<'a> Shapes<'a> {
    /// Of a model.
    pub fn new(info: &'a ModelInfo) -> Shapes<'a> {
        let matrices = Projection::ALL.iter().map(|projection| {
            let [n_rows, n_cols] = projection.shape(info);
            (n_rows * n_cols) as u64
        });
        Shapes { info, block: matrices.sum() }
    }

    /// Values of a layer's largest matrix.
    fn widest(&self) -> u64 {
        let sizes = Projection::ALL.map(|projection| projection.shape(self.info).iter().product::<usize>());
        sizes.into_iter().max().unwrap_or(0) as u64
    }

    fn embd(&self) -> u64 {
        self.info.n_embd as u64
    }

    fn layers(&self) -> u64 {
        self.info.n_layers as u64
    }

    /// Values of the output matrix.
    fn head(&self) -> u64 {
        self.embd() * self.info.n_vocab as u64
    }

    /// What a block computes for a token: see [`Tape`](crate::block::Tape).
    fn tape(&self) -> u64 {
        let of = |projection: Projection| projection.shape(self.info)[0] as u64;
        let (q, kv, ff) = (of(Projection::Query), of(Projection::Key), of(Projection::Gate));
        3 * self.embd() + 2 * q + 2 * kv + 3 * ff
    }

    /// Squares of the widths of the four inputs: all, and the largest.
    fn moments(&self) -> (u64, u64) {
        let squares = Input::ALL.map(|input| (input.projections()[0].shape(self.info)[1] as u64).pow(2));
        (squares.iter().sum(), squares.into_iter().max().unwrap_or(0))
    }

    /// Second moments of a layer's four inputs while they are summed, over windows of calibration text.
    fn statistics(&self, n_tokens: u64) -> u64 {
        let states = n_tokens * self.embd();
        let tapes = (GROUP * WINDOW) as u64 * self.tape();
        F32 * (self.block + states + tapes + self.moments().0)
    }

    /// Operations of that.
    fn statistics_work(&self, n_tokens: u64) -> f64 {
        let each = 2 * self.block + 2 * self.moments().0;
        (n_tokens * self.layers() * each) as f64 / IN_BLOCKS
    }

    /// Operations of a matrix's inverse factor, and of carrying its errors: see [`crate::feedback`].
    fn factor_work(&self) -> f64 {
        let cubes = Input::ALL.map(|input| (input.projections()[0].shape(self.info)[1] as f64).powi(3));
        // A third each for the factor and its inverse, on one thread.
        self.layers() as f64 * cubes.iter().sum::<f64>() * 2.0 / 3.0
    }

    fn feedback_work(&self) -> f64 {
        let each = Projection::ALL.map(|projection| {
            let [n_rows, n_cols] = projection.shape(self.info);
            n_rows as f64 * (n_cols as f64).powi(2)
        });
        self.layers() as f64 * each.iter().sum::<f64>() / IN_BLOCKS
    }
}

/// What `quantize` takes for so many weights; `n_tokens`: of the text for error feedback, if there is any.
pub fn quantize(shapes: &Shapes<'_>, n_weights: u64, n_tokens: Option<u64>, machine: Machine) -> Vec<Stage> {
    // A slab of values, their codes, and the bytes that they become.
    let slab = super::quantize::SLAB_VALUES as u64 * 10;
    let fit = n_weights as f64 * FIT / machine.n_threads as f64;
    let Some(n_tokens) = n_tokens else {
        // Rows become bytes one by one on each thread; two bytes hold a weight of every type but F32.
        let widest = shapes.widest().max(shapes.head()).min(super::quantize::SLAB_VALUES as u64);
        let bytes = 2 * widest + TOKEN_BYTES * shapes.info.n_vocab as u64;
        return vec![Stage { name: "rounding", bytes, seconds: fit }];
    };
    let (all, largest) = shapes.moments();
    // Sums and means of a layer, and the factor of the largest on its way to be inverted: four more of that size.
    let bytes = shapes.statistics(n_tokens).max(F32 * (all + 4 * largest + n_tokens * shapes.embd()) + slab);
    let work = shapes.statistics_work(n_tokens) + shapes.feedback_work();
    let alone = shapes.factor_work() / machine.speed * machine.n_threads as f64;
    vec![Stage { name: "statistics and rounding", bytes, seconds: work / machine.speed + alone + fit }]
}

/// What `compress` takes.
#[derive(Clone, Debug)]
pub struct Compress<'a> {
    /// values and types of each matrix of the model that is priced, its own type the last
    pub matrices: &'a [(u64, Vec<DType>)],
    /// bytes of MODEL's tensors
    pub model_bytes: u64,
    /// bytes of the file, at most
    pub file_bytes: u64,
    /// of the calibration text
    pub n_tokens: u64,
    /// predictions of the measured text, and the tokens before them
    pub n_measured: u64,
    /// of norms, biases and scales, if there is any
    pub training: Option<Training>,
}

/// How long is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Training {
    /// as told
    Seconds(f64),
    /// steps
    Steps(u64),
}

/// Weights of a block that has a scale, at least.
const BLOCK_LEN: u64 = 32;
/// Tokens of a step, and of the text that is held out, a look at which comes every ten steps.
const STEP: u64 = 4 * calibration::WINDOW as u64;
const HELD_OUT: u64 = 16 * calibration::WINDOW as u64;

/// Tokens whose prices are known at most: see [`crate::prices::part`].
const PRICED: u64 = 4 * WINDOW as u64;

impl Compress<'_> {
    /// Step by step.
    pub fn stages(&self, shapes: &Shapes<'_>, machine: Machine) -> Vec<Stage> {
        let mut stages = vec![self.prices(shapes, machine), self.measurement(shapes, machine)];
        if let Some(training) = self.training {
            let seconds = match training {
                Training::Seconds(seconds) => seconds,
                Training::Steps(n) => n as f64 * step_work(shapes) / machine.speed,
            };
            stages.push(Stage {
                name: "training, and measuring again",
                bytes: self.training_bytes(shapes, machine).max(stages[1].bytes),
                seconds: seconds + stages[1].seconds,
            });
        }
        stages
    }

    fn prices(&self, shapes: &Shapes<'_>, machine: Machine) -> Stage {
        let (embd, n_threads) = (shapes.embd(), machine.n_threads as u64);
        let n_priced = PRICED.min(self.n_tokens / 2);
        let n_types = |types: &Vec<DType>| types.len() as u64 - 1;
        // Behind every layer a gradient of the residual stream, and of a layer's matrices inputs and output gradients, twice.
        let streams = F32 * n_priced * embd * (shapes.layers() + 2);
        let ends =
            Projection::ALL.map(|projection| projection.shape(shapes.info).iter().sum::<usize>() as u64);
        let seen = 2 * F32 * n_priced * ends.iter().sum::<u64>();
        let (all, largest) = shapes.moments();
        let widest = shapes.widest();
        // Gate and up are rounded in all their types at once; each thread has values, codes, what was decoded, and the change.
        let bits: f64 = self.matrices.iter().map(|(_, types)| bits_of_all(types)).fold(0.0, f64::max);
        let rounded = (2.0 * widest as f64 * bits / 8.0) as u64;
        let of_threads = n_threads * (13 * widest + F32 * largest + F32 * n_priced * embd);
        let rounding = F32 * (shapes.block + self.n_tokens * embd + all + 2 * largest) + rounded + of_threads;
        let factor = F32 * (shapes.block + self.n_tokens * embd + all + 5 * largest);
        let in_layers = streams + seen + rounding.max(factor).max(shapes.statistics(self.n_tokens));
        let rows = sensitivity::ROWS as u64 * shapes.info.n_vocab as u64 * F32;
        let at_head = streams + F32 * shapes.head() + n_threads * rows;
        // Forward, and back with it; once more layer by layer; and the head.
        let priced = n_priced as f64 * (14 * shapes.layers() * shapes.block + 6 * shapes.head()) as f64;
        let tried: f64 = self.matrices.iter().map(|(n, types)| (n * n_types(types)) as f64).sum();
        let per_matrix = self.matrices.iter().map(|(_, types)| n_types(types)).max().unwrap_or(0) as f64;
        let tried_work = 2.0 * tried * n_priced as f64 + per_matrix * shapes.feedback_work();
        let work = shapes.statistics_work(self.n_tokens) + (priced + tried_work) / IN_BLOCKS;
        let alone = shapes.factor_work() / machine.speed * machine.n_threads as f64;
        let fit = tried * FIT / machine.n_threads as f64;
        Stage {
            name: "what every type of every tensor loses",
            bytes: in_layers.max(at_head),
            seconds: work / machine.speed + alone + fit,
        }
    }

    /// Two models, with a cache of each, what a chunk is computed in, and rows of logits.
    fn measurement(&self, shapes: &Shapes<'_>, machine: Machine) -> Stage {
        let of = |projection: Projection| projection.shape(shapes.info)[0] as u64;
        let (q, kv, ff) = (of(Projection::Query), of(Projection::Key), of(Projection::Gate));
        let n_ctx = MEASURED_CONTEXT.min(shapes.info.n_ctx_train as u64);
        let caches = 2 * 2 * F16 * n_ctx * kv * shapes.layers();
        // The residual stream, queries twice, keys, values, the MLP; and the widest of them as what a product reads, in both kinds.
        let widest = ff.max(q).max(shapes.embd());
        let buffers = F32 * (shapes.embd() + 2 * q + 2 * kv + 3 * ff) + (F32 + 2) * widest;
        let logits = 2 * F32 * MEASURED_CHUNK * shapes.info.n_vocab as u64;
        let each = 2 * (shapes.layers() * shapes.block + shapes.head());
        Stage {
            name: "measuring",
            bytes: (self.model_bytes + self.file_bytes) * IN_STRIPS.0 / IN_STRIPS.1
                + caches
                + 2 * MEASURED_CHUNK * buffers
                + logits,
            seconds: 2.0 * (self.n_measured * each) as f64 / machine.speed / OF_ENGINE,
        }
    }

    fn training_bytes(&self, shapes: &Shapes<'_>, machine: Machine) -> u64 {
        let n_trained = shapes.layers() * shapes.block / BLOCK_LEN;
        let (embd, n_threads) = (shapes.embd(), machine.n_threads as u64);
        let window = calibration::WINDOW as u64;
        let states = self.n_tokens * embd + 4 * window * embd * (shapes.layers() + 1);
        let of_threads = n_threads * (2 * window * shapes.tape() + shapes.widest());
        let in_block = F32 * (shapes.block + of_threads);
        let rows = 2 * n_threads * sensitivity::ROWS as u64 * shapes.info.n_vocab as u64;
        let at_head = F32 * (2 * shapes.head() + rows);
        n_trained * BYTES_PER_NUMBER + F32 * states + in_block.max(at_head)
    }
}

/// Operations of a step of training: the teacher's way, the student's, that once more with its way back and the gradient of matrices; at
/// the head no way twice, and no matrix. Of looks a tenth.
fn step_work(shapes: &Shapes<'_>) -> f64 {
    let of_blocks = 2 * shapes.layers() * shapes.block;
    let step = STEP * (5 * of_blocks + 3 * 2 * shapes.head());
    let look = HELD_OUT * (of_blocks + 2 * 2 * shapes.head()) / 10;
    (step + look) as f64 / IN_BLOCKS
}

/// Tokens of a window that is measured, and of one step through it.
const MEASURED_CONTEXT: u64 = 2048;
const MEASURED_CHUNK: u64 = 512;

/// Bits of a weight in all types but its own, together.
fn bits_of_all(types: &[DType]) -> f64 {
    let bits = |dtype: &DType| 8.0 * dtype.block_bytes() as f64 / dtype.block_len() as f64;
    types.split_last().map_or(0.0, |(_, others)| others.iter().map(bits).sum())
}

/// The most of all steps.
pub fn peak_bytes(stages: &[Stage]) -> u64 {
    stages.iter().map(|stage| stage.bytes).max().unwrap_or(0)
}

/// All steps.
pub fn seconds(stages: &[Stage]) -> f64 {
    stages.iter().map(|stage| stage.seconds).sum()
}
