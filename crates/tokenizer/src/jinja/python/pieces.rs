//! Methods of `str` that take a text apart.

use std::ops::Range;

use super::super::lexer::is_space;
use super::super::limits::{Problem, Result};
use super::super::text::Text;
use super::super::value::Value;
use super::arguments::{Args, optional_int, optional_text, text};

pub(super) fn partition(value: &Text, args: Args, from_right: bool) -> Result<Value> {
    let [separator] = args.bind("partition", ["sep"])?;
    let separator = text(separator, "partition", "sep")?;
    if separator.len() == 0 {
        return Err(Problem::new("empty separator"));
    }
    value.meter().text(value.len())?;
    let (whole, n) = (value.len(), separator.len());
    let at = if from_right {
        value.as_str().rfind(separator.as_str())
    } else {
        value.as_str().find(separator.as_str())
    };
    let ranges = match (at, from_right) {
        (Some(at), _) => [0..at, at..at + n, at + n..whole],
        (None, false) => [0..whole, whole..whole, whole..whole],
        (None, true) => [0..0, 0..0, 0..whole],
    };
    let parts = ranges.into_iter().map(|range| value.slice(range).map(Value::Text)).collect::<Result<_>>()?;
    Value::tuple(value.meter(), parts)
}

pub(super) fn split(value: &Text, args: Args, from_right: bool) -> Result<Value> {
    let [separator, limit] = args.bind("split", ["sep", "maxsplit"])?;
    let separator = optional_text(separator, "split", "sep")?;
    let limit = optional_int(limit, "split", "maxsplit")?.filter(|limit| *limit >= 0);
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    value.meter().text(value.len())?;
    let mut ranges = match separator {
        Some(separator) if separator.len() == 0 => return Err(Problem::new("empty separator")),
        Some(separator) => split_at(value.as_str(), separator.as_str(), limit, from_right),
        None if from_right => split_spaces_from_right(value.as_str(), limit),
        None => split_spaces(value.as_str(), limit),
    };
    if from_right {
        ranges.reverse();
    }
    value.meter().steps(ranges.len())?;
    let parts = ranges.into_iter().map(|range| value.slice(range).map(Value::Text)).collect::<Result<_>>()?;
    Value::list(value.meter(), parts)
}

/// Pieces between separators; from the right, the last comes first.
fn split_at(text: &str, separator: &str, limit: usize, from_right: bool) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, text.len());
    while ranges.len() < limit {
        let rest = &text[start..end];
        if from_right {
            let Some(at) = rest.rfind(separator) else { break };
            ranges.push(at + separator.len()..end);
            end = at;
        } else {
            let Some(at) = rest.find(separator) else { break };
            ranges.push(start..start + at);
            start += at + separator.len();
        }
    }
    ranges.push(start..end);
    ranges
}

/// Words; what is left after `limit` splits keeps its white space at the end.
fn split_spaces(text: &str, limit: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let start = text.len() - rest.len();
        let length = match rest.find(is_space) {
            Some(length) if ranges.len() < limit => length,
            _ => rest.len(),
        };
        ranges.push(start..start + length);
        rest = rest[length..].trim_start_matches(is_space);
    }
    ranges
}

fn split_spaces_from_right(text: &str, limit: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let start = match rest.char_indices().rfind(|(_, c)| is_space(*c)) {
            Some((at, c)) if ranges.len() < limit => at + c.len_utf8(),
            _ => 0,
        };
        ranges.push(start..rest.len());
        rest = rest[..start].trim_end_matches(is_space);
    }
    ranges
}

/// `\r\n` is one end of a line.
pub(super) fn splitlines(value: &Text, args: Args) -> Result<Value> {
    const ENDS: &[char] =
        &['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let [keeps_ends] = args.bind("splitlines", ["keepends"])?;
    let keeps_ends = keeps_ends.is_some_and(|flag| flag.is_true());
    value.meter().text(value.len())?;
    let text = value.as_str();
    let (mut lines, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let end = text[start..].find(ENDS).map_or(text.len(), |at| start + at);
        let rest = &text[end..];
        let n = if rest.starts_with("\r\n") { 2 } else { rest.chars().next().map_or(0, char::len_utf8) };
        lines.push(value.slice(start..if keeps_ends { end + n } else { end }).map(Value::Text)?);
        start = end + n;
    }
    Value::list(value.meter(), lines)
}
