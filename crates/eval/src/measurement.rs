//! What was measured, with all that is needed to read it and to repeat it.

use std::fmt::Write;

use serde::Serialize;

use crate::divergence::{Divergence, Summary, blocks, depth_table};

/// A model at one context length, with one or several settings.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// name and version of the program
    pub version: String,
    /// the command line that made it
    pub command: String,
    /// the model's file
    pub model: String,
    /// the texts, in the order of their windows
    pub texts: Vec<String>,
    /// tokens of a window
    pub n_ctx: usize,
    /// windows
    pub n_windows: usize,
    /// predictions that count in each
    pub n_scored_per_window: usize,
    /// tokens of a prefill chunk
    pub chunk: usize,
    /// `q8` or `f32`
    pub activations: String,
    /// threads
    pub n_threads: usize,
    /// whether all windows were measured
    pub is_complete: bool,
    /// what the settings are compared with
    pub reference: ReferenceFigures,
    /// the settings
    pub settings: Vec<SettingFigures>,
}

/// The setting that is exact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceFigures {
    /// its name
    pub setting: String,
    /// of the cache
    pub bytes_per_token: usize,
    /// prompt tokens per second, logits of the predictions that count included
    pub tokens_per_s: f64,
}

/// What a setting costs and what it saves.
#[derive(Clone, Debug, Serialize)]
pub struct SettingFigures {
    /// its name
    pub setting: String,
    /// bits that a cached number takes, metadata included
    pub bits_per_value: f64,
    /// of the cache
    pub bytes_per_token: usize,
    /// prompt tokens per second, logits of the predictions that count included
    pub tokens_per_s: f64,
    /// why it was given up before the end
    pub failure: Option<String>,
    /// the loss
    #[serde(flatten)]
    pub summary: Summary,
}

/// A setting as it is known before it is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingCost {
    /// its name
    pub setting: String,
    /// bits that a cached number takes, metadata included
    pub bits_per_value: f64,
    /// of the cache
    pub bytes_per_token: usize,
}

impl ReferenceFigures {
    /// Of a run.
    pub fn new(cost: &SettingCost, divergence: &Divergence) -> ReferenceFigures {
        let seconds = divergence.reference_time.as_secs_f64();
        ReferenceFigures {
            setting: cost.setting.clone(),
            bytes_per_token: cost.bytes_per_token,
            tokens_per_s: per_second(divergence.reference_tokens, seconds),
        }
    }
}

impl SettingFigures {
    /// One for each setting of a run; `costs` in the order of the settings.
    pub fn all(costs: &[SettingCost], divergence: &Divergence) -> Vec<SettingFigures> {
        let of = |(cost, run): (&SettingCost, &crate::divergence::SettingRun)| SettingFigures {
            setting: cost.setting.clone(),
            bits_per_value: cost.bits_per_value,
            bytes_per_token: cost.bytes_per_token,
            tokens_per_s: per_second(run.n_tokens, run.time.as_secs_f64()),
            failure: run.failure.clone(),
            summary: Summary::of(&run.losses),
        };
        costs.iter().zip(&divergence.settings).map(of).collect()
    }
}

fn per_second(n_tokens: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { n_tokens as f64 / seconds } else { 0.0 }
}

impl Measurement {
    /// What was compared, in a few lines.
    pub fn heading(&self) -> String {
        let stopped = if self.is_complete {
            ""
        } else {
            "\nstopped before its end: figures are of what was measured\n"
        };
        format!(
            "{}: {} windows of {} tokens of {}, the last {} predictions of each; reference {} ({} bytes per token), \
             activations {}, chunks of {}\n{stopped}",
            self.model,
            self.n_windows,
            self.n_ctx,
            self.texts.join(", "),
            self.n_scored_per_window,
            self.reference.setting,
            self.reference.bytes_per_token,
            self.activations,
            self.chunk,
        )
    }

    /// One row for each setting, as a Markdown table.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| setting | bits | bytes/token | KL (nats) | 99 % KL | same top | PPL ratio | predictions | t/s |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for setting in &self.settings {
            let summary = &setting.summary;
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| {} | {:.3} | {} | {:.5} ± {:.5} | {:.4} | {:.2} ± {:.2} % | {:.4} ± {:.4} | {} | {:.1} |",
                setting.setting,
                setting.bits_per_value,
                setting.bytes_per_token,
                summary.kl.mean.value,
                summary.kl.mean.se,
                summary.kl.p99,
                100.0 * summary.same_top.value,
                100.0 * summary.same_top.se,
                summary.ppl_ratio.value,
                summary.ppl_ratio.se,
                summary.n_scored,
                setting.tokens_per_s,
            );
        }
        for setting in &self.settings {
            if let Some(failure) = &setting.failure {
                let _ = writeln!(text, "\n{} was given up: {failure}", setting.setting);
            }
        }
        text
    }

    /// Heading and tables.
    pub fn markdown(&self) -> String {
        let settings = self.settings.iter().map(|setting| (setting.setting.as_str(), &setting.summary));
        format!("{}\n{}\n{}", self.heading(), self.table(), depth_table(settings))
    }

    /// Heading, the three blocks of each setting, and tables.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.heading());
        for setting in &self.settings {
            if self.settings.len() > 1 {
                let _ = writeln!(text, "{}:", setting.setting);
            }
            let _ = writeln!(text, "{}", blocks(&setting.summary));
        }
        let settings = self.settings.iter().map(|setting| (setting.setting.as_str(), &setting.summary));
        format!("{text}{}\n{}", self.table(), depth_table(settings))
    }
}
