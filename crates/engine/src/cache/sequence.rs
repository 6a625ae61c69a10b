//! One sequence: its length and its pages.

use std::ops::Range;
use std::sync::Arc;

use lossy_kernels::attention::{Meeting, PagePart};

use crate::positions::{Moved, Positions};

use super::choices::Choices;
use super::code::Place;
use super::layout::PageKind;
use super::page::Page;
use super::{CacheError, KvPool, PAGE_TOKENS, PackedLayers};

mod copies;

/// The pages that hold [`PAGE_TOKENS`] tokens: their keys and values as they are while they are recent, packed when all of
/// them are there, or both.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub exact: Option<Arc<Page>>,
    pub packed: Option<Arc<Page>>,
}

/// Keys and values of one sequence in all layers.
#[derive(Debug)]
pub struct KvSequence {
    pool: Arc<KvPool>,
    /// Of the tokens, and behind them those that are reserved. A page in which a reserved token lies is held by this
    /// sequence only. A packed page is valid if all its tokens lie before `len`.
    slots: Vec<Slot>,
    len: usize,
    /// whether everything stays exact, and is seen so, for the time being
    keeps_exact: bool,
    positions: Arc<Positions>,
    /// for each page with reserved tokens: the earlier frames they see at shifted positions; `None`: they see none shifted
    moved: Vec<(usize, Option<Arc<Moved>>)>,
    /// pages that its tokens read, since it began or was forked
    pub(super) choices: Choices,
}

/// A page to be written.
pub(super) struct PageToWrite<'a> {
    /// index in the sequence
    pub index: usize,
    pub exact: &'a mut Page,
    /// to be packed from `exact` when its new tokens are there, which are its last ones
    pub packed: Option<&'a mut Page>,
}

/// What a token sees of a page.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    Exact(&'a Page),
    Packed(&'a Page),
    /// keys as codes, values as they are
    ExactValues {
        packed: &'a Page,
        exact: &'a Page,
    },
}

impl KvSequence {
    pub(super) fn new(pool: Arc<KvPool>, positions: Arc<Positions>) -> KvSequence {
        KvSequence {
            pool,
            slots: Vec::new(),
            len: 0,
            keeps_exact: false,
            positions,
            moved: Vec::new(),
            choices: Choices::default(),
        }
    }

