//! What a prompt finds.

use std::sync::Arc;

use super::disk::ReadError;
use super::key::{Key, Scope};
use super::tree::Part;
use super::{Cursor, Damaged, PrefixCache};
use crate::cache::{CacheError, HeldKind, HeldPage, HeldSlot, PAGE_TOKENS};
use crate::prefix::common;
use crate::sequence::{Cache, Sequence};

/// What a prompt found.
pub struct Found {
    /// the beginning of the prompt: pages that are shared with others, or nothing
    pub sequence: Sequence,
    /// for [`PrefixCache::keep`]
    pub cursor: Cursor,
    /// tokens that were found in memory
    pub n_ram: usize,
    /// tokens that were found on disk
    pub n_disk: usize,
    /// files that should have had more
    pub damaged: Vec<Damaged>,
}

/// How much of a prompt is known, whether it can be gone on from or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Tokens of its beginning whose pages are here, in memory or on disk.
    pub n_here: usize,
    /// Tokens of its beginning that were here at some time. Behind them the prompt is new, or differs from what was read.
    pub n_seen: usize,
}

/// Where a prompt can go on.
struct Point {
    n_pages: usize,
    /// a page of which the first tokens are the prompt's next ones, and how many
    partial: Option<(Key, Part, usize)>,
}

/// Why a page cannot be had.
enum Missing {
    /// it is not there any more
    Gone,
    /// the budget does not hold it
    NoRoom,
}

/// One question, and what was found so far.
struct Search<'a> {
    cache: &'a Arc<Cache>,
    tokens: &'a [u32],
    root: Key,
    /// of the prompt's whole pages, as far as they are here, and one more
    keys: Vec<Key>,
    stamp: u64,
    n_disk: usize,
    damaged: Vec<Damaged>,
}

impl Search<'_> {
    fn parent(&self, index: usize) -> Key {
        if index == 0 { self.root } else { self.keys[index - 1] }
    }

    fn is_packed(&self) -> bool {
        self.cache.pool.packed().is_some()
    }

    /// Most tokens that may be taken of page `index`, so that the others are computed as they would be anyway.
    fn most_of_page(&self, index: usize) -> usize {
        let rest = self.tokens.len() - index * PAGE_TOKENS;
        if self.cache.computes_alike() {
            (rest - 1).min(PAGE_TOKENS - 1)
        } else {
            rest.min(PAGE_TOKENS).saturating_sub(2)
        }
    }
}

impl PrefixCache {
    /// The longest beginning of `tokens`, all but the last one at most, that can be gone on from with the same bits as a
    /// prompt that is read anew by [`Generation::wanted`](crate::Generation::wanted): pages in memory, and pages on disk,
    /// which come into memory as far as the budget holds them. Pages that no sequence holds give way to those.
    pub fn find(&mut self, cache: &Arc<Cache>, scope: &Scope, tokens: &[u32]) -> Found {
        let stamp = self.tick();
        let root = Key::root(&cache.saved_key().digest(), scope);
        let mut search =
            Search { cache, tokens, root, keys: Vec::new(), stamp, n_disk: 0, damaged: Vec::new() };
        for page in tokens.chunks_exact(PAGE_TOKENS) {
            let key = search.parent(search.keys.len()).child(page);
            search.keys.push(key);
            if !self.has(&key, Part::Page) {
                break;
            }
        }
        let mut most = tokens.len().saturating_sub(1) / PAGE_TOKENS;
        let mut with_partial = !tokens.is_empty();
        let (slots, len) = loop {
            let point = self.point(&mut search, most, with_partial);
            search.n_disk = 0;
            match self.gather(&mut search, &point) {
                Ok(slots) => {
                    let n_more = point.partial.map_or(0, |(_, _, n)| n);
                    break (slots, point.n_pages * PAGE_TOKENS + n_more);
                }
                Err((_, Missing::Gone)) => {}
                Err((page, Missing::NoRoom)) if page < point.n_pages => most = page,
                Err(_) => with_partial = false,
            }
        };
        self.counts.n_damaged += search.damaged.len() as u64;
        self.counts.n_hit_disk += search.n_disk as u64;
        self.counts.n_hit_ram += (len - search.n_disk) as u64;
        self.counts.n_missed += (tokens.len() - len) as u64;
        let mut cursor = self.cursor(cache, scope);
        cursor.set_keys(&search.keys[..len / PAGE_TOKENS]);
        let found = Found {
            sequence: cache.sequence_of(tokens[..len].to_vec(), slots),
            cursor,
            n_ram: len - search.n_disk,
            n_disk: search.n_disk,
            damaged: search.damaged,
        };
        self.limit_ram();
        found
    }

