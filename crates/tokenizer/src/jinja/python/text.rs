//! Methods of `str`. Pieces of a text keep their origin.

use std::ops::Range;
use std::sync::LazyLock;

use regex_automata::meta::Regex;

use super::super::lexer::is_space;
use super::super::limits::{Problem, Result};
use super::super::text::{Builder, Origin, Text};
use super::super::value::Value;
use super::arguments::{Args, optional_int, optional_text, required, text};
use super::{braces, byte_of_char, iterate, length, padding, pieces};

type Method = fn(&Text, Args) -> Result<Value>;

pub(super) const METHODS: &[(&str, Method)] = &[
    ("capitalize", |text, _| capitalize(text).map(Value::Text)),
    ("casefold", |text, _| lower(text).map(Value::Text)),
    ("center", |text, args| padding::justified(text, args, "center")),
    ("count", count),
    ("endswith", |text, args| begins(text, args, "endswith")),
    ("expandtabs", padding::expandtabs),
    ("find", |text, args| Ok(found(text, args, "find")?.unwrap_or(Value::Int(-1, Origin::Own)))),
    ("format", braces::format),
    ("index", |text, args| found(text, args, "index")?.ok_or_else(|| Problem::new("substring not found"))),
    ("isalnum", |text, _| all(text, |c| c.is_alphanumeric())),
    ("isalpha", |text, _| all(text, |c| is_in(c, &LETTER))),
    ("isascii", |text, _| Ok(Value::Bool(text.as_str().is_ascii()))),
    ("isdecimal", |text, _| all(text, |c| is_in(c, &DIGIT))),
    ("isdigit", |text, _| all(text, |c| is_in(c, &DIGIT) || "²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉".contains(c))),
    ("islower", |text, _| cased(text, char::is_lowercase, char::is_uppercase)),
    ("isnumeric", |text, _| all(text, char::is_numeric)),
    ("isspace", |text, _| all(text, is_space)),
    ("istitle", |text, _| is_title(text)),
    ("isupper", |text, _| cased(text, char::is_uppercase, char::is_lowercase)),
    ("join", join),
    ("ljust", |text, args| padding::justified(text, args, "ljust")),
    ("lower", |text, _| lower(text).map(Value::Text)),
    ("lstrip", |text, args| stripped(text, args, true, false)),
    ("partition", |text, args| pieces::partition(text, args, false)),
    ("removeprefix", |text, args| removed(text, args, true)),
    ("removesuffix", |text, args| removed(text, args, false)),
    ("replace", replace),
    ("rfind", |text, args| Ok(found(text, args, "rfind")?.unwrap_or(Value::Int(-1, Origin::Own)))),
    ("rindex", |text, args| found(text, args, "rindex")?.ok_or_else(|| Problem::new("substring not found"))),
    ("rjust", |text, args| padding::justified(text, args, "rjust")),
    ("rpartition", |text, args| pieces::partition(text, args, true)),
    ("rsplit", |text, args| pieces::split(text, args, true)),
    ("rstrip", |text, args| stripped(text, args, false, true)),
    ("split", |text, args| pieces::split(text, args, false)),
    ("splitlines", pieces::splitlines),
    ("startswith", |text, args| begins(text, args, "startswith")),
    ("strip", |text, args| stripped(text, args, true, true)),
    ("swapcase", swapcase),
    ("title", |text, _| title(text, |c| !is_cased(c)).map(Value::Text)),
    ("upper", |text, _| text.map(|c, out| c.to_uppercase().for_each(out)).map(Value::Text)),
    ("zfill", padding::zfill),
];

static LETTER: LazyLock<Regex> = LazyLock::new(|| class(r"\p{L}"));
static DIGIT: LazyLock<Regex> = LazyLock::new(|| class(r"\p{Nd}"));

fn class(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns of this crate compile")
}

fn is_in(c: char, class: &Regex) -> bool {
    class.is_match(c.encode_utf8(&mut [0; 4]).as_bytes())
}

fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase() || "ǅǈǋǲ".contains(c)
}

