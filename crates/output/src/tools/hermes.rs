//! `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`: Hermes, Qwen 2.5 and 3, and models without a format of
//! their own, whom the instructions tell about it.

use super::format::{CallGrammar, CallMarker, Format};
use super::object_rules;
use super::parse::{CallObject, CallParser, ObjectStep, Progress};
use super::tool::Tool;
use crate::constraint::LazyGrammar;
use crate::error::ConstraintError;
use crate::lark::{Rules, marker};
use crate::part::Calls;

#[derive(Debug)]
pub(super) struct Hermes;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const MARKERS: [CallMarker; 1] = [CallMarker { text: OPEN, anchored: false }];

impl Hermes {
    /// Rules with `call`: what follows the marker.
    fn rules(&self, grammar: &CallGrammar) -> Rules {
        let mut rules = Rules::default();
        let close = marker(grammar.vocabulary, CLOSE);
        rules.rule("call", &format!("\"\\n\" object \"\\n\" {close}"));
        rules.append(&object_rules(grammar, "arguments"));
        rules
    }
}

impl Format for Hermes {
    fn name(&self) -> &'static str {
        "hermes"
    }

    fn is_in(&self, template: &str) -> bool {
        // GLM has the same marker, and no JSON after it
        template.contains(OPEN) && !template.contains("<arg_key>")
    }

    fn markers(&self) -> &'static [CallMarker] {
        &MARKERS
    }

    fn words(&self) -> &'static [&'static str] {
        &[OPEN, CLOSE]
    }

    fn parser(&self, _marker: usize, _tools: &[Tool]) -> Box<dyn CallParser> {
        Box::new(HermesParser { state: State::Object(CallObject::new(None)) })
    }

    fn check(&self, _tool: &Tool) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn required(&self, grammar: &CallGrammar) -> String {
        let open = marker(grammar.vocabulary, OPEN);
        let mut rules = Rules::default();
        let more = format!("\"\\n\" {open} call");
        rules.rule("start", &grammar.repeated(&format!("{open} call"), &more));
        rules.append(&self.rules(grammar));
        rules.text()
    }

    fn lazy(&self, grammar: &CallGrammar) -> Vec<LazyGrammar> {
        let open = marker(grammar.vocabulary, OPEN);
        let mut rules = Rules::default();
        rules.rule("start", &grammar.repeated("call", &format!("\"\\n\" {open} call")));
        rules.append(&self.rules(grammar));
        vec![LazyGrammar { marker: OPEN, anchored: false, lark: rules.text() }]
    }

    fn example(&self) -> &'static str {
        "<tool_call>\n{\"name\": \"NAME\", \"arguments\": {ARGUMENTS}}\n</tool_call>"
    }
}

#[derive(Debug)]
struct HermesParser {
    state: State,
}

#[derive(Debug)]
enum State {
    Object(CallObject),
    /// after the object: what is held may become the closing marker
    Closing(String),
}

impl CallParser for HermesParser {
    fn push(&mut self, c: char, calls: &mut Calls) -> Progress {
        match &mut self.state {
            State::Object(object) => match object.push(c, calls) {
                ObjectStep::More => Progress::More,
                ObjectStep::Bad => Progress::Broken(c.to_string()),
                ObjectStep::Done => {
                    self.state = State::Closing(String::new());
                    Progress::More
                }
            },
            State::Closing(held) => {
                held.push(c);
                let candidate = held.trim_start();
                if candidate == CLOSE {
                    Progress::Done
                } else if CLOSE.starts_with(candidate) {
                    Progress::More
                } else {
                    // the marker is missing, and the call is complete without it
                    Progress::DoneBefore(std::mem::take(held))
                }
            }
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }
}
