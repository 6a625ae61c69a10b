//! What a model thinks of the answers.

use serde::Serialize;
use serde_json::Value;

use super::question::{Kind, Question};

/// An answer: a probability for each that there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// to a predicate
    Predicate {
        /// the question's
        name: Option<String>,
        /// that it is true
        probability: f64,
        /// probability of all labels together before scaling
        allowed_mass: f64,
    },
    /// to a choice
    Choice {
        /// the question's
        name: Option<String>,
        /// the most probable value; of equals the first
        choice: Value,
        /// in the question's order
        probabilities: Vec<ValueProbability>,
        /// of the most probable one
        confidence: f64,
        /// probability of all labels together before scaling
        allowed_mass: f64,
    },
    /// to a score
    Score {
        /// the question's
        name: Option<String>,
        /// the mean of the levels' numbers
        score: f64,
        /// in the question's order
        probabilities: Vec<LevelProbability>,
        /// of the most probable one
        confidence: f64,
        /// probability of all labels together before scaling
        allowed_mass: f64,
    },
}

/// A value and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueProbability {
    /// a text or a boolean
    pub value: Value,
    /// from 0 to 1
    pub probability: f64,
}

/// A level and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelProbability {
    /// its number, from 0
    pub value: usize,
    /// its name
    pub label: String,
    /// from 0 to 1
    pub probability: f64,
}

impl Answer {
    /// From the log-probabilities of the labels, in the order of the question's answers, nats.
    ///
    /// # Panics
    /// If there is not one for each answer.
    pub fn of(question: &Question, logprobs: &[f32]) -> Answer {
        assert_eq!(logprobs.len(), question.n_answers(), "a log-probability for each answer");
        let largest = logprobs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f64> = logprobs.iter().map(|logprob| f64::from(logprob - largest).exp()).collect();
        let sum: f64 = shares.iter().sum();
        let probabilities: Vec<f64> = shares.iter().map(|share| share / sum).collect();
        let allowed_mass = (f64::from(largest).exp() * sum).min(1.0);
        let confidence = 1.0 / sum;
        let name = question.name.clone();
        match &question.kind {
            Kind::Predicate => Answer::Predicate { name, probability: probabilities[0], allowed_mass },
            Kind::Choice(choices) => {
                let best = logprobs.iter().position(|logprob| *logprob == largest).unwrap_or(0);
                let probabilities = choices
                    .iter()
                    .zip(probabilities)
                    .map(|(choice, probability)| ValueProbability {
                        value: choice.value.clone(),
                        probability,
                    })
                    .collect();
                let choice = choices[best].value.clone();
                Answer::Choice { name, choice, probabilities, confidence, allowed_mass }
            }
            Kind::Score(levels) => {
                let score = probabilities.iter().enumerate().map(|(value, p)| value as f64 * p).sum();
                let probabilities = levels
                    .iter()
                    .zip(probabilities)
                    .enumerate()
                    .map(|(value, (level, probability))| LevelProbability {
                        value,
                        label: level.label.clone(),
                        probability,
                    })
                    .collect();
                Answer::Score { name, score, probabilities, confidence, allowed_mass }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(value: Value) -> Question {
        Question::read(&value).unwrap()
    }

    #[test]
    fn probabilities_are_scaled_and_the_mass_before_is_told() {
        let logprobs = [0.3f32.ln(), 0.1f32.ln()];
        let predicate = question(json!({"type": "predicate", "name": "n", "instructions": "x"}));
        let Answer::Predicate { name, probability, allowed_mass } = Answer::of(&predicate, &logprobs) else {
            panic!("not a predicate")
        };
        assert_eq!(name.as_deref(), Some("n"));
        assert!((probability - 0.75).abs() < 1e-6 && (allowed_mass - 0.4).abs() < 1e-6);
    }

    #[test]
    fn a_score_is_the_mean_of_its_levels() {
        let levels = json!([{"label": "a"}, {"label": "b"}, {"label": "c"}]);
        let score = question(json!({"type": "score", "instructions": "x", "levels": levels}));
        let Answer::Score { score, confidence, .. } =
            Answer::of(&score, &[0.2f32.ln(), 0.2f32.ln(), 0.6f32.ln()])
        else {
            panic!("not a score")
        };
        assert!((score - 1.4).abs() < 1e-6 && (confidence - 0.6).abs() < 1e-6, "{score}, {confidence}");
    }

    #[test]
    fn the_first_of_equals_is_chosen_and_what_is_very_unlikely_is_no_division_by_zero() {
        let choice = question(
            json!({"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": false}]}),
        );
        let Answer::Choice { choice, probabilities, allowed_mass, .. } =
            Answer::of(&choice, &[-900.0, -900.0])
        else {
            panic!("not a choice")
        };
        assert_eq!((choice, allowed_mass), (json!("a"), 0.0));
        assert_eq!(probabilities.iter().map(|p| p.probability).collect::<Vec<_>>(), [0.5, 0.5]);
    }
}
