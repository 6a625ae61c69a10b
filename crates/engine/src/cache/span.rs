//! The rows of a batch's sequences, and what those that are stored in one form have in common.

use std::ops::Range;

use lossy_kernels::Compute;
use lossy_kernels::page::Rows;

use super::padding::Padding;
use super::{KvGeometry, KvPool, KvSequence};

/// One sequence's rows in a batch.
#[derive(Debug)]
pub struct Span<'a> {
    /// the sequence
    pub cache: &'a mut KvSequence,
    /// rows of its new tokens
    pub rows: Range<usize>,
    /// whether each of them attends as a token that comes alone
    pub one_by_one: bool,
}

/// How a pool stores the heads of rows.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Form {
    pub padding: Padding,
    pub transforms_values: bool,
}

impl Form {
    pub(super) fn of(pool: &KvPool) -> Form {
        Form { padding: pool.padding(), transforms_values: pool.layout().transforms_values }
    }
}

/// The forms of a batch's sequences, each once.
pub(super) fn forms(spans: &[Span<'_>]) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    for form in spans.iter().map(|span| Form::of(span.cache.pool())) {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Rows of sequences that `is_one` of: neighbours together, so that a batch of many is one piece of work.
pub(super) fn rows_of(spans: &[Span<'_>], is_one: impl Fn(Form) -> bool) -> Vec<Range<usize>> {
    let is_one = |span: &Span<'_>| is_one(Form::of(span.cache.pool()));
    let groups = spans.chunk_by(|a, b| is_one(a) == is_one(b)).filter(|group| is_one(&group[0]));
    groups.map(|group| group[0].rows.start..group[group.len() - 1].rows.end).collect()
}

/// New rows as sequences of one form store them `[n_rows, n_kv_heads * stored channels]`; `None`: as they come.
pub(super) struct StoredRows {
    pub form: Form,
    pub keys: Option<Vec<f32>>,
    pub values: Option<Vec<f32>>,
}

impl StoredRows {
    pub(super) fn new(
        cx: &Compute,
        form: Form,
        spans: &[Span<'_>],
        geometry: &KvGeometry,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> StoredRows {
        let Form { padding, transforms_values } = form;
        let has_zeros = !padding.is_none();
        let n_heads = geometry.n_kv_heads;
        let keys = has_zeros.then(|| padding.padded_rows(keys, n_heads));
        let values = (has_zeros || transforms_values).then(|| {
            let mut values = padding.padded_rows(values, n_heads);
            if transforms_values {
                let width = n_heads * padding.stored_dim();
                for rows in rows_of(spans, |other| other == form) {
                    padding.transform_rows(cx, &mut values[rows.start * width..rows.end * width]);
                }
            }
            values
        });
        StoredRows { form, keys, values }
    }
}
