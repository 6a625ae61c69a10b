//! Grammars in GBNF, the notation of llama.cpp, as llama-server's field `grammar` has them.
//!
//! ```text
//! root ::= "yes" | "no" [0-9]{1,3} rest*    # a comment
//! rest ::= ("," root)? .
//! ```
//!
//! A grammar is read into rules of [`Node`]s and written as rules of the compiler. The compiler cuts a text into
//! lexemes, each as long as possible, and knows which may follow which. So everything that is regular, which is all
//! that does not lead back to its own rule, becomes one regular expression as far as it reaches; only what is
//! recursive remains a rule. Where a recursive rule follows a regular part that could also take in its beginning, the
//! regular part takes it: such a text is refused, although GBNF knows another way to read it.

mod read;
mod write;

use crate::error::ConstraintError;
use crate::limits::Limits;

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// this text
    Text(String),
    /// one character of a class, as the regex that matches it
    Class(String),
    /// a rule by its number
    Rule(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    /// at least, at most
    Repeat(Box<Node>, u64, Option<u64>),
}

/// The grammar in the compiler's language.
///
/// # Errors
/// A mistake with its line and column; a limit.
pub(crate) fn to_lark(source: &str, limits: &Limits) -> Result<String, ConstraintError> {
    let rules = read::rules(source, limits)?;
    Ok(write::lark(&rules))
}

#[cfg(test)]
mod tests;
