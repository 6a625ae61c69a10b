//! A server from its beginning to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lossy_engine::PAGE_TOKENS;
use lossy_engine::prefix_cache::{PrefixCache, PrefixCacheOptions};

use crate::app::App;
use crate::counters::Counters;
use crate::http::guard::Guard;
use crate::http::listen::Listener;
use crate::options::ServerOptions;
use crate::router::router;
use crate::served::Served;
use crate::work::{Engine, WorkerOptions};

/// How often a server that ends looks whether all is done.
const POLL: Duration = Duration::from_millis(20);
/// What is left of answers that are finished is sent in this time.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// the address
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// where
        address: String,
        /// why not
        error: std::io::Error,
    },
    /// the directory for documents
    #[error("--cache-dir: {0}")]
    Documents(String),
    /// a thread, or the runtime
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// Serves a model until `ended` is ready; then refuses new requests, and waits for those that run as long as
/// [`ServerOptions::drain`] says. `ready` is called with the URL when the server listens.
///
/// # Errors
/// The address is in use, or the directory for documents cannot be used.
///
/// # Panics
/// The model has no setting.
pub fn serve(
    engine: lossy_engine::Engine,
    served: Served,
    options: ServerOptions,
    ready: impl FnOnce(&str) + Send,
    ended: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let budget = engine.budget().limit();
    let bytes_per_page = served.usual().cache.bytes_per_token() * PAGE_TOKENS;
    let counters = Arc::new(Counters::new(PAGE_TOKENS, budget.map(|budget| budget / bytes_per_page.max(1))));
    let documents = PrefixCache::new(PrefixCacheOptions {
        ram: options.documents.ram,
        directory: options.documents.directory.clone(),
        disk: options.documents.disk,
    })
    .map_err(|error| ServeError::Documents(error.to_string()))?;
    let caches = served.settings.iter().map(|setting| setting.cache.clone()).collect();
    let work = WorkerOptions {
        parallel: options.limits.parallel,
        waiting: options.limits.waiting,
        tokenizer: served.tokenizer.clone(),
        notes: options.notes.clone(),
    };
    let engine = Engine::start(engine, caches, documents, counters.clone(), work)?;
    let guard = Guard::new(options.access.clone(), &options.address);
    let (address, limits, drain) = (options.address.clone(), options.limits, options.drain);
    let app = Arc::new(App { served, engine, kv_budget: budget, counters, options, guard });
    runtime.block_on(async {
        let listen = |error| ServeError::Listen { address: format!("{address:?}"), error };
        let listener = Listener::bind(&address).await.map_err(listen)?;
        ready(&listener.url());
        let draining = app.clone();
        // Until all has ended, whoever asks is told so.
        let ended = async move {
            ended.await;
            draining.engine.drain();
            let until = Instant::now() + drain;
            while draining.engine.is_alive() && Instant::now() < until {
                tokio::time::sleep(POLL).await;
            }
        };
        listener.serve(router(app.clone()), limits, ended, LAST_BYTES).await;
        Ok::<(), ServeError>(())
    })?;
    // Connections that are still open end here, and with them the work for them.
    runtime.shutdown_timeout(Duration::from_millis(100));
    app.engine.drain();
    app.engine.join();
    Ok(())
}
