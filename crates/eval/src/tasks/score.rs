//! Scores of the reference and the settings, side by side.

use serde::Serialize;

use super::{CaseRun, TaskRun};
use crate::divergence::Estimate;
use crate::table::{Align, Table, percent, with_error};

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// lower end
    pub low: f64,
    /// upper end
    pub high: f64,
}

/// The Wilson interval (1927) of a share of `n` trials, 95 %: it stays within 0 and 1, also at 0 of n and n of n.
pub fn wilson(share: f64, n: usize) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = n as f64;
    let center = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Interval { low: ((center - half) / scale).max(0.0), high: ((center + half) / scale).min(1.0) }
}

/// One lane on the cases of one task and length.
#[derive(Clone, Debug, Serialize)]
pub struct SettingScore {
    /// task
    pub task: String,
    /// tokens of the prompts, at most
    pub n_tokens: usize,
    /// setting
    pub setting: String,
    /// cases
    pub n_cases: usize,
    /// mean score
    pub score: f64,
    /// of the mean score
    pub interval: Interval,
    /// mean over the tokens of the right answer of their log-probability
    pub log_prob_per_token: Estimate,
    /// its change against the reference, case by case
    pub log_prob_change: Estimate,
    /// cases that scored less than the reference
    pub n_worse: usize,
    /// cases that scored more
    pub n_better: usize,
    /// the single cases, by rising depth
    pub cases: Vec<CaseScore>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseScore {
    /// where the answer lies: 0 beginning, 1 end
    pub depth: f64,
    /// 0 to 1
    pub score: f64,
    /// mean over the tokens of the right answer of their log-probability
    pub log_prob_per_token: f64,
    /// what was said
    pub text: String,
}

/// One row for the reference and each setting; `names` in the order of the lanes.
pub fn scores(task: &str, n_tokens: usize, names: &[String], run: &TaskRun) -> Vec<SettingScore> {
    let of = |(lane, name): (usize, &String)| {
        let answers = || run.cases.iter().map(move |case| (&case.answers[0], &case.answers[lane]));
        let score = Estimate::mean(answers().map(|(_, own)| own.score)).value;
        SettingScore {
            task: task.to_string(),
            n_tokens,
            setting: name.clone(),
            n_cases: run.cases.len(),
            score,
            interval: wilson(score, run.cases.len()),
            log_prob_per_token: Estimate::mean(answers().map(|(_, own)| own.log_prob_per_token)),
            log_prob_change: Estimate::mean(
                answers().map(|(reference, own)| own.log_prob_per_token - reference.log_prob_per_token),
            ),
            n_worse: answers().filter(|(reference, own)| own.score < reference.score).count(),
            n_better: answers().filter(|(reference, own)| own.score > reference.score).count(),
            cases: run.cases.iter().map(|case| CaseScore::new(case, lane)).collect(),
        }
    };
    names.iter().enumerate().map(of).collect()
}

impl CaseScore {
    fn new(case: &CaseRun, lane: usize) -> CaseScore {
        let answer = &case.answers[lane];
        CaseScore {
            depth: case.depth,
            score: answer.score,
            log_prob_per_token: answer.log_prob_per_token,
            text: answer.text.clone(),
        }
    }
}

/// All rows.
pub fn table(scores: &[SettingScore]) -> Table {
    const HEADS: &[(&str, Align)] = &[
        ("task", Align::Left),
        ("tokens", Align::Right),
        ("setting", Align::Left),
        ("cases", Align::Right),
        ("score", Align::Right),
        ("95 % interval", Align::Right),
        ("log-prob per token", Align::Right),
        ("change", Align::Right),
        ("worse", Align::Right),
        ("better", Align::Right),
    ];
    let mut table = Table::new(HEADS);
    for row in scores {
        table.push([
            row.task.clone(),
            row.n_tokens.to_string(),
            row.setting.clone(),
            row.n_cases.to_string(),
            percent(row.score, 1),
            format!("{:.0}–{:.0} %", 100.0 * row.interval.low, 100.0 * row.interval.high),
            with_error(row.log_prob_per_token, 3),
            change(row.log_prob_change),
            row.n_worse.to_string(),
            row.n_better.to_string(),
        ]);
    }
    table
}

/// `+0.012 ± 0.017`; nothing for the reference, which is at no distance from itself.
fn change(estimate: Estimate) -> String {
    if estimate == Estimate::default() {
        return "—".to_string();
    }
    let sign = if estimate.value < 0.0 { "−" } else { "+" };
    format!("{sign}{:.3} ± {:.3}", estimate.value.abs(), estimate.se)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Answer;

    /// By the formula, with z = 1.96: 8 of 10 give 0.490 to 0.943.
    #[test]
    fn intervals_are_those_of_wilson() {
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 5e-4, "{found}, not {wanted}");
        let interval = wilson(0.8, 10);
        near(interval.low, 0.490);
        near(interval.high, 0.943);
        let (none, all) = (wilson(0.0, 16), wilson(1.0, 16));
        near(none.low, 0.0);
        near(none.high, 0.194);
        near(all.low, 0.806);
        near(all.high, 1.0);
        assert_eq!(wilson(0.5, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn settings_are_compared_with_the_reference_case_by_case() {
        let answer = |score, log_prob_per_token| Answer { score, log_prob_per_token, text: String::new() };
        let case = |reference, setting| CaseRun { depth: 0.5, answers: vec![reference, setting] };
        let run = TaskRun {
            cases: vec![
                case(answer(1.0, -0.1), answer(0.0, -1.1)),
                case(answer(0.0, -2.0), answer(1.0, -1.0)),
                case(answer(1.0, -0.5), answer(1.0, -0.8)),
            ],
            is_complete: true,
        };
        let rows = scores("toy", 100, &["f16".to_string(), "lossy".to_string()], &run);
        assert_eq!((rows[0].n_worse, rows[0].n_better, rows[0].log_prob_change.value), (0, 0, 0.0));
        assert_eq!((rows[1].n_worse, rows[1].n_better), (1, 1));
        assert!((rows[1].log_prob_change.value + 0.1).abs() < 1e-12);
        assert!((rows[1].score - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(table(&rows).markdown().lines().count(), 4);
    }
}
