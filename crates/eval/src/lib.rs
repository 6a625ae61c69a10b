//! What does a lossy setting cost?
//!
//! A [`Setting`] is whatever differs from the reference: today a way to store keys and values. [`divergence`] compares the
//! setting's predictions with the reference's, token by token, on text that both are shown; [`tasks`] asks both questions
//! whose answers are known.
//!
//! This crate measures and computes figures; it knows no terminal and no scheme by name.
#![forbid(unsafe_code)]

pub mod budget;
mod bundled;
mod certificate;
pub mod divergence;
mod error;
mod html;
mod lanes;
mod measurement;
mod random;
mod report;
mod row;
pub mod sensitivity;
mod setting;
mod table;
pub mod tasks;
mod text;

pub use budget::{Budget, Choice};
pub use bundled::{BUNDLED, BundledText};
pub use certificate::{Certificate, Certificates, LEAST_PREDICTIONS, Loss, cheapest};
pub use error::EvalError;
pub use lanes::{EngineLanes, Lanes};
pub use measurement::{Measurement, ReferenceFigures, SettingFigures};
pub use random::Random;
pub use report::{Report, today};
pub use row::{RowSummary, kl_divergence};
pub use sensitivity::{LayerLoss, Sensitivity};
pub use setting::{Setting, SettingCost};
pub use table::{Align, Table};
pub use text::{Text, Window, WindowOptions, text_hash, windows};
