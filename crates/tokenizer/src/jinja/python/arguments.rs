//! Arguments of a call.

use std::sync::Arc;

use super::super::limits::{Problem, Result};
use super::super::text::Text;
use super::super::value::Value;

/// Evaluated arguments.
#[derive(Debug, Default)]
pub(in super::super) struct Args {
    pub(in super::super) positional: Vec<Value>,
    pub(in super::super) named: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// The arguments of `who` under the names of its parameters.
    ///
    /// # Errors
    /// More arguments than names, a name that is none of them or was given already.
    pub(in super::super) fn bind<const N: usize>(
        self,
        who: &str,
        names: [&str; N],
    ) -> Result<[Option<Value>; N]> {
        if self.positional.len() > N {
            let n = self.positional.len();
            return Err(Problem::new(format!("{who} takes at most {N} arguments, but {n} were given")));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let at = names.iter().position(|known| *known == &*name);
            match at.map(|at| &mut bound[at]) {
                Some(slot @ None) => *slot = Some(value),
                Some(Some(_)) => return Err(Problem::new(format!("{who} got the argument '{name}' twice"))),
                None => return Err(Problem::new(format!("{who} has no argument '{name}'"))),
            }
        }
        Ok(bound)
    }
}

/// An argument that has to be there.
pub(in super::super) fn required(value: Option<Value>, who: &str, name: &str) -> Result<Value> {
    value.ok_or_else(|| Problem::new(format!("{who} needs the argument '{name}'")))
}

/// A text that has to be there.
pub(in super::super) fn text(value: Option<Value>, who: &str, name: &str) -> Result<Text> {
    match required(value, who, name)? {
        Value::Text(text) => Ok(text),
        other => Err(wrong(who, name, "a string", &other)),
    }
}

/// A text, or nothing.
pub(in super::super) fn optional_text(value: Option<Value>, who: &str, name: &str) -> Result<Option<Text>> {
    match value {
        None | Some(Value::None) => Ok(None),
        some => text(some, who, name).map(Some),
    }
}

/// A whole number, or nothing.
pub(in super::super) fn optional_int(value: Option<Value>, who: &str, name: &str) -> Result<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(who, name, "a whole number", &value)),
        },
    }
}

/// A count, which is 0 for what is below.
pub(in super::super) fn optional_count(value: Option<Value>, who: &str, name: &str) -> Result<Option<usize>> {
    let number = optional_int(value, who, name)?;
    Ok(number.map(|number| usize::try_from(number.max(0)).unwrap_or(usize::MAX)))
}

fn wrong(who: &str, name: &str, expected: &str, found: &Value) -> Problem {
    if let Err(undefined) = found.defined() {
        return undefined;
    }
    Problem::new(format!("the argument '{name}' of {who} is {expected}, not a '{}'", found.type_name()))
}