    /// How much of a prompt is known: to tell why it was not found. Changes nothing.
    pub fn explain(&self, cache: &Cache, scope: &Scope, tokens: &[u32]) -> Known {
        let mut parent = Key::root(&cache.saved_key().digest(), scope);
        let (mut n_here, mut n_seen) = (0, 0);
        for page in tokens.chunks_exact(PAGE_TOKENS) {
            let key = parent.child(page);
            let is_here = self.has(&key, Part::Page);
            if !is_here && !self.seen.contains(&key) {
                break;
            }
            if is_here && n_here == n_seen {
                n_here += PAGE_TOKENS;
            }
            n_seen += PAGE_TOKENS;
            parent = key;
        }
        let rest = &tokens[n_seen..];
        let in_ram = self.ram.children(&parent).filter_map(|key| self.ram.tokens(key));
        let n_more = in_ram.map(|tokens| common(tokens, rest)).max().unwrap_or(0);
        Known { n_here: if n_here == n_seen { n_here + n_more } else { n_here }, n_seen: n_seen + n_more }
    }

    /// The furthest point behind at most `most` pages.
    fn point(&mut self, search: &mut Search<'_>, most: usize, with_partial: bool) -> Point {
        let n_here = search.keys.iter().take_while(|key| self.has(key, Part::Page)).count();
        for n_pages in (0..=most.min(n_here)).rev() {
            let recent = search.cache.first_exact(n_pages * PAGE_TOKENS)..n_pages;
            if !search.is_packed() || recent.clone().all(|page| self.has(&search.keys[page], Part::Twin)) {
                let partial = if with_partial { self.partial(search, n_pages) } else { None };
                return Point { n_pages, partial };
            }
        }
        Point { n_pages: 0, partial: None }
    }

    /// The page that shares most tokens with page `index` of the prompt.
    fn partial(&mut self, search: &mut Search<'_>, index: usize) -> Option<(Key, Part, usize)> {
        let parent = search.parent(index);
        let rest = &search.tokens[index * PAGE_TOKENS..];
        let most = search.most_of_page(index);
        if most == 0 {
            return None;
        }
        if let Some(disk) = &mut self.disk {
            search.damaged.extend(disk.learn_tails(&parent));
        }
        let exact_part = |n_tokens: usize| {
            if search.is_packed() && n_tokens == PAGE_TOKENS { Part::Twin } else { Part::Page }
        };
        let in_ram = self.ram.children(&parent).filter_map(|key| Some((*key, self.ram.tokens(key)?, true)));
        let on_disk = self.disk.iter().flat_map(|disk| disk.children(&parent));
        let own = search.keys.get(index).map(|key| (*key, &rest[..PAGE_TOKENS], false));
        let candidates = in_ram.chain(on_disk.map(|(key, tokens)| (key, tokens, false))).chain(own);
        candidates
            .map(|(key, tokens, is_in_ram)| {
                (key, exact_part(tokens.len()), common(tokens, rest).min(most), is_in_ram)
            })
            .filter(|(key, part, n, _)| *n > 0 && self.has(key, *part))
            .max_by_key(|(key, part, n, is_in_ram)| (*n, *is_in_ram && self.ram.get(key, *part).is_some()))
            .map(|(key, part, n, _)| (key, part, n))
    }

