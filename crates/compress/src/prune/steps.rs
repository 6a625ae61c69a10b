//! Pruning as a whole: layers one after another, or channels, each step measured, and no step that loses more than is allowed.

use std::ops::ControlFlow;

use lossy_kernels::Compute;
use lossy_quant::DType;

use super::depth::cheapest_layer;
use super::width::{WidthOptions, narrow, width};
use super::{Narrowed, PruneError, Pruned};
use crate::calibration::Split;
use crate::lessons::Lessons;
use crate::weights::WeightSource;

/// Windows that layers are chosen on: the middles of eight parts of the text, neighbours far apart, so that the first few are of
/// several kinds.
const CHOSEN_ON: [usize; 8] = [0, 4, 2, 6, 1, 5, 3, 7];

/// The text of pruning, and what the model as it was says of it.
pub struct Texts<'a> {
    /// what layers are chosen on
    choosing: Lessons<'a>,
    /// what chooses nothing, and decides
    held_out: Lessons<'a>,
    /// what statistics of MLPs come from
    open: Vec<&'a [u32]>,
}

impl<'a> Texts<'a> {
    /// Of a text, and the model that is to be met.
    pub fn new(model: &'a dyn WeightSource, split: &Split<'a>) -> Texts<'a> {
        let (open, n) = (&split.open, split.open.len());
        let mut at: Vec<usize> = CHOSEN_ON.map(|part| (2 * part + 1) * n / (2 * CHOSEN_ON.len())).to_vec();
        // Of a short text two parts may have one middle.
        let mut seen = Vec::new();
        at.retain(|window| {
            !seen.contains(window) && {
                seen.push(*window);
                true
            }
        });
        let choosing: Vec<&[u32]> = at.iter().map(|&window| open[window]).collect();
        Texts {
            choosing: Lessons::new(model, &choosing),
            held_out: Lessons::new(model, &split.held_out),
            open: open.clone(),
        }
    }

    /// Tokens that layers are chosen on, and tokens that choose nothing.
    pub fn n_tokens(&self) -> (usize, usize) {
        (self.choosing.n_tokens(), self.held_out.n_tokens())
    }

    /// The divergence of a model on the text that chooses nothing, nats a token.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn divergence(&mut self, cx: &Compute, model: &Pruned<'_>) -> Result<f64, PruneError> {
        Ok(self.held_out.divergence(cx, model)?)
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// so many parts of so many of the present step are done
    Progress(usize, usize),
    /// a layer was left out
    Removed(Removal),
    /// a layer was the cheapest, but too dear: it stays, and this is the end
    TooDear(Removal),
    /// MLPs of this width lose so much
    Width {
        /// channels
        width: usize,
        /// mean divergence on the text that chooses nothing, nats a token
        kl: f64,
    },
}

/// One layer, and what the model without it, and without those before, has lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removal {
    /// the source's number of the layer
    pub layer: usize,
    /// mean divergence on the text that it was chosen on, nats a token
    pub chosen: f64,
    /// on the text that chooses nothing
    pub held_out: f64,
}

/// Is told what happens, and may stop.
pub type See<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// Leaves out the `n` layers that cost least, one after another, and fewer if the next one would bring the divergence above
/// `max_kl`.
///
/// # Errors
/// There are too few layers, not one can go within `max_kl`, or the caller stops.
pub fn remove_layers(
    cx: &Compute,
    model: &mut Pruned<'_>,
    n: usize,
    max_kl: Option<f64>,
    texts: &mut Texts<'_>,
    see: &mut See<'_>,
) -> Result<Vec<Removal>, PruneError> {
    let n_layers = model.layers().len();
    if n >= n_layers {
        return Err(PruneError::TooMany { n, n_layers });
    }
    let mut removed = Vec::new();
    while removed.len() < n {
        let mut progress = |done, all| see(Event::Progress(done, all));
        let found = cheapest_layer(cx, model, &mut texts.choosing, &mut progress)?;
        let mut next = model.clone();
        next.remove(&[found.layer])?;
        let held_out = texts.divergence(cx, &next)?;
        let removal = Removal { layer: found.layer, chosen: found.kl, held_out };
        if let Some(max) = max_kl.filter(|max| held_out > *max) {
            if removed.is_empty() {
                let what = format!("without layer {}, which costs least,", found.layer);
                return Err(PruneError::Loss { what, kl: held_out, max });
            }
            let _ = see(Event::TooDear(removal));
            break;
        }
        *model = next;
        removed.push(removal);
        if see(Event::Removed(removal)).is_break() {
            return Err(PruneError::Stopped);
        }
    }
    Ok(removed)
}

/// How MLPs are to lose channels.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// of the channels, 0 to 1
    pub share: f64,
    /// another type for the down matrices than their own
    pub dtype: Option<DType>,
    /// threads
    pub n_threads: usize,
}

/// Leaves out a share of the channels of all MLPs, and less of it if that would bring the divergence above `max_kl`: then the
/// narrowest width within it is searched for, by halving.
///
/// # Errors
/// Blocks do not allow the width, none is within `max_kl`, or the caller stops.
pub fn narrow_mlps(
    cx: &Compute,
    model: &mut Pruned<'_>,
    how: Share,
    max_kl: Option<f64>,
    texts: &mut Texts<'_>,
    see: &mut See<'_>,
) -> Result<Option<f64>, PruneError> {
    let (wanted, multiple) = width(model, how.share, how.dtype)?;
    let n_ff = model.info().n_ff;
    if wanted == n_ff {
        return Ok(None);
    }
    let mut tried = |model: &Pruned<'_>, width: usize, texts: &mut Texts<'_>| {
        let options = WidthOptions { width, dtype: how.dtype, n_threads: how.n_threads };
        let mut progress = |done, all| see(Event::Progress(done, all));
        let mlps = narrow(model, &texts.open, options, &mut progress)?;
        let mut next = model.clone();
        next.narrow(mlps.clone());
        let kl = texts.divergence(cx, &next)?;
        if see(Event::Width { width, kl }).is_break() {
            return Err(PruneError::Stopped);
        }
        Ok::<(Vec<Narrowed>, f64), PruneError>((mlps, kl))
    };
    let (mlps, kl) = tried(model, wanted, texts)?;
    let Some(max) = max_kl.filter(|max| kl > *max) else {
        model.narrow(mlps);
        return Ok(Some(kl));
    };
    let (mut too_narrow, mut kl_there) = (wanted, kl);
    // The widths are multiples; the last one below all channels may be nearer to them.
    let (mut fits, mut best) = (n_ff.next_multiple_of(multiple), None);
    while fits - too_narrow > multiple {
        let middle = too_narrow + (fits - too_narrow) / multiple / 2 * multiple;
        let (mlps, kl) = tried(model, middle, texts)?;
        if kl > max {
            (too_narrow, kl_there) = (middle, kl);
        } else {
            (fits, best) = (middle, Some((mlps, kl)));
        }
    }
    match best {
        None => {
            Err(PruneError::Loss { what: format!("with MLPs of {too_narrow} channels"), kl: kl_there, max })
        }
        Some((mlps, kl)) => {
            model.narrow(mlps);
            Ok(Some(kl))
        }
    }
}
