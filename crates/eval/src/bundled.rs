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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::BUNDLED;
    use lossy_engine::CALIBRATION_TEXT;

    /// All runs of eight words, whatever stands between them.
    fn runs(text: &str) -> HashSet<Vec<&str>> {
        let words: Vec<&str> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        words.windows(8).map(<[&str]>::to_vec).collect()
    }

    #[test]
    fn nothing_that_is_measured_was_calibrated_on() {
        let calibration = runs(CALIBRATION_TEXT);
        assert!(calibration.len() > 1000);
        for text in BUNDLED {
            let shared: Vec<_> = runs(text.text).intersection(&calibration).cloned().collect();
            assert!(shared.is_empty(), "{}: {shared:?}", text.name);
        }
    }
}