    /// A sequence of `len` tokens that lie in `slots`.
    pub(super) fn of_slots(pool: Arc<KvPool>, slots: Vec<Slot>, len: usize) -> KvSequence {
        KvSequence { slots, len, ..pool.sequence() }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the pages it holds, shared ones included.
    pub fn bytes(&self) -> usize {
        let pages = self.slots.iter().flat_map(|slot| [&slot.exact, &slot.packed]).flatten();
        pages.map(|page| page.n_bytes()).sum()
    }

    /// Tokens whose keys and values are held as they are.
    pub fn n_exact_tokens(&self) -> usize {
        let of_slot = |(index, slot): (usize, &Slot)| {
            let tokens = (self.len - (index * PAGE_TOKENS).min(self.len)).min(PAGE_TOKENS);
            if slot.exact.is_some() { tokens } else { 0 }
        };
        self.slots.iter().enumerate().map(of_slot).sum()
    }

    /// Of the pages that tokens saw, the share that they read, since it began or was forked: all layers and heads together.
    /// `None`: nothing could be skipped yet.
    pub fn share_of_pages_read(&self) -> Option<f64> {
        self.choices.share_read()
    }

    /// The pool its pages come from.
    pub fn pool(&self) -> &Arc<KvPool> {
        &self.pool
    }

    /// Its positions.
    pub fn positions(&self) -> &Arc<Positions> {
        &self.positions
    }

    /// Rotations that queries of the next `n_new` tokens need: those of the map, or one if they see every page with that.
    pub(crate) fn n_rotations(&self, n_new: usize) -> usize {
        let map = self.positions.map();
        let last = (self.len + n_new).saturating_sub(1) / PAGE_TOKENS;
        let is_one = map.n_rotations() == 1 || map.meeting(0, last) == Meeting::Whole(0);
        if is_one { 1 } else { map.n_rotations() }
    }

    /// From now on all tokens stay exact and are seen so, whatever the scheme, until [`pack`](KvSequence::pack).
    pub fn keep_exact(&mut self) {
        self.keeps_exact = true;
    }

    /// Ends [`keep_exact`](KvSequence::keep_exact): old tokens are seen packed, and their exact pages go back to the pool.
    pub fn pack(&mut self) {
        self.keeps_exact = false;
        self.release();
    }

    /// Forgets all tokens from `len` on, and what was reserved; pages that become empty go back to the pool. A longer
    /// `len` than the sequence's changes nothing else.
    ///
    /// A cut inside a page that is only packed leaves the tokens before the cut with what their codes stand for; where
    /// that must not be, cut at [`longest_faithful`](KvSequence::longest_faithful). Returns the tokens that are left.
    pub fn truncate(&mut self, len: usize) -> usize {
        self.len = self.len.min(len);
        self.slots.truncate(self.len.div_ceil(PAGE_TOKENS));
        if !self.len.is_multiple_of(PAGE_TOKENS)
            && let Some(slot) = self.slots.last_mut()
            && slot.exact.is_some()
        {
            slot.packed = None;
        }
        self.len
    }

    /// A second sequence with the same tokens, which shares this one's pages.
    pub fn fork(&self) -> KvSequence {
        let mut fork = KvSequence {
            pool: self.pool.clone(),
            slots: self.slots[..self.len.div_ceil(PAGE_TOKENS)].to_vec(),
            len: self.len,
            keeps_exact: self.keeps_exact,
            positions: self.positions.clone(),
            moved: Vec::new(),
            choices: Choices::default(),
        };
        fork.truncate(self.len);
        fork
    }

    /// Makes room for `n_new` tokens, so that appending them cannot fail for want of memory: new pages, and an own copy
    /// of the last page if it is not full and shared or packed.
    ///
    /// # Errors
    /// [`CacheError::Budget`] or [`CacheError::Memory`]; the sequence has not changed then.
    pub fn reserve(&mut self, n_new: usize) -> Result<(), CacheError> {
        if n_new == 0 {
            return Ok(());
        }
        let first = self.len / PAGE_TOKENS;
        self.look(first..(self.len + n_new).div_ceil(PAGE_TOKENS));
        let wanted = self.missing(n_new);
        let new: Vec<PageKind> = wanted.iter().map(|(_, kind)| *kind).collect();
        for ((index, kind), mut page) in wanted.into_iter().zip(self.pool.take(&new)?) {
            if index >= self.slots.len() {
                self.slots.resize_with(index + 1, Slot::default);
            }
            match kind {
                PageKind::Exact => {
                    let old = std::mem::take(&mut self.slots[index]);
                    if index == first && !self.len.is_multiple_of(PAGE_TOKENS) {
                        self.restore(index, &old, &mut page);
                    }
                    self.slots[index] = Slot { exact: Some(Arc::new(page)), packed: None };
                }
                PageKind::Packed | PageKind::First => self.slots[index].packed = Some(Arc::new(page)),
            }
        }
        Ok(())
    }

    /// The pages that `n_new` more tokens need, and do not have yet: which slot, of what kind; of one slot the exact page
    /// first.
    fn missing(&self, n_new: usize) -> Vec<(usize, PageKind)> {
        let end = self.len + n_new;
        let pages = if n_new == 0 { 0..0 } else { self.len / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS) };
        let is_packed = self.pool.packed().is_some();
        let has_own = |page: &Option<Arc<Page>>| page.as_ref().is_some_and(|p| Arc::strong_count(p) == 1);
        let mut missing = Vec::new();
        for index in pages {
            let slot = self.slots.get(index);
            let exact = slot.is_some_and(|slot| has_own(&slot.exact));
            let packed = slot.is_some_and(|slot| has_own(&slot.packed));
            if !exact {
                missing.push((index, PageKind::Exact));
            }
            // A new exact page takes the place of both.
            if is_packed && end >= (index + 1) * PAGE_TOKENS && !(packed && exact) {
                missing.push((index, if index == 0 { PageKind::First } else { PageKind::Packed }));
            }
        }
        missing
    }

    /// Bytes that [`reserve`](KvSequence::reserve) would take for `n_new` tokens.
    pub fn bytes_to_reserve(&self, n_new: usize) -> usize {
        let kinds: Vec<PageKind> = self.missing(n_new).into_iter().map(|(_, kind)| kind).collect();
        self.pool.bytes_of_kinds(&kinds)
    }

    /// The longest beginning, of at most `len` tokens, after which other tokens can follow with the same bits as after a
    /// sequence that was never longer: what they see as it is must still be there as it is.
    pub fn longest_faithful(&self, len: usize) -> usize {
        let is_exact = |page: usize| self.slots.get(page).is_some_and(|slot| slot.exact.is_some());
        let mut len = len.min(self.len);
        if self.pool.packed().is_some() {
            // A page is read anew as a whole: its tokens see packed ones in another way alone than together.
            len = len / PAGE_TOKENS * PAGE_TOKENS;
        }
        while len > 0 && !(self.first_exact(len)..len.div_ceil(PAGE_TOKENS)).all(is_exact) {
            len -= 1;
            len -= len % PAGE_TOKENS;
        }
        len
    }

    /// Finds the frames that the tokens of the given pages see at shifted positions.
    fn look(&mut self, pages: Range<usize>) {
        self.moved.retain(|(page, _)| pages.contains(page));
        for page in pages {
            if self.moved.iter().all(|(known, _)| *known != page) {
                self.moved.push((page, self.positions.moved(page).map(Arc::new)));
            }
        }
    }

