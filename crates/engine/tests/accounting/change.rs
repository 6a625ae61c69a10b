//! A model that is changed, and what must become of it.

use std::path::{Path, PathBuf};

use lossy_engine::{EngineError, Unread};
use lossy_formats::gguf::Value as GgufValue;
use serde_json::Value;

use crate::models::{IDS, config, metadata, open_gguf, open_hf, run, tensors};
use crate::read;
use crate::reference::{GGUF, HF, Names, Tensors, logits};

/// Float32 against float64, on logits with a spread of about 2.
const BOUND: f64 = 5e-4;

/// A model in one of the two formats.
#[derive(Clone)]
pub enum Model {
    Hf { config: Value, tensors: Tensors },
    Gguf { keys: Vec<(String, GgufValue)>, tensors: Tensors },
}

impl Model {
    /// A family's directory.
    pub fn hf(family: &str) -> Model {
        Model::Hf { config: config(family), tensors: tensors(family, &HF) }
    }

    /// A family's GGUF file.
    pub fn gguf(family: &str) -> Model {
        Model::Gguf { keys: metadata(family), tensors: tensors(family, &GGUF) }
    }

    /// What its format calls tensors.
    pub fn names(&self) -> &'static Names {
        match self {
            Model::Hf { .. } => &HF,
            Model::Gguf { .. } => &GGUF,
        }
    }

    /// Its tensors.
    pub fn tensors(&self) -> &Tensors {
        let (Model::Hf { tensors, .. } | Model::Gguf { tensors, .. }) = self;
        tensors
    }

    /// The same with other tensors.
    pub fn with_tensors(&self, change: impl FnOnce(&mut Tensors)) -> Model {
        let mut model = self.clone();
        let (Model::Hf { tensors, .. } | Model::Gguf { tensors, .. }) = &mut model;
        change(tensors);
        model
    }

    /// The same with another `config.json`.
    pub fn with_config(&self, change: impl FnOnce(&mut Value)) -> Model {
        let mut model = self.clone();
        if let Model::Hf { config, .. } = &mut model {
            change(config);
        }
        model
    }

    /// The same with another key of a GGUF file.
    pub fn with_key(&self, key: &str, value: GgufValue) -> Model {
        let mut model = self.clone();
        if let Model::Gguf { keys, .. } = &mut model {
            keys.retain(|(found, _)| found != key);
            keys.push((key.to_owned(), value));
        }
        model
    }

    /// What the program computes.
    pub fn run(&self, folder: &Path, unread: Unread) -> Result<Vec<Vec<f32>>, EngineError> {
        match self {
            Model::Hf { config, tensors } => run(&open_hf(folder, config, tensors)?, unread),
            Model::Gguf { keys, tensors } => run(&open_gguf(keys, tensors)?, unread),
        }
    }

    fn reference(&self) -> Option<Vec<Vec<f64>>> {
        match self {
            Model::Hf { config, tensors } => {
                logits(&read::of_hf(config, n_vocab(tensors, &HF))?, &HF, tensors, &IDS)
            }
            Model::Gguf { keys, tensors } => {
                let spec = read::of_gguf(keys, tensors)?;
                // The reader of the keys has taken these into account.
                let mut weights = tensors.clone();
                weights.remove("rope_freqs.weight");
                if keys.iter().any(|(_, value)| *value == GgufValue::from("longrope")) {
                    weights.retain(|name, _| !name.starts_with("rope_factors_"));
                }
                logits(&spec, &GGUF, &weights, &IDS)
            }
        }
    }
}

fn n_vocab(tensors: &Tensors, names: &Names) -> usize {
    tensors.get(&format!("{}.weight", names.embedding)).map_or(0, |tensor| tensor.shape[0])
}

/// What became of the changed models.
#[derive(Default)]
pub struct Tally {
    pub n_computed: usize,
    pub n_refused: usize,
    pub wrong: Vec<String>,
}

/// What must be so after a change.
#[derive(Clone, Copy, PartialEq)]
pub enum Must {
    /// either is right
    ComputeOrRefuse,
    Compute,
    Refuse,
}

impl Tally {
    /// Runs a changed model. An error must have one of `named`.
    pub fn look(&mut self, folder: &Path, model: &Model, change: &str, named: &[&str], must: Must) {
        match (model.run(folder, Unread::Refuse), model.reference()) {
            (Ok(found), Some(wanted)) => {
                self.n_computed += 1;
                let pairs = found.iter().flatten().zip(wanted.iter().flatten());
                let differences = pairs.map(|(found, wanted)| (f64::from(*found) - wanted).abs());
                // NaN is the worst of all.
                let worst =
                    differences.fold(0.0, |worst: f64, next| if next <= worst { worst } else { next });
                if worst.is_nan() || worst >= BOUND {
                    self.wrong.push(format!("{change}: a logit differs by {worst:.1e}"));
                }
                if must == Must::Refuse {
                    self.wrong.push(format!("{change}: computed"));
                }
            }
            (Ok(_), None) => {
                self.wrong.push(format!("{change}: computed, but the reference cannot tell what it is"))
            }
            (Err(error), _) => {
                self.n_refused += 1;
                let message = error.to_string();
                if !named.iter().any(|name| message.contains(name)) {
                    self.wrong.push(format!("{change}: the error does not name it: {message}"));
                }
                if must == Must::Compute {
                    self.wrong.push(format!("{change}: refused: {message}"));
                }
            }
        }
    }

    /// All went right, and so many were computed and refused.
    pub fn check(&self, least_computed: usize, least_refused: usize) {
        assert!(self.wrong.is_empty(), "{} changes went wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        println!("{} computed, {} refused", self.n_computed, self.n_refused);
        assert!(self.n_computed >= least_computed, "only {} were computed", self.n_computed);
        assert!(self.n_refused >= least_refused, "only {} were refused", self.n_refused);
    }
}

/// A folder for the files of a test.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("accounting-{name}"))
}
