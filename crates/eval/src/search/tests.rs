//! Searches over a made-up model: every layer adds a known loss for the scheme that stores it.

use std::ops::ControlFlow;

use lossy_engine::{
    ActivationKind, EngineError, KvSchemeError, Logits, PositionScheme, Progress, SettingError,
};

use crate::{
    Budget, EvalError, Found, Lanes, Measurable, Meter, MeterOptions, Note, Observer, Search, Setting,
    SettingCost, Stage, Unobserved, Window, Windows,
};

/// What each layer contributes to a loss.
const WEIGHTS: [f64; 6] = [0.10, 0.35, 0.05, 0.25, 0.20, 0.05];
/// Bits per value, and the KL divergence where all layers are stored so.
const SCHEMES: [(&str, f64, f64); 7] = [
    ("k2v2", 2.25, 0.080),
    ("k3v2", 2.75, 0.050),
    ("k3v3", 3.25, 0.030),
    ("k4v3", 3.75, 0.020),
    ("k4v4", 4.25, 0.010),
    ("q8", 8.5, 0.002),
    ("f16", 16.0, 0.0),
];

/// A model of three words.
#[derive(Default)]
struct MadeUp {
    /// the reference, and the settings
    lanes: Vec<Lane>,
    /// settings of this name do not fit
    unfit: Option<&'static str>,
    /// settings whose name begins so lose their numbers
    broken: Option<&'static str>,
}

struct Lane {
    name: String,
    logits: [f32; 3],
}

/// Bits and loss of each layer: `k2v2:layers=1+3-4:k3v2`.
fn of_layers(name: &str) -> Vec<(f64, f64)> {
    let scheme = |name: &str| {
        let (_, bits, kl) = SCHEMES.iter().find(|(known, ..)| *known == name).expect("a scheme of the list");
        (*bits, *kl)
    };
    let Some((base, exceptions)) = name.split_once(":layers=") else {
        return vec![scheme(name); WEIGHTS.len()];
    };
    let mut layers = vec![scheme(base); WEIGHTS.len()];
    let (list, other) = exceptions.split_once(':').expect("layers and a scheme");
    for part in list.split('+') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<usize>().unwrap()..=last.parse().unwrap();
        layers[range].fill(scheme(other));
    }
    layers
}

fn loss(name: &str) -> f64 {
    of_layers(name).iter().zip(WEIGHTS).map(|((_, kl), weight)| kl * weight).sum()
}

/// Logits whose distribution is at the KL divergence `kl` from (1/2, 1/4, 1/4).
fn logits(kl: f64) -> [f32; 3] {
    // The first logit is lowered by t: KL = t/2 + ln((1 + e^−t) / 2), which rises with t.
    let (mut low, mut high) = (0.0f64, 10.0f64);
    for _ in 0..100 {
        let t = (low + high) / 2.0;
        if t / 2.0 + ((1.0 + (-t).exp()) / 2.0).ln() < kl { low = t } else { high = t }
    }
    [0.5f64.ln() - low, 0.25f64.ln(), 0.25f64.ln()].map(|logit| logit as f32)
}

impl Lanes for MadeUp {
    type Sequence = ();

    fn n_lanes(&self) -> usize {
        1 + self.lanes.len()
    }

    fn n_vocab(&self) -> usize {
        3
    }

    fn start(&mut self, _: usize) -> Result<(), EngineError> {
        Ok(())
    }

    fn fork(&self, (): &()) {}

    fn forward(
        &mut self,
        lane: usize,
        (): &mut (),
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<Vec<f32>, EngineError> {
        let row = match lane.checked_sub(1).map(|lane| &self.lanes[lane]) {
            None => logits(0.0),
            Some(lane) if self.broken.is_some_and(|broken| lane.name.starts_with(broken)) => [f32::NAN; 3],
            Some(lane) => lane.logits,
        };
        Ok(if wanted == Logits::None { Vec::new() } else { row.repeat(tokens.len()) })
    }
}

impl Measurable for MadeUp {
    fn n_layers(&self) -> usize {
        WEIGHTS.len()
    }

