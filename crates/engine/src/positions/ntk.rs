//! `ntk[:factor=F]`: a larger base of the frequencies, "NTK-aware" scaling: the slowest channel pair turns `F` times more
//! slowly, the fastest as before. Distances are [`linear`](super::linear).

use std::sync::Arc;

use super::family::Family;
use super::rope::{RopeConfig, RopeScaling};
use super::scaled::{Scaled, Scaling};

/// `ntk`.
pub(super) const FAMILY: Family =
    Family { name: "ntk", parse: |parameters| Ok(Arc::new(Scaled::parse(&SCALING, parameters)?)) };

const SCALING: Scaling = Scaling {
    name: FAMILY.name,
    rope: |trained, factor| {
        let d = trained.head_dim as f64;
        RopeConfig { base: trained.rope.base * factor.powf(d / (d - 2.0)), scaling: RopeScaling::None }
    },
};
