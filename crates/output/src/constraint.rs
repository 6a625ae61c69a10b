//! A constraint on a text: compiled once, begun for every text.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use lossy_engine::Mask;
use serde_json::Value;

use crate::compiled::Compiled;
use crate::error::ConstraintError;
use crate::lazy::{LazyMask, Trigger};
use crate::limits::Limits;
use crate::marker::Marker;
use crate::vocabulary::Vocabulary;
use crate::{gbnf, lark, schema};

/// What a text must be. A clone shares the compiled form.
///
/// Once the text is complete and nothing can follow, only the tokens that end an answer are allowed.
#[derive(Clone, Debug)]
pub struct Constraint {
    kind: Kind,
    vocabulary: Vocabulary,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The grammar holds from the first token.
    Always(Arc<Compiled>),
    /// Each grammar holds from its marker on.
    Lazy(Arc<[Trigger]>),
}

impl Constraint {
    /// JSON that a schema allows.
    ///
    /// # Errors
    /// A keyword that cannot be enforced, with its path; a schema that is none, or that nothing satisfies; a limit.
    pub fn json_schema(
        vocabulary: &Vocabulary,
        schema: &Value,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        Constraint::prepared(vocabulary, schema::prepared(schema, limits)?, limits)
    }

    /// JSON that a prepared schema allows.
    pub(crate) fn prepared(
        vocabulary: &Vocabulary,
        prepared: Value,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        Constraint::compiled("the schema", TopLevelGrammar::from_json_schema(prepared), vocabulary, limits)
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// A limit that is far too small.
    pub fn json_object(vocabulary: &Vocabulary, limits: &Limits) -> Result<Constraint, ConstraintError> {
        Constraint::prepared(vocabulary, schema::any_object(), limits)
    }

    /// A text that matches a regular expression from beginning to end, in the syntax of Rust's crate regex, without
    /// look-around and word boundaries.
    ///
    /// # Errors
    /// A mistake in the expression; a limit.
    pub fn regex(
        vocabulary: &Vocabulary,
        regex: &str,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        check_length("the regular expression", regex, limits.regex_bytes)?;
        let (deepest, limit) = (schema::group_depth(regex) as u64, limits.depth as u64);
        if deepest > limit {
            let (path, what) = ("the regular expression".to_string(), "the depth of groups".to_string());
            return Err(ConstraintError::TooMany { path, what, found: deepest, limit });
        }
        let grammar = match regex {
            "" => "start: \"\"".to_string(),
            _ => format!("start: /{}/", llguidance::regex_to_lark(regex, "")),
        };
        Constraint::compiled(
            "the regular expression",
            TopLevelGrammar::from_lark(grammar),
            vocabulary,
            limits,
        )
    }

    /// One of several texts.
    ///
    /// # Errors
    /// No choice, or a limit.
    pub fn choice(
        vocabulary: &Vocabulary,
        choices: &[String],
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        if choices.is_empty() {
            return Err(ConstraintError::NoChoice);
        }
        let literals: Vec<String> = choices.iter().map(|choice| lark::literal(choice)).collect();
        let grammar = format!("start: CHOICE\nCHOICE: {}\n", literals.join(" | "));
        check_length("the choices", &grammar, limits.bytes)?;
        Constraint::compiled("the choice", TopLevelGrammar::from_lark(grammar), vocabulary, limits)
    }

    /// A text of a grammar: GBNF, if it has `::=`, or else llguidance's Lark. A `%json` in the latter is read by
    /// llguidance alone: it refuses some keywords that it does not enforce, and ignores others.
    ///
    /// # Errors
    /// A mistake in the grammar, with its place; a limit.
    pub fn grammar(
        vocabulary: &Vocabulary,
        grammar: &str,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        check_length("the grammar", grammar, limits.bytes)?;
        let lark = match grammar.contains("::=") {
            true => gbnf::to_lark(grammar, limits)?,
            false => grammar.to_string(),
        };
        Constraint::lark(vocabulary, lark, limits)
    }

    /// A text of a grammar in the compiler's language.
    pub(crate) fn lark(
        vocabulary: &Vocabulary,
        lark: String,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        Constraint::compiled("the grammar", TopLevelGrammar::from_lark(lark), vocabulary, limits)
    }

    /// Free text in which each marker begins a text of its grammar. An anchored marker counts only at the beginning.
    pub(crate) fn lazy(
        vocabulary: &Vocabulary,
        triggers: Vec<LazyGrammar>,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        let triggers: Result<Vec<Trigger>, _> = (triggers.into_iter())
            .map(|LazyGrammar { marker, anchored, lark }| {
                let grammar = TopLevelGrammar::from_lark(lark);
                let then = Compiled::new("the grammar of the tools", grammar, vocabulary, limits)?;
                Ok(Trigger { marker: Marker::new(vocabulary, marker, anchored), then })
            })
            .collect();
        Ok(Constraint { kind: Kind::Lazy(triggers?.into()), vocabulary: vocabulary.clone() })
    }

    fn compiled(
        what: &'static str,
        grammar: TopLevelGrammar,
        vocabulary: &Vocabulary,
        limits: &Limits,
    ) -> Result<Constraint, ConstraintError> {
        let compiled = Compiled::new(what, grammar, vocabulary, limits)?;
        Ok(Constraint { kind: Kind::Always(Arc::new(compiled)), vocabulary: vocabulary.clone() })
    }

    /// The mask of a text that begins now.
    pub fn mask(&self) -> Box<dyn Mask> {
        match &self.kind {
            Kind::Always(compiled) => Box::new(compiled.mask()),
            Kind::Lazy(triggers) => Box::new(LazyMask::new(self.vocabulary.clone(), Arc::clone(triggers))),
        }
    }
}

/// A marker and the grammar of what follows it.
pub(crate) struct LazyGrammar {
    pub(crate) marker: &'static str,
    pub(crate) anchored: bool,
    pub(crate) lark: String,
}

fn check_length(what: &'static str, text: &str, limit: usize) -> Result<(), ConstraintError> {
    match text.len() > limit {
        true => Err(ConstraintError::TooLong { what, bytes: text.len(), limit }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
