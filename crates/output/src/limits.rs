//! What a constraint may cost.
//!
//! Schemas, grammars and regular expressions come from strangers. Each is bounded before it is compiled, while it is
//! compiled, and at every token: what exceeds a bound is an error, and neither a long wait nor much memory.

use llguidance::api::ParserLimits;

/// Bounds of one constraint. The defaults leave room for the schemas of all tools of a coding agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a schema, written as JSON, of a grammar, of all choices together, or of the schemas of all tools.
    pub bytes: usize,
    /// Bytes of one regular expression.
    pub regex_bytes: usize,
    /// Schemas within schemas, or groups within groups.
    pub depth: usize,
    /// Schemas in a schema, those behind references counted once.
    pub schemas: usize,
    /// How many schemas combinations (`allOf` of `anyOf`, …) may multiply into.
    pub combinations: usize,
    /// Properties of one object, and items of one `prefixItems`.
    pub members: usize,
    /// The largest `minLength`, `maxLength`, `minItems`, `maxItems`, `minProperties` and `maxProperties`, and the
    /// largest number of repetitions in a grammar.
    pub repetitions: u64,
    /// Symbols of the compiled grammar.
    pub grammar_size: usize,
    /// Work on the lexer while a constraint is compiled; 50,000 units take about a millisecond.
    pub compile_fuel: u64,
    /// Work on the lexer at one token; 14,000 units take about a millisecond.
    pub token_fuel: u64,
    /// Items that the parser may make at one token; 20,000 take about a millisecond.
    pub token_items: usize,
    /// States of the lexer, which stay until the answer ends; each takes one or two kilobytes.
    pub lexer_states: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 512 << 10,
            regex_bytes: 4 << 10,
            depth: 64,
            schemas: 10_000,
            combinations: 2_000,
            members: 1_000,
            repetitions: 100_000,
            grammar_size: 200_000,
            compile_fuel: 1_000_000,
            token_fuel: 400_000,
            token_items: 100_000,
            lexer_states: 30_000,
        }
    }
}

impl Limits {
    /// The same for the parser.
    pub(crate) fn parser(&self) -> ParserLimits {
        ParserLimits {
            initial_lexer_fuel: self.compile_fuel,
            step_lexer_fuel: self.token_fuel,
            step_max_items: self.token_items,
            max_lexer_states: self.lexer_states,
            max_grammar_size: self.grammar_size,
            precompute_large_lexemes: false,
            verbose_errors: false,
            ..ParserLimits::default()
        }
    }
}
