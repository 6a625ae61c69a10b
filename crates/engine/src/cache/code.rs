//! The seam between pages and what their bytes mean.

use std::fmt::Debug;

use lossy_kernels::Isa;
use lossy_kernels::attention::{ExactHead, Partial, RANGE_TOKENS, TokenQueries};
use lossy_kernels::kv::{RangeF32, Sinks};

/// Which head, of which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// KV head
    pub kv_head: usize,
    /// page of the sequence
    pub page: usize,
}

/// How one layer's packed pages store keys and values. A packed page is always full.
///
/// Keys are rotated for their positions; values are transformed if [`KvScheme::transforms_values`] says so. `packed`
/// below is the bytes of one KV head, [`bytes_per_head`](PageCode::bytes_per_head) of them, aligned to 64.
///
/// [`KvScheme::transforms_values`]: super::KvScheme::transforms_values
pub trait PageCode: Debug + Send + Sync {
    /// Bytes of one head of a page: a multiple of 64.
    fn bytes_per_head(&self) -> usize;

    /// Bits of one key or value on average, scales and padding included.
    fn bits_per_value(&self, head_dim: usize) -> f64 {
        8.0 * self.bytes_per_head() as f64 / (2 * RANGE_TOKENS * head_dim) as f64
    }

    /// Packs a full page's head.
    fn pack(&self, isa: Isa, place: Place, exact: ExactHead<'_>, packed: &mut [u8]);

    /// What the codes stand for.
    fn unpack(&self, isa: Isa, place: Place, packed: &[u8], out: &mut RangeF32);

    /// The partial softmax of one token's query heads over the whole page, from the codes, but for sinks. `next` is the packed head that
    /// will be asked next, if any.
    ///
    /// Returns `false`, having done nothing, if this code has no such kernel; the page is unpacked then.
    #[allow(clippy::too_many_arguments, reason = "one question, asked in one place")]
    fn attend_token(
        &self,
        _isa: Isa,
        _place: Place,
        _packed: &[u8],
        _sinks: Option<Sinks<'_>>,
        _next: Option<&[u8]>,
        _token: &mut TokenQueries,
        _partial: &mut Partial<'_>,
    ) -> bool {
        false
    }
}
