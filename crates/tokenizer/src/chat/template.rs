//! A chat template and how it is rendered.
//!
//! Templates are written for Jinja2 as transformers sets it up. A template comes with a model file, so it is foreign code:
//! it can reach nothing but its variables, and its steps and memory are bounded (see [`crate::jinja`]).

use serde_json::{Map, Value, json};

use super::Message;
use crate::TokenizerError;
use crate::jinja::{Limits, Origin, Problem, Rendered, Template, Variable};

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
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    template: Template,
    /// The template that some models have apart for conversations with tools.
    tool_use: Option<Template>,
    /// `bos_token` and the like.
    special_tokens: Vec<(String, Value)>,
}

/// Roles that templates write into control tokens (`'<|' + role + '|>'`). Any other role is a foreign text.
const ROLES: &[&str] = &[
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "ipython",
    "observation",
    "environment",
    "model",
    "context",
    "documents",
];

/// Whose text it is, besides the messages that are numbered from 1.
const OTHERS: Origin = Origin::Foreign(u32::MAX);

impl ChatTemplate {
    /// Parses a template. `special_tokens` are variables of it: pairs such as (`bos_token`, `<s>`).
    ///
    /// # Errors
    /// A mistake in the template or a limit that it exceeds, with its line.
    pub fn new(source: &str, special_tokens: &[(String, String)]) -> Result<Self, TokenizerError> {
        let special_tokens =
            special_tokens.iter().map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect();
        let template = Template::parse(source).map_err(problem)?;
        Ok(ChatTemplate { source: source.to_string(), template, tool_use: None, special_tokens })
    }

    /// Adds the template that some models have apart for conversations with tools.
    pub(crate) fn with_tool_use(mut self, source: &str) -> Result<Self, TokenizerError> {
        self.tool_use = Some(Template::parse(source).map_err(problem)?);
        Ok(self)
    }

    /// The template as the model's file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt of a conversation.
    ///
    /// A template that knows content only as a list of parts gets such lists.
    ///
    /// # Errors
    /// What the template refuses, what fails in it, or a limit that it exceeds, with its line; a message of which nothing
    /// arrives in the prompt.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TokenizerError> {
        self.prompt(messages, options).map(|prompt| prompt.text)
    }

    /// The prompt, and which of its bytes are the template's own.
    pub(super) fn prompt(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Rendered, TokenizerError> {
        let mut values: Vec<Map<String, Value>> = messages.iter().map(Message::for_template).collect();
        let first = match self.render_values(&values, options) {
            Ok(prompt) => match lost_message(messages, &prompt) {
                None => return Ok(prompt),
                Some(lost) => lost,
            },
            Err(error) => problem(error),
        };
        for content in values.iter_mut().filter_map(|fields| fields.get_mut("content")) {
            if let Value::String(text) = content {
                *content = json!([{"type": "text", "text": text}]);
            }
        }
        match self.render_values(&values, options) {
            Ok(prompt) if lost_message(messages, &prompt).is_none() => Ok(prompt),
            // the error of the usual shape says more
            _ => Err(first),
        }
    }

    fn render_values(
        &self,
        messages: &[Map<String, Value>],
        options: &RenderOptions,
    ) -> Result<Rendered, Problem> {
        let has_tools = !options.tools.is_empty();
        let tools = if has_tools { Value::Array(options.tools.clone()) } else { Value::Null };
        let add_generation_prompt = Value::Bool(options.add_generation_prompt);
        let own = |(name, text)| (name, Variable::Value(text, Origin::Own));
        let mut variables: Vec<(&str, Variable)> =
            self.special_tokens.iter().map(|(name, text)| own((name.as_str(), text))).collect();
        // what a template tests with `is none` has to be there
        variables.push(("tools", Variable::Value(&tools, OTHERS)));
        variables.push(("documents", Variable::Value(&Value::Null, OTHERS)));
        variables.extend(
            options.extra.iter().map(|(name, value)| (name.as_str(), Variable::Value(value, OTHERS))),
        );
        variables.push(own(("add_generation_prompt", &add_generation_prompt)));
        let fields = messages.iter().enumerate().map(|(i, fields)| fields_of(fields, i));
        variables.push(("messages", Variable::Objects(fields.collect())));
        let template = self.tool_use.as_ref().filter(|_| has_tools).unwrap_or(&self.template);
        template.render(&variables, limits(messages, options), clock)
    }
}

/// The fields of message `i`, with their origins.
fn fields_of(fields: &Map<String, Value>, i: usize) -> Vec<(&str, &Value, Origin)> {
    let of_message = Origin::Foreign(source_of(i));
    let origin = |name: &str, value: &Value| match name {
        "role" if value.as_str().is_some_and(|role| ROLES.contains(&role)) => Origin::Own,
        "content" | "tool_calls" => of_message,
        _ => OTHERS,
    };
    fields.iter().map(|(name, value)| (name.as_str(), value, origin(name, value))).collect()
}