    /// The pages up to a point; or which is missing, and why.
    fn gather(&mut self, search: &mut Search<'_>, point: &Point) -> Result<Vec<HeldSlot>, (usize, Missing)> {
        let first_exact = search.cache.first_exact(point.n_pages * PAGE_TOKENS);
        let mut slots = Vec::with_capacity(point.n_pages + 1);
        for index in 0..point.n_pages {
            let key = search.keys[index];
            let page = self.obtain(search, index, key, Part::Page, PAGE_TOKENS);
            let page = page.map_err(|missing| (index, missing))?;
            slots.push(match search.is_packed() {
                true => HeldSlot { packed: Some(page), exact: None },
                false => HeldSlot { exact: Some(page), packed: None },
            });
        }
        if search.is_packed() {
            for (index, slot) in slots.iter_mut().enumerate().skip(first_exact) {
                let key = search.keys[index];
                let twin = self.obtain(search, index, key, Part::Twin, 0);
                // A shorter beginning may do with less room.
                slot.exact = Some(twin.map_err(|missing| (point.n_pages - 1, missing))?);
            }
        }
        if let Some((key, part, n)) = point.partial {
            let page = self.obtain(search, point.n_pages, key, part, n);
            let page = page.map_err(|missing| (point.n_pages, missing))?;
            slots.push(HeldSlot { exact: Some(page), packed: None });
        }
        Ok(slots)
    }

    /// A part in memory, or from the disk; `n` tokens of it are used.
    fn obtain(
        &mut self,
        search: &mut Search<'_>,
        index: usize,
        key: Key,
        part: Part,
        n: usize,
    ) -> Result<HeldPage, Missing> {
        let setting = search.cache.saved_key().digest();
        if let Some(page) = self.ram.get(&key, part).cloned() {
            self.touch(&key, part, search.stamp);
            self.save_again(&key, part, &page, &setting, search.stamp);
            return Ok(page);
        }
        let pool = &search.cache.pool;
        let is_tail = self.disk.as_ref().is_some_and(|disk| disk.is_tail(&key));
        let is_exact = !search.is_packed() || part == Part::Twin || is_tail;
        let kind = if is_exact { HeldKind::Exact } else { HeldKind::Packed };
        let own = search.tokens.get(index * PAGE_TOKENS..(index + 1) * PAGE_TOKENS);
        let own = own.filter(|_| search.keys.get(index) == Some(&key));
        for is_last in [false, true] {
            let Some(disk) = &mut self.disk else { return Err(Missing::Gone) };
            let tokens = own.or_else(|| self.ram.tokens(&key));
            match disk.read(&key, part, (index, kind), tokens, &setting, pool) {
                Ok(read) => {
                    let bytes = read.page.n_bytes() as u64;
                    self.ram.insert(read.place, part, read.page.clone(), bytes, search.stamp);
                    self.ram.set_tokens(&key, &read.tokens);
                    self.touch(&key, part, search.stamp);
                    search.n_disk += n;
                    return Ok(read.page);
                }
                Err(ReadError::Gone(damaged)) => {
                    search.damaged.extend(damaged);
                    return Err(Missing::Gone);
                }
                Err(ReadError::Cache(CacheError::Budget { .. })) if !is_last => {
                    self.make_room(pool.bytes_of_page(index, kind));
                }
                Err(ReadError::Cache(_)) => return Err(Missing::NoRoom),
            }
        }
        Err(Missing::NoRoom)
    }

    /// Puts a page in a file that has lost its own, or never had one.
    fn save_again(&mut self, key: &Key, part: Part, page: &HeldPage, setting: &[u8; 32], stamp: u64) {
        if let Some(disk) = &mut self.disk
            && !disk.has(key, part)
            && let Some((place, tokens)) = self.ram.place(key).zip(self.ram.tokens(key))
        {
            disk.write(setting, place, part, tokens, page, stamp);
        }
    }
}
