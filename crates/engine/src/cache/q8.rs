//! `q8`: eight bits with a scale for every 32 channels of a token, as llama.cpp's `q8_0`. 8.5 bits a value. See
//! [`Q8Code`] for the layout and the arithmetic.

use std::sync::Arc;

use lossy_kernels::Isa;
use lossy_kernels::attention::{ExactHead, Partial, TokenQueries};
use lossy_kernels::kv::{Q8Code, RangeF32, Sinks};

use super::code::{PageCode, Place};
use super::scheme::{Context, Defaults, Family, KvSchemeError, KvStorage};

/// `q8`, `q8_0`.
pub(super) const FAMILY: Family = Family {
    names: "q8",
    parse: |name, _| match name {
        "q8" | "q8_0" => Some(Ok(Arc::new(Q8))),
        _ => None,
    },
};

/// Channels that share a scale.
const BLOCK: usize = 32;

#[derive(Debug)]
struct Q8;

impl KvStorage for Q8 {
    fn name(&self) -> String {
        "q8".to_owned()
    }

    fn defaults(&self) -> Defaults {
        Defaults { sinks: 0, residual: 0 }
    }

    fn codes(&self, context: &Context<'_>) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        let head_dim = context.geometry.head_dim;
        if !head_dim.is_multiple_of(BLOCK) {
            return Err(KvSchemeError::Model {
                name: self.name(),
                reason: format!(
                    "its heads have {head_dim} channels, which is not a multiple of {BLOCK}; use f16"
                ),
            });
        }
        let code: Arc<dyn PageCode> = Arc::new(Q8Page(Q8Code::new(head_dim)));
        Ok(vec![code; context.geometry.n_layers])
    }
}

#[derive(Debug)]
struct Q8Page(Q8Code);

impl PageCode for Q8Page {
    fn bytes_per_head(&self) -> usize {
        self.0.bytes()
    }

    fn pack(&self, _isa: Isa, _place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]) {
        let mut range = RangeF32::default();
        range.load(exact);
        self.0.pack(&range, packed);
    }

    fn unpack(&self, _isa: Isa, _place: Place<'_>, packed: &[u8], out: &mut RangeF32) {
        self.0.unpack(packed, out);
    }

    fn attend_token(
        &self,
        isa: Isa,
        place: Place<'_>,
        packed: &[u8],
        sinks: Option<Sinks<'_>>,
        next: Option<&[u8]>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) -> bool {
        if place.moved.is_some() {
            // The kernel meets all tokens with one query.
            return false;
        }
        self.0.attend_token(isa, packed, sinks, next, token, partial);
        true
    }
}
