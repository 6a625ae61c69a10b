//! Names as files give them: keys and tensors.

/// The longest name that is accepted; the GGUF specification's limit for keys.
pub(crate) const MAX_NAME_BYTES: usize = 65_535;

/// A name is printed in errors and listings, so it must not steer the terminal. Returns what is wrong with it.
pub(crate) fn fault(name: &str) -> Option<NameFault> {
    if name.is_empty() {
        Some(NameFault::Empty)
    } else if name.len() > MAX_NAME_BYTES {
        Some(NameFault::Long { bytes: name.len() })
    } else if name.chars().any(char::is_control) {
        Some(NameFault::Control)
    } else {
        None
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// It is too long to be meant.
    #[error("has {bytes} bytes, more than the limit of {MAX_NAME_BYTES}")]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// It could steer a terminal.
    #[error("contains control characters")]
    Control,
}
