//! Reads calls with parameters in tags, and tells their arguments as JSON.

use serde_json::Value;

use super::{CLOSE, FUNCTION, FUNCTION_END, PARAMETER, PARAMETER_END, is_text};
use crate::part::Calls;
use crate::tools::parse::{CallParser, Progress};
use crate::tools::tool::Tool;

#[derive(Debug)]
pub(super) struct XmlParser {
    tools: Vec<Tool>,
    state: State,
    tool: Option<usize>,
    /// Names of the parameters of this call so far.
    parameters: Vec<String>,
}

#[derive(Debug)]
enum State {
    /// before `<function=`; what is held may become it
    Function(String),
    Name(String),
    /// between parameters; what is held may become a tag
    Tags(String),
    ParameterName(String),
    Value(ValueReader),
    /// after the function; what is held may become the closing marker
    Closing(String),
}

impl XmlParser {
    /// Expects a function, or its name if `<function=` was the marker.
    pub(super) fn new(tools: &[Tool], in_tag: bool) -> XmlParser {
        let state = if in_tag { State::Name(String::new()) } else { State::Function(String::new()) };
        XmlParser { tools: tools.to_vec(), state, tool: None, parameters: Vec::new() }
    }

    fn go(&mut self, state: State) -> Progress {
        self.state = state;
        Progress::More
    }

    fn begin(&mut self, name: &str, calls: &mut Calls) -> Progress {
        self.tool = self.tools.iter().position(|tool| tool.name == name);
        self.parameters.clear();
        calls.begin(name);
        self.go(State::Tags(String::new()))
    }

    /// Begins a value; a parameter that comes twice is broken, as its first value was told already.
    fn begin_value(&mut self, name: String, calls: &mut Calls) -> Progress {
        if self.parameters.contains(&name) {
            return Progress::Broken(format!("{PARAMETER}{name}>"));
        }
        let opening = if self.parameters.is_empty() { "{" } else { ", " };
        calls.arguments(&format!("{opening}{}: ", Value::from(name.as_str())));
        let text = self.tool.is_some_and(|tool| is_text(&self.tools[tool], &name));
        self.parameters.push(name);
        if text {
            calls.arguments("\"");
        }
        self.go(State::Value(ValueReader::new(text)))
    }

    fn end(&mut self, calls: &mut Calls) -> Progress {
        calls.arguments(if self.parameters.is_empty() { "{}" } else { "}" });
        calls.end();
        self.go(State::Closing(String::new()))
    }
}

impl CallParser for XmlParser {
    fn push(&mut self, c: char, calls: &mut Calls) -> Progress {
        match &mut self.state {
            State::Function(held) => {
                held.push(c);
                match held.trim_start() {
                    FUNCTION => self.go(State::Name(String::new())),
                    candidate if FUNCTION.starts_with(candidate) => Progress::More,
                    _ => Progress::Broken(std::mem::take(held)),
                }
            }
            State::Name(name) if c == '>' => {
                let name = std::mem::take(name);
                if name.is_empty() { Progress::Broken(c.to_string()) } else { self.begin(&name, calls) }
            }
            State::Name(name) | State::ParameterName(name) if c != '>' => {
                if c.is_whitespace() || c == '<' {
                    return Progress::Broken(format!("{}{c}", std::mem::take(name)));
                }
                name.push(c);
                Progress::More
            }
            State::Name(_) | State::ParameterName(_) => {
                let State::ParameterName(name) = &mut self.state else { return Progress::More };
                let name = std::mem::take(name);
                self.begin_value(name, calls)
            }
            State::Tags(held) => {
                held.push(c);
                match held.trim_start() {
                    PARAMETER => self.go(State::ParameterName(String::new())),
                    FUNCTION_END => self.end(calls),
                    candidate if PARAMETER.starts_with(candidate) || FUNCTION_END.starts_with(candidate) => {
                        Progress::More
                    }
                    _ => Progress::Broken(std::mem::take(held)),
                }
            }
            State::Value(reader) => {
                if reader.push(c, calls) {
                    return self.go(State::Tags(String::new()));
                }
                Progress::More
            }
            State::Closing(held) => {
                held.push(c);
                match held.trim_start() {
                    CLOSE => Progress::Done,
                    candidate if CLOSE.starts_with(candidate) => Progress::More,
                    _ => Progress::DoneBefore(std::mem::take(held)),
                }
            }
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }

    fn finish(&mut self, calls: &mut Calls) {
        if let State::Value(reader) = &mut self.state {
            reader.finish(calls);
        }
    }
}

/// Reads the value of one parameter, up to its closing tag.
#[derive(Debug)]
struct ValueReader {
    /// The value is a text, and told as it comes.
    text: bool,
    at_start: bool,
    /// What may become the end: a line break and a beginning of the tag. The whole value, if it is no text.
    held: String,
}

impl ValueReader {
    fn new(text: bool) -> ValueReader {
        ValueReader { text, at_start: true, held: String::new() }
    }

    /// Goes on by a character; says whether the value is over.
    fn push(&mut self, c: char, calls: &mut Calls) -> bool {
        if std::mem::take(&mut self.at_start) && c == '\n' {
            return false;
        }
        self.held.push(c);
        if self.held.ends_with(PARAMETER_END) {
            let value = &self.held[..self.held.len() - PARAMETER_END.len()];
            let value = value.strip_suffix('\n').unwrap_or(value);
            match self.text {
                true => calls.arguments(&format!("{}\"", escaped(value))),
                false => calls.arguments(&json(value)),
            }
            return true;
        }
        if self.text {
            // all that can no longer belong to the end is text
            let keep = end_length(&self.held);
            let text: String = self.held.drain(..self.held.len() - keep).collect();
            if !text.is_empty() {
                calls.arguments(&escaped(&text));
            }
        }
        false
    }

    /// Tells what is held of a value that is cut off.
    fn finish(&mut self, calls: &mut Calls) {
        let held = std::mem::take(&mut self.held);
        calls.arguments(&if self.text { escaped(&held) } else { held });
    }
}

/// How many bytes at the end of a text may become `\n</parameter>` or `</parameter>`.
fn end_length(text: &str) -> usize {
    let tag = (1..PARAMETER_END.len()).rev().find(|&n| text.ends_with(&PARAMETER_END[..n])).unwrap_or(0);
    tag + usize::from(text[..text.len() - tag].ends_with('\n'))
}

/// A text as it stands within the quotation marks of JSON.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_string()
}

/// A value as JSON: what is none is a text.
fn json(value: &str) -> String {
    match serde_json::from_str::<Value>(value) {
        Ok(_) => value.trim().to_string(),
        Err(_) => Value::from(value).to_string(),
    }
}
