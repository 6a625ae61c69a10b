//! How the program ends when nothing went wrong.

/// What a subcommand did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// exit code 0
    Done,
    /// Ctrl-C: exit code 130
    Interrupted,
}
