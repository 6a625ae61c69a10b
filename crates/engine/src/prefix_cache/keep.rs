//! What a sequence leaves behind.

use std::sync::Arc;

use super::PrefixCache;
use super::key::{Key, Scope};
use super::tree::{Part, Place};
use crate::cache::{HeldKind, HeldPage, PAGE_TOKENS};
use crate::prefix::common;
use crate::sequence::{Cache, Sequence};

/// Where the pages of one sequence stand, so that no page is hashed twice. It belongs to the sequence with which it was
/// [found](PrefixCache::find), or to one that was empty.
#[derive(Clone, Debug)]
pub struct Cursor {
    setting: [u8; 32],
    scope: Scope,
    root: Key,
    /// of the whole pages so far
    keys: Vec<Key>,
}

impl Cursor {
    /// What separates it from others.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Tokens of whole pages that were kept or found.
    pub fn n_tokens(&self) -> usize {
        self.keys.len() * PAGE_TOKENS
    }

    pub(super) fn set_keys(&mut self, keys: &[Key]) {
        self.keys = keys.to_vec();
    }

    fn parent(&self, index: usize) -> Key {
        if index == 0 { self.root } else { self.keys[index - 1] }
    }

    /// Page `index`, with so many tokens.
    fn place(&self, index: usize, key: Key, n_tokens: usize) -> Place {
        Place {
            key,
            parent: self.parent(index),
            scope: self.scope,
            depth: index as u32,
            n_tokens: n_tokens as u32,
        }
    }
}

impl PrefixCache {
    /// The cursor of an empty sequence of `cache`.
    pub fn cursor(&self, cache: &Arc<Cache>, scope: &Scope) -> Cursor {
        let setting = cache.saved_key().digest();
        Cursor { setting, scope: *scope, root: Key::root(&setting, scope), keys: Vec::new() }
    }

    /// Keeps the whole pages of the first `upto` tokens, which costs little where they are here already: call it after each
    /// forward pass that has filled a page. `cursor` moves on with the sequence.
    ///
    /// With `resumable`, also what later prompts need to go on from there: the twins of the recent pages, and the tail, which
    /// is what stands behind the last whole page. Both are exact, so large. Call it so where prompts part: at the ends of
    /// messages and of the prompt, now and then in a long one, and when a request ends before its prompt was read. A sequence
    /// has what it takes only until it grows beyond the page of `upto`; with
    /// [`exact_prefill`](crate::CacheOptions::exact_prefill) until the logits of the prompt are accepted.
    ///
    /// Tokens must have been read as a prompt, in the pieces of [`Generation::wanted`](crate::Generation::wanted), in a
    /// sequence that came from [`find`](PrefixCache::find) or was empty. Generated tokens may differ from those in rounding:
    /// `upto` ends before them, unless the cache [computes alike](Cache::computes_alike).
    pub fn keep(&mut self, cursor: &mut Cursor, sequence: &Sequence, upto: usize, resumable: bool) {
        let stamp = self.tick();
        let upto = upto.min(sequence.len());
        cursor.keys.truncate(sequence.len() / PAGE_TOKENS);
        for index in cursor.keys.len()..upto / PAGE_TOKENS {
            let tokens = &sequence.tokens()[index * PAGE_TOKENS..(index + 1) * PAGE_TOKENS];
            cursor.keys.push(cursor.parent(index).child(tokens));
            self.keep_page(cursor, sequence, index, stamp);
        }
        if resumable && self.keep_twins(cursor, sequence, upto, stamp) {
            self.keep_tail(cursor, sequence, upto, stamp);
        }
        self.limit_ram();
    }

    /// Keeps page `index`, and those before it that are not here any more.
    fn keep_page(&mut self, cursor: &Cursor, sequence: &Sequence, index: usize, stamp: u64) {
        let kind = match sequence.cache().pool.packed() {
            Some(_) => HeldKind::Packed,
            None => HeldKind::Exact,
        };
        for index in (0..=index).rev() {
            let key = cursor.keys[index];
            if self.ram.get(&key, Part::Page).is_some() {
                self.touch(&key, Part::Page, stamp);
                return;
            }
            let Some(page) = sequence.kv.held(index, kind) else { return };
            let place = cursor.place(index, key, PAGE_TOKENS);
            if kind == HeldKind::Exact {
                self.supersede_tails(&place, tokens_of(sequence, &place));
            }
            self.put(cursor, place, Part::Page, tokens_of(sequence, &place), page, stamp);
        }
    }

