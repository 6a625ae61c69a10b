//! `/v1/completions`

mod fields;
mod logprobs;
mod streamed;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use lossy_engine::GenerationOptions;
use lossy_output::Constraint;
use lossy_tokenizer::EncodeOptions;
use serde::Serialize;
use utoipa::ToSchema;

pub use self::fields::CompletionRequest;
use self::fields::{CompletionFields, Prompts};
use self::logprobs::CompletionLogprobs;
use self::streamed::CompletionStream;
use super::form::FormFields;
use super::rendered::{Asked, RenderedPrompt};
use super::usage::{Head, Usage};
use crate::app::{App, aside};
use crate::error::{ApiError, ErrorBody};
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream::{self, Events};
use crate::request::{MOST_LOGPROBS, SamplingFields};
use crate::work::{Event, Job, Outline, Timings};

/// Whole answers.
#[derive(Serialize, ToSchema)]
pub struct Completion {
    #[serde(flatten)]
    head: Head,
    choices: Vec<CompletionChoice>,
    usage: Usage,
    /// of the first answer
    timings: Timings,
}

/// One of several answers.
#[derive(Serialize, ToSchema)]
pub struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
}

/// A text that goes on.
struct OnePrompt {
    ids: Arc<[u32]>,
    text: String,
}

/// A completion request that can be run.
struct Prepared {
    prompts: Vec<OnePrompt>,
    n: usize,
    options: GenerationOptions,
    seed: u64,
    setting: usize,
    salt: Option<String>,
    constraint: Option<Constraint>,
    fields: CompletionFields,
}

/// Most tokens of an answer that says nothing about it: OpenAI's default, for this interface.
const MOST_TOKENS: usize = 16;

/// Fields that change an answer and are not computed.
const REFUSED: [(&str, &str); 4] = [
    ("prompt_logprobs", "use `echo` with `logprobs`"),
    ("guided_regex", "use `grammar`"),
    ("guided_grammar", "use `grammar`"),
    ("guided_json", "use `json_schema`"),
];

