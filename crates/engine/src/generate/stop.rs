//! Stop strings in a stream of text.

/// Lets text through until a stop string is complete; holds back what may still become one.
pub(super) struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, PartialEq)]
pub(super) enum Passed {
    /// no stop string so far: this text is certain to be output
    Text(String),
    /// a stop string is complete: this is the text before it
    Stopped(String),
}

impl StopMatcher {
    /// Empty stop strings never match.
    pub(super) fn new(stops: &[String]) -> StopMatcher {
        StopMatcher {
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            held: String::new(),
        }
    }

    /// Adds a piece; the earliest stop string in the text wins.
    pub(super) fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(start) = first {
            self.held.truncate(start);
            return Passed::Stopped(std::mem::take(&mut self.held));
        }
        let n_kept = self.stops.iter().map(|stop| longest_overlap(&self.held, stop)).max().unwrap_or(0);
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

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut output = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Passed::Text(text) => output += &text,
                Passed::Stopped(text) => return (output + &text, true),
            }
        }
        (output + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_string_over_several_pieces_is_found_and_not_output() {
        assert_eq!(run(&["END"], &["to the E", "N", "D of it"]), ("to the ".into(), true));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
    }

    #[test]
    fn text_that_only_began_a_stop_string_comes_out() {
        assert_eq!(run(&["END"], &["the EN", "GINE"]), ("the ENGINE".into(), false));
        assert_eq!(run(&["END"], &["the E"]), ("the E".into(), false));
    }

    #[test]
    fn the_earliest_of_several_stop_strings_wins() {
        assert_eq!(run(&["b", "a"], &["xxab"]), ("xx".into(), true));
        assert_eq!(run(&["", "é"], &["caf", "é"]), ("caf".into(), true));
    }

    #[test]
    fn characters_of_several_bytes_are_never_split() {
        assert_eq!(run(&["日本語"], &["日", "本", "人"]), ("日本人".into(), false));
        assert_eq!(run(&["éa"], &["è", "é", "b"]), ("èéb".into(), false));
    }
}
