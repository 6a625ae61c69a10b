//! The cheapest setting within a budget.

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::divergence::Estimate;
use crate::{Loss, Sensitivity, SettingFigures};

/// A figure that a budget can limit.
struct Metric {
    name: &'static str,
    /// for messages
    about: &'static str,
    /// what more of is worse: the figure as measured, and its standard error
    loss: fn(&Loss) -> Estimate,
    /// from the limit as it is typed to the limit of the loss
    limit: fn(f64) -> f64,
    /// whether a limit as it is typed can be meant
    is_possible: fn(f64) -> bool,
}

const METRICS: [Metric; 3] = [
    Metric {
        name: "kl",
        about: "mean KL divergence in nats, above 0",
        loss: |loss| loss.kl,
        limit: |limit| limit,
        is_possible: |limit| limit > 0.0,
    },
    Metric {
        name: "top",
        about: "share of the same most likely token, 0 to 1 (0.95, not 95)",
        loss: |loss| Estimate { value: 1.0 - loss.same_top.value, se: loss.same_top.se },
        limit: |limit| 1.0 - limit,
        is_possible: |limit| limit > 0.0 && limit <= 1.0,
    },
    Metric {
        name: "ppl",
        about: "ratio of perplexities, at least 1",
        loss: |loss| loss.ppl_ratio,
        limit: |limit| limit,
        is_possible: |limit| limit >= 1.0,
    },
];

/// The most that a setting may lose: `kl=0.02`, `top=0.95`, `ppl=1.01`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Budget {
    metric: String,
    limit: f64,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Budget, String> {
        let expected = || {
            let known: Vec<String> =
                METRICS.iter().map(|metric| format!("{}=N ({})", metric.name, metric.about)).collect();
            format!("expected {}", known.join(", "))
        };
        let (name, limit) = text.split_once('=').ok_or_else(expected)?;
        let metric = METRICS.iter().find(|metric| metric.name == name.trim()).ok_or_else(expected)?;
        match limit.trim().parse::<f64>() {
            Ok(limit) if limit.is_finite() && (metric.is_possible)(limit) => {
                Ok(Budget { metric: metric.name.to_string(), limit })
            }
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.metric, self.limit)
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> String {
        budget.to_string()
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Budget, String> {
        text.parse()
    }
}

impl Budget {
    fn metric(&self) -> &'static Metric {
        METRICS.iter().find(|metric| metric.name == self.metric).unwrap_or(&METRICS[0])
    }

    /// Whether a loss is surely within: with one standard error added it is.
    pub fn allows_loss(&self, loss: &Loss) -> bool {
        let loss = (self.metric().loss)(loss);
        loss.value + loss.se <= (self.metric().limit)(self.limit)
    }

    /// Whether a setting is surely within. One that failed is not.
    pub fn allows(&self, setting: &SettingFigures) -> bool {
        setting.is_measured() && self.allows_loss(&Loss::of(&setting.summary))
    }

    /// Of all settings the one that takes the fewest bytes within the budget.
    pub fn choose(&self, settings: &[SettingFigures]) -> Choice {
        let allowed = settings.iter().filter(|setting| self.allows(setting));
        let chosen = allowed.min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let points = settings.iter().filter(|setting| setting.is_measured());
        Choice {
            budget: self.clone(),
            setting: chosen.map(|setting| setting.setting.clone()),
            bits_per_value: chosen.map(|setting| setting.bits_per_value),
            frontier: frontier(points).iter().map(|setting| setting.setting.clone()).collect(),
            sensitivity: None,
        }
    }

    /// The two settings between which the cheapest one within the budget may lie: the dearest of the frontier that is not
    /// within, and the one that is chosen.
    pub fn neighbours<'a>(
        &self,
        settings: &'a [SettingFigures],
    ) -> Option<(&'a SettingFigures, &'a SettingFigures)> {
        let choice = self.choose(settings).setting?;
        let chosen = settings.iter().find(|setting| setting.setting == choice)?;
        let cheaper = settings.iter().filter(|setting| setting.is_measured() && cost(setting) < cost(chosen));
        Some((*frontier(cheaper).last()?, chosen))
    }
}

fn cost(setting: &SettingFigures) -> f64 {
    setting.bits_per_value
}

/// The settings of which none is both cheaper and better, cheapest first.
pub fn frontier<'a>(settings: impl Iterator<Item = &'a SettingFigures>) -> Vec<&'a SettingFigures> {
    let mut by_cost: Vec<&SettingFigures> = settings.collect();
    let loss = |setting: &SettingFigures| setting.summary.kl.mean.value;
    by_cost.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(loss(a).total_cmp(&loss(b))));
    let mut best = f64::INFINITY;
    by_cost.retain(|setting| {
        let is_better = loss(setting) < best;
        best = best.min(loss(setting));
        is_better
    });
    by_cost
}

