//! `OUT.svg`: what other sizes would lose, and where this file is among them.

use lossy_eval::{Loss, Spent, Way, frontier};

use super::card::Outcome;
use super::measured::figures;
use crate::commands::measure::N_CTX;
use crate::units::grouped;

/// The picture; `None` where nothing is lost.
pub fn picture(outcome: &Outcome) -> Option<String> {
    let settings = figures(&outcome.report);
    let has_cache = outcome.cache_kl.is_some();
    // With a cache it counts, for as many tokens as were measured at most.
    let cache = |at: usize| {
        let bytes = settings.get(at).map_or(0, |setting| setting.bytes_per_token) as u64;
        if has_cache { N_CTX as u64 * bytes } else { 0 }
    };
    let of_sizes = outcome.frontier.iter().map(|point| Spent {
        bytes: point.bytes + cache(0),
        kl: point.kl,
        se: None,
        label: String::new(),
    });
    let mut ways = vec![Way {
        name: "types of weights: predicted, times what was measured over what was predicted".to_string(),
        points: of_sizes.collect(),
    }];
    for (at, setting) in settings.iter().enumerate() {
        let kl = Loss::of(&setting.summary).kl;
        let with = if has_cache { format!(", cache {}", setting.setting) } else { String::new() };
        let trained =
            if outcome.training.as_ref().is_some_and(|training| training.is_kept) { ", trained" } else { "" };
        ways.push(Way {
            name: format!("this file{trained}{with}: measured, two standard errors each way"),
            points: vec![Spent {
                bytes: outcome.bytes + cache(at),
                kl: kl.value,
                se: Some(kl.se),
                label: String::new(),
            }],
        });
    }
    let counted = match has_cache {
        true => format!("the file and a cache of {} tokens", grouped(N_CTX as u64)),
        false => "the file".to_string(),
    };
    let title = format!("What sizes of {} lose beside {}", outcome.report.model, outcome.original);
    frontier(&title, &counted, &ways, "What loses nothing is not drawn.")
}
