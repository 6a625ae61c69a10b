//! Calls of tools: how models write them, which texts are right calls, and how calls are read.
//!
//! One file for each format, and a line in [`FORMATS`]. A format has a grammar for what must be a call from the
//! beginning, grammars for what follows each marker that begins a call in free text, and a parser.

pub(crate) mod format;
mod hermes;
mod json;
mod llama;
mod mistral;
mod mistral_arguments;
pub(crate) mod parse;
mod qwen_xml;
mod tool;

use serde_json::Value;

use crate::constraint::Constraint;
use crate::error::ConstraintError;
use crate::lark::{Rules, literal};
use crate::limits::Limits;
use crate::schema;
use crate::vocabulary::Vocabulary;
use format::{CallGrammar, Callable, Format};

pub use tool::{Tool, ToolChoice};

/// All formats. The first that a template has is its own.
const FORMATS: [&dyn Format; 5] = [
    &qwen_xml::QwenXml,
    &mistral_arguments::MistralArguments,
    &mistral::Mistral,
    &llama::Llama,
    &hermes::Hermes,
];
/// The format of models that have none: their instructions explain it.
const GENERIC: &dyn Format = &hermes::Hermes;

/// How a model writes calls of tools.
#[derive(Clone, Copy, Debug)]
pub struct ToolFormat {
    format: &'static dyn Format,
    needs_instructions: bool,
}

impl ToolFormat {
    /// The format that a chat template asks for; [`generic`](Self::generic) if it is not known, or the template knows
    /// nothing of tools.
    pub fn of_template(source: &str) -> ToolFormat {
        let own = FORMATS.into_iter().find(|format| source.contains("tools") && format.is_in(source));
        own.map_or(ToolFormat::generic(), |format| ToolFormat { format, needs_instructions: false })
    }

    /// `<tool_call>` and JSON, for models whose template does not say how tools are called.
    pub fn generic() -> ToolFormat {
        ToolFormat { format: GENERIC, needs_instructions: true }
    }

