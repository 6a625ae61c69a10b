//! Cuts the text of an answer into its parts while it comes.
//!
//! The text is read character by character, and what is told depends on nothing else: not on how it is cut into pieces.
//! Only what may still become a marker is held back.
//!
//! A text that begins like a call and is none is content. Once a call has begun to be told it stays a call: if its
//! arguments break off, it never ends, and the text from there on is content.

use crate::part::{Calls, Part, append};
use crate::scan::MarkerScan;
use crate::thinking::ThinkingFormat;
use crate::tools::parse::{CallParser, Progress};
use crate::tools::{Tool, ToolFormat};

/// Turns the text of an answer into [`Part`]s.
#[derive(Debug, Default)]
pub struct PartParser {
    tools: Option<(ToolFormat, Vec<Tool>)>,
    thinking: Option<ThinkingFormat>,
    phase: Phase,
    scan: MarkerScan,
    calls: Calls,
    /// What was read since the marker, or since a call began or ended.
    raw: String,
    /// How much of that is the marker, and the white space before it.
    marker_bytes: usize,
}

#[derive(Debug)]
enum Phase {
    /// the thoughts may be opened
    Before,
    Thoughts {
        has_text: bool,
    },
    /// line breaks after the thoughts
    Between,
    Content {
        has_text: bool,
    },
    Calls(Box<dyn CallParser>),
    /// after a call: only what is no white space is content
    AfterCalls,
}

impl Default for Phase {
    fn default() -> Phase {
        Phase::Content { has_text: false }
    }
}

impl PartParser {
    /// Everything is content, unless thoughts or calls are asked for.
    pub fn new() -> PartParser {
        PartParser::default()
    }

    /// Finds calls of these tools. Their schemas say what the values of parameters are, where a format needs that.
    #[must_use]
    pub fn with_tools(mut self, format: ToolFormat, tools: &[Tool]) -> PartParser {
        self.tools = Some((format, tools.to_vec()));
        self
    }

    /// Finds thoughts at the beginning; `opened` if the prompt has opened them.
    #[must_use]
    pub fn with_thinking(mut self, format: ThinkingFormat, opened: bool) -> PartParser {
        self.thinking = Some(format);
        self.phase = if opened { Phase::Thoughts { has_text: false } } else { Phase::Before };
        self
    }

    /// The parts that are certain after one more piece of the text.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for c in text.chars() {
            // what turns out to be something else is read once more, before the next character
            let mut again = vec![c];
            while let Some(c) = again.pop() {
                let unread = self.step(c, &mut parts);
                again.extend(unread.chars().rev());
            }
        }
        parts
    }

    /// What is left when the text is over.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let held = self.scan.finish();
        match std::mem::replace(&mut self.phase, Phase::AfterCalls) {
            Phase::Thoughts { .. } => text(&mut parts, Part::Thinking(held.trim_end().to_string())),
            Phase::Calls(mut parser) => {
                parser.finish(&mut self.calls);
                self.calls.move_to(&mut parts);
                if !self.calls.is_open() && !parser.is_between() {
                    text(&mut parts, Part::Content(std::mem::take(&mut self.raw)));
                }
            }
            Phase::AfterCalls if held.trim().is_empty() => {}
            _ => text(&mut parts, Part::Content(held)),
        }
        parts
    }

    /// Reads a character. Returns what has to be read once more.
    fn step(&mut self, c: char, parts: &mut Vec<Part>) -> String {
        match &mut self.phase {
            Phase::Before => {
                let scanned = self.scan.push(c, &[self.thinking.map_or("", |format| format.open())]);
                if scanned.marker.is_some() {
                    self.phase = Phase::Thoughts { has_text: false };
                } else if !scanned.text.is_empty() {
                    self.phase = Phase::Content { has_text: false };
                    return scanned.text + &self.scan.finish();
                }
            }
            Phase::Thoughts { has_text: false } if c.is_whitespace() => {}
            Phase::Thoughts { has_text } => {
                *has_text = true;
                let scanned = self.scan.push(c, &[self.thinking.map_or("", |format| format.close())]);
                text(parts, Part::Thinking(scanned.text));
                if scanned.marker.is_some() {
                    self.phase = Phase::Between;
                }
            }
            Phase::Between if matches!(c, '\n' | '\r') => {}
            Phase::Between => {
                self.phase = Phase::Content { has_text: false };
                return c.to_string();
            }
            Phase::Content { .. } | Phase::AfterCalls => self.content(c, parts),
            Phase::Calls(parser) => {
                self.raw.push(c);
                let progress = parser.push(c, &mut self.calls);
                self.calls.move_to(parts);
                if self.calls.has_turned() {
                    self.raw.clear();
                    self.marker_bytes = 0;
                }
                return self.after_call_step(progress, parts);
            }
        }
        String::new()
    }

    fn content(&mut self, c: char, parts: &mut Vec<Part>) {
        let at_start = matches!(self.phase, Phase::Content { has_text: false });
        let markers = self.tools.as_ref().map_or(&[][..], |(format, _)| format.format().markers());
        // a marker that counts only at the beginning is looked for only there; the order stays, for its number
        let texts: Vec<&str> = markers
            .iter()
            .map(|marker| if marker.anchored && !at_start { "" } else { marker.text })
            .collect();
        let scanned = self.scan.push(c, &texts);
        let mut before = scanned.text;
        let found = scanned.marker.filter(|&found| {
            // not at the beginning after all
            let is_text = markers[found].anchored && !before.is_empty();
            if is_text {
                before.push_str(&scanned.space);
                before.push_str(markers[found].text);
            }
            !is_text
        });
        if !before.is_empty() {
            self.phase = Phase::Content { has_text: true };
            text(parts, Part::Content(before));
        }
        if let (Some(found), Some((format, tools))) = (found, &self.tools) {
            self.phase = Phase::Calls(format.format().parser(found, tools));
            self.raw = scanned.space + markers[found].text;
            self.marker_bytes = self.raw.len();
        }
    }

    /// Goes where the parser of calls says. Returns what has to be read once more.
    fn after_call_step(&mut self, progress: Progress, parts: &mut Vec<Part>) -> String {
        let raw = match progress {
            Progress::More => return String::new(),
            _ => std::mem::take(&mut self.raw),
        };
        self.phase = Phase::AfterCalls;
        match progress {
            Progress::More | Progress::Done => String::new(),
            Progress::DoneBefore(rest) => rest,
            Progress::Broken(rest) if self.calls.is_open() => {
                self.calls.give_up();
                rest
            }
            Progress::Broken(_) => {
                let (marker, rest) = raw.split_at(self.marker_bytes);
                if !marker.is_empty() {
                    self.phase = Phase::Content { has_text: true };
                    text(parts, Part::Content(marker.to_string()));
                }
                rest.to_string()
            }
        }
    }
}

/// Appends text, if there is any.
fn text(parts: &mut Vec<Part>, part: Part) {
    let (Part::Thinking(text) | Part::Content(text)) = &part else { return };
    if !text.is_empty() {
        append(parts, part);
    }
}

#[cfg(test)]
mod tests;
