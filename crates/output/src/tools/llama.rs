//! `{"name": …, "parameters": {…}}` as the whole answer, sometimes after `<|python_tag|>`: Llama 3.1 and later.
//!
//! Nothing but its shape tells such a call from JSON that is an answer. So an object is a call only at the beginning of
//! the answer, and only with the name of a tool.

use super::format::{CallGrammar, CallMarker, Format};
use super::object_rules;
use super::parse::{CallObject, CallParser, ObjectStep, Progress};
use super::tool::Tool;
use crate::constraint::LazyGrammar;
use crate::error::ConstraintError;
use crate::lark::Rules;
use crate::part::Calls;

#[derive(Debug)]
pub(super) struct Llama;

const PYTHON_TAG: &str = "<|python_tag|>";
/// What makes the beginning of an answer a call when nothing has to be one.
const BEGINNING: &str = "{\"name\":";
const MARKERS: [CallMarker; 2] =
    [CallMarker { text: PYTHON_TAG, anchored: true }, CallMarker { text: "{", anchored: true }];

impl Format for Llama {
    fn name(&self) -> &'static str {
        "llama"
    }

    fn is_in(&self, template: &str) -> bool {
        template.contains(PYTHON_TAG) || template.contains("{\"name\": function name, \"parameters\"")
    }

    fn markers(&self) -> &'static [CallMarker] {
        &MARKERS
    }

    fn words(&self) -> &'static [&'static str] {
        &[PYTHON_TAG]
    }

    fn parser(&self, marker: usize, tools: &[Tool]) -> Box<dyn CallParser> {
        let known: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
        let mut object = CallObject::new(Some(known.clone()));
        if marker == 1 {
            object.push('{', &mut Calls::default());
        }
        Box::new(LlamaParser { known, object: Some(object) })
    }

    fn check(&self, _tool: &Tool) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn required(&self, grammar: &CallGrammar) -> String {
        let mut rules = Rules::default();
        rules.rule("start", "object").append(&object_rules(grammar, "parameters"));
        rules.text()
    }

    fn lazy(&self, grammar: &CallGrammar) -> Vec<LazyGrammar> {
        // after the beginning only the rest of the object is left
        let mut rest = Rules::default();
        rest.rule("start", "rest").append(&object_rules(grammar, "parameters"));
        vec![
            LazyGrammar { marker: PYTHON_TAG, anchored: true, lark: self.required(grammar) },
            LazyGrammar { marker: BEGINNING, anchored: true, lark: rest.text() },
        ]
    }

    fn example(&self) -> &'static str {
        "{\"name\": \"NAME\", \"parameters\": {PARAMETERS}}"
    }
}

#[derive(Debug)]
struct LlamaParser {
    known: Vec<String>,
    /// None between calls
    object: Option<CallObject>,
}

impl CallParser for LlamaParser {
    fn push(&mut self, c: char, calls: &mut Calls) -> Progress {
        let object = match &mut self.object {
            Some(object) => object,
            None if c.is_whitespace() || c == ';' => return Progress::More,
            None if c == '{' => self.object.insert(CallObject::new(Some(self.known.clone()))),
            None => return Progress::DoneBefore(c.to_string()),
        };
        match object.push(c, calls) {
            ObjectStep::More => Progress::More,
            ObjectStep::Bad => Progress::Broken(c.to_string()),
            ObjectStep::Done => {
                self.object = None;
                Progress::More
            }
        }
    }

    fn is_between(&self) -> bool {
        self.object.is_none()
    }
}
