//! `/v1/models`: what is served, and what it costs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{ApiError, ErrorBody};
use crate::served::LossReport;

/// The models.
#[derive(Serialize, ToSchema)]
pub struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// tokens of a context; vLLM's name
    max_model_len: usize,
    meta: ModelMeta,
}

/// Its shape, and what its settings cost.
#[derive(Serialize, ToSchema)]
pub struct ModelMeta {
    n_ctx_train: usize,
    n_ctx: usize,
    n_vocab: usize,
    n_embd: usize,
    n_params: u64,
    /// bytes of the weights in memory
    size: usize,
    /// the usual setting first
    loss: Vec<LossReport>,
}

fn model(app: &App) -> Model {
    let served = &app.served;
    let n_ctx = served.usual().cache.n_ctx();
    Model {
        id: served.id.clone(),
        object: "model",
        created: served.made.created,
        owned_by: "lossy",
        max_model_len: n_ctx,
        meta: ModelMeta {
            n_ctx_train: served.info.n_ctx_train,
            n_ctx,
            n_vocab: served.info.n_vocab,
            n_embd: served.info.n_embd,
            n_params: served.info.n_params,
            size: served.weight_bytes,
            loss: served.settings.iter().map(|setting| setting.report()).collect(),
        },
    }
}

/// The models that are served: one
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = ModelList)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![model(&app)] })
}

/// A model
#[utoipa::path(get, path = "/v1/models/{id}", params(("id" = String, Path)),
               responses((status = 200, body = Model), (status = 404, body = ErrorBody)))]
pub async fn get(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Model>, ApiError> {
    app.check_model(Some(&id))?;
    Ok(Json(model(&app)))
}
