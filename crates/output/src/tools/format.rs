//! What a format of calls has to say; one file beside this one says it for each.

use std::fmt::Debug;

use serde_json::Value;

use super::parse::CallParser;
use super::tool::Tool;
use crate::constraint::LazyGrammar;
use crate::error::ConstraintError;
use crate::vocabulary::Vocabulary;

/// How a family of models writes calls.
pub(crate) trait Format: Debug + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Whether a chat template asks for calls in this format.
    fn is_in(&self, template: &str) -> bool;

    /// Texts that begin calls.
    fn markers(&self) -> &'static [CallMarker];

    /// Texts of the format that some models have control tokens for.
    fn words(&self) -> &'static [&'static str];

    /// Reads what follows the marker of this number.
    fn parser(&self, marker: usize, tools: &[Tool]) -> Box<dyn CallParser>;

    /// Says why a tool cannot be called in this format.
    ///
    /// # Errors
    /// That.
    fn check(&self, tool: &Tool) -> Result<(), ConstraintError>;

    /// Says why the arguments of a tool cannot be enforced in this format, though its schema can.
    ///
    /// # Errors
    /// That.
    fn check_arguments(&self, _callable: &Callable) -> Result<(), ConstraintError> {
        Ok(())
    }

    /// The grammar of a text that is calls and nothing else.
    fn required(&self, grammar: &CallGrammar) -> String;

    /// The grammars of what follows each text that begins a call.
    fn lazy(&self, grammar: &CallGrammar) -> Vec<LazyGrammar>;

    /// What a call looks like, for instructions.
    fn example(&self) -> &'static str;
}

/// A text that begins calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallMarker {
    pub(crate) text: &'static str,
    /// It counts only at the beginning of the answer.
    pub(crate) anchored: bool,
}

/// A tool, and the schema that its arguments are held to.
#[derive(Debug)]
pub(crate) struct Callable<'a> {
    pub(crate) tool: &'a Tool,
    /// As [`crate::schema::prepared_object`] makes it.
    pub(crate) schema: Value,
    /// Whether the schema is the tool's own, and not that of any object.
    pub(crate) enforced: bool,
}

/// What the grammars of calls are made of.
#[derive(Debug)]
pub(crate) struct CallGrammar<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) callables: &'a [Callable<'a>],
    /// Whether more than one call may be made.
    pub(crate) parallel: bool,
}

impl CallGrammar<'_> {
    /// `first`, or `first` and `more` any number of times.
    pub(crate) fn repeated(&self, first: &str, more: &str) -> String {
        match self.parallel {
            true => format!("{first} ({more})*"),
            false => first.to_string(),
        }
    }

    /// The alternatives `prefix_0 | prefix_1 | …`, one for each tool.
    pub(crate) fn alternatives(&self, prefix: &str) -> String {
        (0..self.callables.len()).map(|i| format!("{prefix}_{i}")).collect::<Vec<_>>().join(" | ")
    }
}