/// Whose text message `i` is.
pub(super) fn source_of(i: usize) -> u32 {
    u32::try_from(i + 1).unwrap_or(u32::MAX - 1)
}

/// The error of a message that says something, but of which nothing is in the prompt.
fn lost_message(messages: &[Message], prompt: &Rendered) -> Option<TokenizerError> {
    let says_something = |message: &Message| {
        // templates leave out what an assistant thought, and that may be all
        let is_thought = message.role == "assistant" && message.content.contains("</think>");
        !message.tool_calls.is_empty() || !(message.content.trim().is_empty() || is_thought)
    };
    let is_there = |i: usize| prompt.foreign.iter().any(|foreign| foreign.source == source_of(i));
    let lost = (0..messages.len()).find(|&i| says_something(&messages[i]) && !is_there(i))?;
    Some(TokenizerError::LostMessage { number: lost + 1, role: messages[lost].role.clone() })
}

/// Ten times what templates need that copy all text a few times and look at every message for every message.
fn limits(messages: &[Map<String, Value>], options: &RenderOptions) -> Limits {
    const MOST_STEPS: u64 = 1_000_000_000;
    let n_messages = messages.len() as u64;
    let of_messages: usize = messages.iter().flat_map(|fields| fields.values()).map(bytes_of).sum();
    let of_options: usize = options.tools.iter().chain(options.extra.values()).map(bytes_of).sum();
    let bytes = of_messages + of_options;
    let steps =
        1_000_000 + 4 * bytes as u64 + 10_000 * n_messages + 100 * n_messages.saturating_mul(n_messages);
    Limits { steps: steps.min(MOST_STEPS), bytes: (64 << 20) + 64 * bytes }
}

fn bytes_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + bytes_of(value)).sum(),
        _ => 8,
    }
}

fn clock(format: &str) -> Result<String, String> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now()).map_err(|error| error.to_string())
}

fn problem(problem: Problem) -> TokenizerError {
    TokenizerError::Template { line: problem.line, problem: problem.text }
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
        assert!(render(&nested).unwrap_err().to_string().contains("steps, the limit"));
        let growing = "{% set ns = namespace(x='abcdefgh') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
        let error = render(growing).unwrap_err().to_string();
        assert!(error.starts_with("chat template, line 1: ") && error.contains("the limit"), "{error}");
    }

    #[test]
    fn marks_for_training_print_nothing() {
        let source =
            "{% for m in messages %}{%- generation -%}\n{{ m.content }}\n{%  endgeneration +%}\n{% endfor %}";
        let same = "{% for m in messages %}{%- if true -%}\n{{ m.content }}\n{% endif +%}\n{% endfor %}";
        assert_eq!(render(source).unwrap(), render(same).unwrap());
    }

    #[test]
    fn what_is_not_given_is_none_and_not_undefined() {
        let source = "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ bos_token is defined }}";
        let prompt = ChatTemplate::new(source, &[]).unwrap().render(&[], &RenderOptions::default()).unwrap();
        assert_eq!(prompt, "True True False False");
    }

    #[test]
    fn the_date_comes_from_the_clock() {
        let date = |format: &str| {
            let source = format!("{{{{ strftime_now('{format}') }}}}");
            ChatTemplate::new(&source, &[]).unwrap().render(&[], &RenderOptions::default())
        };
        let year: i32 = date("%Y").unwrap().parse().unwrap();
        assert!((2024..3000).contains(&year));
        assert!(date("%").is_err());
    }

    #[test]
    fn a_message_that_vanishes_is_an_error_that_names_it() {
        let source = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
        let template = ChatTemplate::new(source, &[]).unwrap();
        let options = RenderOptions::default();
        let user = Message::user("Hi");
        let error = template.render(&[user.clone(), Message::system("Be brief.")], &options).unwrap_err();
        assert!(
            matches!(&error, TokenizerError::LostMessage { number: 2, role } if role == "system"),
            "{error}"
        );
        assert_eq!(template.render(&[user.clone(), Message::system("  ")], &options).unwrap(), "Hi");
        let thought = Message::assistant("<think>x</think>");
        assert_eq!(template.render(&[user, thought], &options).unwrap(), "Hi");
    }

    #[test]
    fn a_template_that_knows_content_as_parts_gets_parts() {
        let options = RenderOptions::default();
        for source in [
            "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}",
            "{{ messages[0]['content'][0]['text'] }}{{ messages[1]['content'][0]['text'] }}",
            "{% for m in messages %}{{ m.content[0].text.strip() }}{% endfor %}",
        ] {
            let template = ChatTemplate::new(source, &[]).unwrap();
            assert_eq!(
                template.render(&[Message::user("Hi"), Message::assistant("Ho")], &options).unwrap(),
                "HiHo"
            );
        }
    }
}
