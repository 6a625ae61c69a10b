//! Tasks with known answers, made from a seed: can the model still find and combine what it has read?
//!
//! A task fills a context of a given length with a text of which some places matter, asks, and scores the answer from 0 to 1. Small
//! models answer all or nothing, so the log-probability of the right answer is measured too: it falls before the score does.
//! Every sample is given to the reference and to all settings.
//!
//! One more task is one more file, with a line in [`TASKS`], a test, and a row in docs/loss.md.

mod case;
mod frequent_words;
mod needle;
mod passkey;
mod passkeys;
mod run;
mod score;
mod tool_call;
mod variables;
mod words;

pub use case::{Case, TaskOptions, cases};
pub use run::{Answer, CaseRun, TaskRun, run};
pub use score::{CaseScore, Interval, SettingScore, scores, table, wilson};

use crate::Random;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// how much text, in the task's own unit (characters, sentences, words)
    pub size: usize,
    /// where in the text the answer lies: 0 beginning, 1 end
    pub depth: f64,
    /// the same for all samples, so that they can share a text
    pub seed: u64,
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// text and question
    pub prompt: String,
    /// what follows the prompt if the model answers rightly
    pub continuation: String,
    /// what the answer must contain
    pub answers: Vec<String>,
}

/// A kind of task.
pub struct Task {
    /// on the command line and in reports
    pub name: &'static str,
    /// one line
    pub about: &'static str,
    /// most tokens of an answer
    pub max_answer_tokens: usize,
    /// what ends an answer besides the model's own end
    pub stop: Option<&'static str>,
    /// makes a sample
    pub make: fn(&Request, &mut Random) -> Sample,
    /// 0 to 1
    pub score: fn(&Sample, &str) -> f64,
}

/// All of them.
pub const TASKS: &[Task] = &[
    passkey::PASSKEY,
    passkeys::PASSKEYS,
    needle::SINGLE_1,
    needle::SINGLE_2,
    needle::SINGLE_3,
    needle::MULTIKEY_1,
    needle::MULTIKEY_2,
    needle::MULTIKEY_3,
    needle::MULTIVALUE,
    needle::MULTIQUERY,
    variables::TRACKING,
    frequent_words::COMMON,
    frequent_words::FREQUENT,
    tool_call::TOOL_CALL,
];

/// A task by its name, or all whose names begin with it (`niah`).
pub fn find(name: &str) -> Vec<&'static Task> {
    match TASKS.iter().find(|task| task.name == name) {
        Some(task) => vec![task],
        None => TASKS.iter().filter(|task| task.name.starts_with(name) && !name.is_empty()).collect(),
    }
}

/// The share of the answers that a text contains.
fn share_contained(sample: &Sample, answer: &str) -> f64 {
    let n_found = sample.answers.iter().filter(|wanted| answer.contains(wanted.as_str())).count();
    n_found as f64 / sample.answers.len().max(1) as f64
}

#[cfg(test)]
mod tests;
