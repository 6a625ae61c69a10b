//! GPT-2's table of bytes and characters.
//!
//! Byte-level vocabularies spell every byte as one printable character, so that a token is printable text. Bytes that are
//! printable in Latin-1 stand for themselves; the other 68, in order, are the characters from U+0100. So a space is `Ġ`
//! (U+0120) and a newline `Ċ` (U+010A).

/// The character that spells a byte.
pub(crate) const CHAR_OF_BYTE: [char; 256] = char_of_byte();

const fn char_of_byte() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut n_moved = 0u32;
    let mut byte = 0u32;
    while byte < 256 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable {
            byte
        } else {
            n_moved += 1;
            0xff + n_moved
        };
        table[byte as usize] = match char::from_u32(code) {
            Some(character) => character,
            None => unreachable!(),
        };
        byte += 1;
    }
    table
}

const N_CODES: usize = 0x144;

const BYTE_OF_CODE: [Option<u8>; N_CODES] = {
    let mut table = [None; N_CODES];
    let mut byte = 0;
    while byte < 256 {
        table[CHAR_OF_BYTE[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    table
};

/// The byte that a character spells, if it is in the table.
pub(crate) fn byte_of_char(character: char) -> Option<u8> {
    BYTE_OF_CODE.get(character as usize).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character_and_comes_back() {
        for byte in 0..=255u8 {
            assert_eq!(byte_of_char(CHAR_OF_BYTE[byte as usize]), Some(byte));
        }
        assert_eq!((CHAR_OF_BYTE[0x20], CHAR_OF_BYTE[0x0a], CHAR_OF_BYTE[0xad]), ('Ġ', 'Ċ', '\u{143}'));
        assert_eq!((byte_of_char(' '), byte_of_char('日')), (None, None));
    }
}
