//! Settings between two others: some layers as the cheaper one stores them, those that lose most as the dearer one does.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use lossy_eval::divergence::KeptRow;
use lossy_eval::sensitivity::{alone, fewest, mixture};
use lossy_eval::{Budget, LayerLoss, Sensitivity, Setting, SettingFigures, Window};

use super::meter::Meter;
use super::progress::Bar;
use super::settings;
use crate::args::Activations;
use crate::interrupt;

/// A layer alone is measured on so many tokens.
const SENSITIVITY_TOKENS: usize = 2048;

/// What was measured of the reference.
pub struct Kept<'a> {
    /// what was read
    pub windows: &'a [Window],
    /// its predictions
    pub rows: &'a [KeptRow],
}

/// Tries the settings between the cheapest one of `figures` within the budget and the next cheaper one, and adds their
/// figures. What single layers lose, if there was something to try and it was not stopped.
///
/// # Errors
/// A setting fails.
pub fn refine(
    meter: &mut Meter<'_>,
    budget: &Budget,
    kept: &Kept<'_>,
    figures: &mut Vec<SettingFigures>,
) -> Result<Option<Sensitivity>> {
    let Some((cheap, better)) = budget.neighbours(figures) else { return Ok(None) };
    let n_layers = meter.engine().info().n_layers;
    let Some((cheap, better, n_limit)) = pair(cheap, better, n_layers)? else { return Ok(None) };
    let Some(sensitivity) = sensitivity(meter, &cheap, kept)? else { return Ok(None) };
    let bar = Bar::start(&format!("mixtures of {cheap} and {better}"));
    let n_steps = n_limit.ilog2() as usize + 1;
    let mut step = 0;
    let found = fewest(n_limit, |n| -> Result<bool> {
        let setting = mixture(&cheap, &better, &sensitivity.most(n))?;
        let found = meter.figures(&setting, kept.windows, kept.rows, &mut |progress| {
            bar.set(step * progress.n_total + progress.n_done, n_steps * progress.n_total)
        })?;
        step += 1;
        let Some(found) = found else { bail!("stopped") };
        let is_within = budget.allows(&found);
        figures.push(found);
        Ok(is_within)
    });
    match found {
        Err(error) if !interrupt::is_asked() => Err(error),
        _ => Ok(Some(sensitivity)),
    }
}

/// What is mixed, and how many layers of the dearer one cost as much as `within` does: `within` itself, or f16 where that
/// cannot stand beside the cheap one. `None` if nothing can.
fn pair(
    cheap: &SettingFigures,
    within: &SettingFigures,
    n_layers: usize,
) -> Result<Option<(Setting, Setting, usize)>> {
    let setting: Setting = cheap.setting.parse()?;
    let better: Setting = within.setting.parse()?;
    if mixture(&setting, &better, &[0]).is_ok() {
        return Ok(Some((setting, better, n_layers)));
    }
    let exact = settings::reference(Activations::Q8);
    if mixture(&setting, &exact, &[0]).is_err() {
        return Ok(None);
    }
    let share = (within.bits_per_value - cheap.bits_per_value) / (16.0 - cheap.bits_per_value);
    let n_limit = (share * n_layers as f64).ceil().clamp(1.0, n_layers as f64);
    Ok(Some((setting, exact, n_limit as usize)))
}

/// Every layer in `setting` alone; `None`: it was stopped.
fn sensitivity(meter: &mut Meter<'_>, setting: &Setting, kept: &Kept<'_>) -> Result<Option<Sensitivity>> {
    let Some(window) = kept.windows.first() else { return Ok(None) };
    let n_tokens = SENSITIVITY_TOKENS.min(window.tokens.len());
    let window = window.prefix(n_tokens).unwrap_or_else(|| window.clone());
    let rows = &kept.rows[..window.n_scored()];
    let n_layers = meter.engine().info().n_layers;
    let bar = Bar::start(&format!("each layer of {setting} alone"));
    let mut layers = Vec::with_capacity(n_layers);
    for layer in 0..n_layers {
        let one = alone(setting, layer, n_layers)?;
        let windows = std::slice::from_ref(&window);
        let found = meter.figures(&one, windows, rows, &mut |progress| -> ControlFlow<()> {
            bar.set(layer * progress.n_total + progress.n_done, n_layers * progress.n_total)
        })?;
        let Some(found) = found else { return Ok(None) };
        if let Some(failure) = found.failure {
            bail!("{one}: {failure}");
        }
        layers.push(LayerLoss { layer, kl: found.summary.kl.mean });
    }
    Ok(Some(Sensitivity::new(setting, layers)))
}

#[cfg(test)]
mod tests {
    use lossy_eval::divergence::Summary;

    use super::*;

    fn figures(setting: &str, bits_per_value: f64) -> SettingFigures {
        SettingFigures {
            setting: setting.to_string(),
            bits_per_value,
            bytes_per_token: 0,
            tokens_per_s: 0.0,
            failure: None,
            summary: Summary::default(),
        }
    }

    #[test]
    fn what_cannot_stand_beside_the_cheap_scheme_gives_way_to_f16_as_long_as_that_is_cheaper() {
        let pair = |cheap: (&str, f64), within: (&str, f64)| {
            let pair = pair(&figures(cheap.0, cheap.1), &figures(within.0, within.1), 30).unwrap();
            pair.map(|(cheap, better, n_limit)| (cheap.to_string(), better.to_string(), n_limit))
        };
        let named = |cheap: &str, better: &str, n| Some((cheap.to_string(), better.to_string(), n));
        assert_eq!(pair(("k2v2", 2.25), ("k3v2", 2.75)), named("k2v2", "k3v2", 30));
        assert_eq!(pair(("q8", 8.5), ("f16", 16.0)), named("q8", "f16", 30));
        // 10.85 of 30 layers at 16 bits cost as much as q8 everywhere.
        assert_eq!(pair(("k4v4", 4.25), ("q8", 8.5)), named("k4v4", "f16", 11));
    }
}
