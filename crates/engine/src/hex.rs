//! Bytes as hexadecimal digits.

use std::fmt;

/// Prints bytes as hexadecimal digits, two for each.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A digest from its digits, as [`Hex`] prints it.
pub(crate) fn digest(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digest = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::{Hex, digest};

    #[test]
    fn a_byte_is_two_digits() {
        assert_eq!(Hex(&[0, 10, 255]).to_string(), "000aff");
    }

    #[test]
    fn a_digest_is_read_as_it_is_printed() {
        let bytes: [u8; 32] = std::array::from_fn(|at| (at * 37 % 256) as u8);
        assert_eq!(digest(&Hex(&bytes).to_string()), Some(bytes));
        assert_eq!(digest(&Hex(&bytes).to_string().to_uppercase()), None);
        assert_eq!(digest("00"), None);
    }
}
