//! What does a lossy setting cost?
//!
//! A [`Setting`] is one choice of KV scheme and positions. The reference is the same model with an exact cache and its own
//! positions, or [another model](EngineLanes::against): then losses are those of the weights too. A [`Meter`] compares settings with the reference: their predictions, token by token, on text that all are shown
//! ([`divergence`]), and their answers to questions whose answers are known ([`tasks`]). A [`Search`] finds the cheapest
//! setting within a [`Budget`]. A [`Probe`] does so in a minute, with what [`Certificates`] say already. An [`Observer`] sees
//! how far they are, and may end them.
//!
//! ```
//! use lossy_engine::{Engine, EngineOptions, ModelSource};
//! use lossy_eval::divergence::ReferenceRun;
//! use lossy_eval::{Meter, MeterOptions, Search, Text, Unobserved, WindowOptions, Windows};
//! # let folder = std::env::temp_dir().join(format!("lossy-eval-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = lossy_testkit::tiny_model::write_wide(&folder);
//!
//! let source = ModelSource::open(&path)?;
//! let mut engine = Engine::load(&source, &EngineOptions::default())?;
//! let mut meter = Meter::new(&mut engine, MeterOptions::default())?;
//! let texts = Text::bundled(&source.tokenizer()?)?;
//! let windows = Windows::cut(&texts, &WindowOptions { max_scored: Some(200), ..WindowOptions::new(512) })?;
//!
//! // What two settings cost.
//! meter.set(&["k2v2".parse()?, "q8".parse()?], &mut Unobserved)?;
//! let measurement = meter.measure(&windows, ReferenceRun::Run, &mut Unobserved)?;
//! let [k2v2, q8] = &measurement.settings[..] else { panic!("two settings") };
//! assert!(q8.summary.kl.mean.value < k2v2.summary.kl.mean.value);
//!
//! // The cheapest setting within a budget.
//! let found = Search::new("top=0.2".parse()?).run(&mut meter, &windows, &mut Unobserved)?;
//! assert_eq!(found.choice.setting.as_deref(), Some("k2v2"));
//! # drop((engine, source));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate measures and computes figures; it knows no terminal and no scheme by name.
#![forbid(unsafe_code)]

pub mod budget;
mod bundled;
mod certificate;
mod certificates;
pub mod divergence;
mod error;
mod html;
mod lanes;
mod measurement;
mod meter;
mod observer;
mod probe;
mod random;
mod report;
mod row;
mod search;
pub mod sensitivity;
mod setting;
mod table;
pub mod tasks;
mod text;
mod vocabulary;

pub use budget::{Budget, Choice};
pub use bundled::{BUNDLED, BundledText};
pub use certificate::{Certificate, LEAST_PREDICTIONS, Loss, cheapest};
pub use certificates::{Certificates, Saved};
pub use error::EvalError;
pub use html::{Spent, Way, frontier};
pub use lanes::{EngineLanes, Lanes, Measurable, NamedEngine, ReferenceModel};
pub use measurement::{Measurement, ReferenceFigures, SettingFigures};
pub use meter::{Meter, MeterOptions, TaskScores};
pub use observer::{Note, Observer, Stage, Unobserved};
pub use probe::{Allowed, PROBE_CHUNK, PROBE_PATIENCE, Probe};
pub use random::Random;
pub use report::{Report, today};
pub use row::{RowSummary, kl_divergence};
pub use search::{Found, Search};
pub use sensitivity::{LayerLoss, Sensitivity};
pub use setting::{InvalidSetting, Setting, SettingCost};
pub use table::{Align, Table};
pub use text::{Text, Window, WindowOptions, Windows, long_enough};
