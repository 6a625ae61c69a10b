//! `--reference-model`: another model to compare with.

use anyhow::Result;
use lossy_engine::{Engine, EngineOptions};
use lossy_eval::NamedEngine;

use crate::hub;
use crate::loaded::{in_file, open};
use crate::loss::file_name;

/// The model, loaded beside the one that is measured.
pub struct OtherModel {
    engine: Engine,
    name: String,
}

impl OtherModel {
    /// A file, or a model of the hub.
    ///
    /// # Errors
    /// It is no model, or one that cannot be run.
    pub fn load(name: &str, options: &EngineOptions) -> Result<OtherModel> {
        let path = hub::resolve(name)?;
        let source = open(&path)?;
        let engine = Engine::load(&source, options).map_err(in_file(&path))?;
        Ok(OtherModel { engine, name: file_name(&path) })
    }

    /// As a reference.
    pub fn named(&mut self) -> NamedEngine<'_> {
        NamedEngine { engine: &mut self.engine, name: self.name.clone() }
    }
}
