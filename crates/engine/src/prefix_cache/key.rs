//! The names of pages: each is the hash of all that its bytes depend on.
//!
//! ```text
//! root   = SHA-256("lossy prefix" ‖ SHA-256(saved key of the cache) ‖ scope)
//! page 0 = SHA-256(root ‖ ids of its tokens)         u32 each, little-endian
//! page 1 = SHA-256(page 0 ‖ ids of its tokens)  …
//! ```
//! The saved key names model, KV scheme, position map, calibration, and version. So a page is never found by another
//! setting or another scope, and two prompts have the same page exactly where they begin alike.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::{Hex, hex};

/// What separates users: pages of one scope are never found in another. A digest; what it was made of is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope([u8; 32]);

impl Scope {
    /// Of some byte strings, for instance the key of a user and a salt. Where one ends and the next begins counts.
    pub fn new(parts: &[&[u8]]) -> Scope {
        let mut hash = Sha256::new_with_prefix("lossy scope");
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Scope(hash.finalize().into())
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", Hex(&self.0))
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is 64 hexadecimal digits")]
pub struct NoScope;

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Scope, NoScope> {
        hex::digest(text).map(Scope).ok_or(NoScope)
    }
}

/// The name of a page, or of the root before the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The root of all texts of a scope in caches whose saved key has the digest `setting`.
    pub fn root(setting: &[u8; 32], scope: &Scope) -> Key {
        let mut hash = Sha256::new_with_prefix("lossy prefix");
        hash.update(setting);
        hash.update(scope.0);
        Key(hash.finalize().into())
    }

    /// The page with `tokens` that follows this one.
    pub fn child(&self, tokens: &[u32]) -> Key {
        let mut hash = Sha256::new_with_prefix(self.0);
        let bytes: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        hash.update(bytes);
        Key(hash.finalize().into())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Key> {
        hex::digest(text).map(Key)
    }

    /// Enough of it for a set that may err once in 2^40 questions.
    pub fn short(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("eight bytes"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", Hex(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_told_apart_by_where_its_parts_end_and_survives_print_and_parse() {
        let scope = Scope::new(&[b"ab", b"c"]);
        assert_ne!(scope, Scope::new(&[b"a", b"bc"]));
        assert_ne!(scope, Scope::new(&[b"abc"]));
        assert_ne!(Scope::new(&[]), Scope::new(&[b""]));
        assert_eq!(scope.to_string().parse(), Ok(scope));
        for wrong in ["", "abc", &"g".repeat(64), &"ä".repeat(32), &"A".repeat(64), &"0".repeat(66)] {
            assert_eq!(wrong.parse::<Scope>(), Err(NoScope), "{wrong}");
        }
    }

    #[test]
    fn a_page_depends_on_setting_scope_parent_and_every_token() {
        let (one, other) = (Scope::new(&[b"1"]), Scope::new(&[b"2"]));
        let root = Key::root(&[1; 32], &one);
        assert_ne!(root, Key::root(&[2; 32], &one));
        assert_ne!(root, Key::root(&[1; 32], &other));
        let page = root.child(&[1, 2, 3]);
        for tokens in [&[1, 2][..], &[1, 2, 4], &[1, 2, 3, 0], &[]] {
            assert_ne!(root.child(tokens), page);
        }
        assert_ne!(page.child(&[1, 2, 3]), page);
        assert_eq!(Key::parse(&page.to_string()), Some(page));
    }
}