    /// The name of the format.
    pub fn name(&self) -> &'static str {
        self.format.name()
    }

    /// Whether the template does not tell the model about tools, so that [`instructions`](Self::instructions) have to
    /// stand in the system message, and the template should get no tools.
    pub fn needs_instructions(&self) -> bool {
        self.needs_instructions
    }

    /// Tells a model which tools there are and how they are called.
    pub fn instructions(&self, tools: &[Tool]) -> String {
        let described: Vec<String> = tools.iter().map(|tool| tool.described().to_string()).collect();
        format!(
            "These functions can be called. Each is described by a JSON object with the schema of its parameters:\n{}\n\n\
             Call a function if its result is needed for the answer. To call one, write exactly this, with its name and \
             its arguments:\n{}\nTo call several, write this once for each of them. Write nothing after a call: the \
             results come with the next message. If no function is needed, just answer.",
            described.join("\n"),
            self.format.example()
        )
    }

    /// What an answer must be so that its calls are right. None: anything.
    ///
    /// - [`ToolChoice::Required`] and [`ToolChoice::Named`]: the text is a call, or calls if `parallel`.
    /// - [`ToolChoice::Auto`]: free text, in which a call that has begun must be completed, and ends the answer.
    /// - [`ToolChoice::None`]: no constraint.
    ///
    /// Arguments satisfy the tool's schema. If that cannot be enforced, they are a JSON object, unless the tool is
    /// [`strict`](Tool::strict). What is no schema is an error in any case.
    ///
    /// # Errors
    /// No tool to call; a tool whose name is missing, not unique, or cannot be written; a strict tool whose schema
    /// cannot be enforced; a limit.
    pub fn constraint(
        &self,
        tools: &[Tool],
        choice: &ToolChoice,
        parallel: bool,
        vocabulary: &Vocabulary,
        limits: &Limits,
    ) -> Result<Option<Constraint>, ConstraintError> {
        let tools = match chosen(tools, choice)? {
            [] => return Ok(None),
            tools => tools,
        };
        self.check(tools, limits)?;
        let callables = tools.iter().map(|tool| self.callable(tool, vocabulary, limits));
        let callables = callables.collect::<Result<Vec<_>, _>>()?;
        let grammar = CallGrammar { vocabulary, callables: &callables, parallel };
        let constraint = match choice {
            ToolChoice::Auto => Constraint::lazy(vocabulary, self.format.lazy(&grammar), limits)?,
            _ => Constraint::lark(vocabulary, self.format.required(&grammar), limits)?,
        };
        Ok(Some(constraint))
    }

    fn check(&self, tools: &[Tool], limits: &Limits) -> Result<(), ConstraintError> {
        let bytes = tools.iter().map(|tool| tool.parameters.to_string().len()).sum();
        if bytes > limits.bytes {
            let what = "the parameters of all tools";
            return Err(ConstraintError::TooLong { what, bytes, limit: limits.bytes });
        }
        for (i, tool) in tools.iter().enumerate() {
            if tool.name.is_empty() {
                return Err(tool.bad("it has no name"));
            }
            if tools[..i].iter().any(|other| other.name == tool.name) {
                return Err(tool.bad("there are two tools of this name"));
            }
            self.format.check(tool)?;
        }
        Ok(())
    }

    /// A tool with the schema that its arguments can be held to.
    fn callable<'a>(
        &self,
        tool: &'a Tool,
        vocabulary: &Vocabulary,
        limits: &Limits,
    ) -> Result<Callable<'a>, ConstraintError> {
        let enforced = schema::prepared_object(&tool.parameters, limits).and_then(|schema| {
            let callable = Callable { tool, schema, enforced: true };
            self.format.check_arguments(&callable)?;
            // a schema that compiles alone compiles among others
            Constraint::prepared(vocabulary, callable.schema.clone(), limits)?;
            Ok(callable)
        });
        enforced.or_else(|source| match tool.strict || matches!(source, ConstraintError::BadSchema { .. }) {
            true => Err(ConstraintError::Tool { name: tool.name.clone(), source: Box::new(source) }),
            false => Ok(Callable { tool, schema: schema::any_object(), enforced: false }),
        })
    }

    pub(crate) fn format(&self) -> &'static dyn Format {
        self.format
    }
}

/// The tools that may be called; none if the text is free.
fn chosen<'a>(tools: &'a [Tool], choice: &ToolChoice) -> Result<&'a [Tool], ConstraintError> {
    match choice {
        ToolChoice::None => Ok(&[]),
        ToolChoice::Auto => Ok(tools),
        ToolChoice::Required if tools.is_empty() => Err(ConstraintError::NoTools),
        ToolChoice::Required => Ok(tools),
        ToolChoice::Named(name) => {
            let found = tools.iter().position(|tool| tool.name == *name);
            let at = found.ok_or_else(|| ConstraintError::UnknownTool {
                name: name.clone(),
                tools: tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
            Ok(&tools[at..=at])
        }
    }
}

/// Rules with `object`: `{"name": …, "arguments": {…}}`, the arguments under `key`; and with `rest`: the same without
/// its beginning `{"name":`.
fn object_rules(grammar: &CallGrammar, key: &str) -> Rules {
    let mut rules = Rules::default();
    rules.rule("object", "\"{\\\"name\\\":\" rest").rule("rest", &grammar.alternatives("rest"));
    for (i, callable) in grammar.callables.iter().enumerate() {
        let name = Value::from(callable.tool.name.as_str());
        let opening = literal(&format!(" {name}, \"{key}\": "));
        rules.rule(&format!("rest_{i}"), &format!("{opening} args_{i} \"}}\""));
        rules.json(&format!("args_{i}"), &callable.schema);
    }
    rules
}

#[cfg(test)]
mod tests;
