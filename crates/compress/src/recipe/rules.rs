//! The rules: what each recipe spends more bits on.

use super::categories::{Category, category, is_quantized};
use super::{Changes, Choice, Recipe, Shape, Size, SourceTensor, layer};
use lossy_quant::DType;

/// Chooses types for the tensors of a model, which must come in the order of layers: rules count those of a kind.
pub(super) struct Chooser<'a> {
    recipe: Recipe,
    shape: &'a Shape,
    changes: &'a Changes,
    /// whether the token embedding makes the logits too
    is_tied: bool,
    n_values: usize,
    values_seen: usize,
    downs_seen: usize,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(
        recipe: Recipe,
        shape: &'a Shape,
        tensors: &[SourceTensor<'_>],
        changes: &'a Changes,
    ) -> Chooser<'a> {
        let is_tied = !tensors.iter().any(|tensor| category(tensor.name) == Category::Output);
        let n_values = tensors.iter().filter(|tensor| category(tensor.name).is_value()).count();
        Chooser { recipe, shape, changes, is_tied, n_values, values_seen: 0, downs_seen: 0 }
    }

    pub(super) fn choose(&mut self, tensor: &SourceTensor<'_>) -> Choice {
        if !is_quantized(tensor.name, tensor.shape) {
            return Choice { dtype: tensor.dtype, fallback_from: None, is_quantized: false };
        }
        let category = category(tensor.name);
        let n_cols = tensor.shape.last().copied().unwrap_or(1);
        let wanted = self.wanted(tensor.name, category);
        let dtype = fitting(wanted, n_cols);
        Choice { dtype, fallback_from: (dtype != wanted).then_some(wanted), is_quantized: true }
    }

    fn wanted(&mut self, name: &str, category: Category) -> DType {
        let of_category = match category {
            Category::TokenEmbedding => self.changes.token_embedding,
            Category::Output => self.changes.output,
            _ => None,
        };
        if let Some(dtype) = of_category {
            return dtype;
        }
        let default = self.recipe.default;
        if let Some(named) = self.changes.by_name.iter().find(|named| named.pattern.is_match(name)) {
            return named.dtype;
        }
        if self.changes.is_pure || default.block_len() == 1 {
            return default;
        }
        match category {
            Category::Output => self.of_logits(),
            Category::TokenEmbedding if self.is_tied => {
                self.changes.output.unwrap_or_else(|| self.of_logits())
            }
            category if category.is_value() => self.of_values(),
            Category::Key if self.shape.n_experts == 8 => DType::Q8_0,
            Category::Down => self.of_down(name),
            Category::AttentionOutput => self.of_attention_output(),
            _ => default,
        }
    }

    /// The matrix that makes logits.
    fn of_logits(&self) -> DType {
        if self.recipe.default == DType::Q8_0 { DType::Q8_0 } else { DType::Q6K }
    }

    fn of_values(&mut self) -> DType {
        let i = self.values_seen;
        self.values_seen += 1;
        if self.shape.n_experts == 8 {
            return DType::Q8_0;
        }
        let (recipe, is_grouped) = (self.recipe, self.shape.heads_per_kv >= 4);
        let dtype = match recipe.default {
            DType::Q2K if is_grouped => DType::Q4K,
            DType::Q2K => DType::Q3K,
            DType::Q3K if recipe.size == Size::Medium && i >= 2 => DType::Q4K,
            DType::Q3K if recipe.size != Size::Small => DType::Q5K,
            DType::IQ4NL | DType::IQ4XS if is_grouped => DType::Q5K,
            DType::Q4K | DType::Q5K if recipe.size == Size::Medium && gets_more(i, self.n_values) => {
                DType::Q6K
            }
            DType::Q4K if recipe.size == Size::Small && i < 4 => DType::Q5K,
            default => default,
        };
        let is_cheap = self.shape.is_70b() && matches!(dtype, DType::Q3K | DType::Q4K);
        if is_cheap { DType::Q5K } else { dtype }
    }

    fn of_down(&mut self, name: &str) -> DType {
        // Experts of a layer may be tensors of their own, so there the name says which layer it is.
        let seen = self.downs_seen;
        self.downs_seen += 1;
        let i = if self.shape.n_experts > 1 { usize::try_from(layer(name)).unwrap_or(0) } else { seen };
        let n = self.shape.n_layers;
        let recipe = self.recipe;
        match recipe.default {
            DType::Q2K => DType::Q3K,
            DType::Q3K if recipe.size == Size::Medium && i >= n / 16 => DType::Q4K,
            DType::Q3K if recipe.size != Size::Small => DType::Q5K,
            DType::Q4K | DType::Q5K if recipe.size == Size::Medium && gets_more(i, n) => DType::Q6K,
            DType::Q4K if recipe.size == Size::Small && i < n / 8 => DType::Q5K,
            DType::IQ4NL | DType::IQ4XS if i < n / 8 && !self.changes.has_imatrix => DType::Q5K,
            DType::Q4_0 if i < n / 8 && self.changes.has_imatrix => DType::Q4_1,
            DType::Q5_0 if i < n / 8 && self.changes.has_imatrix => DType::Q5_1,
            default => default,
        }
    }

    fn of_attention_output(&self) -> DType {
        let recipe = self.recipe;
        let is_low = matches!(recipe.default, DType::Q2K | DType::Q4K | DType::IQ4NL | DType::IQ4XS)
            || recipe.is(DType::Q3K, Size::Small)
            || recipe.is(DType::Q3K, Size::Medium);
        match recipe.default {
            _ if self.shape.n_experts == 8 => {
                if is_low {
                    DType::Q5K
                } else {
                    recipe.default
                }
            }
            DType::Q2K => DType::Q3K,
            DType::Q3K if recipe.size == Size::Medium => DType::Q4K,
            DType::Q3K if recipe.size == Size::Large => DType::Q5K,
            default => default,
        }
    }
}

/// The first and the last eighth of the layers, and every third between.
fn gets_more(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// The type itself, or the one that takes its place where rows are not whole blocks of it.
fn fitting(wanted: DType, n_cols: usize) -> DType {
    let divides = |dtype: DType| n_cols.is_multiple_of(dtype.block_len());
    if divides(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        DType::IQ4XS => DType::IQ4NL,
        DType::Q2K | DType::Q3K => DType::Q4_0,
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        other => other,
    };
    if divides(smaller) { smaller } else { DType::F16 }
}
