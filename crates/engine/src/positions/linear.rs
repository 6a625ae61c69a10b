//! `linear`: the model's own positions, `m − n`.

use std::sync::Arc;

use super::error::PositionError;
use super::family::{Choice, Family, Resolved};
use super::map::PositionMap;
use super::rope::Trained;

/// `linear`.
pub(super) const FAMILY: Family = Family { name: "linear", parse: |_| Ok(Arc::new(Linear)) };

/// The model's own positions; see the module.
#[derive(Clone, Copy, Debug)]
pub struct Linear;

impl PositionMap for Linear {
    fn distance(&self, query: usize, key: usize) -> usize {
        query - key
    }
}

impl Choice for Linear {
    fn spelled(&self) -> String {
        FAMILY.name.to_owned()
    }

    fn resolve(&self, trained: Trained<'_>, _n_ctx: usize) -> Result<Resolved, PositionError> {
        Ok(Resolved {
            choice: Arc::new(Linear),
            map: Arc::new(Linear),
            rope: trained.rope.clone(),
            longest: trained.n_ctx,
            fix: "choose auto or another map",
        })
    }
}
