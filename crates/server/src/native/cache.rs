//! `/cache`: erasing documents that stay loaded.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::ApiError;
use crate::http::guard::Caller;

/// Which documents.
#[derive(Deserialize, IntoParams)]
pub struct PurgeQuery {
    /// those of requests with this salt
    cache_salt: Option<String>,
}

/// What was erased.
#[derive(Serialize, ToSchema)]
pub struct Purged {
    /// pages of 128 tokens, in memory and on the disk
    pages: usize,
}

/// Erases the cached documents of the key that asks and of a salt; where no key is needed, and no salt is named, all
#[utoipa::path(delete, path = "/cache", params(PurgeQuery), responses((status = 200, body = Purged)))]
pub async fn purge(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PurgeQuery>,
) -> Result<Json<Purged>, ApiError> {
    let salt = query.cache_salt.as_deref();
    let is_one = !app.options.access.keys.is_empty() || salt.is_some();
    let scope = is_one.then(|| app.scope(&caller, salt));
    Ok(Json(Purged { pages: app.engine.purge(scope).await? }))
}
