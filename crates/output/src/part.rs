//! The parts of an answer, and how calls are written down as they are found.

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// what the model thinks before it answers
    Thinking(String),
    /// what it says
    Content(String),
    /// A call of a tool begins.
    CallBegins {
        /// counts the calls of an answer from 0
        index: usize,
        /// the tool
        name: String,
    },
    /// The next piece of a call's arguments, which are JSON text.
    CallArguments {
        /// which call
        index: usize,
        /// the piece
        text: String,
    },
    /// A call is complete. One that is cut off, or whose arguments break off, never ends.
    CallEnds {
        /// which call
        index: usize,
    },
}

/// Appends a part; text of one kind is one part.
pub(crate) fn append(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Thinking(text)), Part::Thinking(more))
        | (Some(Part::Content(text)), Part::Content(more)) => {
            text.push_str(&more);
        }
        (Some(Part::CallArguments { index, text }), Part::CallArguments { index: same, text: more })
            if *index == same =>
        {
            text.push_str(&more)
        }
        (_, part) => parts.push(part),
    }
}

/// Where a parser of calls puts what it finds.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    parts: Vec<Part>,
    /// Calls that have begun.
    n_begun: usize,
    open: bool,
    /// A call has begun or ended since this was asked last.
    turned: bool,
}

impl Calls {
    pub(crate) fn begin(&mut self, name: &str) {
        self.parts.push(Part::CallBegins { index: self.n_begun, name: name.to_string() });
        self.n_begun += 1;
        (self.open, self.turned) = (true, true);
    }

    pub(crate) fn arguments(&mut self, text: &str) {
        let index = self.n_begun.saturating_sub(1);
        append(&mut self.parts, Part::CallArguments { index, text: text.to_string() });
    }

    pub(crate) fn end(&mut self) {
        self.parts.push(Part::CallEnds { index: self.n_begun.saturating_sub(1) });
        (self.open, self.turned) = (false, true);
    }

    /// Whether a call has begun or ended since this was asked last.
    pub(crate) fn has_turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    /// Whether a call has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The call that has begun never ends.
    pub(crate) fn give_up(&mut self) {
        self.open = false;
    }

    /// Moves what was found to the end of `parts`.
    pub(crate) fn move_to(&mut self, parts: &mut Vec<Part>) {
        self.parts.drain(..).for_each(|part| append(parts, part));
    }
}
