//! A source without some of its layers and channels, measured without a file.

use lossy_engine::{ModelInfo, ModelSource};
use lossy_quant::DType;

use super::PruneError;
use crate::block::Projection;
use crate::weights::{WeightError, WeightSource};

/// What stays of one layer's MLP.
#[derive(Clone, Debug, PartialEq)]
pub struct Narrowed {
    /// channels that stay, rising
    pub keep: Vec<usize>,
    /// the type of the down matrix
    pub dtype: DType,
    /// the down matrix `[n_embd, keep.len()]`, refitted and encoded
    pub down: Vec<u8>,
}

/// A model some of whose layers and channels are left out. Layers are counted anew, from 0.
#[derive(Clone)]
pub struct Pruned<'a> {
    source: &'a ModelSource,
    info: ModelInfo,
    /// the source's number of each layer that stays
    layers: Vec<usize>,
    /// of each layer that stays, if MLPs are narrower
    mlps: Option<Vec<Narrowed>>,
}

impl<'a> Pruned<'a> {
    /// Nothing is left out yet.
    pub fn new(source: &'a ModelSource) -> Pruned<'a> {
        let info = source.info().clone();
        Pruned { source, layers: (0..info.n_layers).collect(), info, mlps: None }
    }

    /// The model that it is made of.
    pub fn source(&self) -> &'a ModelSource {
        self.source
    }

    /// The source's number of each layer that stays.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// What stays of each layer's MLP, if something is left out there.
    pub fn mlps(&self) -> Option<&[Narrowed]> {
        self.mlps.as_deref()
    }

    /// Leaves layers out, by the source's numbers.
    ///
    /// # Errors
    /// One is not there or named twice, or none would be left.
    pub fn remove(&mut self, layers: &[usize]) -> Result<(), PruneError> {
        let n_layers = self.source.info().n_layers;
        let mut kept = self.layers.clone();
        for (at, &layer) in layers.iter().enumerate() {
            if layer >= n_layers {
                return Err(PruneError::NoSuchLayer { layer, n_layers });
            }
            if layers[..at].contains(&layer) || !kept.contains(&layer) {
                return Err(PruneError::Twice { layer });
            }
            kept.retain(|&other| other != layer);
        }
        if kept.is_empty() {
            return Err(PruneError::TooMany { n: n_layers, n_layers });
        }
        if let Some(mlps) = &mut self.mlps {
            let stays = self.layers.iter().map(|layer| kept.contains(layer)).collect::<Vec<_>>();
            let mut stays = stays.into_iter();
            mlps.retain(|_| stays.next().unwrap_or(false));
        }
        self.info.n_layers = kept.len();
        self.layers = kept;
        Ok(())
    }

    /// Gives every layer that stays another MLP, all of one width.
    ///
    /// # Panics
    /// There is not one for each layer, or widths differ.
    pub fn narrow(&mut self, mlps: Vec<Narrowed>) {
        assert_eq!(mlps.len(), self.layers.len(), "an MLP for each layer");
        let n_ff = mlps[0].keep.len();
        assert!(mlps.iter().all(|mlp| mlp.keep.len() == n_ff), "MLPs of one width");
        self.info.n_ff = n_ff;
        self.mlps = Some(mlps);
    }

    /// The source's name of a tensor, and what is left of the MLP that it belongs to.
    fn find(&self, name: &str) -> (String, Option<(&Narrowed, Part)>) {
        let Some((layer, rest)) = split_name(name) else { return (name.to_owned(), None) };
        let Some(&of_source) = self.layers.get(layer) else { return (String::new(), None) };
        let part = Part::of(rest);
        let mlp = self.mlps.as_ref().and_then(|mlps| mlps.get(layer)).zip(part);
        (format!("blk.{of_source}.{rest}"), mlp)
    }
}

/// How a tensor loses channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// its rows are channels, or its values, of a vector
    Rows,
    /// its columns are
    Columns,
}

impl Part {
    /// Of a tensor by its name within a layer.
    pub(super) fn of(rest: &str) -> Option<Part> {
        let is = |projection: Projection, end: &str| {
            rest.strip_prefix(projection.name()).is_some_and(|found| found == end)
        };
        let rows = [Projection::Gate, Projection::Up];
        if rows.into_iter().any(|projection| is(projection, ".weight") || is(projection, ".bias")) {
            Some(Part::Rows)
        } else {
            is(Projection::Down, ".weight").then_some(Part::Columns)
        }
    }
}

/// Layer and rest of `blk.3.ffn_up.weight`.
pub(super) fn split_name(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

impl WeightSource for Pruned<'_> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn is_interleaved(&self) -> bool {
        self.source.is_interleaved()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let (of_source, mlp) = self.find(name);
        let mut shape = WeightSource::shape(self.source, &of_source)?;
        match mlp {
            Some((mlp, Part::Rows)) => shape[0] = mlp.keep.len(),
            Some((mlp, Part::Columns)) => shape[1] = mlp.keep.len(),
            None => {}
        }
        Some(shape)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let (of_source, mlp) = self.find(name);
        match mlp {
            None => self.source.values(&of_source),
            Some((mlp, Part::Rows)) => {
                let values = self.source.values(&of_source)?;
                let n_cols = values.len() / self.source.info().n_ff;
                Ok(mlp.keep.iter().flat_map(|&row| &values[row * n_cols..][..n_cols]).copied().collect())
            }
            Some((mlp, Part::Columns)) => {
                let mut values = vec![0.0; self.info.n_embd * mlp.keep.len()];
                lossy_quant::dequantize(mlp.dtype, &mlp.down, &mut values)
                    .map_err(|problem| WeightError::Type { name: name.to_owned(), problem })?;
                Ok(values)
            }
        }
    }

    /// Rows are read of what has no layer, such as the embedding.
    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError> {
        let (of_source, mlp) = self.find(name);
        if mlp.is_none() {
            return self.source.row(&of_source, row);
        }
        let shape = WeightSource::shape(self, name).unwrap_or_default();
        let (n_rows, n_cols) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(1));
        let values = self.values(name)?;
        let found = values.chunks_exact(n_cols.max(1)).nth(row).map(<[f32]>::to_vec);
        found.ok_or_else(|| WeightError::NoSuchRow { name: name.to_owned(), row, n_rows })
    }

    fn release(&self) {
        self.source.release_pages();
    }
}