    /// Where the tokens of page `asking`, which are reserved, see page `index`.
    pub(super) fn place(&self, kv_head: usize, index: usize, asking: usize) -> Place<'_> {
        let moved = self.moved.iter().find(|(page, _)| *page == asking).and_then(|(_, moved)| moved.as_ref());
        match moved.filter(|moved| index < moved.n_pages) {
            Some(moved) => Place {
                kv_head,
                page: index,
                frames: moved.starts.page(index),
                moved: Some(moved.shifts.page(index)),
            },
            None => Place::itself(&self.positions, kv_head, index),
        }
    }

    /// Fills an exact page with what the pages of a slot hold.
    fn restore(&self, index: usize, old: &Slot, page: &mut Page) {
        match (&old.exact, &old.packed) {
            (Some(exact), _) => page.bytes_mut().copy_from_slice(exact.bytes()),
            (None, Some(packed)) => {
                for layer in 0..self.pool.geometry().n_layers {
                    for (kv_head, head) in page.heads_mut(layer).enumerate() {
                        let place = Place::itself(&self.positions, kv_head, index);
                        self.pool.unpack_exact(layer, place, packed.head(layer, kv_head), head);
                    }
                }
            }
            (None, None) => {}
        }
    }

    /// Counts `n_new` tokens that were appended in all layers.
    ///
    /// # Panics
    /// They were not reserved.
    pub fn advance(&mut self, n_new: usize) {
        self.assert_reserved(n_new);
        self.len += n_new;
        self.release();
    }

    /// The first page that tokens after `len` may see as it is.
    fn first_exact(&self, len: usize) -> usize {
        match self.pool.packed() {
            Some(packed) if !self.keeps_exact => {
                (len / PAGE_TOKENS).saturating_sub(packed.window.recent_pages())
            }
            _ => 0,
        }
    }

    /// Lets go of exact pages that no token to come will see.
    fn release(&mut self) {
        let first_exact = self.first_exact(self.len);
        self.slots[..first_exact].iter_mut().for_each(|slot| slot.exact = None);
    }

    pub(super) fn assert_reserved(&self, n_new: usize) {
        let end = self.len + n_new;
        let is_reserved = end <= self.slots.len() * PAGE_TOKENS
            && (n_new == 0 || self.slots[self.len / PAGE_TOKENS..].iter().all(|slot| slot.exact.is_some()));
        assert!(is_reserved, "{n_new} new tokens after {} are not reserved", self.len);
    }

    /// How the queries of page `asking` meet page `index`: in two parts where a window ends, of the map or of the scheme.
    pub(super) fn meeting(&self, index: usize, asking: usize) -> Meeting {
        let window = self.pool.packed().filter(|_| !self.keeps_exact).map(|packed| packed.window);
        match self.positions.map().meeting(index, asking) {
            Meeting::Whole(rotation) if window.is_some_and(|window| window.ends_in(index, asking)) => {
                Meeting::Split { far: rotation, near: rotation }
            }
            meeting => meeting,
        }
    }

    /// What the tokens of page `asking` see of a part of page `index`.
    pub(super) fn seen(&self, index: usize, asking: usize, part: PagePart) -> Option<Seen<'_>> {
        let slot = self.slots.get(index)?;
        let (has_keys, has_values) = match self.pool.packed() {
            Some(PackedLayers { window, .. }) if !self.keeps_exact => {
                let is_near = !window.ends_in(index, asking) || part == PagePart::Near;
                (window.has_keys(index, asking), index + window.recent_pages() >= asking && is_near)
            }
            _ => (true, true),
        };
        match (&slot.exact, &slot.packed) {
            (Some(exact), _) if has_keys => Some(Seen::Exact(exact)),
            (Some(exact), Some(packed)) if has_values => Some(Seen::ExactValues { packed, exact }),
            (_, Some(packed)) => Some(Seen::Packed(packed)),
            (Some(exact), None) => Some(Seen::Exact(exact)),
            (None, None) => None,
        }
    }

    /// The pages in which the `n_new` next tokens lie, to be written.
    ///
    /// # Panics
    /// They were not reserved.
    pub(super) fn pages_mut(&mut self, n_new: usize) -> impl Iterator<Item = PageToWrite<'_>> {
        self.assert_reserved(n_new);
        let (first, end) = (self.len / PAGE_TOKENS, self.len + n_new);
        // No tokens, no pages: the last one may be shared.
        let pages = first..if n_new == 0 { first } else { end.div_ceil(PAGE_TOKENS) };
        self.slots[pages].iter_mut().enumerate().map(move |(offset, slot)| {
            let index = first + offset;
            let is_full = end >= (index + 1) * PAGE_TOKENS;
            let own = |page| Arc::get_mut(page).expect("a page with reserved tokens is not shared");
            PageToWrite {
                index,
                exact: own(slot.exact.as_mut().expect("a page with reserved tokens is exact")),
                packed: slot.packed.as_mut().filter(|_| is_full).map(own),
            }
        })
    }
}
