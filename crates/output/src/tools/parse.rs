//! What the parsers of all formats have in common, and the JSON object that most formats write a call as.

use std::fmt::Debug;

use super::json::{JsonScanner, Scan};
use crate::part::Calls;

/// Reads the calls that follow a marker.
pub(crate) trait CallParser: Debug + Send {
    /// Goes on by a character.
    fn push(&mut self, c: char, calls: &mut Calls) -> Progress;

    /// Whether all calls so far are complete and none has begun since.
    fn is_between(&self) -> bool;

    /// The text is over: tells what was held back of a call that is not complete.
    fn finish(&mut self, _calls: &mut Calls) {}
}

/// What a character does to a parser.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// the calls go on
    More,
    /// the calls end with this character
    Done,
    /// the calls have ended before this text, which ends with the character
    DoneBefore(String),
    /// this text, which ends with the character, cannot belong to a call
    Broken(String),
}

/// Reads `{"name": …, "arguments": {…}}`. The arguments are told as they come, if the name comes first.
#[derive(Debug)]
pub(super) struct CallObject {
    state: State,
    /// Names that make an object a call, if not every one does.
    known: Option<Vec<String>>,
    name: Option<String>,
    /// Arguments that came before the name.
    early: Option<String>,
    has_arguments: bool,
}

#[derive(Debug)]
enum State {
    Start,
    /// a key; or the end, if it is not after a comma
    Member {
        after_comma: bool,
    },
    Key {
        text: String,
        scanner: JsonScanner,
    },
    Colon {
        role: Role,
    },
    Value {
        role: Role,
        text: String,
        streamed: bool,
        scanner: JsonScanner,
    },
    AfterValue,
}

/// What a member of the object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Name,
    Arguments,
    Other,
}

/// What a character does to a call's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectStep {
    More,
    /// the call is complete
    Done,
    /// this is no call
    Bad,
}

impl CallObject {
    /// Expects an object; with `known`, only these names make it a call.
    pub(super) fn new(known: Option<Vec<String>>) -> CallObject {
        CallObject { state: State::Start, known, name: None, early: None, has_arguments: false }
    }

    /// Goes on by a character.
    pub(super) fn push(&mut self, c: char, calls: &mut Calls) -> ObjectStep {
        let space = matches!(c, ' ' | '\n' | '\r' | '\t');
        match &mut self.state {
            State::Key { text, scanner } => {
                text.push(c);
                match scanner.push(c) {
                    Scan::Done => {
                        let Ok(key) = serde_json::from_str::<String>(text) else { return ObjectStep::Bad };
                        self.state = State::Colon { role: self.role(&key) };
                        ObjectStep::More
                    }
                    Scan::More => ObjectStep::More,
                    _ => ObjectStep::Bad,
                }
            }
            State::Value { text, streamed: false, .. } if space && text.is_empty() => ObjectStep::More,
            State::Value { role, text, streamed, scanner } => {
                if *role == Role::Arguments
                    && self.name.is_some()
                    && text.is_empty()
                    && c == '{'
                    && !*streamed
                {
                    *streamed = true;
                    self.has_arguments = true;
                }
                let (role, streamed) = (*role, *streamed);
                let scan = scanner.push(c);
                if matches!(scan, Scan::More | Scan::Done) {
                    if streamed {
                        calls.arguments(c.encode_utf8(&mut [0; 4]));
                    } else if role != Role::Other || text.is_empty() {
                        // of other values the first character is enough: it says that the value has begun
                        text.push(c);
                    }
                }
                match scan {
                    Scan::More => ObjectStep::More,
                    Scan::Bad => ObjectStep::Bad,
                    Scan::Done | Scan::DoneBefore => {
                        let text = std::mem::take(text);
                        self.state = State::AfterValue;
                        if !streamed && !self.value(role, text, calls) {
                            return ObjectStep::Bad;
                        }
                        if scan == Scan::Done { ObjectStep::More } else { self.push(c, calls) }
                    }
                }
            }
            _ if space => ObjectStep::More,
            State::Start if c == '{' => self.go(State::Member { after_comma: false }),
            State::Member { .. } if c == '"' => {
                let mut scanner = JsonScanner::new();
                scanner.push(c);
                self.go(State::Key { text: c.to_string(), scanner })
            }
            State::Colon { role } if c == ':' => {
                let role = *role;
                self.go(State::Value {
                    role,
                    text: String::new(),
                    streamed: false,
                    scanner: JsonScanner::new(),
                })
            }
            State::AfterValue if c == ',' => self.go(State::Member { after_comma: true }),
            State::AfterValue | State::Member { after_comma: false } if c == '}' => self.end(calls),
            _ => ObjectStep::Bad,
        }
    }

    fn go(&mut self, state: State) -> ObjectStep {
        self.state = state;
        ObjectStep::More
    }

    /// A second name, or second arguments, mean nothing.
    fn role(&self, key: &str) -> Role {
        match key {
            "name" if self.name.is_none() => Role::Name,
            "arguments" | "parameters" if !self.has_arguments => Role::Arguments,
            _ => Role::Other,
        }
    }

    /// Takes a complete value that was not told as it came; says whether it fits.
    fn value(&mut self, role: Role, text: String, calls: &mut Calls) -> bool {
        match role {
            Role::Other => true,
            Role::Name => {
                let name = serde_json::from_str::<String>(&text).ok().filter(|name| !name.is_empty());
                let known = |name: &String| self.known.as_ref().is_none_or(|known| known.contains(name));
                let Some(name) = name.filter(known) else { return false };
                calls.begin(&name);
                if let Some(early) = self.early.take() {
                    calls.arguments(&early);
                }
                self.name = Some(name);
                true
            }
            Role::Arguments => {
                let Some(arguments) = arguments_of(text) else { return false };
                self.has_arguments = true;
                match self.name {
                    Some(_) => calls.arguments(&arguments),
                    None => self.early = Some(arguments),
                }
                true
            }
        }
    }

    fn end(&mut self, calls: &mut Calls) -> ObjectStep {
        if self.name.is_none() {
            return ObjectStep::Bad;
        }
        if !self.has_arguments {
            calls.arguments("{}");
        }
        calls.end();
        ObjectStep::Done
    }
}

/// The arguments as the text of an object: some models write them as a string that holds JSON, or null.
fn arguments_of(text: String) -> Option<String> {
    match text.chars().next()? {
        '{' => Some(text),
        '"' => {
            let inner: String = serde_json::from_str(&text).ok()?;
            let value: serde_json::Value = serde_json::from_str(&inner).ok()?;
            value.is_object().then_some(inner)
        }
        _ => (text == "null").then(|| "{}".to_string()),
    }
}
