//! Finds markers in a text that comes character by character.

/// Holds back what may become a marker: white space, and the beginning of a marker after it.
#[derive(Debug, Default)]
pub(crate) struct MarkerScan {
    held: String,
}

/// What one more character makes certain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// This is no part of a marker.
    pub(crate) text: String,
    /// The marker of this number ends here.
    pub(crate) marker: Option<usize>,
    /// White space before the marker, which is no text if the marker counts.
    pub(crate) space: String,
}

impl MarkerScan {
    /// Goes on by a character. The first marker that matches counts; an empty one never does.
    pub(crate) fn push(&mut self, c: char, markers: &[&str]) -> Scanned {
        self.held.push(c);
        let mut scanned = Scanned::default();
        loop {
            let candidate = self.held.trim_start();
            scanned.marker = markers.iter().position(|marker| *marker == candidate && !marker.is_empty());
            if scanned.marker.is_some() {
                let n_space = self.held.len() - candidate.len();
                self.held.truncate(n_space);
                scanned.space = std::mem::take(&mut self.held);
                return scanned;
            }
            if candidate.is_empty() || markers.iter().any(|marker| marker.starts_with(candidate)) {
                return scanned;
            }
            // white space and one character more are text
            let n_space = self.held.len() - candidate.len();
            let first = candidate.chars().next().map_or(0, char::len_utf8);
            scanned.text.extend(self.held.drain(..n_space + first));
        }
    }

    /// What is held, white space and all.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a text: the text without markers, each of them a number in brackets.
    fn scanned(text: &str, markers: &[&str]) -> String {
        let (mut scan, mut out) = (MarkerScan::default(), String::new());
        for c in text.chars() {
            let Scanned { text, marker, .. } = scan.push(c, markers);
            out.push_str(&text);
            out.extend(marker.map(|marker| format!("[{marker}]")));
        }
        out + &scan.finish()
    }

    #[test]
    fn a_marker_is_found_and_white_space_before_it_is_dropped() {
        assert_eq!(scanned("a \n <b>c", &["<b>", "<c>"]), "a[0]c");
        assert_eq!(scanned("<c><b>", &["<b>", "<c>"]), "[1][0]");
        assert_eq!(scanned("<<b>", &["<b>"]), "<[0]");
    }

    #[test]
    fn what_only_looks_like_a_marker_is_text() {
        assert_eq!(scanned("a < b <b", &["<b>"]), "a < b <b");
        assert_eq!(scanned("<a<b", &["<a<c", "<b"]), "<a[1]");
        assert_eq!(scanned(" é ", &["<b>"]), " é ");
    }
}
