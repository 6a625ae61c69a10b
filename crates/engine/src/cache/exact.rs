//! Keys and values as they are, in f16 or f32.

use std::sync::Arc;

use lossy_kernels::Isa;
use lossy_kernels::kv::{ExactHead, ExactHeadMut, HeadF32, KvType, Stored};
use lossy_kernels::page::{PAGE_TOKENS, Partial, TokenQueries};

use super::code::{PageCode, Place};
use super::family::{Context, Defaults, Family, KvSchemeError, KvStorage, Rung};
use super::layout::EXACT_CHANNELS;

/// `f16`, `f32`.
pub(super) const FAMILY: Family = Family {
    names: "f16, f32",
    ladder: &[Rung { name: "f16", bits: 16.0 }],
    parse: |name, _| match name {
        "f16" => Some(Ok(storage(KvType::F16))),
        "f32" => Some(Ok(storage(KvType::F32))),
        _ => None,
    },
};

pub(super) fn storage(kv_type: KvType) -> Arc<dyn KvStorage> {
    Arc::new(Exact(kv_type))
}

#[derive(Debug)]
struct Exact(KvType);

impl KvStorage for Exact {
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    fn defaults(&self) -> Defaults {
        Defaults { sinks: 0, residual: 0 }
    }

    fn exact(&self) -> Option<KvType> {
        Some(self.0)
    }

    fn channel_multiple(&self) -> usize {
        EXACT_CHANNELS
    }

    fn codes(
        &self,
        context: &Context<'_>,
        stored_dim: usize,
    ) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        Ok(vec![page_code(self.0, stored_dim); context.geometry.n_layers])
    }
}

/// Packed pages that are not: for layers that a scheme leaves exact.
pub(super) fn page_code(kv_type: KvType, head_dim: usize) -> Arc<dyn PageCode> {
    Arc::new(ExactPage { kv_type, head_dim })
}

/// Elements of one type, in the layout of [`ExactHead`].
#[derive(Clone, Copy, Debug)]
struct ExactPage {
    kv_type: KvType,
    head_dim: usize,
}

impl ExactPage {
    fn head<'a>(&self, bytes: &'a [u8]) -> ExactHead<'a> {
        ExactHead::new(self.kv_type, self.head_dim, bytes)
    }
}

impl PageCode for ExactPage {
    fn bytes_per_head(&self) -> usize {
        self.kv_type.bytes_per_head(self.head_dim)
    }

    fn pack(&self, _isa: Isa, _place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]) {
        ExactHeadMut::new(self.kv_type, self.head_dim, packed).copy_from(exact, PAGE_TOKENS);
    }

    fn unpack(&self, _isa: Isa, _place: Place<'_>, packed: &[u8], out: &mut HeadF32) {
        out.load(self.head(packed));
    }

    fn computes_alike(&self) -> bool {
        true
    }

    fn attend_token(
        &self,
        isa: Isa,
        place: Place<'_>,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) -> bool {
        let next = stored.next.map(|bytes| self.head(bytes));
        token.set_moved(isa, place.moved);
        self.head(stored.bytes).attend_token(isa, 0..PAGE_TOKENS, token, next, partial);
        true
    }
}
