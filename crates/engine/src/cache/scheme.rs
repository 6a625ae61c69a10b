//! The seam between pages and what their bytes mean.

use std::fmt::Debug;

use lossy_kernels::Isa;
use lossy_kernels::attention::{AppendError, KvType, Partial, Rows, Tile, TokenQueries};

use super::exact::Exact;

/// How a page stores keys and values: everything about the bytes of one (page, layer, KV head).
///
/// `head` below is always such a stretch of bytes, `bytes_per_head(layer)` long and aligned to 64. Fresh ones are zero or
/// hold what an earlier sequence left there.
pub trait PageScheme: Debug + Send + Sync {
    /// As it is spelled in flags and reports.
    fn name(&self) -> String;

    /// Bytes of one (page, layer, KV head): a multiple of 64.
    fn bytes_per_head(&self, layer: usize) -> usize;

    /// Stores all rows of `keys` and `values` (`head_dim` columns each) as tokens `at..` of the page.
    ///
    /// # Errors
    /// A value cannot be stored. What the page held before `at` is unharmed.
    fn append(
        &self,
        isa: Isa,
        layer: usize,
        head: &mut [u8],
        at: usize,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<(), AppendError>;

    /// Makes the first `n_tokens` of `head` equal to those of `source`.
    fn copy(&self, layer: usize, source: &[u8], head: &mut [u8], n_tokens: usize);

    /// The partial softmax of one token's query heads over the first `n_tokens` (at least 1). `next` is the head that
    /// will be asked next, whose bytes may be fetched meanwhile.
    #[allow(clippy::too_many_arguments, reason = "one question, asked in one place")]
    fn attend_token(
        &self,
        isa: Isa,
        layer: usize,
        head: &[u8],
        next: Option<&[u8]>,
        n_tokens: usize,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    );

    /// The first `n_tokens` (at least 1) as float32.
    fn load_tile(&self, isa: Isa, layer: usize, head: &[u8], n_tokens: usize, tile: &mut Tile);
}

/// The scheme that stores elements of type `kv_type` as they are.
pub(super) fn exact(kv_type: KvType, head_dim: usize) -> Box<dyn PageScheme> {
    Box::new(Exact { kv_type, head_dim })
}
