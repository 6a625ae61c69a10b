//! One layer of a batch: stores the new keys and values of all its sequences, and attends to all of theirs.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use lossy_kernels::attention::{self, Asked, Meeting, PagePart, PageSource, Request};
use lossy_kernels::kv::{AppendError, ExactHead, ExactHeadMut, HeadF32, Sinks, Stored, hadamard_rows};
use lossy_kernels::page::{PageTurns, Partial, Rows, Tile, TokenQueries};
use lossy_kernels::{Compute, Isa};

use crate::positions::Positions;

use super::code::Place;
use super::page::Page;
use super::sequence::{PageToWrite, Seen};
use super::{CacheError, KvGeometry, KvPool, KvSequence, PAGE_TOKENS};

/// From this many new tokens on, threads share the work of storing them.
const PARALLEL_TOKENS: usize = 16;

thread_local! {
    static UNPACKED: RefCell<HeadF32> = RefCell::default();
}

/// One sequence's rows in a batch.
#[derive(Debug)]
pub struct Span<'a> {
    /// the sequence
    pub cache: &'a mut KvSequence,
    /// rows of its new tokens
    pub rows: Range<usize>,
}

/// The part of the new tokens that goes to one KV head of one page.
struct Piece<'a> {
    pool: &'a KvPool,
    /// of which the rows are
    values: Rows<'a>,
    exact: &'a mut [u8],
    /// where the page's codes go, if these tokens fill it
    packed: Option<&'a mut [u8]>,
    place: Place<'a>,
    /// position of the first token
    position: usize,
    /// rows of the tokens
    rows: Range<usize>,
    outcome: Result<(), AppendError>,
}

/// Stores the rotated keys and the values `[n_rows, n_kv_heads * head_dim]` of the new tokens of one layer, and packs the
/// pages that they fill. They become part of the sequences with [`KvSequence::advance`]; until then storing them again
/// replaces them.
///
/// # Errors
/// [`CacheError::Unstorable`], the first one by sequence and position. The sequences have not changed then.
///
/// # Panics
/// The tokens were not reserved, or the sequences are of models of different shapes.
pub fn append_layer(
    cx: &Compute,
    layer: usize,
    spans: &mut [Span<'_>],
    keys: Rows<'_>,
    values: Rows<'_>,
) -> Result<(), CacheError> {
    let Some(geometry) = common_geometry(spans) else { return Ok(()) };
    let transformed = transformed(cx, &geometry, spans, values);
    let owners: Vec<(Arc<KvPool>, Arc<Positions>)> =
        spans.iter().map(|span| (span.cache.pool().clone(), span.cache.positions().clone())).collect();
    let mut pieces = Vec::new();
    for (span, (pool, positions)) in spans.iter_mut().zip(&owners) {
        let values = match pool.layout().transforms_values {
            true => Rows::new(&transformed, geometry.n_kv_heads * geometry.head_dim, 0),
            false => values,
        };
        let (start, end) = (span.cache.len(), span.cache.len() + span.rows.len());
        for PageToWrite { index, exact, packed } in span.cache.pages_mut(span.rows.len()) {
            let first = index * PAGE_TOKENS;
            let position = first.max(start);
            let row = span.rows.start + position - start;
            let rows = row..row + (first + PAGE_TOKENS).min(end) - position;
            let mut packed = packed.map(|page| page.heads_mut(layer));
            pieces.extend(exact.heads_mut(layer).enumerate().map(|(kv_head, exact)| Piece {
                pool,
                values,
                exact,
                packed: packed.as_mut().and_then(Iterator::next),
                place: Place::itself(positions, kv_head, index),
                position,
                rows: rows.clone(),
                outcome: Ok(()),
            }));
        }
    }
    let store = |piece: &mut Piece<'_>| {
        let (pool, head_dim) = (piece.pool, geometry.head_dim);
        let (at, column) = (piece.position % PAGE_TOKENS, piece.place.kv_head * head_dim);
        let keys = keys.skip(column).select(piece.rows.clone());
        let values = piece.values.skip(column).select(piece.rows.clone());
        let mut exact = ExactHeadMut::new(pool.layout().exact, head_dim, piece.exact);
        piece.outcome = exact.append(cx.isa, at, keys, values);
        if piece.outcome.is_ok()
            && let Some(packed) = &mut piece.packed
        {
            pool.pack(cx.isa, layer, piece.place, piece.exact, packed);
        }
    };
    if keys.n_rows() < PARALLEL_TOKENS {
        pieces.iter_mut().for_each(store);
    } else {
        cx.pool.run_mut(&mut pieces, |_, piece| store(piece));
    }
    let refused = pieces.iter().find_map(|piece| Some((piece, piece.outcome.err()?)));
    refused.map_or(Ok(()), |(piece, error)| {
        Err(CacheError::Unstorable {
            layer,
            kv_head: piece.place.kv_head,
            position: piece.position + error.row,
            part: error.part,
            value: error.value,
            scheme: piece.pool.layout().name.clone(),
        })
    })
}

