//! Runs the lanes over the windows.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use lossy_engine::{Logits, Progress};

use super::SavedPrediction;
use crate::{EvalError, Lanes, Random, RowSummary, Window, kl_divergence};

/// Of the random numbers with which saved predictions are drawn.
const SEED: u64 = 1;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// tokens of a prefill chunk: a lossy cache may depend on it
    pub chunk: usize,
    /// threads for the comparison
    pub n_threads: usize,
}

/// Where the reference's predictions come from.
pub enum ReferenceRun<'a> {
    /// lane 0 is run
    Run,
    /// lane 0 is run, and its predictions are saved here
    Save(&'a mut Vec<SavedPrediction>),
    /// lane 0 is not run: these are its predictions, one for each that counts
    Saved(&'a [SavedPrediction]),
}

/// What one prediction lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLoss {
    /// tokens in the context when the prediction was made
    pub depth: usize,
    /// −ln of the reference's probability of the token that follows
    pub reference_nll: f64,
    /// −ln of the setting's probability of it
    pub nll: f64,
    /// KL(reference ‖ setting), nats
    pub kl: f64,
    /// what it cannot be below: itself, or the bound of a [`SavedPrediction`]
    pub kl_at_least: f64,
    /// variance of the estimate: 0, or that of a [`SavedPrediction`]
    pub kl_variance: f64,
    /// whether the most likely token is the same
    pub is_same_top: bool,
}

impl TokenLoss {
    /// How much the probability of the token that follows has changed.
    pub fn delta_p(&self) -> f64 {
        (-self.nll).exp() - (-self.reference_nll).exp()
    }
}

/// One setting on all windows.
#[derive(Clone, Debug, Default)]
pub struct SettingRun {
    /// one for each prediction that counts, in the order of the text
    pub losses: Vec<TokenLoss>,
    /// tokens that it was shown
    pub n_tokens: usize,
    /// time of its forward passes
    pub time: Duration,
    /// why it was given up
    pub failure: Option<String>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// lane 1, 2, …
    pub settings: Vec<SettingRun>,
    /// tokens that the reference was shown
    pub reference_tokens: usize,
    /// time of the reference's forward passes
    pub reference_time: Duration,
    /// whether it ran to its end
    pub is_complete: bool,
}

/// Runs all lanes over all windows. `progress` is called before every forward pass with the tokens that went, and will go,
/// through all lanes; when it breaks, what was measured
/// so far is the result. A setting that fails is given up, with the reason, and the others go on.
///
/// # Errors
/// The reference fails, or fewer of its predictions were saved than count.
pub fn run<L: Lanes>(
    lanes: &mut L,
    windows: &[Window],
    mut reference: ReferenceRun<'_>,
    options: &RunOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Divergence, EvalError> {
    let n_settings = lanes.n_lanes().saturating_sub(1);
    let n_lanes = n_settings + usize::from(!matches!(reference, ReferenceRun::Saved(_)));
    let n_total = n_lanes * windows.iter().map(|window| window.tokens.len()).sum::<usize>();
    let mut n_done = 0;
    let mut n_scored = 0;
    let mut divergence = Divergence {
        settings: vec![SettingRun::default(); n_settings],
        reference_tokens: 0,
        reference_time: Duration::ZERO,
        is_complete: false,
    };
    for window in windows {
        let mut reference_sequence = lanes.start(0)?;
        let mut sequences = Vec::with_capacity(n_settings);
        for (index, setting) in divergence.settings.iter_mut().enumerate() {
            sequences.push(match lanes.start(index + 1) {
                Ok(sequence) => Some(sequence),
                Err(error) => {
                    give_up(setting, &error.into());
                    None
                }
            });
        }
        let mut start = 0;
        for tokens in window.tokens.chunks(options.chunk.max(1)) {
            let chunk = Chunk::new(window, start, tokens.len());
            if progress(Progress::new(n_done, n_total)).is_break() {
                return Ok(divergence);
            }
            let rows = match &reference {
                ReferenceRun::Saved(rows) => {
                    let end = n_scored + chunk.scored.len();
                    Rows::Saved(
                        rows.get(n_scored..end).ok_or(EvalError::TooFewSaved { n_saved: rows.len() })?,
                    )
                }
                ReferenceRun::Run | ReferenceRun::Save(_) => {
                    let began = Instant::now();
                    let logits = lanes.forward(0, &mut reference_sequence, tokens, chunk.logits())?;
                    divergence.reference_time += began.elapsed();
                    divergence.reference_tokens += tokens.len();
                    n_done += tokens.len();
                    Rows::of(logits, &chunk, lanes.n_vocab(), options.n_threads)?
                }
            };
            let comparison =
                Comparison { rows, chunk, n_vocab: lanes.n_vocab(), n_threads: options.n_threads };
            // A chunk counts for all settings or for none.
            let mut found = Vec::with_capacity(sequences.len());
            for (index, sequence) in sequences.iter_mut().enumerate() {
                let is_running = divergence.settings[index].failure.is_none();
                found.push(match sequence.as_mut().filter(|_| is_running) {
                    Some(sequence) => {
                        if progress(Progress::new(n_done, n_total)).is_break() {
                            return Ok(divergence);
                        }
                        let began = Instant::now();
                        let rows = lanes.forward(index + 1, sequence, tokens, comparison.chunk.logits());
                        let time = began.elapsed();
                        Some(
                            rows.map_err(EvalError::from)
                                .and_then(|rows| Ok((comparison.losses(&rows)?, time))),
                        )
                    }
                    None => None,
                });
                n_done += tokens.len();
            }
            for (setting, found) in divergence.settings.iter_mut().zip(found) {
                match found {
                    Some(Ok((losses, time))) => {
                        setting.losses.extend(losses);
                        setting.n_tokens += tokens.len();
                        setting.time += time;
                    }
                    Some(Err(error)) => give_up(setting, &error),
                    None => {}
                }
            }
            if let ReferenceRun::Save(saved) = &mut reference {
                saved.extend(comparison.to_save(n_scored)?);
            }
            n_scored += comparison.chunk.scored.len();
            start += tokens.len();
        }
    }
    let _ = progress(Progress::new(n_done, n_total));
    divergence.is_complete = true;
    Ok(divergence)
}

fn give_up(setting: &mut SettingRun, error: &EvalError) {
    setting.failure.get_or_insert_with(|| error.to_string());
}

/// The part of a window that is fed at once, and which of its predictions count.
struct Chunk<'a> {
    window: &'a Window,
    /// position of its first token
    start: usize,
    /// predictions that count, by the position of the token after which they are made
    scored: std::ops::Range<usize>,
}

