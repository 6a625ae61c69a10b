//! Stop strings in a stream of text.

/// Lets text through until a stop string is complete; holds back what may still become one.
pub(super) struct StopMatcher {
    /// each with its index
    stops: Vec<(usize, String)>,
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, PartialEq)]
pub(super) enum Passed {
    /// no stop string so far: this text is certain to be output
    Text(String),
    /// a stop string is complete
    Stopped {
        /// the text before it
        before: String,
        /// which of the stop strings
        index: usize,
    },
}

impl StopMatcher {
    /// Empty stop strings never match.
    pub(super) fn new(stops: &[String]) -> StopMatcher {
        StopMatcher {
            stops: stops.iter().cloned().enumerate().filter(|(_, stop)| !stop.is_empty()).collect(),
            held: String::new(),
        }
    }

    /// Adds a piece; the earliest stop string in the text wins.
    pub(super) fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let found =
            self.stops.iter().filter_map(|(index, stop)| Some((self.held.find(stop.as_str())?, *index)));
        if let Some((start, index)) = found.min() {
            self.held.truncate(start);
            return Passed::Stopped { before: std::mem::take(&mut self.held), index };
        }
        let n_kept = self.stops.iter().map(|(_, stop)| longest_overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - n_kept);
        Passed::Text(std::mem::replace(&mut self.held, kept))
    }

    /// What was held back, when no more text comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that begins `stop` without being all of it.
fn longest_overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(end, _)| end)
        .filter(|&end| end <= text.len() && text.ends_with(&stop[..end]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, and which string stopped it.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut output = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Passed::Text(text) => output += &text,
                Passed::Stopped { before, index } => return (output + &before, Some(index)),
            }
        }
        (output + &matcher.finish(), None)
    }

    #[test]
    fn a_stop_string_over_several_pieces_is_found_and_not_output() {
        assert_eq!(run(&["END"], &["to the E", "N", "D of it"]), ("to the ".into(), Some(0)));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(0)));
    }

    #[test]
    fn text_that_only_began_a_stop_string_comes_out() {
        assert_eq!(run(&["END"], &["the EN", "GINE"]), ("the ENGINE".into(), None));
        assert_eq!(run(&["END"], &["the E"]), ("the E".into(), None));
    }

    #[test]
    fn the_earliest_of_several_stop_strings_wins() {
        assert_eq!(run(&["b", "a"], &["xxab"]), ("xx".into(), Some(1)));
        assert_eq!(run(&["", "é"], &["caf", "é"]), ("caf".into(), Some(1)));
    }

    #[test]
    fn characters_of_several_bytes_are_never_split() {
        assert_eq!(run(&["日本語"], &["日", "本", "人"]), ("日本人".into(), None));
        assert_eq!(run(&["éa"], &["è", "é", "b"]), ("èéb".into(), None));
    }
}
