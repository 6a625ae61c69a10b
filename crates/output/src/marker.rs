//! Finds a marker, such as `<tool_call>` or `</think>`, in a text that grows token by token.
//!
//! What follows the marker is constrained, so a token that ends the marker must end with it: a token that goes on
//! would put bytes into the constrained part that nobody checked. Such tokens are known beforehand for every place
//! within the marker, and are forbidden there.

use crate::vocabulary::Vocabulary;

/// A marker has at most so many bytes, one bit each.
const MOST_BYTES: usize = 64;

/// A marker and what is known of the vocabulary about it.
#[derive(Debug)]
pub(crate) struct Marker {
    bytes: Vec<u8>,
    /// The text counts only at the very beginning.
    anchored: bool,
    /// The token that is the marker, if the text cannot spell it.
    control: Option<u32>,
    /// Tokens that end the marker and go on, with a bit for every state in which they do.
    overrunning: Vec<(u32, u64)>,
}

/// How much of the marker the text ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkerState(usize);

/// The state of an anchored marker that the text does not begin with.
const NEVER: MarkerState = MarkerState(usize::MAX);

impl MarkerState {
    /// The beginning of the text.
    pub(crate) const START: MarkerState = MarkerState(0);

    /// Whether the marker can no longer come.
    pub(crate) fn is_over(self) -> bool {
        self == NEVER
    }
}

/// What a token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// the marker is not there yet
    On(MarkerState),
    /// the marker ends so many bytes before the token does
    Found { bytes_after: usize },
}

impl Marker {
    /// Looks for `text` anywhere, or only at the beginning if `anchored`.
    ///
    /// # Panics
    /// The marker is empty or longer than 64 bytes: markers are constants.
    pub(crate) fn new(vocabulary: &Vocabulary, text: &str, anchored: bool) -> Marker {
        assert!((1..=MOST_BYTES).contains(&text.len()), "the marker {text:?} has 1 to {MOST_BYTES} bytes");
        let control = vocabulary.control_token(text);
        let mut marker = Marker { bytes: text.into(), anchored, control, overrunning: Vec::new() };
        for id in 0..vocabulary.n_vocab() as u32 {
            let bytes = vocabulary.text_bytes(id);
            let states = (0..text.len())
                .filter(|&state| marker.overruns(MarkerState(state), &bytes))
                .fold(0, |states, state| states | 1 << state);
            if states != 0 {
                marker.overrunning.push((id, states));
            }
        }
        marker
    }

    fn overruns(&self, state: MarkerState, bytes: &[u8]) -> bool {
        // most tokens lack the last byte of the marker
        let last = self.bytes[self.bytes.len() - 1];
        bytes.iter().rev().skip(1).any(|&byte| byte == last)
            && matches!(self.advance(state, bytes), Step::Found { bytes_after } if bytes_after > 0)
    }

    /// Goes on past the bytes of a token.
    fn advance(&self, state: MarkerState, bytes: &[u8]) -> Step {
        let MarkerState(mut matched) = state;
        if state == NEVER {
            return Step::On(NEVER);
        }
        for (i, &byte) in bytes.iter().enumerate() {
            while self.bytes[matched] != byte {
                if self.anchored {
                    return Step::On(NEVER);
                }
                if matched == 0 {
                    break;
                }
                matched = self.border(matched);
            }
            matched += usize::from(self.bytes[matched] == byte);
            if matched == self.bytes.len() {
                return Step::Found { bytes_after: bytes.len() - i - 1 };
            }
        }
        Step::On(MarkerState(matched))
    }

    /// The longest beginning of the marker, shorter than `matched`, that its first `matched` bytes end with.
    fn border(&self, matched: usize) -> usize {
        (0..matched).rev().find(|&n| self.bytes[..matched].ends_with(&self.bytes[..n])).unwrap_or(0)
    }

    /// Goes on past a token.
    pub(crate) fn accept(&self, vocabulary: &Vocabulary, state: MarkerState, id: u32) -> Step {
        if self.control == Some(id) {
            return match self.anchored && state != MarkerState::START {
                true => Step::On(NEVER),
                false => Step::Found { bytes_after: 0 },
            };
        }
        self.advance(state, &vocabulary.text_bytes(id))
    }

    /// Forbids the tokens that end the marker and go on.
    pub(crate) fn forbid_overrunning(&self, state: MarkerState, logits: &mut [f32]) {
        let MarkerState(matched) = state;
        for &(id, states) in self.overrunning.iter().filter(|_| state != NEVER) {
            if states >> matched & 1 == 1
                && let Some(logit) = logits.get_mut(id as usize)
            {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
