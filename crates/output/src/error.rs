//! What can be wrong with a constraint.

/// Why a vocabulary cannot be used for constraints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// Nothing could ever end a constrained answer.
    #[error(
        "no token of the model ends an answer, so no answer can be constrained: its tokenizer needs an end token"
    )]
    NoEnd,
    /// More than the tables can hold.
    #[error(
        "the vocabulary has {tokens} tokens of {bytes} bytes together; constraints need fewer than {limit} of each"
    )]
    TooLarge {
        /// tokens of the model
        tokens: usize,
        /// bytes of all tokens
        bytes: usize,
        /// the most of both
        limit: usize,
    },
    /// The tables could not be built.
    #[error("the tables of the vocabulary cannot be built: {0}")]
    Tables(String),
}

/// Why there is no such constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// A text that is longer than its limit.
    #[error("{what} has {bytes} bytes, more than {limit}: make it shorter")]
    TooLong {
        /// what is too long
        what: &'static str,
        /// its length
        bytes: usize,
        /// the most
        limit: usize,
    },
    /// Too many of something, or too large a number.
    #[error("at `{path}`: {what} is {found}, more than {limit}: make it smaller")]
    TooMany {
        /// JSON pointer, or the place in a grammar
        path: String,
        /// what is counted
        what: String,
        /// how many there are
        found: u64,
        /// the most
        limit: u64,
    },
    /// A keyword of a JSON schema that would be ignored.
    #[error(
        "the keyword `{keyword}` at `{path}` cannot be enforced ({why}): remove it or write the schema without it"
    )]
    NotEnforced {
        /// the keyword
        keyword: String,
        /// JSON pointer to the schema that has it
        path: String,
        /// what about it cannot be enforced
        why: String,
    },
    /// A JSON schema that is none.
    #[error("the schema is wrong at `{path}`: {problem}")]
    BadSchema {
        /// JSON pointer
        path: String,
        /// what is wrong
        problem: String,
    },
    /// A mistake in a grammar.
    #[error("the grammar is wrong in line {line}, column {column}: {problem}")]
    BadGrammar {
        /// counts from 1
        line: usize,
        /// counts from 1
        column: usize,
        /// what is wrong
        problem: String,
    },
    /// A constraint that cannot be compiled, or that no text satisfies.
    #[error("{what} cannot be compiled: {problem}")]
    Compile {
        /// a schema, a grammar, …
        what: &'static str,
        /// what the compiler says
        problem: String,
    },
    /// A choice among nothing.
    #[error("there is nothing to choose from: give at least one choice")]
    NoChoice,
    /// A tool must be called, but there is none.
    #[error("a call of a tool is required, but there are no tools: give tools, or do not require a call")]
    NoTools,
    /// The tool that must be called is not there.
    #[error("a call of the tool `{name}` is required, but it is not among the tools: {tools}")]
    UnknownTool {
        /// its name
        name: String,
        /// names of the tools
        tools: String,
    },
    /// Something is wrong with a tool.
    #[error("tool `{name}`: {problem}")]
    BadTool {
        /// its name
        name: String,
        /// what is wrong
        problem: String,
    },
    /// The parameters of a tool cannot be enforced.
    #[error("tool `{name}`: {source}")]
    Tool {
        /// its name
        name: String,
        /// why not
        source: Box<ConstraintError>,
    },
}
