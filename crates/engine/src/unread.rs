//! What a model's file has and this program does not read.

use std::fmt;
use std::sync::Arc;

/// What becomes of a model that has parts which are not read.
#[derive(Clone, Default)]
pub enum Unread {
    /// it is not loaded
    #[default]
    Refuse,
    /// it is loaded without them, and they are told
    Warn(Arc<dyn Fn(&UnreadParts) + Send + Sync>),
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unread::Refuse => "Refuse",
            Unread::Warn(_) => "Warn",
        })
    }
}

/// Tensors and keys that a model has and that are not read, in the file's own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadParts {
    /// of the configuration, with their values
    pub keys: Vec<String>,
    /// names
    pub tensors: Vec<String>,
}

/// So many of each are named; a file with a part too much in each of 80 layers is told by the first of them.
const MAX_NAMED: usize = 4;

impl fmt::Display for UnreadParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = |one: &str, many: &str, names: &[String], before: &str| {
            let named: Vec<String> = names.iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect();
            match names.len() {
                0 => Ok(()),
                1 => write!(f, "{before}{one} {}", named[0]),
                n if n > MAX_NAMED => {
                    write!(f, "{before}{many} {} and {} more", named.join(", "), n - MAX_NAMED)
                }
                _ => write!(f, "{before}{many} {}", named.join(", ")),
            }
        };
        list("key", "keys", &self.keys, "")?;
        list("tensor", "tensors", &self.tensors, if self.keys.is_empty() { "" } else { ", and " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_read_are_named_up_to_a_few() {
        let names = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>();
        let text =
            |n_keys, n_tensors| UnreadParts { keys: names(n_keys), tensors: names(n_tensors) }.to_string();
        assert_eq!(text(1, 0), "key `t0`");
        assert_eq!(text(2, 1), "keys `t0`, `t1`, and tensor `t0`");
        assert_eq!(text(0, 6), "tensors `t0`, `t1`, `t2`, `t3` and 2 more");
    }
}
