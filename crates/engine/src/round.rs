//! One forward pass for several generations, and passes of others between its layers.

use std::sync::Arc;
use std::time::Instant;

use lossy_kernels::Compute;

use crate::forward::{Forward, ForwardItem};
use crate::hooks::Hooks;
use crate::model::Model;
use crate::sequence::EngineId;
use crate::speculation::PassCosts;
use crate::{BatchItem, Generation, LogitRows, RequestError, Step};

/// The steps that each generation of a batch has made: none while it reads, one, or several where the next tokens were guessed
/// right. Why it could not choose a token comes last.
pub type Steps = Vec<Vec<Result<Step, RequestError>>>;

/// Weights, and buffers to compute in.
pub(crate) struct Runner<'a> {
    pub(crate) id: &'a EngineId,
    pub(crate) cx: &'a Compute,
    pub(crate) model: &'a Model,
    pub(crate) forward: &'a mut Forward,
    /// what passes take; `None`: nothing is guessed
    pub(crate) costs: Option<&'a mut PassCosts>,
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
        let is_decoding = batch.iter().all(|(generation, _)| !generation.is_reading());
        if let Some(costs) = self.costs.as_deref_mut().filter(|_| is_decoding) {
            draft(costs, batch);
        }
        let n_rows: usize = batch.iter().map(|(generation, most)| generation.n_rows(*most)).sum();
        let began = Instant::now();
        let mut rows = self.pass(batch, hooks);
        if rows.is_err() && batch.iter().any(|(generation, _)| generation.has_draft()) {
            // A guess is to blame for no error.
            batch.iter_mut().for_each(|(generation, _)| generation.drop_draft());
            rows = self.pass(batch, Hooks::default());
        } else if let Some(costs) = self.costs.as_deref_mut().filter(|_| is_decoding && rows.is_ok()) {
            costs.observe(n_rows, began.elapsed().as_secs_f64());
        }
        let rows = rows?;
        let accept = |(index, (generation, _)): (usize, &mut (&mut Generation, usize))| {
            generation.accept_rows(rows.of_item(index))
        };
        let steps = batch.iter_mut().enumerate().map(accept).collect();
        self.forward.take_back(rows.into_values());
        Ok(steps)
    }

    /// Runs what each generation wants.
    fn pass(
        &mut self,
        batch: &mut [(&mut Generation, usize)],
        hooks: Hooks<'_, '_>,
    ) -> Result<LogitRows, RequestError> {
        let mut items: Vec<BatchItem<'_>> =
            batch.iter_mut().map(|(generation, most)| generation.item(*most)).collect();
        self.forward(&mut items, hooks)
    }
}

/// Gives each generation the draft that it runs with its last token.
fn draft(costs: &mut PassCosts, batch: &mut [(&mut Generation, usize)]) {
    let chances: Vec<Vec<f64>> =
        batch.iter_mut().map(|(generation, most)| generation.forecast(*most)).collect();
    let n_rows: usize = batch.iter().map(|(generation, most)| generation.n_rows(*most)).sum();
    let n_open: usize = chances.iter().map(Vec::len).sum();
    let shares = costs.choose(n_rows - n_open, &chances);
    for (((generation, _), chances), n) in batch.iter_mut().zip(&chances).zip(shares) {
        if !chances.is_empty() {
            generation.cut_draft(n);
        }
    }
}