/// The values `[n_rows, n_kv_heads * head_dim]`, each head transformed in the rows of sequences that store them so; empty
/// if there are none.
fn transformed(cx: &Compute, geometry: &KvGeometry, spans: &[Span<'_>], values: Rows<'_>) -> Vec<f32> {
    let mut out = Vec::new();
    if !spans.iter().any(Span::transforms_values) {
        return out;
    }
    let width = geometry.n_kv_heads * geometry.head_dim;
    out.reserve(values.n_rows() * width);
    (0..values.n_rows()).for_each(|row| out.extend_from_slice(values.row(row, width)));
    for rows in transformed_rows(spans) {
        hadamard_rows(cx, &mut out[rows.start * width..rows.end * width], geometry.head_dim);
    }
    out
}

/// Rows of sequences that store transformed values: neighbours together, so that a batch of many is one piece of work.
fn transformed_rows(spans: &[Span<'_>]) -> Vec<Range<usize>> {
    let groups = spans.chunk_by(|a, b| a.transforms_values() == b.transforms_values());
    let transformed = groups.filter(|group| group[0].transforms_values());
    transformed.map(|group| group[0].rows.start..group[group.len() - 1].rows.end).collect()
}

impl Span<'_> {
    fn transforms_values(&self) -> bool {
        self.cache.pool().layout().transforms_values
    }
}

/// Causal attention of the queries `[n_rows, n_heads * head_dim]` of one layer over the sequences and their new tokens,
/// scaled by 1/√head_dim: `out` is `[n_rows, n_heads * head_dim]`. `queries` are rotated, once for each rotation that the
/// positions of a sequence ask for; rows of sequences that ask for fewer are not read in the others.
///
/// # Panics
/// The tokens were not reserved, the sequences are of models of different shapes, or rows or rotations are missing.
pub fn attend_layer(cx: &Compute, layer: usize, spans: &[Span<'_>], queries: &[Rows<'_>], out: &mut [f32]) {
    let Some(geometry) = common_geometry(spans) else { return };
    let sources: Vec<LayerOfSequence<'_>> = spans
        .iter()
        .map(|span| {
            span.cache.assert_reserved(span.rows.len());
            LayerOfSequence { sequence: &*span.cache, layer }
        })
        .collect();
    let requests: Vec<Request<'_>> = spans
        .iter()
        .zip(&sources)
        .map(|(span, source)| Request { source, n_past: span.cache.len(), rows: span.rows.clone() })
        .collect();
    let shape = geometry.heads();
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    attention::attend(cx, &shape, scale, queries, &requests, out);
    let width = shape.n_heads() * shape.head_dim;
    for rows in transformed_rows(spans) {
        hadamard_rows(cx, &mut out[rows.start * width..rows.end * width], shape.head_dim);
    }
}

/// The shape of all sequences of a batch; `None` for no sequences.
fn common_geometry(spans: &[Span<'_>]) -> Option<KvGeometry> {
    let geometry = *spans.first()?.cache.pool().geometry();
    assert!(spans.iter().all(|span| *span.cache.pool().geometry() == geometry), "sequences of one model");
    Some(geometry)
}

impl KvPool {
    fn exact_head<'a>(&self, bytes: &'a [u8]) -> ExactHead<'a> {
        ExactHead::new(self.layout().exact, self.geometry().head_dim, bytes)
    }

    /// Bytes of the codes of a head of a packed page; what is behind them are sinks.
    pub(super) fn code_bytes(&self, layer: usize) -> usize {
        self.packed().map_or(0, |packed| packed.codes[layer].bytes_per_head())
    }

    /// Packs a head of a full page, and keeps the sinks if it is the first.
    fn pack(&self, isa: Isa, layer: usize, place: Place<'_>, exact: &[u8], packed: &mut [u8]) {
        let Some(layers) = self.packed() else { return };
        let (codes, sinks) = packed.split_at_mut(self.code_bytes(layer));
        let exact = self.exact_head(exact);
        layers.codes[layer].pack(isa, place, exact, codes);
        if layers.has_sinks(place.page) {
            exact.copy_first(layers.sink_capacity(), &mut sinks[..self.sink_bytes()]);
        }
    }

    fn sink_bytes(&self) -> usize {
        let capacity = self.packed().map_or(0, |packed| packed.sink_capacity());
        self.layout().exact.bytes_of_tokens(capacity, self.geometry().head_dim)
    }

    /// A packed head's codes, and its sinks if it has any.
    fn parts<'a>(&self, layer: usize, page: usize, packed: &'a [u8]) -> (&'a [u8], Option<Sinks<'a>>) {
        let (codes, rest) = packed.split_at(self.code_bytes(layer));
        let sinks = self.packed().filter(|layers| layers.has_sinks(page)).map(|layers| {
            let (kv_type, head_dim) = (self.layout().exact, self.geometry().head_dim);
            let bytes = &rest[..self.sink_bytes()];
            let head = ExactHead::with_capacity(kv_type, head_dim, layers.sink_capacity(), bytes);
            Sinks { head, n_tokens: layers.sinks }
        });
        (codes, sinks)
    }

    /// What a packed head stands for, sinks as they are.
    fn unpack(&self, isa: Isa, layer: usize, place: Place<'_>, packed: &[u8], out: &mut HeadF32) {
        let Some(layers) = self.packed() else { return };
        let (codes, sinks) = self.parts(layer, place.page, packed);
        layers.codes[layer].unpack(isa, place, codes, out);
        if let Some(sinks) = sinks {
            out.copy_from(sinks.head, sinks.n_tokens);
        }
    }

    /// What a packed head stands for, as an exact head.
    pub(super) fn unpack_exact(&self, layer: usize, place: Place<'_>, packed: &[u8], exact: &mut [u8]) {
        UNPACKED.with_borrow_mut(|unpacked| {
            self.unpack(Isa::best(), layer, place, packed, unpacked);
            let head_dim = self.geometry().head_dim;
            ExactHeadMut::new(self.layout().exact, head_dim, exact).set_f32(unpacked.head());
        });
    }
}

