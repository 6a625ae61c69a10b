//! Jinja, the language of chat templates.
//!
//! ```text
//! source ── lexer ──► tokens ── parser ──► program ── run ──► text, and the origin of each byte
//!                                             values, filters, tests, Python's operators and methods
//! ```
//!
//! It is the part of Jinja2 that transformers renders chat templates with: no inheritance and no inclusion, since there is
//! one template only. It is an engine of its own for two things that others lack: every byte of the output knows whether
//! the template or a message wrote it ([`text`]), and everything that a template can make large is bounded ([`limits`]).

mod access;
mod ast;
mod compare;
mod lexer;
mod limits;
mod parser;
mod python;
mod run;
mod scope;
mod text;
mod value;

use std::rc::Rc;

use limits::{Meter, STACK_BYTES};
use serde_json::Value as Json;

pub(crate) use limits::{Limits, Problem};
pub(crate) use run::Clock;
pub(crate) use text::{ForeignRange, Origin};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    program: ast::Block,
}

/// What a template printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Bytes of `text` that are not the template's own, in order.
    pub(crate) foreign: Vec<ForeignRange>,
}

/// A variable that a template is rendered with.
#[derive(Debug, Clone)]
pub(crate) enum Variable<'a> {
    /// All of it has one origin.
    Value(&'a Json, Origin),
    /// A list of objects whose fields have origins of their own.
    Objects(Vec<Vec<(&'a str, &'a Json, Origin)>>),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A mistake in it, or a limit that it exceeds, with its line.
    pub(crate) fn parse(source: &str) -> Result<Template, Problem> {
        on_known_stack(|| parser::parse(source).map(|program| Template { program }))
    }

    /// Renders with these variables.
    ///
    /// # Errors
    /// What the template refuses, what fails in it, or a limit that it exceeds, with the line.
    pub(crate) fn render(
        &self,
        variables: &[(&str, Variable)],
        limits: Limits,
        clock: Clock,
    ) -> Result<Rendered, Problem> {
        on_known_stack(|| {
            let interpreter = run::Interpreter::new(limits, clock)?;
            let meter = Rc::clone(&interpreter.meter);
            let mut values = Vec::new();
            for (name, variable) in variables {
                values.push((*name, variable.value(&meter)?));
            }
            let text = interpreter.render(&self.program, values)?;
            let (text, foreign) = text.parts();
            Ok(Rendered { text: text.to_string(), foreign: foreign.to_vec() })
        })
    }
}

impl Variable<'_> {
    fn value(&self, meter: &Rc<Meter>) -> Result<value::Value, Problem> {
        let objects = match self {
            Variable::Value(json, origin) => return value::Value::from_json(meter, json, *origin),
            Variable::Objects(objects) => objects,
        };
        let mut list = Vec::new();
        for fields in objects {
            let mut entries = Vec::new();
            for (name, json, origin) in fields {
                let key = value::Value::text(meter, name, Origin::Own)?;
                entries.push((key, value::Value::from_json(meter, json, *origin)?));
            }
            list.push(value::Value::dict(meter, entries)?);
        }
        value::Value::list(meter, list)
    }
}

/// Runs in a thread whose stack is large enough for all that the limits allow, whatever thread this one is.
fn on_known_stack<T: Send>(run: impl FnOnce() -> Result<T, Problem> + Send) -> Result<T, Problem> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("template".to_string()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, run) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(Problem::new(format!("no thread to render it in: {error}"))),
        }
    })
}
