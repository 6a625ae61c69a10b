//! A list of layers as one word: `0+7-9`.

use std::fmt;

/// More than any model has; bounds what a range can stand for.
pub(super) const MAX_LAYERS: usize = 1 << 12;

/// Layers from 0, rising, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerList(Vec<usize>);

impl LayerList {
    pub(super) fn new(mut layers: Vec<usize>) -> LayerList {
        layers.sort_unstable();
        layers.dedup();
        LayerList(layers)
    }

    /// `None` if it is malformed, or names a layer from [`MAX_LAYERS`] on.
    pub(super) fn parse(text: &str) -> Option<LayerList> {
        let mut layers = Vec::new();
        for part in text.split('+') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last >= MAX_LAYERS {
                return None;
            }
            layers.extend(first..=last);
        }
        Some(LayerList::new(layers))
    }

    pub(super) fn layers(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for LayerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for range in self.0.chunk_by(|a, b| a + 1 == *b) {
            match range {
                [layer] => write!(f, "{separator}{layer}")?,
                [first, second] => write!(f, "{separator}{first}+{second}")?,
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                [] => {}
            }
            separator = "+";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_listed_once_and_in_order() {
        let spelled = |text: &str| LayerList::parse(text).map(|list| list.to_string());
        assert_eq!(spelled("7+0+1-2+1").as_deref(), Some("0-2+7"));
        assert_eq!(spelled(" 3 + 4 ").as_deref(), Some("3+4"));
        for refused in ["", "3-1", "1+", "x", "-1", "0-99999999", "4096"] {
            assert_eq!(spelled(refused), None, "{refused}");
        }
    }
}
