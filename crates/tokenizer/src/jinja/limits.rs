//! What a template may cost.
//!
//! A template comes with a model file, so it is a stranger's program. Everything that it can make large is counted here:
//! its own size and nesting ([`MAX_SOURCE_BYTES`], [`MAX_NESTING`]), the steps it takes, the bytes of all values that are
//! alive at once, and how deep its macros call each other. A step is one node of the program, one item of a list, or 64
//! bytes of a text that are read or written, so that a step takes a bounded time.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// Bytes of a template. The longest published ones have some 50 KB.
pub(crate) const MAX_SOURCE_BYTES: usize = 1 << 20;
/// How deep expressions and blocks of a template are nested. Python gives up at 100 to 200 as well.
pub(crate) const MAX_NESTING: usize = 200;
/// How deep evaluation goes, with the calls of macros.
pub(super) const MAX_CALL_DEPTH: usize = 1_000;
/// How deep lists and dicts may be nested in each other.
pub(super) const MAX_VALUE_DEPTH: usize = 200;
/// Longest `range`, as in Jinja's sandbox.
pub(super) const MAX_RANGE: i128 = 100_000;
/// Stack of the thread that parses and renders: enough for the nestings above in a build without optimization.
pub(super) const STACK_BYTES: usize = 64 << 20;
/// Bytes of text that one step pays for.
const BYTES_PER_STEP: usize = 64;

/// What one rendering may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Steps in all.
    pub(crate) steps: u64,
    /// Bytes of all values and of the output at one time.
    pub(crate) bytes: usize,
}

/// Why a template cannot be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Line of the template, from 1, if it is known.
    pub(crate) line: Option<usize>,
    /// What is wrong.
    pub(crate) text: String,
}

impl Problem {
    pub(super) fn new(text: impl Into<String>) -> Problem {
        Problem { line: None, text: text.into() }
    }

    /// Names the line, unless a line further inside is named already.
    pub(super) fn at(mut self, line: usize) -> Problem {
        self.line.get_or_insert(line);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) type Result<T> = std::result::Result<T, Problem>;

/// Counts what one rendering costs.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    steps: Cell<u64>,
    live_bytes: Cell<usize>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Rc<Meter> {
        Rc::new(Meter { limits, steps: Cell::new(0), live_bytes: Cell::new(0) })
    }

    /// Counts `n` steps.
    pub(super) fn steps(&self, n: usize) -> Result<()> {
        let steps = self.steps.get().saturating_add(n as u64);
        self.steps.set(steps);
        if steps > self.limits.steps {
            return Err(Problem::new(format!("takes more than {} steps, the limit", self.limits.steps)));
        }
        Ok(())
    }

    /// Counts the steps of reading or writing `n` bytes of text.
    pub(super) fn text(&self, n: usize) -> Result<()> {
        self.steps(1 + n / BYTES_PER_STEP)
    }

    /// Takes `bytes` of memory until the result is dropped.
    pub(super) fn hold(self: &Rc<Self>, bytes: usize) -> Result<Held> {
        let mut held = Held { meter: Rc::clone(self), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }
}

/// Memory that is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    meter: Rc<Meter>,
    bytes: usize,
}

impl Held {
    /// Takes more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let (live, limit) = (&self.meter.live_bytes, self.meter.limits.bytes);
        match live.get().checked_add(bytes) {
            Some(total) if total <= limit => {
                live.set(total);
                self.bytes += bytes;
                Ok(())
            }
            _ => Err(Problem::new(format!("needs more than {limit} bytes of memory, the limit"))),
        }
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.live_bytes.set(self.meter.live_bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_given_back_can_be_taken_again() {
        let meter = Meter::new(Limits { steps: 10, bytes: 100 });
        let first = meter.hold(60).unwrap();
        assert!(meter.hold(41).unwrap_err().text.contains("100 bytes"));
        drop(first);
        assert!(meter.hold(100).is_ok());
    }

    #[test]
    fn steps_are_used_up() {
        let meter = Meter::new(Limits { steps: 10, bytes: 100 });
        assert!(meter.text(64 * 8).is_ok());
        assert!(meter.steps(1).is_ok());
        assert!(meter.steps(1).unwrap_err().text.contains("10 steps"));
        assert!(meter.steps(usize::MAX).is_err());
    }
}
