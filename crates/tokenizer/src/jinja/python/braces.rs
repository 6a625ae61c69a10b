//! `str.format`: `{}`, `{0}`, `{name.attribute[item]!r:>8.3f}`.

use std::iter::Peekable;

use super::super::access;
use super::super::limits::{Problem, Result};
use super::super::text::{Builder, Origin, Text};
use super::super::value::Value;
use super::arguments::Args;
use super::number::{exponential, fixed, general, grouped};
use super::percent::checked_precision;
use super::{byte_of_char, float_repr, length, repr, to_text};

pub(super) fn format(format: &Text, args: Args) -> Result<Value> {
    let mut out = Builder::new(format.meter())?;
    let mut chars = format.chars().peekable();
    let mut n_automatic = 0;
    while let Some((c, origin)) = chars.next() {
        match (c, chars.peek()) {
            ('{', Some(('{', _))) | ('}', Some(('}', _))) => {
                chars.next();
                out.push_char(c, origin)?;
            }
            ('{', _) => {
                let field = field_text(&mut chars)?;
                push_field(&mut out, &field, &args, &mut n_automatic)?;
            }
            ('}', _) => return Err(Problem::new("Single '}' encountered in format string")),
            _ => out.push_char(c, origin)?,
        }
    }
    Ok(Value::Text(out.finish()))
}

/// What stands between the braces of a field.
fn field_text(chars: &mut Peekable<impl Iterator<Item = (char, Origin)>>) -> Result<String> {
    let mut field = String::new();
    for (c, _) in chars {
        match c {
            '}' => return Ok(field),
            '{' => return Err(Problem::new("a field within a field of a format is not supported")),
            c => field.push(c),
        }
    }
    Err(Problem::new("expected '}' before end of string"))
}