/// One layer of a sequence, as attention asks for it.
struct LayerOfSequence<'a> {
    sequence: &'a KvSequence,
    layer: usize,
}

impl LayerOfSequence<'_> {
    fn pool(&self) -> &KvPool {
        self.sequence.pool()
    }

    fn seen(&self, asked: &Asked) -> Seen<'_> {
        self.sequence
            .seen(asked.page, asked.asking_page, asked.part)
            .expect("attention asks for tokens of the sequence")
    }

    /// Where the page that is asked for is seen.
    fn place(&self, asked: &Asked) -> Place<'_> {
        self.sequence.place(asked.kv_head, asked.page, asked.asking_page)
    }

    /// By how much its tokens are turned one by one.
    fn turns(&self, asked: &Asked) -> Option<PageTurns<'_>> {
        let positions = self.sequence.positions();
        let is_turned = asked.rotation > 0 && positions.map().token_position(0).is_some();
        is_turned.then(|| positions.turns().page(asked.page))
    }

    /// The page as float32, seen where it is.
    fn load(&self, isa: Isa, asked: &Asked, out: &mut HeadF32) {
        let (pool, seen) = (self.pool(), self.seen(asked));
        match seen {
            Seen::Exact(page) => out.load(pool.exact_head(page.head(self.layer, asked.kv_head))),
            Seen::Packed(page) | Seen::ExactValues { packed: page, .. } => {
                let place = Place::itself(self.sequence.positions(), asked.kv_head, asked.page);
                pool.unpack(isa, self.layer, place, page.head(self.layer, asked.kv_head), out);
            }
        }
        if let Seen::ExactValues { exact, .. } = seen {
            out.copy_values_from(pool.exact_head(exact.head(self.layer, asked.kv_head)));
        }
    }

    /// The bytes that will be read next, if they are of the same kind.
    fn next(&self, asked: &Asked, is_packed: bool) -> Option<&[u8]> {
        match self.sequence.seen(asked.page + 1, asked.asking_page, PagePart::Seen)? {
            Seen::Exact(page) => (!is_packed).then(|| page.head(self.layer, asked.kv_head)),
            Seen::Packed(page) | Seen::ExactValues { packed: page, .. } => {
                is_packed.then(|| self.codes(page, asked.kv_head))
            }
        }
    }

    fn codes<'a>(&self, page: &'a Page, kv_head: usize) -> &'a [u8] {
        &page.head(self.layer, kv_head)[..self.pool().code_bytes(self.layer)]
    }
}

