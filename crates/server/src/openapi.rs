//! The description of all endpoints, made from their types.

use utoipa::OpenApi;

use crate::anthropic;
use crate::native::{cache, status, template, tokens};
use crate::openai::{chat, completions, decisions, models, responses};

/// What `/openapi.json` says.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "lossy",
        description = "A model served over OpenAI's and Anthropic's interfaces, with what its KV cache costs"
    ),
    paths(
        chat::post,
        chat::render,
        completions::post,
        completions::render,
        decisions::post,
        responses::post,
        responses::count,
        responses::render_prompt,
        anthropic::post,
        anthropic::count,
        models::list,
        models::get,
        tokens::tokenize,
        tokens::detokenize,
        tokens::info,
        template::apply,
        status::health,
        status::version,
        status::server_info,
        status::model_info,
        status::load,
        status::props,
        status::slots,
        status::metrics,
        cache::purge,
    )
)]
pub struct Description;
