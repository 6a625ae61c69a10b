//! All that one run has measured.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::budget::Choice;
use crate::tasks::{self, SettingScore};
use crate::{Measurement, ReferenceModel, html};

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// name and version of the program
    pub version: String,
    /// the command line that made it
    pub command: String,
    /// when, UTC: `2026-11-24`
    pub date: String,
    /// the model's file
    pub model: String,
    /// what tells the model from others, in hexadecimal digits
    pub model_hash: String,
    /// the model whose predictions are the reference's; `None`: it is the same one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_model: Option<ReferenceModel>,
    /// `q8` or `f32`
    pub activations: String,
    /// tokens of a prefill chunk
    pub chunk: usize,
    /// threads
    pub n_threads: usize,
    /// one for each context length
    pub divergence: Vec<Measurement>,
    /// one for each task, length and setting
    pub tasks: Vec<SettingScore>,
    /// the setting that a budget allows, if one was given
    pub choice: Option<Choice>,
    /// whether everything was measured
    pub is_complete: bool,
}

impl Report {
    /// What holds for all of it, in a line.
    pub fn heading(&self) -> String {
        let against =
            self.reference_model.as_ref().map_or(String::new(), |other| format!(" against {}", other.name));
        format!("{}{against}, activations {}, chunks of {}", self.model, self.activations, self.chunk)
    }

    /// Markdown tables; `with_blocks`: after the blocks of llama-perplexity.
    pub fn text(&self, with_blocks: bool) -> String {
        let mut parts = vec![format!("{}\n", self.heading())];
        parts.extend(self.divergence.iter().map(|measurement| measurement.text(with_blocks)));
        if !self.tasks.is_empty() {
            parts.push(tasks::table(&self.tasks).markdown());
        }
        if let Some(choice) = &self.choice {
            parts.push(choice.text());
        }
        parts.join("\n")
    }

    /// One page that needs nothing else.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// The curves of bits and loss as an SVG file, one for each context length; `None` where fewer than two settings lose
    /// something.
    pub fn svg(&self) -> Option<String> {
        html::picture(self)
    }
}

/// Today, UTC.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date so many days after 1970-01-01, by the Gregorian calendar.
fn date(n_days: u64) -> String {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, n_days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let dates = [0, 58, 59, 364, 365, 11_016, 20_781].map(date);
        let wanted = [
            "1970-01-01",
            "1970-02-28",
            "1970-03-01",
            "1970-12-31",
            "1971-01-01",
            "2000-02-29",
            "2026-11-24",
        ];
        assert_eq!(dates, wanted);
    }
}
