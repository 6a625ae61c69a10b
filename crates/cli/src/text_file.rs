//! Texts of the user: prompts, texts to measure on or to calibrate with.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lossy_formats::without_bom;

/// The text of a file, unchanged but for a byte order mark at its beginning, which is not part of a text (RFC 3629).
///
/// # Errors
/// The file cannot be read or is not UTF-8; the message names it, and the first wrong byte.
pub fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    decode(bytes, &path.display().to_string())
}

/// The same for bytes from elsewhere.
///
/// # Errors
/// They are not UTF-8.
pub fn decode(mut bytes: Vec<u8>, name: &str) -> Result<String> {
    let n_marks = bytes.len() - without_bom(&bytes).len();
    bytes.drain(..n_marks);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        bail!("{name} is UTF-16, as its first two bytes say: save it as UTF-8");
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{name} is not UTF-8: byte {position} is 0x{:02x}", error.as_bytes()[position])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_named_with_its_position() {
        let error = decode(b"ab\xffc".to_vec(), "x.txt").unwrap_err().to_string();
        assert_eq!(error, "x.txt is not UTF-8: byte 2 is 0xff");
        let cut = decode("aé".as_bytes()[..2].to_vec(), "x.txt").unwrap_err().to_string();
        assert_eq!(cut, "x.txt is not UTF-8: byte 1 is 0xc3");
    }

    #[test]
    fn a_byte_order_mark_is_no_text_and_utf16_is_named() {
        assert_eq!(decode(b"\xef\xbb\xbfab\xef\xbb\xbf".to_vec(), "x").unwrap(), "ab\u{feff}");
        let error = decode(b"\xff\xfea\0".to_vec(), "x.txt").unwrap_err().to_string();
        assert!(error.starts_with("x.txt is UTF-16"), "{error}");
    }
}
