//! From a chat request to jobs for the engine.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lossy_engine::{GenerationOptions, Mask};
use lossy_output::{Constraint, PartParser, ThinkingFormat, ToolChoice, visible_tokens};
use lossy_tokenizer::{Message, RenderOptions};
use serde_json::Value;

use super::fields::{ChatFields, REFUSED};
use super::tools::RequestTools;
use crate::app::App;
use crate::error::ApiError;
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream::Events;
use crate::openai::form::{FormFields, limits};
use crate::openai::messages;
use crate::request::{MOST_LOGPROBS, SamplingFields};
use crate::work::{Job, Outline, Part};

/// A chat request that can be run.
pub struct Prepared {
    pub prompt: Arc<[u32]>,
    outline: Arc<Outline>,
    pub options: GenerationOptions,
    seed: u64,
    pub n: usize,
    setting: usize,
    salt: Option<String>,
    pub fields: ChatFields,
    tools: RequestTools,
    /// how thinking is found in the text
    thinking: Option<ThinkingFormat>,
    /// whether the prompt has opened it already
    is_thinking: bool,
    constraint: Option<Constraint>,
    /// most tokens of thinking
    budget: Option<usize>,
}

/// Reads a request, renders its prompt, and compiles what constrains its answer.
///
/// # Errors
/// A field is wrong; it is named.
pub fn prepare(app: &App, body: &Body) -> Result<Prepared, ApiError> {
    body.refuse(&REFUSED)?;
    let fields: ChatFields = body.read()?;
    let sampling: SamplingFields = body.read()?;
    let form: FormFields = body.read()?;
    app.check_model(fields.model.as_deref())?;
    let served = &app.served;
    let n = sampling.n(app.options.limits.n)?;
    let seed = sampling.seed(app.options.seed)?;
    let setting = served.setting(sampling.kv.as_deref(), sampling.positions.as_deref())?;
    let mut options = sampling.options(&app.options.defaults, served.info.n_vocab, seed)?;
    options.sampling.n_logprobs = n_logprobs(&fields)?;
    let tools = RequestTools::read(&fields, served)?;
    let rendered = render(app, &fields, &tools)?;
    app.check_length("messages", setting, rendered.prompt.len())?;
    let thinking = served.thinking_format();
    let is_thinking = thinking.as_ref().is_some_and(|thinking| thinking.is_opened_by(&rendered.ends_with));
    options.visible = visible_tokens(&served.tokenizer, tools.format, thinking);
    let constraint = constraint(app, &form, &fields, &tools)?;
    let budget = match fields.thinking_token_budget {
        None | Some(-1) => None,
        Some(n) => Some(usize::try_from(n).map_err(|_| {
            let message = format!("thinking_token_budget is {n}, but must be at least -1");
            ApiError::invalid("thinking_token_budget", message)
        })?),
    };
    Ok(Prepared {
        prompt: rendered.prompt.into(),
        outline: Arc::new(rendered.outline),
        options,
        seed,
        n,
        setting,
        salt: sampling.cache_salt,
        tools,
        thinking,
        is_thinking,
        constraint,
        budget,
        fields,
    })
}

impl Prepared {
    /// What limits the tokens of one answer.
    fn mask(&self, app: &App) -> Result<Option<Box<dyn Mask>>, ApiError> {
        let answer = self.constraint.as_ref().map(Constraint::mask);
        if self.thinking.is_none() || answer.is_none() && self.budget.is_none() {
            return Ok(answer);
        }
        let thinking = app.served.thinking()?;
        Ok(thinking.map(|thinking| thinking.mask(self.is_thinking, self.budget, answer)))
    }

    /// A job for each answer.
    ///
    /// # Errors
    /// The queue is full, or the server ends.
    pub fn run(&self, app: &App, caller: &Caller) -> Result<Events, ApiError> {
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

    /// What cuts the text of an answer into its parts.
    pub fn parser(&self) -> PartParser {
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

fn n_logprobs(fields: &ChatFields) -> Result<Option<usize>, ApiError> {
    let n = fields.top_logprobs.map_or(0, |n| n as usize);
    if n > MOST_LOGPROBS {
        let message = format!("top_logprobs is {n}, but must be at most {MOST_LOGPROBS}");
        return Err(ApiError::invalid("top_logprobs", message));
    }
    match fields.logprobs {
        Some(true) => Ok(Some(n)),
        _ if n > 0 => Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true")),
        _ => Ok(None),
    }
}

/// A prompt, what it consists of, and the words that end it.
pub struct RenderedChat {
    pub prompt: Vec<u32>,
    pub outline: Outline,
    pub ends_with: String,
}

/// The prompt of a conversation.
///
/// # Errors
/// A message is wrong; the template refuses it, or has no place for it.
pub fn render(app: &App, fields: &ChatFields, tools: &RequestTools) -> Result<RenderedChat, ApiError> {
    let served = &app.served;
    let template = served.template()?;
    let mut messages = messages::read(&fields.messages, app.options.keep_billing_header)?;
    let mut extra = served.template_variables.clone();
    if let Some(effort) = &fields.reasoning_effort {
        extra.insert("reasoning_effort".to_string(), Value::String(effort.clone()));
        extra.insert("enable_thinking".to_string(), Value::Bool(effort != "none"));
    }
    extra.extend(fields.chat_template_kwargs.clone().unwrap_or_default());
    let told = tools.tell(&mut messages, served);
    let mut hash = DefaultHasher::new();
    (template.source(), serde_json::to_string(&extra).unwrap_or_default()).hash(&mut hash);
    let options = RenderOptions {
        add_generation_prompt: fields.add_generation_prompt.unwrap_or(true),
        tools: told,
        extra,
    };
    let prompt = template.encode_outlined(&served.tokenizer, &messages, &options)?;
    let part = |(index, message): (usize, &Message)| {
        Some(Part { start: prompt.starts[index]?, message: index, role: message.role.clone() })
    };
    let mut parts: Vec<Part> = messages.iter().enumerate().filter_map(part).collect();
    parts.sort_by_key(|part| part.start);
    let outline = Outline { parts, template: hash.finish() };
    Ok(RenderedChat { prompt: prompt.ids, outline, ends_with: prompt.ends_with })
}

/// What the answer must be.
fn constraint(
    app: &App,
    form: &FormFields,
    fields: &ChatFields,
    tools: &RequestTools,
) -> Result<Option<Constraint>, ApiError> {
    if let Some(field) = form.field() {
        if tools.is_required() {
            let message = format!("{field} says what the answer is, but tool_choice wants a call");
            return Err(ApiError::invalid(field, message));
        }
        return form.constraint(app);
    }
    let Some(format) = &tools.format else { return Ok(None) };
    // A function that is named is called once.
    let is_named = matches!(tools.choice, ToolChoice::Named(_));
    let parallel = fields.parallel_tool_calls.unwrap_or(true) && !is_named;
    format
        .constraint(&tools.tools, &tools.choice, parallel, app.served.vocabulary()?, &limits(app))
        .map_err(|error| ApiError::invalid("tools", error.to_string()))
}
