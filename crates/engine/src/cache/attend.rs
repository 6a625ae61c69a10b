//! One layer of a batch: stores the new keys and values of all its sequences, and attends to all of theirs.

use std::ops::Range;
use std::sync::Arc;

use lossy_kernels::attention::{self, Asked, Meeting, PagePart, PageSource, Request};
use lossy_kernels::kv::{AppendError, ExactHeadMut, HeadF32, Part, Stored};
use lossy_kernels::page::{HeadShape, PageTurns, Partial, QueryRows, RowStates, Rows, Tile, TokenQueries};
use lossy_kernels::{ActivationKind, Compute, Isa};

use crate::positions::Positions;

use super::code::Place;
use super::head::UNPACKED;
use super::layout::PackedLayers;
use super::page::Page;
use super::sequence::{PageToWrite, Seen};
use super::span::{Form, Span, StoredRows, forms, rows_of};
use super::{CacheError, KvGeometry, KvPool, KvSequence, PAGE_TOKENS};

/// From this many new tokens on, threads share the work of storing them; that of packing a page they always share.
const PARALLEL_TOKENS: usize = 16;

/// The part of the new tokens that goes to one KV head of one page.
struct Piece<'a> {
    pool: &'a KvPool,
    /// of which the rows are, as the pool stores them
    keys: Rows<'a>,
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
    let stored: Vec<StoredRows> = forms(spans)
        .into_iter()
        .map(|form| StoredRows::new(cx, form, spans, &geometry, keys, values))
        .collect();
    let owners: Vec<(Arc<KvPool>, Arc<Positions>)> =
        spans.iter().map(|span| (span.cache.pool().clone(), span.cache.positions().clone())).collect();
    let mut pieces = Vec::new();
    for (span, (pool, positions)) in spans.iter_mut().zip(&owners) {
        let of_form = stored.iter().find(|rows| rows.form == Form::of(pool)).expect("rows of every form");
        let width = pool.heads().n_kv_heads * pool.heads().head_dim;
        let keys = of_form.keys.as_ref().map_or(keys, |keys| Rows::new(keys, width, 0));
        let values = of_form.values.as_ref().map_or(values, |values| Rows::new(values, width, 0));
        let (start, end) = (span.cache.len(), span.cache.len() + span.rows.len());
        for PageToWrite { index, exact, packed } in span.cache.pages_mut(span.rows.len()) {
            let first = index * PAGE_TOKENS;
            let position = first.max(start);
            let row = span.rows.start + position - start;
            let rows = row..row + (first + PAGE_TOKENS).min(end) - position;
            let mut packed = packed.map(|page| page.heads_mut(layer));
            pieces.extend(exact.heads_mut(layer).enumerate().map(|(kv_head, exact)| Piece {
                pool,
                keys,
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
        let (pool, head_dim) = (piece.pool, piece.pool.heads().head_dim);
        let (at, column) = (piece.position % PAGE_TOKENS, piece.place.kv_head * head_dim);
        let keys = piece.keys.skip(column).select(piece.rows.clone());
        let values = piece.values.skip(column).select(piece.rows.clone());
        let mut exact = ExactHeadMut::new(pool.layout().exact, head_dim, piece.exact);
        piece.outcome = exact.append(cx.isa, at, keys, values);
        if piece.outcome.is_ok()
            && let Some(packed) = &mut piece.packed
        {
            pool.pack(cx.isa, layer, piece.place, piece.exact, packed);
        }
    };
    if keys.n_rows() < PARALLEL_TOKENS && pieces.iter().all(|piece| piece.packed.is_none()) {
        pieces.iter_mut().for_each(store);
    } else {
        cx.pool.run_mut(&mut pieces, |_, piece| store(piece));
    }
    let refused = pieces.iter().find_map(|piece| Some((piece, piece.outcome.err()?)));
    refused.map_or(Ok(()), |(piece, error)| {
        // The model's own number: a transform makes others of it.
        let came = match error.part {
            Part::Key => keys,
            Part::Value => values,
        };
        let head = came
            .skip(piece.place.kv_head * geometry.head_dim)
            .row(piece.rows.start + error.row, geometry.head_dim);
        let own = head.iter().copied().find(|value| !value.is_finite());
        Err(CacheError::Unstorable {
            layer,
            kv_head: piece.place.kv_head,
            position: piece.position + error.row,
            part: error.part,
            value: own.unwrap_or(error.value),
            scheme: piece.pool.layout().name.clone(),
        })
    })
}

/// Causal attention of the queries `[n_rows, n_heads * head_dim]` of one layer over the sequences and their new tokens,
/// scaled by 1/√head_dim: `out` is `[n_rows, n_heads * head_dim]`. `queries` are rotated, once for each rotation that the
/// positions of a sequence ask for; rows of sequences that ask for fewer are not read in the others. Several tokens of a page
/// read codes as float32 if `activations` are float32, else with integers where the scheme can.
///
/// # Panics
/// The tokens were not reserved, the sequences are of models of different shapes, or rows or rotations are missing.
pub fn attend_layer(
    cx: &Compute,
    layer: usize,
    spans: &[Span<'_>],
    activations: ActivationKind,
    queries: &[Rows<'_>],
    out: &mut [f32],
) {
    let Some(geometry) = common_geometry(spans) else { return };
    let sources: Vec<LayerOfSequence<'_>> = spans
        .iter()
        .map(|span| {
            span.cache.assert_reserved(span.rows.len());
            LayerOfSequence { sequence: &*span.cache, layer, activations }
        })
        .collect();
    // By the head's own channels, whatever is stored beside them.
    let scale = 1.0 / (geometry.head_dim as f32).sqrt();
    let forms = forms(spans);
    let is_first = |n: usize| forms[..n].iter().all(|form| form.padding != forms[n].padding);
    for padding in (0..forms.len()).filter(|n| is_first(*n)).map(|n| forms[n].padding) {
        let of_padding =
            spans.iter().zip(&sources).filter(|(span, _)| span.cache.pool().padding() == padding);
        let requests: Vec<Request<'_>> = of_padding
            .flat_map(|(span, source)| {
                let is_cut = span.one_by_one && !span.cache.pool().computes_alike(activations);
                let n_together = if is_cut { 1 } else { span.rows.len().max(1) };
                span.rows.clone().step_by(n_together).map(move |row| Request {
                    source,
                    n_past: span.cache.len() + row - span.rows.start,
                    rows: row..row + n_together,
                })
            })
            .collect();
        let shape = HeadShape { head_dim: padding.stored_dim(), ..geometry.heads() };
        let (n_heads, width) = (shape.n_heads(), shape.n_heads() * shape.head_dim);
        let turn_back = |out: &mut [f32]| {
            for rows in rows_of(spans, |form| form.padding == padding && form.transforms_values) {
                padding.transform_rows(cx, &mut out[rows.start * width..rows.end * width]);
            }
        };
        if padding.is_none() {
            attention::attend(cx, &shape, scale, queries, &requests, out);
            turn_back(out);
            continue;
        }
        let padded: Vec<Vec<f32>> = queries.iter().map(|rows| padding.padded_rows(*rows, n_heads)).collect();
        let queries: Vec<Rows<'_>> = padded.iter().map(|rows| Rows::new(rows, width, 0)).collect();
        let mut stored = vec![0.0; padded.first().map_or(0, Vec::len)];
        attention::attend(cx, &shape, scale, &queries, &requests, &mut stored);
        turn_back(&mut stored);
        let own_width = n_heads * geometry.head_dim;
        for rows in rows_of(spans, |form| form.padding == padding) {
            let own = &mut out[rows.start * own_width..rows.end * own_width];
            padding.drop_from(&stored[rows.start * width..rows.end * width], own);
        }
    }
}

/// The shape of all sequences of a batch; `None` for no sequences.
fn common_geometry(spans: &[Span<'_>]) -> Option<KvGeometry> {
    let geometry = *spans.first()?.cache.pool().geometry();
    assert!(spans.iter().all(|span| *span.cache.pool().geometry() == geometry), "sequences of one model");
    Some(geometry)
}

/// One layer of a sequence, as attention asks for it.
struct LayerOfSequence<'a> {
    sequence: &'a KvSequence,
    layer: usize,
    /// how several tokens read codes
    activations: ActivationKind,
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

    /// The page, if rows of queries read it as codes: with integers, and as if its frames were turned as a whole.
    fn read_as_codes(&self, asked: &Asked) -> Option<(&Page, &PackedLayers)> {
        let (Seen::Packed(page), Some(layers)) = (self.seen(asked), self.pool().packed()) else {
            return None;
        };
        let reads_floats = self.activations == ActivationKind::F32 || self.turns(asked).is_some();
        (!reads_floats).then_some((page, layers))
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

    fn sparsity(&self) -> Option<f32> {
        self.pool().packed().and_then(|layers| layers.sparsity)
    }

    fn is_estimated(&self, asked: &Asked) -> bool {
        self.read_as_codes(asked).is_some_and(|(_, layers)| {
            layers.codes[self.layer].is_estimated() && !layers.has_sinks(asked.page)
        })
    }

    fn estimate_rows(
        &self,
        isa: Isa,
        asked: Asked,
        queries: &mut QueryRows,
        shifts: &[f32],
        weights: &mut [f32],
    ) {
        let (page, layers) = self.read_as_codes(&asked).expect("a page that is estimated is read as codes");
        let codes = self.codes(page, asked.kv_head);
        layers.codes[self.layer].estimate_rows(isa, self.place(&asked), codes, queries, shifts, weights);
    }

    fn attend_rows(
        &self,
        isa: Isa,
        asked: Asked,
        queries: &mut QueryRows,
        rows: &[u16],
        states: RowStates<'_>,
    ) -> usize {
        let Some((page, layers)) = self.read_as_codes(&asked) else { return PAGE_TOKENS };
        let (codes, sinks) = self.pool().parts(self.layer, asked.page, page.head(self.layer, asked.kv_head));
        let stored = Stored { bytes: codes, sinks, next: self.next(&asked, true) };
        if layers.codes[self.layer].attend_rows(isa, self.place(&asked), stored, queries, rows, states) {
            sinks.map_or(0, |sinks| sinks.n_tokens)
        } else {
            PAGE_TOKENS
        }
    }

    fn note_pages(&self, n_read: u64, n_seen: u64) {
        self.sequence.choices.add(n_read, n_seen);
    }

    fn load_tile(&self, isa: Isa, asked: Asked, tile: &mut Tile) {
        let n_tokens = asked.tokens.end;
        match self.seen(&asked) {
            Seen::Exact(page) => {
                let head = self.pool().exact_head(page.head(self.layer, asked.kv_head));
                let next = self.next(&asked, false).map(|bytes| self.pool().exact_head(bytes));
                head.load_tile(isa, n_tokens, next, tile);
            }
            Seen::Packed(_) | Seen::ExactValues { .. } => UNPACKED.with_borrow_mut(|unpacked| {
                self.load(isa, &asked, unpacked);
                unpacked.head().load_tile(isa, n_tokens, None, tile);
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
