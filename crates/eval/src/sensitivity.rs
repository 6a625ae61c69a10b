//! Which layers lose most, and the fewest of them that must be stored better.
//!
//! Between a scheme that loses too much and a dearer one that does not lie those that store some layers as the dearer one
//! does. Which layers: each is measured alone, in the cheap scheme while all others are exact. Errors of different layers
//! add up nearly independently, so what a layer loses alone is what it contributes; the mixtures themselves are measured
//! again, as a whole.

use lossy_engine::{KvScheme, KvType};
use serde::{Deserialize, Serialize};

use crate::Setting;
use crate::divergence::Estimate;
use crate::setting::InvalidSetting;

/// What one layer loses alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerLoss {
    /// from 0
    pub layer: usize,
    /// mean KL divergence, nats, while all other layers are exact
    pub kl: Estimate,
}

/// What every layer of a setting loses alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// the setting
    pub setting: String,
    /// by falling loss
    pub layers: Vec<LayerLoss>,
}

impl Sensitivity {
    /// Puts the layers in order.
    pub fn new(setting: &Setting, mut layers: Vec<LayerLoss>) -> Sensitivity {
        layers.sort_by(|a, b| b.kl.value.total_cmp(&a.kl.value).then(a.layer.cmp(&b.layer)));
        Sensitivity { setting: setting.to_string(), layers }
    }

    /// The `n` layers that lose most.
    pub fn most(&self, n: usize) -> Vec<usize> {
        self.layers.iter().take(n).map(|loss| loss.layer).collect()
    }

    /// `k2v2 loses most in the layers 0 (0.0041), 5 (0.0012), … (KL of each alone; the least has 0.0003)`
    pub fn text(&self) -> String {
        let layer = |loss: &LayerLoss| format!("{} ({:.4})", loss.layer, loss.kl.value);
        let most: Vec<String> = self.layers.iter().take(5).map(layer).collect();
        format!(
            "{} loses most in the layers {} (KL of each alone; the least has {:.4})",
            self.setting,
            most.join(", "),
            self.least()
        )
    }

    /// What the layer that loses least loses. With int8 activations it is mostly theirs.
    pub fn least(&self) -> f64 {
        self.layers.last().map_or(0.0, |loss| loss.kl.value)
    }
}

/// `setting` in one layer, and all others exact.
///
/// # Errors
/// The scheme has no exact layers beside it.
pub fn alone(setting: &Setting, layer: usize, n_layers: usize) -> Result<Setting, InvalidSetting> {
    let others: Vec<usize> = (0..n_layers).filter(|other| *other != layer).collect();
    if others.is_empty() {
        return Ok(setting.clone());
    }
    Ok(Setting {
        kv: setting.kv.with_layers(&others, &KvScheme::exact(KvType::F16))?,
        positions: setting.positions.clone(),
    })
}

/// `setting`, and some layers as `better` has them.
///
/// # Errors
/// The schemes cannot stand beside each other.
pub fn mixture(setting: &Setting, better: &Setting, layers: &[usize]) -> Result<Setting, InvalidSetting> {
    Ok(Setting { kv: setting.kv.with_layers(layers, &better.kv)?, positions: setting.positions.clone() })
}

/// The smallest `1 ≤ n < n_limit` that is within, by bisection, where 0 is not within and `n_limit` is no gain. `None`:
/// there is none.
///
/// # Errors
/// Those of `is_within`.
pub fn fewest<E>(
    n_limit: usize,
    mut is_within: impl FnMut(usize) -> Result<bool, E>,
) -> Result<Option<usize>, E> {
    let (mut outside, mut within) = (0, n_limit);
    while within - outside > 1 {
        let middle = outside + (within - outside) / 2;
        if is_within(middle)? { within = middle } else { outside = middle }
    }
    Ok((within < n_limit).then_some(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str) -> Setting {
        name.parse().unwrap()
    }

    #[test]
    fn a_layer_alone_has_exact_ones_around_it() {
        assert_eq!(alone(&setting("k2v2"), 2, 5).unwrap().to_string(), "k2v2:layers=0+1+3+4:f16");
        assert_eq!(alone(&setting("k2v2"), 0, 1).unwrap(), setting("k2v2"));
    }

    #[test]
    fn a_mixture_has_the_layers_that_lose_most() {
        let loss = |layer, value| LayerLoss { layer, kl: Estimate { value, se: 0.0 } };
        let sensitivity =
            Sensitivity::new(&setting("k2v2"), vec![loss(0, 0.1), loss(1, 0.3), loss(2, 0.05), loss(3, 0.2)]);
        assert_eq!(sensitivity.most(2), [1, 3]);
        assert!(sensitivity.text().starts_with("k2v2 loses most in the layers 1 (0.3000), 3 (0.2000)"));
        let mixed = mixture(&setting("k2v2"), &setting("k4v4"), &sensitivity.most(2)).unwrap();
        assert_eq!(mixed.to_string(), "k2v2:layers=1+3:k4v4");
        assert!(mixture(&setting("k2v2"), &setting("q8"), &[0]).is_err());
    }

    #[test]
    fn the_fewest_are_found_in_few_steps() {
        for n_layers in [1, 2, 3, 30, 80] {
            for needed in 1..=n_layers {
                let mut n_steps = 0;
                let found = fewest(n_layers, |n| {
                    n_steps += 1;
                    Ok::<_, ()>(n >= needed)
                });
                assert_eq!(found.unwrap(), (needed < n_layers).then_some(needed), "{needed} of {n_layers}");
                assert!(n_steps <= 7);
            }
        }
        assert_eq!(fewest(30, |_| Err("stopped")), Err("stopped"));
    }
}
