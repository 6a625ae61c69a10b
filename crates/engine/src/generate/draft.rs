//! Drafts of a generation: which tokens are run with the last one, and what becomes of them.

use crate::cache::PAGE_TOKENS;
use crate::speculation::Speculation;
use crate::{Generation, RequestError, Step};

impl Generation {
    /// Drafts what comes after the last token, for a pass of at most `max` tokens. Returns for each token of the draft the
    /// probability that it and all before it are right, to [cut](Generation::cut_draft) it to what is worth it; nothing if
    /// there is no draft, or if all of it is to run.
    pub(crate) fn forecast(&mut self, max: usize) -> Vec<f64> {
        self.drop_draft();
        let most = self.most_drafted().min(max.saturating_sub(1));
        if most == 0 {
            return Vec::new();
        }
        self.drafter.follow(&self.tokens, self.n_prompt);
        let (draft, chances) = self.drafter.draft(&self.tokens, most);
        if draft.is_empty() {
            return Vec::new();
        }
        self.pass.extend(self.tokens.last());
        self.pass.extend(draft);
        match self.options.speculation {
            Speculation::Fixed(_) => {
                self.cut_draft(most);
                Vec::new()
            }
            _ => chances,
        }
    }

    /// The most tokens that can be drafted after the last one; 0 while tokens are read, and after the end.
    ///
    /// A draft stays in the page of the last token and does not fill it, so that forgetting it changes nothing; and nothing
    /// is drafted beyond the end of the answer or of the context.
    pub fn most_drafted(&self) -> usize {
        let len = self.sequence.len();
        if self.is_done || self.n_generated == 0 || self.is_reading() {
            return 0;
        }
        let of_page = (PAGE_TOKENS - len % PAGE_TOKENS).saturating_sub(2);
        let of_context = self.sequence.room().saturating_sub(1);
        let of_answer =
            self.options.max_tokens.map_or(usize::MAX, |most| most.saturating_sub(self.n_generated + 1));
        self.options.speculation.most().min(of_page).min(of_context).min(of_answer)
    }

    /// Keeps the first `n` tokens of the draft, as far as the mask may allow them.
    pub(crate) fn cut_draft(&mut self, n: usize) {
        self.pass.truncate(n + 1);
        if let (Some(mask), Some((_, draft))) = (&mut self.mask, self.pass.split_first())
            && !draft.is_empty()
        {
            let n_allowed = mask.n_allowed(draft);
            self.pass.truncate(n_allowed + 1);
        }
        if self.pass.len() < 2 {
            self.drop_draft();
        }
    }

    /// Runs no draft after all.
    pub(crate) fn drop_draft(&mut self) {
        self.pass.clear();
    }

    /// Tokens of the next pass, of which those that were drafted count beyond `max`.
    pub(crate) fn n_rows(&self, max: usize) -> usize {
        if self.has_draft() { self.pass.len() } else { self.wanted(max).len() }
    }

    /// Whether the next pass runs a draft.
    pub(crate) fn has_draft(&self) -> bool {
        !self.pass.is_empty()
    }

    /// Tokens that were drafted and run.
    pub fn n_drafted(&self) -> usize {
        self.n_drafted
    }

    /// Those of them that were right.
    pub fn n_accepted(&self) -> usize {
        self.n_accepted
    }

    /// Takes the logits of everything that was run, `[n, n_vocab]`: chooses the next token, and goes on as long as that was
    /// drafted. The sequence forgets the others. An error comes last.
    pub(crate) fn accept_rows(&mut self, logits: &[f32]) -> Vec<Result<Step, RequestError>> {
        if self.pass.is_empty() {
            return self.accept(logits).transpose().into_iter().collect();
        }
        let pass = std::mem::take(&mut self.pass);
        let n_before = self.sequence.len() - pass.len();
        let mut steps = Vec::new();
        for (row, logits) in logits.chunks_exact(logits.len() / pass.len()).enumerate() {
            let step = self.choose(logits);
            let id = step.as_ref().ok().map(|step| step.sampled.id);
            steps.push(step);
            if self.is_done || pass.get(row + 1).copied() != id {
                break;
            }
        }
        self.n_drafted += pass.len() - 1;
        self.n_accepted += steps.len() - 1;
        self.sequence.truncate(n_before + steps.len());
        self.pass = pass;
        self.drop_draft();
        steps
    }
}
