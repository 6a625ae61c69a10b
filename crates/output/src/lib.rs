//! What a generated text must be, and what its parts are: schemas and grammars, thinking, tool calls.
#![forbid(unsafe_code)]
