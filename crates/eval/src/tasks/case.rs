//! Samples of a task as tokens, as long as the context allows.

use lossy_tokenizer::{EncodeOptions, Tokenizer};

use super::{Request, Sample, Task};
use crate::{EvalError, Random};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct TaskOptions {
    /// tokens of a prompt and its answer, at most and nearly
    pub n_tokens: usize,
    /// how many samples, at depths from beginning to end
    pub n_samples: usize,
    /// of the random numbers
    pub seed: u64,
}

/// A sample as tokens.
#[derive(Clone, Debug)]
pub struct Case {
    /// the question
    pub sample: Sample,
    /// where its answer lies: 0 beginning, 1 end
    pub depth: f64,
    /// the prompt
    pub prompt: Vec<u32>,
    /// the right answer
    pub continuation: Vec<u32>,
    /// which of its tokens are more than white space: the log-probability is taken over these
    pub counts: Vec<bool>,
}

/// Samples of a task, by rising depth.
///
/// # Errors
/// Even the shortest sample is too long.
pub fn cases(
    task: &'static Task,
    tokenizer: &Tokenizer,
    options: &TaskOptions,
) -> Result<Vec<Case>, EvalError> {
    let maker = Maker { task, tokenizer, options };
    let too_long = || EvalError::TaskTooLong { task: task.name, n_tokens: options.n_tokens };
    // The largest size of which the first sample fits, by bisection.
    if !maker.fits(&maker.case(1, 0)?) {
        return Err(too_long());
    }
    let (mut fits, mut too_large) = (1, 2);
    while maker.fits(&maker.case(too_large, 0)?) {
        (fits, too_large) = (too_large, 2 * too_large);
    }
    while too_large - fits > 1 {
        let middle = fits + (too_large - fits) / 2;
        if maker.fits(&maker.case(middle, 0)?) { fits = middle } else { too_large = middle }
    }
    // Other samples may be a little longer: all get the same size, so that they share what comes before the needle.
    loop {
        let all =
            (0..options.n_samples).map(|index| maker.case(fits, index)).collect::<Result<Vec<_>, _>>()?;
        if all.iter().all(|case| maker.fits(case)) {
            return Ok(all);
        }
        fits -= (fits / 100).max(1);
        if fits == 0 {
            return Err(too_long());
        }
    }
}

struct Maker<'a> {
    task: &'static Task,
    tokenizer: &'a Tokenizer,
    options: &'a TaskOptions,
}

impl Maker<'_> {
    fn case(&self, size: usize, index: usize) -> Result<Case, EvalError> {
        let depth = (index as f64 + 0.5) / self.options.n_samples.max(1) as f64;
        let stream = self.task.name.bytes().fold(index as u64, |hash, byte| hash * 257 + u64::from(byte));
        let mut random = Random::new(self.options.seed, stream);
        let sample = (self.task.make)(&Request { size, depth, seed: self.options.seed }, &mut random);
        let encode = |text: &str, add_special| {
            self.tokenizer.encode(text, EncodeOptions { add_special, parse_special: false })
        };
        let mut prompt = encode(&sample.prompt, true)?;
        let whole = encode(&format!("{}{}", sample.prompt, sample.continuation), true)?;
        // Where a token reaches over the end of the prompt, the answer is tokenized alone.
        let continuation = match whole.strip_prefix(prompt.as_slice()) {
            Some(rest) => rest.to_vec(),
            None => encode(&sample.continuation, false)?,
        };
        prompt.shrink_to_fit();
        let is_word = |id: &u32| {
            let bytes = self.tokenizer.token_bytes(*id).unwrap_or_default();
            bytes.iter().any(|byte| !byte.is_ascii_whitespace())
        };
        let counts = continuation.iter().map(is_word).collect();
        Ok(Case { sample, depth, prompt, continuation, counts })
    }

    fn fits(&self, case: &Case) -> bool {
        case.prompt.len() + self.task.max_answer_tokens.max(case.continuation.len()) <= self.options.n_tokens
    }
}
