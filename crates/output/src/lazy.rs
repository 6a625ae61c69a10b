//! Free text in which a marker begins a part that is constrained up to the end.

use std::sync::Arc;

use lossy_engine::{Mask, MaskError};

use crate::compiled::{Compiled, CompiledMask};
use crate::marker::{Marker, MarkerState, Step};
use crate::vocabulary::Vocabulary;

/// A marker, and what follows it.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) marker: Marker,
    pub(crate) then: Compiled,
}

/// Leaves the text alone until one of the markers is complete; from there on its grammar holds.
pub(crate) struct LazyMask {
    vocabulary: Vocabulary,
    triggers: Arc<[Trigger]>,
    state: State,
}

enum State {
    Free(Vec<MarkerState>),
    Begun(Box<CompiledMask>),
}

impl LazyMask {
    pub(crate) fn new(vocabulary: Vocabulary, triggers: Arc<[Trigger]>) -> LazyMask {
        let state = State::Free(vec![MarkerState::START; triggers.len()]);
        LazyMask { vocabulary, triggers, state }
    }
}

impl Mask for LazyMask {
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), MaskError> {
        match &mut self.state {
            State::Begun(mask) => mask.apply(logits),
            State::Free(states) => {
                let n_vocab = self.vocabulary.n_vocab().min(logits.len());
                logits[n_vocab..].fill(f32::NEG_INFINITY);
                for (trigger, &state) in self.triggers.iter().zip(states.iter()) {
                    trigger.marker.forbid_overrunning(state, logits);
                }
                Ok(())
            }
        }
    }

    fn accept(&mut self, id: u32) -> Result<(), MaskError> {
        let states = match &mut self.state {
            State::Begun(mask) => return mask.accept(id),
            State::Free(states) => states,
        };
        for (trigger, state) in self.triggers.iter().zip(states.iter_mut()) {
            match trigger.marker.accept(&self.vocabulary, *state, id) {
                Step::On(next) => *state = next,
                Step::Found { bytes_after: 0 } => {
                    self.state = State::Begun(Box::new(trigger.then.mask()));
                    return Ok(());
                }
                Step::Found { bytes_after } => {
                    return Err(MaskError(format!(
                        "token {id} goes on {bytes_after} bytes past the marker of a call"
                    )));
                }
            }
        }
        Ok(())
    }

    fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        match &mut self.state {
            State::Begun(mask) => mask.n_allowed(tokens),
            State::Free(_) => tokens.len(),
        }
    }
}
