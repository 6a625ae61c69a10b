//! What was measured of one setting, to be saved: so that the next run knows it, and somebody else can check it.

use serde::{Deserialize, Serialize};

use crate::divergence::{Estimate, Summary};
use crate::{Budget, ReferenceModel, Report};

/// Fewer predictions certify nothing: their standard error would not know that neighbours are alike.
pub const LEAST_PREDICTIONS: usize = 128;

/// What a setting loses, in a few figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// mean KL divergence, nats; the standard error allows for neighbours that are alike
    pub kl: Estimate,
    /// 99 % of the predictions lose less
    pub kl_p99: f64,
    /// share of the same most likely token
    pub same_top: Estimate,
    /// perplexity of the setting / of the reference
    pub ppl_ratio: Estimate,
}

impl Loss {
    /// From all figures.
    pub fn of(summary: &Summary) -> Loss {
        let se = summary.kl_blocked_se.max(summary.kl.mean.se);
        Loss {
            kl: Estimate { value: summary.kl.mean.value, se },
            kl_p99: summary.kl.p99,
            same_top: summary.same_top,
            ppl_ratio: summary.ppl_ratio,
        }
    }

    fn is_finite(&self) -> bool {
        let estimates = [self.kl, self.same_top, self.ppl_ratio];
        estimates.iter().all(|estimate| estimate.value.is_finite() && estimate.se.is_finite())
            && self.kl_p99.is_finite()
    }
}

/// One setting of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// name and version of the program
    pub version: String,
    /// when, UTC
    pub date: String,
    /// the command line that made it
    pub command: String,
    /// the model's file
    pub model: String,
    /// what tells the model from others, in hexadecimal digits
    pub model_hash: String,
    /// the model that it is compared with; `None`: itself
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_model: Option<ReferenceModel>,
    /// `q8` or `f32`
    pub activations: String,
    /// the texts
    pub texts: Vec<String>,
    /// SHA-256 of their tokens, as they were cut into windows
    pub text_hash: String,
    /// tokens of a window
    pub n_ctx: usize,
    /// predictions
    pub n_scored: usize,
    /// what it is compared with
    pub reference: String,
    /// of the reference's cache
    pub reference_bytes_per_token: usize,
    /// the setting
    pub setting: String,
    /// bits that a cached number takes, metadata included
    pub bits_per_value: f64,
    /// of its cache
    pub bytes_per_token: usize,
    /// what it loses
    pub loss: Loss,
    /// the budget that it was chosen for, if it was
    pub budget: Option<Budget>,
}

impl Certificate {
    /// One for each setting that was measured without failing, at each context length, on at least [`LEAST_PREDICTIONS`]. A
    /// lossy setting that lost exactly nothing has none: it was measured where nothing of its cache was coded.
    pub fn all(report: &Report) -> Vec<Certificate> {
        let mut all = Vec::new();
        for measurement in &report.divergence {
            for setting in &measurement.settings {
                let loss = Loss::of(&setting.summary);
                let is_certain = setting.failure.is_none()
                    && setting.summary.n_scored >= LEAST_PREDICTIONS
                    && loss.is_finite()
                    && !setting.is_untouched();
                if !is_certain {
                    continue;
                }
                let choice = report.choice.as_ref();
                // A search that was stopped has chosen nothing.
                let is_chosen = report.is_complete
                    && choice.is_some_and(|c| c.setting.as_ref() == Some(&setting.setting));
                all.push(Certificate {
                    version: report.version.clone(),
                    date: report.date.clone(),
                    command: report.command.clone(),
                    model: report.model.clone(),
                    model_hash: report.model_hash.clone(),
                    reference_model: report.reference_model.clone(),
                    activations: report.activations.clone(),
                    texts: measurement.texts.clone(),
                    text_hash: measurement.text_hash.clone(),
                    n_ctx: measurement.n_ctx,
                    n_scored: setting.summary.n_scored,
                    reference: measurement.reference.setting.clone(),
                    reference_bytes_per_token: measurement.reference.bytes_per_token,
                    setting: setting.setting.clone(),
                    bits_per_value: setting.bits_per_value,
                    bytes_per_token: setting.bytes_per_token,
                    loss,
                    budget: choice.filter(|_| is_chosen).map(|choice| choice.budget.clone()),
                });
            }
        }
        all
    }

    /// `k2v2 on this model: KL 0.0310, same top token 91.0 %, 5.9× smaller than f16 (measured at 1024 tokens)`
    pub fn line(&self) -> String {
        format!(
            "{} on this model: KL {:.4}, same top token {:.1} %, {:.1}× smaller than {} (measured at {} tokens)",
            self.setting,
            self.loss.kl.value,
            100.0 * self.loss.same_top.value,
            self.reference_bytes_per_token as f64 / self.bytes_per_token.max(1) as f64,
            self.reference,
            self.n_ctx,
        )
    }

    /// Whether answers will differ noticeably from those with an exact cache.
    pub fn is_bad(&self) -> bool {
        self.loss.kl.value > 0.1 || self.loss.same_top.value < 0.85
    }
}

/// Of the certificates within a budget that of the fewest bits.
pub fn cheapest<'a>(certificates: &'a [Certificate], budget: &Budget) -> Option<&'a Certificate> {
    let allowed = certificates.iter().filter(|certificate| budget.allows_loss(&certificate.loss));
    allowed.min_by(|a, b| a.bits_per_value.total_cmp(&b.bits_per_value))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn certificate(
        setting: &str,
        bits: f64,
        kl: f64,
        n_ctx: usize,
        n_scored: usize,
    ) -> Certificate {
        let exact = |value| Estimate { value, se: 0.0 };
        Certificate {
            version: "1".to_string(),
            date: "2026-01-01".to_string(),
            command: "lossy measure".to_string(),
            model: "toy.gguf".to_string(),
            model_hash: "0123456789abcdef0123".to_string(),
            reference_model: None,
            activations: "q8".to_string(),
            texts: vec!["prose".to_string()],
            text_hash: "fedc".to_string(),
            n_ctx,
            n_scored,
            reference: "f16".to_string(),
            reference_bytes_per_token: 160,
            setting: setting.to_string(),
            bits_per_value: bits,
            bytes_per_token: 25,
            loss: Loss { kl: exact(kl), kl_p99: 4.0 * kl, same_top: exact(1.0 - kl), ppl_ratio: exact(1.0) },
            budget: Some("kl=0.02".parse().unwrap()),
        }
    }

    #[test]
    fn the_cheapest_within_the_budget_is_taken() {
        let all = [certificate("two", 2.3, 0.03, 1024, 1), certificate("eight", 8.5, 0.001, 1024, 1)];
        let setting = |budget: &str| cheapest(&all, &budget.parse().unwrap()).map(|c| c.setting.as_str());
        assert_eq!(setting("kl=0.05"), Some("two"));
        assert_eq!(setting("kl=0.02"), Some("eight"));
        assert_eq!(setting("kl=0.0001"), None);
    }

    #[test]
    fn the_line_says_what_is_lost_and_what_is_saved() {
        let line = certificate("k2v2", 2.3, 0.031, 1024, 1).line();
        assert_eq!(
            line,
            "k2v2 on this model: KL 0.0310, same top token 96.9 %, 6.4× smaller than f16 (measured at 1024 tokens)"
        );
        assert!(!certificate("k2v2", 2.3, 0.031, 1024, 1).is_bad());
        assert!(certificate("x", 4.5, 1.16, 1024, 1).is_bad());
    }
}
