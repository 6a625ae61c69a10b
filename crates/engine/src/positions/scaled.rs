//! What [`yarn`](super::yarn) and [`ntk`](super::ntk) share: a factor, by which the model's rotation is stretched for the
//! whole context.

use std::sync::Arc;

use super::error::PositionError;
use super::family::{Choice, Resolved};
use super::linear::Linear;
use super::rope::{RopeConfig, RopeScaling, Trained};
use crate::parameters::{ParameterError, Parameters, Spelling};

/// A way to stretch a rotation.
#[derive(Debug)]
pub(super) struct Scaling {
    pub name: &'static str,
    /// the rotation of a model without a scaling, stretched by a factor
    pub rope: fn(Trained<'_>, f64) -> RopeConfig,
}

/// A stretched rotation.
#[derive(Debug)]
pub(super) struct Scaled {
    scaling: &'static Scaling,
    /// how many times longer than the trained context the longest is; `None`: as much as the context needs
    factor: Option<f64>,
}

impl Scaled {
    pub(super) fn parse(
        scaling: &'static Scaling,
        parameters: &mut Parameters<'_>,
    ) -> Result<Scaled, ParameterError> {
        const EXPECTED: &str = "a number above 1, at most 1000";
        let factor: Option<f64> = parameters.value("factor", EXPECTED)?;
        match factor {
            Some(factor) if !(factor > 1.0 && factor <= 1000.0) => {
                Err(ParameterError::value("factor", factor, EXPECTED))
            }
            factor => Ok(Scaled { scaling, factor }),
        }
    }
}

impl Choice for Scaled {
    fn spelled(&self) -> String {
        Spelling::new(self.scaling.name).with("factor", self.factor).end()
    }

    fn resolve(&self, trained: Trained<'_>, n_ctx: usize) -> Result<Resolved, PositionError> {
        if trained.rope.scaling != RopeScaling::None {
            let reason = "it has a scaling of its own; use linear or adaptive".to_owned();
            return Err(PositionError::Model { name: self.spelled(), reason });
        }
        let needed = (n_ctx as f64 / trained.n_ctx as f64).max(1.0);
        let factor = self.factor.unwrap_or(needed);
        Ok(Resolved {
            choice: Arc::new(Scaled { scaling: self.scaling, factor: Some(factor) }),
            map: Arc::new(Linear),
            rope: (self.scaling.rope)(trained, factor),
            longest: (trained.n_ctx as f64 * factor) as usize,
            fix: "raise the factor",
        })
    }
}
