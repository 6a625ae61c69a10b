//! Pieces of grammars in the compiler's language, a kind of Lark.

use std::fmt::Write;

use serde_json::Value;

use crate::vocabulary::Vocabulary;

/// A text as a literal of a grammar.
pub(crate) fn literal(text: &str) -> String {
    // a JSON string, but DEL has to be escaped too
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A marker such as `<tool_call>` as a grammar names it: the control token, if it is one, or else its text.
pub(crate) fn marker(vocabulary: &Vocabulary, text: &str) -> String {
    vocabulary.control_token(text).map_or_else(|| literal(text), |id| format!("<[{id}]>"))
}

/// Rules of a grammar, one a line; the first one is `start`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    text: String,
}

impl Rules {
    /// Adds a rule.
    pub(crate) fn rule(&mut self, name: &str, body: &str) -> &mut Rules {
        let _ = writeln!(self.text, "{name}: {body}");
        self
    }

    /// Adds a rule for JSON of a prepared schema.
    pub(crate) fn json(&mut self, name: &str, schema: &Value) -> &mut Rules {
        self.rule(name, &format!("%json {schema}"))
    }

    /// Rules one after another.
    pub(crate) fn append(&mut self, other: &Rules) -> &mut Rules {
        self.text.push_str(&other.text);
        self
    }

    /// The grammar.
    pub(crate) fn text(self) -> String {
        self.text
    }
}
