//! Text that knows where each of its bytes comes from.
//!
//! ```text
//! "<|im_start|>" + "user" + "\n" + content.strip()
//!  own ─────────────────────────┘   └ foreign: the message's
//! ```
//!
//! Whatever a template does with a message (cuts it, joins it, changes its case), the pieces keep their origin. So what a
//! user wrote cannot become a control token: all bytes of one must be the template's own.

use std::ops::Range;
use std::rc::Rc;

use super::limits::{Held, Meter, Result};

/// Where a character or a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the template or the model's own configuration.
    Own,
    /// From what the template is rendered with. The number tells the caller's texts apart.
    Foreign(u32),
}

impl Origin {
    /// The origin of what is computed from two values.
    pub(super) fn with(self, other: Origin) -> Origin {
        if self == Origin::Own { other } else { self }
    }
}

/// Bytes of a text that are foreign, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignRange {
    pub(crate) range: Range<usize>,
    pub(crate) source: u32,
}

/// A text and the origin of its bytes. A clone shares it.
#[derive(Debug, Clone)]
pub(super) struct Text(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    text: String,
    /// In order, apart from each other or of different sources.
    foreign: Vec<ForeignRange>,
    held: Held,
}

impl Text {
    /// A text of one origin.
    pub(super) fn new(meter: &Rc<Meter>, text: &str, origin: Origin) -> Result<Text> {
        let mut builder = Builder::new(meter)?;
        builder.push(text, origin)?;
        Ok(builder.finish())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(super) fn len(&self) -> usize {
        self.0.text.len()
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        self.0.held.meter()
    }

    /// Foreign if any byte is.
    pub(super) fn origin(&self) -> Origin {
        self.0.foreign.first().map_or(Origin::Own, |foreign| Origin::Foreign(foreign.source))
    }

    /// The pieces of `range` that have one origin each.
    pub(super) fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (&str, Origin)> {
        let mut next = self.0.foreign.partition_point(|foreign| foreign.range.end <= range.start);
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (end, origin) = match self.0.foreign.get(next) {
                Some(foreign) if foreign.range.start <= at => {
                    next += 1;
                    (foreign.range.end, Origin::Foreign(foreign.source))
                }
                Some(foreign) => (foreign.range.start, Origin::Own),
                None => (range.end, Origin::Own),
            };
            let run = &self.0.text[at..end.min(range.end)];
            at = end;
            Some((run, origin))
        })
    }

    /// Every character with its origin.
    pub(super) fn chars(&self) -> impl Iterator<Item = (char, Origin)> {
        self.runs(0..self.len()).flat_map(|(run, origin)| run.chars().map(move |c| (c, origin)))
    }

    /// A piece by bytes, which must be at boundaries of characters.
    pub(super) fn slice(&self, range: Range<usize>) -> Result<Text> {
        if range == (0..self.len()) {
            return Ok(self.clone());
        }
        let mut builder = Builder::new(self.meter())?;
        builder.push_slice(self, range)?;
        Ok(builder.finish())
    }

    /// The same with every character replaced.
    pub(super) fn map(&self, mut change: impl FnMut(char, &mut dyn FnMut(char))) -> Result<Text> {
        let mut builder = Builder::new(self.meter())?;
        for (c, origin) in self.chars() {
            let mut result = Ok(());
            change(c, &mut |new| {
                if result.is_ok() {
                    result = builder.push_char(new, origin);
                }
            });
            result?;
        }
        Ok(builder.finish())
    }

    /// The characters as texts.
    pub(super) fn split_chars(&self) -> Result<Vec<Text>> {
        let indices = self.as_str().char_indices();
        indices.map(|(at, c)| self.slice(at..at + c.len_utf8())).collect()
    }

    /// The text and its foreign ranges.
    pub(super) fn parts(&self) -> (&str, &[ForeignRange]) {
        (&self.0.text, &self.0.foreign)
    }
}

/// Builds a text from pieces.
pub(super) struct Builder {
    text: String,
    foreign: Vec<ForeignRange>,
    held: Held,
}

