//! Codes of keys as they come, rotated for their positions: what such codes have in common.

use std::fmt::Debug;

use super::head::HeadF32;
use super::stored::Stored;
use crate::Isa;
use crate::page::{Partial, TokenQueries};

/// The code of one KV head whose keys are stored as they come.
pub trait RotatedCode: Debug + Send + Sync {
    /// Channels.
    fn head_dim(&self) -> usize;

    /// Bytes of a page: a multiple of 64.
    fn bytes(&self) -> usize;

    /// Packs the keys and values of a page.
    ///
    /// # Panics
    /// `packed` does not have [`bytes`](RotatedCode::bytes) bytes, or `exact` another number of channels.
    fn pack(&self, exact: &HeadF32, packed: &mut [u8]);

    /// The page as float32.
    ///
    /// # Panics
    /// As [`pack`](RotatedCode::pack).
    fn unpack(&self, isa: Isa, packed: &[u8], out: &mut HeadF32);

    /// Partial softmax of one token's query heads over the codes, from `stored.first_token()` on.
    fn attend_codes(&self, isa: Isa, stored: Stored<'_>, token: &mut TokenQueries, partial: &mut Partial<'_>);

    /// Partial softmax of one token's query heads over a packed page and its sinks.
    ///
    /// # Panics
    /// `token` has another `head_dim`, `stored` another number of bytes, or there are no fewer sinks than tokens.
    fn attend_token(
        &self,
        isa: Isa,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        assert_eq!(token.head_dim(), self.head_dim(), "head_dim of queries and keys");
        stored.attend(isa, self.bytes(), token, partial, |token, partial| {
            self.attend_codes(isa, stored, token, partial);
        });
    }
}
