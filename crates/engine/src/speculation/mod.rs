//! Reading ahead of asking: tokens are guessed, and computed together with the one that is certain.
//!
//! An answer about a text quotes it. So where the last tokens of prompt and answer have stood before, what followed there is
//! a draft of what comes next (prompt lookup decoding, <https://github.com/apoorvumang/prompt-lookup-decoding>). One pass
//! computes the last token and the draft; the sampler then chooses row by row, and goes on as long as it chooses what was
//! drafted:
//!
//! ```text
//! last token   draft                      rows of one pass
//!     a        b    c    d
//!     │        │    │    │
//!     ▼        ▼    ▼    ▼
//!   logits   logits logits logits
//!     b   =    b    c =  c    x ≠ d       three tokens: b, c and x; what was computed of d is forgotten
//! ```
//!
//! **The text is the same, bit by bit.** Rows of a draft are computed as tokens that come one by one
//! ([`Logits::OneByOne`](crate::Logits::OneByOne)), and the sampler, its random numbers, penalties and masks take the same steps in the same order.
//! A draft never leaves the page of the token before it, nor fills it. So no page is taken, packed or let go of for
//! tokens that may be forgotten.
//!
//! **Whether it pays is known without trying.** [`Drafter`] compares every token of the answer with the one that it would have
//! drafted, whether a draft was computed or not. From that it tells how probable each token of a draft is. [`PassCosts`] measures
//! what passes of more rows take, and chooses as many as give most tokens a second. Neither changes a result.

mod costs;
mod ngrams;

use std::fmt;
use std::str::FromStr;

pub(crate) use costs::PassCosts;

use ngrams::{Match, Ngrams};

/// Whether tokens are guessed from what stood before, and computed together. No answer depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// where it pays, by what was right lately and by what passes take
    #[default]
    Auto,
    /// never
    Off,
    /// So many tokens wherever the text has stood before, whether it pays or not: to measure and to test. At most
    /// [`MOST`](Speculation::MOST).
    Fixed(usize),
}

impl Speculation {
    /// The most tokens that are drafted at once.
    pub const MOST: usize = 15;

    /// The most tokens of a draft.
    pub(crate) fn most(self) -> usize {
        match self {
            Speculation::Auto => Speculation::MOST,
            Speculation::Off => 0,
            Speculation::Fixed(n) => n.min(Speculation::MOST),
        }
    }
}

impl fmt::Display for Speculation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speculation::Auto => f.write_str("auto"),
            Speculation::Off => f.write_str("off"),
            Speculation::Fixed(n) => write!(f, "{n}"),
        }
    }
}

impl FromStr for Speculation {
    type Err = String;

    fn from_str(text: &str) -> Result<Speculation, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Speculation::Auto),
            ("off", _) => Ok(Speculation::Off),
            (_, Ok(n)) if (1..=Speculation::MOST).contains(&n) => Ok(Speculation::Fixed(n)),
            _ => Err(format!(
                "`{text}` is no kind of speculation: expected auto, off, or a number of tokens from 1 to {}",
                Speculation::MOST
            )),
        }
    }
}

/// How often a guess was right lately.
#[derive(Clone, Copy, Debug)]
struct Rate {
    probability: f64,
    /// guesses that it stands for
    weight: f64,
}

impl Rate {
    /// Guesses that a rate stands for, at most: older ones are forgotten.
    const MEMORY: f64 = 24.0;

    fn observe(&mut self, was_right: bool) {
        self.weight = (self.weight + 1.0).min(Rate::MEMORY);
        self.probability += (f64::from(u8::from(was_right)) - self.probability) / self.weight;
    }
}

/// From so many equal tokens on, and how often a guess after them is right as long as nothing is known.
const CLASSES: [(usize, f64); 7] = [(2, 0.3), (3, 0.45), (4, 0.6), (6, 0.7), (9, 0.8), (14, 0.85), (24, 0.9)];

/// Guesses that what is assumed stands for.
const ASSUMED: f64 = 4.0;

/// Guesses what comes next, and keeps account of how often it was right.
#[derive(Debug)]
pub(crate) struct Drafter {
    ngrams: Ngrams,
    /// where the end of the text has stood before
    found: Option<Match>,
    /// by [`CLASSES`]
    rates: [Rate; CLASSES.len()],
}

impl Default for Drafter {
    fn default() -> Drafter {
        let rates = CLASSES.map(|(_, probability)| Rate { probability, weight: ASSUMED });
        Drafter { ngrams: Ngrams::default(), found: None, rates }
    }
}

/// The class of a match of so many tokens.
fn class_of(len: usize) -> usize {
    CLASSES.iter().rposition(|(from, _)| *from <= len).unwrap_or(0)
}

impl Drafter {
    /// Takes notice of what the text has more than before; its first `n_prompt` tokens were not guessed.
    pub(crate) fn follow(&mut self, tokens: &[u32], n_prompt: usize) {
        if self.ngrams.len() < n_prompt {
            self.found = self.ngrams.extend(&tokens[..n_prompt]);
        }
        for end in self.ngrams.len() + 1..=tokens.len() {
            let before = self.found;
            let newest = self.ngrams.extend(&tokens[..end]);
            let went_on = before.filter(|found| tokens[found.next] == tokens[end - 1]);
            if let Some(before) = before {
                self.rates[class_of(before.len)].observe(went_on.is_some());
            }
            // Who quotes stays at one place, unless a newer one is as good.
            let here = went_on.map(|found| Match { next: found.next + 1, len: found.len + 1 });
            self.found = match (here, newest) {
                (Some(here), Some(newest)) if newest.len.min(here.len) < here.len => Some(here),
                (here, newest) => newest.or(here),
            };
        }
    }

    /// The next tokens, `most` at most, each with the probability that it and all before it are right. `tokens` is the text
    /// that was followed.
    pub(crate) fn draft(&self, tokens: &[u32], most: usize) -> (Vec<u32>, Vec<f64>) {
        let Some(found) = self.found else { return (Vec::new(), Vec::new()) };
        let mut draft: Vec<u32> = Vec::with_capacity(most);
        let mut chances = Vec::with_capacity(most);
        let mut chance = 1.0;
        for n in 0..most {
            // Behind the end of the text the draft itself goes on: a text that repeats itself.
            let next = found.next + n;
            let id = tokens.get(next).or_else(|| draft.get(next - tokens.len()));
            draft.push(*id.expect("a match stands before the end of the text"));
            chance *= self.rates[class_of(found.len + n)].probability;
            chances.push(chance);
        }
        (draft, chances)
    }
}

#[cfg(test)]
mod tests;
