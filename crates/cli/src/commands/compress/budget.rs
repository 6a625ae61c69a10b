//! What a budget means in bytes or nats, and what it is made of.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use lossy_compress::plan::{Assignment, Item, Limit, OutOfReach, assign};
use lossy_compress::prices::Prices;
use lossy_compress::quantize::{Options, Plan};
use lossy_compress::recipe::{Changes, Recipe};
use lossy_eval::Budget;
use lossy_formats::gguf::Gguf;
use lossy_quant::DType;

use crate::units::{bytes, grouped};

/// What a user allows.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowance {
    /// of the file
    Size(u64),
    /// for each weight of the file
    Bits(f64),
    /// beside the original
    Loss(Budget),
}

impl Allowance {
    /// As it was typed.
    pub fn option(&self) -> String {
        match self {
            Allowance::Size(size) => format!("--max-size {size}"),
            Allowance::Bits(bits) => format!("--max-bits {bits}"),
            Allowance::Loss(budget) => format!("--max-loss {budget}"),
        }
    }
}

/// The matrices of a model that may get other types, and files that become of them.
pub struct Choices<'a> {
    pub source: &'a Gguf,
    /// as many files as the source has
    pub keeps_split: bool,
    /// types by name, by rising bits; the last is the source's own
    pub types: Vec<(String, Vec<DType>)>,
}

/// Types by name.
pub type Types = BTreeMap<String, DType>;

impl<'a> Choices<'a> {
    /// The file with these types.
    pub fn plan(&self, types: &Types) -> Result<Plan<'a>> {
        let mut values: BTreeMap<DType, usize> = BTreeMap::new();
        for tensor in self.source.tensors() {
            if let Some(dtype) = types.get(tensor.name) {
                *values.entry(*dtype).or_default() += tensor.n_values();
            }
        }
        let most = values.into_iter().max_by_key(|(_, n)| *n).map(|(dtype, _)| dtype);
        // Types that no recipe is named after, such as F32, have no number of their own.
        let recipe = most.and_then(Recipe::mostly).map_or_else(|| Recipe::named("f16"), Ok)?;
        let options = Options {
            recipe,
            changes: Changes::default(),
            keeps_split: self.keeps_split,
            provenance: None,
            has_feedback: true,
            program: format!("lossy {}", env!("CARGO_PKG_VERSION")),
        };
        Ok(Plan::with_types(self.source, &options, types)?)
    }

    /// All in the type of fewest bytes.
    pub fn smallest(&self) -> Types {
        let least = |name: &str, types: &[DType]| {
            types
                .iter()
                .copied()
                .min_by_key(|&dtype| self.bytes(name, dtype))
                .map(|dtype| (name.to_owned(), dtype))
        };
        self.types.iter().filter_map(|(name, types)| least(name, types)).collect()
    }

    /// What a tensor takes in a type.
    pub fn bytes(&self, name: &str, dtype: DType) -> u64 {
        let n_values = self.source.tensor(name).map_or(0, |tensor| tensor.n_values());
        (n_values / dtype.block_len() * dtype.block_bytes()) as u64
    }

    /// What finished pieces take at most.
    pub fn piece_bytes(&self) -> u64 {
        let of = |(name, types): &(String, Vec<DType>)| -> u64 {
            types[..types.len() - 1].iter().map(|&dtype| self.bytes(name, dtype)).sum()
        };
        self.types.iter().map(of).sum()
    }

    /// Fails if the smallest types are beyond the allowance, or the source itself is within.
    pub fn check(&self, allowed: &Allowance) -> Result<()> {
        let least = self.plan(&self.smallest())?;
        let own = self.plan(&Types::new())?;
        let sizes = [least.layout().file_bytes(), own.layout().file_bytes()];
        match allowed {
            Allowance::Size(most) if *most < sizes[0] => bail!(
                "--max-size {} is below the smallest types: with them the file has {} ({} bytes)",
                bytes(*most),
                bytes(sizes[0]),
                grouped(sizes[0])
            ),
            Allowance::Bits(most) if *most < least.bits_per_weight() => bail!(
                "--max-bits {most} is below the smallest types: with them a weight has {:.3} bits",
                least.bits_per_weight()
            ),
            Allowance::Size(most) if *most >= sizes[1] => bail!(
                "MODEL is within --max-size {} already: it has {} ({} bytes)",
                bytes(*most),
                bytes(sizes[1]),
                grouped(sizes[1])
            ),
            Allowance::Bits(most) if *most >= own.bits_per_weight() => {
                bail!(
                    "MODEL is within --max-bits {most} already: a weight has {:.3} bits",
                    own.bits_per_weight()
                )
            }
            _ => Ok(()),
        }
    }

    /// What a plan chooses from, in bytes of the file.
    pub fn items(&self, prices: &Prices) -> Vec<Item> {
        prices.items(|name, dtype| self.bytes(name, dtype))
    }

    /// Most bytes of the file, if the allowance is one of bytes or bits. Bits are of tensors: what else the file has comes on top.
    pub fn most_bytes(&self, allowed: &Allowance) -> Result<Option<u64>> {
        let own = self.source.tensors();
        let (tensors, n_values) = own.fold((0, 0), |(bytes, n), tensor| {
            (bytes + tensor.bytes.len() as u64, n + tensor.n_values() as u64)
        });
        Ok(match allowed {
            Allowance::Size(most) => Some(*most),
            Allowance::Bits(bits) => {
                Some(self.own_bytes()? - tensors + (bits * n_values as f64 / 8.0) as u64)
            }
            Allowance::Loss(_) => None,
        })
    }

    /// What the source takes as a file of this program's.
    pub fn own_bytes(&self) -> Result<u64> {
        Ok(self.plan(&Types::new())?.layout().file_bytes())
    }

    /// The types that lose least within bytes, or take least within nats.
    pub fn assign(&self, items: &[Item], within: Within) -> Result<Assignment> {
        let priced: u64 =
            self.types.iter().filter_map(|(name, types)| Some(self.bytes(name, *types.last()?))).sum();
        let found = match within {
            Within::Nats(most) => assign(items, Limit::Loss(most)),
            Within::FileBytes(most) => {
                // What is not chosen: norms, biases, keys.
                let others = self.own_bytes()? - priced;
                match assign(items, Limit::Bytes(most.saturating_sub(others))) {
                    // The smallest types are within: that was checked, and only what aligns tensors is in the way.
                    Err(OutOfReach::Bytes { least }) => assign(items, Limit::Bytes(least)),
                    found => found,
                }
            }
        };
        match found {
            Ok(found) => Ok(found),
            Err(OutOfReach::Loss { least }) => bail!("the largest types lose {least:.6} nats, which is more"),
            Err(OutOfReach::Bytes { least }) => bail!("the smallest types take {least} bytes, which is more"),
        }
    }
}

/// A limit of what is to be built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Within {
    /// of the file
    FileBytes(u64),
    /// predicted
    Nats(f64),
}

/// The types of an assignment.
pub fn types(items: &[Item], found: &Assignment) -> Types {
    items.iter().zip(&found.picks).map(|(item, pick)| (item.name.clone(), pick.dtype)).collect()
}
