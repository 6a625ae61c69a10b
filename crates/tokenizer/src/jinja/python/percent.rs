//! `format % values`, as in C.

use super::super::limits::{Problem, Result};
use super::super::text::{Builder, Origin, Text};
use super::super::value::Value;
use super::number::{exponential, fixed, general};
use super::{length, repr, to_text};

/// More decimals than any number has.
pub(super) const MAX_PRECISION: usize = 1_000;

/// A conversion such as `%-8.3f`.
#[derive(Default)]
struct Conversion {
    is_left: bool,
    sign: Option<char>,
    has_zeros: bool,
    is_alternate: bool,
    width: usize,
    precision: Option<usize>,
    /// Of the `%`: a number that a foreign format asks for is foreign.
    origin: Option<Origin>,
}

/// Formats `values`: a tuple, a dict, or one value.
pub(in super::super) fn percent(format: &Text, values: &Value) -> Result<Text> {
    let meter = format.meter();
    let mut out = Builder::new(meter)?;
    let positional: Vec<Value> = match values {
        Value::Tuple(items) => items.values.clone(),
        one => vec![one.clone()],
    };
    let mut next = positional.iter();
    let mut chars = format.chars();
    while let Some((c, origin)) = chars.next() {
        if c != '%' {
            out.push_char(c, origin)?;
            continue;
        }
        let mut c = chars.next().ok_or_else(|| Problem::new("incomplete format"))?.0;
        let mut step = || chars.next().map(|(c, _)| c).ok_or_else(|| Problem::new("incomplete format"));
        let mut take =
            || next.next().cloned().ok_or_else(|| Problem::new("not enough arguments for format string"));
        let mut by_key = None;
        if c == '(' {
            let mut key = String::new();
            loop {
                match step()? {
                    ')' => break,
                    c => key.push(c),
                }
            }
            let Value::Dict(dict) = values else { return Err(Problem::new("format requires a mapping")) };
            by_key = Some(dict.get_text(&key)?.ok_or_else(|| Problem::new(format!("no value for {key:?}")))?);
            c = step()?;
        }
        let mut conversion = Conversion { origin: Some(origin), ..Conversion::default() };
        loop {
            match c {
                '-' => conversion.is_left = true,
                '+' => conversion.sign = Some('+'),
                ' ' => conversion.sign = conversion.sign.or(Some(' ')),
                '0' => conversion.has_zeros = true,
                '#' => conversion.is_alternate = true,
                _ => break,
            }
            c = step()?;
        }
        let mut number = |c: &mut char, step: &mut dyn FnMut() -> Result<char>| -> Result<i128> {
            if *c == '*' {
                *c = step()?;
                return take()?.as_int().ok_or_else(|| Problem::new("* wants int"));
            }
            let mut number: i128 = 0;
            while let Some(digit) = c.to_digit(10) {
                number = number.saturating_mul(10).saturating_add(digit.into());
                *c = step()?;
            }
            Ok(number)
        };
        let width = number(&mut c, &mut step)?;
        conversion.is_left |= width < 0;
        conversion.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        if c == '.' {
            c = step()?;
            let precision = usize::try_from(number(&mut c, &mut step)?.max(0)).unwrap_or(usize::MAX);
            conversion.precision = Some(precision);
        }
        while matches!(c, 'h' | 'l' | 'L') {
            c = step()?;
        }
        if c == '%' {
            out.push_char('%', origin)?;
            continue;
        }
        let value = by_key.map_or_else(&mut take, Ok)?;
        conversion.push(&mut out, c, &value)?;
    }
    if next.next().is_some() && !matches!(values, Value::Dict(_)) {
        return Err(Problem::new("not all arguments converted during string formatting"));
    }
    Ok(out.finish())
}

