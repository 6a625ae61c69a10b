//! One forward pass for several generations, and passes of others between its layers.

use std::sync::Arc;

use lossy_kernels::Compute;

use crate::forward::{Forward, ForwardItem};
use crate::hooks::Hooks;
use crate::model::Model;
use crate::sequence::EngineId;
use crate::{BatchItem, Generation, LogitRows, RequestError, Step};

/// The step that each generation of a batch has made, if it has; or why it could not choose a token.
pub type Steps = Vec<Result<Option<Step>, RequestError>>;

/// Weights, and buffers to compute in.
pub(crate) struct Runner<'a> {
    pub(crate) id: &'a EngineId,
    pub(crate) cx: &'a Compute,
    pub(crate) model: &'a Model,
    pub(crate) forward: &'a mut Forward,
}

/// Computes between the layers of a pass that is under way; see [`Engine::advance_beside`](crate::Engine::advance_beside).
pub struct Beside<'a>(pub(crate) Runner<'a>);

impl Beside<'_> {
    /// Runs a round of other generations than those of the pass.
    ///
    /// # Errors
    /// As [`Engine::advance`](crate::Engine::advance).
    pub fn advance(&mut self, batch: &mut [(&mut Generation, usize)]) -> Result<Steps, RequestError> {
        self.0.advance(batch, Hooks::default())
    }
}

impl Runner<'_> {
    pub(crate) fn forward(
        &mut self,
        batch: &mut [BatchItem<'_>],
        hooks: Hooks<'_, '_>,
    ) -> Result<LogitRows, RequestError> {
        for (index, item) in batch.iter().enumerate() {
            if !Arc::ptr_eq(&item.sequence.cache().engine, self.id) {
                return Err(RequestError::OtherEngine { item: index });
            }
            item.sequence.check(item.tokens)?;
        }
        let mut items: Vec<ForwardItem<'_>> = batch
            .iter_mut()
            .map(|item| ForwardItem {
                cache: &mut item.sequence.kv,
                tokens: item.tokens,
                logits: item.logits,
            })
            .collect();
        let values = self.forward.run(self.cx, self.model, &mut items, hooks)?;
        for item in batch.iter_mut() {
            item.sequence.push(item.tokens);
        }
        let counts = batch.iter().map(|item| item.logits.n_rows(item.tokens.len()));
        Ok(LogitRows::new(self.model.info.n_vocab, values, counts))
    }

    pub(crate) fn advance(
        &mut self,
        batch: &mut [(&mut Generation, usize)],
        hooks: Hooks<'_, '_>,
    ) -> Result<Steps, RequestError> {
        let mut items: Vec<BatchItem<'_>> =
            batch.iter_mut().map(|(generation, most)| generation.item(*most)).collect();
        let rows = self.forward(&mut items, hooks)?;
        let accept = |(index, (generation, _)): (usize, &mut (&mut Generation, usize))| {
            generation.accept(rows.of_item(index))
        };
        Ok(batch.iter_mut().enumerate().map(accept).collect())
    }
}
