//! What a generated text must be, and what its parts are.
//!
//! - [`Constraint`]: a JSON schema, a regular expression, a choice, a grammar. It makes a [`Mask`](lossy_engine::Mask) that lets only
//!   tokens through which lead to such a text.
//! - [`ToolFormat`]: how models write calls of tools, and the constraint under which they write them right.
//! - [`Thinking`]: thoughts before an answer, with a budget; a constraint holds for what follows them.
//! - [`decision`]: questions with a fixed set of answers, each of which gets a probability.
//! - [`PartParser`]: cuts a text into thoughts, content and calls while it comes.
//!
//! Everything here works on what strangers send. What cannot be enforced is an error that says so, and what would take
//! long or much memory exceeds a bound of [`Limits`].
#![forbid(unsafe_code)]

mod limits;
mod error;
mod vocabulary;
mod marker;
mod compiled;
mod lazy;
mod lark;
mod schema;
mod gbnf;
mod constraint;
mod part;
mod scan;
mod thinking;
mod tools;
mod parts;
mod visible;
pub mod decision;
#[cfg(test)]
mod testing;

pub use constraint::Constraint;
pub use error::{ConstraintError, VocabularyError};
pub use limits::Limits;
pub use part::Part;
pub use parts::PartParser;
pub use thinking::{Thinking, ThinkingFormat};
pub use tools::{Tool, ToolChoice, ToolFormat};
pub use visible::visible_tokens;
pub use vocabulary::Vocabulary;
