//! Which type each tensor of a file gets: the recipes that people know by name, and changes to them.
//!
//! A name such as `q4_k_m` is a default type and a few rules: more bits for the values and down-projections of some layers, 8
//! or 6 bits for what makes logits. Rows whose length a type's blocks do not divide get another type, the *fallback*. Both are as
//! in llama.cpp's `llama_model_quantize` of September 2026 (llama-cpp-python 0.3.36), whose choices for models of several
//! shapes are in testdata/recipes: the rules are facts of that program, the code is ours.

mod categories;
#[cfg(test)]
mod tests;

use categories::{Category, category, is_quantized};
use lossy_formats::gguf::{IfPresent, Metadata, MetadataError};
use lossy_quant::DType;
use regex::Regex;

/// A recipe: its name, its number in `general.file_type`, and the type of most tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    name: &'static str,
    file_type: u32,
    default: DType,
    size: Size,
}

/// The last letter of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Plain,
    Small,
    Medium,
    Large,
}

const fn recipe(name: &'static str, file_type: u32, default: DType, size: Size) -> Recipe {
    Recipe { name, file_type, default, size }
}

/// All of them, by size.
pub const RECIPES: [Recipe; 18] = [
    recipe("q2_k", 10, DType::Q2K, Size::Medium),
    recipe("q3_k_s", 11, DType::Q3K, Size::Small),
    recipe("q3_k_m", 12, DType::Q3K, Size::Medium),
    recipe("q3_k_l", 13, DType::Q3K, Size::Large),
    recipe("iq4_xs", 30, DType::IQ4XS, Size::Plain),
    recipe("iq4_nl", 25, DType::IQ4NL, Size::Plain),
    recipe("q4_0", 2, DType::Q4_0, Size::Plain),
    recipe("q4_1", 3, DType::Q4_1, Size::Plain),
    recipe("q4_k_s", 14, DType::Q4K, Size::Small),
    recipe("q4_k_m", 15, DType::Q4K, Size::Medium),
    recipe("q5_0", 8, DType::Q5_0, Size::Plain),
    recipe("q5_1", 9, DType::Q5_1, Size::Plain),
    recipe("q5_k_s", 16, DType::Q5K, Size::Small),
    recipe("q5_k_m", 17, DType::Q5K, Size::Medium),
    recipe("q6_k", 18, DType::Q6K, Size::Plain),
    recipe("q8_0", 7, DType::Q8_0, Size::Plain),
    recipe("f16", 1, DType::F16, Size::Plain),
    recipe("bf16", 32, DType::BF16, Size::Plain),
];

