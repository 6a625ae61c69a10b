//! Methods of `str` that fill a text up.

use super::super::limits::Result;
use super::super::text::{Builder, Origin, Text};
use super::super::value::Value;
use super::arguments::{Args, optional_count, optional_text, required};
use super::length;

/// Padded to a width, at the side that `who` says.
pub(super) fn justified(value: &Text, args: Args, who: &str) -> Result<Value> {
    let [width, padding] = args.bind(who, ["width", "fillchar"])?;
    let width = required(optional_count(width, who, "width")?.map(Value::int), who, "width")?;
    let padding = match optional_text(padding, who, "fillchar")? {
        Some(padding) => padding,
        None => Text::new(value.meter(), " ", Origin::Own)?,
    };
    let width = usize::try_from(width.as_int().unwrap_or(0)).unwrap_or(usize::MAX);
    let missing = width.saturating_sub(length(value.meter(), &Value::Text(value.clone()))?);
    let left = match who {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    let mut out = Builder::new(value.meter())?;
    out.pad(&padding, left)?;
    out.push_text(value)?;
    out.pad(&padding, missing - left)?;
    Ok(Value::Text(out.finish()))
}

/// Zeros between the sign and the digits.
pub(super) fn zfill(value: &Text, args: Args) -> Result<Value> {
    let [width] = args.bind("zfill", ["width"])?;
    let width = optional_count(width, "zfill", "width")?.unwrap_or(0);
    let missing = width.saturating_sub(length(value.meter(), &Value::Text(value.clone()))?);
    let sign = usize::from(value.as_str().starts_with(['+', '-']));
    let mut out = Builder::new(value.meter())?;
    out.push_slice(value, 0..sign)?;
    out.pad(&Text::new(value.meter(), "0", Origin::Own)?, missing)?;
    out.push_slice(value, sign..value.len())?;
    Ok(Value::Text(out.finish()))
}

pub(super) fn expandtabs(value: &Text, args: Args) -> Result<Value> {
    let [size] = args.bind("expandtabs", ["tabsize"])?;
    let size = optional_count(size, "expandtabs", "tabsize")?.unwrap_or(8);
    let mut out = Builder::new(value.meter())?;
    let mut column = 0;
    for (c, origin) in value.chars() {
        if c != '\t' {
            out.push_char(c, origin)?;
            column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
        } else if size > 0 {
            let n = size - column % size;
            for _ in 0..n {
                out.push_char(' ', origin)?;
            }
            column += n;
        }
    }
    Ok(Value::Text(out.finish()))
}
