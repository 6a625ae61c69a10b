//! The names of pages that were here once, to tell why a prompt does not find them.

use std::collections::{HashSet, VecDeque};

use super::key::{Key, Scope};

/// Pages that are remembered at most: some 2 MB.
const MOST: usize = 1 << 16;

/// A bounded memory of names; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct Seen {
    names: HashSet<u64>,
    order: VecDeque<(Scope, u64)>,
}

impl Seen {
    pub fn add(&mut self, scope: Scope, key: &Key) {
        let name = key.short();
        if !self.names.insert(name) {
            return;
        }
        self.order.push_back((scope, name));
        if self.order.len() > MOST
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.names.contains(&key.short())
    }

    /// Forgets one scope or all.
    pub fn forget(&mut self, scope: Option<&Scope>) {
        let is_kept = |of: &Scope| scope.is_some_and(|scope| scope != of);
        self.order.retain(|(of, name)| is_kept(of) || !self.names.remove(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_a_scope_can_be() {
        let [one, other] = [Scope::new(&[b"1"]), Scope::new(&[b"2"])];
        let root = Key::root(&[0; 32], &one);
        let key = |n: u32| root.child(&[n]);
        let mut seen = Seen::default();
        for n in 0..MOST as u32 + 10 {
            seen.add(if n % 2 == 0 { one } else { other }, &key(n));
            seen.add(one, &key(n));
        }
        assert!(!seen.contains(&key(9)) && seen.contains(&key(10)) && seen.contains(&key(MOST as u32 + 9)));
        seen.forget(Some(&one));
        assert!(!seen.contains(&key(10)) && seen.contains(&key(11)));
        seen.forget(None);
        assert!(!seen.contains(&key(11)) && seen.order.is_empty());
    }
}
