//! From turns and wishes to jobs for the engine.

use std::sync::Arc;

use lossy_engine::{GenerationOptions, Mask};
use lossy_output::{Constraint, Limits, PartParser, ThinkingFormat, ToolChoice, visible_tokens};

use super::answer::Answer;
use super::render::{Turns, render};
use super::tools::RequestTools;
use crate::app::{App, aside};
use crate::error::ApiError;
use crate::http::guard::Caller;
use crate::http::stream::Events;
use crate::request::{MOST_LOGPROBS, SamplingFields};
use crate::work::{Job, Outline};

/// What the answers are to be.
#[derive(Default)]
pub struct Wishes {
    /// how tokens are chosen, and how many answers there are
    pub sampling: SamplingFields,
    /// log-probabilities of the tokens, and of so many others in their place
    pub n_logprobs: Option<usize>,
    /// what the text of an answer must be
    pub form: Option<Form>,
    /// most tokens of thinking
    pub thinking_budget: Option<usize>,
}

/// What the text of an answer must be.
pub struct Form {
    /// the field of the request that says so
    pub field: &'static str,
    /// its rules
    pub constraint: Constraint,
}

/// What a schema or grammar may take.
pub fn limits(app: &App) -> Limits {
    Limits { bytes: app.options.limits.schema, ..Limits::default() }
}

/// A conversation that can be run.
pub struct Prepared {
    /// the tokens of the prompt
    pub prompt: Arc<[u32]>,
    outline: Arc<Outline>,
    /// of every answer but for its seed
    pub options: GenerationOptions,
    seed: u64,
    n: usize,
    setting: usize,
    salt: Option<String>,
    tools: RequestTools,
    /// how thinking is found in the text
    thinking: Option<ThinkingFormat>,
    /// whether the prompt has opened it already
    is_thinking: bool,
    constraint: Option<Constraint>,
    thinking_budget: Option<usize>,
}

/// Reads a request, prepares it and runs it, away from the threads that speak with clients.
///
/// # Errors
/// A field is wrong, the queue is full, or the server ends.
pub async fn begin<T: Send + 'static>(
    app: &Arc<App>,
    caller: Caller,
    read: impl FnOnce(&App) -> Result<(T, Turns, Wishes), ApiError> + Send + 'static,
) -> Result<(T, Prepared, Events), ApiError> {
    let app = app.clone();
    aside(move || {
        let (request, turns, wishes) = read(&app)?;
        let prepared = prepare(&app, turns, wishes)?;
        let events = prepared.run(&app, &caller)?;
        Ok((request, prepared, events))
    })
    .await
}

/// Renders the prompt, and compiles what constrains the answers.
///
/// # Errors
/// A field is wrong; it is named.
fn prepare(app: &App, turns: Turns, wishes: Wishes) -> Result<Prepared, ApiError> {
    let served = &app.served;
    let Wishes { sampling, n_logprobs, form, thinking_budget } = wishes;
    let n = sampling.n(app.options.limits.n)?;
    let seed = sampling.seed(app.options.seed)?;
    let setting = served.setting(sampling.kv.as_deref(), sampling.positions.as_deref())?;
    let mut options = sampling.options(&app.options.defaults, served.info.n_vocab, seed)?;
    if let Some(n) = n_logprobs.filter(|n| *n > MOST_LOGPROBS) {
        let message = format!("top_logprobs is {n}, but must be at most {MOST_LOGPROBS}");
        return Err(ApiError::invalid("top_logprobs", message));
    }
    options.sampling.n_logprobs = n_logprobs;
    let rendered = render(app, &turns)?;
    app.check_length(turns.field, setting, rendered.prompt.len())?;
    let thinking = served.thinking_format();
    let is_thinking = thinking.as_ref().is_some_and(|thinking| thinking.is_opened_by(&rendered.ends_with));
    options.visible = visible_tokens(&served.tokenizer, turns.tools.format, thinking);
    let constraint = constraint(app, form, &turns.tools)?;
    Ok(Prepared {
        prompt: rendered.prompt.into(),
        outline: Arc::new(rendered.outline),
        options,
        seed,
        n,
        setting,
        salt: sampling.cache_salt,
        tools: turns.tools,
        thinking,
        is_thinking,
        constraint,
        thinking_budget,
    })
}

impl Prepared {
    /// What limits the tokens of one answer.
    fn mask(&self, app: &App) -> Result<Option<Box<dyn Mask>>, ApiError> {
        let answer = self.constraint.as_ref().map(Constraint::mask);
        if self.thinking.is_none() || answer.is_none() && self.thinking_budget.is_none() {
            return Ok(answer);
        }
        let thinking = app.served.thinking()?;
        Ok(thinking.map(|thinking| thinking.mask(self.is_thinking, self.thinking_budget, answer)))
    }

    /// A job for each answer.
    ///
    /// # Errors
    /// The queue is full, or the server ends.
    fn run(&self, app: &App, caller: &Caller) -> Result<Events, ApiError> {
        let scope = app.scope(caller, self.salt.as_deref());
        app.run(self.n, |reply| {
            let mut options = self.options.clone();
            options.sampling.seed = self.seed.wrapping_add(reply.index as u64);
            Ok(Job {
                prompt: self.prompt.clone(),
                options,
                mask: self.mask(app)?,
                setting: self.setting,
                scope,
                outline: self.outline.clone(),
                reply,
            })
        })
    }

    /// The answers, before anything has come.
    pub fn answers(&self) -> Vec<Answer> {
        (0..self.n).map(|_| self.answer()).collect()
    }

    /// One of them.
    pub fn answer(&self) -> Answer {
        Answer::new(self.parser())
    }

    /// What cuts the text of an answer into its parts.
    fn parser(&self) -> PartParser {
        let mut parser = PartParser::new();
        if let Some(format) = self.tools.format {
            parser = parser.with_tools(format, &self.tools.tools);
        }
        if let Some(thinking) = self.thinking {
            parser = parser.with_thinking(thinking, self.is_thinking);
        }
        parser
    }
}

/// What the answer must be.
fn constraint(app: &App, form: Option<Form>, tools: &RequestTools) -> Result<Option<Constraint>, ApiError> {
    if let Some(Form { field, constraint }) = form {
        if tools.is_required() {
            let message = format!("{field} says what the answer is, but tool_choice wants a call");
            return Err(ApiError::invalid(field, message));
        }
        return Ok(Some(constraint));
    }
    let Some(format) = &tools.format else { return Ok(None) };
    // A function that is named is called once.
    let is_named = matches!(tools.choice, ToolChoice::Named(_));
    let parallel = tools.parallel && !is_named;
    format
        .constraint(&tools.tools, &tools.choice, parallel, app.served.vocabulary()?, &limits(app))
        .map_err(|error| ApiError::invalid("tools", error.to_string()))
}
