//! The settings that are compared.

use lossy_engine::{KvScheme, KvType, PositionScheme};
use lossy_eval::Setting;

use crate::args::Activations;

/// Settings that a budget chooses from unless others are named, by rising bits. The last is the reference itself.
const CANDIDATES: [&str; 7] = ["k2v2", "k3v2", "k3v3", "k4v3", "k4v4", "q8", "f16"];

/// What others are compared with.
pub fn reference(activations: Activations) -> Setting {
    KvScheme::exact(if activations == Activations::F32 { KvType::F32 } else { KvType::F16 }).into()
}

/// Each of `settings` with each of `positions`, where there are any; the reference's own cache where there are no settings.
pub fn with_positions(
    mut settings: Vec<Setting>,
    positions: &[PositionScheme],
    activations: Activations,
) -> Vec<Setting> {
    if positions.is_empty() {
        return settings;
    }
    if settings.is_empty() {
        settings.push(reference(activations));
    }
    let each = |setting: &Setting| {
        let kv = setting.kv.clone();
        positions.iter().map(move |positions| Setting { kv: kv.clone(), positions: Some(positions.clone()) })
    };
    settings.iter().flat_map(each).collect()
}

/// What a budget chooses from.
pub fn candidates() -> Vec<Setting> {
    CANDIDATES.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The first of them, which no mixture of others undercuts.
pub fn cheapest() -> Option<String> {
    candidates().first().map(Setting::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_candidates_are_settings() {
        let names: Vec<String> = candidates().iter().map(Setting::to_string).collect();
        assert_eq!(names, CANDIDATES);
        assert_eq!(candidates().last(), Some(&reference(Activations::Q8)));
    }

    #[test]
    fn every_scheme_meets_all_positions() {
        let schemes = ["f16", "k2v2"].map(|name| name.parse::<Setting>().unwrap()).to_vec();
        let positions = ["linear", "dca"].map(|name| name.parse::<PositionScheme>().unwrap());
        let names = |settings: Vec<Setting>| settings.iter().map(Setting::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(with_positions(schemes.clone(), &positions, Activations::Q8)),
            ["f16 linear", "f16 dca", "k2v2 linear", "k2v2 dca"]
        );
        assert_eq!(names(with_positions(Vec::new(), &positions[1..], Activations::F32)), ["f32 dca"]);
        assert_eq!(with_positions(schemes.clone(), &[], Activations::Q8), schemes);
    }
}