impl Builder {
    pub(super) fn new(meter: &Rc<Meter>) -> Result<Builder> {
        let held = meter.hold(size_of::<Inner>())?;
        Ok(Builder { text: String::new(), foreign: Vec::new(), held })
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        self.held.meter()
    }

    pub(super) fn push(&mut self, text: &str, origin: Origin) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.held.meter().text(text.len())?;
        self.append(text, origin)
    }

    /// Of the template itself.
    pub(super) fn push_own(&mut self, text: &str) -> Result<()> {
        self.push(text, Origin::Own)
    }

    pub(super) fn push_char(&mut self, c: char, origin: Origin) -> Result<()> {
        self.held.meter().steps(1)?;
        self.append(c.encode_utf8(&mut [0; 4]), origin)
    }

    pub(super) fn push_text(&mut self, text: &Text) -> Result<()> {
        self.push_slice(text, 0..text.len())
    }

    pub(super) fn push_slice(&mut self, text: &Text, range: Range<usize>) -> Result<()> {
        self.held.meter().text(range.len())?;
        for (run, origin) in text.runs(range) {
            self.append(run, origin)?;
        }
        Ok(())
    }

    /// `n` times the same character.
    pub(super) fn pad(&mut self, padding: &Text, n: usize) -> Result<()> {
        for _ in 0..n {
            self.push_text(padding)?;
        }
        Ok(())
    }

    fn append(&mut self, text: &str, origin: Origin) -> Result<()> {
        self.held.grow(text.len())?;
        let start = self.text.len();
        self.text.push_str(text);
        let Origin::Foreign(source) = origin else { return Ok(()) };
        match self.foreign.last_mut() {
            Some(last) if last.range.end == start && last.source == source => {
                last.range.end = self.text.len();
            }
            _ => {
                self.held.grow(size_of::<ForeignRange>())?;
                self.foreign.push(ForeignRange { range: start..self.text.len(), source });
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Text {
        let Builder { text, foreign, held } = self;
        Text(Rc::new(Inner { text, foreign, held }))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::limits::Limits;
    use super::*;

    pub(in super::super) fn meter() -> Rc<Meter> {
        Meter::new(Limits { steps: 1_000_000, bytes: 1 << 20 })
    }

    /// Foreign characters in capitals show what is whose.
    pub(in super::super) fn mixed(parts: &[(&str, u32)]) -> Text {
        let mut builder = Builder::new(&meter()).unwrap();
        for &(part, source) in parts {
            let origin = if source == 0 { Origin::Own } else { Origin::Foreign(source) };
            builder.push(part, origin).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn pieces_keep_their_origin() {
        let text = mixed(&[("ab", 0), ("cdé", 1), ("f", 2), ("g", 2), ("h", 0)]);
        assert_eq!(text.as_str(), "abcdéfgh");
        let runs: Vec<_> = text.runs(1..7).collect();
        let (own, first, second) = (Origin::Own, Origin::Foreign(1), Origin::Foreign(2));
        assert_eq!(runs, [("b", own), ("cdé", first), ("f", second)]);
        let slice = text.slice(3..9).unwrap();
        assert_eq!(slice.runs(0..6).collect::<Vec<_>>(), [("dé", first), ("fg", second), ("h", own)]);
        let shout = text.map(|c, out| c.to_uppercase().for_each(out)).unwrap();
        assert_eq!(shout.chars().filter(|(_, origin)| *origin == own).count(), 3);
        assert_eq!(text.origin(), first);
        assert_eq!(mixed(&[]).runs(0..0).count(), 0);
    }

    #[test]
    fn a_text_beyond_the_memory_is_refused() {
        let meter = Meter::new(Limits { steps: 1_000_000, bytes: 1000 });
        let mut builder = Builder::new(&meter).unwrap();
        let padding = Text::new(&meter, "x", Origin::Own).unwrap();
        assert!(builder.pad(&padding, usize::MAX).unwrap_err().text.contains("1000 bytes"));
    }
}