fn all(text: &Text, test: impl Fn(char) -> bool) -> Result<Value> {
    text.meter().steps(text.len())?;
    Ok(Value::Bool(text.len() > 0 && text.as_str().chars().all(test)))
}

/// Whether a character is `wanted` and none is `refused`.
fn cased(text: &Text, wanted: fn(char) -> bool, refused: fn(char) -> bool) -> Result<Value> {
    text.meter().steps(text.len())?;
    let text = text.as_str();
    Ok(Value::Bool(text.chars().any(wanted) && !text.chars().any(refused)))
}

fn is_title(text: &Text) -> Result<Value> {
    text.meter().steps(text.len())?;
    let (mut after_cased, mut any) = (false, false);
    for c in text.as_str().chars() {
        let is_right = if c.is_uppercase() { !after_cased } else { !c.is_lowercase() || after_cased };
        if !is_right {
            return Ok(Value::Bool(false));
        }
        after_cased = is_cased(c);
        any |= after_cased;
    }
    Ok(Value::Bool(any))
}

/// `str.lower`; a capital sigma at the end of a word becomes a final one.
fn lower(text: &Text) -> Result<Text> {
    let mut out = Builder::new(text.meter())?;
    let mut chars = text.chars().peekable();
    let mut after_letter = false;
    while let Some((c, origin)) = chars.next() {
        let before_letter = chars.peek().is_some_and(|(next, _)| is_cased(*next));
        if c == 'Σ' && after_letter && !before_letter {
            out.push_char('ς', origin)?;
        } else {
            for lower in c.to_lowercase() {
                out.push_char(lower, origin)?;
            }
        }
        after_letter = is_cased(c);
    }
    Ok(out.finish())
}

pub(in super::super) fn capitalize(text: &Text) -> Result<Text> {
    let mut is_first = true;
    text.map(|c, out| {
        if std::mem::replace(&mut is_first, false) {
            c.to_uppercase().for_each(out);
        } else {
            c.to_lowercase().for_each(out);
        }
    })
}

/// Capitals after every character that separates words.
pub(in super::super) fn title(text: &Text, separates: impl Fn(char) -> bool) -> Result<Text> {
    let mut begins = true;
    text.map(|c, out| {
        if begins {
            c.to_uppercase().for_each(out);
        } else {
            c.to_lowercase().for_each(out);
        }
        begins = separates(c);
    })
}

fn swapcase(text: &Text, _: Args) -> Result<Value> {
    let swapped = text.map(|c, out| {
        if c.is_uppercase() { c.to_lowercase().for_each(out) } else { c.to_uppercase().for_each(out) }
    });
    swapped.map(Value::Text)
}

/// Without white space, or characters of `chars`, at its ends.
pub(in super::super) fn strip(text: &Text, chars: Option<&str>, left: bool, right: bool) -> Result<Text> {
    let chars: Option<Vec<char>> = chars.map(|chars| chars.chars().collect());
    text.meter().steps(text.len() / 64 * (1 + chars.as_ref().map_or(0, Vec::len)))?;
    let goes = |c: char| chars.as_ref().map_or_else(|| is_space(c), |chars| chars.contains(&c));
    let mut kept = text.as_str();
    if right {
        kept = kept.trim_end_matches(goes);
    }
    let end = kept.len();
    if left {
        kept = kept.trim_start_matches(goes);
    }
    text.slice(end - kept.len()..end)
}

fn stripped(value: &Text, args: Args, left: bool, right: bool) -> Result<Value> {
    let [chars] = args.bind("strip", ["chars"])?;
    let chars = optional_text(chars, "strip", "chars")?;
    strip(value, chars.as_ref().map(Text::as_str), left, right).map(Value::Text)
}

fn removed(value: &Text, args: Args, is_prefix: bool) -> Result<Value> {
    let [affix] = args.bind("removeprefix", ["prefix"])?;
    let affix = text(affix, "removeprefix", "prefix")?;
    let (whole, affix) = (value.as_str(), affix.as_str());
    let range = match is_prefix {
        true if whole.starts_with(affix) => affix.len()..whole.len(),
        false if whole.ends_with(affix) => 0..whole.len() - affix.len(),
        _ => 0..whole.len(),
    };
    value.slice(range).map(Value::Text)
}

