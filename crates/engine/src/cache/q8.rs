//! `q8`: eight bits with a scale for every 32 channels of a token, as llama.cpp's `q8_0`. 8.5 bits a value. See
//! [`Q8Code`] for the layout and the arithmetic.

use std::sync::Arc;

use lossy_kernels::kv::Q8Code;

use super::code::{PageCode, RotatedPage};
use super::family::{Context, Defaults, Family, KvSchemeError, KvStorage, Rung};

/// `q8`, `q8_0`.
pub(super) const FAMILY: Family = Family {
    names: "q8",
    ladder: &[Rung { name: "q8", bits: 8.5 }],
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

    fn channel_multiple(&self) -> usize {
        BLOCK
    }

    fn codes(
        &self,
        context: &Context<'_>,
        stored_dim: usize,
    ) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        let code: Arc<dyn PageCode> = Arc::new(RotatedPage(Q8Code::new(stored_dim)));
        Ok(vec![code; context.geometry.n_layers])
    }
}
