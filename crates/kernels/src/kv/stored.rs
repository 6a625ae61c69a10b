//! A head of a packed page, as attention over codes is given it.

use super::exact::ExactHead;
use crate::Isa;
use crate::page::{PAGE_TOKENS, Partial, QueryRows, RowStates, TokenQueries};

/// The bytes of a packed head that is attended to, and what else concerns them.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// codes of a whole page
    pub bytes: &'a [u8],
    /// first tokens that are read from here instead of the codes
    pub sinks: Option<Sinks<'a>>,
    /// the head that will be read after this one, which is fetched meanwhile
    pub next: Option<&'a [u8]>,
}

/// First tokens of a sequence that are kept as they are.
#[derive(Clone, Copy, Debug)]
pub struct Sinks<'a> {
    /// their keys and values, with room for a multiple of 32 tokens
    pub head: ExactHead<'a>,
    /// how many there are: at least 1
    pub n_tokens: usize,
}

impl Stored<'_> {
    /// The first token that is read from the codes.
    pub(super) fn first_token(&self) -> usize {
        self.sinks.map_or(0, |sinks| sinks.n_tokens)
    }

    /// That rows of `head_dim` channels can meet the `n_bytes` bytes of a head, and have states.
    ///
    /// # Panics
    /// They cannot.
    pub(super) fn assert_rows(
        &self,
        head_dim: usize,
        n_bytes: usize,
        queries: &QueryRows,
        states: &RowStates<'_>,
    ) {
        let n_rows = queries.n_rows();
        assert_eq!(queries.head_dim(), head_dim, "head_dim of queries and keys");
        assert_eq!((states.max.len(), states.sum.len()), (n_rows, n_rows), "states of rows");
        assert_eq!(states.out.len(), n_rows * head_dim, "outputs of rows");
        self.assert_bytes(n_bytes);
    }

    fn assert_bytes(&self, n_bytes: usize) {
        assert_eq!(self.bytes.len(), n_bytes, "bytes of a packed head");
        assert!(self.first_token() < PAGE_TOKENS, "{} sinks in a page", self.first_token());
    }

    /// Partial softmax over the codes, which `attend` computes, and over the sinks.
    ///
    /// # Panics
    /// There are not `n_bytes` bytes, or no fewer sinks than tokens.
    pub(super) fn attend(
        &self,
        isa: Isa,
        n_bytes: usize,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
        attend: impl FnOnce(&mut TokenQueries, &mut Partial<'_>),
    ) {
        self.assert_bytes(n_bytes);
        attend(token, partial);
        let Some(sinks) = self.sinks else { return };
        token.with_records(|token, records| {
            partial.merge_with(isa, records, |partial| {
                sinks.head.attend_token(isa, 0..sinks.n_tokens, token, None, partial);
            });
        });
    }
}