impl PageSource for LayerOfSequence<'_> {
    fn meeting(&self, page: usize, asking_page: usize) -> Meeting {
        self.sequence.meeting(page, asking_page)
    }

    fn attend_token(&self, isa: Isa, asked: Asked, token: &mut TokenQueries, partial: &mut Partial<'_>) {
        let turns = self.turns(&asked);
        let place = self.place(&asked);
        if turns.is_none() && self.attend_stored(isa, &asked, place, token, partial) {
            return;
        }
        UNPACKED.with_borrow_mut(|unpacked| {
            self.load(isa, &asked, unpacked);
            token.set_moved(isa, place.moved);
            if let Some(turns) = turns {
                unpacked.turn(isa, turns);
            }
            unpacked.head().attend_token(isa, asked.tokens, token, None, partial);
        });
    }

    fn load_tile(&self, isa: Isa, asked: Asked, tile: &mut Tile) {
        let n_tokens = asked.tokens.end;
        match self.seen(&asked) {
            Seen::Exact(page) => {
                let head = self.pool().exact_head(page.head(self.layer, asked.kv_head));
                head.load_tile(isa, n_tokens, tile);
            }
            Seen::Packed(_) | Seen::ExactValues { .. } => UNPACKED.with_borrow_mut(|unpacked| {
                self.load(isa, &asked, unpacked);
                unpacked.head().load_tile(isa, n_tokens, tile);
            }),
        }
        if let Some(frames) = self.place(&asked).moved {
            tile.move_frames(isa, frames, n_tokens);
        }
        if let Some(turns) = self.turns(&asked) {
            tile.turn(isa, turns);
        }
    }
}

impl LayerOfSequence<'_> {
    /// Attends to a page as it is stored. Returns `false`, having done nothing, if there is no kernel for that.
    fn attend_stored(
        &self,
        isa: Isa,
        asked: &Asked,
        place: Place<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) -> bool {
        let pool = self.pool();
        match self.seen(asked) {
            Seen::Exact(page) => {
                let next = self.next(asked, false).map(|bytes| pool.exact_head(bytes));
                let head = pool.exact_head(page.head(self.layer, asked.kv_head));
                token.set_moved(isa, place.moved);
                head.attend_token(isa, asked.tokens.clone(), token, next, partial);
                true
            }
            Seen::ExactValues { .. } => false,
            Seen::Packed(_) if asked.tokens != (0..PAGE_TOKENS) => false,
            Seen::Packed(page) => {
                let Some(layers) = pool.packed() else { return false };
                let (codes, sinks) = pool.parts(self.layer, asked.page, page.head(self.layer, asked.kv_head));
                let stored = Stored { bytes: codes, sinks, next: self.next(asked, true) };
                layers.codes[self.layer].attend_token(isa, place, stored, token, partial)
            }
        }
    }
}
