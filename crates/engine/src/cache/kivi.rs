//! `kivi2`, `kivi4`: KIVI (arXiv 2402.02750, algorithm 1), the reference that others know.
//!
//! Keys are quantized per channel over `group_size` consecutive tokens, values per token over `group_size` consecutive
//! channels; see [`GroupedCode`] for the arithmetic and the layout. A group is 32 to 128 tokens of one page, so never of
//! two sequences, and never fewer tokens than it is billed for.
//!
//! What stays exact is the paper's too, for `residual_length` R: (length mod R) keys, which are quantized together when R of
//! them are there, and the last R values, of which one is quantized with each token. R is a multiple of 128, as pages are.
//! `residual=N` keeps the last N tokens at least instead, by whole pages of keys and values, as other schemes do.
//!
//! Heads whose channels are no whole number of groups of 32 are stored with zeros behind them, which a group's minimum and
//! maximum see; a larger `group_size` must divide them.
//!
//! One thing is a flag: the paper's prompt attends to exact keys and values, whatever its length, and is quantized when it
//! ends. That is `--exact-prefill`; without it a prompt reads what the answer will read.

use std::sync::Arc;

use lossy_kernels::kv::GroupedCode;

use super::PAGE_TOKENS;
use super::code::{PageCode, RotatedPage};
use super::family::{Context, Defaults, Family, KvSchemeError, KvStorage, Parsed};
use super::layout::Window;
use crate::parameters::{ParameterError, Parameters, Spelling};

/// `kivi2`, `kivi4`.
///
/// None is on the ladder: the calibrated schemes lose less in fewer bits.
pub(super) const FAMILY: Family = Family { names: "kivi2, kivi4", ladder: &[], parse };

const GROUP_SIZE: usize = 32;
const GROUP_SIZES: [usize; 3] = [32, 64, 128];
const RESIDUAL_LENGTH: usize = 128;

/// What stays exact.
#[derive(Clone, Copy, Debug)]
enum Residual {
    /// the paper's
    Published(usize),
    /// tokens by whole pages
    Pages(usize),
}

fn parse(name: &str, parameters: &mut Parameters<'_>) -> Option<Parsed> {
    let bits = match name {
        "kivi2" => 2,
        "kivi4" => 4,
        _ => return None,
    };
    let mut storage = || {
        let group_size = parameters.number("group_size")?.unwrap_or(GROUP_SIZE);
        if !GROUP_SIZES.contains(&group_size) {
            return Err(ParameterError::value("group_size", group_size, "32, 64 or 128"));
        }
        let residual = residual(parameters)?;
        Ok(Arc::new(Kivi { bits, group_size, residual }) as Arc<dyn KvStorage>)
    };
    Some(storage())
}

fn residual(parameters: &mut Parameters<'_>) -> Result<Residual, ParameterError> {
    let published = parameters.number("residual_length")?;
    let pages = parameters.number("residual")?;
    match (published.unwrap_or(RESIDUAL_LENGTH), pages) {
        (_, Some(n)) if published.is_some() => {
            Err(ParameterError::value("residual", n, "residual_length or residual, not both"))
        }
        (_, Some(n)) => Ok(Residual::Pages(n)),
        (n, None) if n.is_multiple_of(PAGE_TOKENS) => Ok(Residual::Published(n)),
        (n, None) => Err(ParameterError::value("residual_length", n, format!("a multiple of {PAGE_TOKENS}"))),
    }
}

#[derive(Debug)]
struct Kivi {
    bits: u8,
    group_size: usize,
    residual: Residual,
}

impl KvStorage for Kivi {
    fn name(&self) -> String {
        let (published, pages) = match self.residual {
            Residual::Published(n) => (Some(n).filter(|n| *n != RESIDUAL_LENGTH), None),
            Residual::Pages(n) => (None, Some(n)),
        };
        Spelling::new(format!("kivi{}", self.bits))
            .with("group_size", Some(self.group_size).filter(|n| *n != GROUP_SIZE))
            .with("residual_length", published)
            .with("residual", pages)
            .end()
    }

    fn defaults(&self) -> Defaults {
        let (Residual::Published(residual) | Residual::Pages(residual)) = self.residual;
        Defaults { sinks: 0, residual }
    }

    fn window(&self, residual: usize) -> Window {
        let n_pages = residual.div_ceil(PAGE_TOKENS);
        match self.residual {
            Residual::Published(_) => Window::of_grouped_keys(n_pages),
            Residual::Pages(_) => Window::pages(n_pages),
        }
    }

    fn channel_multiple(&self) -> usize {
        self.group_size
    }

    fn codes(
        &self,
        context: &Context<'_>,
        stored_dim: usize,
    ) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError> {
        let head_dim = context.geometry.head_dim;
        // A larger group would be mostly zeros, and what is said to be a group of the paper none.
        if self.group_size > GROUP_SIZE && !head_dim.is_multiple_of(self.group_size) {
            let reason = format!(
                "its heads have {head_dim} channels, which are no whole number of groups of {}; set group_size={}",
                self.group_size,
                if head_dim.is_multiple_of(64) { 64 } else { GROUP_SIZE }
            );
            return Err(KvSchemeError::Model { name: self.name(), reason });
        }
        let code: Arc<dyn PageCode> =
            Arc::new(RotatedPage(GroupedCode::new(stored_dim, self.bits, self.group_size)));
        Ok(vec![code; context.geometry.n_layers])
    }
}

#[cfg(test)]
mod tests;
