//! `yarn[:factor=F]`: slow channels turn more slowly, for all positions alike (arXiv 2309.00071), on a model that was not
//! trained with it. Distances are [`linear`](super::linear).

use std::sync::Arc;

use super::family::Family;
use super::rope::{RopeConfig, RopeScaling, Yarn};
use super::scaled::{Scaled, Scaling};

/// `yarn`.
pub(super) const FAMILY: Family =
    Family { name: "yarn", parse: |parameters| Ok(Arc::new(Scaled::parse(&SCALING, parameters)?)) };

const SCALING: Scaling = Scaling {
    name: FAMILY.name,
    rope: |trained, factor| RopeConfig {
        base: trained.rope.base,
        scaling: RopeScaling::Yarn(Yarn {
            factor,
            original_context: trained.n_ctx as f64,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            is_truncated: true,
        }),
    },
};