impl Conversion {
    fn push(&self, out: &mut Builder, kind: char, value: &Value) -> Result<()> {
        let meter = out.meter().clone();
        match kind {
            's' | 'r' | 'a' => {
                let text = if kind == 's' { to_text(&meter, value)? } else { repr(&meter, value)? };
                let text = match self.precision {
                    Some(n) => text.slice(0..super::byte_of_char(&text, n)?)?,
                    None => text,
                };
                self.push_padded(out, &Text::new(&meter, "", Origin::Own)?, &text, false)
            }
            'c' => {
                let text = match (value, value.as_int()) {
                    (Value::Text(text), _) if length(&meter, value)? == 1 => text.clone(),
                    (_, Some(code)) => {
                        let c = u32::try_from(code).ok().and_then(char::from_u32);
                        let c = c.ok_or_else(|| Problem::new("%c arg not in range(0x110000)"))?;
                        Text::new(&meter, c.encode_utf8(&mut [0; 4]), self.origin_of(value))?
                    }
                    _ => return Err(Problem::new("%c requires int or char")),
                };
                self.push_padded(out, &Text::new(&meter, "", Origin::Own)?, &text, false)
            }
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' => self.push_int(out, kind, value),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => self.push_float(out, kind, value),
            other => Err(Problem::new(format!("unsupported format character '{other}'"))),
        }
    }

    fn push_int(&self, out: &mut Builder, kind: char, value: &Value) -> Result<()> {
        let meter = out.meter().clone();
        let number = match value {
            Value::Float(number, _) if matches!(kind, 'd' | 'i' | 'u') && number.is_finite() => {
                number.trunc() as i128
            }
            other => other.as_int().ok_or_else(|| wants_number(kind, value))?,
        };
        let magnitude = number.unsigned_abs();
        let (prefix, digits) = match kind {
            'o' => ("0o", format!("{magnitude:o}")),
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            _ => ("", magnitude.to_string()),
        };
        let mut sign = self.sign_of(number < 0);
        if self.is_alternate {
            sign.push_str(prefix);
        }
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let mut text = Builder::new(&meter)?;
        text.pad(&Text::new(&meter, "0", Origin::Own)?, zeros)?;
        text.push(&digits, self.origin_of(value))?;
        self.push_padded(out, &Text::new(&meter, &sign, self.origin_of(value))?, &text.finish(), true)
    }

    fn push_float(&self, out: &mut Builder, kind: char, value: &Value) -> Result<()> {
        let meter = out.meter().clone();
        let number = value.as_float().ok_or_else(|| wants_number(kind, value))?;
        let precision = checked_precision(self.precision.unwrap_or(6))?;
        let magnitude = number.abs();
        let digits = match kind.to_ascii_lowercase() {
            'e' => exponential(magnitude, precision),
            'f' => fixed(magnitude, precision),
            _ => general(magnitude, precision),
        };
        let digits = if kind.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
        let sign = Text::new(
            &meter,
            &self.sign_of(number.is_sign_negative() && !number.is_nan()),
            self.origin_of(value),
        )?;
        self.push_padded(out, &sign, &Text::new(&meter, &digits, self.origin_of(value))?, number.is_finite())
    }

    fn origin_of(&self, value: &Value) -> Origin {
        value.origin().with(self.origin.unwrap_or(Origin::Own))
    }

    fn sign_of(&self, is_negative: bool) -> String {
        if is_negative { "-".to_string() } else { self.sign.map(String::from).unwrap_or_default() }
    }

    /// Spaces before or after, or zeros between sign and digits.
    fn push_padded(&self, out: &mut Builder, sign: &Text, text: &Text, is_number: bool) -> Result<()> {
        let meter = out.meter().clone();
        let n = length(&meter, &Value::Text(text.clone()))? + sign.len();
        let missing = self.width.saturating_sub(n);
        let has_zeros = self.has_zeros && is_number && !self.is_left;
        let padding = Text::new(&meter, if has_zeros { "0" } else { " " }, Origin::Own)?;
        if !has_zeros && !self.is_left {
            out.pad(&padding, missing)?;
        }
        out.push_text(sign)?;
        if has_zeros {
            out.pad(&padding, missing)?;
        }
        out.push_text(text)?;
        if self.is_left {
            out.pad(&padding, missing)?;
        }
        Ok(())
    }
}

fn wants_number(kind: char, value: &Value) -> Problem {
    Problem::new(format!("%{kind} format: a number is required, not {}", value.type_name()))
}

/// A precision that can be computed.
pub(super) fn checked_precision(precision: usize) -> Result<usize> {
    if precision > MAX_PRECISION {
        let problem = format!("a precision of {precision} digits; the limit is {MAX_PRECISION}");
        return Err(Problem::new(problem));
    }
    Ok(precision)
}