fn push_field(out: &mut Builder, field: &str, args: &Args, n_automatic: &mut usize) -> Result<()> {
    let (field, spec) = field.split_once(':').unwrap_or((field, ""));
    let (path, conversion) = field.split_once('!').unwrap_or((field, ""));
    let name_end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, mut path) = path.split_at(name_end);
    let missing = || Problem::new(format!("the format has no value for '{name}'"));
    let mut value = if name.is_empty() {
        *n_automatic += 1;
        args.positional.get(*n_automatic - 1).cloned().ok_or_else(missing)?
    } else if let Ok(position) = name.parse::<usize>() {
        args.positional.get(position).cloned().ok_or_else(missing)?
    } else {
        args.named
            .iter()
            .find(|(found, _)| **found == *name)
            .map(|(_, value)| value.clone())
            .ok_or_else(missing)?
    };
    let meter = out.meter().clone();
    while !path.is_empty() {
        if let Some(rest) = path.strip_prefix('[') {
            let (key, rest) =
                rest.split_once(']').ok_or_else(|| Problem::new("Missing ']' in format string"))?;
            let key = match key.parse::<i128>() {
                Ok(number) => Value::Int(number, Origin::Own),
                Err(_) => Value::text(&meter, key, Origin::Own)?,
            };
            (value, path) = (access::item(&meter, &value, &key)?, rest);
        } else {
            let rest = path.trim_start_matches('.');
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            (value, path) = (access::attribute(&meter, &value, &rest[..end])?, &rest[end..]);
        }
        value.defined()?;
    }
    let value = match conversion {
        "" => value,
        "s" => Value::Text(to_text(&meter, &value)?),
        "r" | "a" => Value::Text(repr(&meter, &value)?),
        other => return Err(Problem::new(format!("Unknown conversion specifier {other:?}"))),
    };
    Spec::parse(spec)?.push(out, &value)
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    is_alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    fn parse(text: &str) -> Result<Spec> {
        let mut spec = Spec::default();
        let is_align = |c: &char| matches!(c, '<' | '>' | '^' | '=');
        let mut chars = text.chars().peekable();
        let second = text.chars().nth(1).filter(is_align);
        if second.is_some() {
            (spec.fill, spec.align) = (chars.next(), chars.next());
        } else {
            spec.align = chars.next_if(is_align);
        }
        spec.sign = chars.next_if(|c| matches!(c, '+' | '-' | ' '));
        spec.is_alternate = chars.next_if_eq(&'#').is_some();
        if chars.next_if_eq(&'0').is_some() {
            spec.fill = spec.fill.or(Some('0'));
            spec.align = spec.align.or(Some('='));
        }
        let number = |chars: &mut Peekable<std::str::Chars>| {
            let mut number = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                number = Some(number.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize));
            }
            number
        };
        spec.width = number(&mut chars).unwrap_or(0);
        spec.grouping = chars.next_if(|c| matches!(c, ',' | '_'));
        if chars.next_if_eq(&'.').is_some() {
            let precision =
                number(&mut chars).ok_or_else(|| Problem::new("Format specifier missing precision"))?;
            spec.precision = Some(precision);
        }
        spec.kind = chars.next();
        match chars.next() {
            Some(_) => Err(Problem::new(format!("Invalid format specifier {text:?}"))),
            None => Ok(spec),
        }
    }

    fn push(&self, out: &mut Builder, value: &Value) -> Result<()> {
        let meter = out.meter().clone();
        let unknown = || {
            let kind = self.kind.unwrap_or_default();
            Problem::new(format!("Unknown format code '{kind}' for object of type '{}'", value.type_name()))
        };
        let (sign, text) = match value {
            Value::Int(..) | Value::Bool(_)
                if !matches!(self.kind, None | Some('s')) || matches!(value, Value::Int(..)) =>
            {
                self.number(value).ok_or_else(unknown)??
            }
            Value::Float(..) => self.number(value).ok_or_else(unknown)??,
            _ if !matches!(self.kind, None | Some('s')) => return Err(unknown()),
            _ => {
                let text = to_text(&meter, value)?;
                let n = self.precision.unwrap_or(usize::MAX);
                return self.push_aligned(out, "", &text.slice(0..byte_of_char(&text, n)?)?, '<');
            }
        };
        self.push_aligned(out, &sign, &Text::new(&meter, &text, value.origin())?, '>')
    }

    /// Sign and digits of a number; `None` for a kind that is none of numbers.
    fn number(&self, value: &Value) -> Option<Result<(String, String)>> {
        let whole = value.as_int();
        let number = value.as_float()?;
        let is_negative = whole.map_or(number.is_sign_negative() && !number.is_nan(), |whole| whole < 0);
        let precision = match checked_precision(self.precision.unwrap_or(6)) {
            Ok(precision) => precision,
            Err(problem) => return Some(Err(problem)),
        };
        let magnitude = number.abs();
        let digits = match (self.kind, whole) {
            (None | Some('d' | 'n'), Some(whole)) => whole.unsigned_abs().to_string(),
            (Some('x'), Some(whole)) => format!("{:x}", whole.unsigned_abs()),
            (Some('X'), Some(whole)) => format!("{:X}", whole.unsigned_abs()),
            (Some('o'), Some(whole)) => format!("{:o}", whole.unsigned_abs()),
            (Some('b'), Some(whole)) => format!("{:b}", whole.unsigned_abs()),
            (None, None) if self.precision.is_none() => float_repr(magnitude),
            (Some('f' | 'F'), _) => fixed(magnitude, precision),
            (Some('e' | 'E'), _) => exponential(magnitude, precision),
            (None | Some('g' | 'G' | 'n'), None) | (Some('g' | 'G'), Some(_)) => {
                general(magnitude, precision)
            }
            (Some('%'), _) => fixed(magnitude * 100.0, precision) + "%",
            _ => return None,
        };
        let digits = match self.grouping {
            Some(mark) => {
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                grouped(&digits[..end], mark, 3) + &digits[end..]
            }
            None => digits,
        };
        let mut sign = match (is_negative, self.sign) {
            (true, _) => "-".to_string(),
            (false, Some(sign @ ('+' | ' '))) => sign.to_string(),
            _ => String::new(),
        };
        if let (true, Some(kind @ ('x' | 'X' | 'o' | 'b'))) = (self.is_alternate, self.kind) {
            sign.extend(['0', kind]);
        }
        Some(Ok((sign, digits)))
    }

    fn push_aligned(&self, out: &mut Builder, sign: &str, text: &Text, default: char) -> Result<()> {
        let meter = out.meter().clone();
        let n = length(&meter, &Value::Text(text.clone()))? + sign.len();
        let missing = self.width.saturating_sub(n);
        let fill = Text::new(&meter, self.fill.unwrap_or(' ').encode_utf8(&mut [0; 4]), Origin::Own)?;
        let left = match self.align.unwrap_or(default) {
            '>' => missing,
            '^' => missing / 2,
            _ => 0,
        };
        let inside = if self.align == Some('=') { missing } else { 0 };
        out.pad(&fill, left)?;
        out.push(sign, text.origin())?;
        out.pad(&fill, inside)?;
        out.push_text(text)?;
        out.pad(&fill, missing - left - inside)
    }
}