/// Why types cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// There is no such recipe or type.
    #[error("there is no {what} `{name}`: do you mean {nearest}? There are {known}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
        /// The name that is most like it.
        nearest: String,
        /// All names.
        known: String,
    },
    /// A pattern is no regular expression.
    #[error("the pattern `{pattern}` is no regular expression: {error}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: Box<regex::Error>,
    },
    /// A change lacks a part.
    #[error("`{text}` is not PATTERN=TYPE, such as ffn_down=q6_k")]
    Change {
        /// What was given.
        text: String,
    },
    /// A pattern matches no tensor that is quantized.
    #[error("the pattern `{pattern}` matches no tensor that is quantized; there are such as {examples}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// Some names.
        examples: String,
    },
    /// Metadata lack what the rules ask for.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Recipe {
    /// The recipe of this name, in letters of any size.
    ///
    /// # Errors
    /// There is none; the error has the nearest.
    pub fn named(name: &str) -> Result<Recipe, RecipeError> {
        // What llama.cpp's older names mean today.
        let sought = match name.to_ascii_lowercase().as_str() {
            "q3_k" => "q3_k_m".to_owned(),
            "q4_k" => "q4_k_m".to_owned(),
            "q5_k" => "q5_k_m".to_owned(),
            other => other.to_owned(),
        };
        let found = RECIPES.iter().find(|recipe| recipe.name == sought);
        found
            .copied()
            .ok_or_else(|| unknown("recipe", name, RECIPES.iter().map(|recipe| recipe.name.to_owned())))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Its number in `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.file_type
    }

    fn is(self, default: DType, size: Size) -> bool {
        self.default == default && self.size == size
    }
}

/// The type of this name, in letters of any size.
///
/// # Errors
/// There is none that can be computed; the error has the nearest.
pub fn dtype_named(name: &str) -> Result<DType, RecipeError> {
    let known = || DType::ALL.iter().copied().filter(|dtype| dtype.is_computable());
    let found = known().find(|dtype| dtype.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| unknown("type", name, known().map(|dtype| dtype.name().to_ascii_lowercase())))
}

fn unknown(what: &'static str, name: &str, known: impl Iterator<Item = String>) -> RecipeError {
    let known: Vec<String> = known.collect();
    let sought = name.to_ascii_lowercase();
    let bare = |name: &str| name.replace('_', "");
    let unlike = |known: &String| (distance(&bare(&sought), &bare(known)), distance(&sought, known));
    let nearest = known.iter().min_by_key(|known| unlike(known)).cloned().unwrap_or_default();
    RecipeError::Unknown { what, name: name.to_owned(), nearest, known: known.join(", ") }
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let fewest = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], fewest);
        }
    }
    row[b.len()]
}

/// What the rules ask about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `general.architecture`
    pub architecture: String,
    /// layers
    pub n_layers: usize,
    /// query heads on one KV head
    pub heads_per_kv: usize,
    /// whether a KV head has several query heads in every layer
    pub is_grouped: bool,
    /// experts of a layer; 0 for a dense model
    pub n_experts: usize,
}

impl Shape {
    /// As metadata have it.
    ///
    /// # Errors
    /// A key is missing or has another type.
    pub fn of(metadata: &Metadata) -> Result<Shape, MetadataError> {
        let architecture = metadata.str("general.architecture")?.to_owned();
        let key = |name: &str| format!("{architecture}.{name}");
        // Some models have a number for each layer; llama.cpp looks at the first.
        let first = |name: &str| match metadata.usize(&key(name)) {
            Err(MetadataError::WrongType { .. }) => {
                let all = metadata.i64s(&key(name))?;
                Ok(all.first().and_then(|&n| usize::try_from(n).ok()).unwrap_or(0))
            }
            found => found,
        };
        let n_heads = first("attention.head_count")?;
        let n_kv_heads = first("attention.head_count_kv").if_present()?.unwrap_or(n_heads);
        Ok(Shape {
            n_layers: metadata.usize(&key("block_count"))?,
            heads_per_kv: n_heads.checked_div(n_kv_heads).unwrap_or(0),
            is_grouped: n_heads != n_kv_heads,
            n_experts: metadata.usize(&key("expert_count")).if_present()?.unwrap_or(0),
            architecture,
        })
    }

    /// A model that llama.cpp counts as one of 70 billion parameters, whose eight query heads on a KV head make its values cheap.
    fn is_70b(&self) -> bool {
        match self.architecture.as_str() {
            "llama" => self.n_layers == 80 && self.is_grouped,
            "qwen2" | "olmo" | "deci" => self.n_layers == 80,
            "jais2" => self.n_layers == 68,
            _ => false,
        }
    }
}

/// A tensor of the source.
#[derive(Debug, Clone, Copy)]
pub struct SourceTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is now.
    pub dtype: DType,
    /// Row-major.
    pub shape: &'a [usize],
}

/// Changes to a recipe.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The default type for all tensors that are quantized.
    pub is_pure: bool,
    /// The type of the token embedding.
    pub token_embedding: Option<DType>,
    /// The type of the output matrix.
    pub output: Option<DType>,
    /// Types by name, the first that matches.
    pub by_name: Vec<NamedType>,
    /// Whether there are importances: recipes spend less then.
    pub has_imatrix: bool,
}

/// A type for the tensors whose names match a pattern somewhere.
#[derive(Debug, Clone)]
pub struct NamedType {
    pattern: Regex,
    dtype: DType,
}

impl NamedType {
    /// From `PATTERN=TYPE`.
    ///
    /// # Errors
    /// The pattern is no regular expression, or there is no such type.
    pub fn parse(text: &str) -> Result<NamedType, RecipeError> {
        let (pattern, name) = match text.rsplit_once('=') {
            Some((pattern, name)) if !pattern.is_empty() && !name.is_empty() => (pattern, name),
            _ => return Err(RecipeError::Change { text: text.to_owned() }),
        };
        let dtype = dtype_named(name)?;
        let pattern = Regex::new(pattern)
            .map_err(|error| RecipeError::Pattern { pattern: pattern.to_owned(), error: Box::new(error) })?;
        Ok(NamedType { pattern, dtype })
    }
}

/// What a tensor becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its type in the new file.
    pub dtype: DType,
    /// What it should have been, if its rows are not whole blocks of that.
    pub fallback_from: Option<DType>,
    /// Whether it is a matrix that recipes speak of; all others stay as they are.
    pub is_quantized: bool,
}

/// The choices for all tensors, in their order.
///
/// # Errors
/// A pattern matches nothing.
pub fn choose(
    recipe: Recipe,
    shape: &Shape,
    tensors: &[SourceTensor<'_>],
    changes: &Changes,
) -> Result<Vec<Choice>, RecipeError> {
    for NamedType { pattern, .. } in &changes.by_name {
        let quantized = || tensors.iter().filter(|tensor| is_quantized(tensor.name, tensor.shape));
        if !quantized().any(|tensor| pattern.is_match(tensor.name)) {
            let examples: Vec<&str> = quantized().map(|tensor| tensor.name).take(4).collect();
            let examples = examples.join(", ");
            return Err(RecipeError::NoMatch { pattern: pattern.as_str().to_owned(), examples });
        }
    }
    let is_tied = !tensors.iter().any(|tensor| category(tensor.name) == Category::Output);
    let n_values = tensors.iter().filter(|tensor| category(tensor.name).is_value()).count();
    let mut chooser = Chooser { recipe, shape, changes, is_tied, n_values, values_seen: 0, downs_seen: 0 };
    // Rules count the tensors of a kind in the order of layers, whatever the order of the file.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (layer(tensors[i].name), tensors[i].name));
    let mut choices = vec![None; tensors.len()];
    for i in order {
        choices[i] = Some(chooser.choose(&tensors[i]));
    }
    Ok(choices.into_iter().flatten().collect())
}

/// The number in `blk.7.`; −1 for tensors of no layer, which come first.
pub(crate) fn layer(name: &str) -> i64 {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    number.and_then(|(number, _)| number.parse().ok()).unwrap_or(-1)
}

struct Chooser<'a> {
    recipe: Recipe,
    shape: &'a Shape,
    changes: &'a Changes,
    is_tied: bool,
    n_values: usize,
    values_seen: usize,
    downs_seen: usize,
}

impl Chooser<'_> {
    fn choose(&mut self, tensor: &SourceTensor<'_>) -> Choice {
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