    /// Keeps the exact form of pages that tokens after `upto` see so. Returns whether all are here; if the sequence does
    /// not have one any more, none is kept, for they are of no use.
    fn keep_twins(&mut self, cursor: &Cursor, sequence: &Sequence, upto: usize, stamp: u64) -> bool {
        if sequence.cache().pool.packed().is_none() {
            return true;
        }
        let recent = sequence.cache().first_exact(upto)..upto / PAGE_TOKENS;
        let twins: Option<Vec<HeldPage>> = recent
            .clone()
            .map(|index| {
                let here = self.ram.get(&cursor.keys[index], Part::Twin).cloned();
                here.or_else(|| sequence.kv.held(index, HeldKind::Exact))
            })
            .collect();
        let Some(twins) = twins else { return false };
        for (index, twin) in recent.zip(twins) {
            let key = cursor.keys[index];
            self.keep_page(cursor, sequence, index, stamp);
            if self.ram.get(&key, Part::Twin).is_some() {
                self.touch(&key, Part::Twin, stamp);
            } else {
                let place = cursor.place(index, key, PAGE_TOKENS);
                self.supersede_tails(&place, tokens_of(sequence, &place));
                self.put(cursor, place, Part::Twin, tokens_of(sequence, &place), twin, stamp);
            }
        }
        true
    }

    /// Keeps what stands behind the last whole page.
    fn keep_tail(&mut self, cursor: &Cursor, sequence: &Sequence, upto: usize, stamp: u64) {
        let index = upto / PAGE_TOKENS;
        let tokens = &sequence.tokens()[index * PAGE_TOKENS..upto];
        // A token that was alone is not what it would be among others.
        let least = if sequence.cache().computes_alike() { 1 } else { 2 };
        if tokens.len() < least || cursor.keys.len() < index {
            return;
        }
        let parent = cursor.parent(index);
        let is_longer = |key: &&Key| {
            let begins_so = self.ram.tokens(key).is_some_and(|of| of.starts_with(tokens));
            let part = match self.ram.place(key) {
                Some(place) if !place.is_tail() && sequence.cache().pool.packed().is_some() => Part::Twin,
                _ => Part::Page,
            };
            begins_so && self.ram.get(key, part).is_some()
        };
        let longer = self.ram.children(&parent).find(is_longer).copied();
        if let Some(key) = longer {
            self.touch(&key, Part::Page, stamp);
            self.touch(&key, Part::Twin, stamp);
            return;
        }
        // A copy, since the sequence goes on to write to its own. Where there is no room even so, there is no tail.
        let mut copy = sequence.kv.copy_of_first(index, tokens.len());
        if copy.is_err() {
            self.make_room(sequence.cache().pool.exact_bytes_per_page());
            copy = sequence.kv.copy_of_first(index, tokens.len());
        }
        let Ok(Some(page)) = copy else { return };
        let place = cursor.place(index, parent.child(tokens), tokens.len());
        self.supersede_tails(&place, tokens);
        self.put(cursor, place, Part::Page, tokens, page, stamp);
    }

    /// Forgets the tails beside a page, exact as it is, that it begins with.
    fn supersede_tails(&mut self, place: &Place, tokens: &[u32]) {
        let is_covered = |key: &&Key| {
            let is_tail = self.ram.place(key).is_some_and(|place| place.is_tail());
            is_tail && self.ram.tokens(key).is_some_and(|tail| common(tail, tokens) == tail.len())
        };
        let covered: Vec<Key> = self.ram.children(&place.parent).filter(is_covered).copied().collect();
        for key in covered.into_iter().filter(|key| *key != place.key) {
            self.ram.remove(&key, Part::Page);
            if let Some(disk) = &mut self.disk {
                disk.delete(&key, Part::Page);
            }
        }
    }

    /// Puts a part into memory, and into a file if it is in none.
    fn put(&mut self, cursor: &Cursor, place: Place, part: Part, tokens: &[u32], page: HeldPage, stamp: u64) {
        if let Some(disk) = &mut self.disk
            && !disk.write(&cursor.setting, place, part, tokens, &page, stamp)
        {
            if self.counts.n_not_written == 0 {
                self.notes.push(super::Note::TooSlow);
            }
            self.counts.n_not_written += 1;
        }
        let bytes = page.n_bytes() as u64;
        self.ram.insert(place, part, page, bytes, stamp);
        self.ram.set_tokens(&place.key, tokens);
    }
}

/// The tokens of a whole page.
fn tokens_of<'a>(sequence: &'a Sequence, place: &Place) -> &'a [u32] {
    let start = place.depth as usize * PAGE_TOKENS;
    &sequence.tokens()[start..start + place.n_tokens as usize]
}
