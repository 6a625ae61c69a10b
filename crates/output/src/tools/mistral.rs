//! `[TOOL_CALLS] [{"name": …, "arguments": {…}}, …]`: Mistral up to 2024.

use super::format::{CallGrammar, CallMarker, Format};
use super::object_rules;
use super::parse::{CallObject, CallParser, ObjectStep, Progress};
use super::tool::Tool;
use crate::constraint::LazyGrammar;
use crate::error::ConstraintError;
use crate::lark::{Rules, marker};
use crate::part::Calls;

#[derive(Debug)]
pub(super) struct Mistral;

const OPEN: &str = "[TOOL_CALLS]";
const MARKERS: [CallMarker; 1] = [CallMarker { text: OPEN, anchored: false }];

impl Mistral {
    fn rules(&self, grammar: &CallGrammar) -> Rules {
        let mut rules = Rules::default();
        rules.rule("list", &format!("\" \"? \"[\" {} \"]\"", grammar.repeated("object", "\", \" object")));
        rules.append(&object_rules(grammar, "arguments"));
        rules
    }
}

impl Format for Mistral {
    fn name(&self) -> &'static str {
        "mistral"
    }

    fn is_in(&self, template: &str) -> bool {
        template.contains(OPEN)
    }

    fn markers(&self) -> &'static [CallMarker] {
        &MARKERS
    }

    fn words(&self) -> &'static [&'static str] {
        &[OPEN]
    }

    fn parser(&self, _marker: usize, _tools: &[Tool]) -> Box<dyn CallParser> {
        Box::new(MistralParser { state: State::List })
    }

    fn check(&self, _tool: &Tool) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn required(&self, grammar: &CallGrammar) -> String {
        let mut rules = Rules::default();
        rules
            .rule("start", &format!("{} list", marker(grammar.vocabulary, OPEN)))
            .append(&self.rules(grammar));
        rules.text()
    }

    fn lazy(&self, grammar: &CallGrammar) -> Vec<LazyGrammar> {
        let mut rules = Rules::default();
        rules.rule("start", "list").append(&self.rules(grammar));
        vec![LazyGrammar { marker: OPEN, anchored: false, lark: rules.text() }]
    }

    fn example(&self) -> &'static str {
        "[TOOL_CALLS] [{\"name\": \"NAME\", \"arguments\": {ARGUMENTS}}]"
    }
}

#[derive(Debug)]
struct MistralParser {
    state: State,
}

#[derive(Debug)]
enum State {
    List,
    Object(CallObject),
    AfterObject,
}

impl CallParser for MistralParser {
    fn push(&mut self, c: char, calls: &mut Calls) -> Progress {
        match &mut self.state {
            State::Object(object) => match object.push(c, calls) {
                ObjectStep::More => return Progress::More,
                ObjectStep::Bad => return Progress::Broken(c.to_string()),
                ObjectStep::Done => self.state = State::AfterObject,
            },
            _ if c.is_whitespace() => {}
            State::List if c == '[' => self.state = State::Object(CallObject::new(None)),
            State::AfterObject if c == ',' => self.state = State::Object(CallObject::new(None)),
            State::AfterObject if c == ']' => return Progress::Done,
            State::AfterObject => return Progress::DoneBefore(c.to_string()),
            State::List => return Progress::Broken(c.to_string()),
        }
        Progress::More
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::AfterObject)
    }
}