    fn n_ctx(&self) -> usize {
        64
    }

    fn n_threads(&self) -> usize {
        1
    }

    fn activations(&self) -> ActivationKind {
        ActivationKind::Q8
    }

    fn model_hash(&self) -> String {
        "00".to_string()
    }

    fn reference(&self) -> SettingCost {
        SettingCost { setting: setting("f16"), bits_per_value: 16.0, bytes_per_token: 160 }
    }

    fn positions(&self) -> PositionScheme {
        PositionScheme::linear()
    }

    fn set(&mut self, settings: &[Setting], _: &mut dyn Observer) -> Result<Vec<SettingCost>, EvalError> {
        self.lanes.clear();
        let mut costs = Vec::new();
        for setting in settings {
            let name = setting.to_string();
            if self.unfit == Some(name.as_str()) {
                let reason = "its heads are too small".to_string();
                return Err(SettingError::from(KvSchemeError::Model { name, reason }).into());
            }
            let bits: f64 = of_layers(&name).iter().map(|(bits, _)| bits).sum();
            costs.push(SettingCost {
                setting: setting.clone(),
                bits_per_value: bits / WEIGHTS.len() as f64,
                bytes_per_token: 10,
            });
            self.lanes.push(Lane { logits: logits(loss(&name)), name });
        }
        Ok(costs)
    }
}

/// Writes down what it sees, and ends the measurement in a stage.
#[derive(Default)]
struct Recorder {
    notes: Vec<String>,
    stages: Vec<String>,
    stops_in: Option<&'static str>,
}

impl Observer for Recorder {
    fn progress(&mut self, stage: &Stage<'_>, progress: Progress) -> ControlFlow<()> {
        assert!(progress.n_done <= progress.n_total, "{stage}: {progress:?}");
        let stage = stage.to_string();
        let is_last = self.stops_in.is_some_and(|last| stage.contains(last));
        if self.stages.last() != Some(&stage) {
            self.stages.push(stage);
        }
        if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn note(&mut self, note: &Note<'_>) {
        self.notes.push(note.to_string());
    }
}

fn setting(name: &str) -> Setting {
    name.parse().unwrap()
}

fn budget(text: &str) -> Budget {
    text.parse().unwrap()
}

fn search(search: &Search, model: MadeUp, observer: &mut dyn Observer) -> Result<Found, EvalError> {
    let tokens = (0..40).map(|token| token % 3).collect();
    let windows =
        Windows { texts: vec!["count".to_string()], list: vec![Window { tokens, first_scored: 7 }; 2] };
    let mut meter = Meter::of(model, MeterOptions { chunk: 16, ..MeterOptions::default() });
    search.run(&mut meter, &windows, observer)
}

#[test]
fn of_named_settings_the_cheapest_within_the_budget_is_found() {
    let named = ["q8", "k4v4", "k3v3", "k2v2"].map(setting).to_vec();
    for (limit, wanted) in [("kl=0.1", "k2v2"), ("kl=0.035", "k3v3"), ("kl=0.005", "q8")] {
        let found = search(&Search::among(budget(limit), named.clone()), MadeUp::default(), &mut Unobserved);
        let found = found.unwrap();
        assert_eq!(found.choice.setting.as_deref(), Some(wanted), "{limit}");
        assert!(found.is_complete && found.choice.sensitivity.is_none());
        assert_eq!(found.measurement.settings.len(), 4, "a mixture was tried");
    }
}

#[test]
fn a_mixture_has_the_fewest_better_layers_that_stay_within_the_budget() {
    let mut recorder = Recorder::default();
    let found = search(&Search::new(budget("kl=0.06")), MadeUp::default(), &mut recorder).unwrap();
    // 0.08 − 0.03 × (0.35 + 0.25) is 0.062; with the layer that weighs 0.20 too it is 0.056.
    assert!(loss("k2v2:layers=1+3:k3v2") > 0.06 && loss("k2v2:layers=1+3+4:k3v2") < 0.06);
    assert_eq!(found.choice.setting.as_deref(), Some("k2v2:layers=1+3+4:k3v2"));
    assert_eq!(found.choice.sensitivity.unwrap().most(4), [1, 3, 4, 0]);
    assert!(found.is_complete);
    let wanted =
        ["measuring at 40 tokens", "each layer of k2v2 alone", "mixtures of k2v2 and k3v2"].map(String::from);
    assert_eq!((recorder.stages, recorder.notes), (wanted.to_vec(), Vec::new()));
    let measured =
        found.measurement.settings.iter().find(|s| Some(&s.setting) == found.choice.setting.as_ref());
    assert!((measured.unwrap().summary.kl.mean.value - 0.056).abs() < 1e-5);
}

#[test]
fn where_no_setting_is_within_the_budget_the_choice_says_so() {
    let named = vec![setting("k2v2"), setting("k3v2")];
    let found = search(&Search::among(budget("kl=0.01"), named), MadeUp::default(), &mut Unobserved).unwrap();
    assert_eq!((found.choice.setting.as_deref(), found.is_complete), (None, true));
    assert!(found.choice.text().starts_with("no setting that was measured stays within kl=0.01"));
}

#[test]
fn whoever_stops_a_search_has_the_choice_of_what_was_measured() {
    for (stage, wanted, n_measured) in
        [("measuring at", None, 7), ("each layer", Some("k3v2"), 7), ("mixtures of", Some("k3v2"), 7)]
    {
        let mut recorder = Recorder { stops_in: Some(stage), ..Recorder::default() };
        let found = search(&Search::new(budget("kl=0.06")), MadeUp::default(), &mut recorder).unwrap();
        assert!(!found.is_complete, "{stage}");
        assert_eq!(found.choice.setting.as_deref(), wanted, "{stage}");
        assert_eq!(found.measurement.settings.len(), n_measured, "{stage}");
        assert!(recorder.stages.last().unwrap().starts_with(stage), "it went on: {:?}", recorder.stages);
        assert_eq!(found.choice.sensitivity.is_some(), stage == "mixtures of");
    }
}

#[test]
fn a_setting_that_fails_is_not_chosen_and_says_why() {
    let model = MadeUp { broken: Some("k3v3"), ..MadeUp::default() };
    let named = ["k3v3", "k4v3"].map(setting).to_vec();
    let found = search(&Search::among(budget("kl=0.035"), named), model, &mut Unobserved).unwrap();
    assert_eq!(found.choice.setting.as_deref(), Some("k4v3"));
    let remark = &found.measurement.remarks()[0];
    assert_eq!(remark, "k3v3 was given up: the logits after token 7 are not numbers");
}

#[test]
fn a_layer_that_cannot_be_measured_alone_is_an_error_that_names_it() {
    let model = MadeUp { broken: Some("k2v2:layers=0+2"), ..MadeUp::default() };
    let error = search(&Search::new(budget("kl=0.06")), model, &mut Unobserved).unwrap_err();
    assert_eq!(error.to_string(), "k2v2:layers=0+2-5:f16: the logits after token 7 are not numbers");
}

#[test]
fn a_rung_that_does_not_fit_the_model_is_left_out_with_a_note_and_a_named_setting_is_an_error() {
    let model = || MadeUp { unfit: Some("k2v2"), ..MadeUp::default() };
    let mut recorder = Recorder::default();
    let found = search(&Search::new(budget("kl=0.1")), model(), &mut recorder).unwrap();
    assert_eq!(found.choice.setting.as_deref(), Some("k3v2"));
    assert!(recorder.notes[0].starts_with("k2v2 is left out: "), "{:?}", recorder.notes);
    let named = Search::among(budget("kl=0.1"), vec![setting("k2v2")]);
    let error = search(&named, model(), &mut recorder).unwrap_err().to_string();
    assert!(error.contains("its heads are too small"), "{error}");
}
