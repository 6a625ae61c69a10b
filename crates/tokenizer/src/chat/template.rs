//! A chat template and how it is rendered.
//!
//! Templates are written for Jinja2 as transformers sets it up: `trim_blocks`, `lstrip_blocks`, loop controls, its own
//! `tojson`, `raise_exception` and `strftime_now`, Python's methods on strings and dicts. A template comes with a model
//! file, so it is foreign code: it can reach nothing, and fuel bounds its time and memory.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::{Map, Value};

use super::{Message, json, python};
use crate::TokenizerError;

/// What a template is rendered with, besides the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// End with the words that open the assistant's turn.
    pub add_generation_prompt: bool,
    /// Tools that the model may call, in OpenAI's shape (`{"type": "function", "function": {…}}`).
    pub tools: Vec<Value>,
    /// Further variables for the template, for example `enable_thinking`.
    pub extra: Map<String, Value>,
}

/// A model's chat template, parsed.
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// `bos_token` and the like.
    special_tokens: Vec<(String, String)>,
}

const NAME: &str = "chat";
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// Parses a template. `special_tokens` are variables of it: pairs such as (`bos_token`, `<s>`).
    ///
    /// # Errors
    /// A mistake in the template, with its line.
    pub fn new(source: &str, special_tokens: &[(String, String)]) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(problem)?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| -> Result<String, Error> {
            jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        let mut template =
            ChatTemplate { source: source.to_string(), environment, special_tokens: special_tokens.to_vec() };
        template.add(NAME, source)?;
        Ok(template)
    }

    /// Adds the template that some models have apart for conversations with tools.
    pub(crate) fn with_tool_use(mut self, source: &str) -> Result<Self, TokenizerError> {
        self.add(TOOL_USE, source)?;
        Ok(self)
    }

    fn add(&mut self, name: &'static str, source: &str) -> Result<(), TokenizerError> {
        let source = without_generation_marks(source).into_owned();
        self.environment.add_template_owned(name, source).map_err(problem)
    }

    /// The template as the model's file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// What the template cannot render or refuses, with its line.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TokenizerError> {
        let messages: Vec<Value> = messages.iter().map(Message::for_template).collect();
        self.render_values(&messages, options)
    }

    /// Renders messages that are values already.
    pub(crate) fn render_values(
        &self,
        messages: &[Value],
        options: &RenderOptions,
    ) -> Result<String, TokenizerError> {
        let mut variables = Map::new();
        for (name, text) in &self.special_tokens {
            variables.insert(name.clone(), Value::String(text.clone()));
        }
        let tools = if options.tools.is_empty() { Value::Null } else { Value::Array(options.tools.clone()) };
        // what a template tests with `is none` has to be there
        variables.insert("tools".to_string(), tools);
        variables.insert("documents".to_string(), Value::Null);
        variables.extend(options.extra.clone());
        variables.insert("add_generation_prompt".to_string(), Value::Bool(options.add_generation_prompt));
        variables.insert("messages".to_string(), Value::Array(messages.to_vec()));

        let has_tool_use = self.environment.get_template(TOOL_USE).is_ok();
        let name = if has_tool_use && !options.tools.is_empty() { TOOL_USE } else { NAME };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel(&variables, messages.len())));
        let template = environment.get_template(name).map_err(problem)?;
        template.render(to_template(&Value::Object(variables))).map_err(problem)
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

fn to_template(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(x) => minijinja::Value::from(*x),
        Value::Number(x) => match (x.as_i64(), x.as_u64()) {
            (Some(x), _) => minijinja::Value::from(x),
            (None, Some(x)) => minijinja::Value::from(x),
            (None, None) => minijinja::Value::from(x.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::Array(items) => items.iter().map(to_template).collect(),
        Value::Object(fields) => {
            minijinja::Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), to_template(value))))
        }
    }
}

/// Instructions, and units of 64 bytes of results, that a conversation may cost. Ten times what templates need that
/// copy all text a few times and look at every message for every message.
fn fuel(variables: &Map<String, Value>, n_messages: usize) -> u64 {
    let n_messages = n_messages as u64;
    let text_bytes: u64 = variables.values().map(text_bytes).sum();
    1_000_000 + text_bytes + 10_000 * n_messages + 100 * n_messages * n_messages
}

fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() as u64 + text_bytes(value)).sum(),
        _ => 8,
    }
}

fn problem(error: Error) -> TokenizerError {
    let text = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    TokenizerError::Template { line: error.line(), problem: text }
}

/// Replaces `{% generation %}` and `{% endgeneration %}`, which mark the assistant's words for training, by blocks that
/// print the same: whitespace around a block depends on there being one.
fn without_generation_marks(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = source[at..].find("{%") {
        let start = at + found;
        at = start + 2;
        let Some(length) = source[at..].find("%}") else { break };
        let tag = &source[at..at + length];
        let name = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let block = match name.trim() {
            "generation" => " if true ",
            "endgeneration" => " endif ",
            _ => continue,
        };
        let name_start = at + (tag.len() - tag.trim_start_matches(['-', '+']).len());
        out.push_str(&source[copied..name_start]);
        out.push_str(block);
        copied = name_start + name.len();
        at = copied;
    }
    if copied == 0 {
        return Cow::Borrowed(source);
    }
    out.push_str(&source[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, TokenizerError> {
        let messages = [Message::user("Hi"), Message::assistant("Ho")];
        ChatTemplate::new(source, &[])?.render(&messages, &RenderOptions::default())
    }

    #[test]
    fn an_error_names_the_line_of_the_template() {
        let error = render("{% for m in messages %}\n{% endif %}").unwrap_err().to_string();
        assert!(error.starts_with("chat template, line 2: "), "{error}");
        let error = render("a\n\n{{ raise_exception('no system role') }}").unwrap_err().to_string();
        assert_eq!(error, "chat template, line 3: no system role");
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let nested = "{% for a in range(100000) %}".repeat(3) + "x" + &"{% endfor %}".repeat(3);
        assert!(render(&nested).unwrap_err().to_string().contains("fuel"));
        let growing = "{% set ns = namespace(x='abcdefgh') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
        assert!(render(growing).is_err());
    }

    #[test]
    fn marks_for_training_print_nothing() {
        let source =
            "{% for m in messages %}{%- generation -%}\n{{ m.content }}\n{%  endgeneration +%}\n{% endfor %}";
        let same = "{% for m in messages %}{%- if true -%}\n{{ m.content }}\n{% endif +%}\n{% endfor %}";
        assert_eq!(render(source).unwrap(), render(same).unwrap());
        assert_eq!(without_generation_marks("{% if x %}{% endif %}{%"), "{% if x %}{% endif %}{%");
    }

    #[test]
    fn what_is_not_given_is_none_and_not_undefined() {
        let source = "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ bos_token is defined }}";
        assert_eq!(render(source).unwrap(), "True True False False");
    }

    #[test]
    fn the_date_comes_from_the_clock() {
        let year: i32 = render("{{ strftime_now('%Y') }}").unwrap().parse().unwrap();
        assert!((2024..3000).contains(&year));
        assert!(render("{{ strftime_now('%') }}").is_err());
    }
}
