//! `[TOOL_CALLS]name[ARGS]{…}`, once for each call: Mistral since 2025.

use super::format::{CallGrammar, CallMarker, Format};
use super::json::{JsonScanner, Scan};
use super::parse::{CallParser, Progress};
use super::tool::Tool;
use crate::constraint::LazyGrammar;
use crate::error::ConstraintError;
use crate::lark::{Rules, literal, marker};
use crate::part::Calls;

#[derive(Debug)]
pub(super) struct MistralArguments;

const OPEN: &str = "[TOOL_CALLS]";
const ARGUMENTS: &str = "[ARGS]";
const MARKERS: [CallMarker; 1] = [CallMarker { text: OPEN, anchored: false }];

impl MistralArguments {
    fn rules(&self, grammar: &CallGrammar) -> Rules {
        let mut rules = Rules::default();
        rules.rule("call", &grammar.alternatives("call"));
        let separator = marker(grammar.vocabulary, ARGUMENTS);
        for (i, callable) in grammar.callables.iter().enumerate() {
            let name = literal(&callable.tool.name);
            rules.rule(&format!("call_{i}"), &format!("{name} {separator} args_{i}"));
            rules.json(&format!("args_{i}"), &callable.schema);
        }
        rules
    }
}

impl Format for MistralArguments {
    fn name(&self) -> &'static str {
        "mistral-arguments"
    }

    fn is_in(&self, template: &str) -> bool {
        template.contains(OPEN) && template.contains(ARGUMENTS)
    }

    fn markers(&self) -> &'static [CallMarker] {
        &MARKERS
    }

    fn words(&self) -> &'static [&'static str] {
        &[OPEN, ARGUMENTS]
    }

    fn parser(&self, _marker: usize, _tools: &[Tool]) -> Box<dyn CallParser> {
        Box::new(Parser { state: State::Name(String::new()) })
    }

    fn check(&self, tool: &Tool) -> Result<(), ConstraintError> {
        match tool.name.contains(['[', '{', '\n']) || tool.name.trim() != tool.name {
            true => Err(tool.bad("its name must have no `[`, `{`, line break, or white space around it, or no call could name it")),
            false => Ok(()),
        }
    }

    fn required(&self, grammar: &CallGrammar) -> String {
        let open = marker(grammar.vocabulary, OPEN);
        let mut rules = Rules::default();
        let first = format!("{open} call");
        rules.rule("start", &grammar.repeated(&first, &first)).append(&self.rules(grammar));
        rules.text()
    }

    fn lazy(&self, grammar: &CallGrammar) -> Vec<LazyGrammar> {
        let open = marker(grammar.vocabulary, OPEN);
        let mut rules = Rules::default();
        rules.rule("start", &grammar.repeated("call", &format!("{open} call"))).append(&self.rules(grammar));
        vec![LazyGrammar { marker: OPEN, anchored: false, lark: rules.text() }]
    }

    fn example(&self) -> &'static str {
        "[TOOL_CALLS]NAME[ARGS]{ARGUMENTS}"
    }
}

#[derive(Debug)]
struct Parser {
    state: State,
}

#[derive(Debug)]
enum State {
    /// the name, and what may become the separator
    Name(String),
    Arguments(JsonScanner),
}

impl CallParser for Parser {
    fn push(&mut self, c: char, calls: &mut Calls) -> Progress {
        match &mut self.state {
            State::Name(text) => {
                if c == '{' {
                    let name = text.strip_suffix(ARGUMENTS).unwrap_or(text).trim();
                    if name.is_empty() || name.contains('[') {
                        return Progress::Broken(c.to_string());
                    }
                    calls.begin(name);
                    self.state = State::Arguments(JsonScanner::new());
                    return self.push(c, calls);
                }
                text.push(c);
                if c == '\n' { Progress::Broken(c.to_string()) } else { Progress::More }
            }
            State::Arguments(scanner) => {
                let scan = scanner.push(c);
                if scan == Scan::Bad {
                    return Progress::Broken(c.to_string());
                }
                calls.arguments(c.encode_utf8(&mut [0; 4]));
                if scan == Scan::Done {
                    calls.end();
                    return Progress::Done;
                }
                Progress::More
            }
        }
    }

    fn is_between(&self) -> bool {
        false
    }
}
