//! What all handlers share.

use std::sync::Arc;

use lossy_engine::RequestError;
use lossy_engine::prefix_cache::Scope;
use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::error::ApiError;
use crate::http::guard::{Caller, Guard};
use crate::http::stream::Events;
use crate::options::ServerOptions;
use crate::served::Served;
use crate::work::{Engine, Job, Reply};

/// A server.
pub struct App {
    /// the model
    pub served: Served,
    /// its thread
    pub engine: Engine,
    /// most bytes of KV caches; `None`: as many as there are
    pub kv_budget: Option<usize>,
    /// what `/metrics` says
    pub counters: Arc<Counters>,
    /// how it is run
    pub options: ServerOptions,
    /// who may ask
    pub guard: Guard,
}

impl App {
    /// Whose pages a request may share: those of the same key and salt.
    pub fn scope(&self, caller: &Caller, salt: Option<&str>) -> Scope {
        Scope::new(&[&caller.key, salt.unwrap_or_default().as_bytes()])
    }

    /// Fails if a request asks for another model than the one that is served: by its name, an alias, or no name.
    pub fn check_model(&self, name: Option<&str>) -> Result<(), ApiError> {
        match name {
            Some(name) if name != self.served.id && !self.options_allow(name) => {
                Err(ApiError::no_model(format!(
                    "model `{name}` is not served here, but `{}` is: ask for that, or leave `model` out",
                    self.served.id
                )))
            }
            _ => Ok(()),
        }
    }

    fn options_allow(&self, name: &str) -> bool {
        // Clients that must name a model, and do not know which.
        matches!(name, "" | "default" | "lossy") || self.options.aliases.iter().any(|alias| alias == name)
    }

    /// Fails if a prompt, which stands in field `param`, is empty or longer than the context.
    pub fn check_length(&self, param: &str, setting: usize, n_prompt: usize) -> Result<(), ApiError> {
        let n_ctx = self.served.settings[setting].cache.n_ctx();
        match n_prompt {
            0 => Err(RequestError::EmptyPrompt.into()),
            n_prompt if n_prompt > n_ctx => Err(ApiError::too_long(param, n_prompt, n_ctx)),
            _ => Ok(()),
        }
    }

    /// Runs jobs, which are made with a place to send their events to.
    ///
    /// # Errors
    /// The queue is full, the server ends, or a job cannot be made.
    pub fn run(
        &self,
        n: usize,
        mut job: impl FnMut(Reply) -> Result<Job, ApiError>,
    ) -> Result<Events, ApiError> {
        let (sender, events) = mpsc::unbounded_channel();
        let jobs = (0..n)
            .map(|index| job(Reply { index, sender: sender.clone() }))
            .collect::<Result<Vec<_>, _>>()?;
        self.engine.submit(jobs)?;
        Ok(events)
    }
}

/// Work that takes a while, away from the threads that speak with clients.
///
/// # Errors
/// Those of the work; and if it panics.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ApiError::internal(format!("the request could not be prepared: {error}")))
    })
}
