//! Pages by name, with the order in which they may go.
//!
//! A page may go when no page follows it, so that what is left of a text is always its beginning. A *twin*, the exact form
//! of a packed page, may go at any time. Of what may go, the least recently used goes first; of the same age twins and
//! tails before pages, and late pages of a text before early ones. A page is as recent as the last of those that followed it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::key::{Key, Scope};
use crate::cache::PAGE_TOKENS;

/// What of a page is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Part {
    /// its tokens as a text far behind them is read: packed, or as they are in an exact cache; those of a tail as they are
    Page,
    /// the tokens of a packed page as they are
    Twin,
}

/// Where a page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub key: Key,
    pub parent: Key,
    pub scope: Scope,
    /// pages before it
    pub depth: u32,
    /// tokens: fewer than a page has if it is a tail
    pub n_tokens: u32,
}

impl Place {
    /// Whether it is the last, incomplete page of a text.
    pub fn is_tail(&self) -> bool {
        (self.n_tokens as usize) < PAGE_TOKENS
    }
}

/// When a part goes: the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    stamp: u64,
    is_whole: bool,
    depth: Reverse<u32>,
    pub key: Key,
    pub part: Part,
}

#[derive(Debug)]
struct Item<V> {
    value: V,
    bytes: u64,
    stamp: u64,
}

#[derive(Debug)]
struct Node<V> {
    place: Place,
    tokens: Option<Box<[u32]>>,
    page: Option<Item<V>>,
    twin: Option<Item<V>>,
}

impl<V> Node<V> {
    fn item(&self, part: Part) -> Option<&Item<V>> {
        match part {
            Part::Page => self.page.as_ref(),
            Part::Twin => self.twin.as_ref(),
        }
    }

    fn item_mut(&mut self, part: Part) -> &mut Option<Item<V>> {
        match part {
            Part::Page => &mut self.page,
            Part::Twin => &mut self.twin,
        }
    }

    fn rank(&self, part: Part) -> Option<Rank> {
        let is_whole = part == Part::Page && !self.place.is_tail();
        let Place { key, depth, .. } = self.place;
        Some(Rank { stamp: self.item(part)?.stamp, is_whole, depth: Reverse(depth), key, part })
    }
}

/// Pages with a value of each part.
#[derive(Debug)]
pub(super) struct Tree<V> {
    nodes: HashMap<Key, Node<V>>,
    /// of each page or root that is followed by pages, whether it is here itself or not
    children: HashMap<Key, BTreeSet<Key>>,
    /// what may go
    order: BTreeSet<Rank>,
    bytes: u64,
}

impl<V> Default for Tree<V> {
    fn default() -> Tree<V> {
        Tree { nodes: HashMap::new(), children: HashMap::new(), order: BTreeSet::new(), bytes: 0 }
    }
}

impl<V> Tree<V> {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pages and tails.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn get(&self, key: &Key, part: Part) -> Option<&V> {
        self.nodes.get(key)?.item(part).map(|item| &item.value)
    }

    pub fn get_mut(&mut self, key: &Key, part: Part) -> Option<&mut V> {
        self.nodes.get_mut(key)?.item_mut(part).as_mut().map(|item| &mut item.value)
    }

    pub fn place(&self, key: &Key) -> Option<Place> {
        self.nodes.get(key).map(|node| node.place)
    }

    /// The ids of a page's tokens, if they are known.
    pub fn tokens(&self, key: &Key) -> Option<&[u32]> {
        self.nodes.get(key)?.tokens.as_deref()
    }

    pub fn set_tokens(&mut self, key: &Key, tokens: &[u32]) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.tokens = Some(tokens.into());
        }
    }

    /// The pages that follow one.
    pub fn children(&self, parent: &Key) -> impl Iterator<Item = &Key> {
        self.children.get(parent).into_iter().flatten()
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = (&V, u64)> {
        let items = self.nodes.values().flat_map(|node| [&node.page, &node.twin]).flatten();
        items.map(|item| (&item.value, item.bytes))
    }

    /// Adds a part, or replaces it.
    pub fn insert(&mut self, place: Place, part: Part, value: V, bytes: u64, stamp: u64) {
        self.take(&place.key, part);
        let node =
            self.nodes.entry(place.key).or_insert(Node { place, tokens: None, page: None, twin: None });
        *node.item_mut(part) = Some(Item { value, bytes, stamp });
        self.bytes += bytes;
        self.children.entry(place.parent).or_default().insert(place.key);
        self.rank(&place.key, part);
        if let Some(parent) = self.nodes.get(&place.parent)
            && let Some(rank) = parent.rank(Part::Page)
        {
            self.order.remove(&rank);
        }
    }

    /// Makes a part the most recent one.
    pub fn touch(&mut self, key: &Key, part: Part, stamp: u64) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        let old = node.rank(part);
        if let Some(item) = node.item_mut(part) {
            item.stamp = stamp;
        }
        if let Some(old) = old
            && self.order.remove(&old)
        {
            self.rank(key, part);
        }
    }

    /// The first part that may go and ranks behind `last`.
    pub fn oldest(&self, last: Option<Rank>) -> Option<Rank> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.order.range((last.map_or(Unbounded, Excluded), Unbounded)).next().copied()
    }

    /// Removes a part; with a page goes its twin, which is of no use alone. Returns what was removed, and the bytes of it.
    pub fn remove(&mut self, key: &Key, part: Part) -> (Vec<(Part, V)>, u64) {
        let before = self.bytes;
        let mut removed = Vec::new();
        let stamp = self.nodes.get(key).and_then(|node| node.item(part)).map_or(0, |item| item.stamp);
        if part == Part::Page {
            removed.extend(self.take(key, Part::Twin).map(|value| (Part::Twin, value)));
        }
        removed.extend(self.take(key, part).map(|value| (part, value)));
        self.forget_if_empty(key, stamp);
        (removed, before - self.bytes)
    }

    /// The names of all pages, of one scope or of all.
    pub fn keys(&self, scope: Option<&Scope>) -> Vec<Key> {
        let of_scope = |node: &&Node<V>| scope.is_none_or(|scope| node.place.scope == *scope);
        self.nodes.values().filter(of_scope).map(|node| node.place.key).collect()
    }

    /// Takes a part out; its node stays.
    fn take(&mut self, key: &Key, part: Part) -> Option<V> {
        let node = self.nodes.get_mut(key)?;
        if let Some(rank) = node.rank(part) {
            self.order.remove(&rank);
        }
        let item = node.item_mut(part).take()?;
        self.bytes -= item.bytes;
        Some(item.value)
    }

    /// Lets a part go in its turn, if nothing forbids that.
    fn rank(&mut self, key: &Key, part: Part) {
        let is_last = self.children.get(key).is_none_or(BTreeSet::is_empty);
        let rank = self.nodes.get(key).and_then(|node| node.rank(part));
        self.order.extend(rank.filter(|_| part == Part::Twin || is_last));
    }

    /// Removes a node without parts, whose last one was used at `stamp`.
    fn forget_if_empty(&mut self, key: &Key, stamp: u64) {
        let Some(node) = self.nodes.get(key).filter(|node| node.page.is_none() && node.twin.is_none()) else {
            return;
        };
        let parent = node.place.parent;
        self.nodes.remove(key);
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.remove(key);
            if siblings.is_empty() {
                self.children.remove(&parent);
                if let Some(page) = self.nodes.get_mut(&parent).and_then(|node| node.page.as_mut()) {
                    page.stamp = page.stamp.max(stamp);
                }
                self.rank(&parent, Part::Page);
            }
        }
    }
}

#[cfg(test)]
mod tests;