impl<'a> Chunk<'a> {
    fn new(window: &'a Window, start: usize, n_tokens: usize) -> Chunk<'a> {
        let first = window.first_scored.clamp(start, start + n_tokens);
        let end = (start + n_tokens).min(window.tokens.len() - 1).max(first);
        Chunk { window, start, scored: first..end }
    }

    fn logits(&self) -> Logits {
        if self.scored.is_empty() { Logits::None } else { Logits::All }
    }

    fn row<'r>(&self, rows: &'r [f32], n_vocab: usize, position: usize) -> &'r [f32] {
        let row = position - self.start;
        &rows[row * n_vocab..(row + 1) * n_vocab]
    }
}

/// The reference's predictions of a chunk, ready to be compared with.
enum Rows<'a> {
    /// all logits of the chunk, and what is known of the rows that count, in their order
    Whole(Vec<f32>, Vec<RowSummary>),
    /// those that count
    Saved(&'a [SavedPrediction]),
}

impl Rows<'_> {
    fn of(
        logits: Vec<f32>,
        chunk: &Chunk<'_>,
        n_vocab: usize,
        n_threads: usize,
    ) -> Result<Rows<'static>, EvalError> {
        let summaries = in_parallel(chunk.scored.clone(), n_threads, |position| {
            let row = chunk.row(&logits, n_vocab, position);
            RowSummary::of(row).ok_or(EvalError::NotFinite { position })
        })?;
        Ok(Rows::Whole(logits, summaries))
    }
}

struct Comparison<'a> {
    chunk: Chunk<'a>,
    rows: Rows<'a>,
    n_vocab: usize,
    n_threads: usize,
}

impl Comparison<'_> {
    fn losses(&self, found: &[f32]) -> Result<Vec<TokenLoss>, EvalError> {
        let scored = self.chunk.scored.clone();
        in_parallel(scored.clone(), self.n_threads, |position| {
            let index = position - scored.start;
            let found = self.chunk.row(found, self.n_vocab, position);
            let summary = RowSummary::of(found).ok_or(EvalError::NotFinite { position })?;
            let next = self.chunk.window.tokens[position + 1];
            let loss = |reference_nll, top, kl, kl_at_least, kl_variance| TokenLoss {
                depth: position + 1,
                reference_nll,
                nll: summary.nll(found, next),
                kl,
                kl_at_least,
                kl_variance,
                is_same_top: top == summary.top,
            };
            Ok(match &self.rows {
                Rows::Whole(logits, summaries) => {
                    let reference = self.chunk.row(logits, self.n_vocab, position);
                    let kl = kl_divergence(reference, &summaries[index], found, &summary);
                    loss(summaries[index].nll(reference, next), summaries[index].top, kl, kl, 0.0)
                }
                Rows::Saved(rows) => {
                    let kl = rows[index].kl_divergence(found, &summary);
                    loss(rows[index].nll, rows[index].top, kl.value, kl.at_least, kl.variance)
                }
            })
        })
    }

    /// What a later comparison needs; `n_before` predictions came before.
    fn to_save(&self, n_before: usize) -> Result<Vec<SavedPrediction>, EvalError> {
        let Rows::Whole(logits, summaries) = &self.rows else { return Ok(Vec::new()) };
        let scored = self.chunk.scored.clone();
        in_parallel(scored.clone(), self.n_threads, |position| {
            let index = position - scored.start;
            let row = self.chunk.row(logits, self.n_vocab, position);
            let next = self.chunk.window.tokens[position + 1];
            let mut random = Random::new(SEED, (n_before + index) as u64);
            Ok(SavedPrediction::of(row, &summaries[index], next, &mut random))
        })
    }
}

/// `work` of each position, in their order; the first error ends it.
fn in_parallel<T: Send>(
    positions: std::ops::Range<usize>,
    n_threads: usize,
    work: impl Fn(usize) -> Result<T, EvalError> + Sync,
) -> Result<Vec<T>, EvalError> {
    let share = positions.len().div_ceil(n_threads.max(1)).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = positions
            .clone()
            .step_by(share)
            .map(|first| {
                let end = (first + share).min(positions.end);
                scope.spawn(move || (first..end).map(work).collect::<Result<Vec<T>, EvalError>>())
            })
            .collect();
        let mut all = Vec::with_capacity(positions.len());
        for thread in threads {
            all.extend(thread.join().expect("a comparison does not panic")?);
        }
        Ok(all)
    })
}
