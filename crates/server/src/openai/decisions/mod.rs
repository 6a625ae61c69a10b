//! `/v1/decisions`: questions with a fixed set of answers about one input.
//!
//! Each question is a prompt of its own that begins with the input. The cache has what they have in common, so the input is read
//! once. What is told of an answer comes from the log-probabilities after the prompt; nothing is generated.

mod fields;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use lossy_engine::{GenerationOptions, SamplingOptions};
use lossy_output::decision::{Answer, Asker, Prompt, Question};
use lossy_tokenizer::RenderOptions;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

pub use self::fields::DecisionFields;
use super::responses::{ResponseUsage, items};
use crate::app::{App, aside};
use crate::error::{ApiError, ErrorBody};
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream;
use crate::work::{Event, Job, Outline, Reply, Timings};

/// Questions that the engine has at a time: others who wait get their turn.
const MOST_AT_ONCE: usize = 16;

/// What the model thinks of all questions.
#[derive(Serialize, ToSchema)]
pub struct Decision {
    /// the model
    model: String,
    /// in the order of the questions
    #[schema(value_type = Vec<Value>)]
    answers: Vec<Answer>,
    usage: ResponseUsage,
}

/// Answers questions about an input with probabilities
#[utoipa::path(post, path = "/v1/decisions", request_body = DecisionFields,
               responses((status = 200, body = Decision), (status = 400, body = ErrorBody),
                         (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Decision>, ApiError> {
    let app_aside = app.clone();
    let asked = aside(move || prepare(&app_aside, &caller, &body)).await?;
    let (answers, usage) = decide(&app, asked).await?;
    Ok(Json(Decision { model: app.served.id.clone(), answers, usage }))
}

/// Questions that can be asked.
struct Asked {
    questions: Vec<Question>,
    prompts: Vec<Prompt>,
    setting: usize,
    scope: lossy_engine::prefix_cache::Scope,
}

fn prepare(app: &App, caller: &Caller, body: &Body) -> Result<Asked, ApiError> {
    let fields: DecisionFields = body.read()?;
    app.check_model(fields.model.as_deref())?;
    let served = &app.served;
    let questions = fields.questions()?;
    let setting = served.setting(fields.kv.as_deref(), fields.positions.as_deref())?;
    let messages = items::read(None, &fields.input, app.options.keep_billing_header)?;
    let mut extra = served.template_variables.clone();
    extra.extend(fields.chat_template_kwargs.clone().unwrap_or_default());
    let options = RenderOptions { extra, ..RenderOptions::default() };
    let wrong = |error: lossy_output::decision::LabelError| ApiError::invalid("questions", error.to_string());
    let asker = Asker::new(&served.tokenizer, served.template("input")?, options).map_err(wrong)?;
    let prompts = asker.prompts(&messages, &questions).map_err(wrong)?;
    for prompt in &prompts {
        app.check_length("input", setting, prompt.ids.len())?;
    }
    Ok(Asked { questions, prompts, setting, scope: app.scope(caller, fields.cache_salt.as_deref()) })
}

async fn decide(app: &App, asked: Asked) -> Result<(Vec<Answer>, ResponseUsage), ApiError> {
    let (sender, mut events) = mpsc::unbounded_channel();
    let submit = |index: usize| {
        let prompt = &asked.prompts[index];
        let sampling = SamplingOptions { logprobs_of: prompt.labels.clone(), ..SamplingOptions::greedy() };
        let options = GenerationOptions { sampling, max_tokens: Some(1), ..GenerationOptions::default() };
        app.engine.submit(vec![Job {
            prompt: prompt.ids.clone().into(),
            options,
            mask: None,
            setting: asked.setting,
            scope: asked.scope,
            outline: Arc::new(Outline::default()),
            reply: Reply { index, sender: sender.clone() },
        }])
    };
    let n = asked.questions.len();
    let mut n_submitted = 0;
    while n_submitted < n.min(MOST_AT_ONCE) {
        submit(n_submitted)?;
        n_submitted += 1;
    }
    let mut answers: Vec<Option<Answer>> = vec![None; n];
    let mut total = Timings::default();
    let (mut n_done, mut cached) = (0, None);
    while n_done < n {
        let (index, event) = stream::next(&mut events).await?;
        match event {
            Event::Admitted(admission) => {
                // Questions after the first find what the first has read.
                cached.get_or_insert(admission.n_cached);
            }
            Event::Step(step) => {
                answers[index] = Some(Answer::of(&asked.questions[index], &step.sampled.logprobs_of));
            }
            Event::Done(outcome) => {
                n_done += 1;
                total.prompt_n += outcome.timings.prompt_n;
                if n_submitted < n {
                    submit(n_submitted)?;
                    n_submitted += 1;
                }
            }
            Event::Reading(_) | Event::Prompt(_) | Event::Failed(_) => {}
        }
    }
    total.cache_n = cached.unwrap_or_default();
    let answers: Option<Vec<Answer>> = answers.into_iter().collect();
    let answers = answers.ok_or_else(|| ApiError::internal("a question has no answer"))?;
    Ok((answers, ResponseUsage::of(&total, 0)))
}

/// Reads a body up to where the model is needed.
pub(crate) fn read_body(body: &Body) {
    if let Ok(fields) = body.read::<DecisionFields>() {
        let _ = fields.questions();
        let _ = items::read(None, &fields.input, false);
    }
}
