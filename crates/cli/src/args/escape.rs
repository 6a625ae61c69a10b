//! Escapes in a prompt that was typed on a command line.

use anyhow::{Result, bail};

/// Replaces `\n`, `\t`, `\r`, `\"`, `\'`, `\\`, `\xNN` (a byte) and `\uNNNN` (a character) by what they stand for.
///
/// # Errors
/// Any other escape, digits that are missing, bytes that are not UTF-8.
pub fn unescaped(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let Some(kind) = escape.chars().next() else {
            bail!("-e: a `\\` at the end escapes nothing (`\\\\` is one)")
        };
        rest = &escape[kind.len_utf8()..];
        match kind {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            '"' | '\'' | '\\' => bytes.push(kind as u8),
            'x' => bytes.push(number(&mut rest, 'x', 2)? as u8),
            'u' => {
                let mut code = number(&mut rest, 'u', 4)?;
                // characters beyond 16 bits are written as two halves in JSON
                if (0xd800..0xdc00).contains(&code)
                    && let Some(mut second) = rest.strip_prefix("\\u")
                {
                    let low = number(&mut second, 'u', 4)?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                        rest = second;
                    }
                }
                let Some(character) = char::from_u32(code) else {
                    bail!("-e: `\\u{code:04x}` is half a character")
                };
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => bail!("-e: `\\{other}` is none of \\n \\t \\r \\\" \\' \\\\ \\xNN \\uNNNN"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => bail!("-e: the bytes of \\x are not UTF-8: {}", error.utf8_error()),
    }
}

/// Takes `n` hexadecimal digits from the beginning of `rest`.
fn number(rest: &mut &str, kind: char, n: usize) -> Result<u32> {
    let digits = rest.get(..n).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let Some(digits) = digits else { bail!("-e: `\\{kind}` needs {n} hexadecimal digits") };
    *rest = &rest[n..];
    Ok(u32::from_str_radix(digits, 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_characters_and_bytes() {
        assert_eq!(unescaped(r#"a\n\t\r\"\'\\b"#).unwrap(), "a\n\t\r\"'\\b");
        assert_eq!(unescaped(r"\x41\xc3\xa9\u00e9\ud83d\ude00\\n").unwrap(), "Aéé😀\\n");
        assert_eq!(unescaped("no escapes").unwrap(), "no escapes");
    }

    #[test]
    fn what_is_no_escape_is_an_error_that_names_it() {
        for (text, named) in [
            (r"\q", r"`\q`"),
            ("a\\", "at the end"),
            (r"\x4", r"`\x` needs 2"),
            (r"\u12é4", r"`\u` needs 4"),
            (r"\xff", "not UTF-8"),
            (r"\ud83dx", "half a character"),
        ] {
            let error = unescaped(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
