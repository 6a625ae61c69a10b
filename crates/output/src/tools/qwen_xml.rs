//! `<tool_call>\n<function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>\n</tool_call>`: Qwen3-Coder.
//!
//! A value is the text itself if the schema of the parameter is that of a text, and JSON otherwise. The arguments are
//! told as a JSON object that is put together as the values come. Texts come bit by bit, other values whole.

mod parser;
mod rules;

use serde_json::Value;

use super::format::{CallGrammar, CallMarker, Callable, Format};
use super::parse::CallParser;
use super::tool::Tool;
use crate::constraint::LazyGrammar;
use crate::error::ConstraintError;
use crate::lark::{Rules, marker};
use crate::schema;

#[derive(Debug)]
pub(super) struct QwenXml;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
/// The models sometimes leave the first marker out.
const MARKERS: [CallMarker; 2] =
    [CallMarker { text: OPEN, anchored: false }, CallMarker { text: FUNCTION, anchored: false }];

impl Format for QwenXml {
    fn name(&self) -> &'static str {
        "qwen-xml"
    }

    fn is_in(&self, template: &str) -> bool {
        template.contains(FUNCTION) && template.contains(PARAMETER)
    }

    fn markers(&self) -> &'static [CallMarker] {
        &MARKERS
    }

    fn words(&self) -> &'static [&'static str] {
        &[OPEN, CLOSE]
    }

    fn parser(&self, marker: usize, tools: &[Tool]) -> Box<dyn CallParser> {
        Box::new(parser::XmlParser::new(tools, marker == 1))
    }

    fn check(&self, tool: &Tool) -> Result<(), ConstraintError> {
        check_name(tool, &tool.name)?;
        let properties = tool.parameters.get("properties").and_then(Value::as_object);
        properties
            .into_iter()
            .flat_map(|properties| properties.keys())
            .try_for_each(|name| check_name(tool, name))
    }

    fn check_arguments(&self, callable: &Callable) -> Result<(), ConstraintError> {
        rules::parameters(callable).map(|_| ())
    }

    fn required(&self, grammar: &CallGrammar) -> String {
        let open = marker(grammar.vocabulary, OPEN);
        let mut rules = Rules::default();
        let first = format!("{open} \"\\n{FUNCTION}\" call");
        rules.rule("start", &grammar.repeated(&first, &format!("\"\\n\" {first}")));
        rules.append(&rules::calls(grammar));
        rules.text()
    }

    fn lazy(&self, grammar: &CallGrammar) -> Vec<LazyGrammar> {
        let open = marker(grammar.vocabulary, OPEN);
        let more = format!("\"\\n\" {open} \"\\n{FUNCTION}\" call");
        let grammar_after = |first: &str| {
            let mut rules = Rules::default();
            rules.rule("start", &grammar.repeated(first, &more)).append(&rules::calls(grammar));
            rules.text()
        };
        vec![
            LazyGrammar {
                marker: OPEN,
                anchored: false,
                lark: grammar_after(&format!("\"\\n{FUNCTION}\" call")),
            },
            LazyGrammar { marker: FUNCTION, anchored: false, lark: grammar_after("call") },
        ]
    }

    fn example(&self) -> &'static str {
        "<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>"
    }
}

/// A name is written as it is, so nothing in it may end it.
fn check_name(tool: &Tool, name: &str) -> Result<(), ConstraintError> {
    match name.is_empty()
        || name.contains(|c: char| c == '>' || c == '<' || c.is_control() || c.is_whitespace())
    {
        true => Err(tool.bad(&format!(
            "{name:?} must be a name without `<`, `>` and white space, or no call could have it"
        ))),
        false => Ok(()),
    }
}

/// Whether a value of this parameter is text as it stands.
fn is_text(tool: &Tool, parameter: &str) -> bool {
    let root = &tool.parameters;
    let schema = root.get("properties").and_then(|properties| properties.get(parameter));
    schema.is_some_and(|schema| schema::is_text(root, schema))
}
