//! The text that is measured on when none is given: see `text/README.md`.

/// A part of the bundled text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundledText {
    /// what it is
    pub name: &'static str,
    /// the text
    pub text: &'static str,
}

/// Prose, code and dialogue. Nothing of it is used to calibrate a scheme.
pub const BUNDLED: [BundledText; 3] = [
    BundledText { name: "prose", text: include_str!("../text/prose.txt") },
    BundledText { name: "code", text: include_str!("../text/code.txt") },
    BundledText { name: "dialogue", text: include_str!("../text/dialogue.txt") },
];