/// The bytes of characters `start` to `end`, which count from the end if negative; `None` if `start` lies beyond it.
fn range(text: &Text, start: Option<i128>, end: Option<i128>) -> Result<Option<Range<usize>>> {
    if start.is_none() && end.is_none() {
        return Ok(Some(0..text.len()));
    }
    let n = length(text.meter(), &Value::Text(text.clone()))? as i128;
    let place = |at: i128| if at < 0 { (at + n).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(n)).min(n));
    if start > end {
        return Ok(None);
    }
    let byte = |n: i128| byte_of_char(text, usize::try_from(n).unwrap_or(usize::MAX));
    Ok(Some(byte(start)?..byte(end)?))
}

fn begins(value: &Text, args: Args, who: &str) -> Result<Value> {
    let [affix, start, end] = args.bind(who, ["prefix", "start", "end"])?;
    let affixes = match required(affix, who, "prefix")? {
        Value::Tuple(items) => items.values.clone(),
        other => vec![other],
    };
    let Some(range) = range(value, optional_int(start, who, "start")?, optional_int(end, who, "end")?)?
    else {
        return Ok(Value::Bool(false));
    };
    let part = &value.as_str()[range];
    for affix in affixes {
        let affix = text(Some(affix), who, "prefix")?;
        value.meter().text(affix.len())?;
        let fits =
            if who == "endswith" { part.ends_with(affix.as_str()) } else { part.starts_with(affix.as_str()) };
        if fits {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// The character at which a part begins.
fn found(value: &Text, args: Args, who: &str) -> Result<Option<Value>> {
    let [part, start, end] = args.bind(who, ["sub", "start", "end"])?;
    let part = text(part, who, "sub")?;
    value.meter().text(value.len() + part.len())?;
    let Some(range) = range(value, optional_int(start, who, "start")?, optional_int(end, who, "end")?)?
    else {
        return Ok(None);
    };
    let inside = &value.as_str()[range.clone()];
    let at = if who.starts_with('r') { inside.rfind(part.as_str()) } else { inside.find(part.as_str()) };
    Ok(at.map(|at| Value::int(value.as_str()[..range.start + at].chars().count())))
}

fn count(value: &Text, args: Args) -> Result<Value> {
    let [part, start, end] = args.bind("count", ["sub", "start", "end"])?;
    let part = text(part, "count", "sub")?;
    value.meter().text(value.len() + part.len())?;
    let range = range(value, optional_int(start, "count", "start")?, optional_int(end, "count", "end")?)?;
    let n = range.map_or(0, |range| value.as_str()[range].matches(part.as_str()).count());
    Ok(Value::int(n))
}

fn join(separator: &Text, args: Args) -> Result<Value> {
    let [items] = args.bind("join", ["iterable"])?;
    let items = iterate(separator.meter(), &required(items, "join", "iterable")?)?;
    let mut out = Builder::new(separator.meter())?;
    for (i, item) in items.values.iter().enumerate() {
        let Value::Text(item) = item else {
            let kind = item.type_name();
            return Err(Problem::new(format!("sequence item {i}: expected str instance, {kind} found")));
        };
        if i > 0 {
            out.push_text(separator)?;
        }
        out.push_text(item)?;
    }
    Ok(Value::Text(out.finish()))
}

fn replace(value: &Text, args: Args) -> Result<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"])?;
    let (old, new) = (text(old, "replace", "old")?, text(new, "replace", "new")?);
    let count = optional_int(count, "replace", "count")?;
    replaced(value, &old, &new, count).map(Value::Text)
}

/// `str.replace`; an empty `old` stands between all characters.
pub(in super::super) fn replaced(value: &Text, old: &Text, new: &Text, count: Option<i128>) -> Result<Text> {
    let limit = count.filter(|count| *count >= 0).map_or(usize::MAX, |count| count as usize);
    value.meter().text(value.len() + old.len())?;
    let mut out = Builder::new(value.meter())?;
    let mut copied = 0;
    for (at, part) in value.as_str().match_indices(old.as_str()).take(limit) {
        out.push_slice(value, copied..at)?;
        out.push_text(new)?;
        copied = at + part.len();
    }
    out.push_slice(value, copied..value.len())?;
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    use super::super::super::text::tests::{meter, mixed};
    use super::super::repr;
    use super::*;

    /// A method of a text, printed as Python does.
    fn call(text: &str, method: &str, args: &[Value]) -> String {
        let text = mixed(&[(text, 1)]);
        let args = Args { positional: args.to_vec(), ..Args::default() };
        let (_, method) = METHODS.iter().find(|(name, _)| *name == method).unwrap();
        match method(&text, args) {
            Ok(value) => repr(&meter(), &value).unwrap().as_str().to_string(),
            Err(problem) => problem.text,
        }
    }

    fn s(text: &str) -> Value {
        Value::Text(mixed(&[(text, 0)]))
    }

    fn n(number: i128) -> Value {
        Value::Int(number, Origin::Own)
    }

    #[test]
    fn methods_answer_as_in_python() {
        let cases: &[(&str, &str, &[Value], &str)] = &[
            (" a  b ", "split", &[], "['a', 'b']"),
            (" a  b ", "split", &[Value::None, n(1)], "['a', 'b ']"),
            (" a  b c ", "rsplit", &[Value::None, n(1)], "[' a  b', 'c']"),
            ("a,b,,c", "split", &[s(",")], "['a', 'b', '', 'c']"),
            ("a,b,,c", "rsplit", &[s(","), n(1)], "['a,b,', 'c']"),
            ("", "split", &[], "[]"),
            ("", "split", &[s(",")], "['']"),
            ("a", "split", &[s("")], "empty separator"),
            ("a\r\nb\rc\n\nd\u{2028}", "splitlines", &[], "['a', 'b', 'c', '', 'd']"),
            ("a\r\nb\u{85}c", "splitlines", &[Value::Bool(true)], r"['a\r\n', 'b\x85', 'c']"),
            ("abab", "replace", &[s("a"), s("x"), n(1)], "'xbab'"),
            ("ab", "replace", &[s(""), s("-")], "'-a-b-'"),
            ("xxabxx", "strip", &[s("x")], "'ab'"),
            ("\u{1c} a \u{a0}", "strip", &[], "'a'"),
            ("héllo", "find", &[s("l")], "2"),
            ("héllo", "rfind", &[s("l"), n(0), n(-1)], "3"),
            ("abc", "find", &[s("z")], "-1"),
            ("abc", "index", &[s("z")], "substring not found"),
            ("aaaa", "count", &[s("aa")], "2"),
            ("ab", "center", &[n(5), s("*")], "'**ab*'"),
            ("abc", "center", &[n(6), s("*")], "'*abc**'"),
            ("-7", "zfill", &[n(4)], "'-007'"),
            ("they're bill's", "title", &[], "\"They'Re Bill'S\""),
            ("ΑΣ ΑΣΑ", "lower", &[], "'ας ασα'"),
            ("straße", "upper", &[], "'STRASSE'"),
            ("a.b.c", "rpartition", &[s(".")], "('a.b', '.', 'c')"),
            ("abc", "partition", &[s("x")], "('abc', '', '')"),
            ("abc", "startswith", &[s("b"), n(1)], "True"),
            ("", "isalpha", &[], "False"),
            ("é", "isalpha", &[], "True"),
            ("²", "isdigit", &[], "True"),
            ("a\tb", "expandtabs", &[n(4)], "'a   b'"),
            ("abc", "removeprefix", &[s("a")], "'bc'"),
            ("Ab Cd", "istitle", &[], "True"),
        ];
        for (text, method, args, python) in cases {
            assert_eq!(call(text, method, args), *python, "{text:?}.{method}");
        }
    }

    #[test]
    fn a_padding_beyond_the_memory_is_refused() {
        assert!(call("a", "center", &[n(i128::MAX)]).contains("the limit"));
        assert!(call("a\t", "expandtabs", &[n(1 << 40)]).contains("the limit"));
    }
}
