//! `auto`: [`linear`](super::linear) if the context is within the trained one, else [`adaptive`](super::adaptive) with all
//! its defaults.

use std::sync::Arc;

use super::adaptive::AdaptiveChoice;
use super::error::PositionError;
use super::family::{Choice, Family, Resolved};
use super::linear::Linear;
use super::rope::Trained;

/// `auto`.
pub(super) const FAMILY: Family = Family { name: "auto", parse: |_| Ok(Arc::new(Auto)) };

#[derive(Debug)]
pub(super) struct Auto;

impl Choice for Auto {
    fn spelled(&self) -> String {
        FAMILY.name.to_owned()
    }

    fn resolve(&self, trained: Trained<'_>, n_ctx: usize) -> Result<Resolved, PositionError> {
        if n_ctx <= trained.n_ctx {
            Linear.resolve(trained, n_ctx)
        } else {
            AdaptiveChoice::default().resolve(trained, n_ctx)
        }
    }
}
