//! Keys and values as they are, in f16 or f32.

use lossy_kernels::Isa;
use lossy_kernels::attention::{
    AppendError, ExactHead, ExactHeadMut, KvType, Partial, Rows, Tile, TokenQueries,
};

use super::PageScheme;

/// Elements of one type, in the layout of [`ExactHead`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    pub kv_type: KvType,
    pub head_dim: usize,
}

impl Exact {
    fn head<'a>(&self, bytes: &'a [u8]) -> ExactHead<'a> {
        ExactHead::new(self.kv_type, self.head_dim, bytes)
    }
}

impl PageScheme for Exact {
    fn name(&self) -> String {
        self.kv_type.name().to_owned()
    }

    fn bytes_per_head(&self, _layer: usize) -> usize {
        self.kv_type.bytes_per_range(self.head_dim)
    }

    fn append(
        &self,
        isa: Isa,
        _layer: usize,
        head: &mut [u8],
        at: usize,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<(), AppendError> {
        ExactHeadMut::new(self.kv_type, self.head_dim, head).append(isa, at, keys, values)
    }

    fn copy(&self, _layer: usize, source: &[u8], head: &mut [u8], n_tokens: usize) {
        ExactHeadMut::new(self.kv_type, self.head_dim, head).copy_from(self.head(source), n_tokens);
    }

    fn attend_token(
        &self,
        isa: Isa,
        _layer: usize,
        head: &[u8],
        next: Option<&[u8]>,
        n_tokens: usize,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        let next = next.map(|bytes| self.head(bytes));
        self.head(head).attend_token(isa, n_tokens, token, next, partial);
    }

    fn load_tile(&self, isa: Isa, _layer: usize, head: &[u8], n_tokens: usize, tile: &mut Tile) {
        self.head(head).load_tile(isa, n_tokens, tile);
    }
}
