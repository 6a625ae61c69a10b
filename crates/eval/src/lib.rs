//! What does a lossy setting cost?
//!
//! A *setting* is whatever differs from the reference: today a way to store keys and values. [`divergence`] compares the
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
mod report;
mod row;
pub mod tasks;
mod text;

pub use budget::{Budget, Choice};
pub use bundled::{BUNDLED, BundledText};
pub use certificate::{Certificate, Certificates, Loss, cheapest};
pub use error::EvalError;
pub use lanes::{KvLanes, Lanes};
pub use measurement::{Measurement, ReferenceFigures, SettingCost, SettingFigures};
pub use report::{Report, today};
pub use row::{RowSummary, kl_divergence};
pub use text::{Text, Window, WindowOptions, windows};
