//! Settings between two others: some layers as the cheaper one stores them, those that lose most as the dearer one does.

use lossy_engine::{KvScheme, KvType};

use crate::divergence::SavedPrediction;
use crate::meter::Share;
use crate::sensitivity::{alone, fewest, mixture};
use crate::{
    Budget, EvalError, LayerLoss, Measurable, Meter, Observer, Sensitivity, Setting, SettingFigures, Stage,
    Windows,
};

/// A layer alone is measured on so many tokens.
const SENSITIVITY_TOKENS: usize = 2048;

/// What mixtures are measured with.
pub(super) struct Mixing<'a, L> {
    pub meter: &'a mut Meter<L>,
    pub budget: &'a Budget,
    /// what was read
    pub windows: &'a Windows,
    /// the reference's
    pub predictions: &'a [SavedPrediction],
    pub observer: &'a mut dyn Observer,
}

/// What came of it.
pub(super) struct Mixed {
    /// what single layers lose, if there was something to mix and it was not stopped before
    pub sensitivity: Option<Sensitivity>,
    /// whether it was not stopped
    pub is_complete: bool,
}

/// Two settings that can be mixed.
#[derive(Debug, PartialEq)]
struct Pair {
    /// loses too much everywhere
    cheap: Setting,
    /// within the budget
    better: Setting,
    /// so many layers of `better` cost as much as what is within the budget already
    n_limit: usize,
}

impl<L: Measurable> Mixing<'_, L> {
    /// Tries the settings between the cheapest one of `figures` within the budget and the next cheaper one, and adds their
    /// figures.
    ///
    /// # Errors
    /// A layer alone cannot be measured.
    pub(super) fn refine(&mut self, figures: &mut Vec<SettingFigures>) -> Result<Mixed, EvalError> {
        let pair = match self.budget.neighbours(figures) {
            Some((cheap, within)) => pair(cheap, within, self.meter.n_layers())?,
            None => None,
        };
        let Some(pair) = pair else { return Ok(Mixed { sensitivity: None, is_complete: true }) };
        let sensitivity = match self.sensitivity(&pair.cheap) {
            Err(EvalError::Stopped) => return Ok(Mixed { sensitivity: None, is_complete: false }),
            sensitivity => sensitivity?,
        };
        let is_complete = match self.bisect(&pair, &sensitivity, figures) {
            Err(EvalError::Stopped) => false,
            bisected => bisected.map(|()| true)?,
        };
        Ok(Mixed { sensitivity: Some(sensitivity), is_complete })
    }

    /// Every layer in `setting` alone.
    fn sensitivity(&mut self, setting: &Setting) -> Result<Sensitivity, EvalError> {
        let window = &self.windows.list[0];
        let n_tokens = SENSITIVITY_TOKENS.min(window.tokens.len());
        let window = window.prefix(n_tokens).unwrap_or_else(|| window.clone());
        let predictions = &self.predictions[..window.n_scored()];
        let windows = Windows { texts: self.windows.texts[..1].to_vec(), list: vec![window] };
        let n_layers = self.meter.n_layers();
        let stage = Stage::Layers(setting);
        let mut layers = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let one = alone(setting, layer, n_layers)?;
            let share = Share { part: layer, n_parts: n_layers };
            let found = self.meter.figures(&one, &windows, predictions, self.observer, &stage, share)?;
            if let Some(reason) = found.failure {
                return Err(EvalError::Failed { setting: one.to_string(), reason });
            }
            layers.push(LayerLoss { layer, kl: found.summary.kl.mean });
        }
        Ok(Sensitivity::new(setting, layers))
    }

    /// Measures whole mixtures until the fewest better layers are found that are within.
    fn bisect(
        &mut self,
        pair: &Pair,
        sensitivity: &Sensitivity,
        figures: &mut Vec<SettingFigures>,
    ) -> Result<(), EvalError> {
        let Pair { cheap, better, n_limit } = pair;
        let stage = Stage::Mixtures { cheap, better };
        let mut share = Share { part: 0, n_parts: n_limit.ilog2() as usize + 1 };
        fewest(*n_limit, |n| -> Result<bool, EvalError> {
            let setting = mixture(cheap, better, &sensitivity.most(n))?;
            let found =
                self.meter.figures(&setting, self.windows, self.predictions, self.observer, &stage, share)?;
            share.part += 1;
            let is_within = self.budget.allows(&found);
            figures.push(found);
            Ok(is_within)
        })?;
        Ok(())
    }
}

/// What is mixed: the two, or `cheap` and f16 where `within` cannot stand beside it. `None` if nothing can.
fn pair(cheap: &SettingFigures, within: &SettingFigures, n_layers: usize) -> Result<Option<Pair>, EvalError> {
    let setting: Setting = cheap.setting.parse()?;
    let better: Setting = within.setting.parse()?;
    if mixture(&setting, &better, &[0]).is_ok() {
        return Ok(Some(Pair { cheap: setting, better, n_limit: n_layers }));
    }
    let exact = Setting::from(KvScheme::exact(KvType::F16));
    if mixture(&setting, &exact, &[0]).is_err() {
        return Ok(None);
    }
    let share = (within.bits_per_value - cheap.bits_per_value) / (16.0 - cheap.bits_per_value);
    let n_limit = (share * n_layers as f64).ceil().clamp(1.0, n_layers as f64);
    Ok(Some(Pair { cheap: setting, better: exact, n_limit: n_limit as usize }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::divergence::Summary;

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
            pair(&figures(cheap.0, cheap.1), &figures(within.0, within.1), 30).unwrap()
        };
        let named = |cheap: &str, better: &str, n_limit| {
            Some(Pair { cheap: cheap.parse().unwrap(), better: better.parse().unwrap(), n_limit })
        };
        assert_eq!(pair(("k2v2", 2.25), ("k3v2", 2.75)), named("k2v2", "k3v2", 30));
        assert_eq!(pair(("q8", 8.5), ("f16", 16.0)), named("q8", "f16", 30));
        // 10.85 of 30 layers at 16 bits cost as much as q8 everywhere.
        assert_eq!(pair(("k4v4", 4.25), ("q8", 8.5)), named("k4v4", "f16", 11));
    }
}
