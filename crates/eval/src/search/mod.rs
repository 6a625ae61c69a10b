//! The setting of fewest bits within a budget.
//!
//! ```text
//! candidates    all measured side by side, on one run of the reference
//! choice        the cheapest that is surely within
//! mixtures      between that one and the next cheaper: some layers of the one, the others of the other
//! ```
//! Mixtures are tried only among the [ladder](Setting::ladder)'s rungs: whoever names settings chooses from those.

mod mixtures;
#[cfg(test)]
mod tests;

use crate::divergence::{ReferenceRun, SavedPrediction};
use crate::{Budget, Choice, EvalError, Measurable, Measurement, Meter, Observer, Setting, Windows};

/// A search for the cheapest setting within a budget.
#[derive(Clone, Debug)]
pub struct Search {
    budget: Budget,
    candidates: Candidates,
}

#[derive(Clone, Debug)]
enum Candidates {
    /// the rungs that fit the model, and their mixtures
    Ladder,
    /// these and no others
    Named(Vec<Setting>),
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// the cheapest setting within the budget, if one is
    pub choice: Choice,
    /// all that was measured
    pub measurement: Measurement,
    /// whether the search came to its end
    pub is_complete: bool,
}

impl Search {
    /// Among the rungs of the [ladder](Setting::ladder) that fit the model, and mixtures of them by layer.
    pub fn new(budget: Budget) -> Search {
        Search { budget, candidates: Candidates::Ladder }
    }

    /// Among these settings.
    pub fn among(budget: Budget, settings: Vec<Setting>) -> Search {
        Search { budget, candidates: Candidates::Named(settings) }
    }

    /// Whether mixtures are tried: the reference's predictions are then used again.
    pub fn tries_mixtures(&self) -> bool {
        matches!(self.candidates, Candidates::Ladder)
    }

    /// Searches. If the observer stops it, the choice is that of what was measured.
    ///
    /// # Errors
    /// As [`set`](Search::set) and [`choose`](Search::choose); or the reference fails.
    pub fn run<L: Measurable>(
        &self,
        meter: &mut Meter<L>,
        windows: &Windows,
        observer: &mut dyn Observer,
    ) -> Result<Found, EvalError> {
        self.set(meter, observer)?;
        let mut predictions = Vec::new();
        let measurement = meter.measure(windows, ReferenceRun::Save(&mut predictions), observer)?;
        self.choose(meter, windows, &predictions, measurement, observer)
    }

    /// Makes the candidates the settings of `meter`.
    ///
    /// # Errors
    /// A setting that was named does not fit the model; or the observer stops the calibration.
    pub fn set<L: Measurable>(
        &self,
        meter: &mut Meter<L>,
        observer: &mut dyn Observer,
    ) -> Result<(), EvalError> {
        match &self.candidates {
            Candidates::Ladder => meter.set_possible(&Setting::ladder(), observer),
            Candidates::Named(settings) => meter.set(settings, observer),
        }
    }

    /// Chooses from the candidates that were measured, after it has tried their mixtures. `predictions`: the reference's, on
    /// these windows; without mixtures they are not needed.
    ///
    /// # Errors
    /// A layer alone cannot be measured.
    pub fn choose<L: Measurable>(
        &self,
        meter: &mut Meter<L>,
        windows: &Windows,
        predictions: &[SavedPrediction],
        mut measurement: Measurement,
        observer: &mut dyn Observer,
    ) -> Result<Found, EvalError> {
        let mut is_complete = measurement.is_complete;
        let mut sensitivity = None;
        if self.tries_mixtures() && measurement.is_complete {
            let budget = &self.budget;
            let mut mixing = mixtures::Mixing { meter, budget, windows, predictions, observer };
            let mixed = mixing.refine(&mut measurement.settings)?;
            (sensitivity, is_complete) = (mixed.sensitivity, mixed.is_complete);
        }
        let choice = Choice { sensitivity, ..self.budget.choose(&measurement.settings) };
        Ok(Found { choice, measurement, is_complete })
    }
}
