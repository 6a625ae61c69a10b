//! What was measured at one context length, with all that is needed to read it.

use std::fmt::Write;

use serde::Serialize;

use crate::divergence::{Divergence, SettingRun, Summary, blocks, depth_table};
use crate::table::{Align, Table, percent, with_error};
use crate::{Setting, SettingCost};

/// A model at one context length, with one or several settings.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// the texts, in the order of their windows
    pub texts: Vec<String>,
    /// SHA-256 of the windows
    pub text_hash: String,
    /// tokens of a window
    pub n_ctx: usize,
    /// windows
    pub n_windows: usize,
    /// predictions that count in each
    pub n_scored_per_window: usize,
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
    /// prompt tokens per second, logits of the predictions that count included; `None`: its predictions were saved before
    pub tokens_per_s: Option<f64>,
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

impl ReferenceFigures {
    /// Of a run.
    pub fn new(cost: &SettingCost, divergence: &Divergence) -> ReferenceFigures {
        let seconds = divergence.reference_time.as_secs_f64();
        let is_run = divergence.reference_tokens > 0;
        ReferenceFigures {
            setting: cost.setting.to_string(),
            bytes_per_token: cost.bytes_per_token,
            tokens_per_s: is_run.then(|| per_second(divergence.reference_tokens, seconds)),
        }
    }
}

impl SettingFigures {
    /// One for each setting of a run; `costs` in the order of the settings.
    pub fn all(costs: &[SettingCost], divergence: &Divergence) -> Vec<SettingFigures> {
        costs.iter().zip(&divergence.settings).map(|(cost, run)| SettingFigures::new(cost, run)).collect()
    }

    fn new(cost: &SettingCost, run: &SettingRun) -> SettingFigures {
        SettingFigures {
            setting: cost.setting.to_string(),
            bits_per_value: cost.bits_per_value,
            bytes_per_token: cost.bytes_per_token,
            tokens_per_s: per_second(run.n_tokens, run.time.as_secs_f64()),
            failure: run.failure.clone(),
            summary: Summary::of(&run.losses),
        }
    }

    /// Whether there are figures, of a setting that did not fail.
    pub fn is_measured(&self) -> bool {
        self.failure.is_none() && self.summary.n_scored > 0
    }

    /// Whether it stores numbers in fewer bits than the reference, and yet every prediction is the same to float rounding:
    /// nothing of its cache was coded.
    pub fn is_untouched(&self) -> bool {
        const EXACT_BITS: f64 = 16.0;
        const ROUNDING: f64 = 2e-6;
        let kl = &self.summary.kl;
        let is_nothing_lost = kl.min.abs() < ROUNDING && kl.max.abs() < ROUNDING;
        self.summary.n_scored > 0 && self.bits_per_value < EXACT_BITS && is_nothing_lost
    }

    /// Whether these are the figures of `setting`.
    pub fn is_of(&self, setting: &Setting) -> bool {
        self.setting == setting.to_string()
    }
}

fn per_second(n_tokens: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { n_tokens as f64 / seconds } else { 0.0 }
}

impl Measurement {
    /// What was compared, in a line or two.
    pub fn heading(&self) -> String {
        let saved = if self.reference.tokens_per_s.is_none() { ", as it was kept" } else { "" };
        let mut text = format!(
            "{} window{} of {} tokens of {}, the last {} predictions of each; reference {} ({} bytes per token{saved})",
            self.n_windows,
            if self.n_windows == 1 { "" } else { "s" },
            self.n_ctx,
            self.texts.join(", "),
            self.n_scored_per_window,
            self.reference.setting,
            self.reference.bytes_per_token,
        );
        if !self.is_complete {
            text.push_str("\nstopped before its end: figures are of what was measured");
        }
        text
    }

    /// One row for each setting.
    pub fn table(&self) -> Table {
        const HEADS: &[(&str, Align)] = &[
            ("setting", Align::Left),
            ("bits", Align::Right),
            ("bytes/token", Align::Right),
            ("smaller", Align::Right),
            ("KL (nats)", Align::Right),
            ("99 % KL", Align::Right),
            ("same top", Align::Right),
            ("PPL ratio", Align::Right),
            ("predictions", Align::Right),
            ("t/s", Align::Right),
        ];
        let mut table = Table::new(HEADS);
        for setting in &self.settings {
            let summary = &setting.summary;
            // A mean of nothing is not a loss of 0.
            let figure = |figure: String| if summary.n_scored > 0 { figure } else { "–".to_string() };
            table.push([
                setting.setting.clone(),
                format!("{:.3}", setting.bits_per_value),
                setting.bytes_per_token.to_string(),
                format!("{:.1}×", self.times_smaller(setting)),
                figure(with_error(summary.kl.mean, 5)),
                figure(format!("{:.4}", summary.kl.p99)),
                figure(format!(
                    "{:.2} ± {:.2} %",
                    100.0 * summary.same_top.value,
                    100.0 * summary.same_top.se
                )),
                figure(with_error(summary.ppl_ratio, 4)),
                summary.n_scored.to_string(),
                figure(format!("{:.1}", setting.tokens_per_s)),
            ]);
        }
        table
    }

    /// One row for each setting and range of depths.
    pub fn depth_table(&self) -> Table {
        depth_table(self.settings.iter().map(|setting| (setting.setting.as_str(), &setting.summary)))
    }

    /// Sentences that belong under the table.
    pub fn remarks(&self) -> Vec<String> {
        let failed = self.settings.iter().filter_map(|setting| {
            let failure = setting.failure.as_ref()?;
            Some(format!("{} was given up: {failure}", setting.setting))
        });
        let estimated = self.settings.iter().filter(|setting| setting.summary.kl_kept_se > 0.0);
        let errors: Vec<String> = estimated
            .map(|setting| format!("{} ± {:.5}", setting.setting, setting.summary.kl_kept_se))
            .collect();
        let estimate = (!errors.is_empty()).then(|| {
            format!(
                "KL is estimated from a saved reference, which adds to its error: {} (docs/loss.md, One run of the reference)",
                errors.join(", ")
            )
        });
        let untouched = self.settings.iter().filter(|setting| setting.is_untouched()).map(|setting| {
            format!(
                "{} lost nothing because nothing of its cache was coded yet at {} tokens: a longer context shows what it costs",
                setting.setting, self.n_ctx
            )
        });
        failed.chain(untouched).chain(estimate).collect()
    }

    /// Heading and tables; `with_blocks`: also the three blocks of each setting.
    pub fn text(&self, with_blocks: bool) -> String {
        let mut text = format!("{}\n\n", self.heading());
        let measured = self.settings.iter().filter(|setting| setting.summary.n_scored > 0);
        for setting in measured.filter(|_| with_blocks) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{}:\n{}", setting.setting, blocks(&setting.summary));
        }
        let remarks: String = self.remarks().iter().map(|remark| format!("{remark}\n")).collect();
        let separator = if remarks.is_empty() { "" } else { "\n" };
        format!("{text}{}{separator}{remarks}\n{}", self.table().markdown(), self.depth_table().markdown())
    }

    /// What a reader wants first of a setting.
    pub fn saving(&self, setting: &SettingFigures) -> String {
        format!(
            "KL {:.4}, same top token {}, {:.1}× smaller than {}",
            setting.summary.kl.mean.value,
            percent(setting.summary.same_top.value, 1),
            self.times_smaller(setting),
            self.reference.setting
        )
    }

    fn times_smaller(&self, setting: &SettingFigures) -> f64 {
        self.reference.bytes_per_token as f64 / setting.bytes_per_token.max(1) as f64
    }
}