/// What a budget allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// the budget
    pub budget: Budget,
    /// the cheapest setting within it
    pub setting: Option<String>,
    /// bits that it takes
    pub bits_per_value: Option<f64>,
    /// settings of which none is both cheaper and of less KL, cheapest first
    pub frontier: Vec<String>,
    /// what single layers lose, if mixtures were tried
    pub sensitivity: Option<Sensitivity>,
}

impl Choice {
    /// In a line or two.
    pub fn text(&self) -> String {
        let mut text = match (&self.setting, self.bits_per_value) {
            (Some(setting), Some(bits)) => {
                format!("within {}: {setting} ({bits:.3} bits)\n", self.budget)
            }
            _ => format!("no setting that was measured stays within {}\n", self.budget),
        };
        // Writing to a String does not fail.
        if !self.frontier.is_empty() {
            let _ = writeln!(text, "frontier of bits and KL: {}", self.frontier.join(" · "));
        }
        if let Some(sensitivity) = &self.sensitivity {
            let _ = writeln!(text, "{}", sensitivity.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::divergence::{Distribution, Summary};

    fn setting(name: &str, bits: f64, kl: f64, se: f64) -> SettingFigures {
        let mean = Estimate { value: kl, se };
        SettingFigures {
            setting: name.to_string(),
            bits_per_value: bits,
            bytes_per_token: 0,
            tokens_per_s: 0.0,
            failure: None,
            summary: Summary {
                n_scored: 100,
                kl: Distribution { mean, ..Distribution::default() },
                same_top: Estimate { value: 1.0 - kl, se: 0.0 },
                ppl_ratio: Estimate { value: 1.0 + kl, se: 0.0 },
                ..Summary::default()
            },
        }
    }

    #[test]
    fn the_cheapest_that_is_surely_within_is_chosen() {
        let settings = [
            setting("two", 2.3, 0.03, 0.001),
            setting("three", 3.3, 0.019, 0.002),
            setting("four", 4.3, 0.010, 0.001),
            setting("eight", 8.5, 0.001, 0.0),
            setting("bad", 5.0, 0.5, 0.0),
        ];
        let chosen = |budget: &str| budget.parse::<Budget>().unwrap().choose(&settings).setting;
        assert_eq!(chosen("kl=0.04").as_deref(), Some("two"));
        // 0.019 ± 0.002 is not surely below 0.02.
        assert_eq!(chosen("kl=0.02").as_deref(), Some("four"));
        assert_eq!(chosen("kl=0.0001"), None);
        assert_eq!(chosen("top=0.975").as_deref(), Some("three"));
        assert_eq!(chosen("ppl=1.01").as_deref(), Some("four"));
        let choice = "kl=0.02".parse::<Budget>().unwrap().choose(&settings);
        assert_eq!(choice.frontier, ["two", "three", "four", "eight"]);
        let neighbours = |budget: &str| {
            let (below, chosen) = budget.parse::<Budget>().unwrap().neighbours(&settings)?;
            Some((below.setting.as_str(), chosen.setting.as_str()))
        };
        assert_eq!(neighbours("kl=0.02"), Some(("three", "four")));
        assert_eq!(neighbours("kl=0.005"), Some(("four", "eight")));
        assert_eq!(neighbours("kl=0.04"), None);
        assert_eq!(neighbours("kl=0.0001"), None);
    }

    #[test]
    fn a_setting_that_failed_or_was_not_measured_is_never_within() {
        let budget: Budget = "kl=1".parse().unwrap();
        let failed = SettingFigures { failure: Some("broken".to_string()), ..setting("x", 2.0, 0.0, 0.0) };
        assert!(!budget.allows(&failed));
        let mut empty = setting("x", 2.0, 0.0, 0.0);
        empty.summary.n_scored = 0;
        assert!(!budget.allows(&empty));
        assert!(budget.choose(&[failed, empty]).frontier.is_empty());
    }

    #[test]
    fn budgets_are_read_as_they_are_written() {
        for text in ["kl=0.02", "top=0.95", "ppl=1.01"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        let no_number = ["", "kl", "kl=", "kl=x", "kl=inf", "kl=nan", "loss=1"];
        for text in no_number.into_iter().chain(["kl=0", "kl=-1", "top=95", "top=0", "ppl=0.99"]) {
            let error = text.parse::<Budget>().unwrap_err();
            assert!(error.contains("kl=N"), "{text}: {error}");
        }
    }
}
