//! How the server is: for people, dashboards and routers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;
use crate::served::LossReport;
use crate::work::Slot;

/// Whether it answers.
#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
}

/// Whether requests are answered
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn health(State(app): State<Arc<App>>) -> Response {
    let status = match (app.engine.is_ending(), app.engine.is_alive()) {
        (true, _) => "shutting down",
        (_, false) => "the engine has ended",
        _ => return Json(Health { status: "ok" }).into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status })).into_response()
}

/// The program.
#[derive(Serialize, ToSchema)]
pub struct Version {
    version: &'static str,
}

/// The program's version
#[utoipa::path(get, path = "/version", responses((status = 200, body = Version)))]
pub async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// What is served and how.
#[derive(Serialize, ToSchema)]
pub struct ServerInfo {
    model_id: String,
    model_path: String,
    version: &'static str,
    max_model_len: usize,
    /// requests that run at once
    max_running_requests: usize,
    running: usize,
    /// bytes of the KV cache in use
    kv_cache_bytes: usize,
    /// of those, of documents that no request uses
    kv_cache_idle_bytes: usize,
    /// bytes that the KV cache may use; null: as many as there are
    kv_cache_budget_bytes: Option<usize>,
}

/// What is served and how
#[utoipa::path(get, path = "/server_info", responses((status = 200, body = ServerInfo)))]
pub async fn server_info(State(app): State<Arc<App>>) -> Json<ServerInfo> {
    let snapshot = app.engine.snapshot();
    Json(ServerInfo {
        model_id: app.served.id.clone(),
        model_path: app.served.path.clone(),
        version: env!("CARGO_PKG_VERSION"),
        max_model_len: app.served.usual().cache.n_ctx(),
        max_running_requests: app.options.limits.parallel,
        running: snapshot.slots.len(),
        kv_cache_bytes: snapshot.cache_bytes,
        kv_cache_idle_bytes: snapshot.idle_bytes,
        kv_cache_budget_bytes: app.kv_budget,
    })
}

/// How much there is to do.
#[derive(Serialize, ToSchema)]
pub struct Load {
    /// requests that run or wait
    load: usize,
}

/// How much there is to do, for routers that send requests where least is
#[utoipa::path(get, path = "/get_load", responses((status = 200, body = Load)))]
pub async fn load(State(app): State<Arc<App>>) -> Json<Load> {
    Json(Load { load: app.engine.snapshot().slots.len() + app.engine.n_waiting() })
}

/// What the model is, in SGLang's words.
#[derive(Serialize, ToSchema)]
pub struct ModelFacts {
    model_path: String,
    /// as `/v1/models` has it
    served_model_name: String,
    /// its architecture, in the file's own word
    model_type: String,
    /// whether it generates text; others embed
    is_generation: bool,
    /// tokens of a context
    context_length: usize,
}

/// What the model is, for routers
#[utoipa::path(get, path = "/model_info", responses((status = 200, body = ModelFacts)))]
pub async fn model_info(State(app): State<Arc<App>>) -> Json<ModelFacts> {
    let served = &app.served;
    Json(ModelFacts {
        model_path: served.path.clone(),
        served_model_name: served.id.clone(),
        model_type: served.info.architecture.clone(),
        is_generation: true,
        context_length: served.usual().cache.n_ctx(),
    })
}

/// Properties, in llama-server's words.
#[derive(Serialize, ToSchema)]
pub struct Props {
    default_generation_settings: GenerationSettings,
    total_slots: usize,
    model_path: String,
    model_alias: String,
    chat_template: String,
    bos_token: String,
    eos_token: String,
    build_info: String,
    is_sleeping: bool,
    /// what each setting costs, the usual one first
    loss: Vec<LossReport>,
}

/// How an answer is generated that says nothing about it.
#[derive(Serialize, ToSchema)]
struct GenerationSettings {
    n_ctx: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
}

/// Properties of the model and the server
#[utoipa::path(get, path = "/props", responses((status = 200, body = Props)))]
pub async fn props(State(app): State<Arc<App>>) -> Json<Props> {
    let served = &app.served;
    let sampling = &app.options.defaults.sampling;
    let text =
        |id: Option<u32>| id.and_then(|id| served.tokenizer.token_text(id)).unwrap_or_default().to_string();
    Json(Props {
        default_generation_settings: GenerationSettings {
            n_ctx: served.usual().cache.n_ctx(),
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
        },
        total_slots: app.options.limits.parallel,
        model_path: served.path.clone(),
        model_alias: served.id.clone(),
        chat_template: served
            .template
            .as_ref()
            .map_or(String::new(), |template| template.source().to_string()),
        bos_token: text(served.tokenizer.bos()),
        eos_token: text(served.tokenizer.eos()),
        build_info: concat!("lossy ", env!("CARGO_PKG_VERSION")).to_string(),
        is_sleeping: false,
        loss: served.settings.iter().map(|setting| setting.report()).collect(),
    })
}

/// The places for requests that run; those that nobody has come last
#[utoipa::path(get, path = "/slots", responses((status = 200, body = Vec<Slot>)))]
pub async fn slots(State(app): State<Arc<App>>) -> Json<Vec<Slot>> {
    let mut slots = app.engine.snapshot().slots;
    let n_ctx = app.served.usual().cache.n_ctx();
    for id in slots.len()..app.options.limits.parallel {
        slots.push(Slot { id, n_ctx, ..Slot::default() });
    }
    Json(slots)
}

/// Counters, as Prometheus reads them
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    if !app.options.metrics {
        return Err(ApiError::not_found("metrics are switched off (--no-metrics)"));
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], app.counters.render()).into_response())
}
