//! One layer of a batch: stores the new keys and values of all its sequences, and attends to all of theirs.

use std::ops::Range;
use std::sync::Arc;

use lossy_kernels::attention::{self, AppendError, Partial, RangeSource, Request, Rows, Tile, TokenQueries};
use lossy_kernels::{Compute, Isa};

use super::{CacheError, KvPool, KvSequence, PAGE_TOKENS, PageScheme};

/// From this many new tokens on, threads share the work of storing them.
const PARALLEL_TOKENS: usize = 16;

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
    head: &'a mut [u8],
    kv_head: usize,
    /// position of the first token
    position: usize,
    /// rows of the tokens
    rows: Range<usize>,
    outcome: Result<(), AppendError>,
}

/// Stores the rotated keys and the values `[n_rows, n_kv_heads * head_dim]` of the new tokens of one layer. They become
/// part of the sequences with [`KvSequence::advance`]; until then storing them again replaces them.
///
/// # Errors
/// [`CacheError::Unstorable`], the first one by sequence and position. The sequences have not changed then.
///
/// # Panics
/// The tokens were not reserved, or the sequences are of different pools.
pub fn append_layer(
    cx: &Compute,
    layer: usize,
    spans: &mut [Span<'_>],
    keys: Rows<'_>,
    values: Rows<'_>,
) -> Result<(), CacheError> {
    let Some(pool) = common_pool(spans) else { return Ok(()) };
    let mut pieces = Vec::new();
    for span in spans.iter_mut() {
        let (start, end) = (span.cache.len(), span.cache.len() + span.rows.len());
        for (first, page) in span.cache.pages_mut(span.rows.len()) {
            let position = first.max(start);
            let row = span.rows.start + position - start;
            let rows = row..row + (first + PAGE_TOKENS).min(end) - position;
            pieces.extend(page.heads_mut(layer).enumerate().map(|(kv_head, head)| Piece {
                head,
                kv_head,
                position,
                rows: rows.clone(),
                outcome: Ok(()),
            }));
        }
    }
    let store = |piece: &mut Piece<'_>| {
        let (at, column) = (piece.position % PAGE_TOKENS, piece.kv_head * pool.geometry().head_dim);
        let keys = keys.skip(column).select(piece.rows.clone());
        let values = values.skip(column).select(piece.rows.clone());
        piece.outcome = pool.scheme().append(cx.isa, layer, piece.head, at, keys, values);
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
            kv_head: piece.kv_head,
            position: piece.position + error.row,
            part: error.part,
            value: error.value,
            scheme: pool.scheme().name(),
        })
    })
}

/// Causal attention of the rotated queries `[n_rows, n_heads * head_dim]` of one layer over the sequences and their new
/// tokens, scaled by 1/√head_dim: `out` is `[n_rows, n_heads * head_dim]`.
///
/// # Panics
/// The tokens were not reserved, the sequences are of different pools, or rows are missing.
pub fn attend_layer(cx: &Compute, layer: usize, spans: &[Span<'_>], queries: Rows<'_>, out: &mut [f32]) {
    let Some(pool) = common_pool(spans) else { return };
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
    let shape = pool.geometry().heads();
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    attention::attend(cx, &shape, scale, queries, &requests, out);
}

/// The pool of all sequences of a batch; `None` for no sequences.
fn common_pool(spans: &[Span<'_>]) -> Option<Arc<KvPool>> {
    let pool = spans.first()?.cache.pool();
    assert!(spans.iter().all(|span| Arc::ptr_eq(span.cache.pool(), pool)), "sequences of one pool");
    Some(pool.clone())
}

/// One layer of a sequence, as attention asks for it: a range is a page.
struct LayerOfSequence<'a> {
    sequence: &'a KvSequence,
    layer: usize,
}

impl LayerOfSequence<'_> {
    fn scheme(&self) -> &dyn PageScheme {
        self.sequence.pool().scheme()
    }

    fn head(&self, kv_head: usize, range: usize) -> Option<&[u8]> {
        self.sequence.page(range).map(|page| page.head(self.layer, kv_head))
    }

    fn needed_head(&self, kv_head: usize, range: usize) -> &[u8] {
        self.head(kv_head, range).expect("attention asks for tokens of the sequence")
    }
}

impl RangeSource for LayerOfSequence<'_> {
    fn attend_token(
        &self,
        isa: Isa,
        kv_head: usize,
        range: usize,
        n_tokens: usize,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        let head = self.needed_head(kv_head, range);
        let next = self.head(kv_head, range + 1);
        self.scheme().attend_token(isa, self.layer, head, next, n_tokens, token, partial);
    }

    fn load_tile(&self, isa: Isa, kv_head: usize, range: usize, n_tokens: usize, tile: &mut Tile) {
        let head = self.needed_head(kv_head, range);
        self.scheme().load_tile(isa, self.layer, head, n_tokens, tile);
    }
}

const _: () = assert!(PAGE_TOKENS == attention::RANGE_TOKENS);
