//! Codes of keys as they come, rotated for their positions: what such codes have in common.

use std::fmt::Debug;

use super::head::{RangeF32, Sinks, with_sinks};
use crate::Isa;
use crate::attention::{Partial, TokenQueries};

/// The code of one KV head whose keys are stored as they come.
pub trait RangeCode: Debug + Send + Sync {
    /// Channels.
    fn head_dim(&self) -> usize;

    /// Bytes of a range: a multiple of 64.
    fn bytes(&self) -> usize;

    /// Packs the keys and values of a range.
    ///
    /// # Panics
    /// `packed` does not have [`bytes`](RangeCode::bytes) bytes, or `exact` another number of channels.
    fn pack(&self, exact: &RangeF32, packed: &mut [u8]);

    /// The range as float32.
    ///
    /// # Panics
    /// As [`pack`](RangeCode::pack).
    fn unpack(&self, isa: Isa, packed: &[u8], out: &mut RangeF32);

    /// Partial softmax of one token's query heads over a packed range from token `first_token` on.
    fn attend_codes(
        &self,
        isa: Isa,
        packed: &[u8],
        first_token: usize,
        next: Option<&[u8]>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    );

    /// Partial softmax of one token's query heads over a packed range; see
    /// [`PackedHead::attend_token`](super::PackedHead::attend_token).
    ///
    /// # Panics
    /// As there.
    fn attend_token(
        &self,
        isa: Isa,
        packed: &[u8],
        sinks: Option<Sinks<'_>>,
        next: Option<&[u8]>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        assert_eq!(token.head_dim(), self.head_dim(), "head_dim of queries and keys");
        assert_eq!(packed.len(), self.bytes(), "bytes of a packed head");
        with_sinks(isa, sinks, token, partial, |first_token, token, partial| {
            self.attend_codes(isa, packed, first_token, next, token, partial);
        });
    }
}
