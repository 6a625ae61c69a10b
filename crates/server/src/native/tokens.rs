//! `/tokenize`, `/detokenize`, `/tokenizer_info`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lossy_tokenizer::EncodeOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::template::rendered;
use crate::app::{App, aside};
use crate::error::{ApiError, ErrorBody};
use crate::http::json::Body;

/// A text or a conversation.
#[derive(Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// a text; llama-server's name
    content: Option<String>,
    /// a text; vLLM's name
    prompt: Option<String>,
    /// a conversation, which the chat template makes a prompt of
    messages: Option<Vec<Value>>,
    /// with the tokens that begin a text; absent: no, and for `prompt` yes
    #[serde(alias = "add_special_tokens")]
    add_special: Option<bool>,
    /// whether the text of control tokens is read as such; absent: yes
    parse_special: Option<bool>,
    /// ids with their texts
    with_pieces: Option<bool>,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
pub struct Tokenized {
    /// ids; with `with_pieces` objects of `id` and `piece`
    tokens: Vec<Value>,
    /// how many
    count: usize,
    /// how many a context holds
    max_model_len: usize,
}

/// Text to ids
#[utoipa::path(post, path = "/tokenize", request_body = TokenizeRequest,
               responses((status = 200, body = Tokenized), (status = 400, body = ErrorBody)))]
pub async fn tokenize(State(app): State<Arc<App>>, body: Body) -> Result<Json<Tokenized>, ApiError> {
    aside(move || {
        let request: TokenizeRequest = body.read()?;
        let tokenizer = &app.served.tokenizer;
        let is_vllms = request.prompt.is_some();
        let ids = match (request.content.or(request.prompt), &request.messages) {
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("messages", "give a text or messages, not both"));
            }
            (None, None) => {
                return Err(ApiError::invalid("content", "give `content`, `prompt` or `messages`"));
            }
            (None, Some(_)) => rendered(&app, &body)?.prompt,
            (Some(text), None) => {
                let options = EncodeOptions {
                    add_special: request.add_special.unwrap_or(is_vllms),
                    parse_special: request.parse_special.unwrap_or(true),
                };
                let failed =
                    |error: lossy_tokenizer::TokenizerError| ApiError::invalid("content", error.to_string());
                tokenizer.encode(&text, options).map_err(failed)?
            }
        };
        let with_pieces = request.with_pieces == Some(true);
        let token = |id: &u32| match with_pieces {
            true => serde_json::json!({"id": id, "piece": tokenizer.decode(&[*id], false)}),
            false => Value::from(*id),
        };
        let max_model_len = app.served.usual().cache.n_ctx();
        Ok(Json(Tokenized { count: ids.len(), tokens: ids.iter().map(token).collect(), max_model_len }))
    })
    .await
}

/// Ids.
#[derive(Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// ids
    tokens: Vec<u32>,
}

/// A text, under both names.
#[derive(Serialize, ToSchema)]
pub struct Detokenized {
    /// llama-server's name
    content: String,
    /// vLLM's name
    prompt: String,
}

/// Ids to text
#[utoipa::path(post, path = "/detokenize", request_body = DetokenizeRequest,
               responses((status = 200, body = Detokenized), (status = 400, body = ErrorBody)))]
pub async fn detokenize(State(app): State<Arc<App>>, body: Body) -> Result<Json<Detokenized>, ApiError> {
    let request: DetokenizeRequest = body.read()?;
    let n_vocab = app.served.info.n_vocab;
    if let Some(id) = request.tokens.iter().find(|id| **id as usize >= n_vocab) {
        let message = format!("token {id} is not among the {n_vocab} of the vocabulary");
        return Err(ApiError::invalid("tokens", message));
    }
    let content = app.served.tokenizer.decode(&request.tokens, false);
    Ok(Json(Detokenized { prompt: content.clone(), content }))
}

/// Special tokens and the chat template.
#[derive(Serialize, ToSchema)]
pub struct TokenizerInfo {
    bos_token: Option<String>,
    eos_token: Option<String>,
    pad_token: Option<String>,
    chat_template: Option<String>,
    n_vocab: usize,
    /// as `/v1/models` has it
    model: String,
}

/// What the tokenizer is
#[utoipa::path(get, path = "/tokenizer_info", responses((status = 200, body = TokenizerInfo)))]
pub async fn info(State(app): State<Arc<App>>) -> Json<TokenizerInfo> {
    let served = &app.served;
    let text = |id: Option<u32>| id.and_then(|id| served.tokenizer.token_text(id)).map(str::to_string);
    let eos_token = text(served.tokenizer.eos());
    Json(TokenizerInfo {
        bos_token: text(served.tokenizer.bos()),
        pad_token: eos_token.clone(),
        eos_token,
        chat_template: served.template.as_ref().map(|template| template.source().to_string()),
        n_vocab: served.info.n_vocab,
        model: served.id.clone(),
    })
}

/// Reads a body up to where the model is needed.
pub(crate) fn read_body(body: &Body) {
    let _ = (body.read::<TokenizeRequest>().is_ok(), body.read::<DetokenizeRequest>().is_ok());
}