fn prepare(app: &App, body: &Body) -> Result<Prepared, ApiError> {
    body.refuse(&REFUSED)?;
    let fields: CompletionFields = body.read()?;
    let sampling: SamplingFields = body.read()?;
    let form: FormFields = body.read()?;
    app.check_model(fields.model.as_deref())?;
    let n = sampling.n(app.options.limits.n)?;
    if fields.best_of.is_some_and(|best_of| best_of != n as u64) {
        return Err(ApiError::invalid(
            "best_of",
            "best_of must be n: no answer is chosen among several here",
        ));
    }
    if fields.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        let message = "suffix is not supported: put the model's own tokens for filling in into the prompt";
        return Err(ApiError::invalid("suffix", message));
    }
    let seed = sampling.seed(app.options.seed)?;
    let setting = app.served.setting(sampling.kv.as_deref(), sampling.positions.as_deref())?;
    let mut options = sampling.options(&app.options.defaults, app.served.info.n_vocab, seed)?;
    if sampling.limit().is_none() && options.max_tokens.is_none() {
        (options.max_tokens, options.stop_cycles) = (Some(MOST_TOKENS), false);
    }
    if let Some(n) = fields.logprobs {
        if n as usize > MOST_LOGPROBS {
            let message = format!("logprobs is {n}, but must be at most {MOST_LOGPROBS}");
            return Err(ApiError::invalid("logprobs", message));
        }
        options.sampling.n_logprobs = Some(n as usize);
        options.prompt_logprobs = fields.echo == Some(true);
    }
    let prompts = prompts(app, &fields)?;
    for prompt in &prompts {
        app.check_length("prompt", setting, prompt.ids.len())?;
    }
    if prompts.len() * n > app.options.limits.waiting {
        let message = format!("{} prompts with {n} answers are more than may wait at once", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let constraint = form.read(app)?.map(|form| form.constraint);
    Ok(Prepared { prompts, n, options, seed, setting, salt: sampling.cache_salt, constraint, fields })
}

fn prompts(app: &App, fields: &CompletionFields) -> Result<Vec<OnePrompt>, ApiError> {
    let tokenizer = &app.served.tokenizer;
    let of_text = |text: &String| -> Result<OnePrompt, ApiError> {
        let options = EncodeOptions { parse_special: true, ..EncodeOptions::default() };
        let ids = tokenizer
            .encode(text, options)
            .map_err(|error| ApiError::invalid("prompt", error.to_string()))?;
        Ok(OnePrompt { ids: ids.into(), text: text.clone() })
    };
    let n_vocab = app.served.info.n_vocab;
    let of_ids = |ids: &Vec<u32>| match ids.iter().find(|id| **id as usize >= n_vocab) {
        Some(id) => Err(ApiError::invalid(
            "prompt",
            format!("token {id} is not among the {n_vocab} of the vocabulary"),
        )),
        None => Ok(OnePrompt { text: tokenizer.decode(ids, false), ids: ids.as_slice().into() }),
    };
    let prompts = match &fields.prompt {
        Prompts::Text(text) => vec![of_text(text)?],
        Prompts::Texts(texts) => texts.iter().map(of_text).collect::<Result<_, _>>()?,
        Prompts::Ids(ids) => vec![of_ids(ids)?],
        Prompts::IdLists(lists) => lists.iter().map(of_ids).collect::<Result<_, _>>()?,
    };
    if prompts.is_empty() || prompts.iter().any(|prompt| prompt.ids.is_empty()) {
        return Err(ApiError::invalid("prompt", "the prompt is empty: there is no token to continue from"));
    }
    Ok(prompts)
}

impl Prepared {
    fn prompt_of(&self, index: usize) -> &OnePrompt {
        &self.prompts[index / self.n]
    }

    fn run(&self, app: &App, caller: &Caller) -> Result<Events, ApiError> {
        let scope = app.scope(caller, self.salt.as_deref());
        app.run(self.prompts.len() * self.n, |reply| {
            let mut options = self.options.clone();
            options.sampling.seed = self.seed.wrapping_add((reply.index % self.n) as u64);
            Ok(Job {
                prompt: self.prompt_of(reply.index).ids.clone(),
                options,
                mask: self.constraint.as_ref().map(Constraint::mask),
                setting: self.setting,
                scope,
                outline: Arc::new(Outline::default()),
                reply,
            })
        })
    }

    fn answers(&self) -> Vec<Answer> {
        let echo = self.fields.echo == Some(true);
        (0..self.prompts.len() * self.n)
            .map(|index| {
                let text = if echo { self.prompt_of(index).text.clone() } else { String::new() };
                Answer { text, ..Answer::default() }
            })
            .collect()
    }
}

/// An answer in the making.
#[derive(Default)]
struct Answer {
    /// what has not been sent yet
    text: String,
    logprobs: CompletionLogprobs,
    end: Option<(&'static str, Timings)>,
}

impl Answer {
    fn take(&mut self, app: &App, prompt: &OnePrompt, event: Event) -> Result<(), ApiError> {
        let tokenizer = &app.served.tokenizer;
        match event {
            Event::Prompt(predicted) => {
                self.logprobs.push_first(tokenizer, prompt.ids[0]);
                predicted.iter().for_each(|sampled| self.logprobs.push(tokenizer, sampled));
            }
            Event::Step(step) => {
                self.text.push_str(&step.text);
                if step.sampled.logprob.is_some() {
                    self.logprobs.push(tokenizer, &step.sampled);
                }
            }
            Event::Done(outcome) => {
                self.text.push_str(&outcome.rest);
                self.end = Some((outcome.reason(), outcome.timings));
            }
            Event::Failed(error) => return Err(error),
            Event::Admitted(_) | Event::Reading(_) => {}
        }
        Ok(())
    }
}

/// Tokens and times of all answers.
fn total<'a>(prepared: &Prepared, ends: impl Iterator<Item = &'a Timings>) -> Usage {
    let ends: Vec<&Timings> = ends.collect();
    let mut usage = Usage::default();
    for of_prompt in ends.chunks(prepared.n) {
        usage.add_prompt(&Usage::of(of_prompt.iter().copied()));
    }
    usage
}

/// Continues texts
#[utoipa::path(post, path = "/v1/completions", request_body = CompletionRequest,
               responses((status = 200, body = Completion), (status = 400, body = ErrorBody),
                         (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, ApiError> {
    let app_aside = app.clone();
    let (prepared, mut events) = aside(move || {
        let prepared = prepare(&app_aside, &body)?;
        let events = prepared.run(&app_aside, &caller)?;
        Ok((prepared, events))
    })
    .await?;
    let mut answers = prepared.answers();
    if prepared.fields.stream == Some(true) {
        let heartbeat = app.options.heartbeat;
        return stream::respond(events, CompletionStream::new(app, prepared, answers), heartbeat).await;
    }
    while answers.iter().any(|answer| answer.end.is_none()) {
        let (index, event) = stream::next(&mut events).await?;
        answers[index].take(&app, prepared.prompt_of(index), event)?;
    }
    let usage = total(&prepared, answers.iter().flat_map(|answer| &answer.end).map(|(_, timings)| timings));
    let timings = answers.first().and_then(|answer| answer.end.as_ref());
    let timings = timings.map(|(_, timings)| timings.clone()).unwrap_or_default();
    let has_logprobs = prepared.fields.logprobs.is_some();
    let choices = answers.into_iter().enumerate().map(|(index, answer)| CompletionChoice {
        index,
        text: answer.text,
        logprobs: has_logprobs.then_some(answer.logprobs),
        finish_reason: answer.end.map(|(reason, _)| reason),
    });
    let head = Head::new("cmpl", "text_completion", &app.served.id);
    Ok(axum::Json(Completion { head, choices: choices.collect(), usage, timings }).into_response())
}

/// The tokens of each prompt; no text is generated
#[utoipa::path(post, path = "/v1/completions/render", request_body = CompletionRequest,
               responses((status = 200, body = Vec<RenderedPrompt>), (status = 400, body = ErrorBody)))]
pub async fn render(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<axum::Json<Vec<RenderedPrompt>>, ApiError> {
    aside(move || {
        body.refuse(&REFUSED)?;
        let fields: CompletionFields = body.read()?;
        let sampling: SamplingFields = body.read()?;
        app.check_model(fields.model.as_deref())?;
        let prompts = prompts(&app, &fields)?;
        let CompletionFields { model, stream, stream_options, .. } = fields;
        let (field, max_tokens) = ("prompt", Some(MOST_TOKENS));
        let asked = Asked { prefix: "cmpl-", field, model, stream, stream_options, max_tokens };
        let rendered = prompts.iter().map(|prompt| asked.with(&app, &sampling, prompt.ids.to_vec()));
        Ok(axum::Json(rendered.collect::<Result<_, _>>()?))
    })
    .await
}

/// Reads a body up to where the model is needed.
pub(crate) fn read_body(body: &Body) {
    let _ = (body.refuse(&REFUSED), body.read::<CompletionFields>());
}
